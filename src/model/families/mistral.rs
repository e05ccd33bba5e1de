//! Mistral: Llama with a sliding window in every block, or in some (transformers 5's `ministral`).

use super::llama::{Layout, base_config, base_weights};
use super::{Family, HfConfig};
use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::model::config::ModelConfig;
use crate::model::weights::WeightNames;

pub(super) const FAMILY: Family = Family {
    model_types: &["mistral", "ministral"],
    aliases: &[],
    defaults: &[
        ("vocab_size", 32_000),
        ("hidden_size", 4096),
        ("intermediate_size", 14_336),
        ("num_hidden_layers", 32),
        ("num_attention_heads", 32),
        ("num_key_value_heads", 8),
        ("max_position_embeddings", 131_072),
        ("sliding_window", 4096),
    ],
    config,
    weights,
};

fn config(hf: &HfConfig, name: &str) -> Result<ModelConfig> {
    let base = base_config(hf, name, "MistralForCausalLM")?;
    let window_size = hf.optional_size("sliding_window")?; // null for no window
    let attn_types = hf.attention_types(base.n_layers, window_size, |_| window_size.is_some())?;
    Ok(ModelConfig { window_size, attn_types, ..base })
}

fn weights(checkpoint: &Checkpoint, cfg: &ModelConfig) -> WeightNames {
    base_weights(checkpoint, cfg, Layout::default())
}
