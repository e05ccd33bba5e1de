//! Linear layers: `x · weight + bias`, in one layout and with one rounding.
//!
//! Weights are held in f32, bf16 or f16. Computation is in f32, and the type in which the weights are held does not change the
//! result, unless a layer computes in another [`Precision`]. On the CPU, the result of a row does not depend on how many rows
//! there are.

use crate::compute::is_fused;
use crate::error::Result;
use crate::linalg::{change_f32s, rows_per_task, with_memory};
use candle_core::{D, DType, Device, Tensor, WithDType};
use half::{bf16, f16};
use rayon::prelude::*;
use saescope_kernels::{Element, Matrix, Packed, Precision, product, product_bf16, product_packed};
use std::ops::Range;

/// A linear layer.
pub struct Linear {
    weight: Weight,
    /// `[out]`, f32.
    pub bias: Option<Tensor>,
    precision: Precision,
}

/// A weight, `[in, out]`.
enum Weight {
    /// The layout in which `x · weight` is fastest in f32, a table that is used elsewhere too, or a weight on a GPU.
    Tensor(Tensor),
    /// bf16 or f16, on the CPU.
    Packed(Packed),
}

impl Linear {
    /// A layer with the weight `[in, out]`, which stays as it is in memory.
    pub fn new(weight: Tensor, bias: Option<Tensor>) -> Self {
        Linear { weight: Weight::Tensor(weight), bias, precision: Precision::F32 }
    }

    /// A layer with a packed weight.
    pub fn packed(weight: Packed, bias: Option<Tensor>) -> Self {
        Linear { weight: Weight::Packed(weight), bias, precision: Precision::F32 }
    }

    /// The layer with another precision. Bf16 only with a weight in bf16, on a processor or GPU that multiplies it.
    pub fn in_precision(self, precision: Precision) -> Self {
        Linear { precision, ..self }
    }

    /// `x · weight + bias`, `[n, in]` → `[n, out]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let out = self.without_bias(x)?;
        Ok(match &self.bias {
            Some(bias) => add_bias(out, bias)?,
            None => out,
        })
    }

    /// `x · weight`, `[n, in]` → `[n, out]`, for those who add the bias in their own operator.
    pub fn without_bias(&self, x: &Tensor) -> Result<Tensor> {
        Ok(match &self.weight {
            Weight::Tensor(weight) => matmul(x, weight, self.precision)?,
            Weight::Packed(weight) if is_fused(x) => packed_times(x, weight, self.precision)?,
            Weight::Packed(weight) => self.times(x, &self.columns(0..weight.shape()[1])?)?,
        })
    }

    /// Columns of the weight in f32, `[in, columns.len()]`.
    pub fn columns(&self, columns: Range<usize>) -> Result<Tensor> {
        Ok(match &self.weight {
            Weight::Tensor(weight) => weight.narrow(1, columns.start, columns.len())?.to_dtype(DType::F32)?,
            Weight::Packed(weight) => {
                let shape = (weight.shape()[0], columns.len());
                let wrong = || candle_core::Error::Msg(format!("{columns:?} of {weight:?}"));
                Tensor::from_vec(weight.to_f32s(columns.clone()).ok_or_else(wrong)?, shape, &Device::Cpu)?
            }
        })
    }

    /// [`rows_times`] with weights made of [`Linear::columns`], rounding as this layer does.
    pub fn times(&self, x: &Tensor, weight: &Tensor) -> Result<Tensor> {
        match self.precision {
            Precision::Bf16 => Ok(rows_times(&x.to_dtype(DType::BF16)?.to_dtype(DType::F32)?, weight)?),
            Precision::F32 | Precision::Tf32 => Ok(rows_times(x, weight)?),
        }
    }
}

