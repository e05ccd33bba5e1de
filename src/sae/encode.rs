//! Encoding: activations in, sparse features out. On the CPU, the dense `[tokens, d_sae]` matrix never exists: pre-activations are
//! computed for `TILE` features at a time and thresholded while they are in cache.
//!
//! ```text
//! sae_in = normalized(centered(x)) − b_dec
//! standard  acts = relu(h),                 h = sae_in · W_enc + b_enc
//! jumprelu  acts = relu(h) · 1[h > threshold]
//! gated     acts = 1[p + b_gate > 0] · relu(p · exp(r_mag) + b_mag),   p = sae_in · W_enc
//! topk      acts = relu(the k largest h),   h · ‖W_dec‖ if rescaled
//! abstopk   acts = the k of largest |h|
//! ```
//! See SAELens' `saes/*_sae.py`.

use super::config::{ActivationNormalization, SaeConfig};
use super::encoding::Encoding;
use super::features::{FeatureActs, gather};
use super::rule::{Row, Rule};
use super::weights::Weights;
use crate::compute::is_fused;
use crate::error::{Error, Result};
use crate::linalg::with_f32s;
use crate::linear::rows_times;
use crate::memory;
use crate::progress::Progress;
use candle_core::{D, DType, Device, Tensor};
use pulp::Arch;
use rayon::prelude::*;

/// The number of features whose pre-activations are computed at a time.
const TILE: usize = 1024;
/// The number of tokens encoded at a time.
const TOKENS: usize = 1 << 13;
/// What SAELens adds to the standard deviation of a layer norm.
const LAYER_NORM_EPS: f64 = 1e-5;
/// The number of tokens encoded at a time with a screen.
const SCREENED: usize = 1 << 10;

/// Activations ready for the encoder, and how to undo the normalization of an output.
pub(super) struct Prepared {
    /// The encoder's input, `[pos, d_in]`.
    pub(super) sae_in: Tensor,
    /// The skip's input, `[pos, d_in]`: the activation before centering, normalization and shift.
    pub(super) x: Tensor,
    /// For each token the factor and the shift that undo the normalization; empty without one.
    pub(super) undo: Vec<(f32, f32)>,
}

/// Checks the shape of an activation and returns it as `[pos, d_in]`.
pub(super) fn rows(x: &Tensor, cfg: &SaeConfig) -> Result<Tensor> {
    Ok(match *x.dims() {
        [d_in] if d_in == cfg.d_in => x.unsqueeze(0)?,
        [_, d_in] if d_in == cfg.d_in => x.clone(),
        [n, heads, d_head] if heads * d_head == cfg.d_in && cfg.hook_head_index.is_none() => {
            x.reshape((n, cfg.d_in))?
        }
        [_, heads, d_head] if d_head == cfg.d_in && cfg.hook_head_index.is_some_and(|head| head < heads) => {
            x.narrow(1, cfg.hook_head_index.unwrap_or(0), 1)?.squeeze(1)?
        }
        _ => {
            let (hook, got) = (cfg.hook_name.as_deref().unwrap_or("its hook"), x.dims());
            return Err(Error::mismatch(
                format!("the SAE `{}` reads [pos, d_in = {}] at `{hook}`, got {got:?}", cfg.sae_id, cfg.d_in),
                "give it the activation of its own hook, from the model that it was trained on",
            ));
        }
    })
}

/// Centers, normalizes and shifts activations `[pos, d_in]`.
pub(super) fn prepare(x: &Tensor, center: bool, weights: &Weights) -> Result<Prepared> {
    let cfg = &weights.cfg;
    memory::check("the activation", 3 * (x.elem_count() * size_of::<f32>()) as u64)?;
    let x = x.to_dtype(DType::F32)?.contiguous()?;
    check_finite(&x, cfg, "the activation")?;
    let normalization = cfg.normalize_activations;
    let unnormalized = matches!(
        normalization,
        ActivationNormalization::None | ActivationNormalization::ExpectedAverageOnlyIn
    );
    if unnormalized && !center && !cfg.apply_b_dec_to_input {
        return Ok(Prepared { sae_in: x.clone(), x, undo: Vec::new() });
    }
    let b_dec = if cfg.apply_b_dec_to_input { weights.b_dec()? } else { &[] };
    let factor = cfg.activation_normalization_factor.unwrap_or(1.0) as f32;
    if !is_fused(&x) {
        let (sae_in, undo) = composed(&x, center, normalization, factor, b_dec)?;
        if !unnormalized {
            check_finite(&sae_in, cfg, "the normalized activation")?;
        }
        return Ok(Prepared { sae_in, x, undo });
    }
    let (n, d_in) = x.dims2()?;
    let mut rows = x.flatten_all()?.to_vec1::<f32>()?;
    let undo: Vec<_> = rows
        .par_chunks_exact_mut(d_in)
        .map(|row| {
            if center {
                subtract_mean(row);
            }
            let undo = normalize(row, normalization, factor);
            row.iter_mut().zip(b_dec).for_each(|(x, b)| *x -= b);
            undo
        })
        .collect();
    let sae_in = Tensor::from_vec(rows, (n, d_in), &Device::Cpu)?;
    if !unnormalized {
        check_finite(&sae_in, cfg, "the normalized activation")?;
    }
    Ok(Prepared { sae_in, x, undo: if unnormalized { Vec::new() } else { undo } })
}

