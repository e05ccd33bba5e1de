//! Gemma 2: Gemma with norms after attention and MLP as well, soft caps, and a sliding window in every other block.

use super::gemma::gemma_config;
use super::llama::{BlockNorms, Layout, base_weights};
use super::{Family, HfConfig};
use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::model::config::ModelConfig;
use crate::model::weights::WeightNames;

pub(super) const FAMILY: Family = Family {
    model_types: &["gemma2"],
    aliases: &[],
    defaults: &[
        ("vocab_size", 256_000),
        ("hidden_size", 2304),
        ("intermediate_size", 9216),
        ("num_hidden_layers", 26),
        ("num_attention_heads", 8),
        ("num_key_value_heads", 4),
        ("head_dim", 256),
        ("max_position_embeddings", 8192),
        ("sliding_window", 4096),
    ],
    config,
    weights,
};

fn config(hf: &HfConfig, name: &str) -> Result<ModelConfig> {
    let base = gemma_config(hf, name, "Gemma2ForCausalLM")?;
    let window_size = hf.optional_size("sliding_window")?;
    Ok(ModelConfig {
        attn_scale: hf.number("query_pre_attn_scalar", 256.0)?.sqrt(),
        attn_scores_soft_cap: hf.nullable_number("attn_logit_softcapping", Some(50.0))?,
        output_logits_soft_cap: hf.nullable_number("final_logit_softcapping", Some(30.0))?,
        window_size,
        attn_types: hf.attention_types(base.n_layers, window_size, |i| i.is_multiple_of(2))?,
        use_post_norm: true,
        ..base
    })
}

/// Also used for Gemma 3.
pub(super) fn weights(checkpoint: &Checkpoint, cfg: &ModelConfig) -> WeightNames {
    base_weights(checkpoint, cfg, Layout { minus_one: true, norms: BlockNorms::PreAndPost })
}
