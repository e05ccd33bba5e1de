//! Operations on tensors that may be large: done in parts, so that they can be canceled, and only where there is memory
//! for the result. A tensor of at most [`PART`] numbers is one part.

use crate::error::{Error, Result};
use crate::linalg::with_floats;
use crate::memory;
use crate::progress::Progress;
use candle_core::{DType, Device, Shape, Tensor};
use rayon::prelude::*;

/// The numbers of a part: some tens of milliseconds of work.
const PART: usize = if cfg!(test) { 1 << 12 } else { 1 << 24 };
/// The multiplications of a part of a matrix product.
const PART_OF_PRODUCT: usize = if cfg!(test) { 1 << 20 } else { 1 << 33 };
/// The most numbers of a tensor: 4 GiB of them.
const MOST: usize = 1 << 30;

/// What the operation on a part takes beside its result: copies of what it reads, and what it gives.
const BESIDE: usize = 4;

/// Checks that a tensor of a shape is not too large, and that there is memory for it.
///
/// # Errors
/// More than 2^30 numbers, or than there is memory for.
pub fn check(what: &str, shape: &[usize]) -> Result<()> {
    check_with(what, shape, |_| 0)
}

/// The same with memory for more numbers: how many, is told by those of the tensor.
fn check_with(what: &str, shape: &[usize], more: impl Fn(usize) -> usize) -> Result<()> {
    let n = shape.iter().try_fold(1usize, |n, size| n.checked_mul(*size)).filter(|n| *n <= MOST);
    match n {
        Some(n) => memory::check(what, ((n + more(n)) * size_of::<f32>()) as u64),
        None => Err(Error::invalid(what, format!("at most {MOST} numbers"), format!("{shape:?}"))),
    }
}

/// The same for a tensor that is computed part by part.
fn check_in_parts(shape: &[usize]) -> Result<()> {
    check_with("the result", shape, |n| BESIDE * n.min(PART))
}

/// A tensor of numbers that `fill` gives: it gets the index of the first number, and the slice to fill.
///
/// # Errors
/// As [`check`]; [`Error::Interrupted`].
pub fn filled(
    shape: &[usize],
    progress: &Progress,
    fill: impl Fn(usize, &mut [f32]) + Sync,
) -> Result<Tensor> {
    const STEP: usize = 1 << 16;
    check("a tensor", shape)?;
    let mut numbers = vec![0f32; shape.iter().product()];
    numbers.par_chunks_mut(STEP).enumerate().try_for_each(|(i, part)| {
        progress.check()?;
        fill(i * STEP, part);
        Ok::<_, Error>(())
    })?;
    Ok(Tensor::from_vec(numbers, shape, &Device::Cpu)?)
}

/// `f`, which changes each number by itself, of a tensor of f32.
///
/// # Errors
/// As [`check`]; whatever `f` returns; [`Error::Interrupted`].
pub fn each(
    x: &Tensor,
    progress: &Progress,
    f: impl Fn(&Tensor) -> candle_core::Result<Tensor>,
) -> Result<Tensor> {
    check_in_parts(x.dims())?;
    if x.elem_count() <= PART {
        return Ok(f(x)?);
    }
    let mut numbers = Vec::with_capacity(x.elem_count());
    visit(x, &mut |part| {
        progress.check()?;
        with_floats(&f(part)?.to_dtype(DType::F32)?, |part| numbers.extend_from_slice(part))
    })?;
    Ok(Tensor::from_vec(numbers, x.shape(), &Device::Cpu)?)
}

/// `f` of two tensors of f32 number by number, with numpy's broadcasting.
///
/// # Errors
/// As [`each`]; shapes that do not fit.
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
    let mut numbers = Vec::with_capacity(shape.elem_count());
    add_of_two(&x, &y, progress, &f, &mut numbers)?;
    Ok(Tensor::from_vec(numbers, shape, &Device::Cpu)?)
}

/// `f` along an axis of a tensor of f32, such as a softmax or a sum: parts are of other axes. A vector is one part.
///
/// # Errors
/// As [`each`].
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
            // All parts, and a copy that joins them.
            memory::check(WHAT, bytes(2 * part.elem_count() * len.div_ceil(step)))?;
        }
        parts.push(part);
    }
    // A reduction takes its axis away.
    let is_same = parts.first().is_some_and(|part| part.rank() == x.rank());
    let at = if is_same || other < axis { other } else { other - 1 };
    Ok(Tensor::cat(&parts, at)?)
}

/// Whether a tensor is more than one part.
pub fn is_large(x: &Tensor) -> bool {
    x.elem_count() > PART
}

