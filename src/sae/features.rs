//! Sparse feature activations.

use crate::error::{Error, Result};
use crate::large;
use crate::linalg::top_k;
use candle_core::{Device, Tensor};

/// The weights of one feature of an SAE.
#[derive(Debug, Clone)]
pub struct Feature {
    /// The feature's index, from 0.
    pub index: usize,
    /// The direction that the feature reads, a column of `W_enc`: `[d_in]`.
    pub encoder: Tensor,
    /// The direction that the feature writes, a row of `W_dec`: `[d_out]`.
    pub decoder: Tensor,
}

/// The active features of each token, in ascending order, with their activations.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FeatureActs {
    d_sae: usize,
    /// For each token, the end of its features in `indices` and `values`.
    ends: Vec<usize>,
    indices: Vec<u32>,
    values: Vec<f32>,
}

/// The activation of one feature at one token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FeatureAct {
    /// The token's position.
    pub pos: usize,
    /// The feature's index.
    pub feature: usize,
    /// The activation.
    pub value: f32,
}

impl FeatureActs {
    /// Creates an empty list for an SAE with `d_sae` features.
    pub(super) fn new(d_sae: usize) -> Self {
        FeatureActs { d_sae, ..Default::default() }
    }

    /// Appends a token with its features, in ascending order.
    pub(super) fn push(&mut self, active: impl IntoIterator<Item = (u32, f32)>) {
        for (index, value) in active {
            self.indices.push(index);
            self.values.push(value);
        }
        self.ends.push(self.indices.len());
    }

    /// Appends tokens whose features end at `ends` in `indices` and `values`, in ascending order for each token.
    #[cfg(feature = "cuda")]
    pub(super) fn extend(&mut self, ends: &[u32], indices: &[u32], values: &[f32]) {
        let past = self.indices.len();
        self.indices.extend_from_slice(indices);
        self.values.extend_from_slice(values);
        self.ends.extend(ends.iter().map(|end| past + *end as usize));
    }

    /// Returns the number of tokens.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Returns the number of features of the SAE.
    pub fn d_sae(&self) -> usize {
        self.d_sae
    }

    /// Returns the active features of a token, in ascending order, and their activations; empty after the last token.
    pub fn at(&self, pos: usize) -> (&[u32], &[f32]) {
        let Some(&end) = self.ends.get(pos) else { return (&[], &[]) };
        let start = if pos == 0 { 0 } else { self.ends[pos - 1] };
        (&self.indices[start..end], &self.values[start..end])
    }

    /// Returns the mean number of active features per token.
    pub fn l0(&self) -> f64 {
        if self.is_empty() { 0.0 } else { self.indices.len() as f64 / self.len() as f64 }
    }

    /// Returns the `k` activations of largest magnitude, largest first. Ties: earlier token, then lower feature.
    pub fn top(&self, k: usize) -> Vec<FeatureAct> {
        let activation = |(at, _): (usize, f32)| {
            let value = self.values[at];
            let pos = self.ends.partition_point(|end| *end <= at);
            FeatureAct { pos, feature: self.indices[at] as usize, value }
        };
        let magnitudes: Vec<f32> = self.values.iter().map(|value| value.abs()).collect();
        top_k(&magnitudes, k).into_iter().map(activation).collect()
    }

    /// Returns the activation of one feature at every token, `[pos]`.
    ///
    /// # Errors
    /// `feature` is out of range.
    pub fn of(&self, feature: usize) -> Result<Vec<f32>> {
        check_feature(feature, self.d_sae)?;
        let one = |pos| {
            let (indices, values) = self.at(pos);
            indices.binary_search(&(feature as u32)).map_or(0.0, |at| values[at])
        };
        Ok((0..self.len()).map(one).collect())
    }

    /// Returns the dense matrix `[pos, d_sae]`. Meant for a few tokens.
    ///
    /// # Errors
    /// A matrix of more than 2^30 elements, or too large for the memory.
    pub fn to_tensor(&self) -> Result<Tensor> {
        large::check("the matrix of features", &[self.len(), self.d_sae])?;
        let mut dense = vec![0f32; self.len() * self.d_sae];
        for (pos, row) in dense.chunks_exact_mut(self.d_sae.max(1)).enumerate() {
            let (indices, values) = self.at(pos);
            for (index, value) in indices.iter().zip(values) {
                row[*index as usize] = *value;
            }
        }
        Ok(Tensor::from_vec(dense, (self.len(), self.d_sae), &Device::Cpu)?)
    }
}

/// Checks that `feature` is below `d_sae`.
///
/// # Errors
/// `feature` is out of range; the message names the last one.
pub(super) fn check_feature(feature: usize, d_sae: usize) -> Result<()> {
    if feature < d_sae {
        return Ok(());
    }
    let expected = format!("0 to {} (d_sae = {d_sae})", d_sae.saturating_sub(1));
    Err(Error::invalid("the feature index", expected, feature).with_hint("features are counted from 0"))
}

impl std::fmt::Display for FeatureActs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FeatureActs [{} tokens, {} features], L0 {:.1}", self.len(), self.d_sae, self.l0())?;
        for FeatureAct { pos, feature, value } in self.top(5) {
            write!(f, "\n  token {pos}: feature {feature} at {value:.4}")?;
        }
        Ok(())
    }
}

/// Appends the features of tokens that were encoded separately, in ascending order for each token.
pub(super) fn gather(features: &mut FeatureActs, rows: impl Iterator<Item = Vec<(u32, f32)>>) -> Result<()> {
    for active in rows {
        if let Some((feature, _)) = active.iter().find(|(_, value)| !value.is_finite()) {
            let pos = features.len();
            let message = format!("the activation of feature {feature} at token {pos} is NaN or infinite");
            return Err(Error::NotFinite { message });
        }
        features.push(active);
    }
    Ok(())
}
