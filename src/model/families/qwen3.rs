//! Qwen 3: Qwen 2 without biases, with norms of each head's queries and keys.

use super::llama::{Layout, base_weights};
use super::qwen2::qwen_config;
use super::{Family, HfConfig};
use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::model::config::ModelConfig;
use crate::model::weights::WeightNames;

pub(super) const FAMILY: Family = Family {
    model_types: &["qwen3"],
    aliases: &[],
    defaults: &[
        ("vocab_size", 151_936),
        ("hidden_size", 4096),
        ("intermediate_size", 22_016),
        ("num_hidden_layers", 32),
        ("num_attention_heads", 32),
        ("num_key_value_heads", 32),
        ("head_dim", 128),
        ("max_position_embeddings", 32_768),
        ("max_window_layers", 28),
        ("sliding_window", 4096),
    ],
    config,
    weights,
};

fn config(hf: &HfConfig, name: &str) -> Result<ModelConfig> {
    Ok(ModelConfig { use_qk_norm: true, ..qwen_config(hf, name, "Qwen3ForCausalLM")? })
}

fn weights(checkpoint: &Checkpoint, cfg: &ModelConfig) -> WeightNames {
    base_weights(checkpoint, cfg, Layout::default())
}
