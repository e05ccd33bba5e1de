//! Output files: never over an input, written through links, and checked before the work starts.

use saescope::extract::ExtractOptions;
use saescope::interpret::WriteTreesOptions;
use saescope::{
    Error, Model, Progress, ProgressEvent, Result, Sae, create_feature_dataset, read_records, read_trees,
    write_definition_trees,
};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A folder with the demo model, one of its SAEs, and a file of documents.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Place { folder: tempfile::tempdir().unwrap() };
        let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo");
        for (from, to) in [("model", "model"), ("sae/blocks.0.hook_resid_pre", "sae")] {
            place.copy(&assets.join(from), to);
        }
        std::fs::write(place.path("docs.jsonl"), "{\"text\": \"the old mill\"}\n").unwrap();
        place
    }

    fn copy(&self, folder: &Path, to: &str) {
        std::fs::create_dir(self.path(to)).unwrap();
        for file in std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()) {
            std::fs::copy(&file, self.path(to).join(file.file_name().unwrap())).unwrap();
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).to_string_lossy().into_owned()
    }

    /// Every file with its contents, and every link with its target.
    fn contents(&self) -> Vec<(PathBuf, Vec<u8>)> {
        fn walk(folder: &Path, found: &mut Vec<(PathBuf, Vec<u8>)>) {
            for path in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                if let Ok(link) = path.read_link() {
                    found.push((path, link.to_string_lossy().into_owned().into_bytes()));
                } else if path.is_dir() {
                    walk(&path, found);
                } else {
                    let bytes = std::fs::read(&path).unwrap();
                    found.push((path, bytes));
                }
            }
        }
        let mut found = Vec::new();
        walk(self.folder.path(), &mut found);
        found.sort();
        found
    }

    fn both(&self) -> (Model, Sae) {
        let sae = Sae::load(&self.text("sae")).unwrap();
        (Model::load(&self.text("model")).unwrap(), sae)
    }

    fn extract(&self, dataset: &str, output: &str, progress: &Progress) -> Result<()> {
        let options = ExtractOptions {
            dataset_path: self.text(dataset),
            output_path: self.text(output),
            ..Default::default()
        };
        let (model, sae) = self.both();
        create_feature_dataset(&model, &sae, None, &options, progress).map(drop)
    }

    fn grow(&self, output: &str) -> Result<()> {
        let mut options = WriteTreesOptions { output_path: self.text(output), ..Default::default() };
        (options.tree.cutoff, options.tree.max_depth) = (1e-2, 2);
        let (model, sae) = self.both();
        write_definition_trees(&model, &sae, &[3], &options, &Progress::default()).map(drop)
    }
}

/// Fails unless an output is refused because the run reads it, and no file has changed.
#[track_caller]
fn refused(place: &Place, run: impl FnOnce() -> Result<()>) {
    let before = place.contents();
    let error = run().unwrap_err().to_string();
    assert!(error.contains("expected a file that is not an input, got an input of the run"), "{error}");
    assert!(place.contents() == before);
}

#[test]
fn an_output_never_replaces_an_input() {
    let place = Place::new();
    let run = Progress::default();
    let weights = place.both().1.weight_files().next().unwrap().file_name().unwrap().to_owned();
    let weights = format!("sae/{}", weights.to_string_lossy());
    refused(&place, || place.extract("docs.jsonl", "docs.jsonl", &run));
    for output in
        ["model/model.safetensors", "model/config.json", "model/tokenizer.json", &weights, "sae/cfg.json"]
    {
        refused(&place, || place.extract("docs.jsonl", output, &run));
        refused(&place, || place.grow(output));
    }
    // The same file by another path.
    refused(&place, || place.extract("docs.jsonl", "sae/../model/config.json", &run));
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("model/config.json", place.path("link.jsonl")).unwrap();
        refused(&place, || place.extract("docs.jsonl", "link.jsonl", &run));
        refused(&place, || place.grow("link.jsonl"));
    }
    // Files beside the output: its metadata, and the lines of an unfinished run.
    std::fs::copy(place.path("docs.jsonl"), place.path("o.jsonl.meta.json")).unwrap();
    refused(&place, || place.extract("o.jsonl.meta.json", "o.jsonl", &run));
    #[cfg(unix)]
    {
        std::fs::rename(place.path(&weights), place.path("sae/t.partial")).unwrap();
        std::os::unix::fs::symlink("t.partial", place.path(&weights)).unwrap();
        refused(&place, || place.grow("sae/t"));
    }
    place.extract("docs.jsonl", "out.jsonl", &run).unwrap();
    place.extract("docs.jsonl", "out.jsonl", &run).unwrap();
}

