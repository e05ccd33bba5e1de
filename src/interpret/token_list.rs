//! Token lists: the tokens whose embeddings are near a vector, or whose logits it raises.

use super::logit_lens::logits;
use super::ranking::{ScoredToken, TokenFilter, check_top_k, nonzero, rank, scored_tokens};
use super::vector::{FeatureVector, VectorParams};
use crate::error::{Error, Result};
use crate::label::decimals;
use crate::linalg::{cosine, dot, map_rows};
use crate::model::Model;
use crate::text_table;
use saescope_options::options;
use serde::{Deserialize, Serialize};
use std::fmt;

/// How tokens are scored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenMethod {
    /// `(1 − cos(vector, e_t))^exponent / (1 − cos(centroid, e_t))`, lowest first: near the vector and far from the
    /// centroid, which is near everything.
    #[default]
    Ratio,
    /// `cos(direction, e_t − centroid)`, highest first.
    CenteredCosine,
    /// The direction, weighted by the final norm's gain, times the unembedding; highest first.
    LogitLens,
    /// The direction times the unembedding, as in Neuronpedia's logits; highest first.
    LogitLensRaw,
}

/// The end of the ranking that is listed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenOrder {
    /// The best scores.
    #[default]
    Nearest,
    /// The worst scores.
    Farthest,
}

options! {
    /// Options of [`token_list`].
    pub struct TokenListOptions {
        /// How tokens are scored: "ratio", "centered_cosine", "logit_lens" or "logit_lens_raw". Default: "ratio".
        pub method: TokenMethod = TokenMethod::default(),
        /// The weight of nearness to the vector against distance from the centroid, for "ratio" only. Default: 1.4.
        pub exponent: f64 = 1.4,
        /// The number of tokens. Default: 100.
        #[serde(alias = "top")]
        pub top_k: usize = 100,
        /// The tokens to keep: "none" (all of them), "no_special" or "word_like". Default: "none".
        pub filter: TokenFilter = TokenFilter::default(),
        /// The end of the ranking: "nearest" or "farthest". Default: "nearest".
        pub order: TokenOrder = TokenOrder::default(),
    }
}

/// Tokens with their scores, and how they were found.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TokenList {
    /// How the tokens were found.
    pub params: TokenListParams,
    /// The tokens, best first; with "farthest", worst first.
    pub tokens: Vec<ScoredToken>,
}

/// How a token list was made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TokenListParams {
    /// The version of saescope.
    pub saescope: String,
    /// How the vector was made.
    #[serde(flatten)]
    pub vector: VectorParams,
    /// How tokens were scored.
    pub method: TokenMethod,
    /// The exponent of "ratio"; `None` for other methods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exponent: Option<f64>,
    /// The number of tokens requested.
    pub top: usize,
    /// The filter: which tokens were kept.
    pub filter: TokenFilter,
    /// The end of the ranking that is listed.
    pub order: TokenOrder,
}

/// Lists the tokens that a vector is near, or whose logits its direction raises.
///
/// No forward pass is made. A model may have more embeddings than its tokenizer has tokens; the others are shown as
/// `<id 8191>`.
///
/// ```
/// # fn main() -> saescope::Result<()> {
/// use saescope::interpret::{TokenListOptions, VectorOptions};
/// use saescope::{Model, Sae, feature_vector, token_list};
///
/// let model = Model::load("demo")?;
/// let sae = Sae::load(("demo", "blocks.0.hook_resid_pre"))?;
/// let ghost = feature_vector(&model, &sae, 624, &VectorOptions::default())?;
/// let list = token_list(&model, &ghost, &TokenListOptions { top_k: 3, ..Default::default() })?;
/// let tokens: Vec<_> = list.tokens.iter().map(|token| token.token.as_str()).collect();
/// assert_eq!(tokens, [" body", " building", " blood"]);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// The vector is of another model; the vector or direction that the method uses is zero; the model has no tokenizer;
/// `top_k` is 0 or `exponent` is not above 0; a file cannot be read.
pub fn token_list(model: &Model, vector: &FeatureVector, options: &TokenListOptions) -> Result<TokenList> {
    let tokenizer = model.tokenizer()?;
    vector.check(model)?;
    let TokenListOptions { method, exponent, top_k, filter, order } = *options;
    check_top_k(top_k)?;
    if !(exponent.is_finite() && exponent > 0.0) {
        return Err(Error::invalid("`exponent`", "a number above 0", exponent));
    }
    let scores = match method {
        TokenMethod::Ratio => ratios(model, &vector.vector, exponent)?,
        TokenMethod::CenteredCosine => centered_cosines(model, &vector.direction)?,
        TokenMethod::LogitLens => logits(model, &vector.direction, true)?,
        TokenMethod::LogitLensRaw => logits(model, &vector.direction, false)?,
    };
    let ranked = rank(&scores, method.best_is_least());
    let last_first = order == TokenOrder::Farthest;
    let tokens = scored_tokens(tokenizer, &scores, &ranked, last_first, filter, top_k)?;
    let params = TokenListParams {
        saescope: env!("CARGO_PKG_VERSION").to_owned(),
        vector: vector.params.clone(),
        method,
        exponent: (method == TokenMethod::Ratio).then_some(exponent),
        top: top_k,
        filter,
        order,
    };
    Ok(TokenList { params, tokens })
}

