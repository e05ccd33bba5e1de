//! The command line: standard output, standard error and exit codes.

mod faces;
mod interpret;

use crate::util::tests_path;
#[cfg(unix)]
use crate::util::with_default_signals;
use std::path::Path;
use std::process::{Command, Output, Stdio};

fn saescope(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_saescope")).args(arguments).current_dir(folder).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn eval_prints_the_value() {
    let here = tests_path("");
    let output = saescope(&here, &["eval", "1+1"]);
    assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("2\n", Some(0)));
    let output = saescope(&here, &["eval", "let x = 1;"]);
    assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("", Some(0)));
    let output = saescope(&here, &["eval", "lod_model()"]);
    assert_eq!((text(&output.stdout).as_str(), output.status.code()), ("", Some(1)));
    let stderr = text(&output.stderr);
    assert!(stderr.starts_with("error: unknown function `lod_model`\n --> input:1:1\n"), "{stderr}");
    assert!(stderr.ends_with("hint: did you mean `load_model`?\n"), "{stderr}");
}

#[test]
fn run_passes_arguments_and_names_the_script_in_errors() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("a.rhai"), "print(ARGS);\nfor a in ARGS { print(a); }\nnonsense()")
        .unwrap();
    let output = saescope(folder.path(), &["run", "a.rhai", "--", "one", "--two"]);
    assert_eq!(text(&output.stdout), "[\"one\", \"--two\"]\none\n--two\n");
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains(" --> a.rhai:3:1\n"), "{}", text(&output.stderr));
    let output = saescope(folder.path(), &["run", "b.rhai"]);
    assert!(text(&output.stderr).starts_with("error: cannot read `b.rhai`"), "{}", text(&output.stderr));
}

#[test]
fn a_flag_that_is_not_a_finite_number_is_refused_by_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let (tree, tokens) =
        ("tree --model demo --sae demo --feature 1", "tokens --model demo --sae demo --feature 1");
    let extract = "extract --model demo --sae demo --dataset demo --output o.jsonl";
    for (command, flags) in [
        (tree, "--scale --cutoff --pca-weights --scales --steer=blocks.3.hook_resid_post --weights=encoder"),
        (tokens, "--exponent --scale"),
        (extract, "--activation-threshold --norm-scaling-factor"),
    ] {
        for flag in flags.split(' ') {
            for number in ["nan", "inf", "1e400", "-inf"] {
                let mut arguments: Vec<&str> = command.split(' ').collect();
                let flag = format!("{flag}={number}");
                arguments.push(&flag);
                let output = saescope(folder.path(), &arguments);
                let (stderr, name) = (text(&output.stderr), flag.split('=').next().unwrap());
                assert_eq!(output.status.code(), Some(2), "{flag}: {stderr}");
                assert!(stderr.contains(&format!("for '{name} <")), "{flag}: {stderr}");
            }
        }
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn only_what_overrides_a_checkpoint_is_under_that_heading() {
    let help = text(&saescope(&tests_path(""), &["tree", "--help"]).stdout);
    let (own, overrides) = help.split_once("Overrides for the SAE's checkpoint:").unwrap();
    assert!(
        own.contains("--cutoff") && own.contains("--feature") && overrides.contains("--norm-scaling-factor")
    );
    assert!(!overrides.contains("--cutoff") && overrides.contains("--hook-name <HOOK>"), "{help}");
}

#[test]
fn extract_takes_every_option_as_a_flag() {
    let folder = tempfile::tempdir().unwrap();
    let line = "extract --model demo --sae demo --sae-id blocks.0.hook_resid_pre --dataset demo --output o.jsonl \
                --max-examples 4 --activation-threshold 0.1 --batch-size 2 --context-size 8 --prepend-bos true \
                --long-documents truncate --packing documents --text-column text --split train";
    let output = saescope(folder.path(), &line.split_whitespace().collect::<Vec<_>>());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let stdout = text(&output.stdout);
    assert!(stdout.contains("documents      4\n") && stdout.contains("output         o.jsonl\n"), "{stdout}");
    assert_eq!(std::fs::read_to_string(folder.path().join("o.jsonl")).unwrap().lines().count(), 4);
    let output = saescope(folder.path(), &["extract", "--model", "demo", "--batch-sise", "3"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--batch-size"), "{}", text(&output.stderr));
}

#[test]
fn help_comes_from_the_doc_comments() {
    let here = tests_path("");
    assert!(text(&saescope(&here, &["help"]).stdout).contains("load_sae"));
    assert!(text(&saescope(&here, &["help", "load_sae"]).stdout).contains("load_sae(name: String) -> Sae"));
    assert!(text(&saescope(&here, &["help", "extract"]).stdout).contains("--activation-threshold"));
    let output = saescope(&here, &["help", "load_saes"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(
        text(&output.stderr).contains("did you mean `load_sae`?")
            || text(&output.stderr).contains("`load_sae`")
    );
}

/// Signals in the middle of a long extraction.
#[cfg(unix)]
#[test]
fn a_signal_ends_a_running_extraction() {
    for signal in ["-INT", "-TERM", "-HUP"] {
        interrupt_with(signal);
    }
}

#[cfg(unix)]
fn interrupt_with(signal: &str) {
    let folder = tempfile::tempdir().unwrap();
    let documents: String = (0..400)
        .map(|i| serde_json::json!({ "text": format!("document {i} ").repeat(400) }).to_string() + "\n")
        .collect();
    std::fs::write(folder.path().join("d.jsonl"), documents).unwrap();
    let mut child = with_default_signals(env!("CARGO_BIN_EXE_saescope"))
        .args("extract --model demo --sae demo --dataset d.jsonl --output o.jsonl".split(' '))
        .current_dir(folder.path())
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // The temporary files exist once the run has started.
    let started = || std::fs::read_dir(folder.path()).unwrap().count() == 3;
    for _ in 0..6000 {
        if started() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(started() && child.try_wait().unwrap().is_none());
    std::thread::sleep(std::time::Duration::from_millis(300));
    let start = std::time::Instant::now();
    let killed = Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let output = child.wait_with_output().unwrap();
    let took = start.elapsed();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "interrupted\n");
    // Well under a second on an idle machine.
    assert!(took.as_secs() < 10, "took {took:?}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "a temporary file is left");
}

#[test]
fn a_closed_pipe_is_not_an_error() {
    // More than a pipe buffers: one long value, and many printed lines.
    for command in
        ["eval 'let s = \"\"; s.pad(300000, \"line \"); s'", "eval 'for i in 0..50000 { print(i); }'"]
    {
        let script = format!("'{}' {command} | head -c 10", env!("CARGO_BIN_EXE_saescope"));
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert_eq!(text(&output.stderr), "", "{command}");
        assert_eq!(output.stdout.len(), 10);
    }
}
