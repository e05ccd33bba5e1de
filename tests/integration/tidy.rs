//! House rules: which layer may import which, and the form of source files.

use crate::util::tests_path;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Every layer with the layers that it may import, separated by spaces. See docs/architecture.md.
const LAYERS: [(&str, &str); 36] = [
    ("error", ""),
    ("guard", ""),
    ("label", ""),
    ("text_table", ""),
    ("progress", "error"),
    ("memory", "error"),
    ("files", "error memory"),
    ("threads", "error progress"),
    ("yaml", "error"),
    ("http", "error files progress threads"),
    ("hub", "error files progress http"),
    ("repo", "error progress hub"),
    ("demo", ""),
    ("checkpoint", "error files threads progress"),
    ("linalg", "error memory"),
    ("linear", "error compute linalg"),
    ("device", "error"),
    ("compute", "error progress device"),
    ("large", "error linalg memory progress"),
    ("tensors", "error files progress memory large checkpoint"),
    ("hooks", "error tensors"),
    ("aliases", "error"),
    (
        "model",
        "error files guard progress memory compute linalg linear checkpoint demo hooks repo aliases hub",
    ),
    ("registry", "error files yaml text_table hooks aliases"),
    (
        "sae",
        "error large memory tensors files threads progress compute linalg linear checkpoint demo hooks repo hub registry aliases \
         yaml",
    ),
    ("dataset", "error memory demo guard repo files progress yaml hub"),
    ("extract", "error aliases files progress threads hooks model sae dataset"),
    ("dashboard", "error label progress extract"),
    ("evaluate", "error aliases progress hooks model sae dataset extract"),
    ("feature_dataset", "error files progress model sae dataset extract evaluate"),
    ("interpret", "error files label text_table progress threads linalg tensors hooks model sae"),
    ("plot", "error label extract dashboard interpret"),
    (
        "display",
        "error label memory files linalg tensors hooks model registry sae dataset extract dashboard evaluate interpret plot",
    ),
    (
        "script",
        "error threads files progress memory linalg large tensors hooks model sae dataset extract \
         dashboard evaluate feature_dataset interpret plot display repo registry aliases demo",
    ),
    ("notebook", "display"),
    (
        "cli",
        "error threads files progress registry model sae extract feature_dataset interpret plot display script \
         repo",
    ),
];

/// Crates that only the listed files and folders may use.
const CRATES: [(&str, &[&str]); 31] = [
    ("arrow_array", &["dataset/arrow.rs"]),
    ("arrow_buffer", &["dataset/arrow.rs"]),
    ("arrow_ipc", &["dataset/arrow.rs"]),
    ("arrow_schema", &["dataset/arrow.rs"]),
    ("bytes", &["dataset/parquet_limits.rs"]),
    ("bzip2", &["dataset/text.rs"]),
    ("liblzma", &["dataset/text.rs"]),
    ("rhai", &["script/"]),
    ("tokenizers", &["model/tokenizer/"]),
    ("faer", &["model/embedding.rs"]),
    ("candle_transformers", &["model/generate.rs"]),
    ("serde_saphyr", &["yaml.rs"]),
    ("clap", &["cli/"]),
    ("indicatif", &["cli/"]),
    ("ctrlc", &["cli/"]),
    ("crossterm", &["cli/"]),
    ("reedline", &["cli/repl/"]),
    ("nu_ansi_term", &["cli/repl/"]),
    ("icy_sixel", &["cli/repl/"]),
    ("jupyter_protocol", &["cli/kernel/"]),
    ("jupyter_zmq_client", &["cli/kernel/"]),
    ("zeromq", &["cli/kernel/"]),
    ("tokio", &["cli/kernel/"]),
    ("parquet", &["dataset/parquet.rs", "dataset/parquet_limits.rs"]),
    ("hf_hub", &["hub/"]),
    ("ureq", &["http/"]),
    ("zip", &["checkpoint/archive.rs"]),
    ("plotters", &["plot/"]),
    ("ab_glyph", &["plot/"]),
    ("dejavu", &["plot/"]),
    ("png", &["plot/"]),
];