/// If two outputs of a run were the same file, one would be lost.
#[cfg(unix)]
#[test]
fn an_output_never_replaces_another_output() {
    use std::os::unix::fs::symlink;
    let place = Place::new();
    let run = Progress::default();
    place.extract("docs.jsonl", "a.jsonl", &run).unwrap();
    std::fs::hard_link(place.path("a.jsonl"), place.path("a.jsonl.partial")).unwrap();
    symlink("b.jsonl.meta.json", place.path("b.jsonl")).unwrap();
    symlink("c.jsonl", place.path("c.jsonl.meta.json")).unwrap();
    symlink("../elsewhere", place.path("d.jsonl.partial")).unwrap();
    std::fs::hard_link(place.path("model/config.json"), place.path("e.jsonl")).unwrap();
    std::fs::write(place.path("other"), "a file of somebody else").unwrap();
    std::fs::hard_link(place.path("other"), place.path("f.jsonl.partial")).unwrap();
    let before = place.contents();
    for (error, expected) in [
        (place.grow("a.jsonl").unwrap_err(), "a file of its own, got the same file as"),
        (
            place.extract("docs.jsonl", "b.jsonl", &run).unwrap_err(),
            "a file of its own, got the same file as",
        ),
        (
            place.extract("docs.jsonl", "c.jsonl", &run).unwrap_err(),
            "a file of its own, got the same file as",
        ),
        (place.grow("d.jsonl").unwrap_err(), "d.jsonl.partial`: expected a file, got a link"),
        (place.grow("e.jsonl").unwrap_err(), "an input of the run"),
        (place.grow("f.jsonl").unwrap_err(), "expected a file of its own, got a hard link to another file"),
    ] {
        assert!(error.to_string().contains(expected), "{error}");
    }
    assert!(place.contents() == before);
}

/// The files that describe a dataset are inputs, like its documents.
#[test]
fn an_output_never_replaces_a_dataset_card() {
    let place = Place::new();
    let run = Progress::default();
    std::fs::create_dir(place.path("set")).unwrap();
    std::fs::copy(place.path("docs.jsonl"), place.path("set/train.jsonl")).unwrap();
    let card = "---\nconfigs:\n- config_name: default\n  data_files: train.jsonl\n---\n";
    std::fs::write(place.path("set/README.md"), card).unwrap();
    refused(&place, || place.extract("set", "set/README.md", &run));
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/datasets/odd");
    place.copy(&fixtures.join("saved_in_shards"), "saved");
    for output in ["saved/state.json", "saved/dataset_info.json"] {
        refused(&place, || place.extract("saved", output, &run));
    }
}

