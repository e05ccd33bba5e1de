//! Reading numbers: on all threads, from any type, whichever way round they are stored.

use super::source::Source;
use super::{Entry, width};
use crate::error::Result;
use safetensors::Dtype;
use std::sync::{Mutex, PoisonError};

/// How much of a tensor is read at a time, in bytes.
const PIECE: usize = 1 << 20;

/// Reads numbers that lie one behind the other. Of a plain span, threads read a piece each.
pub(super) fn read_rows(source: &Source, entry: &Entry, numbers: &mut [f32]) -> Result<()> {
    let width = width(entry.dtype);
    let per_piece = PIECE / width;
    if entry.span.deflated {
        let mut stream = source.stream(entry.span, entry.offset)?;
        let mut bytes = vec![0u8; per_piece.min(numbers.len()) * width];
        return numbers.chunks_mut(per_piece).try_for_each(|numbers| {
            let bytes = &mut bytes[..numbers.len() * width];
            stream.fill(bytes).map_err(|e| source.error(e))?;
            decode(entry.dtype, bytes, numbers);
            Ok(())
        });
    }
    let start = entry.span.start + entry.offset;
    on_threads(numbers.chunks_mut(per_piece).enumerate(), |(i, numbers)| {
        let mut bytes = vec![0u8; numbers.len() * width];
        source.read_at(start + (i * per_piece * width) as u64, &mut bytes)?;
        decode(entry.dtype, &bytes, numbers);
        Ok(())
    })
}

/// Does the work on all items, on as many threads as compute, up to the first error.
///
/// The threads are its own: whoever reads holds a lock on what is read, and a thread of the pool that waits for others of
/// the pool may take up work that waits for that lock.
fn on_threads<T: Send>(
    items: impl ExactSizeIterator<Item = T> + Send,
    work: impl Fn(T) -> Result<()> + Sync,
) -> Result<()> {
    let threads = rayon::current_num_threads().min(items.len());
    let items = Mutex::new(items);
    let all = || {
        loop {
            let next = items.lock().unwrap_or_else(PoisonError::into_inner).next();
            match next {
                Some(item) => work(item)?,
                None => return Ok(()),
            }
        }
    };
    if threads <= 1 {
        return all();
    }
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(all)).collect();
        let own = all();
        let others = others
            .into_iter()
            .map(|other| other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        others.fold(own, Result::and)
    })
}

/// The bytes of `count` numbers that lie one behind the other.
pub(super) fn bytes_of(source: &Source, entry: &Entry, count: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0u8; count * width(entry.dtype)];
    if entry.span.deflated {
        let mut stream = source.stream(entry.span, entry.offset)?;
        stream.fill(&mut bytes).map_err(|e| source.error(e))?;
        return Ok(bytes);
    }
    let start = entry.span.start + entry.offset;
    on_threads(bytes.chunks_mut(PIECE).enumerate(), |(i, piece)| {
        source.read_at(start + (i * PIECE) as u64, piece)
    })?;
    Ok(bytes)
}

/// Turns a matrix whose rows have `columns` numbers, and puts it into the columns from `start` on of `target`, whose rows
/// have `width`.
pub(super) fn turn(
    dtype: Dtype,
    bytes: &[u8],
    columns: usize,
    target: &mut [f32],
    width: usize,
    start: usize,
) -> Result<()> {
    /// A tile is turned at a time, in a buffer of its own: rows of the target are often a power of two apart, and a cache
    /// could hold few of them at once.
    const TILE: usize = 32;
    fn each<const N: usize>(
        bytes: &[u8],
        columns: usize,
        target: &mut [f32],
        [width, start]: [usize; 2],
        f: impl Fn([u8; N]) -> f32 + Sync,
    ) -> Result<()> {
        let numbers = bytes.as_chunks::<N>().0;
        let bands = target.chunks_mut(TILE * width).enumerate();
        on_threads(bands, |(band, target)| {
            let mut tile = [[0f32; TILE]; TILE];
            for (i, rows) in numbers.chunks(TILE * columns).enumerate() {
                let height = rows.len() / columns;
                for (r, row) in rows.chunks_exact(columns).enumerate().take(TILE) {
                    let row = &row[band * TILE..columns.min((band + 1) * TILE)];
                    for (tile, number) in tile.iter_mut().zip(row) {
                        tile[r] = f(*number);
                    }
                }
                for (target, tile) in target.chunks_exact_mut(width).zip(&tile) {
                    target[start + i * TILE..][..height].copy_from_slice(&tile[..height]);
                }
            }
            Ok(())
        })
    }
    if columns == 0 || width == 0 {
        return Ok(());
    }
    let place = [width, start];
    match dtype {
        Dtype::F16 => each(bytes, columns, target, place, |b| half::f16::from_le_bytes(b).to_f32()),
        Dtype::BF16 => each(bytes, columns, target, place, bf16),
        Dtype::F64 => each(bytes, columns, target, place, |b| f64::from_le_bytes(b) as f32),
        _ => each(bytes, columns, target, place, f32::from_le_bytes),
    }
}

/// Reads a tensor whose numbers have others between them.
pub(super) fn read_scattered(source: &Source, entry: &Entry) -> Result<Vec<f32>> {
    let reach = entry.reach().and_then(|reach| usize::try_from(reach).ok()).unwrap_or(0);
    let mut lying = vec![0f32; reach];
    read_rows(source, entry, &mut lying)?;
    // The places of the numbers, one axis after the other.
    let mut places = vec![0usize];
    for (n, stride) in entry.shape.iter().zip(entry.strides.as_deref().unwrap_or_default()) {
        places = places.iter().flat_map(|at| (0..*n).map(move |i| at + i * stride)).collect();
    }
    Ok(places.into_iter().map(|at| lying.get(at).copied().unwrap_or(f32::NAN)).collect())
}

fn decode(dtype: Dtype, bytes: &[u8], numbers: &mut [f32]) {
    fn each<const N: usize>(bytes: &[u8], numbers: &mut [f32], f: impl Fn([u8; N]) -> f32) {
        numbers.iter_mut().zip(bytes.as_chunks::<N>().0).for_each(|(number, bytes)| *number = f(*bytes));
    }
    match dtype {
        Dtype::F16 => each(bytes, numbers, |b| half::f16::from_le_bytes(b).to_f32()),
        Dtype::BF16 => each(bytes, numbers, bf16),
        Dtype::F64 => each(bytes, numbers, |b| f64::from_le_bytes(b) as f32),
        Dtype::I64 => each(bytes, numbers, |b| i64::from_le_bytes(b) as f32),
        Dtype::I32 => each(bytes, numbers, |b| i32::from_le_bytes(b) as f32),
        Dtype::U8 | Dtype::BOOL => each(bytes, numbers, |[b]| f32::from(b)),
        _ => each(bytes, numbers, f32::from_le_bytes),
    }
}

/// The upper half of an f32.
fn bf16(bytes: [u8; 2]) -> f32 {
    f32::from_bits(u32::from(u16::from_le_bytes(bytes)) << 16)
}
