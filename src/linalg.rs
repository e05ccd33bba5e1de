//! Small linear algebra: softmax, norms, the largest values, dot products and cosines.

use crate::error::{Error, Result};
use crate::memory;
use candle_core::{CpuStorage, DType, InplaceOp1, Layout, Storage, Tensor, WithDType};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// Softmax along an axis.
///
/// # Errors
/// `axis` is out of range.
pub fn softmax(x: &Tensor, axis: usize) -> candle_core::Result<Tensor> {
    let exp = x.broadcast_sub(&x.max_keepdim(axis)?)?.exp()?;
    exp.broadcast_div(&exp.sum_keepdim(axis)?)
}

/// The logarithm of the softmax along an axis.
///
/// # Errors
/// `axis` is out of range.
pub fn log_softmax(x: &Tensor, axis: usize) -> candle_core::Result<Tensor> {
    let shifted = x.broadcast_sub(&x.max_keepdim(axis)?)?;
    let log_sum = shifted.exp()?.sum_keepdim(axis)?.log()?;
    shifted.broadcast_sub(&log_sum)
}

/// The Euclidean norm along an axis: the square root of the sum of squares.
///
/// # Errors
/// `axis` is out of range.
pub(crate) fn norm(x: &Tensor, axis: usize) -> candle_core::Result<Tensor> {
    x.sqr()?.sum(axis)?.sqrt()
}

/// The standard deviation along an axis, divided by n as in numpy.
///
/// # Errors
/// `axis` is out of range.
pub(crate) fn std(x: &Tensor, axis: usize) -> candle_core::Result<Tensor> {
    x.broadcast_sub(&x.mean_keepdim(axis)?)?.sqr()?.mean(axis)?.sqrt()
}

/// The `k` largest values with their indices, largest first. Ties go to the lower index; NaN comes last.
pub fn top_k(values: &[f32], k: usize) -> Vec<(usize, f32)> {
    const FEW: usize = 64;
    if k <= FEW {
        let best = Arch::new().dispatch(FewLargest { values, k });
        if best.len() == k {
            return best;
        }
    }
    let order = |a: &(usize, f32), b: &(usize, f32)| {
        a.1.is_nan().cmp(&b.1.is_nan()).then(b.1.total_cmp(&a.1)).then(a.0.cmp(&b.0))
    };
    // Adding 0.0 turns -0.0 into 0.0: the total order would distinguish them.
    let mut indexed: Vec<_> = values.iter().map(|x| x + 0.0).enumerate().collect();
    if k < indexed.len() {
        if k > 0 {
            indexed.select_nth_unstable_by(k - 1, order);
        }
        indexed.truncate(k);
    }
    indexed.sort_unstable_by(order);
    indexed
}

/// The `k` largest values, in one pass that skips most values at the speed of memory. Returns fewer than `k` if fewer are above
/// -inf.
struct FewLargest<'a> {
    values: &'a [f32],
    k: usize,
}

impl WithSimd for FewLargest<'_> {
    type Output = Vec<(usize, f32)>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Self::Output {
        const STEP: usize = 64;
        let FewLargest { values, k } = self;
        let mut best: Vec<(usize, f32)> = Vec::with_capacity(k + 1);
        // The smallest of the `k` best so far; -inf while there are fewer.
        let mut least = f32::NEG_INFINITY;
        for (i, part) in values.chunks(STEP).enumerate() {
            let mut any = false;
            for x in part {
                any |= *x > least;
            }
            if any {
                for (j, x) in part.iter().enumerate() {
                    if *x > least {
                        insert(&mut best, k, (i * STEP + j, x + 0.0));
                        least = best.get(k.wrapping_sub(1)).map_or(least, |(_, x)| *x);
                    }
                }
            }
        }
        best
    }
}

/// Inserts a value among the `k` largest so far, after equal ones.
fn insert(best: &mut Vec<(usize, f32)>, k: usize, new: (usize, f32)) {
    if best.len() < k || best.last().is_some_and(|(_, last)| new.1 > *last) {
        let at = best.partition_point(|(_, b)| *b >= new.1);
        best.insert(at, new);
        best.truncate(k);
    }
}

/// The cosine of the angle between two tensors of equal shape, over the last axis: `[..., d]` and `[..., d]` → `[...]`.
/// The second may also be a vector `[d]`, which is compared with each row of the first.
///
/// # Errors
/// Shapes that do not fit; not enough memory for copies of both.
pub fn cosine_similarity(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if a.dims().last() != b.dims().last() || a.rank() == 0 {
        return Err(Error::mismatch(
            format!(
                "cosine_similarity: expected two tensors with the same last axis, got {:?} and {:?}",
                a.dims(),
                b.dims()
            ),
            "compare vectors of the same space",
        ));
    }
    memory::check("the cosines", 2 * ((a.elem_count() + b.elem_count()) * size_of::<f32>()) as u64)?;
    // As in torch, 0 rather than NaN for a vector of zeros.
    let norm =
        |x: &Tensor| x.sqr()?.sum_keepdim(candle_core::D::Minus1)?.sqrt()?.clamp(1e-8f32, f32::INFINITY);
    let (a, b) = (a.to_dtype(candle_core::DType::F32)?, b.to_dtype(candle_core::DType::F32)?);
    let (a, b) = (a.broadcast_div(&norm(&a)?)?, b.broadcast_div(&norm(&b)?)?);
    Ok(a.broadcast_mul(&b)?.sum(candle_core::D::Minus1)?)
}

