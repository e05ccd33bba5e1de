//! Weights of 16 bits in the order in which products read them.

use crate::element::Half;
use crate::{Element, Matrix, zeros};
use half::{bf16, f16};
use pulp::Arch;
use std::ops::Range;

/// The number of columns of a panel.
pub const COLUMNS: usize = 64;

/// A matrix `[k, n]` in bf16 or f16. (Weights that are not finite may turn any sum of their column into NaN.) Panels of 64 columns follow each other, so that a product reads memory in order. In a panel
/// two rows are interleaved, as the dot products of processors want them: a `u32` has an element of an even row in its lower
/// half and the one of the next row in its upper half. What is missing in the last panel or pair is zero.
///
/// ```text
/// rows 0 and 1   [0, 0] [1, 0]  [0, 1] [1, 1]  …  [0, 63] [1, 63]
/// rows 2 and 3   [2, 0] [3, 0]  [2, 1] [3, 1]  …  [2, 63] [3, 63]
/// ```
#[derive(Clone)]
pub struct Packed {
    /// `[panels, pairs, COLUMNS]`.
    pairs: Vec<u32>,
    shape: [usize; 2],
    pub(crate) held: HalfType,
}

/// The type of a packed matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HalfType {
    Bf16,
    F16,
}

impl Packed {
    /// Packs matrices in bf16 or f16, with equally many rows, side by side. It starts as many threads as the current pool has, and
    /// does not use those of the pool. `None` if they are f32, if their numbers of rows differ, if neither rows nor columns are
    /// contiguous, or if there is not enough memory.
    pub fn new<T: Element>(parts: &[Matrix<'_, T>]) -> Option<Self> {
        let (held, k) = (T::HALF?, parts.first()?.shape[0]);
        if parts.iter().any(|part| part.shape[0] != k || !part.steps.contains(&1)) {
            return None;
        }
        let n = parts.iter().try_fold(0usize, |n, part| n.checked_add(part.shape[1]))?;
        let (panels, length) = (n.div_ceil(COLUMNS), k.div_ceil(2).checked_mul(COLUMNS)?);
        let mut pairs = zeros(panels.checked_mul(length)?)?;
        if !pairs.is_empty() {
            let each = panels.div_ceil(rayon::current_num_threads());
            std::thread::scope(|scope| {
                for (i, some) in pairs.chunks_mut(each * length).enumerate() {
                    scope.spawn(move || {
                        for (j, panel) in some.chunks_exact_mut(length).enumerate() {
                            pack(parts, (i * each + j) * COLUMNS, panel);
                        }
                    });
                }
            });
        }
        Some(Packed { pairs, shape: [k, n], held })
    }

    /// The numbers of rows and columns, `[k, n]`.
    pub fn shape(&self) -> [usize; 2] {
        self.shape
    }

    /// Columns in f32, `[k, columns.len()]` in row-major order. `None` if there are not as many, or not enough memory.
    pub fn to_f32s(&self, columns: Range<usize>) -> Option<Vec<f32>> {
        if columns.start > columns.end || columns.end > self.shape[1] {
            return None;
        }
        let mut out = zeros(self.shape[0].checked_mul(columns.len())?)?;
        let mut wide = Vec::new();
        let mut start = columns.start;
        while start < columns.end {
            let panel = start / COLUMNS * COLUMNS;
            let end = columns.end.min(panel + COLUMNS);
            let wide = self.widened(panel, COLUMNS.min(self.shape[1] - panel), &mut wide);
            for (out, wide) in
                out.chunks_exact_mut(columns.len()).zip(wide.values.chunks_exact(wide.steps[0]))
            {
                out[start - columns.start..end - columns.start]
                    .copy_from_slice(&wide[start - panel..end - panel]);
            }
            start = end;
        }
        Some(out)
    }

    /// The columns `[start, start + width)` in f32, for a `start` at the beginning of a panel, in `wide`.
    pub(crate) fn widened<'a>(&self, start: usize, width: usize, wide: &'a mut Vec<f32>) -> Matrix<'a, f32> {
        let k = self.shape[0];
        wide.resize(k * width, 0.0);
        Arch::new().dispatch(|| match self.held {
            HalfType::Bf16 => self.widen_panels::<bf16>(start / COLUMNS, width, wide),
            HalfType::F16 => self.widen_panels::<f16>(start / COLUMNS, width, wide),
        });
        Matrix { values: wide, shape: [k, width], steps: [width, 1] }
    }

    /// Widens panels from `first` on to rows of `width` columns.
    #[inline(always)]
    fn widen_panels<T: Half>(&self, first: usize, width: usize, wide: &mut [f32]) {
        for start in (0..width).step_by(COLUMNS) {
            let columns = start..width.min(start + COLUMNS);
            let pairs = self.panel(first + start / COLUMNS).chunks_exact(COLUMNS);
            for (rows, pairs) in wide.chunks_mut(2 * width).zip(pairs) {
                let (even, odd) = rows.split_at_mut(width);
                for (wide, pair) in even[columns.clone()].iter_mut().zip(pairs) {
                    *wide = T::both(*pair)[0];
                }
                if !odd.is_empty() {
                    for (wide, pair) in odd[columns.clone()].iter_mut().zip(pairs) {
                        *wide = T::both(*pair)[1];
                    }
                }
            }
        }
    }

    /// The number of panels of [`COLUMNS`] columns.
    pub fn panels(&self) -> usize {
        self.shape[1].div_ceil(COLUMNS)
    }

    /// A panel, `[pairs, COLUMNS]`.
    pub(crate) fn panel(&self, i: usize) -> &[u32] {
        let length = self.shape[0].div_ceil(2) * COLUMNS;
        &self.pairs[i * length..][..length]
    }
}

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packed").field("shape", &self.shape).field("held", &self.held).finish_non_exhaustive()
    }
}

