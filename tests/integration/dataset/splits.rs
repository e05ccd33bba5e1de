//! Splits and configurations of folders that are laid out like repositories, as Python's `datasets` 5.2 resolves them.

use super::{Folder, expected, fixture, texts};
use saescope::dataset::DatasetOptions;
use saescope::{Dataset, Error, Progress};

fn options_for(config: Option<&str>, split: Option<&str>) -> DatasetOptions {
    let own = |name: &str| name.to_owned();
    DatasetOptions { config: config.map(own), split: split.map(own), ..DatasetOptions::default() }
}

fn rows(path: &str, config: Option<&str>, split: Option<&str>) -> Result<Vec<String>, Error> {
    Dataset::open_with(path, &options_for(config, split), &Progress::default())?
        .documents(&Progress::default())
        .collect()
}

/// The message and the hint of a dataset that must not open.
fn failure(path: &str, options: &DatasetOptions) -> String {
    let error = Dataset::open_with(path, options, &Progress::default()).expect_err("the dataset opens");
    format!("{error} | {}", error.hint().unwrap_or_default())
}

/// A folder in which the only document of each file is its name.
fn layout(names: &[&str], card: &str) -> Folder {
    let content = |name: &str| match name.ends_with(".csv") {
        true => format!("text\n{name}\n"),
        false => format!("{{\"text\": \"{name}\"}}\n"),
    };
    let mut files: Vec<_> = names.iter().map(|name| (*name, content(name).into_bytes())).collect();
    if !card.is_empty() {
        files.push(("README.md", format!("---\n{card}---\n# A card\n").into_bytes()));
    }
    Folder::with(&files.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect::<Vec<_>>())
}

#[test]
fn published_layouts_have_their_splits() {
    let expected = expected();
    let hub = |name: &str| fixture(&format!("hub/{name}"));
    assert_eq!(rows(&hub("pile-10k-like"), None, None).unwrap(), expected);
    assert_eq!(rows(&hub("pile-10k-like"), None, Some("train")).unwrap(), expected);
    assert_eq!(texts(&hub("two-splits")), &expected[..20]);
    assert_eq!(rows(&hub("two-splits"), None, Some("test")).unwrap(), &expected[20..24]);
    assert_eq!(texts(&hub("configs")), &expected[..12]);
    assert_eq!(rows(&hub("configs"), Some("prose"), Some("test")).unwrap(), expected);
    assert_eq!(rows(&hub("configs"), Some("edge"), None).unwrap().len(), 20);
    assert_eq!(rows(&hub("keyword-files"), None, Some("train")).unwrap(), &expected[..12]);
    assert_eq!(rows(&hub("keyword-files"), None, Some("test")).unwrap(), &expected[12..]);
    // Nothing requires that this folder is read as a repository.
    assert_eq!(texts(&hub("keyword-files")).len(), 32);

    let dataset = Dataset::open(&hub("configs")).unwrap();
    assert_eq!((dataset.config(), dataset.split(), dataset.revision()), (Some("prose"), Some("train"), None));
    assert!(
        dataset.to_string().contains("configs, config `prose`, split `train`: 1 jsonl file"),
        "{dataset}"
    );
}

#[test]
fn file_names_determine_splits() {
    for (names, splits) in [
        (
            &["my-training/a.jsonl", "train-1/b.jsonl", "train/c.jsonl", "x_dev_1/d.jsonl", "latest/f.jsonl"]
                [..],
            &[
                ("train", &["train/c.jsonl", "train-1/b.jsonl", "my-training/a.jsonl"][..]),
                ("validation", &["x_dev_1/d.jsonl"]),
            ][..],
        ),
        (
            &[
                "b_train_2.jsonl",
                "train.jsonl",
                "training-x.jsonl",
                "Train.jsonl",
                "trainer.jsonl",
                "test",
                "a/dev.jsonl",
            ],
            &[
                ("train", &["train.jsonl", "b_train_2.jsonl", "training-x.jsonl"]),
                ("validation", &["a/dev.jsonl"]),
            ],
        ),
        (
            &["b.jsonl", "a/c.jsonl", ".hidden/d.jsonl", "__x/e.jsonl", "dataset_infos.json", "__f.jsonl"],
            &[("train", &["__f.jsonl", "a/c.jsonl", "b.jsonl"])],
        ),
        (
            &[
                "data/train-00001-of-00002.jsonl",
                "data/train-00000-of-00002-abc.jsonl",
                "data/extra-00000-of-00001.jsonl",
                "data/validation-00000-of-00001.jsonl",
                "data/zero.jsonl",
                "test/x.jsonl",
            ],
            &[
                ("train", &["data/train-00000-of-00002-abc.jsonl", "data/train-00001-of-00002.jsonl"]),
                ("extra", &["data/extra-00000-of-00001.jsonl"]),
                ("validation", &["data/validation-00000-of-00001.jsonl"]),
            ],
        ),
        (&["train/a.jsonl", "train/b.csv", "train/c.csv"], &[("train", &["train/b.csv", "train/c.csv"])]),
        (&["train/a.jsonl", "train/b.csv"], &[("train", &["train/a.jsonl"])]),
    ] {
        let folder = layout(names, "");
        for (split, expected) in splits {
            assert_eq!(rows(&folder.path(""), None, Some(split)).unwrap(), *expected, "{split} of {names:?}");
        }
    }
    let folder = layout(&["test.jsonl"], "");
    let failed = failure(&folder.path(""), &options_for(None, Some("train")));
    assert!(failed.contains("unknown split `train`") && failed.ends_with("known splits: `test`"), "{failed}");
    let failed = failure(&folder.path(""), &options_for(Some("x"), None));
    assert!(
        failed.contains("unknown config `x`") && failed.ends_with("known configs: `default`"),
        "{failed}"
    );
    let failed = failure(&fixture("hub/two-splits"), &options_for(None, Some("train[:10]")));
    assert!(
        failed.contains("`split`: expected the name of one split") && failed.contains("max_examples"),
        "{failed}"
    );
}

