//! Products by cuBLAS, with results in f32.

use super::{Module, address, arguments, check, each, memory, module, tensor, uninit};
use crate::Precision;
use candle_core::cuda_backend::{WrapErr, cudarc};
use candle_core::{CudaDevice, DType, Result, Tensor};
use cudarc::cublas::{result::gemm_ex, sys};
use half::bf16;

const MODULE: Module = module!("split");

/// With at most this many rows, the three parts of `x` are multiplied in one product, which reads the weight once.
const FEW_ROWS: usize = 64;

/// `x · weight`, `[n, in]` by `[in, out]` → `[n, out]`, in f32. `x` is f32 or, for [`Precision::Bf16`], bf16; the weight is f32,
/// bf16 or f16, and its rows or its columns are contiguous.
///
/// For [`Precision::F32`] with a weight in bf16, `x` is split into three bf16 numbers that add up to it. The products are then
/// exact, as those of f32 numbers would not be, and several times faster: tensor cores compute them.
///
/// # Errors
/// Other shapes, types or layouts; tensors that are not on one NVIDIA GPU; errors of the driver and of cuBLAS.
pub fn matmul(x: &Tensor, weight: &Tensor, precision: Precision) -> Result<Tensor> {
    let ((n, d_in), (rows, d_out)) = (x.dims2()?, weight.dims2()?);
    if d_in != rows {
        candle_core::bail!("x {:?} and weight {:?} do not fit", x.dims(), weight.dims());
    }
    if n * d_in * d_out == 0 {
        return Tensor::zeros((n, d_out), DType::F32, x.device());
    }
    let x = x.contiguous()?;
    if x.dtype() != DType::BF16 || precision != Precision::Bf16 {
        check::<f32>("x", &x, n * d_in)?;
    }
    let device = x.device().as_cuda_device()?;
    if precision == Precision::F32 && weight.dtype() == DType::BF16 {
        return split(&x, &Weight::new(weight, Kind::Bf16)?, device);
    }
    let kind = match precision {
        Precision::F32 => Kind::F32,
        Precision::Tf32 => Kind::Tf32,
        Precision::Bf16 => Kind::Bf16,
    };
    let (x, weight) = (x.to_dtype(kind.dtype())?, Weight::new(weight, kind)?);
    let out = uninit::<f32>(device, n * d_out)?;
    let mx = memory(&x);
    let at = if kind == Kind::Bf16 { mx.address::<bf16>()? } else { mx.address::<f32>()? };
    weight.multiply(at, n, false, address(&out), device)?;
    Ok(tensor(out, device, &[n, d_out]))
}

/// The product of the three parts of `x`, contiguous and in f32, with a weight in bf16.
fn split(x: &Tensor, weight: &Weight, device: &CudaDevice) -> Result<Tensor> {
    let (n, d_in) = x.dims2()?;
    let len = n * d_in;
    let parts = uninit::<bf16>(device, 3 * len)?;
    let mx = memory(x);
    // SAFETY: the kernel reads `len` elements and writes three times as many.
    unsafe {
        let arguments = arguments![mx.address::<f32>()?, len as u64, address(&parts)];
        MODULE.launch(device, "split", each(len), arguments)?;
    }
    if n <= FEW_ROWS {
        let out = uninit::<f32>(device, 3 * n * weight.d_out)?;
        weight.multiply(address(&parts), 3 * n, false, address(&out), device)?;
        return tensor(out, device, &[3, n, weight.d_out]).sum(0);
    }
    let out = uninit::<f32>(device, n * weight.d_out)?;
    // The smallest first.
    for part in (0..3).rev() {
        let at = address(&parts) + (part * len * size_of::<bf16>()) as u64;
        weight.multiply(at, n, part != 2, address(&out), device)?;
    }
    Ok(tensor(out, device, &[n, weight.d_out]))
}

/// The types of a product's factors.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    F32,
    Tf32,
    Bf16,
}

impl Kind {
    fn dtype(self) -> DType {
        if self == Kind::Bf16 { DType::BF16 } else { DType::F32 }
    }
}

/// A weight `[d_in, d_out]` in the type of its product.
struct Weight {
    tensor: Tensor,
    kind: Kind,
    d_in: usize,
    d_out: usize,
    /// Whether the columns are contiguous.
    is_transposed: bool,
    /// The distance of contiguous rows or columns.
    step: usize,
}

impl Weight {
    /// The weight, converted if it has another type.
    fn new(weight: &Tensor, kind: Kind) -> Result<Self> {
        let tensor = if weight.t()?.is_contiguous() {
            weight.t()?.to_dtype(kind.dtype())?.t()?
        } else {
            weight.to_dtype(kind.dtype())?
        };
        let (d_in, d_out) = tensor.dims2()?;
        let (is_transposed, step) = match *tensor.stride() {
            [step, 1] if step >= d_out || d_in == 1 => (false, step.max(d_out)),
            [1, step] if step >= d_in || d_out == 1 => (true, step.max(d_in)),
            _ => candle_core::bail!("a weight with steps of {:?}", weight.stride()),
        };
        Ok(Weight { tensor, kind, d_in, d_out, is_transposed, step })
    }

    /// Writes the product of `n` rows at the address `x`, of the weight's type, to `out`, or adds it to what is there.
    fn multiply(&self, x: u64, n: usize, adds: bool, out: u64, device: &CudaDevice) -> Result<()> {
        use sys::{cublasComputeType_t as Compute, cublasOperation_t as Operation, cudaDataType_t as Type};
        let size = |n: usize| {
            i32::try_from(n).map_err(|_| candle_core::Error::Msg(format!("{n} is too large for cuBLAS")).bt())
        };
        let (rows, d_in, d_out, step) = (size(n)?, size(self.d_in)?, size(self.d_out)?, size(self.step)?);
        let weight = memory(&self.tensor);
        let (weight, kind, compute) = match self.kind {
            Kind::F32 => (weight.address::<f32>()?, Type::CUDA_R_32F, Compute::CUBLAS_COMPUTE_32F),
            Kind::Tf32 => (weight.address::<f32>()?, Type::CUDA_R_32F, Compute::CUBLAS_COMPUTE_32F_FAST_TF32),
            Kind::Bf16 => (weight.address::<bf16>()?, Type::CUDA_R_16BF, Compute::CUBLAS_COMPUTE_32F),
        };
        let operation = if self.is_transposed { Operation::CUBLAS_OP_T } else { Operation::CUBLAS_OP_N };
        let (alpha, beta) = (1f32, f32::from(u8::from(adds)));
        device.cuda_stream().context().bind_to_thread().w()?;
        // cuBLAS stores matrices by columns, so that this is outᵀ = weightᵀ · xᵀ.
        // SAFETY: the sizes and steps are those of the tensors; the callers hold x and out, which have `n` rows.
        unsafe {
            gemm_ex(
                *device.cublas_handle().handle(),
                operation,
                Operation::CUBLAS_OP_N,
                d_out,
                rows,
                d_in,
                (&raw const alpha).cast(),
                weight as *const _,
                kind,
                step,
                x as *const _,
                kind,
                d_in,
                (&raw const beta).cast(),
                out as *mut _,
                Type::CUDA_R_32F,
                d_out,
                compute,
                sys::cublasGemmAlgo_t::CUBLAS_GEMM_DEFAULT,
            )
        }
        .w()
    }
}
