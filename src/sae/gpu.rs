//! Encoding on an NVIDIA GPU: pre-activations stay there, tile by tile, and only the active features come to the host.

use super::encoding::Encoding;
use super::features::{FeatureActs, gather};
use super::rule::{Kind, Rule};
use crate::error::Result;
use crate::linear::matmul;
use crate::progress::Progress;
use candle_core::Tensor;
use saescope_kernels::Precision;
use saescope_kernels::cuda::{Above, Actives, Selector, top_k};
use std::sync::atomic::Ordering;

/// The maximum number of tokens encoded at a time.
const TOKENS: usize = 1 << 12;
/// The number of features whose pre-activations are computed at a time: with [`TOKENS`], as much as stays in the cache of a GPU.
const TILE: usize = 1 << 11;
/// The least room for active features of a token. If one has more, its chunk is encoded again with enough room.
const ROOM: usize = 256;
/// The maximum number of active features of all tokens together that there is room for.
const MAX_ROOM: usize = 1 << 25;
/// The maximum number of pre-activations in memory for top-k, which needs all features of a token at once.
const MAX_TOP_K: usize = 1 << 27;

/// Returns the features of `sae_in` `[pos, d_in]` that `rule` selects.
pub(super) fn encode(
    sae_in: &Tensor,
    &Encoding { w_enc, precision, room: seen, .. }: &Encoding,
    rule: &Rule,
    progress: &Progress,
) -> Result<FeatureActs> {
    let (n, d_sae) = (sae_in.dim(0)?, w_enc.dim(1)?);
    let vector = |values: &[f32]| Tensor::new(values, sae_in.device());
    let bias = vector(rule.bias)?;
    let mut features = FeatureActs::new(d_sae);
    if let Kind::TopK { k, norms, signed } = rule.kind {
        let norms = norms.map(vector).transpose()?;
        let step = (MAX_TOP_K / d_sae).clamp(1, TOKENS);
        for first in (0..n).step_by(step) {
            progress.check()?;
            let chunk = sae_in.narrow(0, first, step.min(n - first))?;
            let pre = matmul(&chunk, w_enc, precision)?; // [pos, d_sae]
            add(&mut features, &top_k(&pre, &bias, norms.as_ref(), k, signed)?, rule.threshold)?;
        }
        return Ok(features);
    }
    let cut = vector(&rule.cut)?;
    let magnitude = match rule.kind {
        Kind::Gated { factor, bias } => Some([vector(factor)?, vector(bias)?]),
        _ => None,
    };
    let tiled = Tiled { w_enc, precision, bias, cut, magnitude, threshold: rule.threshold };
    while features.len() < n {
        let first = features.len();
        let room = seen.load(Ordering::Relaxed).next_multiple_of(ROOM).clamp(ROOM.min(d_sae), d_sae);
        let rows = TOKENS.min(MAX_ROOM / room).clamp(1, n - first);
        match tiled.select(&sae_in.narrow(0, first, rows)?, room, progress)? {
            Ok(actives) => add(&mut features, &actives, f32::NEG_INFINITY)?,
            Err(most) => drop(seen.fetch_max(most, Ordering::Relaxed)),
        }
    }
    Ok(features)
}

/// An SAE whose features do not compete, so that pre-activations are computed for [`TILE`] features at a time.
struct Tiled<'a> {
    w_enc: &'a Tensor,
    precision: Precision,
    bias: Tensor,
    cut: Tensor,
    /// The factor and the bias of activations, for a gated SAE.
    magnitude: Option<[Tensor; 2]>,
    threshold: f32,
}

impl Tiled<'_> {
    /// Returns the active features of a chunk of tokens, or how many the one with the most has, if there is not that much room.
    fn select(
        &self,
        chunk: &Tensor,
        room: usize,
        progress: &Progress,
    ) -> Result<std::result::Result<Actives, usize>> {
        let d_sae = self.w_enc.dim(1)?;
        let mut selector = Selector::new(chunk.device(), chunk.dim(0)?, room)?;
        for start in (0..d_sae).step_by(TILE) {
            progress.check()?;
            let width = TILE.min(d_sae - start);
            let part = |x: &Tensor| x.narrow(0, start, width);
            let pre = matmul(chunk, &self.w_enc.narrow(1, start, width)?, self.precision)?; // [pos, width]
            let (bias, cut) = (part(&self.bias)?, part(&self.cut)?);
            let magnitude = match &self.magnitude {
                Some([factor, offset]) => Some([part(factor)?, part(offset)?]),
                None => None,
            };
            let magnitude = magnitude.as_ref().map(|[factor, offset]| [factor, offset]);
            let above = Above { bias: &bias, cut: &cut, magnitude, threshold: self.threshold };
            selector.add(&pre, start, &above)?;
        }
        Ok(selector.finish()?)
    }
}

/// Appends active features whose magnitude is above the threshold. What is NaN or infinite is an error.
fn add(features: &mut FeatureActs, actives: &Actives, threshold: f32) -> Result<()> {
    if actives.values.iter().all(|value| value.is_finite() & (value.abs() > threshold)) {
        features.extend(&actives.ends, &actives.features, &actives.values);
        return Ok(());
    }
    let starts = std::iter::once(&0).chain(&actives.ends);
    let rows = starts.zip(&actives.ends).map(|(start, end)| {
        let row = *start as usize..*end as usize;
        let active = actives.features[row.clone()].iter().copied().zip(actives.values[row].iter().copied());
        active.filter(|(_, value)| value.abs() > threshold || !value.is_finite()).collect::<Vec<_>>()
    });
    gather(features, rows)
}