#[test]
fn cards_determine_configs() {
    let names =
        ["z/2.jsonl", "z/1.jsonl", "a.jsonl", "b.jsonl", "z/.h.jsonl", "z/deep/x.jsonl", "z/test.jsonl"];
    for (card, config, split, expected) in [
        (
            "configs:\n- config_name: default\n  data_files:\n  - z/[0-9].jsonl\n  - ./a.jsonl\n",
            None,
            None,
            &["z/1.jsonl", "z/2.jsonl", "a.jsonl"][..],
        ),
        (
            "configs:\n- {config_name: one, data_files: z/**}\n",
            None,
            None,
            &["z/1.jsonl", "z/2.jsonl", "z/deep/x.jsonl", "z/test.jsonl"],
        ),
        ("configs:\n- {config_name: one, data_files: z/.*}\n", None, None, &["z/.h.jsonl"]),
        ("configs:\n- {config_name: one, data_dir: z}\n", Some("one"), Some("test"), &["z/test.jsonl"]),
        (
            "license: mit\nconfigs:\n- {config_name: a, data_files: a.jsonl}\n- {config_name: b, default: true, data_files: b.jsonl}\n",
            None,
            None,
            &["b.jsonl"],
        ),
        (
            "configs:\n- config_name: no\n  data_files:\n  - {split: odd.name, path: [b.jsonl, 'z/deep/*', none*]}\n- {config_name: x}\n",
            Some("no"),
            Some("odd.name"),
            &["b.jsonl", "z/deep/x.jsonl"],
        ),
    ] {
        let folder = layout(&names, card);
        assert_eq!(rows(&folder.path(""), config, split).unwrap(), expected, "{card}");
    }
    for (card, config, split, expected) in [
        (
            "configs:\n- {config_name: a, data_files: a.jsonl}\n- {config_name: b, data_files: b.jsonl}\n",
            None,
            None,
            "expected a name, got none | choose one with `config`: `a`, `b`",
        ),
        (
            "configs:\n- {config_name: first, data_files: a.jsonl}\n",
            Some("q"),
            None,
            "known configs: `first`",
        ),
        ("configs:\n- {config_name: first, data_files: a.jsonl}\n", None, Some("q"), "config `first`"),
        (
            "configs:\n- {config_name: first, data_files: gone.jsonl}\n",
            None,
            None,
            "has no file `gone.jsonl`",
        ),
        (
            "configs:\n- {config_name: first, data_files: '../*.jsonl'}\n",
            None,
            None,
            "no files in a supported format",
        ),
        ("configs:\n- {config_name: first, data_files: 'z**'}\n", None, None, "`z**`"),
        ("configs:\n- {data_files: a.jsonl}\n", None, Some("train"), "config_name"),
        ("configs: [\n", None, Some("train"), "README.md"),
    ] {
        let folder = layout(&names, card);
        let failed = failure(&folder.path(""), &options_for(config, split));
        assert!(failed.contains(expected), "{card}{failed}");
    }
    // A README that only resembles a card does no harm if no split is requested.
    assert_eq!(texts(&layout(&names, "configs: [\n").path("")).len(), 6);
    assert_eq!(texts(&layout(&names, "A heading\n").path("")).len(), 6);
    let long = format!("configs:\n- {{config_name: a, data_files: a.jsonl}}\n# {}\n", "x".repeat(1 << 20));
    let failed = failure(&layout(&names, &long).path(""), &options_for(None, Some("train")));
    assert!(failed.contains("at most 1 MiB"), "{failed}");
}

#[test]
fn a_path_that_is_not_a_repository_has_one_split() {
    let file = fixture("plain/docs.jsonl");
    for path in [file.as_str(), "demo", &fixture("plain/*.jsonl")] {
        assert_eq!(rows(path, None, Some("train")).unwrap(), texts(path));
        assert!(failure(path, &options_for(None, Some("test"))).contains("known splits: `train`"));
        assert!(failure(path, &options_for(Some("a"), None)).contains("unknown config `a`"));
    }
    let revision = DatasetOptions { revision: Some("main".to_owned()), ..DatasetOptions::default() };
    for path in [file, fixture("hub/two-splits")] {
        assert!(failure(&path, &revision).contains("expected none for a local dataset"));
    }
    let options: DatasetOptions = serde_json::from_str(r#"{"name": "a", "split": "b"}"#).unwrap();
    assert_eq!(options, options_for(Some("a"), Some("b")));
}
