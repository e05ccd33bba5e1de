//! GPT-2 (gpt2, -medium, -large, -xl, distilgpt2): learned positions, LayerNorm before attention and MLP, one matrix
//! for queries, keys and values, and weights stored as `[in, out]` (Hugging Face's `Conv1D`).

use super::{Family, HfConfig, prefix};
use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::model::config::{ActivationFunction, ModelConfig, NormKind, PositionalEmbedding};
use crate::model::weights::{BlockNames, LinearNames, NormNames, QkvNames, WeightNames};

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
    config,
    weights,
};

fn config(hf: &HfConfig, name: &str) -> Result<ModelConfig> {
    let d_model = hf.size("n_embd")?;
    let n_heads = hf.size("n_head")?;
    let n_layers = hf.layers("n_layer")?;
    let d_head = hf.head_size(d_model, "n_head", n_heads)?;
    Ok(ModelConfig {
        d_mlp: hf.optional_size("n_inner")?.unwrap_or(4 * d_model),
        d_vocab: hf.size("vocab_size")?,
        n_ctx: hf.size("n_positions")?,
        act_fn: hf.activation(&["activation_function"], ActivationFunction::GeluNew)?,
        gated_mlp: false,
        normalization_type: NormKind::LayerNorm,
        eps: hf.number("layer_norm_epsilon", 1e-5)?,
        positional_embedding: PositionalEmbedding::Standard,
        attn_scale: if hf.flag("scale_attn_weights", true)? { (d_head as f64).sqrt() } else { 1.0 },
        scale_attn_by_inverse_layer_idx: hf.flag("scale_attn_by_inverse_layer_idx", false)?,
        tie_word_embeddings: hf.flag("tie_word_embeddings", true)?,
        ..ModelConfig::new(name, hf.architecture("GPT2LMHeadModel"), d_model, n_layers, n_heads, d_head)
    })
}

fn weights(checkpoint: &Checkpoint, cfg: &ModelConfig) -> WeightNames {
    // The first checkpoints were saved from the bare transformer, later ones from the model around it.
    let prefix = prefix(checkpoint, &["transformer.", ""], "h.0.");
    let norm = |name: &str| NormNames::new(&format!("{prefix}{name}"));
    let linear = |name: &str| LinearNames {
        weight: format!("{prefix}{name}.weight"),
        bias: Some(format!("{prefix}{name}.bias")),
        in_first: true,
    };
    let block = |i: usize| BlockNames {
        ln1: Some(norm(&format!("h.{i}.ln_1"))),
        qkv: QkvNames::Joined(linear(&format!("h.{i}.attn.c_attn"))),
        q_norm: None,
        k_norm: None,
        attn_out: linear(&format!("h.{i}.attn.c_proj")),
        ln1_post: None,
        ln2: Some(norm(&format!("h.{i}.ln_2"))),
        mlp_in: vec![linear(&format!("h.{i}.mlp.c_fc"))],
        mlp_out: linear(&format!("h.{i}.mlp.c_proj")),
        ln2_post: None,
    };
    WeightNames {
        embed: format!("{prefix}wte.weight"),
        pos_embed: Some(format!("{prefix}wpe.weight")),
        blocks: (0..cfg.n_layers).map(block).collect(),
        ln_final: norm("ln_f"),
        unembed: "lm_head.weight".to_owned(),
        unembed_bias: None,
    }
}
