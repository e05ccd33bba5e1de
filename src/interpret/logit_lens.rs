//! The logit lens of a direction: which next tokens it raises and which it lowers, and how the whole distribution lies.

use super::token_list::ScoredToken;
use super::vector::VectorParams;
use serde::{Deserialize, Serialize};

/// The logits of a direction over the vocabulary, `direction · W_U` or `(direction ⊙ gain) · W_U`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