/// Packs the columns from `start` on of matrices side by side.
fn pack<T: Element>(parts: &[Matrix<'_, T>], start: usize, panel: &mut [u32]) {
    let mut first = 0;
    for part in parts {
        let columns = first..first + part.shape[1];
        let own = columns.start.max(start)..columns.end.min(start + COLUMNS);
        first = columns.end;
        if own.is_empty() {
            continue;
        }
        let (part, at) = (part.columns(own.start - columns.start, own.len()), own.start - start);
        match part.steps {
            [_, 1] => Arch::new().dispatch(|| interleave_rows(part, panel, at)),
            _ => transpose_pairs(part, panel, at),
        }
    }
}

/// Packs a matrix whose rows are contiguous into the columns from `at` on of a panel.
#[inline(always)]
fn interleave_rows<T: Element>(matrix: Matrix<'_, T>, panel: &mut [u32], at: usize) {
    let ([k, n], step) = (matrix.shape, matrix.steps[0]);
    for (pair, panel) in panel.chunks_exact_mut(COLUMNS).enumerate() {
        let (row, panel) = (|i: usize| &matrix.values[i * step..][..n], &mut panel[at..]);
        for (pair, low) in panel.iter_mut().zip(row(2 * pair)) {
            *pair = low.bits();
        }
        if 2 * pair + 1 < k {
            for (pair, high) in panel.iter_mut().zip(row(2 * pair + 1)) {
                *pair |= high.bits() << 16;
            }
        }
    }
}

/// Packs a matrix whose columns are contiguous, or some rows of it, into the columns from `at` on of a panel.
pub(crate) fn transpose_pairs<T: Element>(matrix: Matrix<'_, T>, panel: &mut [u32], at: usize) {
    let ([k, n], step) = (matrix.shape, matrix.steps[1]);
    let (rows, _) = panel.as_chunks_mut::<COLUMNS>();
    let column = |i: usize| matrix.values[i * step..][..k].as_chunks::<2>();
    let whole = n / SIDE * SIDE;
    for first in (0..whole).step_by(SIDE) {
        let columns = std::array::from_fn(|i| column(first + i).0);
        #[cfg(target_arch = "x86_64")]
        if T::HALF.is_some() && is_x86_feature_detected!("avx2") {
            // SAFETY: the processor has AVX2.
            unsafe { avx2::transpose(columns, rows, at + first) };
            continue;
        }
        transpose(columns, rows, at + first, 0);
    }
    for i in whole..n {
        for (row, pair) in rows.iter_mut().zip(column(i).0) {
            row[at + i] = packed(*pair);
        }
    }
    if k % 2 == 1 {
        for (i, element) in rows[k / 2][at..].iter_mut().enumerate().take(n) {
            *element = column(i).1[0].bits();
        }
    }
}

/// The number of columns that are transposed together.
const SIDE: usize = 8;

#[inline(always)]
fn packed<T: Element>([low, high]: [T; 2]) -> u32 {
    low.bits() | high.bits() << 16
}

/// Writes the pairs of some columns, from pair `start` on, to the columns from `first` on of rows.
fn transpose<T: Element>(
    columns: [&[[T; 2]]; SIDE],
    rows: &mut [[u32; COLUMNS]],
    first: usize,
    start: usize,
) {
    for (i, row) in rows.iter_mut().enumerate().take(columns[0].len()).skip(start) {
        for (element, column) in row[first..].iter_mut().zip(columns) {
            *element = packed(column[i]);
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use super::{COLUMNS, Element, SIDE};
    use std::arch::x86_64::{
        __m256i, _mm256_loadu_si256, _mm256_permute2x128_si256, _mm256_setzero_si256, _mm256_storeu_si256,
        _mm256_unpackhi_epi32, _mm256_unpackhi_epi64, _mm256_unpacklo_epi32, _mm256_unpacklo_epi64,
    };

    /// [`super::transpose`], squares of 8 by 8 pairs at a time.
    #[target_feature(enable = "avx2")]
    pub(super) fn transpose<T: Element>(
        columns: [&[[T; 2]]; SIDE],
        rows: &mut [[u32; COLUMNS]],
        first: usize,
    ) {
        assert_eq!(size_of::<[T; 2]>(), size_of::<u32>());
        let mut start = 0;
        while let Some(rows) = rows[start..].first_chunk_mut::<SIDE>()
            && start + SIDE <= columns[0].len()
        {
            let mut square = [_mm256_setzero_si256(); SIDE];
            for (line, column) in square.iter_mut().zip(columns) {
                let pairs = &column[start..][..SIDE];
                // SAFETY: SIDE pairs of 32 bits are 256 bits.
                *line = unsafe { _mm256_loadu_si256(pairs.as_ptr().cast()) };
            }
            for (row, line) in rows.iter_mut().zip(transposed(square)) {
                let place = &mut row[first..][..SIDE];
                // SAFETY: SIDE elements of 32 bits are 256 bits.
                unsafe { _mm256_storeu_si256(place.as_mut_ptr().cast(), line) };
            }
            start += SIDE;
        }
        super::transpose(columns, rows, first, start);
    }

    /// The transpose of a square of 8 by 8 elements of 32 bits.
    #[target_feature(enable = "avx2")]
    fn transposed([a, b, c, d, e, f, g, h]: [__m256i; SIDE]) -> [__m256i; SIDE] {
        // Each half of a register: four columns of four rows.
        let [ab, cd, ef, gh] = [(a, b), (c, d), (e, f), (g, h)]
            .map(|(a, b)| [_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b)]);
        let four = |[a_low, a_high]: [__m256i; 2], [b_low, b_high]: [__m256i; 2]| {
            [
                _mm256_unpacklo_epi64(a_low, b_low),
                _mm256_unpackhi_epi64(a_low, b_low),
                _mm256_unpacklo_epi64(a_high, b_high),
                _mm256_unpackhi_epi64(a_high, b_high),
            ]
        };
        let (left, right) = (four(ab, cd), four(ef, gh));
        let [mut low, mut high] = [[a; 4]; 2];
        for (i, (left, right)) in left.into_iter().zip(right).enumerate() {
            low[i] = _mm256_permute2x128_si256::<0x20>(left, right);
            high[i] = _mm256_permute2x128_si256::<0x31>(left, right);
        }
        let [[a, b, c, d], [e, f, g, h]] = [low, high];
        [a, b, c, d, e, f, g, h]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Distinct finite elements.
    fn elements<T>(n: usize, from_bits: fn(u16) -> T) -> Vec<T> {
        (0..n).map(|i| from_bits((i * 7919 % 0x7000) as u16)).collect()
    }

    fn check<T: Element>(values: &[T]) {
        for [k, n] in [[1, 1], [2, 64], [7, 65], [33, 200], [34, 127], [100, 8]] {
            for steps in [[n + 3, 1], [1, k + 3]] {
                let whole = Matrix::new(values, [k, n], steps).unwrap();
                let mut wide = vec![0f32; k * n];
                for (i, wide) in wide.iter_mut().enumerate() {
                    T::widen(&values[i / n * steps[0] + i % n * steps[1]..][..1], std::slice::from_mut(wide));
                }
                let cuts = [0, n / 3, n / 3, n * 3 / 4, n];
                let parts: Vec<_> =
                    cuts.windows(2).map(|cut| whole.columns(cut[0], cut[1] - cut[0])).collect();
                for parts in [vec![whole], parts] {
                    let packed = Packed::new(&parts).unwrap();
                    assert_eq!(packed.shape(), [k, n]);
                    assert!(packed.to_f32s(0..n).unwrap() == wide, "{k} by {n}, steps {steps:?}");
                    let some: Vec<_> = wide.chunks(n).flat_map(|row| row[n / 2..].to_vec()).collect();
                    assert!(packed.to_f32s(n / 2..n).unwrap() == some, "{k} by {n}, steps {steps:?}");
                }
            }
        }
    }

    #[test]
    fn packed_elements_are_the_same() {
        check(&elements(30_000, bf16::from_bits));
        check(&elements(30_000, f16::from_bits));
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let values = [bf16::ONE; 12];
        let matrix = |shape, steps| Matrix::new(&values, shape, steps).unwrap();
        assert!(Packed::new(&[matrix([3, 4], [4, 1]), matrix([2, 4], [4, 1])]).is_none());
        assert!(Packed::new(&[matrix([3, 2], [4, 2])]).is_none());
        assert!(Packed::new::<bf16>(&[]).is_none());
        assert!(Packed::new(&[Matrix::new(&[1f32; 4], [2, 2], [2, 1]).unwrap()]).is_none());
        let packed = Packed::new(&[matrix([3, 4], [4, 1])]).unwrap();
        assert!(packed.to_f32s(2..5).is_none() && packed.to_f32s(4..4) == Some(Vec::new()));
        assert!(Packed::new(&[matrix([0, 4], [4, 1])]).unwrap().to_f32s(0..4) == Some(Vec::new()));
    }
}
