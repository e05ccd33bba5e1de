//! Linear layers: `x · weight + bias`, in one layout and with one rounding.
//!
//! A matmul of a single row sums in another order than a matmul of several: the latter adds up blocks of some hundred terms,
//! the former all terms in a row. Here a single row is added up in the same blocks, or multiplied with a copy of itself as
//! company, so that the result of a row never depends on how many rows there are.

use crate::error::Result;
use crate::linalg::{change_f32s, rows_per_task, with_memory};
use candle_core::{D, Device, Tensor};
use pulp::{Arch, Simd, WithSimd};
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
    let is_matrix = x.rank() == 2 && matches!(*weight.stride(), [_, 1] | [1, _]);
    // Small results have matmuls of their own.
    let is_large = is_matrix && weight.dim(0)? > 1 && weight.dim(1)? > 128;
    match *LONGEST_SUM {
        Some(longest) if is_large => row_times(x, weight, longest),
        _ => in_company(x, weight),
    }
}

/// A single row by a matrix, with a copy of the row as company.
fn in_company(x: &Tensor, weight: &Tensor) -> candle_core::Result<Tensor> {
    Tensor::cat(&[x, x], D::Minus2)?.matmul(weight)?.narrow(D::Minus2, 0, 1)
}

/// The most terms that a matmul of several rows adds up in one go, if [`row_times`] with it gives the same bits; this depends on
/// the caches of the processor.
static LONGEST_SUM: LazyLock<Option<usize>> = LazyLock::new(|| {
    let values = |n: usize| (0..n).map(|i| ((i * 7919 % 1009) as f32 / 1009.0 - 0.5).exp());
    let matrix = |rows: usize, columns: usize| {
        Tensor::from_iter(values(rows * columns), &Device::Cpu)?.reshape((rows, columns))
    };
    let agrees = |longest: usize| {
        let terms = 5 * longest / 2;
        let x = matrix(1, terms)?;
        for weight in [matrix(terms, 200)?, matrix(200, terms)?.t()?] {
            let [alone, company] = [row_times(&x, &weight, longest)?, in_company(&x, &weight)?];
            if alone.to_vec2::<f32>()? != company.to_vec2::<f32>()? {
                return Ok(false);
            }
        }
        candle_core::Result::Ok(true)
    };
    [512, 1024, 2048, 4096].into_iter().find(|longest| agrees(*longest).unwrap_or(false))
});

/// Elements of a matrix that are worth a task of their own: they take longer than to wake a thread.
const TASK: usize = 1 << 18;

/// A single row by a matrix whose rows or columns lie in one piece, at the speed of memory. The terms of each output are
/// added up in equal parts of at most `longest`.
fn row_times(x: &Tensor, weight: &Tensor, longest: usize) -> candle_core::Result<Tensor> {
    let (terms, outputs) = weight.dims2()?;
    if x.elem_count() != terms {
        candle_core::bail!("row-times: {} elements by a matrix {:?}", x.elem_count(), weight.shape());
    }
    let part = terms.div_ceil(terms.div_ceil(longest).max(1)).max(1);
    let mut out = vec![0f32; outputs];
    with_memory([&x.contiguous()?, weight], |[x, values]| {
        let x = &x[..terms];
        match *weight.stride() {
            [step @ 1..=usize::MAX, 1] => {
                let width = outputs.div_ceil(rayon::current_num_threads());
                let width = width.clamp(TASK.div_ceil(terms).min(4096), 4096).next_multiple_of(64);
                out.par_chunks_mut(width).enumerate().for_each(|(i, out)| {
                    Arch::new().dispatch(Columns { x, weight: &values[i * width..], step, part, out });
                });
            }
            [1, step @ 1..=usize::MAX] => {
                let outputs = TASK.div_ceil(terms).next_multiple_of(OUTPUTS);
                let tasks = out.par_chunks_mut(outputs).zip(values.par_chunks(outputs * step));
                tasks.for_each(|(out, rows)| Arch::new().dispatch(Rows { x, rows, step, part, out }));
            }
            _ => return Err(candle_core::Error::RequiresContiguous { op: "row-times" }.bt()),
        }
        Ok(())
    })??;
    Tensor::from_vec(out, (1, outputs), &Device::Cpu)
}

/// `out = x · weight`.
struct Columns<'a> {
    x: &'a [f32],
    /// The first `out.len()` elements of each of `x.len()` rows, which start `step` elements apart.
    weight: &'a [f32],
    step: usize,
    part: usize,
    out: &'a mut [f32],
}

