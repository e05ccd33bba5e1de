//! Attention; the kernels are in `cuda/attention.cu`, `cuda/attention_bf16.cu` and `cuda/paths.cu`.

use super::{Module, address, arguments, as_u32, check, memory, module, tensor, uninit};
use crate::{Precision, Scores};
use candle_core::cuda_backend::{WrapErr, cudarc::driver::LaunchConfig, cudarc::driver::sys};
use candle_core::{CudaDevice, Result, Tensor};
use std::ops::Range;

const F32: Module = module!("attention");
const BF16: Module = module!("attention_bf16");
const PATHS: Module = module!("paths");

/// The number of queries that a block takes.
const TILE: usize = 64;
/// The number of threads of a block.
const THREADS: u32 = 128;

/// The largest `d_head` that there are kernels for.
pub const MAX_D_HEAD: usize = 256;

/// Causal attention over a ragged batch. Each span has the rows of the queries and the rows of the keys and values of a
/// sequence; keys before the first query are its past.
///
/// `q` `[queries, n_heads, d_head]`, `k` and `v` `[keys, n_key_value_heads, d_head]` → `[queries, n_heads, d_head]`. All three
/// may be slices of a wider tensor. With [`Precision::Bf16`] and `d_head` 64, 128 or 256, q, k, v and the pattern are rounded to
/// bf16; otherwise everything is in f32.
///
/// # Errors
/// Other shapes or types, spans outside of them, `d_head` above [`MAX_D_HEAD`]; tensors not on one NVIDIA GPU; errors of the
/// driver.
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    spans: &[[Range<usize>; 2]],
    scores: Scores,
    precision: Precision,
) -> Result<Tensor> {
    let ((n, n_heads, d_head), (n_keys, n_groups, _)) = (q.dims3()?, k.dims3()?);
    let group = check_heads(n_heads, n_groups, d_head)?;
    if k.dims() != v.dims() || k.dim(2)? != d_head {
        candle_core::bail!("attention: queries {:?}, keys {:?}, values {:?}", q.dims(), k.dims(), v.dims());
    }
    let mut tiles = Vec::new();
    for [queries, keys] in spans {
        if queries.end > n || keys.end > n_keys || keys.len() < queries.len() {
            candle_core::bail!("attention: queries {queries:?} of {n} and keys {keys:?} of {n_keys}");
        }
        let past = keys.len() - queries.len();
        for start in (0..queries.len()).step_by(TILE) {
            let len = TILE.min(queries.len() - start);
            tiles.push([
                as_u32(queries.start + start)?,
                as_u32(len)?,
                as_u32(keys.start)?,
                as_u32(past + start + 1)?,
            ]);
        }
    }
    // Those with the most work first, so that no block begins late and takes long.
    tiles.sort_by_key(|[.., seen]| std::cmp::Reverse(*seen));
    let strides = [row_stride("queries", q)?, row_stride("keys", k)?, row_stride("values", v)?];
    let (mq, mk, mv) = (memory(q), memory(k), memory(v));
    let device = mq.device()?;
    let out = uninit::<f32>(&device, n * n_heads * d_head)?;
    if !tiles.is_empty() {
        let (module, kernel, shared) = kernel(d_head, precision);
        let blocks = as_u32(tiles.len())?;
        let tiles = device.clone_htod(&tiles.concat())?;
        let config = grid(blocks, n_heads, shared)?;
        allow_shared(&device, &module, kernel, shared)?;
        let [q_stride, k_stride, v_stride] = strides;
        let (q, k, v) = (mq.address::<f32>()?, mk.address::<f32>()?, mv.address::<f32>()?);
        let ((cap, window), scale, d_head) = (limits(scores), scores.scale, as_u32(d_head)?);
        // SAFETY: tiles are inside the queries and keys, which have been checked; the kernel's threads and memory are its own.
        unsafe {
            module.launch(
                &device,
                kernel,
                config,
                arguments![
                    q,
                    k,
                    v,
                    q_stride,
                    k_stride,
                    v_stride,
                    group,
                    d_head,
                    address(&tiles),
                    scale,
                    cap,
                    window,
                    address(&out)
                ],
            )?;
        }
    }
    Ok(tensor(out, &device, q.dims()))
}