/// Every source file: its path below `src/` and its text.
pub fn sources() -> Vec<(String, String)> {
    fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, files) } else { files.push(path) }
        }
    }
    let root = tests_path("../src");
    let mut files = Vec::new();
    walk(&root, &mut files);
    files.sort();
    let name = |path: &Path| path.strip_prefix(&root).unwrap().to_string_lossy().replace('\\', "/");
    files.iter().map(|path| (name(path), std::fs::read_to_string(path).unwrap())).collect()
}

fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap_or_default()
}

/// The code of a file, without comments and tests.
pub fn code(text: &str) -> String {
    let lines = without_tests(text).lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

fn layer_of(name: &str) -> &str {
    name.split('/').next().unwrap_or_default().trim_end_matches(".rs")
}

#[test]
fn each_layer_imports_only_what_it_may() {
    let mut seen = 0;
    for (name, text) in sources() {
        let layer = layer_of(&name);
        if ["lib", "main", "prelude"].contains(&layer) {
            continue;
        }
        let (_, allowed) =
            LAYERS.iter().find(|(l, _)| *l == layer).unwrap_or_else(|| panic!("{name}: no such layer"));
        for imported in code(&text).split("crate::").skip(1) {
            let imported: String =
                imported.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let own_error = imported == "Result" || imported == "Error";
            let fine = imported == layer || own_error || allowed.split_whitespace().any(|l| l == imported);
            assert!(fine, "{name} imports `{imported}`, which `{layer}` may not");
            seen += 1;
        }
    }
    assert!(seen > 50, "the test sees only {seen} imports");
}

/// The page's table of layers is the one of this test.
#[test]
fn the_page_of_architecture_says_what_each_layer_may_import() {
    let page = std::fs::read_to_string(tests_path("../docs/architecture.md")).unwrap();
    let names = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<BTreeSet<_>>();
    let table = page.split("| layer | may use |").nth(1).unwrap();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let rows: Vec<Vec<&str>> = rows.map(|row| row.split('|').collect()).collect();
    for (layer, allowed) in LAYERS {
        let row = rows.iter().find(|row| names(row[1]).contains(layer) && !row[1].contains("of it"));
        let row = row.unwrap_or_else(|| panic!("`{layer}` is not on the page"));
        assert_eq!(names(row[2]), allowed.split_whitespace().map(str::to_owned).collect(), "`{layer}`");
    }
}

/// The engine of scripts gets what it knows of other layers as values.
#[test]
fn the_engine_of_scripts_imports_no_domain_layer() {
    let allowed = ["error", "progress", "memory", "files", "threads", "display"];
    let engine = sources().into_iter().filter(|(name, _)| name.starts_with("script/engine/"));
    let mut seen = 0;
    for (name, text) in engine {
        let code = code(&text);
        for imported in code.split("crate::").skip(1) {
            let imported = imported.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
            assert!(allowed.contains(&imported), "{name} imports `{imported}`");
            seen += 1;
        }
        for above in ["super::super", "functions::", "session::"] {
            assert!(!code.contains(above), "{name} imports {above}");
        }
    }
    assert!(seen > 15, "the test sees only {seen} imports");
}

#[test]
fn a_crate_is_used_only_where_it_is_listed() {
    for (name, text) in sources() {
        let code = code(&text);
        for (krate, paths) in CRATES {
            if paths.iter().any(|path| name.starts_with(path)) {
                continue;
            }
            for pattern in [format!("use {krate}::"), format!(" {krate}::")] {
                assert!(!code.contains(&pattern), "{name} uses {krate}");
            }
        }
        let prints = ["println!", "eprintln!", "print!(", "dbg!"].iter().any(|p| code.contains(p));
        assert!(!prints, "{name} prints");
        assert!(
            name.starts_with("cli/") || name == "main.rs" || !code.contains("process::exit"),
            "{name} exits"
        );
    }
}

#[test]
fn files_are_short_and_begin_with_a_summary() {
    for (name, text) in sources() {
        assert!(text.starts_with("//! "), "{name} does not begin with a `//!` line");
        let lines = text.lines().count();
        assert!(lines <= 500, "{name} has {lines} lines");
        let code = code(&text);
        for bad in [".unwrap()", ".expect(", "panic!(", "todo!(", "unimplemented!("] {
            assert!(!code.contains(bad), "{name}: {bad}");
        }
    }
}
