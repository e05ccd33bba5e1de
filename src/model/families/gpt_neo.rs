//! GPT-Neo (TinyStories, gpt-neo-125M and larger): GPT-2 with separate matrices for queries, keys and values, scores
//! that are not scaled, and local blocks that see only a few hundred tokens.

use super::{Family, HfConfig, prefix};
use crate::checkpoint::Checkpoint;
use crate::error::Result;
use crate::model::config::{ActivationFunction, AttentionType, ModelConfig, NormKind, PositionalEmbedding};
use crate::model::weights::{BlockNames, LinearNames, NormNames, QkvNames, WeightNames};
use serde_json::Value;

pub(super) const FAMILY: Family = Family {
    model_types: &["gpt_neo"],
    aliases: &[("num_attention_heads", "num_heads"), ("num_hidden_layers", "num_layers")],
    defaults: &[
        ("vocab_size", 50_257),
        ("hidden_size", 2048),
        ("num_layers", 24),
        ("num_heads", 16),
        ("max_position_embeddings", 2048),
        ("window_size", 256),
    ],
    config,
    weights,
};

fn config(hf: &HfConfig, name: &str) -> Result<ModelConfig> {
    let d_model = hf.size("hidden_size")?;
    let n_heads = hf.size("num_heads")?;
    let n_layers = hf.layers("num_layers")?;
    let d_head = hf.head_size(d_model, "num_heads", n_heads)?;
    Ok(ModelConfig {
        d_mlp: hf.optional_size("intermediate_size")?.unwrap_or(4 * d_model),
        d_vocab: hf.size("vocab_size")?,
        n_ctx: hf.size("max_position_embeddings")?,
        act_fn: hf.activation(&["activation_function"], ActivationFunction::GeluNew)?,
        gated_mlp: false,
        normalization_type: NormKind::LayerNorm,
        eps: hf.number("layer_norm_epsilon", 1e-5)?,
        positional_embedding: PositionalEmbedding::Standard,
        attn_scale: 1.0,
        window_size: Some(hf.size("window_size")?),
        attn_types: attention_types(hf, n_layers)?,
        tie_word_embeddings: hf.flag("tie_word_embeddings", true)?,
        ..ModelConfig::new(name, hf.architecture("GPTNeoForCausalLM"), d_model, n_layers, n_heads, d_head)
    })
}

/// `attention_types` is a list of pairs: names of types, and the number of repetitions.
fn attention_types(hf: &HfConfig, n_layers: usize) -> Result<Vec<AttentionType>> {
    let kind = |name: &Value| match name.as_str() {
        Some("global") => Some(AttentionType::Global),
        Some("local") => Some(AttentionType::Local),
        _ => None,
    };
    let pair = |pair: &Value| {
        let names = pair.get(0)?.as_array()?.iter().map(kind).collect::<Option<Vec<_>>>()?;
        let times = usize::try_from(pair.get(1)?.as_u64()?).ok().filter(|times| *times <= n_layers)?;
        Some(names.repeat(times))
    };
    let types = match hf.values.get("attention_types").filter(|types| !types.is_null()) {
        Some(types) => types.as_array().and_then(|types| types.iter().map(pair).collect::<Option<Vec<_>>>()),
        None => Some(vec![[AttentionType::Global, AttentionType::Local].repeat(n_layers.div_ceil(2))]),
    };
    let types = types.map(|types| types.concat()).filter(|types| types.len() >= n_layers);
    let expected = || format!("pairs such as [[\"global\", \"local\"], 6], for {n_layers} layers");
    let mut types = types.ok_or_else(|| hf.missing("attention_types", &expected()))?;
    types.truncate(n_layers);
    Ok(types)
}

fn weights(checkpoint: &Checkpoint, cfg: &ModelConfig) -> WeightNames {
    let prefix = prefix(checkpoint, &["transformer.", ""], "h.0.");
    let norm = |name: String| NormNames::new(&name);
    let linear = |name: String| LinearNames::new(checkpoint, &name);
    let block = |i: usize| {
        let block = format!("{prefix}h.{i}");
        let attention = format!("{block}.attn.attention");
        BlockNames {
            ln1: Some(norm(format!("{block}.ln_1"))),
            qkv: QkvNames::Separate(["q", "k", "v"].map(|x| linear(format!("{attention}.{x}_proj")))),
            q_norm: None,
            k_norm: None,
            attn_out: linear(format!("{attention}.out_proj")),
            ln1_post: None,
            ln2: Some(norm(format!("{block}.ln_2"))),
            mlp_in: vec![linear(format!("{block}.mlp.c_fc"))],
            mlp_out: linear(format!("{block}.mlp.c_proj")),
            ln2_post: None,
        }
    };
    WeightNames {
        embed: format!("{prefix}wte.weight"),
        pos_embed: Some(format!("{prefix}wpe.weight")),
        blocks: (0..cfg.n_layers).map(block).collect(),
        ln_final: norm(format!("{prefix}ln_f")),
        unembed: "lm_head.weight".to_owned(),
        unembed_bias: None,
    }
}
