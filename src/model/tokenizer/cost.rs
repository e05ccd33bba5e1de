//! The memory for tokenizing a text, which is hundreds of times its size: checked before it is allocated.

use super::Tokenizer;
use crate::error::Result;
use crate::guard::guarded;
use crate::memory;
use tokenizers::{NormalizedString, Normalizer};

/// The bytes of memory for each byte of text, an upper bound of what was measured: random ASCII takes 240, single
/// letters between spaces 250, prose 50 to 100.
const PER_BYTE: u64 = 300;
/// The bytes of memory for each byte of text and for each token, once the tokens are counted.
const PER_BYTE_AND_TOKEN: [u64; 2] = [60, 400];
/// The size of the parts in which text is measured, in bytes.
const PART: usize = 1 << 18;

/// Checks that there is enough memory to tokenize a text.
///
/// # Errors
/// The text needs more memory than is available.
pub(super) fn check(tokenizer: &Tokenizer, text: &str) -> Result<()> {
    if text.len() < PART {
        return Ok(());
    }
    let check = |bytes: u64| {
        let what = format!("the tokens of {} bytes of text", text.len());
        memory::check(&what, bytes).map_err(|error| error.with_hint("split the text, or free some memory"))
    };
    let [bytes, tokens] = [PER_BYTE_AND_TOKEN[0], PER_BYTE_AND_TOKEN[1]];
    let len = normalized_len(tokenizer, text);
    check(len * PER_BYTE).or_else(|_| {
        check(len * bytes)?;
        check(len * bytes + count(tokenizer, text) * tokens)
    })
}

/// The length of a text after normalization, in bytes.
fn normalized_len(tokenizer: &Tokenizer, text: &str) -> u64 {
    let Some(normalizer) = tokenizer.inner.get_normalizer() else { return text.len() as u64 };
    let len = |part: &str| {
        let mut part = NormalizedString::from(part);
        // A part that cannot be normalized is reported when the text is encoded.
        let _ = guarded(|| normalizer.normalize(&mut part));
        part.get().len() as u64
    };
    parts(text).map(len).sum()
}

/// The number of tokens of a text, except for differences at the ends of its parts.
fn count(tokenizer: &Tokenizer, text: &str) -> u64 {
    let tokens = |part: &str| {
        let encoding = guarded(|| tokenizer.inner.encode_fast(part, false));
        encoding.and_then(Result::ok).map_or(0, |encoding| encoding.len() as u64)
    };
    parts(text).map(tokens).sum()
}

fn parts(mut text: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let (part, rest) = text.split_at(text.floor_char_boundary(PART));
        text = rest;
        (!part.is_empty()).then_some(part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo;
    use crate::model::TokenizerHints;

    #[test]
    fn text_is_measured_in_parts() {
        let tokenizer = Tokenizer::from_bytes(
            "tokenizer.json",
            demo::TOKENIZER,
            demo::TOKENIZER_CONFIG,
            TokenizerHints::default(),
        );
        let tokenizer = tokenizer.unwrap();
        let text = "The old mill has no wheel. ".repeat(20_000);
        assert!(check(&tokenizer, &text).is_ok());
        assert_eq!(normalized_len(&tokenizer, &text), text.len() as u64);
        let all = tokenizer.encode(&text).unwrap().ids.len() as u64;
        assert!(count(&tokenizer, &text).abs_diff(all) <= 2 * parts(&text).count() as u64);
        assert_eq!(parts(&text).collect::<String>(), text);
    }
}