/// The command line itself writes single trees and token lists.
#[test]
fn the_command_line_never_overwrites_its_inputs() {
    let place = Place::new();
    let saescope = |line: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_saescope"));
        command.current_dir(place.folder.path()).args(line.split(' ')).output().unwrap()
    };
    let before = place.contents();
    for (command, output, expected) in [
        ("tree", "model/config.json", "an input of the run"),
        ("tokens", "sae/cfg.json", "an input of the run"),
        ("tree", "sae", "a folder, pipe or device"),
        ("tokens", "nowhere/x.json", "cannot create `nowhere/x.json`"),
        ("tree", "x.jsn", "expected a name that ends in .json, .txt"),
        ("tokens", "/dev/stdout", "a folder, pipe or device"),
    ] {
        let line = format!("{command} --model model --sae sae --feature 3 --output {output}");
        let result = saescope(&line);
        let stderr = String::from_utf8_lossy(&result.stderr);
        assert!(result.status.code() == Some(1) && stderr.contains(expected), "{line}: {stderr}");
        assert!(place.contents() == before, "{line}");
    }
    let result = saescope("tokens --model model --sae sae --feature 3 --output x.json");
    assert!(result.status.success() && place.path("x.json").is_file());
}

/// Outputs that cannot be written are reported before the work starts.
#[test]
fn metadata_that_cannot_be_written_is_reported_at_the_start() {
    let place = Place::new();
    std::fs::create_dir(place.path("o.jsonl.meta.json")).unwrap();
    let started = Arc::new(AtomicBool::new(false));
    let seen = started.clone();
    let progress = Progress::default().reporting_to(move |report| {
        seen.fetch_or(matches!(report, ProgressEvent::Started { .. }), Ordering::Relaxed);
    });
    let error = place.extract("docs.jsonl", "o.jsonl", &progress).unwrap_err();
    assert!(error.to_string().contains("o.jsonl.meta.json`: expected a new or existing file"), "{error}");
    assert!(!started.load(Ordering::Relaxed) && !place.path("o.jsonl").exists());
    std::fs::remove_dir(place.path("o.jsonl.meta.json")).unwrap();
    place.extract("docs.jsonl", "o.jsonl", &progress).unwrap();
    assert!(started.load(Ordering::Relaxed));
    // The same for the partial file of trees.
    std::fs::create_dir(place.path("t.jsonl.partial")).unwrap();
    let error = place.grow("t.jsonl").unwrap_err();
    assert!(error.to_string().contains("t.jsonl.partial`: expected a new or existing file"), "{error}");
}

#[cfg(unix)]
#[test]
fn an_output_that_is_a_link_is_written_to_its_target() {
    use std::os::unix::fs::symlink;
    let place = Place::new();
    let run = Progress::default();
    for folder in ["store", "links"] {
        std::fs::create_dir(place.path(folder)).unwrap();
    }
    // To a missing file through one link or two, each relative to its own folder, and to an existing file.
    symlink("store/one", place.path("one")).unwrap();
    symlink("links/next", place.path("two")).unwrap();
    symlink("../store/two", place.path("links/next")).unwrap();
    std::fs::write(place.path("store/three"), "old").unwrap();
    symlink(place.path("store/three"), place.path("three")).unwrap();
    for name in ["one", "two", "three"] {
        place.extract("docs.jsonl", name, &run).unwrap();
        assert!(place.path(name).is_symlink(), "{name}");
        assert_eq!(read_records(&place.path("store").join(name)).unwrap().count(), 1, "{name}");
    }
    assert!(place.path("links/next").is_symlink());
    for name in ["one", "two"] {
        std::fs::remove_file(place.path("store").join(name)).unwrap();
        place.grow(name).unwrap();
        place.grow(name).unwrap();
        assert!(place.path(name).is_symlink(), "{name}");
        assert_eq!(read_trees(&place.path("store").join(name)).unwrap().count(), 1, "{name}");
    }
    // To each other, to themselves, and into a missing folder.
    symlink("b", place.path("a")).unwrap();
    symlink("a", place.path("b")).unwrap();
    symlink("itself", place.path("itself")).unwrap();
    symlink("nowhere/file", place.path("lost")).unwrap();
    let before = place.contents();
    for name in ["a", "b", "itself", "lost"] {
        assert!(matches!(place.extract("docs.jsonl", name, &run), Err(Error::File { .. })), "{name}");
        assert!(matches!(place.grow(name), Err(Error::File { .. })), "{name}");
    }
    assert!(place.contents() == before);
}
