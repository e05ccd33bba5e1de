//! Llama 2, 3 and 3.x, the base of Mistral, Qwen, Gemma and OLMo: rotary embeddings, RMS norms, queries that share
//! keys, a gated MLP, and separate matrices for queries, keys and values.

use super::{Family, HfConfig, RotaryKeys, prefix};
use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::model::config::{ActivationFunction, ModelConfig, PositionalEmbedding};
use crate::model::weights::{BlockNames, LinearNames, NormNames, QkvNames, WeightNames};

pub(super) const FAMILY: Family = Family {
    model_types: &["llama"],
    aliases: &[],
    defaults: &[
        ("vocab_size", 32_000),
        ("hidden_size", 4096),
        ("intermediate_size", 11_008),
        ("num_hidden_layers", 32),
        ("num_attention_heads", 32),
        ("max_position_embeddings", 2048),
    ],
    config,
    weights,
};

fn config(hf: &HfConfig, name: &str) -> Result<ModelConfig> {
    base_config(hf, name, "LlamaForCausalLM")
}

fn weights(checkpoint: &Checkpoint, cfg: &ModelConfig) -> WeightNames {
    base_weights(checkpoint, cfg, Layout::default())
}

/// The configuration of a Llama-like model, for a family to change.
pub(super) fn base_config(hf: &HfConfig, name: &str, architecture: &str) -> Result<ModelConfig> {
    let d_model = hf.size("hidden_size")?;
    let n_heads = hf.size("num_attention_heads")?;
    let n_layers = hf.layers("num_hidden_layers")?;
    let d_head = hf.head_size(d_model, "num_attention_heads", n_heads)?;
    let n_key_value_heads = hf.optional_size("num_key_value_heads")?.unwrap_or(n_heads);
    if !n_heads.is_multiple_of(n_key_value_heads) {
        return Err(hf.missing("num_key_value_heads", &format!("a divisor of n_heads = {n_heads}")));
    }
    Ok(ModelConfig {
        n_key_value_heads,
        d_mlp: hf.size("intermediate_size")?,
        d_vocab: hf.size("vocab_size")?,
        n_ctx: hf.size("max_position_embeddings")?,
        act_fn: hf.activation(&["hidden_act"], ActivationFunction::Silu)?,
        eps: hf.number("rms_norm_eps", 1e-6)?,
        positional_embedding: PositionalEmbedding::Rotary(hf.rotary(d_head, &RotaryKeys::default())?),
        tie_word_embeddings: hf.flag("tie_word_embeddings", false)?,
        ..ModelConfig::new(name, hf.architecture(architecture), d_model, n_layers, n_heads, d_head)
    })
}

/// The differences between the checkpoints of the families.
#[derive(Default)]
pub(super) struct Layout {
    /// Whether the stored weights of norms are the actual ones minus 1.
    pub(super) minus_one: bool,
    /// The norms of a block. Default: before attention and MLP.
    pub(super) norms: BlockNorms,
}

/// The norms of a block, relative to attention and MLP.
#[derive(Default)]
pub(super) enum BlockNorms {
    /// One before attention, and one before the MLP, which is called "post attention".
    #[default]
    Pre,
    /// One before and one after each.
    PreAndPost,
    /// One after each.
    Post,
    /// One before each, without weights.
    Weightless,
}

/// The names of the weights of a Llama-like model; a bias is used if the checkpoint has one.
pub(super) fn base_weights(checkpoint: &Checkpoint, cfg: &ModelConfig, layout: Layout) -> WeightNames {
    let prefixes = ["model.", "", "language_model.model.", "model.language_model."];
    let prefix = prefix(checkpoint, &prefixes, "layers.0.");
    let norm = |name: String| NormNames { bias: None, minus_one: layout.minus_one, ..NormNames::new(&name) };
    let linear = |name: String| LinearNames::new(checkpoint, &name);
    let block = |i: usize| {
        let block = format!("{prefix}layers.{i}");
        let norm_of = |name: &str| Some(norm(format!("{block}.{name}")));
        let qk_norm = |name: &str| norm_of(&format!("self_attn.{name}")).filter(|_| cfg.use_qk_norm);
        let (before_mlp, after_mlp) = ("pre_feedforward_layernorm", "post_feedforward_layernorm");
        let [ln1, ln1_post, ln2, ln2_post] = match layout.norms {
            BlockNorms::Pre => [norm_of("input_layernorm"), None, norm_of("post_attention_layernorm"), None],
            BlockNorms::PreAndPost => {
                ["input_layernorm", "post_attention_layernorm", before_mlp, after_mlp].map(norm_of)
            }
            BlockNorms::Post => [None, norm_of("post_attention_layernorm"), None, norm_of(after_mlp)],
            BlockNorms::Weightless => [Some(NormNames::default()), None, Some(NormNames::default()), None],
        };
        BlockNames {
            ln1,
            qkv: QkvNames::Separate(["q", "k", "v"].map(|x| linear(format!("{block}.self_attn.{x}_proj")))),
            q_norm: qk_norm("q_norm"),
            k_norm: qk_norm("k_norm"),
            attn_out: linear(format!("{block}.self_attn.o_proj")),
            ln1_post,
            ln2,
            mlp_in: ["gate", "up"].map(|x| linear(format!("{block}.mlp.{x}_proj"))).into(),
            mlp_out: linear(format!("{block}.mlp.down_proj")),
            ln2_post,
        }
    };
    WeightNames {
        embed: format!("{prefix}embed_tokens.weight"),
        pos_embed: None,
        blocks: (0..cfg.n_layers).map(block).collect(),
        ln_final: match layout.norms {
            BlockNorms::Weightless => NormNames::default(),
            _ => norm(format!("{prefix}norm")),
        },
        unembed: "lm_head.weight".to_owned(),
        unembed_bias: None,
    }
}
