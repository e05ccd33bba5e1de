//! The documentation: every rhai block of the README and the guide runs, and so does every script.

use crate::util::{in_folder, tests_path};
use saescope::Progress;
use saescope::script::Session;

#[test]
fn the_blocks_of_the_readme_and_the_guide_run() {
    for (name, min_blocks) in [("README.md", 1), ("docs/guide.md", 5)] {
        let text = std::fs::read_to_string(tests_path("..").join(name)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        // One session per document: a block may use what an earlier block defined, as a reader would.
        let mut session = Session::new(Progress::default(), |_| ());
        let blocks: Vec<_> =
            text.split("```rhai\n").skip(1).filter_map(|rest| rest.split_once("\n```")).collect();
        assert!(blocks.len() >= min_blocks, "{name} has {} blocks", blocks.len());
        for (block, _) in blocks {
            session
                .eval(&in_folder(block, folder.path()))
                .unwrap_or_else(|e| panic!("{name}:\n{block}\n{e}\n{:?}", e.excerpt()));
        }
    }
}

/// docs/reference.md is generated from the doc comments; `UPDATE_DOCS=1` writes it.
#[test]
fn the_reference_page_is_up_to_date() {
    let path = tests_path("../docs/reference.md");
    let page = Session::new(Progress::default(), |_| ()).help().reference();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = || page.lines().zip(written.lines()).find(|(new, old)| new != old);
    assert!(
        page == written,
        "docs/reference.md is stale: run `UPDATE_DOCS=1 cargo test reference`; {:?}",
        differs()
    );
}

/// Lists of options are generated from the help of their function; `UPDATE_DOCS=1` writes them.
#[test]
fn lists_of_options_are_up_to_date() {
    let session = Session::new(Progress::default(), |_| ());
    let path = tests_path("../docs/guide.md");
    let mut written = std::fs::read_to_string(&path).unwrap();
    let mut page = String::new();
    let mut rest = written.as_str();
    while let Some((before, after)) = rest.split_once("<!-- options of ") {
        let (function, after) = after.split_once(" -->\n").unwrap();
        let (_, after) = after.split_once("<!-- end of options -->").unwrap();
        let help = session.help().get(function).unwrap().to_string();
        let options: Vec<_> = help.lines().filter(|line| line.starts_with("- `")).collect();
        page += &format!(
            "{before}<!-- options of {function} -->\n{}\n<!-- end of options -->",
            options.join("\n")
        );
        rest = after;
    }
    page += rest;
    assert!(page.len() > rest.len(), "the guide has no list of options");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &page).unwrap();
        written.clone_from(&page);
    }
    assert!(page == written, "docs/guide.md is stale: run `UPDATE_DOCS=1 cargo test options_are`");
}

#[test]
fn every_script_runs_on_the_demo() {
    let mut n = 0;
    for entry in std::fs::read_dir(tests_path("../scripts")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "rhai") {
            continue;
        }
        let folder = tempfile::tempdir().unwrap();
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_saescope"))
            .arg("run")
            .arg(path.canonicalize().unwrap())
            .current_dir(folder.path())
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {stderr}", path.display());
        let stdout = String::from_utf8_lossy(&output.stdout);
        let (lines, written): (&[&str], _) = match path.file_stem().unwrap().to_str().unwrap() {
            "feature_dataset" => (
                &["documents", "tokens", "mean L0", "features seen", "tokens/s", "output"],
                "feature_activations.jsonl",
            ),
            "definition_tree" => {
                (&["feature 624 of demo/", "students who are taught", "tokens, saved to"], "tree.svg")
            }
            "token_list" => (&["feature 624 of demo/", "centered_cosine", "logit_lens_raw"], "tokens.csv"),
            "explain_feature" => (&["encoder: \"", "decoder: \"", "saved to"], "feature.html"),
            other => panic!("{other}: add its output to this test"),
        };
        for line in lines {
            assert!(stdout.contains(line), "{}: no {line} in\n{stdout}", path.display());
        }
        assert!(folder.path().join(written).is_file(), "{}: no {written}", path.display());
        n += 1;
    }
    assert_eq!(n, 4);
}
