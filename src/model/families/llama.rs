//! Llama 2, 3 and 3.x, the base of Mistral, Qwen, Gemma and OLMo: rotary embeddings, RMS norms, queries that share
//! keys, a gated MLP, and separate matrices for queries, keys and values.

use super::layout::Layout;
use super::{Family, HfConfig, RotaryKeys};
use crate::error::Result;
use crate::model::config::{ActivationFunction, ModelConfig, PositionalEmbedding};

pub(super) const FAMILY: Family = Family {
    model_types: &["llama"],
    aliases: &[],
    defaults: &[
        ("vocab_size", 32_000),
        ("hidden_size", 4096),
        ("intermediate_size", 11_008),
        ("num_hidden_layers", 32),
        ("num_attention_heads", 32),
        ("max_position_embeddings", 2048),
    ],
    extends: None,
    config,
    layout: LAYOUT,
};

pub(super) const LAYOUT: Layout = Layout {
    prefixes: &["model.", "", "language_model.model.", "model.language_model."],
    embed: "embed_tokens",
    pos_embed: None,
    blocks: "layers",
    norms: [Some("input_layernorm"), None, Some("post_attention_layernorm"), None],
    minus_one: false,
    weightless: false,
    qkv: &["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"],
    qkv_by_head: false,
    qk_norms: ["self_attn.q_norm", "self_attn.k_norm"],
    attn_out: "self_attn.o_proj",
    mlp_in: &["mlp.gate_proj", "mlp.up_proj"],
    mlp_out: "mlp.down_proj",
    conv1d: false,
    ln_final: "norm",
    unembed: "lm_head",
    unembed_bias: false,
};

/// The keys for [`HfConfig::sizes`].
pub(super) const SIZES: [&str; 4] =
    ["hidden_size", "num_attention_heads", "num_hidden_layers", "max_position_embeddings"];

fn config(hf: &HfConfig, name: &str) -> Result<ModelConfig> {
    base_config(hf, name, "LlamaForCausalLM")
}

/// The configuration of a Llama-like model, for a family to change.
pub(super) fn base_config(hf: &HfConfig, name: &str, architecture: &str) -> Result<ModelConfig> {
    let base = hf.sizes(name, architecture, SIZES)?;
    let n_heads = base.n_heads;
    let n_key_value_heads = hf.optional_size("num_key_value_heads")?.unwrap_or(n_heads);
    if !n_heads.is_multiple_of(n_key_value_heads) {
        return Err(hf.missing("num_key_value_heads", &format!("a divisor of n_heads = {n_heads}")));
    }
    Ok(ModelConfig {
        n_key_value_heads,
        d_mlp: hf.size("intermediate_size")?,
        act_fn: hf.activation(&["hidden_act"], ActivationFunction::Silu)?,
        eps: hf.number("rms_norm_eps", 1e-6)?,
        positional_embedding: PositionalEmbedding::Rotary(hf.rotary(base.d_head, &RotaryKeys::default())?),
        tie_word_embeddings: hf.flag("tie_word_embeddings", false)?,
        ..base
    })
}
