//! Model families: each file translates one family's `config.json` and checkpoint names, and does nothing else.

mod gemma;
mod gemma2;
mod gemma3;
mod gpt2;
mod gpt_neo;
mod gpt_neox;
mod llama;
mod mistral;
mod olmo;
mod olmo2;
mod phi;
mod qwen2;
mod qwen3;

use super::config::{Activation, AttentionType, ModelConfig, RopeScaling, Rotary};
use super::tokenizer::TokenizerHints;
use super::weights::WeightNames;
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// How one family is recognised and read.
pub(super) struct Family {
    /// The values of `model_type` in `config.json`.
    model_types: &'static [&'static str],
    /// Reads the sizes.
    pub(super) config: fn(&HfConfig, &str) -> Result<ModelConfig>,
    /// Says where the weights are.
    pub(super) weights: fn(&Checkpoint, &ModelConfig) -> WeightNames,
}

const FAMILIES: [Family; 13] = [
    gpt2::FAMILY,
    gpt_neo::FAMILY,
    gpt_neox::FAMILY,
    gemma::FAMILY,
    gemma2::FAMILY,
    gemma3::FAMILY,
    llama::FAMILY,
    mistral::FAMILY,
    qwen2::FAMILY,
    qwen3::FAMILY,
    phi::FAMILY,
    olmo::FAMILY,
    olmo2::FAMILY,
];

/// The family of a `config.json`.
///
/// # Errors
/// A model type that no family knows.
pub(super) fn family_of(config: &HfConfig) -> Result<&'static Family> {
    let model_type = config.text("model_type")?;
    FAMILIES.iter().find(|family| family.model_types.contains(&model_type)).ok_or_else(|| Error::Unknown {
        kind: "model type",
        name: model_type.to_owned(),
        place: format!("`{}`", config.path.display()),
        known: FAMILIES.iter().flat_map(|family| family.model_types).map(|t| (*t).to_owned()).collect(),
    })
}

/// A Hugging Face `config.json`.
pub(super) struct HfConfig {
    path: PathBuf,
    values: Map<String, Value>,
}

