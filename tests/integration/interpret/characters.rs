//! A tokenizer for models without one: printable ASCII, one token per character.

use serde_json::Value;
use std::path::Path;

/// Writes the tokenizer into a model's folder.
pub fn write_tokenizer(folder: &Path) {
    let characters = (' '..='~').chain(['\n']).enumerate();
    let vocab: serde_json::Map<_, _> = characters.map(|(i, c)| (c.to_string(), Value::from(i + 4))).collect();
    let tokenizer = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "pre_tokenizer": null,
        "post_processor": null, "decoder": {"type": "Fuse"},
        "added_tokens": [{"id": 1, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true}],
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": []},
    });
    std::fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    std::fs::write(folder.join("tokenizer_config.json"), r#"{"bos_token": "<s>"}"#).unwrap();
}
