//! Matching pursuit: features are taken one after the other, each from what the ones before left.
//!
//! ```text
//! r = sae_in;  at each step  i = argmax r · W_decᵀ,  v = relu(r · W_dec_i),  acts_i += v,  r −= v · W_dec_i
//! ```
//! From SAELens' `saes/matching_pursuit_sae.py`.

use super::config::SaeConfig;
use super::encode::gather;
use super::features::Features;
use super::weights::Weights;
use crate::error::Result;
use crate::linalg::with_floats;
use crate::progress::Progress;
use candle_core::{Device, Tensor};
use rayon::prelude::*;

/// Features whose fit is computed at a time.
const TILE: usize = 1024;

/// When to stop.
pub(super) struct Pursuit {
    /// A rest whose norm is below this is left alone; 0 for none.
    pub(super) residual_threshold: f64,
    /// The most steps; `d_in` if not given.
    pub(super) max_iterations: Option<usize>,
    /// Whether to stop at a feature that was taken before.
    pub(super) stop_on_duplicate_support: bool,
}

/// One token.
struct Token {
    residual: Vec<f32>,
    active: Vec<(u32, f32)>,
    done: bool,
}

/// The features of `[pos, d_in]` whose activation is above `threshold` (0 or more).
pub(super) fn encode(
    sae_in: &Tensor,
    cfg: &SaeConfig,
    weights: &Weights,
    pursuit: &Pursuit,
    threshold: f32,
    progress: &Progress,
) -> Result<Features> {
    let w_dec = weights.w_dec(cfg)?;
    let residuals = sae_in.to_vec2::<f32>()?;
    let mut tokens: Vec<Token> =
        residuals.into_iter().map(|residual| Token { residual, active: Vec::new(), done: false }).collect();
    for _ in 0..pursuit.max_iterations.unwrap_or(cfg.d_in) {
        let mut live: Vec<&mut Token> = tokens.iter_mut().filter(|token| !token.done).collect();
        if live.is_empty() {
            break;
        }
        let best = best_features(&live, cfg, w_dec, progress)?;
        with_floats(w_dec, |w_dec| {
            live.par_iter_mut().zip(best).for_each(|(token, best)| {
                let row = |i: u32| &w_dec[i as usize * cfg.d_in..(i as usize + 1) * cfg.d_in];
                // Where nothing fits, no later step would find anything either.
                token.done = best.is_none_or(|feature| token.take(feature, row(feature), pursuit));
            });
        })?;
    }
    let least = threshold.max(0.0);
    let mut features = Features::new(cfg.d_sae);
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

/// For each token the feature that goes best with what is left of it, of equal ones the first, if any goes with it at all.
fn best_features(
    tokens: &[&mut Token],
    cfg: &SaeConfig,
    w_dec: &Tensor,
    progress: &Progress,
) -> Result<Vec<Option<u32>>> {
    let residuals: Vec<f32> = tokens.iter().flat_map(|token| &token.residual).copied().collect();
    let residuals = Tensor::from_vec(residuals, (tokens.len(), cfg.d_in), &Device::Cpu)?;
    let mut best = vec![(None, 0f32); tokens.len()];
    for start in (0..cfg.d_sae).step_by(TILE) {
        progress.check()?;
        let width = TILE.min(cfg.d_sae - start);
        let fits = residuals.matmul(&w_dec.narrow(0, start, width)?.t()?)?; // [live, width]
        with_floats(&fits, |fits| {
            best.par_iter_mut().zip(fits.par_chunks_exact(width)).for_each(|((best, most), fits)| {
                for (i, fit) in fits.iter().enumerate().filter(|(_, fit)| !fit.is_nan()) {
                    if *fit > *most {
                        (*best, *most) = (Some((start + i) as u32), *fit);
                    }
                }
            });
        })?;
    }
    Ok(best.into_iter().map(|(feature, _)| feature).collect())
}

impl Token {
    /// Takes a feature; returns whether that was the last step.
    fn take(&mut self, feature: u32, row: &[f32], pursuit: &Pursuit) -> bool {
        let value = self.residual.iter().zip(row).map(|(r, w)| r * w).sum::<f32>().max(0.0);
        let known = self.active.iter_mut().find(|(known, _)| *known == feature);
        let is_known = known.is_some() || value == 0.0;
        match known {
            Some((_, sum)) => *sum += value,
            None => self.active.push((feature, value)),
        }
        self.residual.iter_mut().zip(row).for_each(|(r, w)| *r -= value * w);
        let norm = self.residual.iter().map(|r| f64::from(*r).powi(2)).sum::<f64>().sqrt();
        (pursuit.stop_on_duplicate_support && is_known)
            || (pursuit.residual_threshold > 0.0 && norm < pursuit.residual_threshold)
    }
}
