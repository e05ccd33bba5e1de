//! Text to token ids and back, with the byte range of each token. The only user of the `tokenizers` crate.

mod cost;
mod settings;

pub use settings::TokenizerHints;

use crate::error::{Error, Result};
use crate::files;
use crate::guard::guarded;
use crate::progress::Progress;
use crate::repo::Repo;
use saescope_options::options;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use settings::{Settings, set_prefix_space};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, PostProcessor, PostProcessorWrapper};

/// A tokenizer in the Hugging Face layout, with the ids of its special tokens.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: Arc<tokenizers::Tokenizer>,
    /// The post-processor that trims spaces from the byte ranges of tokens, if there is one.
    trims: Option<Arc<PostProcessorWrapper>>,
    special: SpecialTokens,
    bos_source: Arc<str>,
}

/// The ids of the tokens that begin and end a sequence. 0 is an ordinary id.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    /// The beginning-of-sequence token. A tokenizer without one uses its end-of-text token, as in TransformerLens.
    pub bos: Option<u32>,
    /// The end-of-text token.
    pub eos: Option<u32>,
}

options! {
    /// Options for turning a text into tokens.
    pub struct TokenOptions {
        /// Whether the tokens begin with a BOS. Default: as the model does.
        pub prepend_bos: Option<bool> = None,
    }
}

/// The tokens of a text, without special tokens around it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encoding {
    /// The token ids, `[pos]`.
    pub ids: Vec<u32>,
    /// The byte range of each token in the text, as the tokenizer reports it, `[pos]`. Tokens that share a character
    /// share its bytes; some tokenizers leave out leading spaces.
    pub bytes: Vec<Range<usize>>,
    /// The bytes of the text covered up to the end of each token, spaces included, `[pos]`. Never decreases.
    pub covered: Vec<usize>,
}

impl Tokenizer {
    /// Reads the tokenizer of a local model folder, as [`Tokenizer::from_repo`] does.
    ///
    /// # Errors
    /// A file that exists but cannot be read.
    pub fn from_folder(folder: &Path, hints: TokenizerHints) -> Result<Option<Self>> {
        Self::from_repo(&Repo::local(folder), hints, &Progress::default())
    }

    /// Reads the tokenizer of a model: `tokenizer.json`, or GPT-2's older `vocab.json` and `merges.txt`, with the
    /// additions of `tokenizer_config.json`, `special_tokens_map.json` and `added_tokens.json`. `hints` come from the
    /// model's own configuration. `None` for a folder without a tokenizer.
    ///
    /// # Errors
    /// A file that exists but cannot be read or downloaded.
    pub fn from_repo(repo: &Repo, hints: TokenizerHints, progress: &Progress) -> Result<Option<Self>> {
        let file = |name: &str| match repo.has(name, progress)? {
            true => repo.file(name, progress).map(Some),
            false => Ok(None),
        };
        let object = |name: &str| match file(name)? {
            Some(path) => object(&path, &files::read(&path)?),
            None => Ok(Map::new()),
        };
        let found = match file("tokenizer.json")? {
            Some(path) => Some((path, None)),
            None => file("vocab.json")?.zip(file("merges.txt")?.map(Some)),
        };
        let Some((path, merges)) = found else { return Ok(None) };
        let mut settings =
            Settings { config: object("tokenizer_config.json")?, hints, ..Settings::default() };
        if Settings::is_old(&settings.config) {
            settings.special_tokens_map = object("special_tokens_map.json")?;
            settings.added_tokens = object("added_tokens.json")?;
        }
        settings.hints.generation = TokenizerHints::ids(&object("generation_config.json")?);
        let Some(merges) = merges else {
            return Self::parse(&path, &files::read(&path)?, &settings).map(Some);
        };
        let bpe = guarded(|| BPE::from_file(&path.to_string_lossy(), &merges.to_string_lossy()).build());
        let bpe = bpe.ok_or_else(|| malformed(&path, CONTRADICTION))?.map_err(|e| malformed(&path, e))?;
        let mut inner = tokenizers::Tokenizer::new(bpe);
        let space = settings.prefix_space(true).unwrap_or(false);
        inner.with_pre_tokenizer(Some(ByteLevel::default().add_prefix_space(space)));
        inner.with_decoder(Some(ByteLevel::default()));
        let end = AddedToken::from("<|endoftext|>", true);
        inner.add_special_tokens([end]).map_err(|e| malformed(&path, e))?;
        Self::new(&path, inner, &settings, true).map(Some)
    }

