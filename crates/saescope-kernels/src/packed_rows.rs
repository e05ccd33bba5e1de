//! Products of a few rows with packed weights, in f32, at the speed at which the weights are read.

use crate::element::Half;
use crate::few_rows::side_by_side;
use crate::packed::{COLUMNS, HalfType, transpose_pairs};
use crate::{Element, Matrix, Packed};
use half::{bf16, f16};
use pulp::{Arch, Simd, WithSimd, bytemuck};
use rayon::prelude::*;
use std::marker::PhantomData;
use std::ops::Range;

/// The most rows whose sums are in registers together.
const ROWS: usize = 6;

/// A matrix `[k, n]` that is multiplied by panels.
pub(crate) trait Panels: Sync {
    /// The type of the elements.
    fn held(&self) -> HalfType;

    /// The pairs of rows from `pairs.start` on of a panel, at least up to `pairs.end`, in a buffer that may be used.
    fn part<'a>(&'a self, panel: usize, pairs: Range<usize>, buffer: &'a mut Vec<u32>) -> &'a [u32];
}

impl Panels for Packed {
    fn held(&self) -> HalfType {
        self.held
    }

    fn part<'a>(&'a self, panel: usize, pairs: Range<usize>, _: &'a mut Vec<u32>) -> &'a [u32] {
        &self.panel(panel)[pairs.start * COLUMNS..]
    }
}

/// A matrix with contiguous columns, packed part by part.
pub(crate) struct Columns<'a, T> {
    pub(crate) matrix: Matrix<'a, T>,
    pub(crate) held: HalfType,
}

impl<T: Element> Panels for Columns<'_, T> {
    fn held(&self) -> HalfType {
        self.held
    }

    fn part<'a>(&'a self, panel: usize, pairs: Range<usize>, buffer: &'a mut Vec<u32>) -> &'a [u32] {
        buffer.resize(pairs.len() * COLUMNS, 0);
        let columns = self.matrix.columns(panel * COLUMNS, COLUMNS);
        transpose_pairs(columns.rows(2 * pairs.start, 2 * pairs.len()), buffer, 0);
        buffer
    }
}

/// `a · b` in row-major order, for a contiguous `a` with few rows and a `b` of `n` columns. The terms of each element are added up
/// in equal parts of at most `longest`, and these parts in order.
pub(crate) fn packed_rows(a: Matrix<'_, f32>, b: &impl Panels, n: usize, longest: usize) -> Vec<f32> {
    let [rows, terms] = a.shape;
    let part = terms.div_ceil(terms.div_ceil(longest).max(1)).max(1);
    // Groups of about equally many rows.
    let groups = rows.div_ceil(ROWS);
    let groups: Vec<_> = (0..groups).map(|i| rows * i / groups..rows * (i + 1) / groups).collect();
    let parts = (0..terms).step_by(part).map(|start| start..terms.min(start + part));
    let parts: Vec<(Range<usize>, Vec<Vec<f32>>)> = parts
        .map(|part| {
            let x = groups.iter().map(|group| pairs(a, group, part.clone())).collect();
            (part.start / 2..part.end.div_ceil(2), x)
        })
        .collect();
    let one = |buffer: &mut Vec<u32>, i: usize| {
        let mut out = vec![[0f32; COLUMNS]; rows];
        for (pairs, x) in &parts {
            let panel = b.part(i, pairs.clone(), buffer);
            for (group, x) in groups.iter().zip(x) {
                let task = Task { x, panel, out: &mut out[group.clone()] };
                match b.held() {
                    HalfType::Bf16 => task.run::<bf16>(),
                    HalfType::F16 => task.run::<f16>(),
                }
            }
        }
        out.into_flattened()
    };
    let panels: Vec<_> = (0..n.div_ceil(COLUMNS)).into_par_iter().map_init(Vec::new, one).collect();
    side_by_side(&panels, [rows, n])
}

/// Some terms of some rows in the order in which they are multiplied, `[pairs, 2, rows]`; zero in place of a term that belongs to
/// another part.
fn pairs(a: Matrix<'_, f32>, rows: &Range<usize>, terms: Range<usize>) -> Vec<f32> {
    let padded = terms.start / 2 * 2..terms.end.next_multiple_of(2);
    let of = |k: usize| {
        let is_own = terms.contains(&k);
        rows.clone().map(move |row| if is_own { a.values[row * a.steps[0] + k] } else { 0.0 })
    };
    padded.flat_map(of).collect()
}

/// Adds the product of `x` and a part of a panel to `out`.
struct Task<'a> {
    /// `[pairs, 2, rows]`.
    x: &'a [f32],
    /// `[pairs, COLUMNS]`, and maybe more pairs.
    panel: &'a [u32],
    /// `[rows]`.
    out: &'a mut [[f32; COLUMNS]],
}

impl Task<'_> {
    fn run<T: Half>(self) {
        match self.out.len() {
            1 => Arch::new().dispatch(Rows::<T, 1>(self, PhantomData)),
            2 => Arch::new().dispatch(Rows::<T, 2>(self, PhantomData)),
            3 => Arch::new().dispatch(Rows::<T, 3>(self, PhantomData)),
            4 => Arch::new().dispatch(Rows::<T, 4>(self, PhantomData)),
            5 => Arch::new().dispatch(Rows::<T, 5>(self, PhantomData)),
            _ => Arch::new().dispatch(Rows::<T, ROWS>(self, PhantomData)),
        }
    }
}

/// A task with weights of type `T` and `R` rows.
struct Rows<'a, T, const R: usize>(Task<'a>, PhantomData<T>);

impl<T: Half, const R: usize> WithSimd for Rows<'_, T, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if S::F32_LANES >= 16 {
            add::<S, T, R, 4>(simd, self.0);
        } else {
            // With 16 registers.
            add::<S, T, R, 2>(simd, self.0);
        }
    }
}

/// Runs a task of `R` rows, with the sums of `V` vectors of columns in registers.
#[inline(always)]
fn add<S: Simd, T: Half, const R: usize, const V: usize>(simd: S, Task { x, panel, out }: Task<'_>) {
    let (panel, _) = S::as_simd_u32s(panel);
    let per_row = COLUMNS / S::F32_LANES;
    for first in (0..per_row).step_by(V) {
        let mut sums = [[simd.splat_f32s(0.0); V]; R];
        for (x, row) in x.as_chunks::<R>().0.as_chunks::<2>().0.iter().zip(panel.chunks_exact(per_row)) {
            let Some(row) = row[first..].first_chunk::<V>() else { break };
            let mut weights = [[simd.splat_f32s(0.0); V]; 2];
            for (i, pairs) in row.iter().enumerate() {
                [weights[0][i], weights[1][i]] = T::widen_pairs(simd, *pairs);
            }
            for (x, weights) in x.iter().zip(weights) {
                for (sums, x) in sums.iter_mut().zip(x) {
                    let x = simd.splat_f32s(*x);
                    for (sum, weight) in sums.iter_mut().zip(weights) {
                        *sum = simd.mul_add_f32s(weight, x, *sum);
                    }
                }
            }
        }
        for (out, sums) in out.iter_mut().zip(sums) {
            let sums: &[f32] = bytemuck::cast_slice(&sums);
            let out = &mut out[first * S::F32_LANES..];
            out.iter_mut().zip(sums).for_each(|(out, sum)| *out += sum);
        }
    }
}