/// `x · weight`, `[n, in]` by `[in, out]` → `[n, out]`. Only GPUs round `x` and the weight to the precision of a tensor that is
/// not packed.
pub fn matmul(x: &Tensor, weight: &Tensor, precision: Precision) -> candle_core::Result<Tensor> {
    match x.device() {
        #[cfg(feature = "cuda")]
        Device::Cuda(_) => saescope_kernels::cuda::matmul(x, weight, precision),
        Device::Metal(_) if precision == Precision::Bf16 => {
            x.to_dtype(DType::BF16)?.matmul(&weight.to_dtype(DType::BF16)?)?.to_dtype(DType::F32)
        }
        _ => rows_times(x, weight),
    }
}

/// `x · weight`, `[n, in]` by `[in, out]`.
fn packed_times(x: &Tensor, weight: &Packed, precision: Precision) -> candle_core::Result<Tensor> {
    let ((n, d_in), [_, d_out]) = (x.dims2()?, weight.shape());
    let x = x.contiguous()?;
    let out = with_memory([&x], |[x]: [&[f32]; 1]| {
        let x = Matrix::new(x, [n, d_in], [d_in, 1])?;
        if precision == Precision::Bf16 { product_bf16(x, weight) } else { product_packed(x, weight) }
    })?;
    let wrong = || candle_core::Error::Msg(format!("x {:?} and weight {weight:?} do not fit", x.dims()));
    Tensor::from_vec(out.ok_or_else(wrong)?, (n, d_out), &Device::Cpu)
}

/// `x · weight`, `[…, n, in]` by `[…, in, out]` → `[…, n, out]`, in f32.
pub fn rows_times(x: &Tensor, weight: &Tensor) -> candle_core::Result<Tensor> {
    if !is_fused(x) {
        return x.matmul(&weight.to_dtype(DType::F32)?);
    }
    if weight.rank() != 2 || x.rank() != 2 {
        let weight = weight.to_dtype(DType::F32)?;
        return match x.dim(D::Minus2)? {
            // A single row would be summed in another order than several.
            1 => Tensor::cat(&[x, x], D::Minus2)?.matmul(&weight)?.narrow(D::Minus2, 0, 1),
            _ => x.matmul(&weight),
        };
    }
    match weight.dtype() {
        DType::BF16 => matrix_times::<bf16>(x, weight),
        DType::F16 => matrix_times::<f16>(x, weight),
        _ => matrix_times::<f32>(x, weight),
    }
}

/// [`rows_times`] for matrices.
fn matrix_times<T: Element + WithDType>(x: &Tensor, weight: &Tensor) -> candle_core::Result<Tensor> {
    let ((n, d_in), (inner, d_out)) = (x.dims2()?, weight.dims2()?);
    let x = x.contiguous()?;
    let out = with_memory([&x], |[x]: [&[f32]; 1]| {
        with_memory([weight], |[values]: [&[T]; 1]| {
            let x = Matrix::new(x, [n, d_in], [d_in, 1])?;
            let &[rows, columns] = weight.stride() else { return None };
            product(x, Matrix::new(values, [inner, d_out], [rows, columns])?)
        })
    })??;
    let wrong =
        || candle_core::Error::Msg(format!("x {:?} and weight {:?} do not fit", x.dims(), weight.dims()));
    Tensor::from_vec(out.ok_or_else(wrong)?, (n, d_out), &Device::Cpu)
}

/// `x + bias`, `x` `[..., d]`, `bias` `[d]`. `x` must not be shared: its memory is used.
pub fn add_bias(x: Tensor, bias: &Tensor) -> candle_core::Result<Tensor> {
    match x.device() {
        #[cfg(feature = "cuda")]
        Device::Cuda(_) => return saescope_kernels::cuda::add(&x, Some(bias), None),
        _ if !is_fused(&x) => return x.broadcast_add(bias),
        _ => {}
    }
    change_f32s(&x, [bias], |x, [bias]| {
        let d = bias.len();
        x.par_chunks_mut(rows_per_task(d) * d).for_each(|x| {
            for x in x.chunks_exact_mut(d) {
                x.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
            }
        });
    })?;
    Ok(x)
}