    /// Reads a tokenizer from the contents of `tokenizer.json` and `tokenizer_config.json`; errors call it `name`.
    ///
    /// # Errors
    /// Contents that are not valid for these files.
    pub fn from_bytes(name: &str, tokenizer: &[u8], settings: &[u8], hints: TokenizerHints) -> Result<Self> {
        let path = Path::new(name);
        let settings = Settings { config: object(path, settings)?, hints, ..Settings::default() };
        Self::parse(path, tokenizer, &settings)
    }

    /// Parses a `tokenizer.json` and applies the settings of the other files.
    fn parse(path: &Path, bytes: &[u8], settings: &Settings) -> Result<Self> {
        let mut parts: BTreeMap<String, Box<RawValue>> =
            serde_json::from_slice(bytes).map_err(|e| malformed(path, e))?;
        let is_byte_level =
            parts.get("pre_tokenizer").is_some_and(|part| part.get().contains("\"ByteLevel\""));
        let space = settings.prefix_space(is_byte_level);
        let is_legacy = settings.config.get("legacy").and_then(Value::as_bool) == Some(true);
        let mut is_changed = false;
        for (name, part) in &mut parts {
            if name == "model" {
                continue;
            }
            // The library relies on these being valid JSON, including escapes, with little nesting.
            let mut value: Value = serde_json::from_str(part.get()).map_err(|e| malformed(path, e))?;
            if name != "added_tokens" && depth(&value) > MAX_DEPTH {
                return Err(malformed(path, format!("`{name}` is nested more than {MAX_DEPTH} levels deep")));
            }
            if space.is_some_and(|wanted| set_prefix_space(name, &mut value, wanted, is_legacy)) {
                is_changed = true;
                *part = serde_json::value::to_raw_value(&value).map_err(|e| malformed(path, e))?;
            }
        }
        let changed =
            if is_changed { serde_json::to_vec(&parts).map_err(|e| malformed(path, e))? } else { Vec::new() };
        let bytes = if is_changed { &changed } else { bytes };
        let inner = guarded(|| tokenizers::Tokenizer::from_bytes(bytes));
        let inner = inner.ok_or_else(|| malformed(path, CONTRADICTION))?.map_err(|e| malformed(path, e))?;
        Self::new(path, inner, settings, is_byte_level)
    }

    fn new(
        path: &Path,
        mut inner: tokenizers::Tokenizer,
        settings: &Settings,
        is_byte_level: bool,
    ) -> Result<Self> {
        // Some repositories ship a tokenizer with truncation or padding switched on; contexts are cut elsewhere.
        // Removing truncation cannot fail: only an impossible stride can.
        inner.with_padding(None);
        let _ = inner.with_truncation(None);
        inner.set_encode_special_tokens(settings.splits_special_tokens());
        let trims = inner.get_post_processor().filter(|processor| trims_offsets(processor)).cloned();
        inner.with_post_processor(None::<PostProcessorWrapper>);
        let is_added = |token: &str| inner.get_added_vocabulary().get_vocab().contains_key(token);
        let tokens =
            settings.tokens_to_add(|token| inner.token_to_id(token).is_some(), is_added, is_byte_level);
        inner.add_tokens(tokens).map_err(|e| malformed(path, e))?;
        let (special, bos_source) = settings.special_tokens(|token| inner.token_to_id(token), is_byte_level);
        let (inner, trims) = (Arc::new(inner), trims.map(Arc::new));
        Ok(Tokenizer { inner, trims, special, bos_source: bos_source.into() })
    }

    /// The file or rule that names the beginning-of-sequence token; empty if there is no such token.
    pub fn bos_source(&self) -> &str {
        &self.bos_source
    }

    /// The special tokens.
    pub fn special(&self) -> SpecialTokens {
        self.special
    }

    /// Whether a token represents no text, but the beginning of a sequence or the like.
    pub fn is_special(&self, id: u32) -> bool {
        let named = [self.special.bos, self.special.eos].contains(&Some(id));
        let added = self.inner.get_added_vocabulary();
        named || self.inner.id_to_token(id).is_some_and(|token| added.is_special_token(&token))
    }

    /// Whether there is a token with this id; a model may have embeddings for more ids than its tokenizer has tokens.
    pub fn has(&self, id: u32) -> bool {
        self.inner.id_to_token(id).is_some()
    }

