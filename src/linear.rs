//! Linear layers: `x · weight + bias`, in one layout and with one rounding.
//!
//! Weights are held in f32, bf16 or f16, and computed with in f32. The result of a row does not depend on how many rows there
//! are, nor on the type in which the weights are held.

use crate::error::Result;
use crate::linalg::{change_f32s, rows_per_task, with_memory};
use candle_core::{D, DType, Device, Tensor, WithDType};
use half::{bf16, f16};
use rayon::prelude::*;
use saescope_kernels::{Element, Matrix, product};

/// A linear layer.
pub struct Linear {
    /// `[in, out]`, the layout in which `x · weight` is fastest; f32, bf16 or f16.
    pub weight: Tensor,
    /// `[out]`, f32.
    pub bias: Option<Tensor>,
}

impl Linear {
    /// A layer whose weight is `[out, in]`, as torch stores it. It stays so in memory.
    pub fn from_out_in(weight: &Tensor, bias: Option<Tensor>) -> Result<Self> {
        Ok(Linear { weight: weight.t()?, bias })
    }

    /// `x · weight + bias`, `[n, in]` → `[n, out]`.
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let out = self.without_bias(x)?;
        if let Some(bias) = &self.bias {
            add_bias_in_place(&out, bias)?;
        }
        Ok(out)
    }

    /// `x · weight`, `[n, in]` → `[n, out]`, for those who add the bias in their own operator.
    pub fn without_bias(&self, x: &Tensor) -> Result<Tensor> {
        Ok(rows_times(x, &self.weight)?)
    }
}

/// `x · weight`, `[…, n, in]` by `[…, in, out]` → `[…, n, out]`, in f32.
pub fn rows_times(x: &Tensor, weight: &Tensor) -> candle_core::Result<Tensor> {
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

/// Adds `bias` `[d]` to `x` `[..., d]` in place. `x` must not be shared.
pub fn add_bias_in_place(x: &Tensor, bias: &Tensor) -> candle_core::Result<()> {
    change_f32s(x, [bias], |x, [bias]| {
        let d = bias.len();
        x.par_chunks_mut(rows_per_task(d) * d).for_each(|x| {
            for x in x.chunks_exact_mut(d) {
                x.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
            }
        });
    })
}
