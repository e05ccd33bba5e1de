//! Features that point the same way: decoder cosines of one feature with the features of its own SAE or of another.

use super::ranking::{check_top_k, rank};
use crate::error::{Error, Result};
use crate::label::decimals;
use crate::linalg::{cosine, dot, map_rows, row_norm, to_f64};
use crate::sae::Sae;
use crate::text_table;
use saescope_options::options;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The features most similar to one feature.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SimilarFeatures {
    /// The id of the feature's SAE.
    pub sae: String,
    /// The index of the feature.
    pub feature: usize,
    /// The id of the SAE of `features`, which may be the same.
    pub other: String,
    /// The similar features, nearest first, without the feature itself.
    pub features: Vec<SimilarFeature>,
}

/// A feature, and how similar it is to another.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct SimilarFeature {
    /// The index of the feature.
    pub feature: usize,
    /// The cosine of the angle between the two decoder directions.
    pub cosine: f64,
}

options! {
    /// The options of [`similar_features`].
    pub struct SimilarOptions {
        /// The number of features. Default: 10.
        #[serde(alias = "top")]
        pub top_k: usize = 10,
    }
}

/// Finds the features whose decoder directions are most similar to that of `feature` of `sae`: in `sae`, or in
/// `other`, which must write to the same space.
///
/// ```
/// # fn main() -> saescope::Result<()> {
/// use saescope::interpret::SimilarOptions;
/// use saescope::{Sae, similar_features};
///
/// let sae = Sae::load("demo")?;
/// println!("{}", similar_features(&sae, 7, None, &SimilarOptions::default())?);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// `feature` is out of range; its decoder weights are zero; the SAEs have different widths; `top_k` is 0; a file cannot
/// be read.
pub fn similar_features(
    sae: &Sae,
    feature: usize,
    other: Option<&Sae>,
    options: &SimilarOptions,
) -> Result<SimilarFeatures> {
    sae.check_feature(feature)?;
    let SimilarOptions { top_k } = *options;
    check_top_k(top_k)?;
    let among = other.unwrap_or(sae);
    let (d_out, other_d_out) = (sae.cfg().d_out, among.cfg().d_out);
    if d_out != other_d_out {
        return Err(Error::mismatch(
            format!(
                "`{}` writes d_out = {d_out} values, `{}` writes {other_d_out}",
                sae.cfg().sae_id,
                among.cfg().sae_id
            ),
            "compare SAEs of one model that write to the same hook point, or both to the residual stream",
        ));
    }
    let direction: Vec<f32> = sae.W_dec()?.get(feature)?.to_vec1()?;
    let norm = row_norm(&direction);
    if norm == 0.0 {
        let what = format!("the decoder weights of feature {feature}");
        let hint = "the feature may have died in training";
        return Err(Error::invalid(what, "a non-zero vector", "zeros").with_hint(hint));
    }
    let direction = to_f64(&direction);
    let cosines = map_rows(&among.W_dec()?, |row| cosine(dot(row, &direction), row_norm(row), norm))?;
    let nearest = rank(&cosines, false).into_iter().map(|feature| feature as usize);
    let features = nearest
        .filter(|one| other.is_some() || *one != feature)
        .take(top_k)
        .map(|feature| SimilarFeature { feature, cosine: cosines[feature] })
        .collect();
    let name = |sae: &Sae| sae.cfg().sae_id.clone();
    Ok(SimilarFeatures { sae: name(sae), feature, other: name(among), features })
}

impl fmt::Display for SimilarFeatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "feature {} of {}: nearest features of {}", self.feature, self.sae, self.other)?;
        let rows = self.features.iter().map(|one| [one.feature.to_string(), decimals(one.cosine)]);
        text_table::write(f, Some(["feature", "cosine"]), rows, [true, true])
    }
}