impl WithSimd for Columns<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        const AT_ONCE: usize = 4;
        let Columns { x, weight, step, part, out } = self;
        let mut sums = vec![0f32; out.len()];
        for (x, weight) in x.chunks(part).zip(weight.chunks(part * step)) {
            sums.fill(0.0);
            for (x, weight) in x.chunks(AT_ONCE).zip(weight.chunks(AT_ONCE * step)) {
                let row = |i: usize| &weight[i * step..][..out.len()];
                if let [x0, x1, x2, x3] = *x {
                    let [a, b, c, d]: [&[f32]; AT_ONCE] = std::array::from_fn(row);
                    for ((((sum, a), b), c), d) in sums.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                        *sum = d.mul_add(x3, c.mul_add(x2, b.mul_add(x1, a.mul_add(x0, *sum))));
                    }
                } else {
                    for (i, x) in x.iter().enumerate() {
                        sums.iter_mut().zip(row(i)).for_each(|(sum, weight)| *sum = weight.mul_add(*x, *sum));
                    }
                }
            }
            out.iter_mut().zip(&sums).for_each(|(out, sum)| *out += sum);
        }
    }
}

/// `out[j] = x · rows[j]`.
struct Rows<'a> {
    x: &'a [f32],
    /// The first `x.len()` elements of each of `out.len()` rows, which start `step` elements apart.
    rows: &'a [f32],
    step: usize,
    part: usize,
    out: &'a mut [f32],
}

/// Rows that are transposed together, and groups of them that are summed together: as many sums as hide the latency of an
/// addition.
const TOGETHER: usize = 4;
const GROUPS: usize = 4;
const OUTPUTS: usize = TOGETHER * GROUPS;

impl WithSimd for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Rows { x, rows, step, part, out } = self;
        let mut groups: [_; GROUPS] = std::array::from_fn(|_| vec![[0f32; TOGETHER]; part]);
        for (out, rows) in out.chunks_mut(OUTPUTS).zip(rows.chunks(OUTPUTS * step)) {
            let last = out.len() - 1; // Repeated where there are fewer.
            for (i, x) in x.chunks(part).enumerate() {
                for (group, columns) in groups.iter_mut().enumerate() {
                    let row =
                        |j: usize| &rows[(group * TOGETHER + j).min(last) * step + i * part..][..x.len()];
                    let [a, b, c, d]: [&[f32]; TOGETHER] = std::array::from_fn(row);
                    for ((((column, a), b), c), d) in columns.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                        *column = [*a, *b, *c, *d];
                    }
                }
                let columns: [&[_]; GROUPS] = std::array::from_fn(|group| &groups[group][..x.len()]);
                let mut sums = [[0f32; TOGETHER]; GROUPS];
                for (i, x) in x.iter().enumerate() {
                    for (sums, columns) in sums.iter_mut().zip(columns) {
                        sums.iter_mut()
                            .zip(columns[i])
                            .for_each(|(sum, weight)| *sum = weight.mul_add(*x, *sum));
                    }
                }
                out.iter_mut().zip(sums.as_flattened()).for_each(|(out, sum)| *out += sum);
            }
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_row_gives_the_bits_of_many() {
        assert!(LONGEST_SUM.is_some(), "a single row goes the slow way on this processor");
        let shapes = [
            (192, 768),
            (600, 130),
            (770, 2304),
            (1500, 129),
            (600, 200),
            (3072, 768),
            (4097, 200),
            (1, 300),
            (3, 9000),
        ];
        for (terms, outputs) in shapes {
            let random = |shape| Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap();
            let x = random((7, terms));
            let (weight, transposed) =
                (random((terms, outputs + 3)), random((outputs + 3, terms)).t().unwrap());
            for weight in [&weight, &transposed].map(|w| w.narrow(1, 2, outputs).unwrap()) {
                let many = rows_times(&x, &weight).unwrap().to_vec2::<f32>().unwrap();
                for (i, row) in many.iter().enumerate() {
                    let one =
                        rows_times(&x.narrow(0, i, 1).unwrap(), &weight).unwrap().to_vec2::<f32>().unwrap();
                    assert!(
                        one[0] == *row,
                        "{terms} terms, {outputs} outputs, row {i}, {:?}",
                        weight.stride()
                    );
                }
            }
        }
    }
}
