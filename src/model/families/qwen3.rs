//! Qwen 3: Qwen 2 without biases, with norms of each head's queries and keys.

use super::qwen2::{self, qwen_config};
use super::{Family, HfConfig};
use crate::error::Result;
use crate::model::config::ModelConfig;

pub(super) const FAMILY: Family = Family {
    model_types: &["qwen3"],
    defaults: &[("head_dim", 128)],
    extends: Some(&qwen2::FAMILY),
    config,
    ..qwen2::FAMILY
};

fn config(hf: &HfConfig, name: &str) -> Result<ModelConfig> {
    Ok(ModelConfig { use_qk_norm: true, ..qwen_config(hf, name, "Qwen3ForCausalLM")? })
}
