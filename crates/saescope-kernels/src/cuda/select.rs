//! The active features of rows of pre-activations; the kernels are in `cuda/select.cu` and `cuda/top_k.cu`.

use super::{Module, address, address_of, arguments, as_u32, check, each, memory, module, uninit};
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, LaunchConfig, PinnedHostSlice};
use candle_core::{CudaDevice, Device, Result, Tensor};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

const SELECT: Module = module!("select");
const TOP_K: Module = module!("top_k");

/// Rows that a block of [`Selector`] takes, a warp each.
const ROWS: u32 = 8;

/// Active features of rows, on the host.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Actives {
    /// Where each row ends.
    pub ends: Vec<u32>,
    /// The features of all rows, ascending in each.
    pub features: Vec<u32>,
    /// Their activations.
    pub values: Vec<f32>,
}

/// The features of a tile that are active: `pre + bias > cut`, and an activation above the threshold. All tensors are
/// `[width]`, in f32, on the GPU.
#[derive(Debug, Clone, Copy)]
pub struct Above<'a> {
    /// Is added to the pre-activations.
    pub bias: &'a Tensor,
    /// What a sum must exceed.
    pub cut: &'a Tensor,
    /// A factor and an offset: the activation is then `pre · factor + offset`, otherwise the sum.
    pub magnitude: Option<[&'a Tensor; 2]>,
    /// What an activation with a magnitude must exceed.
    pub threshold: f32,
}

/// Gathers the active features of rows from tiles of pre-activations.
pub struct Selector {
    device: CudaDevice,
    rows: usize,
    capacity: usize,
    counts: CudaSlice<u32>,
    features: CudaSlice<u32>,
    values: CudaSlice<f32>,
}

impl Selector {
    /// Room for `capacity` features in each of `rows` rows.
    ///
    /// # Errors
    /// Another device than an NVIDIA GPU; errors of the driver.
    pub fn new(device: &Device, rows: usize, capacity: usize) -> Result<Self> {
        let device = device.as_cuda_device()?.clone();
        let counts = device.alloc_zeros::<u32>(rows.max(1))?;
        let room = (rows * capacity).max(1);
        let (features, values) = (uninit::<u32>(&device, room)?, uninit::<f32>(&device, room)?);
        Ok(Selector { device, rows, capacity, counts, features, values })
    }

    /// Adds the active features among those of a tile of pre-activations `[rows, width]`, which begins at feature `first`.
    /// Tiles come in ascending order.
    ///
    /// # Errors
    /// Other shapes or types, tensors not on this GPU; errors of the driver.
    pub fn add(&mut self, pre: &Tensor, first: usize, rule: &Above) -> Result<()> {
        let (rows, width) = pre.dims2()?;
        if rows != self.rows {
            candle_core::bail!("expected pre-activations of {} rows, got {rows}", self.rows);
        }
        check::<f32>("the pre-activations", pre, rows * width)?;
        let magnitude = rule.magnitude.into_iter().flatten();
        for vector in [rule.bias, rule.cut].into_iter().chain(magnitude) {
            check::<f32>("a vector of the tile", vector, width)?;
        }
        if rows * width == 0 {
            return Ok(());
        }
        let (mp, mb, mc) = (memory(pre), memory(rule.bias), memory(rule.cut));
        let magnitude = rule.magnitude.map(|both| both.map(memory));
        let (pre, bias, cut) = (mp.address::<f32>()?, mb.address::<f32>()?, mc.address::<f32>()?);
        let factor = address_of(magnitude.as_ref().map(|[factor, _]| factor))?;
        let offset = address_of(magnitude.as_ref().map(|[_, offset]| offset))?;
        let (rows, width, first, capacity) =
            (as_u32(rows)?, as_u32(width)?, as_u32(first)?, as_u32(self.capacity)?);
        // SAFETY: the kernel reads rows · width and width elements, and writes below rows · capacity.
        unsafe {
            SELECT.launch(
                &self.device,
                "select_above",
                by_row(rows),
                arguments![
                    pre,
                    bias,
                    cut,
                    factor,
                    offset,
                    rule.threshold,
                    rows,
                    width,
                    first,
                    capacity,
                    address(&self.counts),
                    address(&self.features),
                    address(&self.values)
                ],
            )
        }
    }

    /// The active features; or the largest number of a row, if that is more than there is room for.
    ///
    /// # Errors
    /// Errors of the driver, also of work that was sent before.
    pub fn finish(self) -> Result<std::result::Result<Actives, usize>> {
        if self.rows == 0 {
            return Ok(Ok(Actives::default()));
        }
        let counts = self.device.clone_dtoh(&self.counts)?;
        let most = counts.iter().copied().max().unwrap_or(0) as usize;
        if most > self.capacity {
            return Ok(Err(most));
        }
        packed(&self.device, &counts, self.capacity, &self.features, &self.values).map(Ok)
    }
}

