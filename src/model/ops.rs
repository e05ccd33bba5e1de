//! The decoder's own operators: those that candle lacks, or has in a form that loses accuracy or passes over memory
//! more often than necessary. Each reads and writes once, over rows in parallel, with the widest SIMD of the machine.
//!
//! candle's fused layer norm computes the variance as E\[x²\] − E\[x\]², which cancels on GPT-2's outlier dimensions;
//! [`layer_norm`] subtracts the mean first, as PyTorch does.

use crate::linalg::{change_f32s, rows_per_task, with_all_f32s};
use candle_core::{Device, Result, Tensor};
use pulp::Arch;
use rayon::prelude::*;

/// `(x − mean) / sqrt(var + eps) · weight + bias` over the last dimension.
///
/// `x` `[..., d]`, `weight` `[d]`, `bias` `[d]` → `[..., d]`.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let (d, eps, mut out) = (weight.elem_count(), eps as f32, vec![0f32; x.elem_count()]);
    let step = rows_per_task(d) * d;
    with_all_f32s([&x.contiguous()?, weight, bias], |[x, weight, bias]| {
        out.par_chunks_mut(step).zip(x.par_chunks(step)).for_each(|(out, x)| {
            Arch::new().dispatch(|| {
                for (out, x) in out.chunks_exact_mut(d).zip(x.chunks_exact(d)) {
                    let mean = sum_of(x, |x| x) / d as f32;
                    let variance = sum_of(x, |x| (x - mean) * (x - mean)) / d as f32;
                    let inverse = 1.0 / (variance + eps).sqrt();
                    for (((out, x), w), b) in out.iter_mut().zip(x).zip(weight).zip(bias) {
                        *out = (x - mean) * inverse * w + b;
                    }
                }
            });
        });
    })?;
    Tensor::from_vec(out, x.shape(), &Device::Cpu)
}

/// `x / sqrt(mean(x²) + eps) · weight` over the last dimension.
///
/// `x` `[..., d]`, `weight` `[d]` → `[..., d]`.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let (d, eps, mut out) = (weight.elem_count(), eps as f32, vec![0f32; x.elem_count()]);
    let step = rows_per_task(d) * d;
    with_all_f32s([&x.contiguous()?, weight], |[x, weight]| {
        out.par_chunks_mut(step).zip(x.par_chunks(step)).for_each(|(out, x)| {
            Arch::new().dispatch(|| {
                for (out, x) in out.chunks_exact_mut(d).zip(x.chunks_exact(d)) {
                    let inverse = 1.0 / (sum_of(x, |x| x * x) / d as f32 + eps).sqrt();
                    for ((out, x), w) in out.iter_mut().zip(x).zip(weight) {
                        *out = x * inverse * w;
                    }
                }
            });
        });
    })?;
    Tensor::from_vec(out, x.shape(), &Device::Cpu)
}

/// Adds `bias` `[d]` and `residual` `[..., d]` to `x` `[..., d]` in place. `x` must not be shared.
pub fn add_bias_residual_in_place(x: &Tensor, bias: &Tensor, residual: &Tensor) -> Result<()> {
    change_f32s(x, [bias, &residual.contiguous()?], |x, [bias, residual]| {
        let d = bias.len();
        let step = rows_per_task(d) * d;
        x.par_chunks_mut(step).zip(residual.par_chunks(step)).for_each(|(x, residual)| {
            for (x, residual) in x.chunks_exact_mut(d).zip(residual.chunks_exact(d)) {
                for ((x, b), r) in x.iter_mut().zip(bias).zip(residual) {
                    // The same order of additions as the unfused path, (x + b) + r, so that both round alike.
                    *x = (*x + b) + r;
                }
            }
        });
    })
}

/// Adds `y` to `x`, both of equal shape, in place. `x` must not be shared.
///
/// candle's own addition hands large tensors to a second pool of threads, which spin while they wait and so take cores
/// from the threads that compute.
pub fn add_in_place(x: &Tensor, y: &Tensor) -> Result<()> {
    change_f32s(x, [&y.contiguous()?], |x, [y]| {
        let step = rows_per_task(1);
        x.par_chunks_mut(step).zip(y.par_chunks(step)).for_each(|(x, y)| {
            x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
        });
    })
}

/// The sum of `f` over `row`, in sixteen strands: it vectorizes, and equal rows give equal sums everywhere.
#[inline(always)]
fn sum_of(row: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let (chunks, rest) = row.as_chunks::<16>();
    let mut strands = [0f32; 16];
    for chunk in chunks {
        for (strand, x) in strands.iter_mut().zip(chunk) {
            *strand += f(*x);
        }
    }
    strands.iter().sum::<f32>() + rest.iter().map(|x| f(*x)).sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layer_norm_survives_a_large_mean() {
        let row: Vec<f32> = (0..768).map(|i| 3000.0 + (i as f32 * 0.37).sin()).collect();
        let mean = row.iter().map(|x| f64::from(*x)).sum::<f64>() / 768.0;
        let variance = row.iter().map(|x| (f64::from(*x) - mean).powi(2)).sum::<f64>() / 768.0;
        let x = Tensor::from_vec(row.clone(), (1, 768), &Device::Cpu).unwrap();
        let ones = Tensor::ones(768, candle_core::DType::F32, &Device::Cpu).unwrap();
        let out = layer_norm(&x, &ones, &ones.zeros_like().unwrap(), 1e-5).unwrap();
        for (got, x) in out.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().zip(&row) {
            let expected = (f64::from(*x) - mean) / (variance + 1e-5).sqrt();
            assert!((f64::from(*got) - expected).abs() < 2e-3, "{got} {expected}");
        }
    }
}
