//! Every model family against Hugging Face, TransformerLens and candle-transformers.

use crate::util::{assert_close, expected, fixture, noise, tokens_of};
use candle_core::{D, Tensor};
use saescope::hooks::HookPoint;
use saescope::{HookName, Model, Progress};
use std::collections::HashMap;

/// The fixtures of model families.
pub const FAMILIES: [&str; 17] = [
    "gpt2",
    "gpt2_text",
    "gpt_neo",
    "gpt_neox",
    "gemma",
    "gemma_text",
    "gemma2",
    "gemma3_text",
    "llama",
    "llama3_rope",
    "linear_rope",
    "mistral",
    "qwen2",
    "qwen3",
    "phi",
    "olmo",
    "olmo2",
];

fn run() -> Progress {
    Progress::default()
}

fn load(family: &str) -> Model {
    Model::load(&fixture(&format!("models/{family}"))).unwrap()
}

fn answers(family: &str, file: &str) -> HashMap<String, Tensor> {
    expected(&format!("models/{family}/{file}.safetensors"))
}

/// Compares every activation of a fixture and the logits, for all sequences. Returns the number of hooks.
fn check(model: &Model, ids: &Tensor, expected: &HashMap<String, Tensor>) -> usize {
    let names: Vec<&String> = expected.keys().filter(|n| n.contains("hook_")).collect();
    for i in 0..ids.dim(0).unwrap() {
        let tokens = tokens_of(ids, i);
        let cache = model.run_with_cache(&tokens, &names, &run()).unwrap();
        for name in &names {
            let what = format!("{} {name}", model.cfg().model_name);
            assert_close(&what, cache.get(name).unwrap(), &expected[*name].get(i).unwrap(), 2e-4, 2e-4);
        }
        let logits = model.logits(&tokens, &run()).unwrap();
        assert_close("logits", &logits, &expected["logits"].get(i).unwrap(), 2e-4, 2e-4);
    }
    names.len()
}

#[test]
fn every_family_matches_hugging_face() {
    for family in FAMILIES {
        let model = load(family);
        let expected = answers(family, "expected");
        let n = check(&model, &expected["input_ids"], &expected);
        let per_block = if model.cfg().parallel_attn_mlp { 4 } else { 5 };
        assert_eq!(n, per_block * model.cfg().n_layers, "{family}");
    }
}

#[test]
fn every_hook_matches_transformer_lens() {
    for family in ["gpt2", "gpt_neox", "qwen2"] {
        let model = load(family);
        let expected = answers(family, "expected_tl");
        let ids = &answers(family, "expected")["input_ids"];
        let n = check(&model, ids, &expected);
        let all = model.cfg().hook_points().all();
        let by_default = all.iter().filter(|name| !name.point().is_opt_in()).count();
        assert_eq!(n, by_default, "{family}: a default hook is not in the fixture");
    }
}

/// TransformerLens' processed weights center what a LayerNorm model writes to the residual stream and fold the value
/// bias away. The activations are the same less their mean, or less the value bias, which then includes the folded bias
/// of the norm. Models with RMSNorm are not centered.
#[test]
fn centering_gives_the_processed_model() {
    for family in ["gpt2", "gpt_neox", "qwen2"] {
        let model = load(family);
        let ids = &answers(family, "expected")["input_ids"];
        let expected = answers(family, "expected_tl_processed");
        let mut checked = 0;
        for i in 0..ids.dim(0).unwrap() {
            let tokens = tokens_of(ids, i);
            for (name, reference) in expected.iter().filter(|(name, _)| name.contains("hook_")) {
                let hook: HookName = name.parse().unwrap();
                let cache = model.run_with_cache(&tokens, &[name], &run()).unwrap();
                let raw = cache.get(name).unwrap();
                let processed = if hook.point() == HookPoint::Z {
                    raw.broadcast_sub(&model.value_bias(&hook, true).unwrap()).unwrap()
                } else if family == "qwen2" {
                    raw.clone()
                } else {
                    assert!(hook.point().is_residual(), "{name}");
                    raw.broadcast_sub(&raw.mean_keepdim(D::Minus1).unwrap()).unwrap()
                };
                let what = format!("{family} {name}");
                assert_close(&what, &processed, &reference.get(i).unwrap(), 2e-4, 2e-4);
                checked += 1;
            }
            let logits = model.logits(&tokens, &run()).unwrap();
            let difference = (logits - expected["logits"].get(i).unwrap()).unwrap();
            let shift = difference.mean_keepdim(D::Minus1).unwrap();
            let zero = difference.zeros_like().unwrap();
            let rest = difference.broadcast_sub(&shift).unwrap();
            assert_close("centered logits", &rest, &zero, 2e-4, 0.0);
        }
        assert!(checked >= 2 * 5 * model.cfg().n_layers, "{family}: {checked}");
    }
}

