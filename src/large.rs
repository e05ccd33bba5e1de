//! Operations on large tensors: they work in parts, so that they can be canceled, and check the memory for the result
//! first. A tensor of at most [`PART`] elements is one part.

use crate::error::{Error, Result};
use crate::linalg::with_f32s;
use crate::memory;
use crate::progress::Progress;
use candle_core::{DType, Device, Shape, Tensor};
use rayon::prelude::*;

/// The number of elements in a part: some tens of milliseconds of work.
const PART: usize = if cfg!(test) { 1 << 12 } else { 1 << 24 };
/// The number of multiplications in a part of a matrix product.
const PART_OF_PRODUCT: usize = if cfg!(test) { 1 << 20 } else { 1 << 33 };
/// The limit on the elements of a tensor: 4 GiB of f32.
const LIMIT: usize = 1 << 30;

/// The memory of an operation on a part besides the result, in parts: copies of its operands and its own result.
const BESIDE: usize = 4;

/// Checks that a tensor of this shape is not too large and that there is memory for it.
///
/// # Errors
/// More than 2^30 elements, or too little memory.
pub fn check(what: &str, shape: &[usize]) -> Result<()> {
    check_with(what, shape, |_| 0)
}

/// Like [`check`], with memory for `more(n)` additional elements, where `n` is the number in the tensor.
fn check_with(what: &str, shape: &[usize], more: impl Fn(usize) -> usize) -> Result<()> {
    let n = shape.iter().try_fold(1usize, |n, size| n.checked_mul(*size)).filter(|n| *n <= LIMIT);
    match n {
        Some(n) => memory::check(what, ((n + more(n)) * size_of::<f32>()) as u64),
        None => Err(Error::invalid(what, format!("at most {LIMIT} elements"), format!("{shape:?}"))),
    }
}

/// Like [`check`], for a tensor that is computed part by part.
fn check_in_parts(shape: &[usize]) -> Result<()> {
    check_with("the result", shape, |n| BESIDE * n.min(PART))
}

/// Creates a tensor with `fill`, which receives the index of the first element and the slice to fill.
///
/// # Errors
/// See [`check`]; [`Error::Interrupted`].
pub fn filled(
    shape: &[usize],
    progress: &Progress,
    fill: impl Fn(usize, &mut [f32]) + Sync,
) -> Result<Tensor> {
    const STEP: usize = 1 << 16;
    check("a tensor", shape)?;
    let mut elements = vec![0f32; shape.iter().product()];
    elements.par_chunks_mut(STEP).enumerate().try_for_each(|(i, part)| {
        progress.check()?;
        fill(i * STEP, part);
        Ok::<_, Error>(())
    })?;
    Ok(Tensor::from_vec(elements, shape, &Device::Cpu)?)
}

/// Applies the elementwise function `f` to a tensor of f32.
///
/// # Errors
/// See [`check`]; any error of `f`; [`Error::Interrupted`].
pub fn each(
    x: &Tensor,
    progress: &Progress,
    f: impl Fn(&Tensor) -> candle_core::Result<Tensor>,
) -> Result<Tensor> {
    check_in_parts(x.dims())?;
    if x.elem_count() <= PART {
        return Ok(f(x)?);
    }
    let mut elements = Vec::with_capacity(x.elem_count());
    visit(x, &mut |part| {
        progress.check()?;
        with_f32s(&f(part)?.to_dtype(DType::F32)?, |part| elements.extend_from_slice(part))
    })?;
    Ok(Tensor::from_vec(elements, x.shape(), &Device::Cpu)?)
}

/// Applies the elementwise function `f` to two tensors of f32, with numpy's broadcasting.
///
/// # Errors
/// See [`each`]; shapes that do not broadcast.
pub fn each_of_two(
    x: &Tensor,
    y: &Tensor,
    progress: &Progress,
    f: impl Fn(&Tensor, &Tensor) -> candle_core::Result<Tensor>,
) -> Result<Tensor> {
    if y.elem_count() == 1 && y.rank() <= x.rank() {
        return each(x, progress, |x| f(x, y));
    }
    if x.elem_count() == 1 && x.rank() <= y.rank() {
        return each(y, progress, |y| f(x, y));
    }
    let shape = x.shape().broadcast_shape_binary_op(y.shape(), "arithmetic")?;
    check_in_parts(shape.dims())?;
    if shape.elem_count() <= PART {
        return Ok(f(x, y)?);
    }
    let (x, y) = (x.broadcast_as(&shape)?, y.broadcast_as(&shape)?);
    let mut elements = Vec::with_capacity(shape.elem_count());
    add_of_two(&x, &y, progress, &f, &mut elements)?;
    Ok(Tensor::from_vec(elements, shape, &Device::Cpu)?)
}

