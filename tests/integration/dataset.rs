//! Datasets: every format gives the same documents, and every broken file an error with a hint.

mod formats;
mod odd;
mod parquet;
mod splits;

use saescope::dataset::DatasetOptions;
use saescope::{Dataset, Progress};
use std::fs;
use std::io::Write;
use std::path::Path;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/datasets");

fn fixture(name: &str) -> String {
    format!("{FIXTURES}/{name}")
}

fn open(path: &str) -> Dataset {
    Dataset::open(path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn texts(path: &str) -> Vec<String> {
    let texts: Result<Vec<_>, _> = open(path).documents(&Progress::default()).collect();
    texts.unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn expected() -> Vec<String> {
    let json = fs::read(fixture("expected_texts.json")).expect("a fixture");
    serde_json::from_slice(&json).expect("an array of strings")
}

/// The number of documents before the error of `path`, its message, and its hint.
fn failure(path: &str, column: &str) -> (usize, String, String) {
    let options = DatasetOptions { text_column: column.to_owned(), ..DatasetOptions::default() };
    let error = match Dataset::open_with(path, &options, &Progress::default()) {
        Err(error) => (0, error),
        Ok(dataset) => {
            let mut documents = dataset.documents(&Progress::default());
            let before = documents.by_ref().take_while(Result::is_ok).count();
            assert!(documents.next().is_none(), "{path}: continues after its error");
            let error = dataset.documents(&Progress::default()).find_map(Result::err);
            (before, error.unwrap_or_else(|| panic!("{path}: no error")))
        }
    };
    let (before, error) = error;
    (before, error.to_string(), error.hint().unwrap_or_default())
}

/// Fails unless reading `path` fails after `before` documents, with all `words` in the message and `hint` in the hint.
fn fails(path: &str, before: usize, words: &[&str], hint: &str) {
    let (found, message, found_hint) = failure(path, "text");
    assert_eq!(found, before, "{message}");
    for word in words {
        assert!(message.contains(word), "no {word:?} in {message:?}");
    }
    assert!(found_hint.contains(hint), "no {hint:?} in {found_hint:?} ({message})");
}

/// A temporary folder with files.
struct Folder(tempfile::TempDir);

impl Folder {
    fn with(files: &[(&str, &[u8])]) -> Folder {
        let folder = Folder(tempfile::tempdir().expect("a temporary folder"));
        for (name, content) in files {
            let path = folder.0.path().join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(path, content).expect("a file");
        }
        folder
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_string_lossy().into_owned()
    }

    /// Writes a file and returns its path.
    fn write(&self, name: &str, content: &[u8]) -> String {
        let path = self.path(name);
        fs::write(&path, content).expect("a file");
        path
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory")
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).expect("memory")
}

#[test]
fn every_format_gives_the_same_documents() {
    let expected = expected();
    assert_eq!(expected.len(), 32);
    for name in [
        "plain/docs.jsonl",
        "gzip/docs.jsonl.gz",
        "gzip_members/docs.jsonl.gz",
        "zstd/docs.jsonl.zst",
        "zstd_frames/docs.jsonl.zst",
        "bom_crlf/docs.jsonl",
        "json_array/docs.json",
        "parquet_snappy/docs.parquet",
        "parquet_zstd/docs.parquet",
        "parquet_gzip/docs.parquet",
        "parquet_none/docs.parquet",
        "parquet_large_string/docs.parquet",
        "parquet_dictionary/docs.parquet",
    ] {
        assert_eq!(texts(&fixture(name)), expected, "{name}");
        assert_eq!(
            texts(&fixture(name.split('/').next().unwrap_or_default())),
            expected,
            "the folder of {name}"
        );
    }
    let without_nul: Vec<_> = expected.iter().map(|text| text.replace('\0', "")).collect();
    assert_eq!(texts(&fixture("csv/docs.csv")), without_nul);
    let one_line: Vec<_> = expected.iter().map(|text| text.replace(['\n', '\r'], " ")).collect();
    assert_eq!(texts(&fixture("txt/docs.txt")), one_line);
    assert_eq!(texts(&fixture("parquet_nulls/docs.parquet")), ["first", "", "third"]);
}

#[test]
fn compression_is_recognized_by_contents_in_every_format() {
    let plain = fs::read(fixture("plain/docs.jsonl")).expect("a fixture");
    let array = fs::read(fixture("json_array/docs.json")).expect("a fixture");
    let csv = fs::read(fixture("csv/docs.csv")).expect("a fixture");
    // A skippable frame, which parallel compressors write first.
    let skipped = [b"\x50\x2a\x4d\x18\x04\x00\x00\x00skip".as_slice(), &zstd(&plain)].concat();
    let folder = Folder::with(&[
        ("a.jsonl", &gzip(&plain)),
        ("b.jsonl.gz", &zstd(&plain)),
        ("c.jsonl.zst", &plain),
        ("d.JSON.GZ", &gzip(&array)),
        ("e.json.zstd", &zstd(&array)),
        ("f.ndjson.gzip", &gzip(&plain)),
        ("g.json", &gzip(&plain)),
        ("h.jsonl.zst", &skipped),
        ("i.csv.gz", &gzip(&csv)),
    ]);
    for name in
        ["a.jsonl", "b.jsonl.gz", "c.jsonl.zst", "d.JSON.GZ", "e.json.zstd", "f.ndjson.gzip", "g.json"]
    {
        assert_eq!(texts(&folder.path(name)), expected(), "{name}");
    }
    assert_eq!(texts(&folder.path("h.jsonl.zst")), expected());
    assert_eq!(texts(&folder.path("i.csv.gz")).len(), 32);
}

#[test]
fn folders_and_globs_select_files() {
    let expected = expected();
    assert_eq!(texts(&fixture("hub/pile-10k-like")), expected);
    assert_eq!(texts(&fixture("hub/two-splits/data/train-*.parquet")), &expected[..20]);
    assert_eq!(texts(&fixture("hub/two-splits/data/test-*")), &expected[20..24]);
    assert_eq!(texts(&fixture("hub/keyword-files/my_train_set.jsonl")), &expected[..12]);
    assert_eq!(texts(&fixture("hub/keyword-files/*")), [&expected[12..], &expected[..12]].concat());
    assert_eq!(texts(&fixture("hub/configs/b/*.jsonl")), expected);
    assert_eq!(texts(&fixture("hub/configs/**/*.gz")), &expected[..12]);
}

#[test]
fn a_folder_is_read_in_its_most_common_format() {
    let line = b"{\"text\": \"x\"}\n".as_slice();
    let folder = Folder::with(&[
        ("most/b.jsonl", b"{\"text\": \"b\"}"),
        ("most/a.jsonl", b"{\"text\": \"a\"}"),
        ("most/z.csv", b"text\nz\n"),
        ("most/README.md", b"a card"),
        ("most/dataset_info.json", b"{}"),
        ("most/a.meta.json", b"{}"),
        ("most/b.meta.json", b"{}"),
        ("most/.hidden.jsonl", line),
        ("most/.git/c.jsonl", line),
        ("most/__pycache__/c.jsonl", line),
        ("most/LICENSE", b"free"),
        ("tie/a.txt", b"not this"),
        ("tie/b.csv", b"text\nthis\n"),
        ("none/notes.md", b"a note"),
    ]);
    assert_eq!(texts(&folder.path("most")), ["a", "b"]);
    assert_eq!(texts(&folder.path("tie")), ["this"]);
    fs::create_dir(folder.path("empty")).expect("a folder");
    fails(
        &folder.path("none"),
        0,
        &["folder `", "none`: expected a file that ends in one of .jsonl", "one file in another format"],
        "",
    );
    fails(&folder.path("empty"), 0, &["got no files"], "check the path");
    // A glob selects every match, in any format, but a hidden file only if the glob names it.
    assert_eq!(texts(&folder.path("most/*.jsonl")), ["a", "b"]);
    assert_eq!(texts(&folder.path("most/.git/*.jsonl")), ["x"]);
    assert_eq!(texts(&folder.path("t*/*")), ["not this", "this"]);
    fails(&folder.path("none/*"), 0, &["unknown format `md`"], "`parquet`");
}

#[cfg(unix)]
#[test]
fn links_in_a_folder_are_followed_once() {
    let folder = Folder::with(&[("blobs/0f", b"{\"text\": \"x\"}"), ("data/sub/empty", b"")]);
    std::os::unix::fs::symlink(folder.path("blobs/0f"), folder.path("data/train.jsonl")).expect("a link");
    std::os::unix::fs::symlink(folder.path("data"), folder.path("data/sub/back")).expect("a link");
    assert_eq!(texts(&folder.path("data")), ["x"]);
    std::os::unix::fs::symlink(folder.path("nowhere"), folder.path("data/test.jsonl")).expect("a link");
    fails(&folder.path("data"), 0, &["cannot open", "test.jsonl"], "check the path");
}

#[test]
fn the_demo_dataset_is_embedded() {
    let demo = open("demo");
    assert_eq!(demo.files().count(), 0);
    assert!(demo.to_string().starts_with("Dataset demo: embedded documents, "), "{demo}");
    let documents = texts("demo");
    assert!(!documents.is_empty() && documents.iter().all(|text| !text.is_empty()));
}

#[test]
fn a_dataset_prints_its_files() {
    let folder = Folder::with(&[("a.jsonl", &[b' '; 1234]), ("b.jsonl", b""), ("c.csv", b"text\n")]);
    let shown = open(&folder.path("a.jsonl")).to_string();
    assert_eq!(
        shown,
        format!("Dataset {}: 1 jsonl file, 1.2 KB, text column `text`", folder.path("a.jsonl"))
    );
    let shown = open(&folder.path("*")).to_string();
    assert_eq!(
        shown,
        format!("Dataset {}: 2 jsonl files, 1 csv file, 1.2 KB, text column `text`", folder.path("*"))
    );
}

#[test]
fn options_have_their_defaults() {
    let options: DatasetOptions = serde_json::from_str("{}").expect("all defaults");
    assert_eq!(options, DatasetOptions::default());
    assert_eq!(options.text_column, "text");
    assert!(serde_json::from_str::<DatasetOptions>("{\"text_colum\": \"x\"}").is_err());
    let options = DatasetOptions { text_column: "body".to_owned(), ..DatasetOptions::default() };
    let dataset = Dataset::open_with(&fixture("broken/no_text_column.jsonl"), &options, &Progress::default())
        .expect("a file");
    assert_eq!(dataset.text_column(), "body");
    let documents: Vec<_> =
        dataset.documents(&Progress::default()).map(|text| text.expect("a document")).collect();
    assert_eq!(documents, ["x"]);
}

#[test]
fn broken_files_say_what_is_wrong() {
    fails(
        &fixture("broken/truncated.jsonl.gz"),
        30,
        &["truncated.jsonl.gz`, line 31", "ends too early"],
        "again",
    );
    fails(&fixture("broken/zstd_garbage.jsonl.zst"), 0, &["line 1", "compressed data"], "again");
    fails(
        &fixture("broken/bad_line.jsonl"),
        12,
        &["bad_line.jsonl`, line 13: not JSON: EOF while parsing a string at column 22"],
        "one complete object",
    );
    fails(
        &fixture("broken/no_text_column.jsonl"),
        0,
        &["unknown column `text` in `", "no_text_column.jsonl`, line 1"],
        "known columns: `body`, `title`",
    );
    fails(
        &fixture("broken/text_is_number.jsonl"),
        0,
        &["line 1: column `text`: expected a string, got a number"],
        "text_column",
    );
    fails(
        &fixture("broken/invalid_utf8.jsonl"),
        0,
        &["line 1: expected text in UTF-8, got byte 0xe9 at column 14"],
        "iconv",
    );
    fails(
        &fixture("broken/lone_surrogate.jsonl"),
        0,
        &["line 1: ", "lone surrogate", "column"],
        "without lone surrogates",
    );
    fails(
        &fixture("broken/not_parquet.parquet"),
        0,
        &["not_parquet.parquet`: not readable as Parquet"],
        "again",
    );
    assert!(texts(&fixture("broken/empty.jsonl")).is_empty());
}

#[test]
fn paths_without_files_suggest_what_exists() {
    fails(
        &fixture("plain/docs.jsnl"),
        0,
        &["dataset `", "expected a file, a folder, a glob, `demo`, or a dataset on the hub"],
        "plain/docs.jsonl`?",
    );
    fails(&fixture("nowhere/docs.jsonl"), 0, &["a path that does not exist"], "there is no folder `");
    fails(&fixture("plain/something-else.csv"), 0, &["a path that does not exist"], "check the path");
    fails("dmo", 0, &["dataset `dmo`"], "did you mean `demo`?");
    fails("", 0, &["dataset ``"], "");
    fails(&fixture("plain/*.csv"), 0, &["expected files that match this glob, got none"], "`**`");
    fails(&fixture("hub/configs/?"), 0, &["files that match this glob"], "**");
    fails(&fixture("plain/a***b.csv"), 0, &["expected a file, a folder or a glob, got"], "`**`");
    fails(&fixture("plain/docs.jsonl/x"), 0, &["a path that does not exist"], "there is no folder");
}

#[test]
fn formats_are_recognized_by_extension() {
    let parquet = fs::read(fixture("parquet_none/docs.parquet")).expect("a fixture");
    let folder = Folder::with(&[
        ("docs.xml", b"<text/>"),
        ("docs.jsnl.gz", b""),
        ("noextension", b"x"),
        ("blob", &parquet),
        ("docs[1].jsonl", b"{\"text\": \"x\"}"),
    ]);
    fails(
        &folder.path("docs.xml"),
        0,
        &["unknown format `xml` in `"],
        "known formats: `jsonl`, `ndjson`, `json`, `csv`, `tsv`",
    );
    fails(&folder.path("docs.jsnl.gz"), 0, &["unknown format `jsnl`"], "did you mean `jsonl`?");
    fails(
        &folder.path("noextension"),
        0,
        &["a name without an extension", ".parquet"],
        "add the format to the file's name",
    );
    assert_eq!(texts(&folder.path("blob")), expected());
    assert_eq!(texts(&folder.path("docs[1].jsonl")), ["x"]);
}

/// The documents of a file with this name and content, or the message and hint of its error.
fn outcome(name: &str, content: &[u8]) -> Result<Vec<String>, String> {
    let folder = Folder::with(&[(name, content)]);
    let documents: Result<Vec<_>, _> = open(&folder.path(name)).documents(&Progress::default()).collect();
    let path = format!("`{}`", folder.path(name));
    documents.map_err(|error| {
        let hint = error.hint().unwrap_or_else(|| panic!("no hint: {error}"));
        format!("{error} | {hint}").replace(&path, "FILE")
    })
}

fn assert_fails(name: &str, content: &[u8], start: &str) {
    let message = outcome(name, content).expect_err(start);
    assert!(message.starts_with(start), "{message:?} instead of {start:?}");
}

#[test]
fn damaged_files_give_errors_and_never_panic() {
    for name in ["plain/docs.jsonl", "json_array/docs.json", "csv/docs.csv", "txt/docs.txt"] {
        let bytes = fs::read(fixture(name)).expect("a fixture");
        let file = Path::new(name).file_name().and_then(|name| name.to_str()).expect("a name");
        for packed in [gzip(&bytes), zstd(&bytes)] {
            for length in 5..packed.len() {
                let error = outcome(file, &packed[..length]).expect_err("cut off");
                assert!(error.contains("the compressed data ends too early"), "{name} {length}: {error}");
            }
            for at in (4..packed.len()).step_by(7) {
                let mut damaged = packed.clone();
                damaged[at] ^= 0x20;
                let _ = outcome(file, &damaged);
            }
        }
    }
    for name in [
        "parquet_snappy",
        "parquet_zstd",
        "parquet_gzip",
        "parquet_none",
        "parquet_dictionary",
        "parquet_nulls",
    ] {
        let bytes = fs::read(fixture(&format!("{name}/docs.parquet"))).expect("a fixture");
        for length in (0..bytes.len()).step_by(5) {
            assert!(outcome("x.parquet", &bytes[..length]).is_err(), "{name} {length}");
        }
        for at in (0..bytes.len()).step_by(11) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            let _ = outcome("x.parquet", &damaged);
        }
    }
}

#[test]
fn documents_can_move_to_another_thread_and_end_once() {
    let mut documents = open(&fixture("broken/bad_line.jsonl")).documents(&Progress::default());
    let read = std::thread::spawn(move || (documents.by_ref().count(), documents.next().is_none()));
    assert_eq!(read.join().expect("no panic"), (13, true));
}
