//! Products whose rows do not depend on each other, to the last bit, with matrices of more than 128 columns.
//!
//! gemm multiplies a single row in another way than several, and adds up its terms in another order. So a single row is
//! multiplied by code of our own, which adds up the terms of each element as gemm does for several rows, or with a copy of
//! itself as company. The same code serves a few rows, for which reading the matrix is most of the work.

use crate::few_rows::few_rows;
use crate::matmul::{NARROW, matmul_by_tiles};
use crate::packed_rows::{Columns, packed_rows};
use crate::{Element, Matrix, Packed, matmul};
use std::sync::LazyLock;

/// The most rows that [`few_rows`] multiplies faster.
const FEW: usize = 16;
/// The most rows that [`packed_rows`] multiplies faster.
const FEW_PACKED: usize = 64;

/// `a · b`, `[m, k]` by `[k, n]`, in row-major order, on the threads of the current pool. `a` must be contiguous. A row of the
/// result does not depend on how many others there are. `None` if the shapes do not fit, or if neither the rows nor the columns
/// of a `b` in bf16 or f16 are contiguous.
pub fn product<T: Element>(a: Matrix<'_, f32>, b: Matrix<'_, T>) -> Option<Vec<f32>> {
    let ([m, k], [inner, n]) = (a.shape, b.shape);
    if a.steps != [k, 1] || k != inner {
        return None;
    }
    match (*LONGEST_SUM, T::HALF, b.as_f32s()) {
        (Some(longest), _, Some(b)) if is_for_few_rows(m, FEW, b.shape) && b.has_lines() => {
            Some(few_rows(a, b, longest))
        }
        (Some(longest), Some(held), _) if is_for_few_rows(m, FEW, b.shape) && b.steps[0] == 1 => {
            Some(packed_rows(a, &Columns { matrix: b, held }, n, longest))
        }
        _ => in_company(a, n, |a| matmul(a, b)),
    }
}

/// [`product`] with packed weights.
pub fn product_packed(a: Matrix<'_, f32>, b: &Packed) -> Option<Vec<f32>> {
    let ([m, k], [inner, n]) = (a.shape, b.shape());
    if a.steps != [k, 1] || k != inner {
        return None;
    }
    match *LONGEST_SUM {
        Some(longest) if is_for_few_rows(m, FEW_PACKED, b.shape()) => Some(packed_rows(a, b, n, longest)),
        _ => in_company(a, n, |a| matmul_by_tiles(a, n, |start, width, wide| b.widened(start, width, wide))),
    }
}

/// Whether [`few_rows`] and [`packed_rows`] multiply `m` rows, of at most `most`, by a `[k, n]` matrix with the same
/// bits as gemm.
fn is_for_few_rows(m: usize, most: usize, [k, n]: [usize; 2]) -> bool {
    n > NARROW && k > 2 && (1..=most).contains(&m)
}

/// A product by gemm with `n` columns; a single row has a copy of itself as company.
fn in_company(
    a: Matrix<'_, f32>,
    n: usize,
    multiply: impl Fn(Matrix<'_, f32>) -> Option<Vec<f32>>,
) -> Option<Vec<f32>> {
    let [m, k] = a.shape;
    if m != 1 {
        return multiply(a);
    }
    let twice = [a.values, a.values].map(|row| &row[..k]).concat();
    let mut out = multiply(Matrix::new(&twice, [2, k], a.steps)?)?;
    out.truncate(n);
    Some(out)
}

/// The most terms that gemm adds up in one go for several rows, if [`few_rows`] with it gives the same bits; this depends on the
/// caches of the processor.
///
/// It is found on a thread and in a pool of its own: those that wait for it may be threads of the caller's pool.
static LONGEST_SUM: LazyLock<Option<usize>> = LazyLock::new(|| {
    let alone = || {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build();
        pool.ok().and_then(|_pool| longest_sum())
    };
    std::thread::Builder::new().spawn(alone).ok()?.join().ok()?
});

fn longest_sum() -> Option<usize> {
    let values =
        |n: usize| (0..n).map(|i| ((i * 7919 % 1009) as f32 / 1009.0 - 0.5).exp()).collect::<Vec<_>>();
    let agrees = |longest: &usize| {
        let (terms, n) = (5 * longest / 2, NARROW + 72);
        let (x, weight) = (values(2 * terms), values(terms * n));
        [[n, 1], [1, terms]].into_iter().all(|steps| {
            let both = Matrix::new(&x, [2, terms], [terms, 1]).zip(Matrix::new(&weight, [terms, n], steps));
            both.is_some_and(|(a, b)| matmul(a, b) == Some(few_rows(a, b, *longest)))
        })
    };
    [512, 1024, 2048, 4096].into_iter().find(agrees)
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::{bf16, f16};

    fn values(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919 % 10007) as f32 / 5000.0 - 1.0).powi(3)).collect()
    }

    fn check<T: Element>(weight: &[T], [k, n]: [usize; 2]) {
        let x = values(70 * k);
        for steps in [[n + 3, 1], [1, k + 3]] {
            let b = Matrix::new(weight, [k, n], steps).unwrap();
            let rows = |m: usize| product(Matrix::new(&x, [m, k], [k, 1]).unwrap(), b).unwrap();
            let many = rows(70);
            for m in [1, 2, 3, 6, 16, 17] {
                assert!(rows(m) == many[..m * n], "{m} rows, {k} terms, {n} columns, steps {steps:?}");
            }
            let Some(packed) = Packed::new(&[b]) else { continue };
            for m in (1..=20).chain([64, 65]) {
                let got = product_packed(Matrix::new(&x, [m, k], [k, 1]).unwrap(), &packed).unwrap();
                assert!(got == many[..m * n], "packed, {m} rows, {k} terms, {n} columns, steps {steps:?}");
            }
        }
    }

    #[test]
    fn a_row_does_not_depend_on_how_many_there_are() {
        assert!(LONGEST_SUM.is_some(), "few rows go the slow way on this processor");
        for [k, n] in [
            [192, 768],
            [600, 130],
            [770, 2304],
            [1500, 129],
            [3072, 768],
            [4097, 200],
            [1, 300],
            [2, 300],
            [3, 9000],
        ] {
            let wide = values((k + 3) * (n + 3));
            check(&wide, [k, n]);
            check(&wide.iter().map(|x| bf16::from_f32(*x)).collect::<Vec<_>>(), [k, n]);
            check(&wide.iter().map(|x| f16::from_f32(*x)).collect::<Vec<_>>(), [k, n]);
        }
    }

    #[test]
    fn a_single_row_of_few_columns_has_company() {
        for [k, n] in [[600, 3], [10, 128], [1, 1], [2000, 64]] {
            let (x, weight) = (values(2 * k), values(k * n));
            let b = Matrix::new(&weight, [k, n], [n, 1]).unwrap();
            let rows = |m: usize| product(Matrix::new(&x, [m, k], [k, 1]).unwrap(), b).unwrap();
            assert!(rows(1) == rows(2)[..n], "{k} terms, {n} columns");
        }
    }
}