/// Applies `f`, such as a softmax or a sum, along an axis of a tensor of f32, in parts along the longest other axis.
///
/// # Errors
/// See [`each`].
pub fn along(
    x: &Tensor,
    axis: usize,
    progress: &Progress,
    f: impl Fn(&Tensor, usize) -> candle_core::Result<Tensor>,
) -> Result<Tensor> {
    const WHAT: &str = "the result";
    let bytes = |n: usize| (n * size_of::<f32>()) as u64;
    let other = (0..x.rank()).filter(|other| *other != axis).max_by_key(|other| x.dims()[*other]);
    let Some(other) = other.filter(|_| is_large(x)) else {
        memory::check(WHAT, bytes(BESIDE * x.elem_count()))?;
        return Ok(f(x, axis)?);
    };
    memory::check(WHAT, bytes(BESIDE * PART))?;
    let len = x.dims()[other];
    let step = (PART / (x.elem_count() / len)).max(1);
    let mut parts = Vec::new();
    for start in (0..len).step_by(step) {
        progress.check()?;
        let part = f(&x.narrow(other, start, step.min(len - start))?.contiguous()?, axis)?;
        if parts.is_empty() {
            // All parts, and the concatenated copy.
            memory::check(WHAT, bytes(2 * part.elem_count() * len.div_ceil(step)))?;
        }
        parts.push(part);
    }
    // A reduction removes its axis.
    let is_same = parts.first().is_some_and(|part| part.rank() == x.rank());
    let at = if is_same || other < axis { other } else { other - 1 };
    Ok(Tensor::cat(&parts, at)?)
}

/// Whether a tensor has more than one part.
pub fn is_large(x: &Tensor) -> bool {
    x.elem_count() > PART
}

/// Reduces all elements of a tensor to one number, in f64: `f` reduces each part, as a vector, `join` their results.
///
/// # Errors
/// Any error of `f` and `join`; [`Error::Interrupted`].
pub fn total(
    x: &Tensor,
    progress: &Progress,
    f: &dyn Fn(&Tensor) -> candle_core::Result<Tensor>,
    join: &dyn Fn(&Tensor) -> candle_core::Result<Tensor>,
) -> Result<f64> {
    // As f64, and with the intermediate results of `f`, an element takes several times the memory.
    const SMALLER: usize = PART / 4;
    let flat = |x: &Tensor| x.flatten_all()?.to_dtype(DType::F64);
    if x.elem_count() <= SMALLER {
        progress.check()?;
        memory::check("a reduction", (4 * x.elem_count() * size_of::<f64>()) as u64)?;
        return Ok(f(&flat(x)?)?.to_scalar::<f64>()?);
    }
    let totals: Vec<f64> =
        parts(x, SMALLER)?.iter().map(|part| total(part, progress, f, join)).collect::<Result<_>>()?;
    Ok(join(&Tensor::new(totals, &Device::Cpu)?)?.to_scalar::<f64>()?)
}

/// Cuts a tensor along axis 0 into two or more parts of at most `most` elements or one row; squeezes a single row.
fn parts(x: &Tensor, most: usize) -> Result<Vec<Tensor>> {
    let rows = x.dims()[0];
    if rows == 1 {
        return Ok(vec![x.squeeze(0)?]);
    }
    let step = (most / (x.elem_count() / rows).max(1)).clamp(1, rows.div_ceil(2));
    let part = |start: usize| Ok(x.narrow(0, start, step.min(rows - start))?);
    (0..rows).step_by(step).map(part).collect()
}

/// Calls `f` with each part of a tensor, contiguous and in order.
///
/// # Errors
/// Any error of `f`.
pub fn visit(x: &Tensor, f: &mut impl FnMut(&Tensor) -> Result<()>) -> Result<()> {
    match is_large(x) {
        true => parts(x, PART)?.iter().try_for_each(|part| visit(part, f)),
        false => f(&x.contiguous()?),
    }
}

