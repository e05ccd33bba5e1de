//! Safetensors checkpoints: headers are read and checked when one is opened, a tensor's numbers when it is asked for.
//!
//! A checkpoint is one file or several shards. Each tensor is read once, in pieces, straight into the `f32`s that will
//! be used, whatever its type on disk and whichever way round it is stored: no second copy is ever held. Tensors that
//! nobody asks for are never read. Format: <https://github.com/huggingface/safetensors#format>.

use crate::error::{Error, Result};
use crate::files;
use safetensors::Dtype;
use safetensors::tensor::Metadata;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

/// How much of a tensor is read at a time, in bytes.
const PIECE: usize = 1 << 20;
/// The largest header that the format allows, in bytes.
const MAX_HEADER: u64 = 100_000_000;

/// Named tensors in one or several safetensors files.
#[derive(Debug)]
pub struct Checkpoint {
    sources: Vec<Source>,
    tensors: BTreeMap<String, Entry>,
}

/// Where the bytes are.
#[derive(Debug)]
struct Source {
    path: PathBuf,
    bytes: Bytes,
}

#[derive(Debug)]
enum Bytes {
    File(Mutex<File>),
    Embedded(&'static [u8]),
}

/// Where one tensor's numbers are.
#[derive(Debug, Clone)]
struct Entry {
    source: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    start: u64,
}

impl Checkpoint {
    /// Opens safetensors files as one checkpoint; a tensor that is in several is taken from the last.
    ///
    /// # Errors
    /// A file that cannot be read, is cut short, or whose header is not what the format says.
    pub fn open(paths: &[PathBuf]) -> Result<Self> {
        let mut checkpoint = Checkpoint { sources: Vec::new(), tensors: BTreeMap::new() };
        for path in paths {
            files::check_is_file(path)?;
            let file = File::open(path).map_err(Error::file("open", path))?;
            let size = file.metadata().map_err(Error::file("read", path))?.len();
            checkpoint.add(Source { path: path.clone(), bytes: Bytes::File(Mutex::new(file)) }, size)?;
        }
        Ok(checkpoint)
    }

    /// Opens a safetensors file that is part of this program; `name` stands for it in messages.
    ///
    /// # Errors
    /// As [`Checkpoint::open`].
    pub fn embedded(name: &str, bytes: &'static [u8]) -> Result<Self> {
        let mut checkpoint = Checkpoint { sources: Vec::new(), tensors: BTreeMap::new() };
        checkpoint.add(Source { path: name.into(), bytes: Bytes::Embedded(bytes) }, bytes.len() as u64)?;
        Ok(checkpoint)
    }

    fn add(&mut self, source: Source, size: u64) -> Result<()> {
        let (data_start, header) = read_header(&source, size)?;
        for name in header.offset_keys() {
            let Some(info) = header.info(&name) else { continue };
            let start = data_start + info.data_offsets.0 as u64;
            let source = self.sources.len();
            self.tensors.insert(name, Entry { source, dtype: info.dtype, shape: info.shape.clone(), start });
        }
        self.sources.push(source);
        Ok(())
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The shape of a tensor, if there is one of that name.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|entry| entry.shape.as_slice())
    }

    /// The type of a tensor's numbers on disk ("f32", "f16", "bf16", …), if there is one of that name.
    pub fn dtype(&self, name: &str) -> Option<String> {
        self.tensors.get(name).map(|entry| entry.dtype.to_string().to_lowercase())
    }

    /// The files.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.sources.iter().map(|source| source.path.as_path())
    }

    /// Checks that a tensor is there, has this shape and holds numbers, without reading it.
    ///
    /// # Errors
    /// Names the file, the tensor, and what was expected and found.
    pub fn require(&self, name: &str, shape: &[usize]) -> Result<()> {
        self.entry(name, shape).map(|_| ())
    }

    /// Reads a tensor of this shape, row by row.
    ///
    /// # Errors
    /// As [`Checkpoint::require`]; a file that cannot be read.
    pub fn read(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let (source, entry) = self.entry(name, shape)?;
        let count = shape.iter().product();
        let mut numbers = Vec::with_capacity(count);
        read_pieces(source, entry, count, PIECE, |piece| numbers.extend_from_slice(piece))?;
        Ok(numbers)
    }

    /// Reads a matrix that is stored as `[rows, columns]` so that the result is `[columns, rows]`, row by row.
    ///
    /// # Errors
    /// As [`Checkpoint::read`].
    pub fn read_transposed(&self, name: &str, [rows, columns]: [usize; 2]) -> Result<Vec<f32>> {
        /// So many rows at a time: what is written then fills whole cache lines.
        const BAND: usize = 16;
        let (source, entry) = self.entry(name, &[rows, columns])?;
        let mut numbers = vec![0f32; rows * columns];
        let mut row = 0;
        let band_bytes = BAND * columns * size_of_dtype(entry.dtype);
        read_pieces(source, entry, rows * columns, band_bytes.max(1), |band| {
            let height = band.len() / columns.max(1);
            for (column, target) in numbers.chunks_exact_mut(rows.max(1)).enumerate() {
                for (r, cell) in target[row..row + height].iter_mut().enumerate() {
                    *cell = band[r * columns + column];
                }
            }
            row += height;
        })?;
        Ok(numbers)
    }

    fn entry(&self, name: &str, shape: &[usize]) -> Result<(&Source, &Entry)> {
        let Some(entry) = self.tensors.get(name) else {
            return Err(Error::Unknown {
                kind: "tensor",
                name: name.to_owned(),
                place: self.place(),
                known: self.names().map(str::to_owned).collect(),
            });
        };
        let source = &self.sources[entry.source];
        if entry.shape != shape {
            return Err(Error::malformed(
                &source.path,
                format!("tensor `{name}`: expected shape {shape:?}, got {:?}", entry.shape),
            )
            .with_hint("the configuration beside the weights belongs to another checkpoint"));
        }
        if !matches!(entry.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F64) {
            return Err(Error::malformed(
                &source.path,
                format!("tensor `{name}`: expected f32, f16, bf16 or f64, got {}", entry.dtype),
            )
            .with_hint("quantised checkpoints are not read: use the original weights"));
        }
        Ok((source, entry))
    }

    fn place(&self) -> String {
        let names: Vec<_> = self.paths().map(|p| format!("`{}`", p.display())).collect();
        match names.as_slice() {
            [one] => one.clone(),
            [first, ..] => format!("{first} and {} more files", names.len() - 1),
            [] => "an empty checkpoint".to_owned(),
        }
    }
}

