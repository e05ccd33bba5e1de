//! Token lists: the tokens whose embeddings lie near to a vector, or whose logits it raises.

use super::vector::VectorParams;
use serde::{Deserialize, Serialize};

/// How tokens are scored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenMethod {
    /// `(1 − cos(vector, e_t))^exponent / (1 − cos(centroid, e_t))`, smallest first: near the vector and far from the
    /// centroid, which is near to everything.
    #[default]
    Ratio,
    /// `cos(direction, e_t − centroid)`, largest first.
    CenteredCosine,
    /// The direction, weighted by the final norm's gain, times the unembedding; largest first.
    LogitLens,
    /// The direction times the unembedding, as Neuronpedia's logits have it; largest first.
    LogitLensRaw,
}

/// Which tokens are listed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenFilter {
    /// All.
    #[default]
    None,
    /// All but those that the tokenizer calls special, and those that no text gives.
    NoSpecial,
    /// Those of at least three letters and nothing else, but for a space in front.
    WordLike,
}

/// Which end of the list.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenOrder {
    /// The best scores.
    #[default]
    Nearest,
    /// The worst scores.
    Farthest,
}

/// What is listed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TokenListOptions {
    /// How tokens are scored: "ratio", "centered_cosine", "logit_lens" or "logit_lens_raw". Default: "ratio".
    pub method: TokenMethod,
    /// How much nearness to the vector counts against distance from the centroid, of "ratio". Default: 1.4.
    pub exponent: f64,
    /// How many tokens. Default: 100.
    pub top: usize,
    /// Which tokens: "none" for all, "no_special", "word_like". Default: "none".
    pub filter: TokenFilter,
    /// Which end of the list: "nearest" or "farthest". Default: "nearest".
    pub order: TokenOrder,
}

/// Tokens with their scores, and how they came about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenList {
    /// How they came about.
    pub params: TokenListParams,
    /// The tokens, best first; of the farthest, worst first.
    pub tokens: Vec<ScoredToken>,
}

/// How a token list came about.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TokenListParams {
    /// The version of this program.
    pub saescope: String,
    /// Of the vector.
    #[serde(flatten)]
    pub vector: VectorParams,
    /// How tokens were scored.
    pub method: TokenMethod,
    /// Of "ratio".
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exponent: Option<f64>,
    /// How many tokens were asked for.
    pub top: usize,
    /// Which tokens.
    pub filter: TokenFilter,
    /// Which end of the list.
    pub order: TokenOrder,
}

/// A token with its score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScoredToken {
    /// Its text.
    pub token: String,
    /// Its id.
    pub token_id: u32,
    /// Its score.
    pub score: f64,
    /// Its place among all tokens by this score, from 1 for the best, whatever is filtered.
    pub rank: usize,
}

impl Default for TokenListOptions {
    fn default() -> Self {
        TokenListOptions {
            method: TokenMethod::default(),
            exponent: 1.4,
            top: 100,
            filter: TokenFilter::default(),
            order: TokenOrder::default(),
        }
    }
}
