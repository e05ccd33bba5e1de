//! Edge cases of datasets, read as Python's `datasets` reads them, and damaged rows.

use super::{Folder, fails, failure, fixture};
use saescope::dataset::DatasetOptions;
use saescope::{Dataset, Progress, ProgressEvent};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

#[test]
fn edge_cases_match_python_datasets() {
    let expected = std::fs::read_to_string(fixture("odd/expected.json")).unwrap();
    let expected: BTreeMap<String, Vec<Option<String>>> = serde_json::from_str(&expected).unwrap();
    assert!(expected.len() > 35);
    let mut wrong = Vec::new();
    for (name, texts) in expected {
        // Null is an empty document.
        let texts: Vec<String> = texts.into_iter().map(Option::unwrap_or_default).collect();
        let options = DatasetOptions { split: Some("train".to_owned()), ..DatasetOptions::default() };
        let read = Dataset::open_with(&fixture(&format!("odd/{name}")), &options, &Progress::default())
            .and_then(|dataset| dataset.documents(&Progress::default()).collect::<Result<Vec<_>, _>>());
        match read {
            Ok(read) if read == texts => {}
            Ok(read) => wrong.push(format!("{name}: expected {texts:?}, got {read:?}")),
            Err(error) => wrong.push(format!("{name}: {error}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsupported_options_of_a_card_are_errors() {
    let card = |file: &str, line: &str| {
        format!("---\nconfigs:\n- config_name: default\n  data_files: {file}\n  {line}\n---\n")
    };
    for (file, line, message) in [
        ("docs.csv", "sep: \"\\\\s+\"", "`sep` in the card of dataset"),
        ("docs.csv", "sep: null", "expected one ASCII character, got null"),
        ("docs.csv", "skipinitialspace: true", "`skipinitialspace` in the card"),
        ("docs.csv", "header: [0, 1]", "expected a row number, got [0,1]"),
        ("docs.csv", "encoding: latin-1", "expected utf-8, got \"latin-1\""),
        ("docs.csv", "names: {a: 1}", "expected a list of names"),
        ("docs.txt", "sample_by: chapter", "unknown `sample_by` `chapter` in the card"),
        ("docs.json", "field: rows", "unknown `field` `rows`"),
    ] {
        let folder = Folder::with(&[]);
        folder.write("README.md", card(file, line).as_bytes());
        folder.write(file, b"{\"data\": []}");
        let (_, said, _) = failure(&folder.path(""), "text");
        assert!(said.contains(message), "{line}: {said}");
    }
    // A separator that no option names.
    let folder = Folder::with(&[]);
    let path = folder.write("docs.csv", b"id;text\n1;hello\n");
    fails(&path, 0, &["the only column is `id;text`"], "set `sep` to ';'");
    let options = DatasetOptions { sep: Some(";".to_owned()), ..DatasetOptions::default() };
    let texts: Vec<_> = Dataset::open_with(&path, &options, &Progress::default())
        .unwrap()
        .documents(&Progress::default())
        .map(Result::unwrap)
        .collect();
    assert_eq!(texts, ["hello"]);
}

/// The column must be in some row, and the error comes before any document.
#[test]
fn a_column_that_no_row_has_is_an_error() {
    let folder = Folder::with(&[]);
    let path = folder.write("a.jsonl", b"{\"id\": 1}\n{\"id\": 2, \"title\": \"x\"}\n");
    fails(&path, 0, &["unknown column `text`", "line 1"], "known columns: `id`");
    let path = folder.write("b.json", b"[{\"id\": 1}, {}]");
    fails(&path, 0, &["unknown column `text`", "element 1"], "known columns: `id`");
    let path = folder.write("c.jsonl", b"{}\n{}\n");
    fails(&path, 0, &["expected an object with a column `text`, got one without columns"], "");
}

/// Reads a dataset with `max_bad_rows`; returns its documents, the number of its bad rows, and the warnings.
fn with_bad_rows(path: &str, max_bad_rows: u64) -> (Vec<Result<String, String>>, u64, Vec<String>) {
    let warnings = Arc::new(Mutex::new(Vec::new()));
    let kept = warnings.clone();
    let progress = Progress::default().reporting_to(move |report| {
        if let ProgressEvent::Warning(text) = report {
            kept.lock().unwrap().push(text);
        }
    });
    let options = DatasetOptions { max_bad_rows, ..DatasetOptions::default() };
    let mut documents =
        Dataset::open_with(path, &options, &Progress::default()).unwrap().documents(&progress);
    let texts = documents
        .by_ref()
        .map(|text| text.map_err(|error| format!("{error} ({})", error.hint().unwrap_or_default())));
    let texts = texts.collect();
    let warnings = warnings.lock().unwrap().clone();
    (texts, documents.bad_rows(), warnings)
}

#[test]
fn bad_rows_are_passed_over_up_to_the_limit() {
    let folder = Folder::with(&[]);
    let jsonl = "{\"text\": \"a\"}\n{\"text\": \"b\n{\"text\": 3}\n[1]\n\n{\"text\": \"\\ud800\"}\n{\"text\": \"c\"}\n";
    for (name, bytes, bad, locations) in [
        ("a.jsonl", jsonl.as_bytes(), 4, &["line 2", "line 3", "line 4", "line 6"][..]),
        ("b.jsonl", b"{\"text\": \"a\"}\n{\"text\": \"\xff\"}\n{\"text\": \"c\"}\n", 1, &["line 2"]),
        ("c.json", b"[{\"text\": \"a\"}, {\"text\": [1]}, {\"text\": \"c\"}]", 1, &["element 2"]),
        ("d.csv", b"id,text\n1,a\n2,b,x\n3,\xff\n4,c\n", 2, &["row 2, line 3", "row 3, line 4"]),
        ("e.txt", b"a\n\xff\nc\n", 1, &["line 2"]),
    ] {
        let path = folder.write(name, bytes);
        let (texts, count, warnings) = with_bad_rows(&path, bad);
        assert_eq!(texts, ["a", "c"].map(|text| Ok(text.to_owned())), "{name}");
        assert_eq!(count, bad, "{name}");
        assert_eq!(warnings.len() as u64, bad, "{name}: {warnings:?}");
        for (warning, location) in warnings.iter().zip(locations) {
            assert!(warning.starts_with("skipped: ") && warning.contains(location), "{warning}");
        }
        // One bad row more than allowed ends the reading, with an error for that row.
        let (texts, count, _) = with_bad_rows(&path, bad - 1);
        let error = texts.last().unwrap().clone().unwrap_err();
        assert!(error.contains(locations.last().unwrap()) && error.contains("`max_bad_rows`"), "{error}");
        assert_eq!((texts.len(), count), (2, bad - 1), "{name}");
    }
    // A file that cannot be read further does not count as a bad row.
    for (name, bytes) in [
        ("f.json", &b"[{\"text\": \"a\"}, {\"text\": \"b\", {}]"[..]),
        ("g.csv", b"id,text\n1,a\n2,\"b\n3,c\n"),
        ("h.jsonl.gz", &[0x1f, 0x8b, 8, 0, 0][..]),
    ] {
        let path = folder.write(name, bytes);
        let (texts, count, _) = with_bad_rows(&path, 1000);
        assert!(texts.last().unwrap().is_err() && count == 0, "{name}: {texts:?}");
    }
    // All are counted, but only the first are named.
    let path = folder.write("i.txt", &b"\xff\n".repeat(50));
    let (texts, count, warnings) = with_bad_rows(&path, 50);
    assert_eq!((texts.len(), count, warnings.len()), (0, 50, 10));
    assert!(warnings[9].ends_with("further bad rows are only counted"), "{}", warnings[9]);
}

#[test]
fn unsupported_archives_say_how_to_unpack_them() {
    let folder = Folder::with(&[]);
    for (name, bytes, says) in [
        ("a.jsonl.zip", &b"PK\x03\x04"[..], "a .zip file"),
        ("b.jsonl.lz4", b"\x04\x22\x4d\x18", "a .lz4 file"),
        ("c.tar", b"", "a .tar file"),
        ("d.jsonl", b"PK\x03\x04aaaaaaaaaaaa", "unsupported compression: zip"),
        ("e.jsonl", b"7z\xbc\xaf\x27\x1caaaaaaaaa", "unsupported compression: 7z"),
    ] {
        let path = folder.write(name, bytes);
        let (_, message, hint) = failure(&path, "text");
        assert!(message.contains(says) && hint.contains("unpack it first"), "{name}: {message} ({hint})");
    }
    for (name, bytes) in
        [("f.jsonl.bz2", &b"BZh91AY&SY\x00\x00"[..]), ("g.jsonl.xz", b"\xfd7zXZ\x00\x00\x04\xe6\xd6")]
    {
        let path = folder.write(name, bytes);
        let (_, message, hint) = failure(&path, "text");
        assert!(
            message.contains("compressed data") && hint.contains("download"),
            "{name}: {message} ({hint})"
        );
    }
    // Text that begins like bzip2 is still text.
    let path = folder.write("h.txt", b"BZh9 is a plate\n");
    assert_eq!(super::texts(&path), ["BZh9 is a plate"]);
}

#[test]
fn broken_folders_of_save_to_disk_are_errors() {
    let copy = |name: &str, change: &dyn Fn(&std::path::Path)| {
        let folder = Folder::with(&[]);
        for entry in std::fs::read_dir(fixture(&format!("odd/{name}"))).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), folder.path(&entry.file_name().to_string_lossy())).unwrap();
        }
        change(folder.0.path());
        failure(&folder.path(""), "text")
    };
    let shard = "data-00001-of-00003.arrow";
    let (_, message, hint) =
        copy("saved_in_shards", &|folder| std::fs::remove_file(folder.join(shard)).unwrap());
    assert!(message.contains(shard) && hint.contains("copy the folder again"), "{message}");
    let (_, message, _) =
        copy("saved_in_shards", &|folder| std::fs::write(folder.join("state.json"), "{}").unwrap());
    assert!(message.contains("has no list `_data_files`"), "{message}");
    let outside = r#"{"_data_files": [{"filename": "../x.arrow"}]}"#;
    let (_, message, _) =
        copy("saved_in_shards", &|folder| std::fs::write(folder.join("state.json"), outside).unwrap());
    assert!(message.contains("there is no file `../x.arrow`"), "{message}");
    let (before, message, _) = copy("saved_in_shards", &|folder| {
        let bytes = std::fs::read(folder.join(shard)).unwrap();
        std::fs::write(folder.join(shard), &bytes[..bytes.len() / 2]).unwrap();
    });
    assert!(before == 2 && message.contains(shard) && message.contains("not readable as Arrow"), "{message}");
    let options = DatasetOptions { split: Some("validation".to_owned()), ..DatasetOptions::default() };
    let error = Dataset::open_with(&fixture("odd/saved_splits"), &options, &Progress::default()).unwrap_err();
    assert!(error.hint().unwrap().contains("`test`, `train`"), "{error}");
    let (_, message, _) = failure(&fixture("odd/saved_large_strings"), "list");
    assert!(message.contains("column `list`: expected strings"), "{message}");
}

/// Nested lists of one byte each would be as deep as the file is long.
#[test]
fn a_parquet_footer_of_nested_lists_is_an_error() {
    let folder = Folder::with(&[]);
    let mut footer = vec![0x19; 3_000_000];
    footer.extend(u32::try_from(footer.len()).unwrap().to_le_bytes());
    let path = folder.write("x.parquet", &[b"PAR1", &footer[..], b"PAR1"].concat());
    fails(&path, 0, &["a list of lists, which no Parquet header contains"], "");
}

/// Numbers in a card can be arbitrarily large.
#[test]
fn options_of_a_card_may_exceed_the_file() {
    let texts = |file: &str, line: &str, content: &[u8]| {
        let folder = Folder::with(&[]);
        let card = format!("---\nconfigs:\n- config_name: default\n  data_files: {file}\n  {line}\n---\n");
        folder.write("README.md", card.as_bytes());
        folder.write(file, content);
        Dataset::open(&folder.path(""))
            .and_then(|dataset| dataset.documents(&Progress::default()).collect::<Result<Vec<_>, _>>())
            .map_err(|error| error.to_string())
    };
    let csv = b"text\na\nb\n";
    for line in ["skiprows: 18446744073709551615", "header: 18446744073709551615"] {
        let _ = texts("docs.csv", line, csv).map(|texts| assert!(texts.is_empty(), "{texts:?}"));
    }
    assert_eq!(texts("docs.csv", "skiprows: 1", b"x\ntext\na\n").unwrap(), ["a"]);
    let error = texts("docs.csv", "skiprows: 2", b"x\ny\ntext\na\nb,c,d\n\"e").unwrap_err();
    assert!(error.contains("line 5: expected 1 fields"), "{error}");
    // The last line may lack a line break: none is added.
    assert_eq!(texts("docs.txt", "keep_linebreaks: true", b"a\r\nb\nc").unwrap(), ["a\n", "b\n", "c"]);
    let error = texts("docs.csv", "sep: \",\"", &[b"text\n", &b",".repeat(2_000_000)[..], b"\n"].concat());
    assert!(error.unwrap_err().contains("expected at most 1048576 columns"));
}

/// Damage at any byte of a file gives documents or an error, and never a crash.
#[test]
fn damaged_columnar_files_never_crash() {
    let folder = Folder::with(&[]);
    for (name, file) in [
        ("x.parquet", "parquet_none/docs.parquet"),
        ("x.parquet", "parquet_dictionary/docs.parquet"),
        ("x.parquet", "parquet_nulls/docs.parquet"),
        ("x.arrow", "odd/arrow_file/docs.arrow"),
    ] {
        let bytes = std::fs::read(fixture(file)).unwrap();
        let (mut read, mut refused) = (0, 0);
        for at in 0..bytes.len() {
            for value in [0x7f, bytes[at] ^ 0x10] {
                let mut damaged = bytes.clone();
                damaged[at] = value;
                let path = folder.write(name, &damaged);
                let texts = Dataset::open(&path).and_then(|dataset| {
                    dataset.documents(&Progress::default()).collect::<Result<Vec<_>, _>>()
                });
                *if texts.is_ok() { &mut read } else { &mut refused } += 1;
            }
        }
        assert!(read > 0 && refused > 0, "{file}: {read} read, {refused} refused");
    }
}
