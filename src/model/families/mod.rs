//! Model families: each file translates one family's `config.json` and checkpoint names, and does nothing else.

mod gemma;
mod gemma2;
mod gemma3;
mod gpt2;
mod gpt_neo;
mod gpt_neox;
mod layout;
mod llama;
mod mistral;
mod olmo;
mod olmo2;
mod phi;
mod qwen2;
mod qwen3;

use super::config::{ActivationFunction, AttentionType, ModelConfig, RopeScaling, Rotary};
use super::tokenizer::TokenizerHints;
use crate::error::{Error, Result};
use layout::Layout;
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};

/// How a family is recognized and read.
pub(super) struct Family {
    /// The values of `model_type` in `config.json`.
    model_types: &'static [&'static str],
    /// Aliases of keys, each with the key that the family's file reads.
    aliases: &'static [(&'static str, &'static str)],
    /// Numbers that a config may leave out, with the defaults of transformers' config class.
    defaults: &'static [(&'static str, u64)],
    /// The family whose defaults hold for what `defaults` leaves out.
    extends: Option<&'static Family>,
    /// Reads the configuration of the model with this name.
    config: fn(&HfConfig, &str) -> Result<ModelConfig>,
    /// The names of the weights.
    pub(super) layout: Layout,
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

/// Returns the family of a `config.json`, and the configuration of the model `name`.
///
/// # Errors
/// An unsupported model type; a value that the family cannot use.
pub(super) fn read(config: &HfConfig, name: &str) -> Result<(&'static Family, ModelConfig)> {
    let model_type = config.string("model_type")?;
    let family = FAMILIES.iter().find(|family| family.model_types.contains(&model_type));
    let family = family.ok_or_else(|| Error::Unknown {
        kind: "model type",
        name: model_type.to_owned(),
        place: format!("`{}`", config.path.display()),
        known: FAMILIES.iter().flat_map(|family| family.model_types).map(|t| (*t).to_owned()).collect(),
    })?;
    Ok((family, (family.config)(&config.completed(family), name)?))
}

/// A Hugging Face `config.json`.
pub(super) struct HfConfig {
    path: PathBuf,
    values: Map<String, Value>,
}

