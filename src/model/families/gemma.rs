//! Gemma: Llama with scaled embeddings, norms stored less one, and GELU in the MLP.

use super::layout::Layout;
use super::llama::{self, base_config};
use super::{Family, HfConfig};
use crate::error::Result;
use crate::model::config::{ActivationFunction, ModelConfig};

pub(super) const FAMILY: Family = Family {
    model_types: &["gemma"],
    defaults: &[
        ("vocab_size", 256_000),
        ("hidden_size", 3072),
        ("intermediate_size", 24_576),
        ("num_hidden_layers", 28),
        ("num_attention_heads", 16),
        ("num_key_value_heads", 16),
        ("head_dim", 256),
        ("max_position_embeddings", 8192),
    ],
    config,
    layout: Layout { minus_one: true, ..llama::LAYOUT },
    ..llama::FAMILY
};

fn config(hf: &HfConfig, name: &str) -> Result<ModelConfig> {
    let base = gemma_config(hf, name, "GemmaForCausalLM")?;
    // The first configs say `hidden_act: gelu`, which was a mistake: the models were trained with the tanh form.
    let act_fn =
        match (hf.optional_string("hidden_activation")?, hf.activation(&["hidden_act"], base.act_fn)?) {
            (None, act_fn) if act_fn != ActivationFunction::Gelu => act_fn,
            _ => base.act_fn,
        };
    Ok(ModelConfig { act_fn, ..base })
}

/// What all Gemmas have in common.
pub(super) fn gemma_config(hf: &HfConfig, name: &str, architecture: &str) -> Result<ModelConfig> {
    if hf.flag("use_bidirectional_attention", false)? {
        return Err(hf.missing("use_bidirectional_attention", "false, as only causal models are supported"));
    }
    let base = base_config(hf, name, architecture)?;
    Ok(ModelConfig {
        act_fn: hf.activation(&["hidden_activation"], ActivationFunction::GeluNew)?,
        embed_scale: (base.d_model as f64).sqrt(),
        tie_word_embeddings: hf.flag("tie_word_embeddings", true)?,
        ..base
    })
}
