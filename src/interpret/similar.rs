//! Features that point the same way: the decoder cosines of one feature with those of its own SAE or of another.

use serde::{Deserialize, Serialize};

/// The features that are most like one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SimilarFeatures {
    /// The SAE of the feature.
    pub sae: String,
    /// The feature.
    pub feature: usize,
    /// The SAE of those that are like it.
    pub other: String,
    /// Those, nearest first; the feature itself is left out.
    pub features: Vec<SimilarFeature>,
}

/// A feature and how like another it is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SimilarFeature {
    /// Its index.
    pub feature: usize,
    /// The cosine of the angle between the two decoder directions.
    pub cosine: f64,
}
