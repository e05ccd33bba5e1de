//! Qwen 2 and 2.5: Llama with biases of queries, keys and values.

use super::llama::{self, base_config};
use super::{Family, HfConfig};
use crate::error::Result;
use crate::model::config::ModelConfig;

pub(super) const FAMILY: Family = Family {
    model_types: &["qwen2"],
    defaults: &[
        ("vocab_size", 151_936),
        ("intermediate_size", 22_016),
        ("num_key_value_heads", 32),
        ("max_position_embeddings", 32_768),
        ("max_window_layers", 28),
        ("sliding_window", 4096),
    ],
    extends: Some(&llama::FAMILY),
    config,
    ..llama::FAMILY
};

fn config(hf: &HfConfig, name: &str) -> Result<ModelConfig> {
    qwen_config(hf, name, "Qwen2ForCausalLM")
}

/// The upper blocks may have a sliding window; no published model uses it.
pub(super) fn qwen_config(hf: &HfConfig, name: &str, architecture: &str) -> Result<ModelConfig> {
    let base = base_config(hf, name, architecture)?;
    // Without the flag, the other window settings of the config are ignored.
    let window_size = match hf.flag("use_sliding_window", false)? {
        true => hf.optional_size("sliding_window")?,
        false => None,
    };
    let first = if window_size.is_some() { hf.count("max_window_layers")? } else { 0 };
    let is_local = |i| window_size.is_some() && i >= first;
    Ok(ModelConfig {
        window_size,
        attn_types: hf.attention_types(base.n_layers, window_size, is_local)?,
        default_prepend_bos: false,
        ..base
    })
}