    /// The number of tokens in the vocabulary, without added tokens.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(false)
    }

    /// Everything that determines the tokens, as bytes.
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>> {
        let parts = (&*self.inner, self.trims.as_deref(), self.special.bos, self.special.eos);
        serde_json::to_vec(&parts).map_err(Error::failed("serialize the tokenizer"))
    }

    /// Splits a text into tokens, without adding special ones.
    ///
    /// # Errors
    /// Text that the tokenizer rejects; not enough memory.
    pub fn encode(&self, text: &str) -> Result<Encoding> {
        cost::check(self, text)?;
        let rejected = |reason: String| {
            let message = format!("cannot encode the text: {reason}");
            Error::mismatch(message, "look for unusual characters in it")
        };
        let encoding = guarded(|| self.inner.encode(text, false));
        let encoding = encoding.ok_or_else(|| rejected(CONTRADICTION.to_owned()))?;
        let mut encoding = encoding.map_err(|e| rejected(e.to_string()))?;
        let mut most = 0;
        let mut furthest = |(_, end): &(usize, usize)| {
            most = most.max((*end).min(text.len()));
            most
        };
        let covered = encoding.get_offsets().iter().map(&mut furthest).collect();
        if let Some(trims) = &self.trims {
            encoding = trims.process(encoding, None, false).map_err(|e| rejected(e.to_string()))?;
        }
        let bytes = encoding.get_offsets().iter().map(|(start, end)| *start..*end).collect();
        Ok(Encoding { ids: encoding.get_ids().to_vec(), bytes, covered })
    }

    /// Decodes one token by itself; `<id 8191>` for an id without a token, since a model may have more embeddings than
    /// its tokenizer has tokens.
    ///
    /// # Errors
    /// As [`Tokenizer::decode`].
    pub fn token_text(&self, id: u32) -> Result<String> {
        if self.has(id) { self.decode(&[id]) } else { Ok(format!("<id {id}>")) }
    }

    /// Decodes tokens to text, special tokens included.
    ///
    /// # Errors
    /// Tokens that the tokenizer cannot join.
    pub fn decode(&self, tokens: &[u32]) -> Result<String> {
        self.inner
            .decode(tokens, false)
            .map_err(|e| Error::mismatch(format!("cannot decode the tokens: {e}"), "check the token ids"))
    }
}

/// The number of characters before each byte offset. Takes one pass over the text if the offsets mostly rise.
///
/// ```
/// assert_eq!(saescope::model::char_offsets("naïve", [0, 2, 4, 4]), [0, 2, 3, 3]);
/// ```
pub fn char_offsets(text: &str, bytes: impl IntoIterator<Item = usize>) -> Vec<usize> {
    let all = text.as_bytes();
    let (mut at, mut characters) = (0, 0);
    let step = |byte: usize| {
        if byte < at {
            (at, characters) = (0, 0);
        }
        let passed = all.get(at..byte).unwrap_or_default();
        characters += passed.iter().filter(|b| !matches!(b, 0x80..=0xBF)).count();
        at = byte;
        characters
    };
    bytes.into_iter().map(step).collect()
}

/// The reason given in errors if the library panics.
const CONTRADICTION: &str = "its parts contradict each other";

/// The limit on nesting in the parts of a `tokenizer.json`; published ones have at most seven levels.
const MAX_DEPTH: usize = 16;

fn depth(value: &Value) -> usize {
    1 + match value {
        Value::Array(values) => values.iter().map(depth).max().unwrap_or(0),
        Value::Object(values) => values.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// Whether a post-processor trims spaces from the offsets of tokens.
fn trims_offsets(processor: &PostProcessorWrapper) -> bool {
    match processor {
        PostProcessorWrapper::ByteLevel(byte_level) => byte_level.trim_offsets,
        PostProcessorWrapper::Roberta(_) => true,
        PostProcessorWrapper::Sequence(all) => all.as_ref().iter().any(trims_offsets),
        _ => false,
    }
}

fn object(path: &Path, bytes: &[u8]) -> Result<Map<String, Value>> {
    serde_json::from_slice(bytes).map_err(|e| malformed(path, e))
}

fn malformed(path: &Path, reason: impl std::fmt::Display) -> Error {
    Error::malformed(path, format!("not a valid tokenizer: {reason}"))
        .with_hint("download or copy the file again")
}
