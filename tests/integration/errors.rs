//! The error catalogue: `tests/errors` has a script or a command line for each kind of error, and beside it what the user
//! reads: message, line, and hint. A file's name begins with the variant of `Error` that it shows.

use crate::util::tests_path;
use saescope::Error;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The scripts (`.rhai`) and command lines (`.args`) of the catalogue, in the order of their names.
fn cases() -> Vec<PathBuf> {
    let folder = std::fs::read_dir(tests_path("errors")).unwrap();
    let mut cases: Vec<_> = folder
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "rhai" || extension == "args"))
        .collect();
    cases.sort();
    cases
}

/// What the program writes to its standard error for one case.
fn error_of(case: &Path) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_saescope"));
    if case.extension().is_some_and(|extension| extension == "args") {
        command.args(std::fs::read_to_string(case).unwrap().split_whitespace());
    } else {
        command.arg("run").arg(Path::new("tests/errors").join(case.file_name().unwrap()));
    }
    command.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
    command.env("HF_HUB_OFFLINE", "1").env("HF_HUB_CACHE", "cache").env_remove("RUST_BACKTRACE");
    let output = command.output().unwrap();
    assert!(!output.status.success(), "{} succeeds", case.display());
    String::from_utf8(output.stderr).unwrap()
}

/// Compares a text with `tests/errors/{name}.snap`.
fn check(name: &str, text: &str) {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../errors");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name, text));
}

#[test]
fn every_error_says_what_where_and_what_to_do() {
    let cases = cases();
    assert!(cases.len() > 100, "the test sees only {} cases", cases.len());
    for case in cases {
        let name = case.file_stem().unwrap().to_str().unwrap();
        check(name, &error_of(&case));
    }
}

#[test]
fn errors_that_no_script_can_cause() {
    for (name, error) in [
        ("interrupted", Error::Interrupted),
        (
            "hub",
            Error::Hub {
                what: "model `owner/name`".to_owned(),
                message: "it is gated".to_owned(),
                hint: Some("ask for access at https://huggingface.co/owner/name".to_owned()),
            },
        ),
        ("failed", Error::failed("listen on port 5555 (shell socket)")("address already in use")),
        ("internal", Error::internal("a hook stopped the pass before the logits")),
    ] {
        let hint = error.hint().map(|hint| format!("hint: {hint}\n")).unwrap_or_default();
        check(name, &format!("error: {error}\n{hint}"));
    }
}

/// A new variant of `Error` needs a case here, which shows how it reads.
#[test]
fn every_variant_is_in_the_catalogue() {
    let source = std::fs::read_to_string(tests_path("../src/error/mod.rs")).unwrap();
    let (_, variants) = source.split_once("pub enum Error {").unwrap();
    let (variants, _) = variants.split_once("\n}").unwrap();
    let variants: BTreeSet<String> = variants
        .lines()
        .filter_map(|line| line.strip_prefix("    "))
        .filter(|line| line.starts_with(|c: char| c.is_ascii_uppercase()))
        .map(|line| snake_case(line.split([' ', '(', ',']).next().unwrap()))
        .collect();
    let stems = |extension: &str| -> BTreeSet<String> {
        let entries = std::fs::read_dir(tests_path("errors")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter_map(|name| name.strip_suffix(extension).map(str::to_owned)).collect()
    };
    let snapshots = stems(".snap");
    let shown: BTreeSet<_> =
        snapshots.iter().map(|name| name.split('.').next().unwrap().to_owned()).collect();
    assert!(variants.len() > 10, "{variants:?}");
    assert_eq!(variants, shown, "variants of Error, and those that tests/errors shows");
    let made = ["failed", "hub", "internal", "interrupted"].map(str::to_owned);
    let cases: BTreeSet<_> = stems(".rhai").into_iter().chain(stems(".args")).chain(made).collect();
    assert_eq!(snapshots, cases, "snapshots and cases");
}

fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    snake
}