/// Appends the elements of `f` of two tensors of equal shape, part by part, to `elements`.
fn add_of_two(
    x: &Tensor,
    y: &Tensor,
    progress: &Progress,
    f: &impl Fn(&Tensor, &Tensor) -> candle_core::Result<Tensor>,
    elements: &mut Vec<f32>,
) -> Result<()> {
    if x.elem_count() > PART {
        let mut both = parts(x, PART)?.into_iter().zip(parts(y, PART)?);
        return both.try_for_each(|(x, y)| add_of_two(&x, &y, progress, f, elements));
    }
    progress.check()?;
    let part = f(&x.contiguous()?, &y.contiguous()?)?.to_dtype(DType::F32)?;
    with_f32s(&part, |part| elements.extend_from_slice(part))
}

/// The product of two matrices, a matrix and a vector, two vectors, or stacks of matrices.
///
/// # Errors
/// Shapes that do not fit; see [`check`]; [`Error::Interrupted`].
pub fn matmul(a: &Tensor, b: &Tensor, progress: &Progress) -> Result<Tensor> {
    let (a, b) = (&a.to_dtype(DType::F32)?, &b.to_dtype(DType::F32)?);
    let wrong = || {
        let message = format!("matmul: the shapes {:?} and {:?} do not fit", a.dims(), b.dims());
        Error::mismatch(message, "the last axis of the first must equal the second-last of the second")
    };
    match (a.dims(), b.dims()) {
        ([], _) | (_, []) => Err(wrong()),
        (_, [_]) => Ok(matmul(a, &b.unsqueeze(1)?, progress)?.squeeze(candle_core::D::Minus1)?),
        ([_], _) => Ok(matmul(&a.unsqueeze(0)?, b, progress)?.squeeze(candle_core::D::Minus2)?),
        (&[ref stack_a @ .., rows, inner], &[ref stack_b @ .., other, columns]) => {
            let stack = Shape::from(stack_a).broadcast_shape_binary_op(&Shape::from(stack_b), "matmul");
            let stack = stack.ok().filter(|_| inner == other).ok_or_else(wrong)?.into_dims();
            let shape = [&stack[..], &[rows, columns]].concat();
            check("the result", &shape)?;
            let cost = shape.iter().product::<usize>().saturating_mul(inner);
            let len = shape[0];
            if cost <= PART_OF_PRODUCT || shape.len() == 2 && len < 2 {
                progress.check()?;
                let copies = [a, b].into_iter().filter(|x| !x.is_contiguous()).map(Tensor::elem_count);
                memory::check("the operands", (copies.sum::<usize>() * size_of::<f32>()) as u64)?;
                return a.contiguous()?.broadcast_matmul(&b.contiguous()?).map_err(|_| wrong());
            }
            let step = (PART_OF_PRODUCT / (cost / len)).clamp(1, len.div_ceil(2));
            let starts = (0..len).step_by(step);
            if stack.is_empty() {
                let rows = |start: usize| matmul(&a.narrow(0, start, step.min(len - start))?, b, progress);
                return Ok(Tensor::cat(&starts.map(rows).collect::<Result<Vec<_>>>()?, 0)?);
            }
            // Each matrix of a stack is multiplied with its own partner.
            let a = a.broadcast_as([&stack[..], &[rows, inner]].concat())?;
            let b = b.broadcast_as([&stack[..], &[inner, columns]].concat())?;
            let part = |start: usize| match step {
                1 => Ok(matmul(&a.get(start)?, &b.get(start)?, progress)?.unsqueeze(0)?),
                step => {
                    let n = step.min(len - start);
                    matmul(&a.narrow(0, start, n)?, &b.narrow(0, start, n)?, progress)
                }
            };
            Ok(Tensor::cat(&starts.map(part).collect::<Result<Vec<_>>>()?, 0)?)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensors::randn;

    /// Tensors of more than one part: few long rows, many short rows, and transposed.
    fn large() -> Vec<Tensor> {
        let progress = Progress::default();
        let x = randn(&[3, PART / 2 + 7], 1, &progress).unwrap();
        let tall = x.reshape(((PART / 2 + 7) / 5, 15)).unwrap();
        vec![x.clone(), tall.t().unwrap(), tall, x.reshape((1, 3, PART / 2 + 7)).unwrap()]
    }

    fn same(a: &Tensor, b: &Tensor) {
        assert_eq!(a.dims(), b.dims());
        let away = (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap();
        assert!(away.to_scalar::<f32>().unwrap() <= 1e-5);
    }

    #[test]
    fn operations_in_parts_equal_operations_at_once() {
        let progress = Progress::default();
        for x in large() {
            assert!(x.elem_count() > PART);
            same(&each(&x, &progress, Tensor::exp).unwrap(), &x.exp().unwrap());
            same(&each_of_two(&x, &x, &progress, Tensor::mul).unwrap(), &x.sqr().unwrap());
            let two = Tensor::new(2f32, &Device::Cpu).unwrap();
            same(&each_of_two(&x, &two, &progress, Tensor::broadcast_mul).unwrap(), &(&x * 2.0).unwrap());
            for axis in 0..x.rank() {
                same(&along(&x, axis, &progress, |x, axis| x.max(axis)).unwrap(), &x.max(axis).unwrap());
                let softmax = crate::linalg::softmax;
                same(&along(&x, axis, &progress, softmax).unwrap(), &softmax(&x, axis).unwrap());
            }
            let max = total(&x, &progress, &|x| x.max(0), &|x| x.max(0)).unwrap();
            assert_eq!(max as f32, x.flatten_all().unwrap().max(0).unwrap().to_scalar::<f32>().unwrap());
        }
    }

    #[test]
    fn products_in_parts_equal_products_at_once() {
        let progress = Progress::default();
        let a = randn(&[410, 150], 1, &progress).unwrap();
        let b = randn(&[150, 150], 2, &progress).unwrap();
        const { assert!(410 * 150 * 150 > PART_OF_PRODUCT) };
        let expected = a.matmul(&b).unwrap();
        let relative = |x: &Tensor| (x / 40.0).unwrap();
        same(&relative(&matmul(&a, &b, &progress).unwrap()), &relative(&expected));
        let stack = |x: &Tensor| Tensor::stack(&[x, &(x * 2.0).unwrap()], 0).unwrap();
        let product = matmul(&stack(&a), &stack(&b), &progress).unwrap();
        same(&relative(&product.get(1).unwrap()), &(relative(&expected) * 4.0).unwrap());
        // Stacks of other ranks, with one or both broadcast.
        let one = b.narrow(0, 0, 150).unwrap();
        for (x, y) in [
            (a.clone(), stack(&one)),
            (stack(&a), one.clone()),
            (a.unsqueeze(0).unwrap(), stack(&one)),
            (stack(&a).unsqueeze(1).unwrap(), stack(&one)),
            (stack(&a), stack(&stack(&one))),
        ] {
            let got = matmul(&x, &y, &progress).unwrap();
            same(&relative(&got), &relative(&x.contiguous().unwrap().broadcast_matmul(&y).unwrap()));
        }
        let (tall, wide) =
            (randn(&[30_000, 1], 1, &progress).unwrap(), randn(&[1000, 1, 1000], 1, &progress));
        let error = matmul(&tall, &wide.unwrap(), &progress).unwrap_err().to_string();
        assert!(error.contains("the result: expected at most"), "{error}");
        let error = matmul(&a, &a, &progress).unwrap_err().to_string();
        assert!(error.contains("the shapes [410, 150] and [410, 150] do not fit"), "{error}");
    }

    #[test]
    fn canceled_operations_stop() {
        let progress = Progress::default();
        let x = large().remove(0);
        progress.cancel();
        assert!(each(&x, &progress, Tensor::exp).unwrap_err().is_interrupted());
        assert!(total(&x, &progress, &|x| x.sum(0), &|x| x.sum(0)).unwrap_err().is_interrupted());
        assert!(along(&x, 0, &progress, |x, axis| x.sum(axis)).unwrap_err().is_interrupted());
        assert!(matmul(&x.t().unwrap(), &x, &progress).is_err());
        assert!(filled(&[5], &progress, |_, _| ()).unwrap_err().is_interrupted());
    }
}
