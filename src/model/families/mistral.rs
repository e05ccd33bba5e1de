//! Mistral: Llama with a sliding window in every block.

use super::llama::{Layout, base_config, base_weights};
use super::{Family, HfConfig};
use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::model::config::ModelConfig;
use crate::model::weights::WeightNames;

pub(super) const FAMILY: Family = Family { model_types: &["mistral"], config, weights };

fn config(hf: &HfConfig, name: &str) -> Result<ModelConfig> {
    let base = base_config(hf, name, "MistralForCausalLM")?;
    // null is none; what is not there at all is transformers' default.
    let window_size = match hf.values.contains_key("sliding_window") {
        true => hf.optional_size("sliding_window")?,
        false => Some(4096),
    };
    let attn_types = hf.attention_types(base.n_layers, |_| window_size.is_some())?;
    Ok(ModelConfig { window_size, attn_types, ..base })
}

fn weights(checkpoint: &Checkpoint, cfg: &ModelConfig) -> WeightNames {
    base_weights(checkpoint, cfg, Layout::default())
}
