//! Model families against candle-transformers' models with the same random weights, in other shapes than the fixtures'.
//!
//! candle-transformers ignores some keys of a config, so each shape is one for which that makes no difference: queries
//! scaled by the root of `head_dim`, and windows longer than the sequence, because its windows see one key more than
//! Hugging Face's (the fixtures have short ones).

use crate::util::{assert_close, noise};
use candle_core::{DType, Device, Result, Tensor};
use candle_nn::{VarBuilder, VarMap};
use candle_transformers::models::{gemma, gemma2, gemma3, llama, mistral, olmo, olmo2, phi, qwen2, qwen3};
use saescope::{Model, Progress};
use serde_json::{Value, json};

const TOKENS: [u32; 23] =
    [5, 90, 17, 3, 99, 41, 5, 5, 0, 62, 77, 13, 8, 54, 29, 31, 2, 70, 6, 95, 44, 21, 60];

/// The keys that all families share, with the family's own; a key with the value null is removed.
fn config(model_type: &str, own: Value) -> Value {
    let mut config = json!({
        "model_type": model_type, "vocab_size": 100, "hidden_size": 48, "intermediate_size": 112,
        "num_hidden_layers": 3, "num_attention_heads": 6, "num_key_value_heads": 3, "max_position_embeddings": 128,
        "rms_norm_eps": 1e-5, "rope_theta": 1234.0, "hidden_act": "silu", "tie_word_embeddings": false,
    });
    let all = config.as_object_mut().unwrap();
    for (key, value) in own.as_object().unwrap() {
        match value {
            Value::Null => drop(all.remove(key)),
            _ => drop(all.insert(key.clone(), value.clone())),
        }
    }
    config
}

fn parse<T: serde::de::DeserializeOwned>(config: &Value) -> T {
    serde_json::from_value(config.clone()).unwrap()
}

/// Builds candle-transformers' model once to learn the names of its weights and once with random ones, and compares the
/// logits of the last position.
#[track_caller]
fn check(config: &Value, logits: impl Fn(VarBuilder, &Tensor) -> Result<Tensor>) {
    let input = Tensor::new(&[TOKENS], &Device::Cpu).unwrap();
    let weights = VarMap::new();
    let build = || VarBuilder::from_varmap(&weights, DType::F32, &Device::Cpu);
    logits(build(), &input).unwrap();
    {
        let data = weights.data().lock().unwrap();
        let mut names: Vec<_> = data.keys().cloned().collect();
        names.sort();
        for (seed, name) in names.into_iter().enumerate() {
            let var = &data[&name];
            let mean = if name.contains("norm.weight") { 0.8 } else { 0.0 };
            let random = noise(var.dims(), seed as u64) * 0.45;
            var.set(&(random.unwrap() + mean).unwrap()).unwrap();
        }
    }
    let expected = logits(build(), &input).unwrap().flatten_all().unwrap();

    let folder = tempfile::tempdir().unwrap();
    weights.save(folder.path().join("model.safetensors")).unwrap();
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let model = Model::load(&folder.path().to_string_lossy()).unwrap();
    let got = model.logits(&TOKENS, &Progress::default()).unwrap().get(TOKENS.len() - 1).unwrap();
    assert_close(&config["model_type"].to_string(), &got, &expected, 2e-4, 2e-4);
}

#[test]
fn llama_agrees_with_and_without_rope_scaling() {
    let scaling = json!({
        "rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    });
    for own in [json!({ "rms_norm_eps": 1e-6 }), json!({ "rope_scaling": scaling })] {
        let config = config("llama", own);
        check(&config, |vb, input| {
            let cfg = parse::<llama::LlamaConfig>(&config).into_config(false);
            let mut cache = llama::Cache::new(false, DType::F32, &cfg, &Device::Cpu)?;
            llama::Llama::load(vb, &cfg)?.forward(input, 0, &mut cache)
        });
    }
}

#[test]
fn mistral_agrees_with_wide_heads() {
    let config = config("mistral", json!({ "head_dim": 10, "sliding_window": 64 }));
    check(&config, |vb, input| mistral::Model::new(&parse(&config), vb)?.forward(input, 0));
}

#[test]
fn gemma_1_to_3_agree() {
    let own = json!({
        "hidden_act": null, "hidden_activation": "gelu_pytorch_tanh", "head_dim": 16, "attention_bias": false,
        "tie_word_embeddings": true,
    });
    let first = config("gemma", own.clone());
    check(&first, |vb, input| gemma::Model::new(false, &parse(&first), vb)?.forward(input, 0));

    let with = |more: Value| {
        let mut own = own.clone();
        own.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        own
    };
    let more = json!({
        "final_logit_softcapping": 2.0, "attn_logit_softcapping": 4.0, "query_pre_attn_scalar": 16,
        "sliding_window": 64,
    });
    let second = config("gemma2", with(more));
    check(&second, |vb, input| gemma2::Model::new(false, &parse(&second), vb)?.forward(input, 0));

    let more = json!({
        "num_key_value_heads": 1, "query_pre_attn_scalar": 16, "sliding_window": 64, "sliding_window_pattern": 2, "rope_local_base_freq": 77.0,
    });
    let third = config("gemma3_text", with(more));
    check(&third, |vb, input| gemma3::Model::new(false, &parse(&third), vb)?.forward(input, 0));
}

#[test]
fn qwen_2_and_3_agree() {
    let own = json!({ "sliding_window": 64, "max_window_layers": 3, "use_sliding_window": false, "tie_word_embeddings": true });
    let second = config("qwen2", own);
    check(&second, |vb, input| qwen2::ModelForCausalLM::new(&parse(&second), vb)?.forward(input, 0));
    let own = json!({
        "head_dim": 12, "attention_bias": false, "max_window_layers": 3, "use_sliding_window": false,
    });
    let third = config("qwen3", own);
    check(&third, |vb, input| qwen3::ModelForCausalLM::new(&parse(&third), vb)?.forward(input, 0));
}

#[test]
fn phi_and_olmo_agree() {
    let own = json!({
        "num_key_value_heads": 6, "hidden_act": "gelu_new", "layer_norm_eps": 1e-5, "partial_rotary_factor": 0.5,
        "qk_layernorm": false,
    });
    let phi = config("phi", own);
    check(&phi, |vb, input| phi::Model::new(&parse(&phi), vb)?.forward(input));
    let own = json!({ "attention_bias": false, "clip_qkv": 0.7 });
    let first = config("olmo", own);
    check(&first, |vb, input| olmo::Model::new(&parse(&first), vb)?.forward(input, 0));
    let second = config("olmo2", json!({ "attention_bias": false }));
    check(&second, |vb, input| olmo2::Model::new(&parse(&second), vb)?.forward(input, 0));
}