/// `(1 − cos(vector, e_t))^exponent / (1 − cos(centroid, e_t))` for every token.
fn ratios(model: &Model, vector: &[f32], exponent: f64) -> Result<Vec<f64>> {
    let stats = model.embedding_stats()?;
    let (vector, norm) = nonzero(vector, "the vector")?;
    let dots = map_rows(model.embed_rows()?, |row| dot(row, &vector))?;
    let ratio = |(token, dot): (usize, f64)| {
        let near = 1.0 - cosine(dot, stats.norms[token], norm);
        // A token at the centroid would score infinity, which JSON cannot represent.
        let far = 1.0 - cosine(stats.centroid_dots[token], stats.norms[token], stats.centroid_norm);
        (near.powf(exponent) / far.max(f64::EPSILON)).min(f64::MAX)
    };
    Ok(dots.into_iter().enumerate().map(ratio).collect())
}

/// `cos(direction, e_t − centroid)` for every token.
fn centered_cosines(model: &Model, direction: &[f32]) -> Result<Vec<f64>> {
    let stats = model.embedding_stats()?;
    let (direction, norm) = nonzero(direction, "the direction")?;
    let dots = map_rows(model.embed_rows()?, |row| dot(row, &direction))?;
    let centroid_dot = dot(&stats.centroid, &direction);
    let cosine = |(token, dot): (usize, f64)| cosine(dot - centroid_dot, stats.distance(token), norm);
    Ok(dots.into_iter().enumerate().map(cosine).collect())
}

impl TokenMethod {
    /// The name in options and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            TokenMethod::Ratio => "ratio",
            TokenMethod::CenteredCosine => "centered_cosine",
            TokenMethod::LogitLens => "logit_lens",
            TokenMethod::LogitLensRaw => "logit_lens_raw",
        }
    }

    /// Whether the lowest score is the best.
    pub fn best_is_least(self) -> bool {
        self == TokenMethod::Ratio
    }
}

impl TokenListParams {
    /// A short title: "feature 624 of demo, encoder: nearest tokens by ratio, exponent 1.4".
    pub fn title(&self) -> String {
        let end = match self.order {
            TokenOrder::Nearest => "nearest",
            TokenOrder::Farthest => "farthest",
        };
        let exponent = self.exponent.map_or(String::new(), |exponent| format!(", exponent {exponent}"));
        format!("{}: {end} tokens by {}{exponent}", self.vector.title(), self.method.name())
    }
}

impl TokenList {
    /// The list as CSV with the columns `rank`, `token`, `token_id` and `score`.
    ///
    /// # Errors
    /// The CSV writer fails, which is not expected in memory.
    pub fn to_csv(&self) -> Result<String> {
        let mut csv = csv::Writer::from_writer(Vec::new());
        csv.write_record(["rank", "token", "token_id", "score"]).map_err(Error::failed("write CSV"))?;
        for ScoredToken { token, token_id, score, rank } in &self.tokens {
            let row = [rank.to_string(), token.clone(), token_id.to_string(), score.to_string()];
            csv.write_record(row).map_err(Error::failed("write CSV"))?;
        }
        let bytes = csv.into_inner().map_err(Error::failed("write CSV"))?;
        String::from_utf8(bytes).map_err(Error::failed("write CSV"))
    }
}

impl fmt::Display for TokenList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.params.title())?;
        let rows =
            self.tokens.iter().map(|token| [token.rank.to_string(), token.quoted(), decimals(token.score)]);
        text_table::write(f, Some(["rank", "token", "score"]), rows, [true, false, true])
    }
}
