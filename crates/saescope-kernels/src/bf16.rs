//! Products computed in bf16: both factors are rounded to bf16, and their products are added up in f32.
//!
//! The processor must have AVX512-BF16, whose instruction adds the products of two pairs to each of 16 sums. It rounds to the
//! nearest, also after the first of the two, and takes subnormal numbers for zero.

use crate::matmul::Target;
use crate::packed::{COLUMNS, HalfType};
use crate::zeros::{written, zeros};
use crate::{Matrix, Packed};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// The most rows whose sums are in registers together.
const ROWS: usize = 6;
/// The most pairs of terms that are summed in registers at a time. A part of a panel with this many fits in the second-level cache.
const PAIRS: usize = 1024;

/// Whether this processor computes in bf16.
pub fn has_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx512bf16") && is_x86_feature_detected!("avx512f");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

/// Rows `[m, k]` rounded to bf16, in the order in which they are multiplied.
pub struct Bf16Rows {
    /// Groups of rows, `[groups, pairs, ROWS]`, with rows of zeros at the end.
    pairs: Vec<[u32; ROWS]>,
    shape: [usize; 2],
}

impl Bf16Rows {
    /// Rounds the rows of a matrix on the threads of the current pool. `None` if the rows are not contiguous, or if the processor
    /// does not compute in bf16.
    pub fn new(a: Matrix<'_, f32>) -> Option<Self> {
        let ([m, k], [step, 1], true) = (a.shape, a.steps, has_bf16()) else { return None };
        let length = k.div_ceil(2);
        let mut pairs = zeros::<[u32; ROWS]>(m.div_ceil(ROWS).checked_mul(length)?)?;
        pairs.par_chunks_exact_mut(length.max(1)).enumerate().for_each(|(group, pairs)| {
            let rows = group * ROWS..m.min((group + 1) * ROWS);
            let rows: Vec<&[f32]> = rows.map(|row| &a.values[row * step..][..k]).collect();
            Arch::new().dispatch(Interleave { rows: &rows, pairs });
        });
        Some(Bf16Rows { pairs, shape: [m, k] })
    }

    /// The products with one panel of `b`, [`COLUMNS`] of its columns, on this thread: `[m, COLUMNS]`, with zeros for columns that
    /// `b` does not have. The order of the sums depends on `k` alone.
    ///
    /// # Panics
    /// The shapes do not fit, `b` is not bf16, or there is no such panel.
    pub fn times_panel(&self, b: &Packed, panel: usize, out: &mut Vec<[f32; COLUMNS]>) {
        out.resize(self.shape[0], [0.0; COLUMNS]);
        // SAFETY: `out` has as many rows, of this length.
        unsafe { self.multiply(b, panel, out.as_mut_ptr().cast(), COLUMNS) }
    }

    /// [`Bf16Rows::times_panel`]; a row begins `step` elements after the one before.
    ///
    /// # Safety
    /// `out` has [`COLUMNS`] elements for each row, which nothing else uses.
    unsafe fn multiply(&self, b: &Packed, panel: usize, out: *mut f32, step: usize) {
        let [m, k] = self.shape;
        assert!(b.shape()[0] == k && b.held == HalfType::Bf16, "rows of {k} elements, and {b:?}");
        let (weights, _) = b.panel(panel).as_chunks::<COLUMNS>();
        let length = k.div_ceil(2);
        // At least one part, which writes zeros if there are no terms.
        for start in (0..length.max(1)).step_by(PAIRS) {
            let part = start..length.min(start + PAIRS);
            for group in 0..m.div_ceil(ROWS) {
                let x = &self.pairs[group * length..][part.clone()];
                let rows = ROWS.min(m - group * ROWS);
                // SAFETY: these rows are among those that the caller speaks for; `new` has asked for the processor's features.
                unsafe {
                    dot(x, &weights[part.clone()], rows, start > 0, out.add(group * ROWS * step), step)
                };
            }
        }
    }
}

