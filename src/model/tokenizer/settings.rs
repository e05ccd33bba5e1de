//! The settings of a tokenizer outside `tokenizer.json`: its added tokens, the token that begins a sequence, and
//! whether text gets a leading space. Only this file decides these, in the order of transformers 5
//! (`PreTrainedTokenizerBase._from_pretrained`, `TokenizersBackend.__init__`, `AutoTokenizer`) and, for the token that
//! begins a sequence, of TransformerLens (`set_tokenizer`).

use super::SpecialTokens;
use serde_json::{Map, Value};
use tokenizers::AddedToken;

/// The token that TransformerLens uses for the end of a sequence if the tokenizer does not name one.
const DEFAULT_END: &str = "<|endoftext|>";

/// Keys of `tokenizer_config.json` that name one token each.
const NAMED: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// What a model's configuration files say about its tokenizer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenizerHints {
    /// `model_type` of `config.json`.
    pub model_type: Option<String>,
    /// `tokenizer_class` of `config.json`.
    pub tokenizer_class: Option<String>,
    /// The special tokens in `config.json`.
    pub config: SpecialTokens,
    /// The special tokens in `generation_config.json`.
    pub generation: SpecialTokens,
}

impl TokenizerHints {
    /// The ids of special tokens in a configuration; the first element if it has a list.
    pub(in crate::model) fn ids(config: &Map<String, Value>) -> SpecialTokens {
        let id = |key: &str| {
            let id = config.get(key)?;
            let id = id.as_array().map_or(Some(id), |ids| ids.first())?;
            id.as_u64().and_then(|id| u32::try_from(id).ok())
        };
        SpecialTokens { bos: id("bos_token_id"), eos: id("eos_token_id") }
    }
}

/// The tokenizer classes of transformers with rules of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// GPT-2's, GPT-NeoX' and CodeGen's.
    Gpt2,
    Qwen2,
    Llama,
    Gemma,
    /// `PreTrainedTokenizerFast` and all others, which follow `tokenizer.json`.
    Plain,
}

impl Class {
    /// The class with this name, with or without `Fast`.
    fn named(name: &str) -> Class {
        match name.strip_suffix("Fast").unwrap_or(name) {
            "GPT2Tokenizer" | "GPTNeoXTokenizer" | "CodeGenTokenizer" => Class::Gpt2,
            "Qwen2Tokenizer" => Class::Qwen2,
            "LlamaTokenizer" => Class::Llama,
            "GemmaTokenizer" => Class::Gemma,
            _ => Class::Plain,
        }
    }

    /// The class that transformers registers for a type of model; `None` if it registers none.
    fn of_model(model_type: &str) -> Option<Class> {
        Some(match model_type {
            "gpt2" | "gpt_neo" | "phi" | "gpt_neox" | "olmo" => Class::Gpt2,
            "gemma" | "gemma2" | "gemma3" | "gemma3_text" => Class::Gemma,
            "qwen2" | "qwen3" => Class::Qwen2,
            "mistral" | "olmo2" => Class::Plain,
            _ => return None,
        })
    }

    /// The default beginning, end and unknown token of a class, for keys that `tokenizer_config.json` leaves out.
    fn default_token(self, key: &str) -> Option<&'static str> {
        match (self, key) {
            (Class::Gpt2, "bos_token" | "eos_token" | "unk_token") => Some(DEFAULT_END),
            (Class::Qwen2, "eos_token" | "unk_token") => Some(DEFAULT_END),
            (Class::Llama, "bos_token") => Some("<s>"),
            (Class::Llama, "eos_token") => Some("</s>"),
            (Class::Gemma, "bos_token") => Some("<bos>"),
            (Class::Gemma, "eos_token") => Some("<eos>"),
            (Class::Llama | Class::Gemma, "unk_token") => Some("<unk>"),
            _ => None,
        }
    }
}

