//! OLMo 2: Llama with norms only after attention and MLP, and of the queries and keys of all heads together.

use super::layout::Layout;
use super::llama::{self, base_config};
use super::{Family, HfConfig, olmo};
use crate::error::Result;
use crate::model::config::ModelConfig;

pub(super) const FAMILY: Family = Family {
    model_types: &["olmo2"],
    config,
    layout: Layout {
        norms: [None, Some("post_attention_layernorm"), None, Some("post_feedforward_layernorm")],
        ..llama::LAYOUT
    },
    ..olmo::FAMILY
};

fn config(hf: &HfConfig, name: &str) -> Result<ModelConfig> {
    Ok(ModelConfig {
        eps: hf.number("rms_norm_eps", 1e-5)?,
        use_pre_norm: false,
        use_post_norm: true,
        use_qk_norm: true,
        ..base_config(hf, name, "Olmo2ForCausalLM")?
    })
}
