//! Text to token ids and back, and where in the text each token is. The only user of the `tokenizers` crate.

use crate::error::{Error, Result};
use crate::files;
use crate::progress::Progress;
use crate::repo::Repo;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use tokenizers::models::bpe::BPE;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;

/// A tokenizer in the Hugging Face layout, with the ids of its special tokens.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    inner: Arc<tokenizers::Tokenizer>,
    special: SpecialTokens,
}

/// The tokens that begin and end a sequence. An id of 0 is a token like any other; "none" is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    /// The beginning of a sequence.
    pub bos: Option<u32>,
    /// The end of a text.
    pub eos: Option<u32>,
}

/// A text as tokens, without special tokens around it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encoding {
    /// The token ids.
    pub ids: Vec<u32>,
    /// The bytes of the text that each token stands for. Tokens that share a character share its bytes.
    pub bytes: Vec<Range<usize>>,
}

impl Tokenizer {
    /// Reads the tokenizer of a local model folder, as [`Tokenizer::from_repo`] does.
    ///
    /// # Errors
    /// A file that is there and cannot be read.
    pub fn from_folder(folder: &Path, config: SpecialTokens) -> Result<Option<Self>> {
        Self::from_repo(&Repo::local(folder), config, &Progress::default())
    }

    /// Reads the tokenizer of a model: `tokenizer.json`, or GPT-2's older `vocab.json` and `merges.txt`; the
    /// beginning-of-sequence token is that of `tokenizer_config.json`, else `config_bos`. A folder without either has
    /// no tokenizer.
    ///
    /// # Errors
    /// A file that is there and cannot be read, or not be downloaded.
    pub fn from_repo(repo: &Repo, config: SpecialTokens, progress: &Progress) -> Result<Option<Self>> {
        let file = |name: &str| match repo.has(name, progress)? {
            true => repo.file(name, progress).map(Some),
            false => Ok(None),
        };
        let mut inner = if let Some(path) = file("tokenizer.json")? {
            let bytes = files::read(&path)?;
            parse(&path, &bytes)?
        } else if let (Some(vocab), Some(merges)) = (file("vocab.json")?, file("merges.txt")?) {
            let bpe = BPE::from_file(&vocab.to_string_lossy(), &merges.to_string_lossy()).build();
            let mut inner = tokenizers::Tokenizer::new(bpe.map_err(|e| malformed(&vocab, e))?);
            inner.with_pre_tokenizer(Some(ByteLevel::default().add_prefix_space(false)));
            inner.with_decoder(Some(ByteLevel::default()));
            let special = tokenizers::AddedToken::from("<|endoftext|>", true);
            inner.add_special_tokens([special]).map_err(|e| malformed(&vocab, e))?;
            inner
        } else {
            return Ok(None);
        };
        let settings = match file("tokenizer_config.json")? {
            Some(path) => {
                let bytes = files::read(&path)?;
                serde_json::from_slice(&bytes).map_err(|e| malformed(&path, e))?
            }
            None => Value::Null,
        };
        without_truncation(&mut inner);
        Ok(Some(Self::new(inner, &settings, config)))
    }

    /// The same from the contents of `tokenizer.json` and `tokenizer_config.json`; `name` stands for it in messages.
    ///
    /// # Errors
    /// Contents that are not what the file names promise.
    pub fn from_bytes(name: &str, tokenizer: &[u8], settings: &[u8], config: SpecialTokens) -> Result<Self> {
        let path = Path::new(name);
        let mut inner = parse(path, tokenizer)?;
        without_truncation(&mut inner);
        let settings = serde_json::from_slice(settings).map_err(|e| malformed(path, e))?;
        Ok(Self::new(inner, &settings, config))
    }

    fn new(inner: tokenizers::Tokenizer, settings: &Value, config: SpecialTokens) -> Self {
        let id = |key: &str| {
            let token = settings.get(key)?;
            inner.token_to_id(token.as_str().or_else(|| token.get("content")?.as_str())?)
        };
        let special =
            SpecialTokens { bos: id("bos_token").or(config.bos), eos: id("eos_token").or(config.eos) };
        Tokenizer { inner: Arc::new(inner), special }
    }

    /// The special tokens.
    pub fn special(&self) -> SpecialTokens {
        self.special
    }

    /// Whether a token stands for no text of its own, but for the beginning of a sequence and the like.
    pub fn is_special(&self, id: u32) -> bool {
        let named = [self.special.bos, self.special.eos].contains(&Some(id));
        let added = self.inner.get_added_vocabulary();
        named || self.inner.id_to_token(id).is_some_and(|token| added.is_special_token(&token))
    }

    /// Whether there is a token with this id; a model may have embeddings for more ids than its tokenizer has tokens.
    pub fn has(&self, id: u32) -> bool {
        self.inner.id_to_token(id).is_some()
    }

    /// The number of tokens without those that were added to the vocabulary.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(false)
    }

    /// Splits a text into tokens, adding none.
    ///
    /// # Errors
    /// A text that the tokenizer refuses.
    pub fn encode(&self, text: &str) -> Result<Encoding> {
        let encoding = self.inner.encode(text, false).map_err(|e| {
            Error::mismatch(
                format!("the tokenizer refuses the text: {e}"),
                "look for unusual characters in it",
            )
        })?;
        let bytes = encoding.get_offsets().iter().map(|(start, end)| *start..*end).collect();
        Ok(Encoding { ids: encoding.get_ids().to_vec(), bytes })
    }

    /// The text of one token by itself; `<id 8191>` for an id that is no token, for a model may have more embeddings
    /// than its tokenizer has tokens.
    ///
    /// # Errors
    /// As [`Tokenizer::decode`].
    pub fn text_of(&self, id: u32) -> Result<String> {
        if self.has(id) { self.decode(&[id]) } else { Ok(format!("<id {id}>")) }
    }

    /// The text that tokens stand for, special tokens included.
    ///
    /// # Errors
    /// Tokens that the tokenizer does not know how to join.
    pub fn decode(&self, tokens: &[u32]) -> Result<String> {
        self.inner
            .decode(tokens, false)
            .map_err(|e| Error::mismatch(format!("cannot decode the tokens: {e}"), "check the token ids"))
    }
}

/// For each byte position the number of characters before it, for positions that mostly rise: one walk over the text.
///
/// ```
/// assert_eq!(saescope::char_offsets("naïve", [0, 2, 4, 4]), [0, 2, 3, 3]);
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

fn parse(path: &Path, bytes: &[u8]) -> Result<tokenizers::Tokenizer> {
    // The library relies on the smaller parts being JSON throughout, down to escapes, and gives up the process if not.
    let parts: BTreeMap<String, &RawValue> = serde_json::from_slice(bytes).map_err(|e| malformed(path, e))?;
    for (_, part) in parts.iter().filter(|(name, _)| *name != "model") {
        serde_json::from_str::<Value>(part.get()).map_err(|e| malformed(path, e))?;
    }
    tokenizers::Tokenizer::from_bytes(bytes).map_err(|e| malformed(path, e))
}

fn malformed(path: &Path, reason: impl std::fmt::Display) -> Error {
    Error::malformed(path, format!("not a tokenizer that can be read: {reason}"))
        .with_hint("download or copy the file again")
}

/// Some repositories ship a tokenizer with truncation or padding switched on; windows are cut elsewhere.
fn without_truncation(inner: &mut tokenizers::Tokenizer) {
    inner.with_padding(None);
    // Taking truncation away cannot fail: only an impossible stride can.
    let _ = inner.with_truncation(None);
}