/// A value that is read from a checkpoint when it is first used; whoever comes meanwhile waits for it.
#[derive(Debug)]
pub struct Lazy<T> {
    cell: OnceLock<T>,
    reading: Mutex<()>,
}

impl<T> Default for Lazy<T> {
    fn default() -> Self {
        Lazy { cell: OnceLock::new(), reading: Mutex::new(()) }
    }
}

impl<T> Lazy<T> {
    /// The value, which `read` reads if it is not there yet.
    ///
    /// # Errors
    /// Whatever reading returns; the next call reads again.
    pub fn get(&self, read: impl FnOnce() -> Result<T>) -> Result<&T> {
        if let Some(value) = self.cell.get() {
            return Ok(value);
        }
        let _reading = self.reading.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match self.cell.get() {
            Some(value) => Ok(value),
            None => {
                let value = read()?;
                Ok(self.cell.get_or_init(|| value))
            }
        }
    }
}

/// Reads and checks the header; returns where the numbers begin and what is there.
fn read_header(source: &Source, size: u64) -> Result<(u64, Metadata)> {
    let cut_short = |expected: u64| {
        Error::malformed(
            &source.path,
            format!("not a whole safetensors file: expected {expected} bytes, got {size}"),
        )
        .with_hint("the file was cut short or is of another format: download or copy it again")
    };
    if size < 8 {
        return Err(cut_short(8));
    }
    let mut length = [0u8; 8];
    source.read_at(0, &mut length)?;
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER {
        return Err(Error::malformed(
            &source.path,
            "not a safetensors file: its header length makes no sense",
        )
        .with_hint(
            "a file that Git LFS or a download left as a pointer looks like this: download it again",
        ));
    }
    if size < 8 + length {
        return Err(cut_short(8 + length));
    }
    let mut header = vec![0u8; length as usize];
    source.read_at(8, &mut header)?;
    let header: Metadata = serde_json::from_slice(&header).map_err(|e| {
        Error::malformed(&source.path, format!("not a safetensors file: invalid header: {e}"))
            .with_hint("download or copy the file again")
    })?;
    let expected = 8 + length + header.data_len() as u64;
    if size != expected {
        return Err(cut_short(expected));
    }
    Ok((8 + length, header))
}

/// Reads `count` numbers of a tensor in pieces of at most `piece` bytes and hands each on as `f32`s.
fn read_pieces(
    source: &Source,
    entry: &Entry,
    count: usize,
    piece: usize,
    mut take: impl FnMut(&[f32]),
) -> Result<()> {
    let width = size_of_dtype(entry.dtype);
    let per_piece = (piece / width).max(1);
    let mut bytes = vec![0u8; per_piece.min(count) * width];
    let mut numbers = Vec::with_capacity(per_piece.min(count));
    let mut done = 0;
    while done < count {
        let now = per_piece.min(count - done);
        let bytes = &mut bytes[..now * width];
        source.read_at(entry.start + (done * width) as u64, bytes)?;
        numbers.clear();
        decode(entry.dtype, bytes, &mut numbers);
        take(&numbers);
        done += now;
    }
    Ok(())
}

fn decode(dtype: Dtype, bytes: &[u8], numbers: &mut Vec<f32>) {
    fn each<const N: usize>(bytes: &[u8], numbers: &mut Vec<f32>, f: impl Fn([u8; N]) -> f32) {
        numbers.extend(bytes.as_chunks::<N>().0.iter().map(|b| f(*b)));
    }
    match dtype {
        Dtype::F16 => each(bytes, numbers, |b| half::f16::from_le_bytes(b).to_f32()),
        Dtype::BF16 => each(bytes, numbers, |b| half::bf16::from_le_bytes(b).to_f32()),
        Dtype::F64 => each(bytes, numbers, |b| f64::from_le_bytes(b) as f32),
        _ => each(bytes, numbers, f32::from_le_bytes),
    }
}

fn size_of_dtype(dtype: Dtype) -> usize {
    dtype.bitsize().div_ceil(8)
}

impl Source {
    fn read_at(&self, start: u64, into: &mut [u8]) -> Result<()> {
        match &self.bytes {
            Bytes::Embedded(bytes) => {
                let start = start as usize;
                match bytes.get(start..start + into.len()) {
                    Some(slice) => into.copy_from_slice(slice),
                    None => return Err(Error::malformed(&self.path, "ends too early")),
                }
                Ok(())
            }
            Bytes::File(file) => {
                let mut file = file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                file.seek(SeekFrom::Start(start))
                    .and_then(|_| file.read_exact(into))
                    .map_err(Error::file("read", &self.path))
            }
        }
    }
}
