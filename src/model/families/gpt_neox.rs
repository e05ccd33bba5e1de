//! GPT-NeoX (pythia): attention and MLP in parallel, rotary embeddings of a part of each head, and one matrix for
//! queries, keys and values, grouped by head.

use super::layout::Layout;
use super::{Family, HfConfig, RotaryKeys, llama};
use crate::error::Result;
use crate::model::config::{ActivationFunction, ModelConfig, NormKind, PositionalEmbedding};

pub(super) const FAMILY: Family = Family {
    model_types: &["gpt_neox"],
    defaults: &[
        ("vocab_size", 50_432),
        ("hidden_size", 6144),
        ("intermediate_size", 24_576),
        ("num_hidden_layers", 44),
        ("num_attention_heads", 64),
        ("max_position_embeddings", 2048),
    ],
    config,
    layout: Layout {
        prefixes: &["gpt_neox.", ""],
        embed: "embed_in",
        qkv: &["attention.query_key_value"],
        qkv_by_head: true,
        attn_out: "attention.dense",
        mlp_in: &["mlp.dense_h_to_4h"],
        mlp_out: "mlp.dense_4h_to_h",
        ln_final: "final_layer_norm",
        unembed: "embed_out",
        ..llama::LAYOUT
    },
    ..llama::FAMILY
};

fn config(hf: &HfConfig, name: &str) -> Result<ModelConfig> {
    let base = hf.sizes(name, "GPTNeoXForCausalLM", llama::SIZES)?;
    let keys =
        RotaryKeys { base: "rotary_emb_base", share: Some(("rotary_pct", 0.25)), ..RotaryKeys::default() };
    Ok(ModelConfig {
        d_mlp: hf.size("intermediate_size")?,
        act_fn: hf.activation(&["hidden_act"], ActivationFunction::Gelu)?,
        gated_mlp: false,
        normalization_type: NormKind::LayerNorm,
        eps: hf.number("layer_norm_eps", 1e-5)?,
        parallel_attn_mlp: hf.flag("use_parallel_residual", true)?,
        positional_embedding: PositionalEmbedding::Rotary(hf.rotary(base.d_head, &keys)?),
        default_prepend_bos: false,
        tie_word_embeddings: hf.flag("tie_word_embeddings", false)?,
        ..base
    })
}