/// What [`prepare`] does, made of candle's operators: for activations on a GPU. Returns the encoder's input, and what undoes
/// the normalization.
fn composed(
    x: &Tensor,
    center: bool,
    normalization: ActivationNormalization,
    factor: f32,
    b_dec: &[f32],
) -> Result<(Tensor, Vec<(f32, f32)>)> {
    let (n, d) = x.dims2()?;
    let mean_of = |x: &Tensor| x.mean_keepdim(1);
    let x = if center { x.broadcast_sub(&mean_of(x)?)? } else { x.clone() };
    let column = |x: &Tensor| x.flatten_all()?.to_vec1::<f32>();
    let (x, undo) = match normalization {
        ActivationNormalization::None | ActivationNormalization::ExpectedAverageOnlyIn => (x, Vec::new()),
        ActivationNormalization::ConstantNormRescale => {
            let factor = (x.sqr()?.sum_keepdim(1)?.sqrt()?.recip()? * (d as f64).sqrt())?;
            let undo = column(&factor)?.into_iter().map(|factor| (1.0 / factor, 0.0)).collect();
            (x.broadcast_mul(&factor)?, undo)
        }
        ActivationNormalization::LayerNorm => {
            let mean = mean_of(&x)?;
            let x = x.broadcast_sub(&mean)?;
            let std = (x.sqr()?.sum_keepdim(1)? / (d as f64 - 1.0))?.sqrt()?;
            let undo = column(&std)?.into_iter().zip(column(&mean)?).collect();
            (x.broadcast_div(&(std + LAYER_NORM_EPS)?)?, undo)
        }
        ActivationNormalization::ConstantScalarRescale => {
            ((&x * f64::from(factor))?, vec![(1.0 / factor, 0.0); n])
        }
    };
    match b_dec {
        [] => Ok((x, undo)),
        b_dec => Ok((x.broadcast_sub(&Tensor::new(b_dec, x.device())?)?, undo)),
    }
}

/// Normalizes one activation; returns the factor and the shift that undo it.
fn normalize(row: &mut [f32], normalization: ActivationNormalization, factor: f32) -> (f32, f32) {
    let d = row.len() as f32;
    match normalization {
        ActivationNormalization::None | ActivationNormalization::ExpectedAverageOnlyIn => (1.0, 0.0),
        ActivationNormalization::ConstantNormRescale => {
            let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            let factor = d.sqrt() / norm;
            row.iter_mut().for_each(|x| *x *= factor);
            (1.0 / factor, 0.0)
        }
        ActivationNormalization::LayerNorm => {
            let mean = subtract_mean(row);
            // Like torch.std, this divides by d − 1.
            let std = (row.iter().map(|x| x * x).sum::<f32>() / (d - 1.0)).sqrt();
            row.iter_mut().for_each(|x| *x /= std + LAYER_NORM_EPS as f32);
            (std, mean)
        }
        ActivationNormalization::ConstantScalarRescale => {
            row.iter_mut().for_each(|x| *x *= factor);
            (1.0 / factor, 0.0)
        }
    }
}

fn subtract_mean(row: &mut [f32]) -> f32 {
    let mean = row.iter().sum::<f32>() / row.len() as f32;
    row.iter_mut().for_each(|x| *x -= mean);
    mean
}

fn check_finite(x: &Tensor, cfg: &SaeConfig, what: &str) -> Result<()> {
    let d = x.dim(D::Minus1)?;
    let bad = match x.device() {
        #[cfg(feature = "cuda")]
        Device::Cuda(_) => saescope_kernels::cuda::first_not_finite(x)?,
        _ => with_f32s(&x.to_device(&Device::Cpu)?, |values| {
            values.par_iter().position_first(|x| !x.is_finite())
        })?,
    };
    let Some(at) = bad else { return Ok(()) };
    let hook = cfg.hook_name.as_deref().unwrap_or("the SAE's input");
    let (pos, dim) = (at / d, at % d);
    let message = format!("{what} at `{hook}`, token {pos}, dimension {dim}, is NaN or infinite");
    Err(Error::NotFinite { message })
}

/// Returns the features of `sae_in` `[pos, d_in]` with `|activation| > threshold` (0 or more).
pub(super) fn encode(
    sae_in: &Tensor,
    weights: &Weights,
    encoding: &Encoding,
    threshold: f32,
    progress: &Progress,
) -> Result<FeatureActs> {
    let cfg = &weights.cfg;
    let rule = Rule::new(weights.encoder()?, weights, threshold)?;
    #[cfg(feature = "cuda")]
    if sae_in.device().is_cuda() {
        return super::gpu::encode(sae_in, encoding, &rule, progress);
    }
    let n = sae_in.dim(0)?;
    let mut features = FeatureActs::new(cfg.d_sae);
    if let Some(screen) = encoding.screen {
        for first in (0..n).step_by(SCREENED) {
            let chunk = sae_in.narrow(0, first, SCREENED.min(n - first))?; // [pos, d_in]
            gather(&mut features, screen.select(&chunk, &rule, progress)?.into_iter().map(|row| row.active))?;
        }
        return Ok(features);
    }
    for first in (0..n).step_by(TOKENS) {
        let chunk = sae_in.narrow(0, first, TOKENS.min(n - first))?; // [pos, d_in]
        let mut rows: Vec<Row> = Vec::new();
        rows.resize_with(chunk.dim(0)?, Row::default);
        for start in (0..cfg.d_sae).step_by(TILE) {
            progress.check()?;
            let width = TILE.min(cfg.d_sae - start);
            let tile = encoding.w_enc.narrow(1, start, width)?; // [d_in, width]
            let pre = rows_times(&chunk, &tile)?; // [pos, width]
            with_f32s(&pre, |pre| {
                rows.par_iter_mut().zip(pre.par_chunks_exact(width)).for_each(|(row, pre)| {
                    Arch::new().dispatch(|| rule.select(row, pre, start));
                });
            })?;
        }
        rows.iter_mut().for_each(|row| rule.finish(row));
        gather(&mut features, rows.into_iter().map(|row| row.active))?;
    }
    Ok(features)
}
