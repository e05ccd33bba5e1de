//! Token lists: the tokens whose embeddings lie near to a vector, or whose logits it raises.

use super::logit_lens::logits;
use super::vector::{FeatureVector, VectorParams};
use crate::error::{Error, Result};
use crate::linalg::{cosine, dot, map_rows};
use crate::model::{Model, Tokenizer};
use serde::{Deserialize, Serialize};
use std::fmt;

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
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
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

/// The tokens that a vector lies near to, or whose logits its direction raises.
///
/// No forward pass is made. A token that the tokenizer does not know, for a model may have more embeddings than tokens,
/// is shown as `<id 8191>`.
///
/// ```
/// # fn main() -> saescope::Result<()> {
/// use saescope::{Model, Sae, SaeOptions, TokenListOptions, VectorOptions, feature_vector, token_list};
///
/// let model = Model::load("demo")?;
/// let sae = Sae::load("demo", Some("blocks.0.hook_resid_pre"), &SaeOptions::default())?;
/// let ghost = feature_vector(&model, &sae, 624, &VectorOptions::default())?;
/// let list = token_list(&model, &ghost, &TokenListOptions { top: 3, ..Default::default() })?;
/// let tokens: Vec<_> = list.tokens.iter().map(|token| token.token.as_str()).collect();
/// assert_eq!(tokens, [" body", " building", " blood"]);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// A vector of another model, or one that the method cannot use, being zeros; a model without tokenizer; a `top` of 0, an
/// `exponent` that is not above 0; a file that cannot be read.
pub fn token_list(model: &Model, vector: &FeatureVector, options: &TokenListOptions) -> Result<TokenList> {
    let tokenizer = model.tokenizer()?;
    vector.check(model)?;
    let TokenListOptions { method, exponent, top, filter, order } = *options;
    check_top(top)?;
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
    let tokens = scored_tokens(tokenizer, &scores, &ranked, last_first, filter, top)?;
    let params = TokenListParams {
        saescope: env!("CARGO_PKG_VERSION").to_owned(),
        vector: vector.params.clone(),
        method,
        exponent: (method == TokenMethod::Ratio).then_some(exponent),
        top,
        filter,
        order,
    };
    Ok(TokenList { params, tokens })
}

/// `(1 − cos(vector, e_t))^exponent / (1 − cos(centroid, e_t))` of every token.
fn ratios(model: &Model, vector: &[f32], exponent: f64) -> Result<Vec<f64>> {
    let stats = model.embedding_stats()?;
    let (vector, norm) = widened(vector, "the vector")?;
    let dots = map_rows(&model.W_E()?, |row| dot(row, &vector))?;
    let ratio = |(token, dot): (usize, f64)| {
        let near = 1.0 - cosine(dot, stats.norms[token], norm);
        // The centroid itself, were it a token, would be infinitely far down the list: JSON has no such number.
        let far = 1.0 - cosine(stats.centroid_dots[token], stats.norms[token], stats.centroid_norm);
        (near.powf(exponent) / far.max(f64::EPSILON)).min(f64::MAX)
    };
    Ok(dots.into_iter().enumerate().map(ratio).collect())
}

/// `cos(direction, e_t − centroid)` of every token.
fn centered_cosines(model: &Model, direction: &[f32]) -> Result<Vec<f64>> {
    let stats = model.embedding_stats()?;
    let (direction, norm) = widened(direction, "the direction")?;
    let dots = map_rows(&model.W_E()?, |row| dot(row, &direction))?;
    let of_centroid = dot(&stats.centroid, &direction);
    let cosine = |(token, dot): (usize, f64)| cosine(dot - of_centroid, stats.distance(token), norm);
    Ok(dots.into_iter().enumerate().map(cosine).collect())
}

/// A vector in f64, and its norm, which is not 0.
pub(super) fn widened(vector: &[f32], what: &str) -> Result<(Vec<f64>, f64)> {
    let vector: Vec<f64> = vector.iter().map(|x| f64::from(*x)).collect();
    let norm = vector.iter().map(|x| x * x).sum::<f64>().sqrt();
    if norm > 0.0 {
        return Ok((vector, norm));
    }
    let hint =
        "a scale of 0 without the token centroid leaves nothing, and the centroid itself has no direction";
    Err(Error::invalid(what, "one that is not zeros", "zeros").with_hint(hint))
}