/// The contents of a tokenizer's files other than `tokenizer.json`.
#[derive(Debug, Default)]
pub(super) struct Settings {
    /// `tokenizer_config.json`.
    pub(super) config: Map<String, Value>,
    /// `special_tokens_map.json`; read only if `config` has no `added_tokens_decoder`.
    pub(super) special_tokens_map: Map<String, Value>,
    /// `added_tokens.json`; read only if `config` has no `added_tokens_decoder`.
    pub(super) added_tokens: Map<String, Value>,
    pub(super) hints: TokenizerHints,
}

impl Settings {
    /// Whether the files of transformers 4.33 and earlier are read as well.
    pub(super) fn is_old(config: &Map<String, Value>) -> bool {
        !config.contains_key("added_tokens_decoder")
    }

    fn class(&self, is_byte_level: bool) -> Class {
        let text = |key: &str| self.config.get(key).and_then(Value::as_str);
        let model_type = self.hints.model_type.as_deref().unwrap_or_default();
        let registered = Class::of_model(model_type);
        let named = text("tokenizer_class").or(self.hints.tokenizer_class.as_deref()).map(Class::named);
        match (named, registered) {
            // Llama 3 and others use this name for a byte-level tokenizer.
            (Some(Class::Llama), _) if is_byte_level => Class::Plain,
            (_, Some(Class::Plain)) => Class::Plain,
            (_, Some(Class::Qwen2)) if model_type == "qwen2" => Class::Qwen2,
            (Some(class), _) => class,
            (None, registered) => registered.unwrap_or(Class::Plain),
        }
    }

    /// Whether a space is prepended to text that does not start with one; `None` to follow `tokenizer.json`.
    pub(super) fn prefix_space(&self, is_byte_level: bool) -> Option<bool> {
        let said = self.config.get("add_prefix_space").and_then(Value::as_bool);
        match self.class(is_byte_level) {
            Class::Gpt2 | Class::Qwen2 => Some(said.unwrap_or(false)),
            Class::Llama => said,
            Class::Gemma | Class::Plain => None,
        }
    }

    /// The value of a key that names tokens. `special_tokens_map.json`, if it was read, comes first.
    fn get(&self, key: &str) -> Option<&Value> {
        self.special_tokens_map.get(key).or_else(|| self.config.get(key))
    }

    /// The tokens to add to those of `tokenizer.json`, in order. `is_known` says whether a token exists, `is_added`
    /// whether it is already one of the `added_tokens`.
    pub(super) fn tokens_to_add(
        &self,
        is_known: impl Fn(&str) -> bool,
        is_added: impl Fn(&str) -> bool,
        is_byte_level: bool,
    ) -> Vec<AddedToken> {
        let class = self.class(is_byte_level);
        let mut special: Vec<AddedToken> =
            NAMED.iter().filter_map(|key| token(self.get(key)?, true)).collect();
        let model_specific = |(key, value): (&String, &Value)| {
            let is_one = key.ends_with("_token") && !NAMED.contains(&key.as_str()) && !value.is_boolean();
            if is_one { token(value, true) } else { None }
        };
        special.extend(self.config.iter().filter_map(model_specific));
        special.extend(self.extra_tokens());

        let mut added: Vec<(u64, AddedToken)> = match self.config.get("added_tokens_decoder") {
            Some(Value::Object(tokens)) => {
                let one = |(id, value): (&String, &Value)| Some((id.parse().ok()?, token(value, false)?));
                tokens.iter().filter_map(one).collect()
            }
            _ => {
                let one = |(content, id): (&String, &Value)| {
                    let is_special = special.iter().any(|token| token.content == *content);
                    Some((id.as_u64()?, AddedToken::from(content.clone(), is_special)))
                };
                self.added_tokens.iter().filter_map(one).collect()
            }
        };
        added.sort_by_key(|(id, _)| *id);
        let mut all: Vec<AddedToken> = added.into_iter().map(|(_, token)| token).collect();
        // A token that a key names is special, even if it was added without `special`.
        for token in &mut all {
            token.special |= special.iter().any(|special| special.content == token.content);
        }
        let defaults = NAMED.iter().filter(|key| self.get(key).is_none());
        let defaults = defaults.filter_map(|key| class.default_token(key)).filter(|token| is_known(token));
        special.extend(defaults.map(|token| AddedToken::from(token, true)));
        let in_files = all.len();
        for token in special {
            let is_there = |known: &AddedToken| known.content == token.content;
            if !is_added(&token.content) && !all[..in_files].iter().any(is_there) {
                all.push(token);
            }
        }
        all
    }

