//! The logit lens of a direction: the next tokens that it raises and lowers, and the distribution of all logits.

use super::make_vector::decoder_row;
use super::ranking::{ScoredToken, TokenFilter, check_top_k, nonzero, rank, scored_tokens};
use super::vector::{FeatureVector, VectorParams};
use crate::error::{Error, Result};
use crate::label::decimals;
use crate::linalg::{dot, map_rows};
use crate::model::Model;
use crate::sae::Sae;
use crate::text_table;
use saescope_options::options;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Bins of the histogram.
const BINS: usize = 60;

/// The logits of a direction over the vocabulary, `direction · W_U` or `(direction ⊙ gain) · W_U`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LogitLens {
    /// How the vector was made.
    pub params: VectorParams,
    /// Whether the direction was multiplied by the final norm's gain.
    pub final_norm_gain: bool,
    /// The tokens that the direction raises most, highest first.
    pub top: Vec<ScoredToken>,
    /// The tokens that the direction lowers most, lowest first.
    pub bottom: Vec<ScoredToken>,
    /// The mean of the logits.
    pub mean: f64,
    /// The standard deviation of the logits.
    pub std: f64,
    /// The third standardized moment: high if a few tokens are raised.
    pub skewness: f64,
    /// The fourth standardized moment; 3 for a normal distribution.
    pub kurtosis: f64,
    /// The number of logits in each of 60 equal bins from `min` to `max`.
    pub histogram: Vec<u64>,
    /// The lowest logit, where the histogram starts.
    pub min: f64,
    /// The highest logit, where the histogram ends.
    pub max: f64,
}

options! {
    /// Options of [`logit_lens`].
    pub struct LogitLensOptions {
        /// The number of tokens at either end. Default: 10.
        #[serde(alias = "top")]
        pub top_k: usize = 10,
        /// Whether to multiply by the final norm's gain, which changes the ranking. Default: true.
        pub final_norm_gain: bool = true,
    }
}

/// The logit lens of a vector's direction; its scale and its origin are unused.
///
/// This is the direct effect of the direction on the logits: without the final norm's bias and division, and without
/// the unembedding's bias.
///
/// ```
/// # fn main() -> saescope::Result<()> {
/// use saescope::prelude::*;
///
/// let (model, sae) = (Model::load("demo")?, Sae::load("demo")?);
/// let vector = feature_vector(&model, &sae, 700, &VectorOptions::default())?;
/// println!("{}", logit_lens(&model, &vector, &LogitLensOptions::default())?);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// The vector is of another model, or its direction is zero; the model has no tokenizer; `top_k` is 0; a logit is not
/// finite; a file cannot be read.
pub fn logit_lens(model: &Model, vector: &FeatureVector, options: &LogitLensOptions) -> Result<LogitLens> {
    vector.check(model)?;
    lens(model, &vector.direction, &vector.params, options)
}

/// The logit lens of a feature's decoder weights at their own length. Without the final norm's gain, Neuronpedia shows
/// these logits.
///
/// # Errors
/// `feature` is out of range; the decoder does not write to the residual stream; and as [`logit_lens`].
pub fn decoder_logit_lens(
    model: &Model,
    sae: &Sae,
    feature: usize,
    options: &LogitLensOptions,
) -> Result<LogitLens> {
    let row = decoder_row(model, sae, feature)?;
    lens(model, &row.vector, &row.params, options)
}

fn lens(
    model: &Model,
    direction: &[f32],
    params: &VectorParams,
    options: &LogitLensOptions,
) -> Result<LogitLens> {
    let tokenizer = model.tokenizer()?;
    let LogitLensOptions { top_k, final_norm_gain } = *options;
    check_top_k(top_k)?;
    let logits = logits(model, direction, final_norm_gain)?;
    let ranked = rank(&logits, false);
    let end = |last_first| scored_tokens(tokenizer, &logits, &ranked, last_first, TokenFilter::None, top_k);
    let (top, bottom) = (end(false)?, end(true)?);
    let [mean, std, skewness, kurtosis] = moments(&logits);
    let at = |token: Option<&u32>| token.map_or(0.0, |token| logits[*token as usize]);
    let (min, max) = (at(ranked.last()), at(ranked.first()));
    let mut histogram = vec![0; BINS];
    for logit in &logits {
        // If all logits are equal, 0 / 0 is NaN, which is cast to bin 0.
        let bin = ((logit - min) / (max - min) * BINS as f64) as usize;
        histogram[bin.min(BINS - 1)] += 1;
    }
    let params = params.clone();
    Ok(LogitLens { params, final_norm_gain, top, bottom, mean, std, skewness, kurtosis, histogram, min, max })
}

/// `direction · W_U`, `[d_vocab]`, computed in f64.
pub(super) fn logits(model: &Model, direction: &[f32], final_norm_gain: bool) -> Result<Vec<f64>> {
    let (mut direction, _) = nonzero(direction, "the direction")?;
    if final_norm_gain {
        let gain = model.ln_final_weight()?.to_vec1::<f32>()?;
        direction.iter_mut().zip(gain).for_each(|(x, gain)| *x *= f64::from(gain));
    }
    let logits = map_rows(&model.unembed_rows()?, |row| dot(row, &direction))?;
    match logits.iter().position(|logit| !logit.is_finite()) {
        None => Ok(logits),
        Some(token) => {
            let name = &model.cfg().model_name;
            Err(Error::NotFinite { message: format!("the logit of token {token} of `{name}` is not finite") })
        }
    }
}

/// Mean, standard deviation, skewness and kurtosis of a distribution; the last two are 0 if all values are equal.
fn moments(values: &[f64]) -> [f64; 4] {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let std = (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n).sqrt();
    let moment = |k: i32| match std > 0.0 {
        true => values.iter().map(|x| ((x - mean) / std).powi(k)).sum::<f64>() / n,
        false => 0.0,
    };
    [mean, std, moment(3), moment(4)]
}

impl fmt::Display for LogitLens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gain = if self.final_norm_gain { " with the final norm's gain" } else { "" };
        write!(f, "{}: logit lens{gain}", self.params.title())?;
        let cells = |tokens: &[ScoredToken], i: usize| {
            tokens.get(i).map_or(Default::default(), |token| [token.quoted(), decimals(token.score)])
        };
        let row = |i| {
            let ([raised, by], [lowered, down]) = (cells(&self.top, i), cells(&self.bottom, i));
            [raised, by, lowered, down]
        };
        let titles = ["raises", "logit", "lowers", "logit"];
        let rows = (0..self.top.len().max(self.bottom.len())).map(row);
        text_table::write(f, Some(titles), rows, [false, true, false, true])?;
        let [mean, std, skewness, kurtosis] =
            [self.mean, self.std, self.skewness, self.kurtosis].map(decimals);
        write!(f, "\nmean {mean}, std {std}, skewness {skewness}, kurtosis {kurtosis}")
    }
}
