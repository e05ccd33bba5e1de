//! Reads tensor elements as f32, bf16 or f16: on all threads, from any type and in any memory order.

use super::entry::{Entry, width};
use super::source::Source;
use crate::error::Result;
use crate::threads::in_runs;
use half::{bf16, f16};
use safetensors::Dtype;

/// The height and width of a tile that is transposed in its own buffer: rows of the target are often a power of two
/// apart, so a cache could hold only a few of them at once.
const TILE: usize = 32;
/// The element of bytes of a tensor that are read at a time.
const PIECE: usize = 1 << 20;

/// A type that elements are read as. Elements of another type are rounded to it.
pub trait Held: saescope_kernels::Element + Default {
    /// Converts an f32.
    fn from_f32(x: f32) -> Self;
    /// Converts a bf16.
    fn from_bf16(x: bf16) -> Self;
    /// Converts an f16.
    fn from_f16(x: f16) -> Self;
}

impl Held for f32 {
    fn from_f32(x: f32) -> f32 {
        x
    }

    fn from_bf16(x: bf16) -> f32 {
        // The upper half of an f32.
        f32::from_bits(u32::from(x.to_bits()) << 16)
    }

    fn from_f16(x: f16) -> f32 {
        x.to_f32()
    }
}

impl Held for bf16 {
    fn from_f32(x: f32) -> bf16 {
        bf16::from_f32(x)
    }

    fn from_bf16(x: bf16) -> bf16 {
        x
    }

    fn from_f16(x: f16) -> bf16 {
        bf16::from_f32(x.to_f32())
    }
}

impl Held for f16 {
    fn from_f32(x: f32) -> f16 {
        f16::from_f32(x)
    }

    fn from_bf16(x: bf16) -> f16 {
        f16::from_f32(x.to_f32())
    }

    fn from_f16(x: f16) -> f16 {
        x
    }
}

/// Reads contiguous elements. The pieces of a plain span are read in parallel.
pub(super) fn read_rows<T: Held>(source: &Source, entry: &Entry, elements: &mut [T]) -> Result<()> {
    let width = width(entry.dtype);
    let per_piece = PIECE / width;
    if entry.span.deflated {
        let mut stream = source.stream(entry.span, entry.offset)?;
        let mut bytes = vec![0u8; per_piece.min(elements.len()) * width];
        return elements.chunks_mut(per_piece).try_for_each(|elements| {
            let bytes = &mut bytes[..elements.len() * width];
            stream.fill(bytes).map_err(|e| source.error(e))?;
            decode(entry.dtype, bytes, elements);
            Ok(())
        });
    }
    let start = entry.span.start + entry.offset;
    on_threads(elements.chunks_mut(per_piece).enumerate(), |bytes, (i, elements)| {
        bytes.resize(elements.len() * width, 0u8);
        source.read_at(start + (i * per_piece * width) as u64, bytes)?;
        decode(entry.dtype, bytes, elements);
        Ok(())
    })
}

/// Runs `work` on all items, in runs by [`in_runs`], each up to its first error and with a scratch buffer. The caller holds a
/// lock on the value being read.
fn on_threads<T: Send>(
    items: impl ExactSizeIterator<Item = T>,
    work: impl Fn(&mut Vec<u8>, T) -> Result<()> + Sync,
) -> Result<()> {
    let all = |items: Vec<T>| {
        let mut bytes = Vec::new();
        items.into_iter().try_for_each(|item| work(&mut bytes, item))
    };
    in_runs(items, all).into_iter().collect()
}

/// Reads a matrix of `[rows, columns]` and transposes it into the columns from `start` on of `target`, whose rows have
/// length `wide`. Some megabytes are read at a time.
pub(super) fn read_transposed<T: Held>(
    source: &Source,
    entry: &Entry,
    [rows, columns]: [usize; 2],
    target: &mut [T],
    wide: usize,
    start: usize,
) -> Result<()> {
    const BAND: usize = 32 << 20;
    let row_bytes = columns * width(entry.dtype);
    if row_bytes == 0 || wide == 0 {
        return Ok(());
    }
    let height = (BAND / row_bytes).next_multiple_of(TILE).max(TILE);
    let mut stream = source.stream(entry.span, entry.offset)?;
    let mut bytes = vec![0u8; height.min(rows) * row_bytes];
    for row in (0..rows).step_by(height) {
        let bytes = &mut bytes[..height.min(rows - row) * row_bytes];
        if entry.span.deflated {
            stream.fill(bytes).map_err(|e| source.error(e))?;
        } else {
            let from = entry.span.start + entry.offset + (row * row_bytes) as u64;
            on_threads(bytes.chunks_mut(PIECE).enumerate(), |_, (i, piece)| {
                source.read_at(from + (i * PIECE) as u64, piece)
            })?;
        }
        transpose(entry.dtype, bytes, columns, target, wide, start + row)?;
    }
    Ok(())
}