    /// The special tokens without a key of their own. A list in `tokenizer_config.json`, even an empty one, hides the
    /// list under the older key of `special_tokens_map.json`.
    fn extra_tokens(&self) -> Vec<AddedToken> {
        const KEY: &str = "extra_special_tokens";
        const OLDER: &str = "additional_special_tokens";
        let is_empty = |value: &Value| match value {
            Value::Array(tokens) => tokens.is_empty(),
            Value::Object(tokens) => tokens.is_empty(),
            _ => true,
        };
        let of_config = self.config.get(KEY).filter(|tokens| !is_empty(tokens)).or(self.config.get(OLDER));
        let of_map = self.special_tokens_map.get(KEY);
        let hides =
            of_config.is_some_and(|tokens| !tokens.is_object()) || of_map.is_some_and(Value::is_array);
        let older = self.special_tokens_map.get(OLDER).filter(|_| !hides);
        [of_config, of_map, older].into_iter().flatten().flat_map(tokens_in).collect()
    }

    /// The tokens that begin and end a sequence, and where the first is named. `id` returns the id of a token.
    pub(super) fn special_tokens(
        &self,
        id: impl Fn(&str) -> Option<u32>,
        is_byte_level: bool,
    ) -> (SpecialTokens, String) {
        let class = self.class(is_byte_level);
        let told = |id: Option<u32>, from: &str| id.map(|id| (id, from.to_owned()));
        let named = |key: &str| {
            let (token, from) = match (self.special_tokens_map.get(key), self.config.get(key)) {
                (Some(value), _) => (content(value), "special_tokens_map.json"),
                (None, Some(value)) => (content(value), "tokenizer_config.json"),
                (None, None) => (class.default_token(key), "the class of the tokenizer"),
            };
            told(id(token?), from)
        };
        let usual = || told(id(DEFAULT_END), "TransformerLens, as no file names such a token");
        let TokenizerHints { config, generation, .. } = self.hints;
        let eos = named("eos_token")
            .or_else(usual)
            .or_else(|| told(config.eos, "config.json"))
            .or_else(|| told(generation.eos, "generation_config.json"));
        let instead = || {
            named("eos_token")
                .map(|(id, file)| (id, format!("eos_token of {file}, as the tokenizer has no bos_token")))
        };
        let bos = named("bos_token")
            .or_else(instead)
            .or_else(usual)
            .or_else(|| told(config.bos, "config.json"))
            .or_else(|| told(config.eos, "eos_token_id of config.json"))
            .or_else(|| told(generation.bos, "generation_config.json"))
            .or_else(|| told(generation.eos, "eos_token_id of generation_config.json"));
        let (bos, from) = bos.map_or((None, String::new()), |(id, from)| (Some(id), from));
        (SpecialTokens { bos, eos: eos.map(|(id, _)| id) }, from)
    }

    /// Whether special tokens that are spelled out in text are ordinary text.
    pub(super) fn splits_special_tokens(&self) -> bool {
        self.config.get("split_special_tokens").and_then(Value::as_bool) == Some(true)
    }
}

/// The content of a token that is given as a string or as an object.
fn content(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| value.get("content")?.as_str())
}

/// A token that is given as a string or as an object with its flags.
fn token(value: &Value, is_special: bool) -> Option<AddedToken> {
    let flag = |key: &str, default: bool| value.get(key).and_then(Value::as_bool).unwrap_or(default);
    let special = is_special || flag("special", false);
    let token = AddedToken::from(content(value).filter(|content| !content.is_empty())?, special);
    Some(AddedToken {
        single_word: flag("single_word", false),
        lstrip: flag("lstrip", false),
        rstrip: flag("rstrip", false),
        normalized: flag("normalized", !special),
        ..token
    })
}

