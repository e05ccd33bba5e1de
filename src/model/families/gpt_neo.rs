//! GPT-Neo (TinyStories, gpt-neo-125M and larger): GPT-2 with separate matrices for queries, keys and values, scores
//! that are not scaled, and local blocks that see only a few hundred tokens.

use super::gpt2::{self, gpt_config};
use super::layout::Layout;
use super::{Family, HfConfig};
use crate::error::Result;
use crate::model::config::{AttentionType, ModelConfig};
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
    extends: None,
    config,
    layout: Layout {
        qkv: &["attn.attention.q_proj", "attn.attention.k_proj", "attn.attention.v_proj"],
        attn_out: "attn.attention.out_proj",
        conv1d: false,
        ..gpt2::LAYOUT
    },
};

fn config(hf: &HfConfig, name: &str) -> Result<ModelConfig> {
    let sizes = ["hidden_size", "num_heads", "num_layers", "max_position_embeddings"];
    let base = hf.sizes(name, "GPTNeoForCausalLM", sizes)?;
    Ok(ModelConfig {
        attn_scale: 1.0,
        window_size: Some(hf.size("window_size")?),
        attn_types: attention_types(hf, base.n_layers)?,
        ..gpt_config(hf, base, "intermediate_size")?
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
    let all = |pairs: &Value| {
        let types = pairs.as_array()?.iter().map(pair).collect::<Option<Vec<_>>>()?.concat();
        Some(types).filter(|types| types.len() >= n_layers)
    };
    let expected = format!("pairs such as [[\"global\", \"local\"], 6], for {n_layers} layers");
    let usual = || [AttentionType::Global, AttentionType::Local].repeat(n_layers.div_ceil(2));
    let mut types = hf.optional("attention_types", &expected, all)?.unwrap_or_else(usual);
    types.truncate(n_layers);
    Ok(types)
}
