//! Model families: each file translates one family's `config.json` and checkpoint names, and does nothing else.

mod gpt2;

use super::config::ModelConfig;
use super::tokenizer::SpecialTokens;
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

const FAMILIES: [Family; 1] = [gpt2::FAMILY];

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

    /// A size that may be absent or null.
    fn optional_size(&self, key: &str) -> Result<Option<usize>> {
        match self.values.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_u64().filter(|n| *n > 0 && *n < 1 << 40) {
                Some(n) => Ok(Some(n as usize)),
                None => Err(self.missing(key, "a positive whole number")),
            },
        }
    }

    fn number(&self, key: &str, default: f64) -> Result<f64> {
        match self.values.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(value) => value.as_f64().ok_or_else(|| self.missing(key, "a number")),
        }
    }

    fn flag(&self, key: &str, default: bool) -> Result<bool> {
        match self.values.get(key) {
            None | Some(Value::Null) => Ok(default),
            Some(value) => value.as_bool().ok_or_else(|| self.missing(key, "true or false")),
        }
    }

    /// The special tokens that the config names; some name a list, whose first counts.
    pub(super) fn special_tokens(&self) -> SpecialTokens {
        let id = |key: &str| {
            let id = self.values.get(key)?;
            let id = id.as_array().map_or(Some(id), |ids| ids.first())?;
            id.as_u64().and_then(|id| u32::try_from(id).ok())
        };
        SpecialTokens { bos: id("bos_token_id"), eos: id("eos_token_id") }
    }
}