/// The tokens in a list, or in an object that gives each a name.
fn tokens_in(value: &Value) -> Vec<AddedToken> {
    match value {
        Value::Array(tokens) => tokens.iter().filter_map(|value| token(value, true)).collect(),
        Value::Object(tokens) => tokens.values().filter_map(|value| token(value, true)).collect(),
        _ => Vec::new(),
    }
}

/// Sets in a part of a `tokenizer.json` whether a space is prepended to text. Returns whether anything changed.
///
/// A byte-level pre-tokenizer has a flag. SentencePiece's space is prepended by a metaspace pre-tokenizer or a
/// normalizer, and removed again by a decoder.
pub(super) fn set_prefix_space(part: &str, value: &mut Value, wanted: bool, is_legacy: bool) -> bool {
    let Some(kind) = value.get("type").and_then(Value::as_str).map(str::to_owned) else { return false };
    match (part, kind.as_str()) {
        ("pre_tokenizer", "ByteLevel") => {
            let before = value.get("add_prefix_space").and_then(Value::as_bool);
            value["add_prefix_space"] = Value::from(wanted);
            before != Some(wanted)
        }
        ("pre_tokenizer" | "decoder", "Metaspace") => {
            let scheme = value.get("prepend_scheme").and_then(Value::as_str).unwrap_or("always");
            let adds = value.get("add_prefix_space").and_then(Value::as_bool).unwrap_or(true);
            if (scheme != "never" && adds) == wanted {
                return false;
            }
            let scheme = match (wanted, is_legacy) {
                (false, _) => "never",
                (true, true) => "always",
                (true, false) => "first",
            };
            value["prepend_scheme"] = Value::from(scheme);
            if let Some(values) = value.as_object_mut() {
                values.remove("add_prefix_space");
            }
            true
        }
        ("normalizer", "Prepend") | ("decoder", "Strip") if !wanted => {
            *value = Value::Null;
            true
        }
        (_, "Sequence") => {
            let lists = ["pretokenizers", "normalizers", "decoders"];
            let Some(list) = lists.iter().find(|list| value.get(**list).is_some()) else { return false };
            let Some(parts) = value.get_mut(*list).and_then(Value::as_array_mut) else { return false };
            let mut changed = false;
            for one in parts.iter_mut() {
                changed |= set_prefix_space(part, one, wanted, is_legacy);
            }
            parts.retain(|part| !part.is_null());
            changed
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// As transformers 5.23 adds them.
    #[test]
    fn extra_tokens_in_the_config_hide_the_list_in_the_map() {
        for (config, map, expected) in [
            (json!({}), json!({"additional_special_tokens": ["<a>"]}), vec!["<a>"]),
            (json!({"additional_special_tokens": []}), json!({"additional_special_tokens": ["<a>"]}), vec![]),
            (
                json!({"additional_special_tokens": ["<b>"]}),
                json!({"additional_special_tokens": ["<a>"]}),
                vec!["<b>"],
            ),
            (
                json!({"extra_special_tokens": ["<b>"]}),
                json!({"extra_special_tokens": [{"content": "<a>"}]}),
                vec!["<b>", "<a>"],
            ),
            (
                json!({"extra_special_tokens": {"image_token": "<i>"}}),
                json!({"additional_special_tokens": ["<a>"]}),
                vec!["<i>", "<a>"],
            ),
        ] {
            let object = |value: &Value| value.as_object().cloned().unwrap();
            let settings =
                Settings { config: object(&config), special_tokens_map: object(&map), ..Settings::default() };
            let tokens: Vec<_> = settings.extra_tokens().into_iter().map(|token| token.content).collect();
            assert_eq!(tokens, expected, "{config} {map}");
        }
    }
}
