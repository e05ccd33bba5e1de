//! GPT-NeoX (pythia): attention and MLP in parallel, rotary embeddings of a part of each head, and one matrix for
//! queries, keys and values, grouped by head.

use super::{Family, HfConfig, RotaryKeys, prefix};
use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::model::config::{ActivationFunction, ModelConfig, NormKind, PositionalEmbedding};
use crate::model::weights::{BlockNames, LinearNames, NormNames, QkvNames, WeightNames};

pub(super) const FAMILY: Family = Family {
    model_types: &["gpt_neox"],
    aliases: &[],
    defaults: &[
        ("vocab_size", 50_432),
        ("hidden_size", 6144),
        ("intermediate_size", 24_576),
        ("num_hidden_layers", 44),
        ("num_attention_heads", 64),
        ("max_position_embeddings", 2048),
    ],
    config,
    weights,
};

fn config(hf: &HfConfig, name: &str) -> Result<ModelConfig> {
    let d_model = hf.size("hidden_size")?;
    let n_heads = hf.size("num_attention_heads")?;
    let n_layers = hf.layers("num_hidden_layers")?;
    let d_head = hf.head_size(d_model, "num_attention_heads", n_heads)?;
    let keys =
        RotaryKeys { base: "rotary_emb_base", share: Some(("rotary_pct", 0.25)), ..RotaryKeys::default() };
    let base =
        ModelConfig::new(name, hf.architecture("GPTNeoXForCausalLM"), d_model, n_layers, n_heads, d_head);
    Ok(ModelConfig {
        d_mlp: hf.size("intermediate_size")?,
        d_vocab: hf.size("vocab_size")?,
        n_ctx: hf.size("max_position_embeddings")?,
        act_fn: hf.activation(&["hidden_act"], ActivationFunction::Gelu)?,
        gated_mlp: false,
        normalization_type: NormKind::LayerNorm,
        eps: hf.number("layer_norm_eps", 1e-5)?,
        parallel_attn_mlp: hf.flag("use_parallel_residual", true)?,
        positional_embedding: PositionalEmbedding::Rotary(hf.rotary(d_head, &keys)?),
        default_prepend_bos: false,
        tie_word_embeddings: hf.flag("tie_word_embeddings", false)?,
        ..base
    })
}

fn weights(checkpoint: &Checkpoint, cfg: &ModelConfig) -> WeightNames {
    let prefix = prefix(checkpoint, &["gpt_neox.", ""], "layers.0.");
    let norm = |name: String| NormNames::new(&name);
    let linear = |name: String| LinearNames::new(checkpoint, &name);
    let block = |i: usize| {
        let block = format!("{prefix}layers.{i}");
        BlockNames {
            ln1: Some(norm(format!("{block}.input_layernorm"))),
            qkv: QkvNames::Interleaved(linear(format!("{block}.attention.query_key_value"))),
            q_norm: None,
            k_norm: None,
            attn_out: linear(format!("{block}.attention.dense")),
            ln1_post: None,
            ln2: Some(norm(format!("{block}.post_attention_layernorm"))),
            mlp_in: vec![linear(format!("{block}.mlp.dense_h_to_4h"))],
            mlp_out: linear(format!("{block}.mlp.dense_4h_to_h")),
            ln2_post: None,
        }
    };
    WeightNames {
        embed: format!("{prefix}embed_in.weight"),
        pos_embed: None,
        blocks: (0..cfg.n_layers).map(block).collect(),
        ln_final: norm(format!("{prefix}final_layer_norm")),
        unembed: "embed_out.weight".to_owned(),
        unembed_bias: None,
    }
}
