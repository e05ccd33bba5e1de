//! OLMo: Llama with LayerNorms that have no weights, and queries, keys and values that are clipped.

use super::layout::Layout;
use super::llama::{self, base_config};
use super::{Family, HfConfig};
use crate::error::Result;
use crate::model::config::{ModelConfig, NormKind};

pub(super) const FAMILY: Family = Family {
    model_types: &["olmo"],
    defaults: &[("vocab_size", 50_304)],
    extends: Some(&llama::FAMILY),
    config,
    layout: Layout { weightless: true, ..llama::LAYOUT },
    ..llama::FAMILY
};

fn config(hf: &HfConfig, name: &str) -> Result<ModelConfig> {
    Ok(ModelConfig {
        normalization_type: NormKind::LayerNorm,
        eps: 1e-5,
        clip_qkv: hf.optional_number("clip_qkv")?,
        ..base_config(hf, name, "OlmoForCausalLM")?
    })
}
