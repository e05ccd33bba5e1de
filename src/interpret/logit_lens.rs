//! The logit lens of a direction: which next tokens it raises and which it lowers, and how the whole distribution lies.

use super::token_list::{ScoredToken, TokenFilter, check_top, number, rank, scored_tokens, table, widened};
use super::vector::{FeatureVector, VectorParams, decoder_row};
use crate::error::{Error, Result};
use crate::linalg::{dot, map_rows};
use crate::model::Model;
use crate::sae::Sae;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Steps of a histogram.
const BINS: usize = 60;

/// The logits of a direction over the vocabulary, `direction · W_U` or `(direction ⊙ gain) · W_U`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LogitLens {
    /// Of the vector.
    pub params: VectorParams,
    /// Whether the final norm's gain was part of it.
    pub final_norm_gain: bool,
    /// The tokens that it raises most, highest first.
    pub top: Vec<ScoredToken>,
    /// The tokens that it lowers most, lowest first.
    pub bottom: Vec<ScoredToken>,
    /// The mean of the logits.
    pub mean: f64,
    /// Their standard deviation.
    pub std: f64,
    /// Their third standardized moment: high where a few tokens are raised.
    pub skewness: f64,
    /// Their fourth standardized moment; 3 for a normal distribution.
    pub kurtosis: f64,
    /// How many logits lie in each of the equal steps from the least to the greatest.
    pub histogram: Vec<u64>,
    /// The least logit, where the histogram starts.
    pub min: f64,
    /// The greatest logit, where it ends.
    pub max: f64,
}

/// What a logit lens shows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogitLensOptions {
    /// How many tokens at either end. Default: 10.
    pub top: usize,
    /// Whether the final norm's gain is part of it; it changes the ranking. Default: true.
    pub final_norm_gain: bool,
}

impl Default for LogitLensOptions {
    fn default() -> Self {
        LogitLensOptions { top: 10, final_norm_gain: true }
    }
}

/// The logit lens of a vector's direction, without its scale and its origin.
///
/// It is the effect of the direction on the logits by itself: without the final norm's bias and its division, and
/// without the unembedding's bias.
///
/// # Errors
/// A vector of another model, or a direction of zeros; a model without tokenizer; a `top` of 0; logits that are not
/// finite; a file that cannot be read.
pub fn logit_lens(model: &Model, vector: &FeatureVector, options: &LogitLensOptions) -> Result<LogitLens> {
    vector.check(model)?;
    lens(model, &vector.direction, &vector.params, options)
}

/// The logit lens of a feature's decoder weights as they are, at whatever length they have. Without the final norm's gain
/// these are the logits that Neuronpedia shows.
///
/// # Errors
/// A feature that the SAE has not, or whose decoder writes elsewhere than into the residual stream; and as
/// [`logit_lens`].
pub fn decoder_logit_lens(
    model: &Model,
    sae: &Sae,
    index: usize,
    options: &LogitLensOptions,
) -> Result<LogitLens> {
    let row = decoder_row(model, sae, index)?;
    lens(model, &row.vector, &row.params, options)
}

fn lens(
    model: &Model,
    direction: &[f32],
    params: &VectorParams,
    options: &LogitLensOptions,
) -> Result<LogitLens> {
    let tokenizer = model.tokenizer()?;
    let LogitLensOptions { top, final_norm_gain } = *options;
    check_top(top)?;
    let logits = logits(model, direction, final_norm_gain)?;
    let ranked = rank(&logits, false);
    let end = |last_first| scored_tokens(tokenizer, &logits, &ranked, last_first, TokenFilter::None, top);
    let (top, bottom) = (end(false)?, end(true)?);
    let Moments { mean, std, skewness, kurtosis } = Moments::of(&logits);
    let at = |token: Option<&u32>| token.map_or(0.0, |token| logits[*token as usize]);
    let (min, max) = (at(ranked.last()), at(ranked.first()));
    let mut histogram = vec![0; BINS];
    for logit in &logits {
        // Where all are alike, 0 / 0 is NaN, which becomes the first step.
        let step = ((logit - min) / (max - min) * BINS as f64) as usize;
        histogram[step.min(BINS - 1)] += 1;
    }
    let params = params.clone();
    Ok(LogitLens { params, final_norm_gain, top, bottom, mean, std, skewness, kurtosis, histogram, min, max })
}

/// A direction times the unembedding, `[d_vocab]`, in f64.
pub(super) fn logits(model: &Model, direction: &[f32], final_norm_gain: bool) -> Result<Vec<f64>> {
    let (mut direction, _) = widened(direction, "the direction")?;
    if final_norm_gain {
        let gain = model.ln_final_weight()?.to_vec1::<f32>()?;
        direction.iter_mut().zip(gain).for_each(|(x, gain)| *x *= f64::from(gain));
    }
    let logits = map_rows(&model.W_U()?.t()?, |row| dot(row, &direction))?;
    match logits.iter().position(|logit| !logit.is_finite()) {
        None => Ok(logits),
        Some(token) => {
            let name = &model.cfg().model_name;
            Err(Error::NotFinite { message: format!("the logit of token {token} of `{name}` is not finite") })
        }
    }
}

/// How numbers are distributed; 0 where they are all alike.
struct Moments {
    mean: f64,
    std: f64,
    skewness: f64,
    kurtosis: f64,
}

impl Moments {
    fn of(numbers: &[f64]) -> Self {
        let n = numbers.len() as f64;
        let mean = numbers.iter().sum::<f64>() / n;
        let std = (numbers.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
        let moment = |k: i32| match std > 0.0 {
            true => numbers.iter().map(|x| ((x - mean) / std).powi(k)).sum::<f64>() / n,
            false => 0.0,
        };
        Moments { mean, std, skewness: moment(3), kurtosis: moment(4) }
    }
}

impl fmt::Display for LogitLens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gain = if self.final_norm_gain { " with the final norm's gain" } else { "" };
        write!(f, "{}: logit lens{gain}", self.params.title())?;
        let cells = |tokens: &[ScoredToken], i: usize| {
            tokens.get(i).map_or(Default::default(), |token| [token.quoted(), number(token.score)])
        };
        let row = |i| {
            let ([raised, by], [lowered, down]) = (cells(&self.top, i), cells(&self.bottom, i));
            [raised, by, lowered, down]
        };
        let titles = ["raises", "logit", "lowers", "logit"].map(str::to_owned);
        let rows = (0..self.top.len().max(self.bottom.len())).map(row);
        table(f, std::iter::once(titles).chain(rows).collect(), [false, true, false, true])?;
        let [mean, std, skewness, kurtosis] = [self.mean, self.std, self.skewness, self.kurtosis].map(number);
        write!(f, "\nmean {mean}, std {std}, skewness {skewness}, kurtosis {kurtosis}")
    }
}