#[test]
fn configs_of_transformers_4_and_5_load_alike() {
    for family in FAMILIES {
        let legacy = with_config(family, |folder| {
            std::fs::copy(fixture(&format!("models/{family}/config.legacy.json")), folder).unwrap();
        });
        let model = load(family);
        let tokens: Vec<u32> = (0..20).map(|i| i * 7 % 50).collect();
        let a = legacy.logits(&tokens, &run()).unwrap();
        assert_close(family, &a, &model.logits(&tokens, &run()).unwrap(), 0.0, 0.0);
    }
}

/// A fixture with the config that `write` writes to its argument; the weights have been read.
fn with_config(family: &str, write: impl FnOnce(std::path::PathBuf)) -> Model {
    let folder = tempfile::tempdir().unwrap();
    let weights = fixture(&format!("models/{family}/model.safetensors"));
    std::fs::copy(weights, folder.path().join("model.safetensors")).unwrap();
    write(folder.path().join("config.json"));
    let model = Model::load(&folder.path().to_string_lossy()).unwrap();
    model.logits(&[1], &run()).unwrap();
    model
}

/// A multimodal Gemma 3 checkpoint has the text model under another prefix, and its sizes in `text_config`.
#[test]
fn multimodal_gemma_3_checkpoints_load() {
    let folder = tempfile::tempdir().unwrap();
    let text = std::fs::read(fixture("models/gemma3_text/config.json")).unwrap();
    let text: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let config = serde_json::json!({ "model_type": "gemma3", "text_config": text, "vision_config": {} });
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let plain = load("gemma3_text");
    let original = expected("models/gemma3_text/model.safetensors");
    for prefix in ["language_model.model.", "model.language_model."] {
        let renamed: HashMap<_, _> =
            original.iter().map(|(name, t)| (name.replacen("model.", prefix, 1), t.clone())).collect();
        candle_core::safetensors::save(&renamed, folder.path().join("model.safetensors")).unwrap();
        let model = Model::load(&folder.path().to_string_lossy()).unwrap();
        let tokens = [3, 1, 4, 1, 5, 9, 2, 6];
        let (a, b) = (model.logits(&tokens, &run()).unwrap(), plain.logits(&tokens, &run()).unwrap());
        assert_close(prefix, &a, &b, 0.0, 0.0);
    }
}

/// Older repositories hold torch checkpoints, here in f16 and in two files.
#[test]
fn torch_checkpoints_load_too() {
    let folder = tempfile::tempdir().unwrap();
    for file in std::fs::read_dir(fixture("models/gpt_neo/torch")).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), folder.path().join(file.file_name())).unwrap();
    }
    std::fs::copy(fixture("models/gpt_neo/config.json"), folder.path().join("config.json")).unwrap();
    let model = Model::load(&folder.path().to_string_lossy()).unwrap();
    let tokens = [3, 1, 4, 1, 5, 9, 2, 6];
    let expected = load("gpt_neo").logits(&tokens, &run()).unwrap();
    assert_close("logits", &model.logits(&tokens, &run()).unwrap(), &expected, 5e-2, 5e-2);
}

