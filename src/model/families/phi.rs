//! Phi 1, 1.5 and 2: attention and MLP in parallel after one norm, and a bias of the logits.

use super::layout::Layout;
use super::llama::{self, base_config};
use super::{Family, HfConfig, RotaryKeys};
use crate::error::Result;
use crate::model::config::{ActivationFunction, ModelConfig, NormKind, PositionalEmbedding};

pub(super) const FAMILY: Family = Family {
    model_types: &["phi"],
    defaults: &[
        ("vocab_size", 51_200),
        ("hidden_size", 2048),
        ("intermediate_size", 8192),
        ("num_hidden_layers", 24),
    ],
    extends: Some(&llama::FAMILY),
    config,
    layout: Layout {
        prefixes: &["model.", ""],
        // Attention and MLP read the same norm: here each has a copy, as in TransformerLens.
        norms: [Some("input_layernorm"), None, Some("input_layernorm"), None],
        qk_norms: ["self_attn.q_layernorm", "self_attn.k_layernorm"],
        attn_out: "self_attn.dense",
        mlp_in: &["mlp.fc1"],
        mlp_out: "mlp.fc2",
        ln_final: "final_layernorm",
        unembed_bias: true,
        ..llama::LAYOUT
    },
    ..llama::FAMILY
};

fn config(hf: &HfConfig, name: &str) -> Result<ModelConfig> {
    let base = base_config(hf, name, "PhiForCausalLM")?;
    let keys = RotaryKeys { share: Some(("partial_rotary_factor", 0.5)), ..RotaryKeys::default() };
    Ok(ModelConfig {
        act_fn: hf.activation(&["hidden_act"], ActivationFunction::GeluNew)?,
        gated_mlp: false,
        normalization_type: NormKind::LayerNorm,
        eps: hf.number("layer_norm_eps", 1e-5)?,
        use_qk_norm: hf.flag("qk_layernorm", false)?,
        parallel_attn_mlp: true,
        positional_embedding: PositionalEmbedding::Rotary(hf.rotary(base.d_head, &keys)?),
        default_prepend_bos: false,
        ..base
    })
}