/// Attention of queries to cached keys and values, each along its own path: query `i` sees the rows
/// `tokens[ends[i - 1]..ends[i]]`, from 0 for the first.
///
/// `q` `[n, n_heads, d_head]`, `keys` and `values` `[cached, n_key_value_heads · d_head]`, contiguous → as `q`.
///
/// # Errors
/// As [`attention`]; rows that are not in the cache, an empty path.
pub fn path_attention(
    q: &Tensor,
    [keys, values]: [&Tensor; 2],
    tokens: &[u32],
    ends: &[u32],
    scores: Scores,
) -> Result<Tensor> {
    let ((n, n_heads, d_head), (cached, width)) = (q.dims3()?, keys.dims2()?);
    let group = check_heads(n_heads, width / d_head.max(1), d_head)?;
    check::<f32>("the queries", q, n * n_heads * d_head)?;
    for store in [keys, values] {
        check::<f32>("the cache", store, cached * n_heads / group as usize * d_head)?;
    }
    let rises = std::iter::once(&0).chain(ends).zip(ends).all(|(a, b)| a < b);
    let are_inside = tokens.iter().all(|token| (*token as usize) < cached);
    if ends.len() != n
        || !rises
        || ends.last().is_some_and(|end| *end as usize != tokens.len())
        || !are_inside
    {
        candle_core::bail!(
            "paths of {n} queries: {} ends, {} tokens, {cached} in the cache",
            ends.len(),
            tokens.len()
        );
    }
    let (mq, mk, mv) = (memory(q), memory(keys), memory(values));
    let device = mq.device()?;
    let out = uninit::<f32>(&device, n * n_heads * d_head)?;
    if n > 0 {
        let config = grid(as_u32(n)?, n_heads, 0)?;
        let (tokens, ends) = (device.clone_htod(tokens)?, device.clone_htod(ends)?);
        let (q, keys, values) = (mq.address::<f32>()?, mk.address::<f32>()?, mv.address::<f32>()?);
        let ((cap, window), scale, d_head) = (limits(scores), scores.scale, as_u32(d_head)?);
        // SAFETY: all rows of paths are in the cache, and there is a path for each query.
        unsafe {
            PATHS.launch(
                &device,
                "path_attention",
                config,
                arguments![
                    q,
                    keys,
                    values,
                    group,
                    d_head,
                    address(&tokens),
                    address(&ends),
                    scale,
                    cap,
                    window,
                    address(&out)
                ],
            )?;
        }
    }
    Ok(tensor(out, &device, q.dims()))
}

/// The kernel for a width of heads: its module and name, and the bytes of shared memory that it needs.
fn kernel(d_head: usize, precision: Precision) -> (Module, &'static str, u32) {
    match (precision, d_head) {
        (Precision::Bf16, 64) => (BF16, "attention_bf16_64", 24_576),
        (Precision::Bf16, 128) => (BF16, "attention_bf16_128", 49_152),
        (Precision::Bf16, 256) => (BF16, "attention_bf16_256", 65_536),
        (_, 64) => (F32, "attention_64", 49_152),
        (_, 128) => (F32, "attention_128", 65_536),
        (_, 256) => (F32, "attention_256", 98_304),
        _ => (F32, "attention_any", 256 * d_head.next_multiple_of(32) as u32 + 32_768),
    }
}

/// The cap and the window as a kernel takes them: 0 for no cap, the largest number for no window.
fn limits(scores: Scores) -> (f32, u32) {
    let window = scores.window.and_then(|n| u32::try_from(n).ok());
    (scores.soft_cap.unwrap_or(0.0), window.unwrap_or(u32::MAX))
}

/// A launch of `blocks` blocks for each head.
fn grid(blocks: u32, n_heads: usize, shared_mem_bytes: u32) -> Result<LaunchConfig> {
    Ok(LaunchConfig { grid_dim: (blocks, as_u32(n_heads)?, 1), block_dim: (THREADS, 1, 1), shared_mem_bytes })
}

/// Lets a kernel use more shared memory than every kernel may.
fn allow_shared(device: &CudaDevice, module: &Module, kernel: &str, bytes: u32) -> Result<()> {
    const ALWAYS: u32 = 48 << 10;
    if bytes > ALWAYS {
        let function = device.get_or_load_custom_func(kernel, module.name, module.ptx)?;
        let attribute = sys::CUfunction_attribute_enum::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        function.set_attribute(attribute, bytes as i32).w()?;
    }
    Ok(())
}

/// The number of heads of queries that share a head of keys.
fn check_heads(n_heads: usize, n_groups: usize, d_head: usize) -> Result<u32> {
    if n_groups == 0 || !n_heads.is_multiple_of(n_groups) || !(1..=MAX_D_HEAD).contains(&d_head) {
        candle_core::bail!(
            "attention on a GPU: expected heads of 1 to {MAX_D_HEAD} dimensions, got {n_heads} heads of {d_head}, with {n_groups} of keys"
        );
    }
    as_u32(n_heads / n_groups)
}

/// The distance of rows of an f32 tensor `[n, heads, d_head]` whose rows are contiguous.
pub(super) fn row_stride(what: &str, x: &Tensor) -> Result<u32> {
    let (n, heads, d_head) = x.dims3()?;
    let is_f32 = x.dtype() == candle_core::DType::F32;
    match *x.stride() {
        [row, head, 1] if is_f32 && (head == d_head || heads == 1) && (row >= heads * d_head || n <= 1) => {
            as_u32(row.max(heads * d_head))
        }
        _ => candle_core::bail!(
            "{what}: expected f32 in contiguous rows, got {:?} with steps {:?}",
            x.dims(),
            x.stride()
        ),
    }
}