/// The elements of a tensor as f32, in one row.
///
/// # Errors
/// The errors of candle.
pub(crate) fn f32s(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?)
}

/// Calls `f` with the elements of a contiguous f32 tensor on the CPU.
///
/// # Errors
/// The tensor is not contiguous, not f32, or not on the CPU.
pub(crate) fn with_f32s<T>(tensor: &Tensor, f: impl FnOnce(&[f32]) -> T) -> Result<T> {
    Ok(with_all_f32s([tensor], |[values]| f(values))?)
}

/// Like [`with_f32s`], for several tensors.
pub(crate) fn with_all_f32s<const N: usize, T>(
    tensors: [&Tensor; N],
    f: impl FnOnce([&[f32]; N]) -> T,
) -> candle_core::Result<T> {
    if !tensors.iter().all(|tensor| tensor.is_contiguous()) {
        return Err(candle_core::Error::RequiresContiguous { op: "with_f32s" }.bt());
    }
    with_memory(tensors, |mut all: [&[f32]; N]| {
        all.iter_mut().zip(tensors).for_each(|(values, tensor)| *values = &values[..tensor.elem_count()]);
        f(all)
    })
}

/// Calls `f` with the memory of tensors of type `T` on the CPU, of any strides, each from its first element on.
///
/// # Errors
/// A tensor is not of this type, or not on the CPU.
pub(crate) fn with_memory<T: WithDType, const N: usize, R>(
    tensors: [&Tensor; N],
    f: impl FnOnce([&[T]; N]) -> R,
) -> candle_core::Result<R> {
    let storages = tensors.map(Tensor::storage_and_layout);
    let mut all = [&[][..]; N];
    for (values, (storage, layout)) in all.iter_mut().zip(&storages) {
        let Storage::Cpu(storage) = &**storage else { candle_core::bail!("expected a tensor on the CPU") };
        *values = &storage.as_slice::<T>()?[layout.start_offset()..];
    }
    Ok(f(all))
}

/// Calls `f` with the elements of a contiguous f32 tensor on the CPU, to be changed, and those of `others`. The memory of
/// the tensor must not be shared, neither with them.
///
/// # Errors
/// A tensor is not contiguous, not f32, or not on the CPU.
pub(crate) fn change_f32s<const N: usize>(
    tensor: &Tensor,
    others: [&Tensor; N],
    f: impl Fn(&mut [f32], [&[f32]; N]),
) -> candle_core::Result<()> {
    // The lock of a storage that is read cannot be taken to write.
    let storage = |tensor: &Tensor| std::ptr::from_ref(&*tensor.storage_and_layout().0);
    if others.iter().any(|other| storage(other) == storage(tensor)) {
        candle_core::bail!("a tensor that is changed in place shares its memory with an operand");
    }
    with_all_f32s(others, |others| tensor.inplace_op1(&Change(|values: &mut [f32]| f(values, others))))?
}

/// Candle's only way to change a tensor in place: an operator.
struct Change<F>(F);

impl<F: Fn(&mut [f32])> InplaceOp1 for Change<F> {
    fn name(&self) -> &'static str {
        "change"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        match (layout.contiguous_offsets(), storage) {
            (Some((start, end)), CpuStorage::F32(all)) => (self.0)(&mut all[start..end]),
            (None, _) => return Err(candle_core::Error::RequiresContiguous { op: self.name() }.bt()),
            _ => candle_core::bail!("expected f32 values"),
        }
        Ok(())
    }
}

/// Rows per parallel task: enough to be worth a task, few enough to share the work.
pub(crate) fn rows_per_task(d: usize) -> usize {
    16_384_usize.div_ceil(d.max(1))
}

/// Applies `f` to each row of a matrix `[n, d]` in parallel, in f32, without a copy of the matrix. Results are in row order.
///
/// # Errors
/// The tensor is not a contiguous matrix of numbers on the CPU.
pub(crate) fn map_rows<T: Send>(matrix: &Tensor, f: impl Fn(&[f32]) -> T + Send + Sync) -> Result<Vec<T>> {
    let (_, d) = matrix.dims2()?;
    let rows =
        map_bands(matrix, rows_per_task(d), |band| band.chunks_exact(d.max(1)).map(&f).collect::<Vec<_>>())?;
    Ok(rows.into_iter().flatten().collect())
}

