//! Phi 1, 1.5 and 2: attention and MLP in parallel after one norm, and a bias of the logits.

use super::llama::base_config;
use super::{Family, HfConfig, RotaryKeys, prefix};
use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::model::config::{ActivationFunction, ModelConfig, NormKind, PositionalEmbedding};
use crate::model::weights::{BlockNames, LinearNames, NormNames, QkvNames, WeightNames};

pub(super) const FAMILY: Family = Family {
    model_types: &["phi"],
    aliases: &[],
    defaults: &[
        ("vocab_size", 51_200),
        ("hidden_size", 2048),
        ("intermediate_size", 8192),
        ("num_hidden_layers", 24),
        ("num_attention_heads", 32),
        ("max_position_embeddings", 2048),
    ],
    config,
    weights,
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

fn weights(checkpoint: &Checkpoint, cfg: &ModelConfig) -> WeightNames {
    let prefix = prefix(checkpoint, &["model.", ""], "layers.0.");
    let norm = |name: String| NormNames::new(&name);
    let linear = |name: String| LinearNames::new(checkpoint, &name);
    let block = |i: usize| {
        let block = format!("{prefix}layers.{i}");
        let attention = format!("{block}.self_attn");
        let qk_norm = |x: &str| cfg.use_qk_norm.then(|| norm(format!("{attention}.{x}_layernorm")));
        // Attention and MLP read the same norm: here each has a copy, as in TransformerLens.
        let ln = || Some(norm(format!("{block}.input_layernorm")));
        BlockNames {
            ln1: ln(),
            qkv: QkvNames::Separate(["q", "k", "v"].map(|x| linear(format!("{attention}.{x}_proj")))),
            q_norm: qk_norm("q"),
            k_norm: qk_norm("k"),
            attn_out: linear(format!("{attention}.dense")),
            ln1_post: None,
            ln2: ln(),
            mlp_in: vec![linear(format!("{block}.mlp.fc1"))],
            mlp_out: linear(format!("{block}.mlp.fc2")),
            ln2_post: None,
        }
    };
    WeightNames {
        embed: format!("{prefix}embed_tokens.weight"),
        pos_embed: None,
        blocks: (0..cfg.n_layers).map(block).collect(),
        ln_final: norm(format!("{prefix}final_layernorm")),
        unembed: "lm_head.weight".to_owned(),
        unembed_bias: Some("lm_head.bias".to_owned()),
    }
}