/// All numbers of a tensor reduced to one, in f64: `f` of each part, as a vector, and `join` of what it gives.
///
/// # Errors
/// Whatever these return; [`Error::Interrupted`].
pub fn total(
    x: &Tensor,
    progress: &Progress,
    f: &dyn Fn(&Tensor) -> candle_core::Result<Tensor>,
    join: &dyn Fn(&Tensor) -> candle_core::Result<Tensor>,
) -> Result<f64> {
    // In f64, and with what `f` makes of it, a number takes several times as much.
    const SMALLER: usize = PART / 4;
    let flat = |x: &Tensor| x.flatten_all()?.to_dtype(DType::F64);
    if x.elem_count() <= SMALLER {
        progress.check()?;
        memory::check("numbers to add up", (4 * x.elem_count() * size_of::<f64>()) as u64)?;
        return Ok(f(&flat(x)?)?.to_scalar::<f64>()?);
    }
    let totals: Vec<f64> =
        parts(x, SMALLER)?.iter().map(|part| total(part, progress, f, join)).collect::<Result<_>>()?;
    Ok(join(&Tensor::new(totals, &Device::Cpu)?)?.to_scalar::<f64>()?)
}

/// The parts of a tensor along its first axis, of `most` numbers each or one row: at least two, unless it has one row.
fn parts(x: &Tensor, most: usize) -> Result<Vec<Tensor>> {
    let rows = x.dims()[0];
    if rows == 1 {
        return Ok(vec![x.squeeze(0)?]);
    }
    let step = (most / (x.elem_count() / rows).max(1)).clamp(1, rows.div_ceil(2));
    let part = |start: usize| Ok(x.narrow(0, start, step.min(rows - start))?);
    (0..rows).step_by(step).map(part).collect()
}

/// Calls `f` with each part of a tensor, contiguous, in their order.
///
/// # Errors
/// Whatever `f` returns.
pub fn visit(x: &Tensor, f: &mut impl FnMut(&Tensor) -> Result<()>) -> Result<()> {
    match is_large(x) {
        true => parts(x, PART)?.iter().try_for_each(|part| visit(part, f)),
        false => f(&x.contiguous()?),
    }
}

/// Adds the numbers of `f` of the parts of two tensors of one shape.
fn add_of_two(
    x: &Tensor,
    y: &Tensor,
    progress: &Progress,
    f: &impl Fn(&Tensor, &Tensor) -> candle_core::Result<Tensor>,
    numbers: &mut Vec<f32>,
) -> Result<()> {
    if x.elem_count() > PART {
        let mut both = parts(x, PART)?.into_iter().zip(parts(y, PART)?);
        return both.try_for_each(|(x, y)| add_of_two(&x, &y, progress, f, numbers));
    }
    progress.check()?;
    let part = f(&x.contiguous()?, &y.contiguous()?)?.to_dtype(DType::F32)?;
    with_floats(&part, |part| numbers.extend_from_slice(part))
}

/// The product of two matrices, of a matrix and a vector, of vectors, or of stacks of matrices.
///
/// # Errors
/// Shapes that do not fit; as [`check`]; [`Error::Interrupted`].
pub fn matmul(a: &Tensor, b: &Tensor, progress: &Progress) -> Result<Tensor> {
    let (a, b) = (&a.to_dtype(DType::F32)?, &b.to_dtype(DType::F32)?);
    let wrong = || {
        let message = format!("matmul: the shapes {:?} and {:?} do not fit", a.dims(), b.dims());
        Error::mismatch(message, "the last axis of the first must be the second-last of the second")
    };
    match (a.rank(), b.rank()) {
        (0, _) | (_, 0) => Err(wrong()),
        (_, 1) => Ok(matmul(a, &b.unsqueeze(1)?, progress)?.squeeze(candle_core::D::Minus1)?),
        (1, _) => Ok(matmul(&a.unsqueeze(0)?, b, progress)?.squeeze(candle_core::D::Minus2)?),
        (in_a, in_b) => {
            let (stack_a, [rows, inner]) = (&a.dims()[..in_a - 2], [a.dims()[in_a - 2], a.dims()[in_a - 1]]);
            let (stack_b, [other, columns]) =
                (&b.dims()[..in_b - 2], [b.dims()[in_b - 2], b.dims()[in_b - 1]]);
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
            // Each matrix of a stack has its own partner.
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

    /// More numbers than a part, as a matrix of few long rows, of many short ones, and turned.
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
    fn parts_give_what_the_whole_gives() {
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
    fn products_in_parts_are_products() {
        let progress = Progress::default();
        let a = randn(&[410, 150], 1, &progress).unwrap();
        let b = randn(&[150, 150], 2, &progress).unwrap();
        const { assert!(410 * 150 * 150 > PART_OF_PRODUCT) };
        let whole = a.matmul(&b).unwrap();
        let relative = |x: &Tensor| (x / 40.0).unwrap();
        same(&relative(&matmul(&a, &b, &progress).unwrap()), &relative(&whole));
        let stack = |x: &Tensor| Tensor::stack(&[x, &(x * 2.0).unwrap()], 0).unwrap();
        let product = matmul(&stack(&a), &stack(&b), &progress).unwrap();
        same(&relative(&product.get(1).unwrap()), &(relative(&whole) * 4.0).unwrap());
        // Stacks of other ranks, of which one or both are repeated.
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
    fn what_is_cancelled_stops() {
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
