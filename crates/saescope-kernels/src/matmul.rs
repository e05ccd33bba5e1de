//! Products of f32 matrices with weights held in f32, bf16 or f16.

use crate::zeros::written;
use crate::{Element, zeros};
use gemm::Parallelism;
use pulp::Arch;
use rayon::prelude::*;

/// A matrix in memory: element `[i, j]` is `values[i · steps[0] + j · steps[1]]`.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a, T> {
    pub(crate) values: &'a [T],
    pub(crate) shape: [usize; 2],
    pub(crate) steps: [usize; 2],
}

impl<'a, T: Element> Matrix<'a, T> {
    /// A matrix of this shape. `None` if an element would be outside of `values`.
    pub fn new(values: &'a [T], shape: [usize; 2], steps: [usize; 2]) -> Option<Self> {
        let reach = |n: usize, step: usize| n.checked_sub(1)?.checked_mul(step);
        let is_empty = shape.contains(&0);
        let last = || reach(shape[0], steps[0])?.checked_add(reach(shape[1], steps[1])?);
        (is_empty || last()? < values.len()).then_some(Matrix { values, shape, steps })
    }

    /// The matrix itself, if it is f32.
    pub(crate) fn as_f32s(self) -> Option<Matrix<'a, f32>> {
        let Matrix { shape, steps, .. } = self;
        T::as_f32s(self.values).map(|values| Matrix { values, shape, steps })
    }

    /// Whether the rows or the columns are contiguous and apart.
    pub(crate) fn has_lines(&self) -> bool {
        self.steps.contains(&1) && !self.steps.contains(&0)
    }

    /// The rows from `start` on, at most `n`.
    pub(crate) fn rows(self, start: usize, n: usize) -> Self {
        let shape = [n.min(self.shape[0] - start), self.shape[1]];
        Matrix { values: self.values.get(start * self.steps[0]..).unwrap_or_default(), shape, ..self }
    }

    /// The columns from `start` on, at most `n`.
    pub(crate) fn columns(self, start: usize, n: usize) -> Self {
        let shape = [self.shape[0], n.min(self.shape[1] - start)];
        Matrix { values: self.values.get(start * self.steps[1]..).unwrap_or_default(), shape, ..self }
    }
}

/// The most columns that gemm may multiply in another way than more of them.
pub(crate) const NARROW: usize = 128;

/// `a · b`, `[m, k]` by `[k, n]`, in row-major order, on the threads of the current pool. If there are two rows or more, the
/// bits are those of a product with `b` widened to f32, and do not depend on the number of threads. `None` if the shapes do not
/// fit, or if neither the rows nor the columns of a `b` in bf16 or f16 are contiguous.
pub fn matmul<T: Element>(a: Matrix<'_, f32>, b: Matrix<'_, T>) -> Option<Vec<f32>> {
    let ([m, k], [inner, n]) = (a.shape, b.shape);
    if k != inner {
        return None;
    }
    if let Some(b) = b.as_f32s() {
        if m == 0 || n == 0 || k == 0 {
            return zeros(m.checked_mul(n)?);
        }
        let multiply = |first: *mut f32| {
            let threads = rayon::current_num_threads();
            let parallelism = if threads > 1 { Parallelism::Rayon(threads) } else { Parallelism::None };
            // SAFETY: there are `m` rows of `n` elements, and nothing else uses them.
            unsafe { Target { first, step: n }.multiply(a, b, 0, parallelism) };
        };
        // SAFETY: a product with at least one term writes every element.
        return unsafe { written(m.checked_mul(n)?, multiply) };
    }
    if !b.steps.contains(&1) {
        return None;
    }
    matmul_by_tiles(a, n, |start, width, wide| b.columns(start, width).widened(wide))
}

/// The product of `a` with a matrix of `n` columns. `widened` gives a range of them in f32, by first and number, in a buffer that
/// it may use.
pub(crate) fn matmul_by_tiles(
    a: Matrix<'_, f32>,
    n: usize,
    widened: impl for<'w> Fn(usize, usize, &'w mut Vec<f32>) -> Matrix<'w, f32> + Sync,
) -> Option<Vec<f32>> {
    // As f32, a tile of some thousand rows stays in the second-level cache.
    const TILE: usize = 256;
    let mut out = zeros(a.shape[0].checked_mul(n)?)?;
    if out.is_empty() || a.shape[1] == 0 {
        return Some(out);
    }
    let target = Target { first: out.as_mut_ptr(), step: n };
    let starts: Vec<_> = (0..n).step_by(TILE).filter(|start| *start == 0 || n - start > NARROW).collect();
    let tile = |wide: &mut Vec<f32>, start: usize| {
        let is_last = n - start <= TILE + NARROW;
        let tile = widened(start, if is_last { n - start } else { TILE }, wide);
        assert_eq!(tile.shape[0], a.shape[1], "rows of a widened tile");
        // SAFETY: `out` has `m` rows of `n` elements, and no other tile has these columns.
        unsafe { target.multiply(a, tile, start, Parallelism::None) };
    };
    if rayon::current_num_threads() > 1 {
        starts.into_par_iter().for_each_init(Vec::new, tile);
    } else {
        let mut wide = Vec::new();
        starts.into_iter().for_each(|start| tile(&mut wide, start));
    }
    Some(out)
}

