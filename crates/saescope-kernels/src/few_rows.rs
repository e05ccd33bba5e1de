//! Products of a few rows with a large f32 matrix, at the speed at which the matrix is read.

use crate::Matrix;
use pulp::{Arch, Simd, WithSimd, bytemuck};
use rayon::prelude::*;

/// The number of elements that are worth a parallel task: reading them takes longer than waking a thread.
const TASK: usize = 1 << 18;

/// `a · b` in row-major order, for a contiguous `a` with few rows (16 or so) and a `b` whose rows or columns are contiguous. The
/// terms of each element are added up in equal parts of at most `longest`, and these parts in order.
pub(crate) fn few_rows(a: Matrix<'_, f32>, b: Matrix<'_, f32>, longest: usize) -> Vec<f32> {
    let ([rows, terms], n) = (a.shape, b.shape[1]);
    let part = terms.div_ceil(terms.div_ceil(longest).max(1)).max(1);
    let each = n.div_ceil(rayon::current_num_threads());
    // The sums of a task and the elements that they are made of stay in the first-level cache.
    let most = (1 << 13) / (rows + 1);
    let width = each.clamp((TASK / (terms * rows).max(1)).min(most), most).next_multiple_of(64);
    let task = |start: usize| {
        let b = b.columns(start, width);
        let mut out = vec![0f32; rows * b.shape[1]];
        match b.steps {
            [_, 1] => Arch::new().dispatch(ByRows { a, b, part, out: &mut out }),
            _ => Arch::new().dispatch(ByColumns { a, b, part, out: &mut out }),
        }
        out
    };
    if width >= n {
        return task(0);
    }
    let starts: Vec<_> = (0..n).step_by(width).collect();
    let tasks: Vec<Vec<f32>> = starts.into_par_iter().map(task).collect();
    side_by_side(&tasks, [rows, n])
}

/// Puts matrices of as many rows side by side, up to `n` columns.
pub(crate) fn side_by_side(parts: &[Vec<f32>], [rows, n]: [usize; 2]) -> Vec<f32> {
    let mut out = Vec::with_capacity(rows * n);
    for row in 0..rows {
        for part in parts {
            let width = part.len() / rows;
            let left = (row + 1) * n - out.len();
            out.extend_from_slice(&part[row * width..][..width.min(left)]);
        }
    }
    out
}

/// `out = a · b`, reading `b` by its rows.
struct ByRows<'a> {
    a: Matrix<'a, f32>,
    b: Matrix<'a, f32>,
    part: usize,
    out: &'a mut [f32],
}

impl WithSimd for ByRows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        /// Rows of `b` that are added at once.
        const AT_ONCE: usize = 4;
        let ByRows { a, b, part, out } = self;
        let ([_, terms], width) = (a.shape, b.shape[1]);
        let row = |i: usize| &b.values[i * b.steps[0]..][..width];
        let mut sums = vec![0f32; out.len()];
        for start in (0..terms).step_by(part) {
            sums.fill(0.0);
            let end = (start + part).min(terms);
            for first in (start..end).step_by(AT_ONCE) {
                let n = AT_ONCE.min(end - first);
                for (i, sums) in sums.chunks_exact_mut(width).enumerate() {
                    let x = &a.values[i * terms + first..][..n];
                    if let [x0, x1, x2, x3] = x {
                        let [w0, w1, w2, w3] = [0, 1, 2, 3].map(|i| row(first + i));
                        for ((((sum, w0), w1), w2), w3) in sums.iter_mut().zip(w0).zip(w1).zip(w2).zip(w3) {
                            *sum = w3.mul_add(*x3, w2.mul_add(*x2, w1.mul_add(*x1, w0.mul_add(*x0, *sum))));
                        }
                    } else {
                        for (i, x) in x.iter().enumerate() {
                            sums.iter_mut()
                                .zip(row(first + i))
                                .for_each(|(sum, w)| *sum = w.mul_add(*x, *sum));
                        }
                    }
                }
            }
            out.iter_mut().zip(&sums).for_each(|(out, sum)| *out += sum);
        }
    }
}

/// `out = a · b`, reading `b` by its columns: some of them are transposed at a time.
struct ByColumns<'a> {
    a: Matrix<'a, f32>,
    b: Matrix<'a, f32>,
    part: usize,
    out: &'a mut [f32],
}

/// Vectors of columns that are transposed together.
const VECTORS: usize = 2;
/// Rows whose sums are in registers together.
const ROWS: usize = 4;

impl WithSimd for ByColumns<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        const TOGETHER: usize = 4;
        let ByColumns { a, b, part, out } = self;
        let ([rows, terms], width, step) = (a.shape, b.shape[1], b.steps[1]);
        let at_once = VECTORS * S::F32_LANES;
        let mut tile = vec![0f32; part * at_once]; // [part, at_once]
        let mut group = vec![[0f32; TOGETHER]; part];
        for first in (0..width).step_by(at_once) {
            let last = width - 1; // Repeated where there are fewer columns.
            for start in (0..terms).step_by(part) {
                let n = part.min(terms - start);
                for column in (0..at_once).step_by(TOGETHER) {
                    let mut columns = [&[][..]; TOGETHER];
                    for (i, values) in columns.iter_mut().enumerate() {
                        *values = &b.values[(first + column + i).min(last) * step + start..][..n];
                    }
                    let [w0, w1, w2, w3] = columns;
                    for ((((group, w0), w1), w2), w3) in group.iter_mut().zip(w0).zip(w1).zip(w2).zip(w3) {
                        *group = [*w0, *w1, *w2, *w3];
                    }
                    let end = (column + TOGETHER).min(at_once);
                    for (tile, group) in tile.chunks_exact_mut(at_once).zip(&group[..n]) {
                        tile[column..end].copy_from_slice(&group[..end - column]);
                    }
                }
                let tile = &tile[..n * at_once];
                let end = (first + at_once).min(width);
                let mut row = 0;
                while row < rows {
                    let x = |i: usize| &a.values[(row + i) * terms + start..][..n];
                    let out = &mut out[row * width..];
                    if row + ROWS <= rows {
                        add::<S, ROWS>(simd, std::array::from_fn(x), tile, out, width, first..end);
                        row += ROWS;
                    } else {
                        add::<S, 1>(simd, [x(0)], tile, out, width, first..end);
                        row += 1;
                    }
                }
            }
        }
    }
}

/// Adds `x · tile` `[R, at_once]` to some columns of `R` rows of `out`.
#[inline(always)]
fn add<S: Simd, const R: usize>(
    simd: S,
    x: [&[f32]; R],
    tile: &[f32],
    out: &mut [f32],
    width: usize,
    columns: std::ops::Range<usize>,
) {
    let mut sums = [[simd.splat_f32s(0.0); VECTORS]; R];
    let (tile, _) = S::as_simd_f32s(tile);
    for (i, weights) in tile.chunks_exact(VECTORS).enumerate() {
        for (sums, x) in sums.iter_mut().zip(x) {
            let x = simd.splat_f32s(x[i]);
            for (sum, weights) in sums.iter_mut().zip(weights) {
                *sum = simd.mul_add_f32s(*weights, x, *sum);
            }
        }
    }
    for (out, sums) in out.chunks_mut(width).zip(&sums) {
        let sums: &[f32] = bytemuck::cast_slice(sums);
        out[columns.clone()].iter_mut().zip(sums).for_each(|(out, sum)| *out += sum);
    }
}
