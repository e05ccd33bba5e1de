//! Operators of the decoder on rows; the kernels are in `cuda/rows.cu`.

use super::{Module, address, address_of, arguments, as_u32, check, memory, module, tensor, uninit};
use candle_core::cuda_backend::{CudaDType, cudarc::driver::DeviceRepr, cudarc::driver::LaunchConfig};
use candle_core::{D, DType, Result, Tensor};
use half::bf16;

const MODULE: Module = module!("rows");

/// Calls `$code` for the type `$T` of results, f32 or bf16, with the suffix of its kernels.
macro_rules! results {
    ($dtype:expr, |$T:ident, $suffix:ident| $code:expr) => {
        match $dtype {
            DType::BF16 => {
                type $T = bf16;
                let $suffix = "_bf16";
                $code
            }
            _ => {
                type $T = f32;
                let $suffix = "";
                $code
            }
        }
    };
}

/// Layer norm over the last dimension of `x` `[..., d]`, or RMS norm without a `bias`; `weight` and `bias` are `[d]`. The result is
/// in bf16 if `dtype` is, otherwise in f32.
///
/// # Errors
/// Other shapes or types, tensors that are not contiguous or not on one NVIDIA GPU; errors of the driver.
pub fn norm(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, eps: f64, dtype: DType) -> Result<Tensor> {
    results!(dtype, |T, suffix| norm_to::<T>(x, weight, bias, eps, &format!("norm_rows{suffix}")))
}

fn norm_to<T: CudaDType + DeviceRepr>(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    eps: f64,
    kernel: &str,
) -> Result<Tensor> {
    let (d, n) = (x.dim(D::Minus1)?, x.elem_count());
    check::<f32>("x", x, n)?;
    check::<f32>("the weight", weight, d)?;
    bias.map_or(Ok(()), |bias| check::<f32>("the bias", bias, d))?;
    let (mx, mw, mb) = (memory(x), memory(weight), bias.map(memory));
    let device = mx.device()?;
    let out = uninit::<T>(&device, n)?;
    if n > 0 {
        let config =
            LaunchConfig { grid_dim: (as_u32(n / d)?, 1, 1), block_dim: (256, 1, 1), shared_mem_bytes: 0 };
        let (x, weight, bias) = (mx.address::<f32>()?, mw.address::<f32>()?, address_of(mb.as_ref())?);
        let arguments = arguments![x, weight, bias, as_u32(d)?, eps as f32, address(&out)];
        // SAFETY: a block reads and writes one of the n / d rows of x and out, and d elements of weight and bias.
        unsafe { MODULE.launch(&device, kernel, config, arguments)? };
    }
    Ok(tensor(out, &device, x.dims()))
}

/// `x + bias + residual`: `x` and `residual` `[..., d]`, `bias` `[d]`.
///
/// # Errors
/// As [`norm`].
pub fn add(x: &Tensor, bias: Option<&Tensor>, residual: Option<&Tensor>) -> Result<Tensor> {
    let (rows, d) = rows_of(x)?;
    check::<f32>("x", x, rows * d)?;
    bias.map_or(Ok(()), |bias| check::<f32>("the bias", bias, d))?;
    residual.map_or(Ok(()), |residual| check::<f32>("the residual stream", residual, rows * d))?;
    let (mx, mb, mr) = (memory(x), bias.map(memory), residual.map(memory));
    let device = mx.device()?;
    let out = uninit::<f32>(&device, rows * d)?;
    if rows * d > 0 {
        let (x, bias, residual) = (mx.address::<f32>()?, address_of(mb.as_ref())?, address_of(mr.as_ref())?);
        let arguments = arguments![x, bias, residual, as_u32(rows)?, as_u32(d)?, address(&out)];
        // SAFETY: the kernel reads and writes rows · d elements, and d of the bias.
        unsafe { MODULE.launch(&device, "add", grid(rows, d), arguments)? };
    }
    Ok(tensor(out, &device, x.dims()))
}

