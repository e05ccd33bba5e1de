//! GPT-2 (gpt2, -medium, -large, -xl, distilgpt2): learned positions, LayerNorm before attention and MLP, one matrix
//! for queries, keys and values, and weights stored as `[in, out]` (Hugging Face's `Conv1D`).

use super::layout::Layout;
use super::{Family, HfConfig, llama};
use crate::error::Result;
use crate::model::config::{ActivationFunction, ModelConfig, NormKind};

pub(super) const FAMILY: Family = Family {
    model_types: &["gpt2"],
    aliases: &[
        ("hidden_size", "n_embd"),
        ("max_position_embeddings", "n_positions"),
        ("num_attention_heads", "n_head"),
        ("num_hidden_layers", "n_layer"),
    ],
    defaults: &[
        ("vocab_size", 50_257),
        ("n_embd", 768),
        ("n_layer", 12),
        ("n_head", 12),
        ("n_positions", 1024),
    ],
    extends: None,
    config,
    layout: LAYOUT,
};

pub(super) const LAYOUT: Layout = Layout {
    // The first checkpoints were saved from the bare transformer, later ones from the model around it.
    prefixes: &["transformer.", ""],
    embed: "wte",
    pos_embed: Some("wpe"),
    blocks: "h",
    norms: [Some("ln_1"), None, Some("ln_2"), None],
    qkv: &["attn.c_attn"],
    attn_out: "attn.c_proj",
    mlp_in: &["mlp.c_fc"],
    mlp_out: "mlp.c_proj",
    conv1d: true,
    ln_final: "ln_f",
    ..llama::LAYOUT
};

fn config(hf: &HfConfig, name: &str) -> Result<ModelConfig> {
    let base = hf.sizes(name, "GPT2LMHeadModel", ["n_embd", "n_head", "n_layer", "n_positions"])?;
    let scaled = hf.flag("scale_attn_weights", true)?;
    Ok(ModelConfig {
        attn_scale: if scaled { base.attn_scale } else { 1.0 },
        scale_attn_by_inverse_layer_idx: hf.flag("scale_attn_by_inverse_layer_idx", false)?,
        ..gpt_config(hf, base, "n_inner")?
    })
}

/// What GPT-2 and GPT-Neo have in common, where `d_mlp` is the key of that size.
pub(super) fn gpt_config(hf: &HfConfig, base: ModelConfig, d_mlp: &str) -> Result<ModelConfig> {
    Ok(ModelConfig {
        d_mlp: hf.optional_size(d_mlp)?.unwrap_or(4 * base.d_model),
        act_fn: hf.activation(&["activation_function"], ActivationFunction::GeluNew)?,
        gated_mlp: false,
        normalization_type: NormKind::LayerNorm,
        eps: hf.number("layer_norm_epsilon", 1e-5)?,
        tie_word_embeddings: hf.flag("tie_word_embeddings", true)?,
        ..base
    })
}
