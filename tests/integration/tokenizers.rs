//! How the files beside `tokenizer.json` change a tokenizer.

use crate::util::tests_path;
use saescope::Model;
use saescope::model::{Tokenizer, TokenizerHints};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::Path;

/// One case of `cases.json`; `make/make_tokenizer_files.py` documents its fields.
#[derive(Deserialize)]
struct Case {
    name: String,
    kind: String,
    parts: Map<String, Value>,
    files: BTreeMap<String, Value>,
    ids: BTreeMap<String, Vec<u32>>,
    bos: Option<u32>,
    eos: Option<u32>,
}

fn read(name: &str) -> String {
    std::fs::read_to_string(tests_path("fixtures/tokenizers/files").join(name)).unwrap()
}

/// Writes the files of a case into a folder.
fn write(folder: &Path, case: &Case) {
    let mut tokenizer: Value = serde_json::from_str(&read(&format!("{}.json", case.kind))).unwrap();
    for (name, part) in &case.parts {
        tokenizer[name] = part.clone();
    }
    std::fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    for (name, value) in &case.files {
        std::fs::write(folder.join(name), value.to_string()).unwrap();
    }
}

#[test]
fn ids_match_transformers_and_the_bos_matches_transformer_lens() {
    let cases: Vec<Case> = serde_json::from_str(&read("cases.json")).unwrap();
    assert!(cases.len() > 60);
    let mut wrong = Vec::new();
    for case in &cases {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), case);
        let config = &case.files["config.json"];
        let id = |key: &str| config[key].as_u64().map(|id| id as u32);
        let hints = TokenizerHints {
            model_type: config["model_type"].as_str().map(str::to_owned),
            config: saescope::model::SpecialTokens { bos: id("bos_token_id"), eos: id("eos_token_id") },
            ..TokenizerHints::default()
        };
        let tokenizer = Tokenizer::from_folder(folder.path(), hints).unwrap().unwrap();
        for (text, ids) in &case.ids {
            let got = tokenizer.encode(text).unwrap().ids;
            if got != *ids {
                wrong.push(format!("{}: {text:?}: expected {ids:?}, got {got:?}", case.name));
            }
        }
        let special = tokenizer.special();
        for (name, expected, got) in [("bos", case.bos, special.bos), ("eos", case.eos, special.eos)] {
            if expected.is_some() && expected != got {
                wrong.push(format!("{}: {name}: expected {expected:?}, got {got:?}", case.name));
            }
        }
        assert_eq!(special.bos.is_some(), !tokenizer.bos_source().is_empty(), "{}", case.name);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A model in a folder with the files of a case prints its BOS and the file that it comes from.
#[test]
fn a_model_prints_its_bos_and_the_source() {
    let cases: Vec<Case> = serde_json::from_str(&read("cases.json")).unwrap();
    let model_of = |name: &str, change: &dyn Fn(&Path)| {
        let case = cases.iter().find(|case| case.name == name).unwrap();
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), case);
        let from = tests_path("fixtures/models/gpt2");
        let mut config: Value =
            serde_json::from_str(&std::fs::read_to_string(from.join("config.json")).unwrap()).unwrap();
        config["vocab_size"] = json!(400);
        for key in ["bos_token_id", "eos_token_id"] {
            config[key] = case.files["config.json"][key].clone();
        }
        std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        let mut tensors =
            candle_core::safetensors::load(from.join("model.safetensors"), &candle_core::Device::Cpu)
                .unwrap();
        let wte = tensors.keys().find(|name| name.ends_with("wte.weight")).unwrap().clone();
        tensors.insert(wte, crate::util::noise(&[400, 32], 1));
        candle_core::safetensors::save(&tensors, folder.path().join("model.safetensors")).unwrap();
        change(folder.path());
        let model = Model::load(&folder.path().to_string_lossy()).unwrap();
        (format!("{model}").lines().nth(1).unwrap_or_default().trim().to_owned(), model)
    };
    let as_is = |_: &Path| {};
    for (name, says) in [
        ("bos_that_is_new", "BOS: `<s>`, id 300 (from tokenizer_config.json)"),
        ("bos_by_class_gpt2", "BOS: `<|endoftext|>`, id 0 (from the class of the tokenizer)"),
        (
            "bos_null_plain",
            "BOS: `<|endoftext|>`, id 0 (from eos_token of tokenizer_config.json, as the tokenizer has no bos_token)",
        ),
        (
            "bos_without_anything",
            "BOS: `<|endoftext|>`, id 0 (from TransformerLens, as no file names such a token)",
        ),
        (
            "added_tokens_json_special_by_map",
            "BOS: `<|im_end|>`, id 300 (from eos_token of special_tokens_map.json, as the tokenizer has no bos_token)",
        ),
        ("generation_config", "BOS: `$`, id 3 (from generation_config.json)"),
    ] {
        let (said, model) = model_of(name, &as_is);
        assert_eq!(said, says, "{name}");
        // Text that begins with the BOS gets no second one, and never loses its own.
        let bos = model.to_str_tokens(&[model.bos().unwrap()]).unwrap().remove(0);
        let with = model.to_tokens(&format!("{bos}the boat"), Some(true)).unwrap();
        assert_eq!(with, model.to_tokens("the boat", Some(true)).unwrap(), "{name}");
        assert_eq!(with, model.to_tokens(&format!("{bos}the boat"), Some(false)).unwrap(), "{name}");
    }
    let (said, model) = model_of("generation_config", &|folder| {
        std::fs::remove_file(folder.join("generation_config.json")).unwrap();
    });
    assert_eq!(said, "BOS: unknown");
    let error = model.to_tokens("the boat", Some(true)).unwrap_err();
    assert!(error.to_string().contains("has no beginning-of-sequence token"), "{error}");
}

/// An invalid file gives an error that names it, and never a crash.
#[test]
fn broken_tokenizer_files_are_errors() {
    let good: Value = serde_json::from_str(&read("gpt2.json")).unwrap();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut value = good.clone();
        change(&mut value);
        value.to_string()
    };
    let deep = |depth: usize| {
        let mut part = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true });
        for _ in 0..depth {
            part = json!({ "type": "Sequence", "pretokenizers": [part] });
        }
        part
    };
    for (name, text) in [
        ("tokenizer.json", with(&|t| t["model"]["continuing_subword_prefix"] = json!("######"))),
        ("tokenizer.json", with(&|t| t["model"]["merges"] = json!([["\u{120}", "never there"]]))),
        ("tokenizer.json", with(&|t| t["pre_tokenizer"] = deep(40))),
        (
            "tokenizer.json",
            with(&|t| {
                t["normalizer"] = json!({ "type": "Replace", "pattern": { "Regex": "(" }, "content": "" })
            }),
        ),
        ("tokenizer.json", "{".to_owned()),
        ("tokenizer_config.json", "[]".to_owned()),
        ("special_tokens_map.json", "{\"bos_token\":".to_owned()),
        ("added_tokens.json", "3".to_owned()),
    ] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tokenizer.json"), good.to_string()).unwrap();
        std::fs::write(folder.path().join(name), text).unwrap();
        let error = Tokenizer::from_folder(folder.path(), TokenizerHints::default()).unwrap_err();
        assert!(error.to_string().contains(name), "{name}: {error}");
    }
    // A sequence in a sequence is valid.
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tokenizer.json"), with(&|t| t["pre_tokenizer"] = deep(2))).unwrap();
    assert!(Tokenizer::from_folder(folder.path(), TokenizerHints::default()).unwrap().is_some());
}
