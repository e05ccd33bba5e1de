//! Qwen 2 and 2.5: Llama with biases of queries, keys and values.

use super::llama::{Layout, base_config, base_weights};
use super::{Family, HfConfig};
use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::model::config::ModelConfig;
use crate::model::weights::WeightNames;

pub(super) const FAMILY: Family = Family { model_types: &["qwen2"], config, weights };

fn config(hf: &HfConfig, name: &str) -> Result<ModelConfig> {
    qwen_config(hf, name, "Qwen2ForCausalLM")
}

/// The upper blocks may have a sliding window; no published model uses it.
pub(super) fn qwen_config(hf: &HfConfig, name: &str, architecture: &str) -> Result<ModelConfig> {
    let base = base_config(hf, name, architecture)?;
    let slides = hf.flag("use_sliding_window", false)?;
    let first = hf.optional_size("max_window_layers")?.unwrap_or(28);
    Ok(ModelConfig {
        window_size: hf.optional_size("sliding_window")?.filter(|_| slides),
        attn_types: hf.attention_types(base.n_layers, |i| slides && i >= first)?,
        default_prepend_bos: false,
        ..base
    })
}

fn weights(checkpoint: &Checkpoint, cfg: &ModelConfig) -> WeightNames {
    base_weights(checkpoint, cfg, Layout::default())
}
