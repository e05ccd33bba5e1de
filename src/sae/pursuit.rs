//! Matching pursuit: selects one feature at a time, each from the residual that the ones before leave.
//!
//! ```text
//! r = sae_in;  at each step  i = argmax r · W_decᵀ,  v = relu(r · W_dec_i),  acts_i += v,  r −= v · W_dec_i
//! ```
//! See SAELens' `saes/matching_pursuit_sae.py`.

use super::features::{FeatureActs, gather};
use super::weights::Weights;
use crate::error::Result;
use crate::linalg::with_f32s;
use crate::linear::rows_times;
use crate::progress::Progress;
use candle_core::{Device, Tensor};
use rayon::prelude::*;

/// The number of features whose fit is computed at a time.
const TILE: usize = 1024;

/// The stopping criteria.
pub(super) struct Pursuit {
    /// Stops when the norm of the residual is below this; 0 for no limit.
    pub(super) residual_threshold: f64,
    /// The maximum number of steps; `d_in` if not given.
    pub(super) max_iterations: Option<usize>,
    /// Whether to stop when a feature is selected again.
    pub(super) stop_on_duplicate_support: bool,
}

/// The state of one token.
struct Token {
    residual: Vec<f32>,
    active: Vec<(u32, f32)>,
    done: bool,
}

/// Returns the features of `[pos, d_in]` with an activation above `threshold` (0 or more).
pub(super) fn encode(
    sae_in: &Tensor,
    weights: &Weights,
    pursuit: &Pursuit,
    threshold: f32,
    progress: &Progress,
) -> Result<FeatureActs> {
    let (cfg, w_dec) = (&weights.cfg, weights.w_dec()?);
    let residuals = sae_in.to_vec2::<f32>()?;
    let mut tokens: Vec<Token> =
        residuals.into_iter().map(|residual| Token { residual, active: Vec::new(), done: false }).collect();
    for _ in 0..pursuit.max_iterations.unwrap_or(cfg.d_in) {
        let mut live: Vec<&mut Token> = tokens.iter_mut().filter(|token| !token.done).collect();
        if live.is_empty() {
            break;
        }
        let best = best_features(&live, w_dec, progress)?;
        with_f32s(w_dec, |w_dec| {
            live.par_iter_mut().zip(best).for_each(|(token, best)| {
                let row = |i: usize| &w_dec[i * cfg.d_in..(i + 1) * cfg.d_in];
                // If no feature fits, no later step finds one either.
                token.done = best.is_none_or(|feature| token.select(feature, row(feature), pursuit));
            });
        })?;
    }
    let least = threshold.max(0.0);
    let mut features = FeatureActs::new(cfg.d_sae);
    gather(
        &mut features,
        tokens.into_iter().map(|token| {
            let mut active = token.active;
            active.retain(|(_, value)| *value > least);
            active.sort_unstable_by_key(|(feature, _)| *feature);
            active
        }),
    )?;
    Ok(features)
}

/// Returns for each token the feature that fits its residual best (ties: the first), `None` if no fit is above 0.
fn best_features(tokens: &[&mut Token], w_dec: &Tensor, progress: &Progress) -> Result<Vec<Option<usize>>> {
    let (d_sae, d_in) = w_dec.dims2()?;
    let residuals: Vec<f32> = tokens.iter().flat_map(|token| &token.residual).copied().collect();
    let residuals = Tensor::from_vec(residuals, (tokens.len(), d_in), &Device::Cpu)?;
    let mut best = vec![(None, 0f32); tokens.len()];
    for start in (0..d_sae).step_by(TILE) {
        progress.check()?;
        let width = TILE.min(d_sae - start);
        let fits = rows_times(&residuals, &w_dec.narrow(0, start, width)?.t()?)?; // [live, width]
        with_f32s(&fits, |fits| {
            best.par_iter_mut().zip(fits.par_chunks_exact(width)).for_each(|((best, most), fits)| {
                for (i, fit) in fits.iter().enumerate().filter(|(_, fit)| !fit.is_nan()) {
                    if *fit > *most {
                        (*best, *most) = (Some(start + i), *fit);
                    }
                }
            });
        })?;
    }
    Ok(best.into_iter().map(|(feature, _)| feature).collect())
}

impl Token {
    /// Adds a feature and subtracts it from the residual; returns whether that was the last step.
    fn select(&mut self, feature: usize, row: &[f32], pursuit: &Pursuit) -> bool {
        let value = self.residual.iter().zip(row).map(|(r, w)| r * w).sum::<f32>().max(0.0);
        let known = self.active.iter_mut().find(|(known, _)| *known as usize == feature);
        let is_known = known.is_some() || value == 0.0;
        match known {
            Some((_, sum)) => *sum += value,
            None => self.active.push((feature as u32, value)),
        }
        self.residual.iter_mut().zip(row).for_each(|(r, w)| *r -= value * w);
        let norm = self.residual.iter().map(|r| f64::from(*r).powi(2)).sum::<f64>().sqrt();
        (pursuit.stop_on_duplicate_support && is_known)
            || (pursuit.residual_threshold > 0.0 && norm < pursuit.residual_threshold)
    }
}