/// `a · b`, `[m, k]` by `[k, n]`, in row-major order, on the threads of the current pool, with `a` rounded to bf16 and sums in
/// f32. A row of the result does not depend on how many others there are. `None` if the shapes do not fit, if the rows of `a`
/// are not contiguous, if `b` is not bf16, or if the processor does not compute in bf16.
pub fn product_bf16(a: Matrix<'_, f32>, b: &Packed) -> Option<Vec<f32>> {
    let ([m, k], [inner, n]) = (a.shape, b.shape());
    if k != inner || b.held != HalfType::Bf16 {
        return None;
    }
    let rows = Bf16Rows::new(a)?;
    if m == 0 || n == 0 {
        return Some(Vec::new());
    }
    let multiply = |first: *mut f32| {
        let target = Target { first, step: n };
        (0..b.panels()).into_par_iter().for_each_init(Vec::new, |panel, i| {
            let start = i * COLUMNS;
            if start + COLUMNS <= n {
                // SAFETY: there are these columns of `m` rows, and no other task has them.
                unsafe { rows.multiply(b, i, target.row(0).add(start), n) };
                return;
            }
            rows.times_panel(b, i, panel);
            for (row, sums) in panel.iter().enumerate() {
                // SAFETY: there are these columns of this row, and no other task has them.
                unsafe { target.row(row).add(start).copy_from_nonoverlapping(sums.as_ptr(), n - start) };
            }
        });
    };
    // SAFETY: the panels together have all columns of all rows.
    unsafe { written(m.checked_mul(n)?, multiply) }
}

/// Rounds some rows, at most [`ROWS`], and interleaves their pairs.
struct Interleave<'a> {
    rows: &'a [&'a [f32]],
    pairs: &'a mut [[u32; ROWS]],
}

impl WithSimd for Interleave<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        const TILE: usize = 32;
        let mut tile = [[0u32; TILE]; ROWS];
        for (i, pairs) in self.pairs.chunks_mut(TILE).enumerate() {
            for (tile, row) in tile.iter_mut().zip(self.rows) {
                let row = &row[2 * TILE * i..];
                let (whole, odd) = row[..row.len().min(2 * TILE)].as_chunks::<2>();
                for (tile, [low, high]) in tile.iter_mut().zip(whole) {
                    *tile = rounded(*low) | rounded(*high) << 16;
                }
                if let [low] = odd {
                    tile[whole.len()] = rounded(*low);
                }
            }
            for (j, pairs) in pairs.iter_mut().enumerate() {
                for (pair, tile) in pairs.iter_mut().zip(&tile) {
                    *pair = tile[j];
                }
            }
        }
    }
}

/// The bits of the nearest bf16, or of the even one of two.
#[inline(always)]
fn rounded(x: f32) -> u32 {
    let bits = x.to_bits();
    // It wraps only if `x` is NaN.
    let nearest = bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16;
    if x.is_nan() { (bits >> 16) | 0x40 } else { nearest }
}