impl HfConfig {
    /// Parses the contents of a file; `path` stands for it in messages.
    pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Self> {
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(values)) => Ok(HfConfig { path: path.to_owned(), values }),
            Ok(_) => Err(Error::malformed(path, "expected a JSON object")),
            Err(e) => Err(Error::malformed(path, format!("not JSON: {e}"))),
        }
    }

    fn missing(&self, key: &str, expected: &str) -> Error {
        let got = self.values.get(key).map_or_else(|| "nothing".to_owned(), Value::to_string);
        Error::malformed(&self.path, format!("`{key}`: expected {expected}, got {got}"))
            .with_hint("this is not the config.json of such a model")
    }

    fn text(&self, key: &str) -> Result<&str> {
        self.values.get(key).and_then(Value::as_str).ok_or_else(|| self.missing(key, "a text"))
    }

    /// A text that may be absent or null.
    fn optional_text(&self, key: &str) -> Result<Option<&str>> {
        match self.values.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(_) => self.text(key).map(Some),
        }
    }

    /// A size: a positive whole number.
    fn size(&self, key: &str) -> Result<usize> {
        self.optional_size(key)?.ok_or_else(|| self.missing(key, "a positive whole number"))
    }

    /// The number of layers, of which something is held for each before the weights are looked at.
    fn layers(&self, key: &str) -> Result<usize> {
        const MOST: usize = 10_000;
        match self.size(key)? {
            n if n <= MOST => Ok(n),
            n => Err(Error::malformed(
                &self.path,
                format!("{n} layers by its config: expected at most {MOST}"),
            )),
        }
    }

    /// A size that may be absent or null.
    fn optional_size(&self, key: &str) -> Result<Option<usize>> {
        match self.values.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_u64().filter(|n| (1..1 << 24).contains(n)) {
                Some(n) => Ok(Some(n as usize)),
                None => Err(self.missing(key, "a positive whole number below 2^24")),
            },
        }
    }

    /// A number above 0.
    fn number(&self, key: &str, default: f64) -> Result<f64> {
        Ok(self.nullable_number(key, None)?.unwrap_or(default))
    }

    fn flag(&self, key: &str, default: bool) -> Result<bool> {
        match self.values.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| self.missing(key, "true or false")),
        }
    }

    /// The first of `architectures`, or what the family usually says there.
    fn architecture<'a>(&'a self, usual: &'a str) -> &'a str {
        let named = self.values.get("architectures").and_then(|list| list.get(0));
        named.and_then(Value::as_str).unwrap_or(usual)
    }

    /// The activation function under the first of these names that has one.
    fn activation(&self, keys: &[&str], default: Activation) -> Result<Activation> {
        for key in keys {
            if let Some(name) = self.optional_text(key)? {
                return Activation::from_name(name)
                    .ok_or_else(|| Error::unknown("activation function", name, Activation::NAMES));
            }
        }
        Ok(default)
    }

    /// The width of a head: `head_dim`, or the heads' share of `d_model`.
    fn head_size(&self, d_model: usize, n_heads_key: &str, n_heads: usize) -> Result<usize> {
        match self.optional_size("head_dim")? {
            Some(d_head) => Ok(d_head),
            None if d_model.is_multiple_of(n_heads) => Ok(d_model / n_heads),
            None => Err(self.missing(n_heads_key, &format!("a divisor of d_model = {d_model}"))),
        }
    }

    /// A number above 0 that may be null; `default` where the config does not speak of it.
    fn nullable_number(&self, key: &str, default: Option<f64>) -> Result<Option<f64>> {
        match self.values.get(key) {
            None => Ok(default),
            Some(Value::Null) => Ok(None),
            Some(value) => match value.as_f64().filter(|n| n.is_finite() && *n > 0.0) {
                Some(number) => Ok(Some(number)),
                None => Err(self.missing(key, "a number above 0")),
            },
        }
    }

    /// Which keys each block's queries see: `layer_types` of transformers 5, or what the family says of block `i`.
    fn attention_types(
        &self,
        n_layers: usize,
        is_local: impl Fn(usize) -> bool,
    ) -> Result<Vec<AttentionType>> {
        let Some(types) = self.values.get("layer_types").filter(|types| !types.is_null()) else {
            let of = |i| if is_local(i) { AttentionType::Local } else { AttentionType::Global };
            return Ok((0..n_layers).map(of).collect());
        };
        let of = |name: &Value| match name.as_str() {
            Some("sliding_attention") => Some(AttentionType::Local),
            Some("full_attention") => Some(AttentionType::Global),
            _ => None,
        };
        let types = types.as_array().and_then(|types| types.iter().map(of).collect::<Option<Vec<_>>>());
        let expected = || format!("{n_layers} of \"full_attention\" and \"sliding_attention\"");
        types.filter(|t| t.len() == n_layers).ok_or_else(|| self.missing("layer_types", &expected()))
    }

    /// Rotary embeddings, as transformers 5 (`rope_parameters`) or 4 (`rope_theta`, `rope_scaling`, …) says it.
    ///
    /// `share` is the part of a head that is rotated where the config does not say.
    fn rotary(&self, d_head: usize, base: f64, share: f64) -> Result<Rotary> {
        let parameters = self.object("rope_parameters")?;
        // Where blocks differ, there is a map for each kind.
        let full = parameters.as_ref().map(|p| p.object("full_attention")).transpose()?.flatten();
        let global = full.or(parameters);
        let global = global.as_ref();
        let number = |key: &str, old_keys: &[&str], default: f64| -> Result<f64> {
            match global.map(|p| p.nullable_number(key, None)).transpose()?.flatten() {
                Some(number) => Ok(number),
                None => old_keys.iter().try_fold(default, |found, old| self.number(old, found)),
            }
        };
        let share = number("partial_rotary_factor", &["partial_rotary_factor", "rotary_pct"], share)?;
        let rotary_dim = (d_head as f64 * share) as usize;
        if rotary_dim == 0 || rotary_dim > d_head || !rotary_dim.is_multiple_of(2) {
            let message = format!(
                "rotary embeddings turn an even part of a head's {d_head} dimensions, not {rotary_dim} of them"
            );
            return Err(Error::malformed(&self.path, message));
        }
        let scaling = match global {
            Some(parameters) => parameters.rope_scaling()?,
            None => match self.object("rope_scaling")? {
                Some(old) => old.rope_scaling()?,
                None => None,
            },
        };
        let rotary_base = number("rope_theta", &["rope_theta", "rotary_emb_base"], base)?;
        Ok(Rotary { rotary_dim, rotary_base, rotary_base_local: None, scaling })
    }

    fn rope_scaling(&self) -> Result<Option<RopeScaling>> {
        let kind = match self.optional_text("rope_type")? {
            Some(kind) => kind,
            None => self.optional_text("type")?.unwrap_or("default"),
        };
        let positive =
            |key: &str| self.nullable_number(key, None)?.ok_or_else(|| self.missing(key, "a number above 0"));
        match kind {
            "default" => Ok(None),
            "linear" => Ok(Some(RopeScaling::Linear { factor: positive("factor")? })),
            "llama3" => Ok(Some(RopeScaling::Llama3 {
                factor: positive("factor")?,
                low_freq_factor: positive("low_freq_factor")?,
                high_freq_factor: positive("high_freq_factor")?,
                original_max_position_embeddings: positive("original_max_position_embeddings")?,
            })),
            other => Err(Error::unknown("rope scaling", other, ["default", "linear", "llama3"])),
        }
    }

    /// The object under a key as a config of its own; it may be absent or null.
    fn object(&self, key: &str) -> Result<Option<HfConfig>> {
        match self.values.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Object(values)) => {
                Ok(Some(HfConfig { path: self.path.clone(), values: values.clone() }))
            }
            Some(_) => Err(self.missing(key, "an object")),
        }
    }

    /// What the config says of the tokenizer.
    pub(super) fn tokenizer_hints(&self) -> TokenizerHints {
        let text = |key: &str| self.values.get(key).and_then(Value::as_str).map(str::to_owned);
        TokenizerHints {
            model_type: text("model_type"),
            tokenizer_class: text("tokenizer_class"),
            config: TokenizerHints::ids(&self.values),
            generation: Default::default(),
        }
    }
}

/// The first of these beginnings with which `name` is in the checkpoint; the first of all where it is with none.
fn prefix<'a>(checkpoint: &Checkpoint, prefixes: &[&'a str], name: &str) -> &'a str {
    let found = prefixes.iter().find(|prefix| checkpoint.shape(&format!("{prefix}{name}")).is_some());
    found.or(prefixes.first()).copied().unwrap_or_default()
}
