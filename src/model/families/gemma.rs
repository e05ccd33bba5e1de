//! Gemma: Llama with scaled embeddings, norms stored less one, and GELU in the MLP.

use super::llama::{Layout, base_config, base_weights};
use super::{Family, HfConfig};
use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::model::config::{Activation, ModelConfig};
use crate::model::weights::WeightNames;

pub(super) const FAMILY: Family = Family { model_types: &["gemma"], config, weights };

fn config(hf: &HfConfig, name: &str) -> Result<ModelConfig> {
    gemma_config(hf, name, "GemmaForCausalLM")
}

/// What all Gemmas have in common.
pub(super) fn gemma_config(hf: &HfConfig, name: &str, architecture: &str) -> Result<ModelConfig> {
    let base = base_config(hf, name, architecture)?;
    Ok(ModelConfig {
        // The first configs say `hidden_act: gelu`, which was a mistake: the models were trained with the tanh form.
        act_fn: hf.activation(&["hidden_activation"], Activation::GeluNew)?,
        embed_scale: (base.d_model as f64).sqrt(),
        tie_word_embeddings: hf.flag("tie_word_embeddings", true)?,
        ..base
    })
}

fn weights(checkpoint: &Checkpoint, cfg: &ModelConfig) -> WeightNames {
    base_weights(checkpoint, cfg, Layout { less_one: true, ..Layout::default() })
}
