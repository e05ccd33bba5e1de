//! OLMo: Llama with LayerNorms that have no weights, and queries, keys and values that are clipped.

use super::llama::{BlockNorms, Layout, base_config, base_weights};
use super::{Family, HfConfig};
use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::model::config::{ModelConfig, NormKind};
use crate::model::weights::WeightNames;

pub(super) const FAMILY: Family =
    Family { model_types: &["olmo"], aliases: &[], defaults: &DEFAULTS, config, weights };

/// Also used for OLMo 2.
pub(super) const DEFAULTS: [(&str, u64); 6] = [
    ("vocab_size", 50_304),
    ("hidden_size", 4096),
    ("intermediate_size", 11_008),
    ("num_hidden_layers", 32),
    ("num_attention_heads", 32),
    ("max_position_embeddings", 2048),
];

fn config(hf: &HfConfig, name: &str) -> Result<ModelConfig> {
    Ok(ModelConfig {
        normalization_type: NormKind::LayerNorm,
        eps: 1e-5,
        clip_qkv: hf.nullable_number("clip_qkv", None)?,
        ..base_config(hf, name, "OlmoForCausalLM")?
    })
}

fn weights(checkpoint: &Checkpoint, cfg: &ModelConfig) -> WeightNames {
    base_weights(checkpoint, cfg, Layout { norms: BlockNorms::Weightless, ..Layout::default() })
}
