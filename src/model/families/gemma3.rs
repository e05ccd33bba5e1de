//! Gemma 3, the text model: Gemma 2 with norms of queries and keys instead of soft caps, a sliding window in all blocks
//! but every sixth, and another rotary base in those. Multimodal checkpoints also contain a vision model.

use super::gemma::gemma_config;
use super::{Family, HfConfig, RotaryKeys, gemma2};
use crate::error::Result;
use crate::model::config::{ModelConfig, PositionalEmbedding};

pub(super) const FAMILY: Family = Family {
    model_types: &["gemma3_text", "gemma3"],
    defaults: &[("vocab_size", 262_208), ("max_position_embeddings", 131_072)],
    extends: Some(&gemma2::FAMILY),
    config,
    ..gemma2::FAMILY
};

fn config(hf: &HfConfig, name: &str) -> Result<ModelConfig> {
    if let Some(text) = hf.object("text_config")? {
        return config(&text.completed(&FAMILY), name);
    }
    let base = gemma_config(hf, name, "Gemma3ForCausalLM")?;
    // Each kind of block has its own parameters; the scaling of transformers 4 is for the global blocks.
    let parameters = hf.object("rope_parameters")?;
    let of = |kind: &str| parameters.as_ref().map(|parameters| parameters.object(kind)).transpose();
    let (mut global, local) = (of("full_attention")?.flatten(), of("sliding_attention")?.flatten());
    if let Some(old) = hf.object("rope_scaling")? {
        match &mut global {
            Some(global) => global.values.extend(old.values),
            None => global = Some(old),
        }
    }
    let keys = RotaryKeys { default_base: 1_000_000.0, ..RotaryKeys::default() };
    let mut rotary = hf.rotary_by(global.as_ref(), base.d_head, &keys)?;
    let keys = RotaryKeys { base: "rope_local_base_freq", ..RotaryKeys::default() };
    let local = hf.rotary_by(local.as_ref(), base.d_head, &keys)?;
    rotary.rotary_base_local = Some(local.rotary_base);
    let window_size = hf.optional_size("sliding_window")?;
    let every = match hf.optional_size("sliding_window_pattern")? {
        Some(every) => every,
        None => hf.optional_size("_sliding_window_pattern")?.unwrap_or(6),
    };
    Ok(ModelConfig {
        positional_embedding: PositionalEmbedding::Rotary(rotary),
        attn_scale: hf.number("query_pre_attn_scalar", 256.0)?.sqrt(),
        attn_scores_soft_cap: hf.optional_number("attn_logit_softcapping")?,
        output_logits_soft_cap: hf.optional_number("final_logit_softcapping")?,
        window_size,
        attn_types: hf.attention_types(base.n_layers, window_size, |i| !(i + 1).is_multiple_of(every))?,
        use_post_norm: true,
        use_qk_norm: true,
        ..base
    })
}