impl HfConfig {
    /// Parses the contents of a file; errors call it `path`.
    pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Self> {
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(values)) => Ok(HfConfig { path: path.to_owned(), values }),
            Ok(_) => Err(Error::malformed(path, "expected a JSON object")),
            Err(e) => Err(Error::malformed(path, format!("not JSON: {e}"))),
        }
    }

    /// Renames aliases to the family's own keys, and adds its defaults for missing keys.
    fn completed(&self, family: &Family) -> HfConfig {
        let mut values = self.values.clone();
        for (alias, name) in family.aliases {
            if let Some(value) = values.get(*alias).cloned() {
                values.insert((*name).to_owned(), value);
            }
        }
        let families = std::iter::successors(Some(family), |family| family.extends);
        for (key, value) in families.flat_map(|family| family.defaults) {
            values.entry(*key).or_insert((*value).into());
        }
        HfConfig { path: self.path.clone(), values }
    }

    fn missing(&self, key: &str, expected: &str) -> Error {
        let got = self.values.get(key).map_or_else(|| "nothing".to_owned(), Value::to_string);
        Error::malformed(&self.path, format!("`{key}`: expected {expected}, got {got}"))
            .with_hint("check the file: its values do not fit its `model_type`")
    }

    /// A value that may be absent or null; otherwise, `read` must know it.
    fn optional<'a, T>(
        &'a self,
        key: &str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let value = self.values.get(key).filter(|value| !value.is_null());
        value.map(|value| read(value).ok_or_else(|| self.missing(key, expected))).transpose()
    }

    /// A string that may be absent or null.
    fn optional_string(&self, key: &str) -> Result<Option<&str>> {
        self.optional(key, "a string", Value::as_str)
    }

    fn string(&self, key: &str) -> Result<&str> {
        self.optional_string(key)?.ok_or_else(|| self.missing(key, "a string"))
    }

    /// A size that may be absent or null.
    fn optional_size(&self, key: &str) -> Result<Option<usize>> {
        let size = |value: &Value| value.as_u64().filter(|n| (1..1 << 24).contains(n)).map(|n| n as usize);
        self.optional(key, "a positive whole number below 2^24", size)
    }

    /// A size: a positive whole number.
    fn size(&self, key: &str) -> Result<usize> {
        self.optional_size(key)?.ok_or_else(|| self.missing(key, "a positive whole number"))
    }

    /// The number of layers. It is limited because memory is allocated for each before the weights are checked.
    fn layers(&self, key: &str) -> Result<usize> {
        const MAX_LAYERS: usize = 10_000;
        match self.size(key)? {
            n if n <= MAX_LAYERS => Ok(n),
            n => Err(Error::malformed(
                &self.path,
                format!("`{key}`: expected at most {MAX_LAYERS} layers, got {n}"),
            )),
        }
    }

    /// A count, which may be 0.
    fn count(&self, key: &str) -> Result<usize> {
        let count = self.values.get(key).and_then(Value::as_u64).and_then(|n| usize::try_from(n).ok());
        count.ok_or_else(|| self.missing(key, "a whole number, 0 or more"))
    }

    /// A number above 0 that may be absent or null.
    fn optional_number(&self, key: &str) -> Result<Option<f64>> {
        let number = |value: &Value| value.as_f64().filter(|n| n.is_finite() && *n > 0.0);
        self.optional(key, "a number above 0", number)
    }

    /// A number above 0.
    fn number(&self, key: &str, default: f64) -> Result<f64> {
        Ok(self.optional_number(key)?.unwrap_or(default))
    }

    /// A number above 0 that may be null; `default` if it is absent.
    fn nullable_number(&self, key: &str, default: f64) -> Result<Option<f64>> {
        if self.values.contains_key(key) { self.optional_number(key) } else { Ok(Some(default)) }
    }

    fn flag(&self, key: &str, default: bool) -> Result<bool> {
        Ok(self.optional(key, "true or false", Value::as_bool)?.unwrap_or(default))
    }

    /// The object under a key as a config of its own; it may be absent or null.
    fn object(&self, key: &str) -> Result<Option<HfConfig>> {
        let object = self.optional(key, "an object", Value::as_object)?;
        Ok(object.map(|values| HfConfig { path: self.path.clone(), values: values.clone() }))
    }

    /// The configuration with the sizes of a model. `keys` are those of `d_model`, `n_heads`, `n_layers` and `n_ctx`;
    /// the width of a head is `head_dim`, or the heads' share of `d_model`; the architecture is the first of
    /// `architectures`, or else `usual`.
    fn sizes(&self, name: &str, usual: &str, keys: [&str; 4]) -> Result<ModelConfig> {
        let [d_model, n_heads, n_layers] = [self.size(keys[0])?, self.size(keys[1])?, self.layers(keys[2])?];
        let d_head = match self.optional_size("head_dim")? {
            Some(d_head) => d_head,
            None if d_model.is_multiple_of(n_heads) => d_model / n_heads,
            None => return Err(self.missing(keys[1], &format!("a divisor of d_model = {d_model}"))),
        };
        let named = self.values.get("architectures").and_then(|list| list.get(0)?.as_str());
        Ok(ModelConfig {
            d_vocab: self.size("vocab_size")?,
            n_ctx: self.size(keys[3])?,
            ..ModelConfig::new(name, named.unwrap_or(usual), d_model, n_layers, n_heads, d_head)
        })
    }

    /// The activation function under the first of these keys that is present.
    fn activation(&self, keys: &[&str], default: ActivationFunction) -> Result<ActivationFunction> {
        for key in keys {
            if let Some(name) = self.optional_string(key)? {
                return ActivationFunction::from_name(name)
                    .ok_or_else(|| Error::unknown("activation function", name, ActivationFunction::NAMES));
            }
        }
        Ok(default)
    }

    /// Which keys the queries of each block see: `layer_types` of transformers 5, or else `is_local(i)` for block `i`.
    /// Local blocks need a `window`.
    fn attention_types(
        &self,
        n_layers: usize,
        window: Option<usize>,
        is_local: impl Fn(usize) -> bool,
    ) -> Result<Vec<AttentionType>> {
        let of = |name: &Value| match name.as_str() {
            Some("sliding_attention") => Some(AttentionType::Local),
            Some("full_attention") => Some(AttentionType::Global),
            _ => None,
        };
        let all = |types: &Value| {
            let types = types.as_array()?.iter().map(of).collect::<Option<Vec<_>>>()?;
            Some(types).filter(|types| types.len() == n_layers)
        };
        let expected = format!("{n_layers} items, \"full_attention\" or \"sliding_attention\"");
        let usual = |i| if is_local(i) { AttentionType::Local } else { AttentionType::Global };
        let types = self.optional("layer_types", &expected, all)?;
        let types = types.unwrap_or_else(|| (0..n_layers).map(usual).collect());
        match window {
            None if types.contains(&AttentionType::Local) => {
                Err(self.missing("sliding_window", "a positive whole number for local blocks"))
            }
            _ => Ok(types),
        }
    }

    /// Rotary embeddings, as written by transformers 5 (`rope_parameters`) or 4 (`rope_theta`, `rope_scaling`, …).
    fn rotary(&self, d_head: usize, keys: &RotaryKeys) -> Result<Rotary> {
        let parameters = match self.object("rope_scaling")?.filter(|old| !old.values.is_empty()) {
            Some(old) => Some(old),
            None => self.object("rope_parameters")?,
        };
        self.rotary_by(parameters.as_ref(), d_head, keys)
    }

    /// Rotary embeddings by `parameters`, or else by the config's own keys.
    fn rotary_by(&self, parameters: Option<&HfConfig>, d_head: usize, keys: &RotaryKeys) -> Result<Rotary> {
        let number = |key: &str, outside: &str, default: f64| {
            let inside = parameters.map(|p| p.optional_number(key)).transpose()?.flatten();
            inside.map_or_else(|| self.number(outside, default), Ok)
        };
        let share = match keys.share {
            Some((key, default)) => number("partial_rotary_factor", key, default)?,
            None => 1.0,
        };
        let rotary_dim = (d_head as f64 * share) as usize;
        if rotary_dim == 0 || rotary_dim.next_multiple_of(2) > d_head {
            let message = format!(
                "the rotary embeddings: expected pairs of a head's {d_head} dimensions, got {rotary_dim} dimensions"
            );
            return Err(Error::malformed(&self.path, message));
        }
        Ok(Rotary {
            rotary_dim,
            rotary_base: number("rope_theta", keys.base, keys.default_base)?,
            rotary_base_local: None,
            scaling: parameters.map(|parameters| self.rope_scaling(parameters)).transpose()?.flatten(),
        })
    }

    fn rope_scaling(&self, parameters: &HfConfig) -> Result<Option<RopeScaling>> {
        let kind = match parameters.optional_string("rope_type")? {
            Some(kind) => kind,
            None => parameters.optional_string("type")?.unwrap_or("default"),
        };
        let positive = |key: &str| {
            let number = parameters.optional_number(key)?;
            number.ok_or_else(|| parameters.missing(key, "a number above 0"))
        };
        let old_context = || -> Result<f64> {
            const KEY: &str = "original_max_position_embeddings";
            match self.optional_number(KEY)?.or(parameters.optional_number(KEY)?) {
                Some(old_context) => Ok(old_context),
                None => Ok(self.size("max_position_embeddings")? as f64),
            }
        };
        match kind {
            "default" => Ok(None),
            "linear" => Ok(Some(RopeScaling::Linear { factor: positive("factor")? })),
            "llama3" => Ok(Some(RopeScaling::Llama3 {
                factor: positive("factor")?,
                low_freq_factor: positive("low_freq_factor")?,
                high_freq_factor: positive("high_freq_factor")?,
                original_max_position_embeddings: old_context()?,
            })),
            other => Err(Error::unknown("rope scaling", other, ["default", "linear", "llama3"])),
        }
    }

    /// What the config says about the tokenizer.
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