/// A sequence that is read in parts over a key-value cache gives the same logits.
#[test]
fn a_key_value_cache_changes_nothing() {
    for family in FAMILIES {
        let model = load(family);
        let tokens: Vec<u32> = (0..20).map(|i| i * 11 % 50).collect();
        let full = model.logits(&tokens, &run()).unwrap();
        let mut cache = saescope::model::KeyValueCache::default();
        for (i, part) in
            [&tokens[..9], &tokens[9..10], &tokens[10..17], &tokens[17..]].into_iter().enumerate()
        {
            let batch = saescope::hooks::TokenBatch::single(part);
            let logits = model.forward(&batch, Some(&mut cache), &mut (), &run()).unwrap();
            let expected = full.narrow(0, cache.len() - part.len(), part.len()).unwrap();
            assert_close(&format!("{family}, part {i}"), &logits, &expected, 5e-5, 5e-5);
        }
    }
}

#[test]
fn missing_hooks_say_why() {
    for (family, hook, why) in [
        ("gpt_neox", "blocks.0.hook_resid_mid", "the same residual stream"),
        ("llama", "hook_pos_embed", "rotates queries and keys"),
        ("gpt2", "blocks.1.attn.hook_rot_q", "adds position embeddings"),
        ("gpt2", "blocks.1.mlp.hook_pre_linear", "not gated"),
        ("llama", "blocks.1.hook_attn_in", "share a key"),
        ("llama", "blocks.1.ln1_post.hook_scale", "no such norm"),
    ] {
        let error = load(family).run_with_cache(&[1], &[hook], &run()).unwrap_err().to_string();
        assert!(error.contains(hook) && error.contains(why), "{error}");
    }
}

/// Every hook point of every family feeds into the logits, in the right shape, which only an edit can show.
#[test]
fn edits_at_every_point_reach_the_logits() {
    let tokens = [9, 8, 7, 6];
    for family in FAMILIES {
        let model = load(family);
        let before = model.logits(&tokens, &run()).unwrap();
        let points = model.cfg().hook_points().all();
        for hook in points.into_iter().filter(|hook| !hook.to_string().contains("hook_scale")) {
            let edit = |x: Tensor| Ok(x.clamp(-0.1f32, 0.1f32)?);
            let edits = saescope::hooks::Edits::new().with(hook, edit);
            let edited = model.run_with_hooks(&tokens, edits, &run()).unwrap();
            let change = (edited - &before).unwrap().abs().unwrap().max_all().unwrap();
            let change = change.to_scalar::<f32>().unwrap();
            assert!(change > 1e-6, "{family}: an edit at {hook} changes nothing");
            // An identity edit changes nothing.
            let same = saescope::hooks::Edits::new().with(hook, Ok);
            let same = model.run_with_hooks(&tokens, same, &run()).unwrap();
            assert_close(&format!("{family} {hook}"), &same, &before, 1e-4, 1e-4);
        }
    }
}

/// A tokenizer of single characters, small enough for the fixtures' vocabularies.
fn tokenizer() -> serde_json::Value {
    let special = ["<s>", "</s>", "<unk>"];
    let characters = ('a'..='z').chain('A'..='Z').chain([' ', '.', ',', '\n', 'é', '∑']).map(String::from);
    let tokens = special.into_iter().map(str::to_owned).chain(characters);
    let vocab: serde_json::Map<_, _> = tokens.enumerate().map(|(id, token)| (token, id.into())).collect();
    let added = special.iter().enumerate().map(|(id, token)| {
        serde_json::json!({
            "id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
            "special": true,
        })
    });
    serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "pre_tokenizer": null,
        "post_processor": null, "decoder": null, "added_tokens": added.collect::<Vec<_>>(),
        "model": { "type": "BPE", "vocab": vocab, "merges": [], "unk_token": "<unk>" },
    })
}

