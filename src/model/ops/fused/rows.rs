//! Operators over rows: norms, sums and rotations.
//!
//! candle's fused layer norm computes the variance as E\[x²\] − E\[x\]², which cancels on GPT-2's outlier dimensions;
//! [`layer_norm`] subtracts the mean first, as PyTorch does.

use crate::linalg::{change_f32s, rows_per_task, with_all_f32s, with_memory};
use candle_core::{Device, Error, Result, Tensor};
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

/// See [`super::super::rotate`].
pub fn rotate(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let (n, n_heads, d_head) = x.dims3()?;
    let stride = row_stride(x)?;
    let half = cos.dims2()?.1;
    let width = n_heads * d_head;
    let mut out = vec![0f32; n * width];
    with_memory([x, cos, sin], |[x, cos, sin]| {
        out.par_chunks_exact_mut(width.max(1)).enumerate().for_each(|(row, out)| {
            let x = &x[row * stride..row * stride + width];
            let (cos, sin) = (&cos[row * half..][..half], &sin[row * half..][..half]);
            for (out, x) in out.chunks_exact_mut(d_head).zip(x.chunks_exact(d_head)) {
                let (first, rest) = x.split_at(half);
                let (second, beyond) = rest.split_at(half);
                let (out_first, out_rest) = out.split_at_mut(half);
                let (out_second, out_beyond) = out_rest.split_at_mut(half);
                let turned = out_first.iter_mut().zip(out_second).zip(first.iter().zip(second));
                for (((a, b), (x, y)), (cos, sin)) in turned.zip(cos.iter().zip(sin)) {
                    *a = x * cos - y * sin;
                    *b = y * cos + x * sin;
                }
                out_beyond.copy_from_slice(beyond);
            }
        });
    })?;
    Tensor::from_vec(out, x.shape(), &Device::Cpu)
}

/// The distance of the rows of a `[rows, heads, d_head]` tensor, whose heads must be contiguous.
pub(super) fn row_stride(x: &Tensor) -> Result<usize> {
    let (_, n_heads, d_head) = x.dims3()?;
    match *x.stride() {
        [stride, head, 1] if head == d_head || n_heads == 1 => Ok(stride),
        _ => Err(Error::RequiresContiguous { op: "attention" }.bt()),
    }
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
