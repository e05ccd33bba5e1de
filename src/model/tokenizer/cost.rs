//! The memory that tokenizing a text takes, which is hundreds of times its size: known before it is taken.

use super::Tokenizer;
use crate::error::Result;
use crate::guard::guarded;
use crate::memory;
use tokenizers::{NormalizedString, Normalizer};

/// The most bytes of memory for each byte of a text, of the kinds that were measured: random ASCII takes 240, single letters
/// between spaces 250, prose 50 to 100.
const OF_BYTE: u64 = 300;
/// The same where the tokens have been counted, for each byte and for each token.
const OF_COUNTED: [u64; 2] = [60, 400];
/// How much of a text is looked at together, in bytes.
const PART: usize = 1 << 18;

/// Checks that there is memory for the tokens of a text.
///
/// # Errors
/// A text that takes more than there is.
pub(super) fn check(tokenizer: &Tokenizer, text: &str) -> Result<()> {
    if text.len() < PART {
        return Ok(());
    }
    let check = |bytes: u64| {
        let what = format!("the tokens of a text of {} bytes", text.len());
        memory::check(&what, bytes).map_err(|error| error.with_hint("split the text, or free some memory"))
    };
    let [bytes, tokens] = [OF_COUNTED[0], OF_COUNTED[1]];
    let len = normalized_len(tokenizer, text);
    check(len * OF_BYTE).or_else(|_| {
        check(len * bytes)?;
        check(len * bytes + count(tokenizer, text) * tokens)
    })
}

/// The bytes of a text as the tokenizer spells it.
fn normalized_len(tokenizer: &Tokenizer, text: &str) -> u64 {
    let Some(normalizer) = tokenizer.inner.get_normalizer() else { return text.len() as u64 };
    let len = |part: &str| {
        let mut part = NormalizedString::from(part);
        // A part that cannot be normalized is an error of the text's own later.
        let _ = guarded(|| normalizer.normalize(&mut part));
        part.get().len() as u64
    };
    parts(text).map(len).sum()
}

/// How many tokens a text has, but for those at the ends of its parts.
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
    fn texts_are_measured_in_parts() {
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