/// The ids of all tokens, best first; of equal ones the first comes first.
pub(super) fn rank(scores: &[f64], best_is_least: bool) -> Vec<u32> {
    let mut ranked: Vec<u32> = (0..scores.len() as u32).collect();
    ranked.sort_unstable_by(|a, b| {
        let (x, y) = (scores[*a as usize], scores[*b as usize]);
        let (x, y) = if best_is_least { (x, y) } else { (y, x) };
        x.partial_cmp(&y).unwrap_or(std::cmp::Ordering::Equal).then(a.cmp(b))
    });
    ranked
}

/// The first tokens of a ranking, or the last, that a filter lets through.
pub(super) fn scored_tokens(
    tokenizer: &Tokenizer,
    scores: &[f64],
    ranked: &[u32],
    last_first: bool,
    filter: TokenFilter,
    top: usize,
) -> Result<Vec<ScoredToken>> {
    let n = ranked.len();
    let mut tokens = Vec::with_capacity(top.min(n));
    for at in 0..n {
        if tokens.len() == top {
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

/// Checks a number of things to show.
pub(super) fn check_top(top: usize) -> Result<()> {
    if top > 0 { Ok(()) } else { Err(Error::invalid("`top`", "at least 1", top)) }
}

impl TokenMethod {
    /// Its name in options and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            TokenMethod::Ratio => "ratio",
            TokenMethod::CenteredCosine => "centered_cosine",
            TokenMethod::LogitLens => "logit_lens",
            TokenMethod::LogitLensRaw => "logit_lens_raw",
        }
    }

    /// Whether the best score is the least one.
    pub fn best_is_least(self) -> bool {
        self == TokenMethod::Ratio
    }
}

impl TokenFilter {
    /// The text of a token, if the filter lets it through.
    fn text(self, tokenizer: &Tokenizer, id: u32) -> Result<Option<String>> {
        if self != TokenFilter::None && (!tokenizer.has(id) || tokenizer.is_special(id)) {
            return Ok(None);
        }
        let text = tokenizer.text_of(id)?;
        Ok((self != TokenFilter::WordLike || is_word_like(&text)).then_some(text))
    }
}

/// Whether a text is at least three letters, in any script, and nothing else but a space in front.
fn is_word_like(text: &str) -> bool {
    let word = text.strip_prefix(' ').unwrap_or(text);
    word.chars().count() >= 3 && word.chars().all(char::is_alphabetic)
}

impl TokenListParams {
    /// What is listed, in a few words: "feature 624 of demo, encoder: nearest tokens by ratio, exponent 1.4".
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
    /// The list as CSV, with the columns rank, token, token_id and score.
    ///
    /// # Errors
    /// None that is known; the writer has one.
    pub fn to_csv(&self) -> Result<String> {
        let failed =
            |e: &dyn std::fmt::Display| Error::invalid("the list as CSV", "one that can be written", e);
        let mut csv = csv::Writer::from_writer(Vec::new());
        csv.write_record(["rank", "token", "token_id", "score"]).map_err(|e| failed(&e))?;
        for ScoredToken { token, token_id, score, rank } in &self.tokens {
            let row = [rank.to_string(), token.clone(), token_id.to_string(), score.to_string()];
            csv.write_record(row).map_err(|e| failed(&e))?;
        }
        let bytes = csv.into_inner().map_err(|e| failed(&e))?;
        String::from_utf8(bytes).map_err(|e| failed(&e))
    }
}

impl fmt::Display for TokenList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.params.title())?;
        let rows =
            self.tokens.iter().map(|token| [token.rank.to_string(), token.quoted(), number(token.score)]);
        let titles = ["rank", "token", "score"].map(str::to_owned);
        table(f, std::iter::once(titles).chain(rows).collect(), [true, false, true])
    }
}

impl ScoredToken {
    /// Its text in quotation marks, so that spaces and control characters can be seen.
    pub fn quoted(&self) -> String {
        format!("{:?}", self.token)
    }
}

/// A number for a table.
pub(super) fn number(x: f64) -> String {
    if x != 0.0 && x.abs() < 1e-3 { format!("{x:.3e}") } else { format!("{x:.4}") }
}

/// Lines of aligned columns, each behind a line break and indented; columns of numbers end together.
pub(super) fn table<const N: usize>(
    f: &mut fmt::Formatter<'_>,
    rows: Vec<[String; N]>,
    right: [bool; N],
) -> fmt::Result {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; N] = std::array::from_fn(width);
    for row in &rows {
        let cells = row.iter().zip(widths).zip(right).map(|((cell, width), right)| match right {
            true => format!("{cell:>width$}"),
            false => format!("{cell:<width$}"),
        });
        write!(f, "\n  {}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}