/// `function(x + bias)`, `x` `[..., d]`, `bias` `[d]`. The functions are 0: GELU by tanh, 1: GELU, 2: ReLU, 3: SiLU. The result is
/// in bf16 if `dtype` is, otherwise in f32.
///
/// # Errors
/// As [`norm`].
pub fn activate(x: &Tensor, bias: Option<&Tensor>, function: u32, dtype: DType) -> Result<Tensor> {
    let (rows, d) = rows_of(x)?;
    check::<f32>("x", x, rows * d)?;
    bias.map_or(Ok(()), |bias| check::<f32>("the bias", bias, d))?;
    let (mx, mb) = (memory(x), bias.map(memory));
    let device = mx.device()?;
    results!(dtype, |T, suffix| {
        let out = uninit::<T>(&device, rows * d)?;
        if rows * d > 0 {
            let (x, bias) = (mx.address::<f32>()?, address_of(mb.as_ref())?);
            let arguments = arguments![x, bias, as_u32(rows)?, as_u32(d)?, function, address(&out)];
            // SAFETY: as in `add`.
            unsafe { MODULE.launch(&device, &format!("activate{suffix}"), grid(rows, d), arguments)? };
        }
        Ok(tensor(out, &device, x.dims()))
    })
}

/// `function(gate) · linear`, where a row of `x` is `gate` followed by `linear`: `[n, 2 · d]` → `[n, d]`. The functions are
/// those of [`activate`]. The result is in bf16 if `dtype` is, otherwise in f32.
///
/// # Errors
/// As [`norm`].
pub fn gate(x: &Tensor, function: u32, dtype: DType) -> Result<Tensor> {
    let (rows, d) = (x.dim(0)?, x.dim(1)? / 2);
    check::<f32>("x", x, 2 * rows * d)?;
    let mx = memory(x);
    let device = mx.device()?;
    results!(dtype, |T, suffix| {
        let out = uninit::<T>(&device, rows * d)?;
        if rows * d > 0 {
            let arguments =
                arguments![mx.address::<f32>()?, as_u32(rows)?, as_u32(d)?, function, address(&out)];
            // SAFETY: the kernel reads two elements of the 2 · rows · d for each one that it writes.
            unsafe { MODULE.launch(&device, &format!("gate{suffix}"), grid(rows, d), arguments)? };
        }
        Ok(tensor(out, &device, &[rows, d]))
    })
}

/// Rotates pairs of dimensions of `x` `[n, heads, d_head]`, whose rows may be slices of wider rows, by the angles with these
/// cosines and sines, `[n, half]` each. Dimension `i` of the first half is paired with `half + i`; others stay.
///
/// # Errors
/// As [`norm`].
pub fn rotate(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let ((rows, heads, d_head), half) = (x.dims3()?, cos.dim(1)?);
    check::<f32>("the cosines", cos, rows * half)?;
    check::<f32>("the sines", sin, rows * half)?;
    let stride = super::attention::row_stride("x", x)?;
    if 2 * half > d_head {
        candle_core::bail!("rotate: {half} pairs do not fit into {d_head} dimensions");
    }
    let (mx, mc, ms) = (memory(x), memory(cos), memory(sin));
    let device = mx.device()?;
    let out = uninit::<f32>(&device, rows * heads * d_head)?;
    if rows * heads * d_head > 0 {
        let (x, cos, sin) = (mx.address::<f32>()?, mc.address::<f32>()?, ms.address::<f32>()?);
        let sizes = [as_u32(rows)?, as_u32(heads)?, as_u32(d_head)?, as_u32(half)?];
        let [n, n_heads, width, pairs] = sizes;
        let arguments = arguments![x, stride, cos, sin, n, n_heads, width, pairs, address(&out)];
        // SAFETY: rows of heads · d_head elements are `stride` apart, inside x; the cosines and sines have a row for each.
        unsafe { MODULE.launch(&device, "rotate", grid(rows, heads * d_head), arguments)? };
    }
    Ok(tensor(out, &device, x.dims()))
}

/// The number of rows of a tensor `[..., d]`, and `d`.
fn rows_of(x: &Tensor) -> Result<(usize, usize)> {
    let d = x.dim(D::Minus1)?;
    Ok((x.elem_count() / d.max(1), d))
}

/// A launch over `rows` rows of `d` elements.
fn grid(rows: usize, d: usize) -> LaunchConfig {
    const MAX_ROWS: usize = 65_535;
    let threads = d.next_multiple_of(32).min(256);
    let grid_dim = (d.div_ceil(threads) as u32, rows.min(MAX_ROWS) as u32, 1);
    LaunchConfig { grid_dim, block_dim: (threads as u32, 1, 1), shared_mem_bytes: 0 }
}
