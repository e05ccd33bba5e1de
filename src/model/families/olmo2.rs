//! OLMo 2: Llama with norms only after attention and MLP, and of the queries and keys of all heads together.

use super::llama::{BlockNorms, Layout, base_config, base_weights};
use super::{Family, HfConfig, olmo};
use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::model::config::ModelConfig;
use crate::model::weights::WeightNames;

pub(super) const FAMILY: Family =
    Family { model_types: &["olmo2"], aliases: &[], defaults: &olmo::DEFAULTS, config, weights };

fn config(hf: &HfConfig, name: &str) -> Result<ModelConfig> {
    Ok(ModelConfig {
        eps: hf.number("rms_norm_eps", 1e-5)?,
        use_pre_norm: false,
        use_post_norm: true,
        use_qk_norm: true,
        ..base_config(hf, name, "Olmo2ForCausalLM")?
    })
}

fn weights(checkpoint: &Checkpoint, cfg: &ModelConfig) -> WeightNames {
    base_weights(checkpoint, cfg, Layout { norms: BlockNorms::Post, ..Layout::default() })
}