/// The keys and defaults for what the rotary parameters leave out.
struct RotaryKeys {
    /// The key of the base of the wavelengths.
    base: &'static str,
    /// The base if the config has no such key.
    default_base: f64,
    /// The key of the rotated share of a head, and its default; `None` for all of the head.
    share: Option<(&'static str, f64)>,
}

impl Default for RotaryKeys {
    fn default() -> Self {
        RotaryKeys { base: "rope_theta", default_base: 10_000.0, share: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::PositionalEmbedding;
    use crate::model::ops::activate;
    use crate::model::rotary::inverse_frequencies;
    use candle_core::{DType, Device, Tensor};
    use serde_json::json;

    /// What is read from a config, under the fixture's keys.
    fn found(config: Map<String, Value>) -> Result<Map<String, Value>> {
        let config = HfConfig { path: PathBuf::from("config.json"), values: config };
        let (_, cfg) = read(&config, "x")?;
        let activated = Tensor::new(&[-0.7f32, 0.9], &Device::Cpu)?;
        let activated = activate(activated, None, cfg.act_fn, DType::F32)?;
        let short = |rotary: &Rotary| {
            let all = inverse_frequencies(rotary);
            json!([all.len(), all[0], all[all.len() / 2], all[all.len() - 1]])
        };
        let (global, local) = match cfg.positional_embedding {
            PositionalEmbedding::Standard => (Value::Null, Value::Null),
            PositionalEmbedding::Rotary(rotary) => {
                let local = rotary.rotary_base_local;
                let local = local.map(|base| Rotary { rotary_base: base, scaling: None, ..rotary });
                (short(&rotary), local.as_ref().map_or(Value::Null, short))
            }
        };
        let found = json!({
            "d_model": cfg.d_model, "d_vocab": cfg.d_vocab, "n_layers": cfg.n_layers, "d_head": cfg.d_head,
            "n_heads": cfg.n_heads, "n_key_value_heads": cfg.n_key_value_heads, "d_mlp": cfg.d_mlp,
            "n_ctx": cfg.n_ctx, "eps": cfg.eps, "activated": activated.to_vec1::<f32>()?,
            "attn_factor": 1.0 / cfg.attn_scale, "by_layer": cfg.scale_attn_by_inverse_layer_idx,
            "attn_scores_soft_cap": cfg.attn_scores_soft_cap, "output_logits_soft_cap": cfg.output_logits_soft_cap,
            "clip_qkv": cfg.clip_qkv, "parallel": cfg.parallel_attn_mlp, "qk_norm": cfg.use_qk_norm,
            "windows": (0..cfg.n_layers).map(|layer| cfg.window(layer).unwrap_or(0)).collect::<Vec<_>>(),
            "tie_word_embeddings": cfg.tie_word_embeddings, "inv_freq": global, "inv_freq_local": local,
        });
        Ok(found.as_object().cloned().unwrap_or_default())
    }

    fn agree(found: &Value, expected: &Value) -> bool {
        match (found, expected) {
            (Value::Array(a), Value::Array(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| agree(a, b))
            }
            (Value::Number(a), Value::Number(b)) => {
                let [a, b] = [a, b].map(|x| x.as_f64().unwrap_or(f64::NAN));
                (a - b).abs() <= 1e-5 * b.abs()
            }
            _ => found == expected,
        }
    }

    #[test]
    fn configs_are_read_as_in_transformers() {
        let text = include_str!("../../../tests/fixtures/models/configs.json");
        let families: Map<String, Value> = serde_json::from_str(text).unwrap();
        assert_eq!(families.len(), FAMILIES.len());
        let mut wrong = Vec::new();
        for (family, entry) in &families {
            let variants = entry["variants"].as_array().unwrap();
            for variant in variants {
                let mut config = entry["base"].as_object().unwrap().clone();
                config.retain(|key, _| !variant[0].as_array().unwrap().contains(&json!(key)));
                config.extend(variant[1].as_object().unwrap().clone());
                config.insert("model_type".to_owned(), json!(family));
                let mut expected = variants[0][2].as_object().unwrap().clone();
                expected.extend(variant[2].as_object().unwrap().clone());
                match found(config) {
                    Ok(found) => wrong.extend(expected.iter().filter(|(k, v)| !agree(&found[*k], v)).map(
                        |(key, value)| format!("{family} {variant}: {key} is {}, not {value}", found[key]),
                    )),
                    Err(e) => wrong.push(format!("{family} {variant}: {e}")),
                }
            }
        }
        assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    }
}