/// Transposes a matrix with rows of length `columns` into the columns from `start` on of `target`, whose rows have
/// length `width`.
fn transpose<T: Held>(
    dtype: Dtype,
    bytes: &[u8],
    columns: usize,
    target: &mut [T],
    width: usize,
    start: usize,
) -> Result<()> {
    fn each<T: Held, const N: usize>(
        bytes: &[u8],
        columns: usize,
        target: &mut [T],
        [width, start]: [usize; 2],
        f: impl Fn([u8; N]) -> T + Sync,
    ) -> Result<()> {
        let elements = bytes.as_chunks::<N>().0;
        let bands = target.chunks_mut(TILE * width).enumerate();
        on_threads(bands, |_, (band, target)| {
            let mut tile = [[T::default(); TILE]; TILE];
            for (i, rows) in elements.chunks(TILE * columns).enumerate() {
                let height = rows.len() / columns;
                for (r, row) in rows.chunks_exact(columns).enumerate().take(TILE) {
                    let row = &row[band * TILE..columns.min((band + 1) * TILE)];
                    for (tile, element) in tile.iter_mut().zip(row) {
                        tile[r] = f(*element);
                    }
                }
                for (target, tile) in target.chunks_exact_mut(width).zip(&tile) {
                    target[start + i * TILE..][..height].copy_from_slice(&tile[..height]);
                }
            }
            Ok(())
        })
    }
    let place = [width, start];
    match dtype {
        Dtype::F16 => each(bytes, columns, target, place, |b| T::from_f16(f16::from_le_bytes(b))),
        Dtype::BF16 => each(bytes, columns, target, place, |b| T::from_bf16(bf16::from_le_bytes(b))),
        Dtype::F64 => each(bytes, columns, target, place, |b| T::from_f32(f64::from_le_bytes(b) as f32)),
        _ => each(bytes, columns, target, place, |b| T::from_f32(f32::from_le_bytes(b))),
    }
}

/// Reads a tensor whose elements are not contiguous.
pub(super) fn read_scattered<T: Held>(source: &Source, entry: &Entry) -> Result<Vec<T>> {
    let reach = entry.reach().and_then(|reach| usize::try_from(reach).ok()).unwrap_or(0);
    let mut stored = vec![T::default(); reach];
    read_rows(source, entry, &mut stored)?;
    // The positions of the elements, extended axis by axis.
    let mut positions = vec![0usize];
    for (n, stride) in entry.shape.iter().zip(entry.strides.as_deref().unwrap_or_default()) {
        positions = positions.iter().flat_map(|at| (0..*n).map(move |i| at + i * stride)).collect();
    }
    Ok(positions.into_iter().map(|at| stored.get(at).copied().unwrap_or(T::from_f32(f32::NAN))).collect())
}

fn decode<T: Held>(dtype: Dtype, bytes: &[u8], elements: &mut [T]) {
    fn each<T, const N: usize>(bytes: &[u8], elements: &mut [T], f: impl Fn([u8; N]) -> T) {
        elements.iter_mut().zip(bytes.as_chunks::<N>().0).for_each(|(element, bytes)| *element = f(*bytes));
    }
    match dtype {
        Dtype::F16 => each(bytes, elements, |b| T::from_f16(f16::from_le_bytes(b))),
        Dtype::BF16 => each(bytes, elements, |b| T::from_bf16(bf16::from_le_bytes(b))),
        Dtype::F64 => each(bytes, elements, |b| T::from_f32(f64::from_le_bytes(b) as f32)),
        Dtype::I64 => each(bytes, elements, |b| T::from_f32(i64::from_le_bytes(b) as f32)),
        Dtype::I32 => each(bytes, elements, |b| T::from_f32(i32::from_le_bytes(b) as f32)),
        Dtype::U8 | Dtype::BOOL => each(bytes, elements, |[b]| T::from_f32(f32::from(b))),
        _ => each(bytes, elements, |b| T::from_f32(f32::from_le_bytes(b))),
    }
}
