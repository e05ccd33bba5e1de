//! Mistral: Llama with a sliding window in every block, or in some (transformers 5's `ministral`).

use super::llama::{self, base_config};
use super::{Family, HfConfig};
use crate::error::Result;
use crate::model::config::ModelConfig;

pub(super) const FAMILY: Family = Family {
    model_types: &["mistral", "ministral"],
    defaults: &[
        ("intermediate_size", 14_336),
        ("num_key_value_heads", 8),
        ("max_position_embeddings", 131_072),
        ("sliding_window", 4096),
    ],
    extends: Some(&llama::FAMILY),
    config,
    ..llama::FAMILY
};

fn config(hf: &HfConfig, name: &str) -> Result<ModelConfig> {
    let base = base_config(hf, name, "MistralForCausalLM")?;
    let window_size = hf.optional_size("sliding_window")?; // null for no window
    let attn_types = hf.attention_types(base.n_layers, window_size, |_| window_size.is_some())?;
    Ok(ModelConfig { window_size, attn_types, ..base })
}