/// The `k` activations `(pre + bias) · norm` of largest magnitude in each row of `pre` `[rows, width]`, of equal ones the lowest
/// index; only those above 0 unless `is_signed`. `bias` and `norms` are `[width]`.
///
/// # Errors
/// As [`Selector::add`].
pub fn top_k(
    pre: &Tensor,
    bias: &Tensor,
    norms: Option<&Tensor>,
    k: usize,
    is_signed: bool,
) -> Result<Actives> {
    let (rows, width) = pre.dims2()?;
    check::<f32>("the pre-activations", pre, rows * width)?;
    check::<f32>("the bias", bias, width)?;
    norms.map_or(Ok(()), |norms| check::<f32>("the norms", norms, width))?;
    if rows * width * k == 0 {
        return Ok(Actives { ends: vec![0; rows], ..Actives::default() });
    }
    let k = k.min(width);
    let (mp, mb, mn) = (memory(pre), memory(bias), norms.map(memory));
    let device = mp.device()?;
    let counts = uninit::<u32>(&device, rows)?;
    let (features, values) = (uninit::<u32>(&device, rows * k)?, uninit::<f32>(&device, rows * k)?);
    let config =
        LaunchConfig { grid_dim: (as_u32(rows)?, 1, 1), block_dim: (256, 1, 1), shared_mem_bytes: 0 };
    let (pre, bias, norms) = (mp.address::<f32>()?, mb.address::<f32>()?, address_of(mn.as_ref())?);
    let (width, most, is_signed) = (as_u32(width)?, as_u32(k)?, u32::from(is_signed));
    // SAFETY: a block reads a row of width elements and writes at most k.
    unsafe {
        TOP_K.launch(
            &device,
            "top_k",
            config,
            arguments![
                pre,
                bias,
                norms,
                width,
                most,
                is_signed,
                address(&counts),
                address(&features),
                address(&values)
            ],
        )?;
    }
    let counts = device.clone_dtoh(&counts)?;
    packed(&device, &counts, k, &features, &values)
}

/// The index of the first element of a contiguous f32 tensor that is NaN or infinite, if there is one.
///
/// # Errors
/// Another type or layout, a tensor not on an NVIDIA GPU; errors of the driver.
pub fn first_not_finite(x: &Tensor) -> Result<Option<usize>> {
    let n = x.elem_count();
    check::<f32>("x", x, n)?;
    if n == 0 {
        return Ok(None);
    }
    let mx = memory(x);
    let device = mx.device()?;
    let first = device.clone_htod(&[u64::MAX])?;
    let (x, len) = (mx.address::<f32>()?, n as u64);
    // SAFETY: the kernel reads n elements, and writes one index.
    unsafe { SELECT.launch(&device, "find_not_finite", each(n), arguments![x, len, address(&first)])? };
    let first = device.clone_dtoh(&first)?;
    Ok(first.first().filter(|first| **first != u64::MAX).map(|first| *first as usize))
}

/// Moves the features of rows together, and to the host.
fn packed(
    device: &CudaDevice,
    counts: &[u32],
    capacity: usize,
    features: &CudaSlice<u32>,
    values: &CudaSlice<f32>,
) -> Result<Actives> {
    let sum = counts.iter().scan(0u64, |sum, count| {
        *sum += u64::from(*count);
        Some(u32::try_from(*sum))
    });
    let ends = sum.collect::<std::result::Result<Vec<u32>, _>>();
    let ends = ends.map_err(|_| candle_core::Error::Msg("more than 2³² active features".to_owned()))?;
    let total = ends.last().map_or(0, |end| *end as usize);
    if total == 0 {
        return Ok(Actives { ends, ..Actives::default() });
    }
    // The features, then the bits of the values.
    let out = uninit::<u32>(device, 2 * total)?;
    let (to_features, to_values) = (address(&out), address(&out) + (total * size_of::<u32>()) as u64);
    let (on_gpu, rows, capacity) = (device.clone_htod(&ends)?, as_u32(ends.len())?, as_u32(capacity)?);
    let arguments = arguments![
        address(features),
        address(values),
        address(&on_gpu),
        rows,
        capacity,
        to_features,
        to_values
    ];
    // SAFETY: no row has more than `capacity` elements, and the ends are the sums of their numbers.
    unsafe { SELECT.launch(device, "compact", by_row(rows), arguments)? };
    to_host(device, &out, |both| {
        let (features, values) = both.split_at(total);
        Actives {
            ends,
            features: features.to_vec(),
            values: values.iter().copied().map(f32::from_bits).collect(),
        }
    })
}

/// Calls `f` with numbers that are copied to the host through pinned memory, several times as fast as to other memory.
fn to_host<R>(device: &CudaDevice, numbers: &CudaSlice<u32>, f: impl FnOnce(&[u32]) -> R) -> Result<R> {
    /// The buffers that are not in use, by GPU.
    static BUFFERS: Mutex<BTreeMap<usize, PinnedHostSlice<u32>>> = Mutex::new(BTreeMap::new());
    const LEAST: usize = 1 << 20;
    let buffers = || BUFFERS.lock().unwrap_or_else(PoisonError::into_inner);
    let (stream, n) = (device.cuda_stream(), numbers.len());
    let gpu = stream.context().ordinal();
    let kept = buffers().remove(&gpu).filter(|buffer| buffer.len() >= n);
    let mut buffer = match kept {
        Some(buffer) => buffer,
        None => {
            let room = n.next_power_of_two().max(LEAST);
            // SAFETY: only what a copy has written is read. Without flags, the processor reads the memory at full speed.
            match unsafe { stream.context().alloc_pinned_with_flags(room, 0) } {
                Ok(buffer) => buffer,
                // The system may refuse to pin memory.
                Err(_) => return Ok(f(&device.clone_dtoh(numbers)?)),
            }
        }
    };
    let copy = &mut buffer.as_mut_slice().w()?[..n];
    stream.memcpy_dtoh(numbers, copy).w()?;
    // The copy goes on in the background until here.
    stream.synchronize().w()?;
    let result = f(copy);
    buffers().insert(gpu, buffer);
    Ok(result)
}

/// A launch of a warp for each row.
fn by_row(rows: u32) -> LaunchConfig {
    LaunchConfig { grid_dim: (rows.div_ceil(ROWS), 1, 1), block_dim: (32, ROWS, 1), shared_mem_bytes: 0 }
}
