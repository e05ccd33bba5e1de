//! Linear layers: `x · weight + bias`, in one layout and with one rounding.
//!
//! A matmul of a single row sums in another order than a matmul of several. Here it gets company, so that the result of a
//! row never depends on how many rows there are.

use crate::error::Result;
use crate::linalg::{rows_per_task, storage_f32s, storage_f32s_mut};
use candle_core::{CpuStorage, D, InplaceOp2, Layout, Tensor};
use rayon::prelude::*;

/// A linear layer.
pub struct Linear {
    /// `[in, out]`, the layout in which `x · weight` is fastest.
    pub weight: Tensor,
    /// `[out]`.
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

/// `x · weight`, `[…, n, in]` by `[…, in, out]` → `[…, n, out]`.
pub fn rows_times(x: &Tensor, weight: &Tensor) -> candle_core::Result<Tensor> {
    if x.dim(D::Minus2)? != 1 {
        return x.matmul(weight);
    }
    Tensor::cat(&[x, x], D::Minus2)?.matmul(weight)?.narrow(D::Minus2, 0, 1)
}

/// Adds `bias` `[d]` to `x` `[..., d]` in place. `x` must not be shared.
pub fn add_bias_in_place(x: &Tensor, bias: &Tensor) -> candle_core::Result<()> {
    x.inplace_op2(bias, &AddBias)
}

struct AddBias;

impl InplaceOp2 for AddBias {
    fn name(&self) -> &'static str {
        "add-bias"
    }

    fn cpu_fwd(
        &self,
        x: &mut CpuStorage,
        x_layout: &Layout,
        bias: &CpuStorage,
        b_layout: &Layout,
    ) -> candle_core::Result<()> {
        let x = storage_f32s_mut(x, x_layout, self.name())?;
        let bias = storage_f32s(bias, b_layout, self.name())?;
        let d = bias.len();
        x.par_chunks_mut(rows_per_task(d) * d).for_each(|x| {
            for x in x.chunks_exact_mut(d) {
                x.iter_mut().zip(bias).for_each(|(x, b)| *x += b);
            }
        });
        Ok(())
    }
}
