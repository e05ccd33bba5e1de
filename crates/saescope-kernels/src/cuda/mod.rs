//! Operators on NVIDIA GPUs: products by cuBLAS, and kernels of our own.
//!
//! Tensors are candle's. All work on a device is done in the order in which it is sent, on one stream. The functions check
//! types, shapes and layouts, and allocate their results.

mod attention;
mod matmul;
mod rows;
mod select;

pub use attention::{MAX_D_HEAD, attention, path_attention};
pub use matmul::matmul;
pub use rows::{activate, add, gate, norm, rotate};
pub use select::{Above, Actives, Selector, first_not_finite, top_k};

use candle_core::cuda_backend::{CudaDType, WrapErr, cudarc};
use candle_core::{CudaDevice, CudaStorage, Device, Result, Storage, Tensor, WithDType};
use cudarc::driver::{CudaSlice, DevicePtr, DeviceRepr, LaunchConfig, PushKernelArg, sys};
use std::ops::Deref;

/// A compiled file of kernels.
struct Module {
    name: &'static str,
    ptx: &'static str,
}

/// The module of the kernels in `cuda/<name>.cu`.
macro_rules! module {
    ($name:literal) => {
        $crate::cuda::Module {
            name: concat!("saescope_", $name),
            ptx: include_str!(concat!(env!("OUT_DIR"), "/", $name, ".ptx")),
        }
    };
}

/// An argument of a kernel.
enum Argument {
    /// An address, or a size as `size_t`.
    Long(u64),
    Int(u32),
    Float(f32),
}

/// `[1u32, 2u64]` as arguments.
macro_rules! arguments {
    ($($argument:expr),+ $(,)?) => { &[$($crate::cuda::Argument::from($argument)),+] };
}

impl From<u64> for Argument {
    fn from(x: u64) -> Self {
        Argument::Long(x)
    }
}

impl From<u32> for Argument {
    fn from(x: u32) -> Self {
        Argument::Int(x)
    }
}

impl From<f32> for Argument {
    fn from(x: f32) -> Self {
        Argument::Float(x)
    }
}

impl Module {
    /// Launches a kernel of this module.
    ///
    /// # Safety
    /// The arguments must be those of the kernel, and it must read and write only memory that they may lead to.
    unsafe fn launch(
        &self,
        device: &CudaDevice,
        kernel: &str,
        config: LaunchConfig,
        arguments: &[Argument],
    ) -> Result<()> {
        let kernel = device.get_or_load_custom_func(kernel, self.name, self.ptx)?;
        let mut launch = kernel.builder();
        for argument in arguments {
            match argument {
                Argument::Long(x) => launch.arg(x),
                Argument::Int(x) => launch.arg(x),
                Argument::Float(x) => launch.arg(x),
            };
        }
        // SAFETY: the caller's promise.
        unsafe { launch.launch(config) }.w().map(drop)
    }
}

use {arguments, module};

/// The number of GPUs.
///
/// # Errors
/// No driver.
pub fn count() -> Result<usize> {
    use cudarc::driver::result::{device, init};
    match init().and_then(|()| device::get_count()) {
        Err(error) if error.0 == sys::CUresult::CUDA_ERROR_NO_DEVICE => Ok(0),
        count => Ok(usize::try_from(count.w()?).unwrap_or(0)),
    }
}

/// What the driver and the GPU must at least be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// The version of CUDA that the driver knows, `1000 · major + 10 · minor`.
    pub driver: i32,
    /// The GPU's compute capability.
    pub compute: (i32, i32),
}

/// The versions that the kernels and cuBLAS 13 need.
pub const LEAST: Versions = Versions { driver: 13_000, compute: (8, 0) };

/// The versions of the driver and of the GPU with this index.
///
/// # Errors
/// No driver, no such GPU.
pub fn versions(index: usize) -> Result<Versions> {
    use cudarc::driver::result::{device, init};
    use sys::CUdevice_attribute::{
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR as MAJOR,
        CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR as MINOR,
    };
    init().w()?;
    let mut driver = 0;
    // SAFETY: it writes one number.
    unsafe { sys::cuDriverGetVersion(&raw mut driver) }.result().w()?;
    let gpu = device::get(i32::try_from(index).unwrap_or(i32::MAX)).w()?;
    // SAFETY: the driver has just named the GPU.
    let [major, minor] = [MAJOR, MINOR].map(|attribute| unsafe { device::get_attribute(gpu, attribute) });
    Ok(Versions { driver, compute: (major.w()?, minor.w()?) })
}

/// Opens the GPU with this index. To be called once per GPU: tensors of two calls do not work together.
///
/// # Errors
/// No driver, no such GPU, or no cuBLAS or cuRAND.
pub fn open(index: usize) -> Result<Device> {
    #[expect(clippy::disallowed_methods, reason = "the one place that opens GPUs")]
    let device = Device::new_cuda_with_stream(index)?;
    let gpu = device.as_cuda_device()?;
    // SAFETY: there is one stream, so that its order is enough.
    unsafe { gpu.disable_event_tracking() };
    keep_freed_memory(gpu)?;
    Ok(device)
}

/// Makes a GPU the one that this thread calls the driver for. To be called before work on tensors that another thread made.
///
/// # Errors
/// The device is not an NVIDIA GPU; errors of the driver.
pub fn bind(device: &Device) -> Result<()> {
    device.as_cuda_device()?.cuda_stream().context().bind_to_thread().w()
}