/// Feature datasets of every family, with a random SAE at `blocks.1.hook_resid_post`.
#[test]
fn every_family_gives_feature_datasets() {
    for family in FAMILIES.into_iter().filter(|family| !family.ends_with("_text")) {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        for file in ["config.json", "model.safetensors"] {
            std::fs::copy(fixture(&format!("models/{family}/{file}")), path(file)).unwrap();
        }
        std::fs::write(path("tokenizer.json"), tokenizer().to_string()).unwrap();
        let model = Model::load(&folder.path().to_string_lossy()).unwrap();

        let random = |shape: &[usize]| (noise(shape, shape.len() as u64) * 0.7).unwrap();
        let (d_in, d_sae) = (model.cfg().d_model, 300);
        let weights = HashMap::from([
            ("W_enc", random(&[d_in, d_sae])),
            ("W_dec", random(&[d_sae, d_in])),
            ("b_enc", random(&[d_sae])),
            ("b_dec", random(&[d_in])),
        ]);
        candle_core::safetensors::save(&weights, path("sae_weights.safetensors")).unwrap();
        let cfg = serde_json::json!({
            "architecture": "standard", "d_in": d_in, "d_sae": d_sae, "apply_b_dec_to_input": true,
            "normalize_activations": "none",
            "metadata": { "hook_name": "blocks.1.hook_resid_post", "context_size": 16, "prepend_bos": true },
        });
        std::fs::write(path("cfg.json"), cfg.to_string()).unwrap();
        let sae = saescope::Sae::load(&folder.path().to_string_lossy()).unwrap();

        let documents =
            ["a small boat, and éclair", "B", "", "the ∑ of its parts.\nOne more line of some length"];
        let lines = documents.map(|text| serde_json::json!({ "text": text }).to_string());
        std::fs::write(path("docs.jsonl"), lines.join("\n")).unwrap();
        let options = saescope::extract::ExtractOptions {
            dataset_path: path("docs.jsonl"),
            output_path: path("out.jsonl"),
            ..Default::default()
        };
        let summary = saescope::create_feature_dataset(&model, &sae, None, &options, &run()).unwrap();
        assert_eq!(summary.documents, 4, "{family}");
        let mut n = 0;
        for record in saescope::read_records(std::path::Path::new(&path("out.jsonl"))).unwrap() {
            let record = record.unwrap();
            let cache = model.run_with_cache(&record.tokens, &["blocks.1.hook_resid_post"], &run()).unwrap();
            let features = sae.encode(cache.get("blocks.1.hook_resid_post").unwrap()).unwrap();
            for (pos, active) in record.active_features.iter().enumerate() {
                let (indices, values) = features.at(pos);
                assert_eq!(active, indices, "{family}");
                for (got, expected) in record.activations[pos].iter().zip(values) {
                    assert!((got - expected).abs() < 1e-4 * expected.abs().max(1.0), "{family}");
                }
            }
            n += 1;
        }
        assert!(n >= 5, "{family}: {n} records");
    }
}

/// Impossible values are refused rather than computed with.
#[test]
fn impossible_config_values_are_errors() {
    for (family, key, value) in [
        ("llama3_rope", "rope_parameters", serde_json::json!("x")),
        ("gemma2", "query_pre_attn_scalar", serde_json::json!(-5)),
        ("gemma2", "final_logit_softcapping", serde_json::json!(0)),
        ("gemma2", "rms_norm_eps", serde_json::json!(-1)),
        ("gemma3_text", "use_bidirectional_attention", serde_json::json!(true)),
        ("gemma3_text", "rope_parameters", serde_json::json!({ "sliding_attention": { "rope_theta": 0 } })),
        ("llama", "num_key_value_heads", serde_json::json!(3)),
        ("llama", "head_dim", serde_json::json!(7)),
        ("mistral", "layer_types", serde_json::json!(["full_attention"])),
        ("qwen2", "hidden_size", serde_json::json!(1u64 << 39)),
        ("gpt_neo", "attention_types", serde_json::json!([[["global"], 1]])),
        ("phi", "partial_rotary_factor", serde_json::json!("half")),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| fixture(&format!("models/{family}/{name}"));
        std::fs::copy(file("model.safetensors"), folder.path().join("model.safetensors")).unwrap();
        let legacy = key == "partial_rotary_factor";
        let config = std::fs::read(file(if legacy { "config.legacy.json" } else { "config.json" })).unwrap();
        let mut config: serde_json::Value = serde_json::from_slice(&config).unwrap();
        config[key] = value;
        std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        let error = Model::load(&folder.path().to_string_lossy()).unwrap_err().to_string();
        assert!(error.contains("config.json"), "{family} {key}: {error}");
    }
}