/// Writes `x · weights` for the first `rows` rows of `x`, or adds it if `adds`, to rows that are `step` elements apart.
///
/// # Safety
/// The processor has AVX512-BF16, and `out` has [`COLUMNS`] elements for each row.
#[cfg(target_arch = "x86_64")]
unsafe fn dot(
    x: &[[u32; ROWS]],
    weights: &[[u32; COLUMNS]],
    rows: usize,
    adds: bool,
    out: *mut f32,
    step: usize,
) {
    // SAFETY: as the caller says.
    unsafe {
        match rows {
            1 => dot_rows::<1>(x, weights, adds, out, step),
            2 => dot_rows::<2>(x, weights, adds, out, step),
            3 => dot_rows::<3>(x, weights, adds, out, step),
            4 => dot_rows::<4>(x, weights, adds, out, step),
            5 => dot_rows::<5>(x, weights, adds, out, step),
            _ => dot_rows::<ROWS>(x, weights, adds, out, step),
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
unsafe fn dot(_: &[[u32; ROWS]], _: &[[u32; COLUMNS]], _: usize, _: bool, _: *mut f32, _: usize) {
    unreachable!("`has_bf16` is false")
}

/// [`dot`] for `R` rows, with all sums in registers.
///
/// # Safety
/// As for [`dot`].
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn dot_rows<const R: usize>(
    x: &[[u32; ROWS]],
    weights: &[[u32; COLUMNS]],
    adds: bool,
    out: *mut f32,
    step: usize,
) {
    use std::arch::x86_64::{
        __m512bh, __m512i, _mm512_dpbf16_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_set1_epi32,
        _mm512_setzero_ps, _mm512_setzero_si512, _mm512_storeu_ps,
    };
    const LANES: usize = 16;
    const VECTORS: usize = COLUMNS / LANES;
    let as_pairs = |x: __m512i| -> __m512bh {
        // SAFETY: both are 512 bits.
        unsafe { std::mem::transmute(x) }
    };
    let mut sums = [[_mm512_setzero_ps(); VECTORS]; R];
    if adds {
        for (i, sums) in sums.iter_mut().enumerate() {
            for (j, sum) in sums.iter_mut().enumerate() {
                // SAFETY: the caller speaks for COLUMNS elements of this row.
                *sum = unsafe { _mm512_loadu_ps(out.add(i * step + j * LANES)) };
            }
        }
    }
    for (x, weights) in x.iter().zip(weights) {
        let mut vectors = [_mm512_setzero_si512(); VECTORS];
        for (vector, weights) in vectors.iter_mut().zip(weights.as_chunks::<LANES>().0) {
            // SAFETY: LANES elements of 32 bits are 512 bits.
            *vector = unsafe { _mm512_loadu_si512(weights.as_ptr().cast()) };
        }
        for (sums, x) in sums.iter_mut().zip(x) {
            let x = as_pairs(_mm512_set1_epi32(x.cast_signed()));
            for (sum, vector) in sums.iter_mut().zip(vectors) {
                *sum = _mm512_dpbf16_ps(*sum, x, as_pairs(vector));
            }
        }
    }
    for (i, sums) in sums.iter().enumerate() {
        for (j, sum) in sums.iter().enumerate() {
            // SAFETY: as above.
            unsafe { _mm512_storeu_ps(out.add(i * step + j * LANES), *sum) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::{bf16, f16};

    fn values(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919 % 10007) as f32 / 5000.0 - 1.0).powi(3)).collect()
    }

    #[test]
    fn elements_are_rounded_as_the_reference_does() {
        let special = [0.0, -0.0, 1e-40, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, 257.0, 259.0];
        for x in values(1000).into_iter().chain(special) {
            assert_eq!(rounded(x), u32::from(bf16::from_f32(x).to_bits()), "{x}");
        }
        for bits in [0x7f80_0001, 0xffff_ffff] {
            assert!(bf16::from_bits(rounded(f32::from_bits(bits)) as u16).is_nan());
        }
    }

    #[test]
    fn products_are_those_of_rounded_elements() {
        for [k, n] in [[1, 1], [2, 64], [7, 65], [768, 200], [2048, 64], [2049, 70], [5001, 130]] {
            let (x, weight) = (values(20 * k), values(k * n));
            let narrow: Vec<_> = weight.iter().map(|w| bf16::from_f32(*w)).collect();
            let b = Packed::new(&[Matrix::new(&narrow, [k, n], [n, 1]).unwrap()]).unwrap();
            let rows = |m: usize| product_bf16(Matrix::new(&x, [m, k], [k, 1]).unwrap(), &b);
            let Some(many) = rows(20) else {
                assert!(!has_bf16(), "{k} terms, {n} columns");
                continue;
            };
            for m in [1, 2, 3, 5, 6, 7, 13] {
                assert!(rows(m).unwrap() == many[..m * n], "{m} rows, {k} terms, {n} columns");
            }
            for (i, got) in many.iter().enumerate() {
                let terms = (0..k).map(|j| {
                    let x = bf16::from_f32(x[i / n * k + j]).to_f64();
                    x * narrow[j * n + i % n].to_f64()
                });
                let (sum, size) = terms.fold((0.0, 0.0), |(sum, size), term| (sum + term, size + term.abs()));
                assert!((f64::from(*got) - sum).abs() <= 1e-5 * size, "{got} and {sum}, {k} terms");
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let x = [1.0; 6];
        let a = Matrix::new(&x, [2, 3], [3, 1]).unwrap();
        let wrong = [bf16::ONE; 4];
        let wrong = Packed::new(&[Matrix::new(&wrong, [2, 2], [2, 1]).unwrap()]).unwrap();
        assert!(product_bf16(a, &wrong).is_none());
        let narrow = [f16::ONE; 6];
        let narrow = Packed::new(&[Matrix::new(&narrow, [3, 2], [2, 1]).unwrap()]).unwrap();
        assert!(product_bf16(a, &narrow).is_none());
    }
}