/// Lets the driver keep memory that was freed: by default it would return it to the system at each synchronization, and map
/// it again in the next pass.
fn keep_freed_memory(gpu: &CudaDevice) -> Result<()> {
    let Some(pool) = pool(gpu)? else { return Ok(()) };
    let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    let mut threshold = u64::MAX;
    // SAFETY: the attribute is a u64.
    unsafe { sys::cuMemPoolSetAttribute(pool, attribute, (&raw mut threshold).cast()) }.result().w()
}

/// The pool that memory is taken from, if the GPU has one.
fn pool(gpu: &CudaDevice) -> Result<Option<sys::CUmemoryPool>> {
    let context = gpu.cuda_stream().context().clone();
    context.bind_to_thread().w()?;
    if !context.has_async_alloc() {
        return Ok(None);
    }
    let mut pool = std::ptr::null_mut();
    // SAFETY: it writes one handle.
    unsafe { sys::cuDeviceGetDefaultMemPool(&raw mut pool, context.cu_device()) }.result().w()?;
    Ok(Some(pool))
}

/// The memory of a GPU that is free for this program, in bytes: free for all, or kept for it by the driver.
///
/// # Errors
/// The device is not an NVIDIA GPU; errors of the driver.
pub fn free_memory(device: &Device) -> Result<u64> {
    use sys::CUmemPool_attribute::{
        CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT as RESERVED, CU_MEMPOOL_ATTR_USED_MEM_CURRENT as USED,
    };
    bind(device)?;
    let (free, _) = cudarc::driver::result::mem_get_info().w()?;
    let Some(pool) = pool(device.as_cuda_device()?)? else { return Ok(free as u64) };
    let bytes = |attribute| {
        let mut bytes = 0u64;
        // SAFETY: the attributes are u64.
        unsafe { sys::cuMemPoolGetAttribute(pool, attribute, (&raw mut bytes).cast()) }.result().w()?;
        Ok::<_, candle_core::Error>(bytes)
    };
    Ok(free as u64 + bytes(RESERVED)?.saturating_sub(bytes(USED)?))
}

/// The memory of a tensor, which stays as it is while this exists.
struct Memory<S> {
    storage: S,
    first: usize,
}

fn memory(tensor: &Tensor) -> Memory<impl Deref<Target = Storage> + '_> {
    let (storage, layout) = tensor.storage_and_layout();
    Memory { storage, first: layout.start_offset() }
}

impl<S: Deref<Target = Storage>> Memory<S> {
    fn cuda(&self) -> Result<&CudaStorage> {
        match &*self.storage {
            Storage::Cuda(storage) => Ok(storage),
            _ => candle_core::bail!("expected a tensor on an NVIDIA GPU"),
        }
    }

    fn device(&self) -> Result<CudaDevice> {
        Ok(self.cuda()?.device.clone())
    }

    /// The address of the first element.
    fn address<T: CudaDType + DeviceRepr>(&self) -> Result<u64> {
        let slice = self.cuda()?.as_cuda_slice::<T>()?;
        Ok(address(slice) + (self.first * size_of::<T>()) as u64)
    }
}

/// The address of the first element of an f32 tensor, 0 for `None`.
fn address_of<S: Deref<Target = Storage>>(memory: Option<&Memory<S>>) -> Result<u64> {
    memory.map_or(Ok(0), Memory::address::<f32>)
}

/// Memory for a result, to be written as a whole.
fn uninit<T: DeviceRepr>(device: &CudaDevice, len: usize) -> Result<CudaSlice<T>> {
    // SAFETY: the kernels write every element before any is read.
    unsafe { device.alloc::<T>(len) }
}

fn address<T>(slice: &CudaSlice<T>) -> u64 {
    slice.device_ptr(slice.stream()).0
}

/// A tensor in memory that a kernel has written.
fn tensor<T: CudaDType>(slice: CudaSlice<T>, device: &CudaDevice, shape: &[usize]) -> Tensor {
    let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(slice, device.clone()));
    Tensor::from_storage(storage, shape, candle_core::op::BackpropOp::none(), false)
}

/// An error unless a tensor is contiguous, of type `T`, and has `n` elements.
fn check<T: WithDType>(what: &str, tensor: &Tensor, n: usize) -> Result<()> {
    if tensor.elem_count() == n && tensor.is_contiguous() && tensor.dtype() == T::DTYPE {
        return Ok(());
    }
    candle_core::bail!(
        "{what}: expected {n} contiguous elements of type {:?}, got {:?} of type {:?}",
        T::DTYPE,
        tensor.dims(),
        tensor.dtype()
    )
}

/// A size as a kernel takes it.
fn as_u32(n: usize) -> Result<u32> {
    u32::try_from(n).map_err(|_| candle_core::Error::Msg(format!("{n} is too large for a GPU kernel")).bt())
}

/// A launch of one thread for each of `n` elements, or each of several if there are many.
fn each(n: usize) -> LaunchConfig {
    const THREADS: usize = 256;
    const MAX_BLOCKS: usize = 1 << 16;
    let blocks = n.div_ceil(THREADS).clamp(1, MAX_BLOCKS) as u32;
    LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (THREADS as u32, 1, 1), shared_mem_bytes: 0 }
}
