//! GPT-2 (gpt2, -medium, -large, -xl, distilgpt2): learned positions, LayerNorm before attention and MLP, one matrix for
//! queries, keys and values, and weights stored as `[in, out]` (Hugging Face's `Conv1D`).

use super::{Family, HfConfig};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::model::config::{Activation, ModelConfig};
use crate::model::weights::{BlockNames, LinearNames, NormNames, WeightNames};

pub(super) const FAMILY: Family = Family { model_types: &["gpt2"], config, weights };

fn config(hf: &HfConfig, name: &str) -> Result<ModelConfig> {
    let d_model = hf.size("n_embd")?;
    let n_heads = hf.size("n_head")?;
    if !d_model.is_multiple_of(n_heads) {
        return Err(hf.missing("n_head", &format!("a divisor of n_embd = {d_model}")));
    }
    let act_fn = hf.optional_text("activation_function")?.unwrap_or("gelu_new");
    Ok(ModelConfig {
        model_name: name.to_owned(),
        original_architecture: "GPT2LMHeadModel".to_owned(),
        d_model,
        n_layers: hf.size("n_layer")?,
        n_heads,
        d_head: d_model / n_heads,
        d_mlp: hf.optional_size("n_inner")?.unwrap_or(4 * d_model),
        d_vocab: hf.size("vocab_size")?,
        n_ctx: match hf.optional_size("n_positions")? {
            Some(n) => n,
            None => hf.size("n_ctx")?,
        },
        act_fn: Activation::from_name(act_fn)
            .ok_or_else(|| Error::unknown("activation function", act_fn, Activation::NAMES))?,
        eps: hf.number("layer_norm_epsilon", 1e-5)?,
        use_attn_scale: hf.flag("scale_attn_weights", true)?,
        scale_attn_by_inverse_layer_idx: hf.flag("scale_attn_by_inverse_layer_idx", false)?,
        default_prepend_bos: true,
        tie_word_embeddings: hf.flag("tie_word_embeddings", true)?,
    })
}

fn weights(checkpoint: &Checkpoint, cfg: &ModelConfig) -> WeightNames {
    // The first checkpoints were saved from the bare transformer, later ones from the model around it.
    let prefix = if checkpoint.shape("transformer.wte.weight").is_some() { "transformer." } else { "" };
    let norm = |name: &str| NormNames {
        weight: format!("{prefix}{name}.weight"),
        bias: format!("{prefix}{name}.bias"),
    };
    let linear = |name: &str| LinearNames {
        weight: format!("{prefix}{name}.weight"),
        bias: format!("{prefix}{name}.bias"),
        in_first: true,
    };
    let block = |i: usize| BlockNames {
        ln1: norm(&format!("h.{i}.ln_1")),
        qkv: linear(&format!("h.{i}.attn.c_attn")),
        attn_out: linear(&format!("h.{i}.attn.c_proj")),
        ln2: norm(&format!("h.{i}.ln_2")),
        mlp_in: linear(&format!("h.{i}.mlp.c_fc")),
        mlp_out: linear(&format!("h.{i}.mlp.c_proj")),
    };
    WeightNames {
        embed: format!("{prefix}wte.weight"),
        pos_embed: format!("{prefix}wpe.weight"),
        blocks: (0..cfg.n_layers).map(block).collect(),
        ln_final: norm("ln_f"),
        unembed: (!cfg.tie_word_embeddings).then(|| "lm_head.weight".to_owned()),
    }
}
