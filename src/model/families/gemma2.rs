//! Gemma 2: Gemma with norms after attention and MLP as well, soft caps, and a sliding window in every other block.

use super::gemma::{self, gemma_config};
use super::layout::Layout;
use super::{Family, HfConfig};
use crate::error::Result;
use crate::model::config::ModelConfig;

pub(super) const FAMILY: Family = Family {
    model_types: &["gemma2"],
    defaults: &[
        ("hidden_size", 2304),
        ("intermediate_size", 9216),
        ("num_hidden_layers", 26),
        ("num_attention_heads", 8),
        ("num_key_value_heads", 4),
        ("sliding_window", 4096),
    ],
    extends: Some(&gemma::FAMILY),
    config,
    layout: Layout {
        norms: [
            Some("input_layernorm"),
            Some("post_attention_layernorm"),
            Some("pre_feedforward_layernorm"),
            Some("post_feedforward_layernorm"),
        ],
        ..gemma::FAMILY.layout
    },
    ..gemma::FAMILY
};

fn config(hf: &HfConfig, name: &str) -> Result<ModelConfig> {
    let base = gemma_config(hf, name, "Gemma2ForCausalLM")?;
    let window_size = hf.optional_size("sliding_window")?;
    Ok(ModelConfig {
        attn_scale: hf.number("query_pre_attn_scalar", 256.0)?.sqrt(),
        attn_scores_soft_cap: hf.nullable_number("attn_logit_softcapping", 50.0)?,
        output_logits_soft_cap: hf.nullable_number("final_logit_softcapping", 30.0)?,
        window_size,
        attn_types: hf.attention_types(base.n_layers, window_size, |i| i.is_multiple_of(2))?,
        use_post_norm: true,
        ..base
    })
}
