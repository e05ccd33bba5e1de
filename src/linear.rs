//! Linear layers: `x · weight + bias`, in one layout and with one rounding.
//!
//! A matmul of a single row sums in another order than a matmul of several: the latter adds up blocks of some hundred terms,
//! the former all terms in a row. Here a single row is multiplied block by block, or with a copy of itself as company, so that
//! the result of a row never depends on how many rows there are.

use crate::error::Result;
use crate::linalg::{rows_per_task, storage_f32s, storage_f32s_mut};
use candle_core::{CpuStorage, D, Device, InplaceOp2, Layout, Tensor};
use rayon::prelude::*;
use std::sync::LazyLock;

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
    // Small results and transposed weights have matmuls of their own.
    let in_blocks = weight.rank() == 2 && weight.is_contiguous() && weight.dim(1)? > 64;
    match *BLOCK {
        Some(block) if in_blocks => by_blocks(x, weight, block),
        _ => in_company(x, weight),
    }
}

/// The longest sum that a matmul of several rows takes in one go, if [`by_blocks`] with it gives the same bits; this depends on
/// the caches of the processor.
static BLOCK: LazyLock<Option<usize>> = LazyLock::new(|| {
    let values = |n: usize| (0..n).map(|i| ((i * 7919 % 1009) as f32 / 1009.0 - 0.5).exp());
    let matrix = |rows: usize, columns: usize| {
        Tensor::from_iter(values(rows * columns), &Device::Cpu)?.reshape((rows, columns))
    };
    let is_block = |block: &usize| {
        let (x, weight) = (matrix(1, 5 * block / 2)?, matrix(5 * block / 2, 96)?);
        let [blocks, company] = [by_blocks(&x, &weight, *block)?, in_company(&x, &weight)?];
        Ok::<_, candle_core::Error>(blocks.to_vec2::<f32>()? == company.to_vec2::<f32>()?)
    };
    [512, 1024, 2048, 4096].into_iter().find(|block| is_block(block).unwrap_or(false))
});

/// A single row by a matrix, summed in equal blocks of at most `block` terms.
fn by_blocks(x: &Tensor, weight: &Tensor, block: usize) -> candle_core::Result<Tensor> {
    let terms = weight.dim(0)?;
    let block = terms.div_ceil(terms.div_ceil(block).max(1)).max(1);
    let part = |start: usize| {
        let n = block.min(terms - start);
        x.narrow(D::Minus1, start, n)?.contiguous()?.matmul(&weight.narrow(0, start, n)?)
    };
    let mut sum = part(0)?;
    for start in (block..terms).step_by(block) {
        sum = (sum + part(start)?)?;
    }
    Ok(sum)
}

/// A single row by a matrix, with a copy of the row as company.
fn in_company(x: &Tensor, weight: &Tensor) -> candle_core::Result<Tensor> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_row_gives_the_bits_of_many() {
        for (terms, columns) in [(192, 768), (600, 192), (768, 2304), (1500, 65), (3072, 768), (4096, 100)] {
            let x = Tensor::randn(0f32, 1.0, (7, terms), &Device::Cpu).unwrap();
            let weight = Tensor::randn(0f32, 1.0, (terms, columns), &Device::Cpu).unwrap();
            let many = rows_times(&x, &weight).unwrap().to_vec2::<f32>().unwrap();
            for (i, row) in many.iter().enumerate() {
                let one = rows_times(&x.narrow(0, i, 1).unwrap(), &weight).unwrap().to_vec2::<f32>().unwrap();
                assert!(one[0] == *row, "{terms} terms, row {i}");
            }
            assert!(BLOCK.is_some(), "a single row goes the slow way on this processor");
        }
    }
}