impl<T: Element> Matrix<'_, T> {
    /// The matrix in f32, in `wide`. Its rows or its columns must be contiguous, and stay so.
    fn widened<'a>(&self, wide: &'a mut Vec<f32>) -> Matrix<'a, f32> {
        let ([rows, columns], shape) = (self.shape, self.shape);
        let (lines, length, step, steps) = match self.steps {
            [step, 1] => (rows, columns, step, [columns, 1]),
            [_, step] => (columns, rows, step, [1, rows]),
        };
        wide.resize(lines * length, 0.0);
        Arch::new().dispatch(|| {
            for (i, wide) in wide.chunks_exact_mut(length).enumerate() {
                T::widen(&self.values[i * step..][..length], wide);
            }
        });
        Matrix { values: wide, shape, steps }
    }
}

/// A matrix that is written: row `i` begins `i · step` elements after `first`.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub(crate) first: *mut f32,
    pub(crate) step: usize,
}

// SAFETY: threads that share a target write different columns of it.
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

impl Target {
    /// The first element of a row.
    ///
    /// # Safety
    /// There is such a row.
    pub(crate) unsafe fn row(self, i: usize) -> *mut f32 {
        // SAFETY: as the caller says.
        unsafe { self.first.add(i * self.step) }
    }

    /// Writes `a · b` to the columns from `start` on.
    ///
    /// # Safety
    /// The target has as many rows as `a` and at least `start` columns more than `b`, the shapes of `a` and `b` fit and are not
    /// empty, and nothing else uses these columns.
    unsafe fn multiply(self, a: Matrix<'_, f32>, b: Matrix<'_, f32>, start: usize, parallelism: Parallelism) {
        let step = |step: usize| step as isize;
        // SAFETY: `Matrix::new` has checked that all elements are in `values`; the caller speaks for the target.
        unsafe {
            gemm::gemm(
                a.shape[0],
                b.shape[1],
                a.shape[1],
                self.first.add(start),
                1,
                step(self.step),
                false,
                a.values.as_ptr(),
                step(a.steps[1]),
                step(a.steps[0]),
                b.values.as_ptr(),
                step(b.steps[1]),
                step(b.steps[0]),
                0.0,
                1.0,
                false,
                false,
                false,
                parallelism,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::{bf16, f16};

    fn values(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919 % 1009) as f32 / 1009.0 - 0.5).exp() - 1.0).collect()
    }

    /// Checks that `narrow` and `wide`, which have equal elements, give equal products, in both orders and with many threads.
    fn check<T: Element>(narrow: &[T], wide: &[f32]) {
        let (k, n) = (300, narrow.len() / 300);
        for m in [2, 7, 40] {
            let x = values(m * k);
            let a = Matrix::new(&x, [m, k], [k, 1]).unwrap();
            for steps in [[n, 1], [1, k]] {
                let expected = matmul(a, Matrix::new(wide, [k, n], steps).unwrap()).unwrap();
                let got = || matmul(a, Matrix::new(narrow, [k, n], steps).unwrap()).unwrap();
                assert!(got() == expected, "{m} rows, steps {steps:?}");
                let pool = rayon::ThreadPoolBuilder::new().num_threads(5).build().unwrap();
                assert!(pool.install(got) == expected, "{m} rows, steps {steps:?}, 5 threads");
            }
        }
    }

    #[test]
    fn narrow_weights_give_the_bits_of_wide_ones() {
        for n in [300, 1030] {
            let wide: Vec<_> = values(300 * n).into_iter().map(|x| bf16::from_f32(x).to_f32()).collect();
            check(&wide, &wide);
            check(&wide.iter().map(|x| bf16::from_f32(*x)).collect::<Vec<_>>(), &wide);
            let wide: Vec<_> = values(300 * n).into_iter().map(|x| f16::from_f32(x).to_f32()).collect();
            check(&wide.iter().map(|x| f16::from_f32(*x)).collect::<Vec<_>>(), &wide);
        }
    }

    #[test]
    fn a_product_is_the_sum_of_products() {
        let (a, b) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [1.0, 0.0, 2.0, 1.0, 0.0, 3.0]);
        let a = Matrix::new(&a, [2, 3], [3, 1]).unwrap();
        assert_eq!(matmul(a, Matrix::new(&b, [3, 2], [2, 1]).unwrap()).unwrap(), [5.0, 11.0, 14.0, 23.0]);
        let b = b.map(bf16::from_f32);
        assert_eq!(matmul(a, Matrix::new(&b, [3, 2], [1, 3]).unwrap()).unwrap(), [7.0, 10.0, 16.0, 22.0]);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let values = [1.0; 6];
        assert!(Matrix::new(&values, [2, 3], [3, 1]).is_some());
        assert!(Matrix::new(&values, [2, 3], [4, 1]).is_none());
        assert!(Matrix::new(&values, [usize::MAX, 3], [3, 1]).is_none());
        let a = Matrix::new(&values, [2, 3], [3, 1]).unwrap();
        assert!(matmul(a, a).is_none());
        assert!(matmul(a, Matrix::new(&values, [3, 0], [0, 1]).unwrap()).unwrap().is_empty());
        let narrow = values.map(bf16::from_f32);
        assert!(matmul(a, Matrix::new(&narrow, [3, 1], [2, 2]).unwrap()).is_none());
    }
}
