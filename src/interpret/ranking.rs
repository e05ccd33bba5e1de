//! Rankings of tokens by a score, and what all rankings share.

use crate::error::{Error, Result};
use crate::linalg::{to_f64, vector_norm};
use crate::model::Tokenizer;
use serde::{Deserialize, Serialize};

/// Which tokens are listed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenFilter {
    /// All tokens.
    #[default]
    None,
    /// Without the tokenizer's special tokens, and without ids that the tokenizer does not know.
    NoSpecial,
    /// Only tokens of at least three letters and nothing else, except for a leading space.
    WordLike,
}

/// A token with its score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoredToken {
    /// The token as a string.
    pub token: String,
    /// The token id.
    pub token_id: u32,
    /// The score by the list's method; a logit in a logit lens.
    pub score: f64,
    /// The rank among all tokens before any filter, from 1 for the best.
    pub rank: usize,
}

/// Checks the option `top_k`.
pub(super) fn check_top_k(top_k: usize) -> Result<()> {
    if top_k > 0 { Ok(()) } else { Err(Error::invalid("`top_k`", "at least 1", top_k)) }
}

/// Returns a vector in f64, with its norm.
///
/// # Errors
/// The vector, which the message calls `what`, is zero.
pub(super) fn nonzero(vector: &[f32], what: &str) -> Result<(Vec<f64>, f64)> {
    let vector = to_f64(vector);
    let norm = vector_norm(&vector);
    if norm > 0.0 {
        return Ok((vector, norm));
    }
    let hint =
        "a scale of 0 without the token centroid gives zeros, and the centroid itself has no direction";
    Err(Error::invalid(what, "a non-zero vector", "zeros").with_hint(hint))
}

/// Returns the ids of all tokens, best first; equal scores by ascending id.
pub(super) fn rank(scores: &[f64], best_is_least: bool) -> Vec<u32> {
    let mut ranked: Vec<u32> = (0..scores.len() as u32).collect();
    ranked.sort_unstable_by(|a, b| {
        let (x, y) = (scores[*a as usize], scores[*b as usize]);
        let (x, y) = if best_is_least { (x, y) } else { (y, x) };
        x.partial_cmp(&y).unwrap_or(std::cmp::Ordering::Equal).then(a.cmp(b))
    });
    ranked
}

/// Returns the first `top_k` tokens of a ranking, or the last, that a filter keeps.
pub(super) fn scored_tokens(
    tokenizer: &Tokenizer,
    scores: &[f64],
    ranked: &[u32],
    last_first: bool,
    filter: TokenFilter,
    top_k: usize,
) -> Result<Vec<ScoredToken>> {
    let n = ranked.len();
    let mut tokens = Vec::with_capacity(top_k.min(n));
    for at in 0..n {
        if tokens.len() == top_k {
            break;
        }
        let at = if last_first { n - 1 - at } else { at };
        let token_id = ranked[at];
        if let Some(token) = filter.text(tokenizer, token_id)? {
            tokens.push(ScoredToken { token, token_id, score: scores[token_id as usize], rank: at + 1 });
        }
    }
    Ok(tokens)
}

impl TokenFilter {
    /// Returns the token as a string if the filter keeps it.
    fn text(self, tokenizer: &Tokenizer, id: u32) -> Result<Option<String>> {
        if self != TokenFilter::None && (!tokenizer.has(id) || tokenizer.is_special(id)) {
            return Ok(None);
        }
        let text = tokenizer.token_text(id)?;
        Ok((self != TokenFilter::WordLike || is_word_like(&text)).then_some(text))
    }
}

/// Whether a string is at least three letters, in any script, and nothing else except for a leading space.
fn is_word_like(text: &str) -> bool {
    let word = text.strip_prefix(' ').unwrap_or(text);
    word.chars().count() >= 3 && word.chars().all(char::is_alphabetic)
}

impl ScoredToken {
    /// The token in quotation marks, with spaces and control characters visible.
    pub fn quoted(&self) -> String {
        format!("{:?}", self.token)
    }
}
