//! Gemma 3, the text model: Gemma 2 with norms of queries and keys instead of soft caps, a sliding window in all blocks
//! but every sixth, and another rotary base in those. The multimodal checkpoints hold it beside a vision model.

use super::gemma::gemma_config;
use super::{Family, HfConfig, gemma2};
use crate::error::Result;
use crate::model::config::{ModelConfig, PositionalEmbedding};

pub(super) const FAMILY: Family =
    Family { model_types: &["gemma3_text", "gemma3"], config, weights: gemma2::weights };

/// What a multimodal checkpoint's `text_config` leaves to transformers' defaults.
const DEFAULTS: [(&str, u64); 8] = [
    ("vocab_size", 262_208),
    ("hidden_size", 2304),
    ("intermediate_size", 9216),
    ("num_hidden_layers", 26),
    ("num_attention_heads", 8),
    ("num_key_value_heads", 4),
    ("head_dim", 256),
    ("max_position_embeddings", 131_072),
];

fn config(hf: &HfConfig, name: &str) -> Result<ModelConfig> {
    if let Some(mut text) = hf.object("text_config")? {
        for (key, value) in DEFAULTS {
            text.values.entry(key).or_insert(value.into());
        }
        return config(&text, name);
    }
    if hf.flag("use_bidirectional_attention", false)? {
        return Err(hf.missing("use_bidirectional_attention", "false: only causal models are run"));
    }
    let base = gemma_config(hf, name, "Gemma3ForCausalLM")?;
    let mut rotary = hf.rotary(base.d_head, 1_000_000.0, 1.0)?;
    let sliding = match hf.object("rope_parameters")? {
        Some(rope) => rope.object("sliding_attention")?,
        None => None,
    };
    rotary.rotary_base_local = Some(match sliding {
        Some(sliding) => sliding.number("rope_theta", 10_000.0)?,
        None => hf.number("rope_local_base_freq", 10_000.0)?,
    });
    let every = match hf.optional_size("sliding_window_pattern")? {
        Some(every) => every,
        None => hf.optional_size("_sliding_window_pattern")?.unwrap_or(6),
    };
    Ok(ModelConfig {
        positional_embedding: PositionalEmbedding::Rotary(rotary),
        attn_scale: hf.number("query_pre_attn_scalar", 256.0)?.sqrt(),
        attn_scores_soft_cap: hf.nullable_number("attn_logit_softcapping", None)?,
        output_logits_soft_cap: hf.nullable_number("final_logit_softcapping", None)?,
        window_size: Some(hf.optional_size("sliding_window")?.unwrap_or(4096)),
        attn_types: hf.attention_types(base.n_layers, |i| !(i + 1).is_multiple_of(every))?,
        use_post_norm: true,
        use_qk_norm: true,
        ..base
    })
}
