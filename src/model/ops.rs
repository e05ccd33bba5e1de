//! The decoder's own operators: those that candle lacks, or has in a form that loses accuracy or passes over memory
//! more often than necessary. Each reads and writes once, over rows in parallel, with the widest SIMD of the machine.
//!
//! candle's fused layer norm computes the variance as E\[x²\] − E\[x\]², which cancels on GPT-2's outlier dimensions;
//! [`layer_norm`] subtracts the mean first, as PyTorch does.

use crate::linalg::{rows_per_task, storage_f32s, storage_f32s_mut};
use candle_core::{CpuStorage, CustomOp2, CustomOp3, InplaceOp2, InplaceOp3, Layout, Result, Shape, Tensor};
use pulp::Arch;
use rayon::prelude::*;

/// `(x − mean) / sqrt(var + eps) · weight + bias` over the last dimension.
///
/// `x` `[..., d]`, `weight` `[d]`, `bias` `[d]` → `[..., d]`.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    x.contiguous()?.apply_op3_no_bwd(weight, bias, &LayerNorm { eps: eps as f32 })
}

/// `x / sqrt(mean(x²) + eps) · weight` over the last dimension.
///
/// `x` `[..., d]`, `weight` `[d]` → `[..., d]`.
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    x.contiguous()?.apply_op2_no_bwd(weight, &RmsNorm { eps: eps as f32 })
}

/// Adds `bias` `[d]` and `residual` `[..., d]` to `x` `[..., d]` in place. `x` must not be shared.
pub fn add_bias_residual_in_place(x: &Tensor, bias: &Tensor, residual: &Tensor) -> Result<()> {
    x.inplace_op3(bias, &residual.contiguous()?, &BiasResidual)
}

/// Adds `y` to `x`, both of equal shape, in place. `x` must not be shared.
///
/// candle's own addition hands large tensors to a second pool of threads, which spin while they wait and so take cores
/// from the threads that compute.
pub fn add_in_place(x: &Tensor, y: &Tensor) -> Result<()> {
    x.inplace_op2(&y.contiguous()?, &Add)
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

struct LayerNorm {
    eps: f32,
}

impl CustomOp3 for LayerNorm {
    fn name(&self) -> &'static str {
        "layer-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let x = storage_f32s(x, x_layout, self.name())?;
        let weight = storage_f32s(weight, weight_layout, self.name())?;
        let bias = storage_f32s(bias, bias_layout, self.name())?;
        let d = weight.len();
        let mut out = vec![0f32; x.len()];
        let step = rows_per_task(d) * d;
        out.par_chunks_mut(step).zip(x.par_chunks(step)).for_each(|(out, x)| {
            Arch::new().dispatch(|| {
                for (out, x) in out.chunks_exact_mut(d).zip(x.chunks_exact(d)) {
                    let mean = sum_of(x, |x| x) / d as f32;
                    let variance = sum_of(x, |x| (x - mean) * (x - mean)) / d as f32;
                    let inverse = 1.0 / (variance + self.eps).sqrt();
                    for (((out, x), w), b) in out.iter_mut().zip(x).zip(weight).zip(bias) {
                        *out = (x - mean) * inverse * w + b;
                    }
                }
            });
        });
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }
}

struct RmsNorm {
    eps: f32,
}

impl CustomOp2 for RmsNorm {
    fn name(&self) -> &'static str {
        "rms-norm"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let x = storage_f32s(x, x_layout, self.name())?;
        let weight = storage_f32s(weight, weight_layout, self.name())?;
        let d = weight.len();
        let mut out = vec![0f32; x.len()];
        let step = rows_per_task(d) * d;
        out.par_chunks_mut(step).zip(x.par_chunks(step)).for_each(|(out, x)| {
            Arch::new().dispatch(|| {
                for (out, x) in out.chunks_exact_mut(d).zip(x.chunks_exact(d)) {
                    let inverse = 1.0 / (sum_of(x, |x| x * x) / d as f32 + self.eps).sqrt();
                    for ((out, x), w) in out.iter_mut().zip(x).zip(weight) {
                        *out = x * inverse * w;
                    }
                }
            });
        });
        Ok((CpuStorage::F32(out), x_layout.shape().clone()))
    }
}

struct Add;

impl InplaceOp2 for Add {
    fn name(&self) -> &'static str {
        "add"
    }

    fn cpu_fwd(
        &self,
        x: &mut CpuStorage,
        x_layout: &Layout,
        y: &CpuStorage,
        y_layout: &Layout,
    ) -> Result<()> {
        let x = storage_f32s_mut(x, x_layout, self.name())?;
        let y = storage_f32s(y, y_layout, self.name())?;
        let step = rows_per_task(1);
        x.par_chunks_mut(step).zip(y.par_chunks(step)).for_each(|(x, y)| {
            x.iter_mut().zip(y).for_each(|(x, y)| *x += y);
        });
        Ok(())
    }
}

struct BiasResidual;

impl InplaceOp3 for BiasResidual {
    fn name(&self) -> &'static str {
        "bias-and-residual"
    }

    fn cpu_fwd(
        &self,
        x: &mut CpuStorage,
        x_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
        residual: &CpuStorage,
        residual_layout: &Layout,
    ) -> Result<()> {
        let x = storage_f32s_mut(x, x_layout, self.name())?;
        let bias = storage_f32s(bias, bias_layout, self.name())?;
        let residual = storage_f32s(residual, residual_layout, self.name())?;
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
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

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