/// Applies `f` to each band of `rows` rows of a matrix `[n, d]` in parallel, in f32, without a copy of the matrix. Results are
/// in the order of bands.
///
/// # Errors
/// The tensor is not a contiguous matrix of numbers on the CPU.
pub(crate) fn map_bands<T: Send>(
    matrix: &Tensor,
    rows: usize,
    f: impl Fn(&[f32]) -> T + Send + Sync,
) -> Result<Vec<T>> {
    let n = matrix.dim(0)?;
    let starts: Vec<_> = (0..n).step_by(rows).collect();
    let band =
        |start: usize| with_f32s(&matrix.narrow(0, start, rows.min(n - start))?.to_dtype(DType::F32)?, &f);
    starts.into_par_iter().map(band).collect()
}

/// The dot product of a row with a vector, in f64.
pub(crate) fn dot(row: &[f32], vector: &[f64]) -> f64 {
    // Several sums at once, which the compiler keeps in one vector register.
    const LANES: usize = 8;
    let mut sums = [0f64; LANES];
    let (rows, vectors) = (row.chunks_exact(LANES), vector.chunks_exact(LANES));
    let rest = rows.remainder().iter().zip(vectors.remainder()).map(|(a, b)| f64::from(*a) * b);
    let rest: f64 = rest.sum();
    for (a, b) in rows.zip(vectors) {
        for (sum, (a, b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += f64::from(*a) * b;
        }
    }
    sums.iter().sum::<f64>() + rest
}

/// The Euclidean norm of a row, in f64.
pub(crate) fn row_norm(row: &[f32]) -> f64 {
    const LANES: usize = 8;
    let mut sums = [0f64; LANES];
    for part in row.chunks(LANES) {
        for (sum, x) in sums.iter_mut().zip(part) {
            *sum += f64::from(*x) * f64::from(*x);
        }
    }
    sums.iter().sum::<f64>().sqrt()
}

/// The Euclidean norm of a vector.
pub(crate) fn vector_norm(vector: &[f64]) -> f64 {
    vector.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// The elements of a row in f64.
pub(crate) fn to_f64(row: &[f32]) -> Vec<f64> {
    row.iter().copied().map(f64::from).collect()
}

/// A row at unit length, in f64. `None` if it is zero.
pub(crate) fn unit(row: &[f32]) -> Option<Vec<f64>> {
    let mut vector = to_f64(row);
    let norm = vector_norm(&vector);
    vector.iter_mut().for_each(|x| *x /= norm);
    (norm > 0.0).then_some(vector)
}

/// The cosine of an angle from a dot product and the two norms: 0 for a vector of zeros, as in torch.
pub(crate) fn cosine(dot: f64, norm_a: f64, norm_b: f64) -> f64 {
    let norms = norm_a * norm_b;
    if norms == 0.0 { 0.0 } else { (dot / norms).clamp(-1.0, 1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn top_k_breaks_ties_by_index_and_puts_nan_last() {
        let values = [1.0, 3.0, f32::NAN, 3.0, -0.0, 0.0, 2.0];
        let indices: Vec<_> = top_k(&values, 10).into_iter().map(|(i, _)| i).collect();
        assert_eq!(indices, [1, 3, 6, 0, 4, 5, 2]);
        assert_eq!(top_k(&values, 2), [(1, 3.0), (3, 3.0)]);
        assert_eq!(top_k(&values, 0), []);
        assert_eq!(top_k(&[], 3), []);
    }

    #[test]
    fn top_k_of_many_agrees_with_sorting() {
        let mut state = 5u32;
        let mut values: Vec<f32> = (0..1000)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as f32
            })
            .collect();
        values[17] = f32::NAN;
        values[18] = f32::INFINITY;
        values[900] = f32::NEG_INFINITY;
        let sorted = top_k(&values, 1000);
        for k in [0, 1, 5, 64] {
            assert_eq!(top_k(&values, k), sorted[..k]);
        }
        assert_eq!(top_k(&[f32::NEG_INFINITY, 1.0], 2), [(1, 1.0), (0, f32::NEG_INFINITY)]);
    }

    #[test]
    fn softmax_sums_to_one_along_its_axis() {
        let x = Tensor::new(&[[1f32, 2.0, 1000.0], [3.0, 3.0, f32::NEG_INFINITY]], &Device::Cpu).unwrap();
        let p = softmax(&x, 1).unwrap().to_vec2::<f32>().unwrap();
        assert_eq!(p, [[0.0, 0.0, 1.0], [0.5, 0.5, 0.0]]);
        let l = log_softmax(&x.t().unwrap(), 0).unwrap().to_vec2::<f32>().unwrap();
        assert!((l[0][1] - 0.5f32.ln()).abs() < 1e-6 && l[2][0] == 0.0);
    }

    #[test]
    fn cosine_of_rows_with_a_vector() {
        let rows = Tensor::new(&[[3f32, 4.0], [-4.0, 3.0]], &Device::Cpu).unwrap();
        let vector = Tensor::new(&[6f32, 8.0], &Device::Cpu).unwrap();
        assert_eq!(cosine_similarity(&rows, &vector).unwrap().to_vec1::<f32>().unwrap(), [1.0, 0.0]);
    }
}
