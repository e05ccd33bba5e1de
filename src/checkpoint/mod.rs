//! Checkpoints: names and shapes are read and checked on opening, the elements of a tensor when it is requested.
//!
//! A checkpoint is one or more files: safetensors, numpy's npz or torch's pt, distinguished by their first bytes. Each
//! tensor is read once, on all threads, directly into its final elements (f32, or bf16 or f16 to hold them as stored),
//! whatever its type and memory order on disk; no second copy is held. Unused tensors are never read. No code in a file is
//! run, and no more is allocated than the file's size justifies.

mod archive;
mod entry;
mod lazy;
mod npy;
mod pickle;
mod read;
mod safetensors;
mod source;
mod torch;

pub use lazy::Lazy;
pub(crate) use npy::npy_name;
pub use npy::{MAX_HEADER, NpyHeader};

use crate::error::{Error, Result};
use crate::files;
use crate::progress::Progress;
use ::safetensors::Dtype;
use entry::{Entry, Order};
use rayon::prelude::*;
pub use read::Held;
use read::{read_rows, read_scattered, read_transposed};
use serde_json::Value;
use sha2::{Digest, Sha256};
use source::Source;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The values in a checkpoint that are not tensors, by name.
type Values = BTreeMap<String, Value>;

/// Named tensors in one or more files.
#[derive(Debug)]
pub struct Checkpoint {
    sources: Vec<Source>,
    tensors: BTreeMap<String, Entry>,
    values: Values,
    sha256: Lazy<String>,
}

impl Checkpoint {
    /// Opens files as one checkpoint; a tensor that is in several files is read from the last.
    ///
    /// # Errors
    /// A file that cannot be read, is cut short, or has an invalid header.
    pub fn open(paths: &[PathBuf]) -> Result<Self> {
        Checkpoint::of(paths.iter().map(|path| Source::open(path)))
    }

    /// Opens a file embedded in this program; `name` identifies it in messages.
    ///
    /// # Errors
    /// See [`Checkpoint::open`].
    pub fn embedded(name: &str, bytes: &'static [u8]) -> Result<Self> {
        Checkpoint::of([Ok(Source::embedded(name, bytes))])
    }

    fn of(opened: impl IntoIterator<Item = Result<Source>>) -> Result<Self> {
        let (mut sources, mut tensors, mut values) = (Vec::new(), BTreeMap::new(), Values::new());
        for source in opened {
            let source = source?;
            let (own_tensors, own_values) = contents(&source)?;
            for (name, entry) in own_tensors {
                entry.check(&source, &name)?;
                tensors.insert(name, Entry { source: sources.len(), ..entry });
            }
            values.extend(own_values);
            sources.push(source);
        }
        Ok(Checkpoint { sources, tensors, values, sha256: Lazy::default() })
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The shape of a tensor; `None` if there is no tensor of that name.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|entry| entry.shape.as_slice())
    }

    /// The dtype of a tensor on disk ("f32", "f16", "bf16", …); `None` if there is no tensor of that name.
    pub fn dtype(&self, name: &str) -> Option<String> {
        self.tensors.get(name).map(|entry| entry.dtype.to_string().to_lowercase())
    }

    /// The value of this name that is not a tensor, as torch checkpoints may contain.
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    /// Returns a single number: a value, or the element of a tensor of size 1, integers included. `None` otherwise.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn scalar(&self, name: &str) -> Result<Option<f64>> {
        if let Some(value) = self.values.get(name) {
            return Ok(value.as_f64());
        }
        let numeric = [Dtype::F32, Dtype::F16, Dtype::BF16, Dtype::F64, Dtype::I64, Dtype::I32, Dtype::U8];
        let Some(entry) = self.tensors.get(name) else { return Ok(None) };
        if !numeric.contains(&entry.dtype) || entry.shape.iter().any(|n| *n != 1) {
            return Ok(None);
        }
        let mut number = [0f32];
        read_rows(&self.sources[entry.source], entry, &mut number)?;
        Ok(Some(f64::from(number[0])))
    }

    /// The paths of the files, in the order of [`Checkpoint::open`].
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.sources.iter().map(|source| source.path.as_path())
    }

    /// A hash of the files in hexadecimal: the SHA-256 of their sizes and the hashes of 64 MiB parts. Computed once.
    ///
    /// # Errors
    /// A file that cannot be read; [`Error::Interrupted`].
    pub fn sha256(&self, progress: &Progress) -> Result<&str> {
        self.sha256.get(|| self.hash(progress)).map(String::as_str)
    }

    fn hash(&self, progress: &Progress) -> Result<String> {
        const PART: u64 = 64 << 20;
        let parts = self.sources.iter().flat_map(|source| {
            let starts = (0..source.size.div_ceil(PART)).map(|i| i * PART);
            starts.map(move |start| (source, start, (source.size - start).min(PART)))
        });
        let parts: Vec<_> = parts.collect();
        let hash = |&(source, mut at, left): &(&Source, u64, u64)| {
            let (end, mut hash, mut buffer) = (at + left, Sha256::new(), vec![0; 1 << 18]);
            while at < end {
                progress.check()?;
                let n = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
                source.read_at(at, &mut buffer[..n])?;
                hash.update(&buffer[..n]);
                at += n as u64;
            }
            Ok(hash.finalize())
        };
        let hashes: Vec<_> = parts.par_iter().map(hash).collect::<Result<_>>()?;
        let sizes = self.sources.iter().map(|source| source.size.to_le_bytes());
        let hash = sizes.fold(Sha256::new(), Sha256::chain_update);
        Ok(files::hex(&hashes.iter().fold(hash, Sha256::chain_update).finalize()))
    }

    /// Checks that a tensor exists with this shape and a float dtype, without reading it.
    ///
    /// # Errors
    /// [`Error::Unknown`] or [`Error::Malformed`], with the file, the tensor, what was expected and what was found.
    pub fn require(&self, name: &str, shape: &[usize]) -> Result<()> {
        self.entry(name, shape).map(|_| ())
    }

    /// Reads a tensor of this shape in row-major order.
    ///
    /// # Errors
    /// See [`Checkpoint::require`]; a file that cannot be read.
    pub fn read<T: Held>(&self, name: &str, shape: &[usize]) -> Result<Vec<T>> {
        let (source, entry) = self.entry(name, shape)?;
        let mut elements = zeros(shape.iter().product())?;
        match (entry.order(), shape) {
            (Order::Columns, [rows, columns]) => {
                read_transposed(source, entry, [*columns, *rows], &mut elements, *columns, 0)?;
            }
            (Order::Strided, _) => elements = read_scattered(source, entry)?,
            _ => read_rows(source, entry, &mut elements)?,
        }
        Ok(elements)
    }

    /// Reads a matrix stored as `[rows, columns]` and returns its transpose in f32, `[columns, rows]`, in row-major order.
    ///
    /// # Errors
    /// See [`Checkpoint::read`].
    pub fn read_transposed(&self, name: &str, [rows, columns]: [usize; 2]) -> Result<Vec<f32>> {
        let mut elements = zeros(rows * columns)?;
        self.read_transposed_into(name, [rows, columns], &mut elements, 0)?;
        Ok(elements)
    }

    /// Like [`Checkpoint::read_transposed`], into the columns from `start` on of a wider matrix with `columns` rows.
    ///
    /// # Errors
    /// See [`Checkpoint::read`].
    pub fn read_transposed_into(
        &self,
        name: &str,
        [rows, columns]: [usize; 2],
        target: &mut [f32],
        start: usize,
    ) -> Result<()> {
        let (source, entry) = self.entry(name, &[rows, columns])?;
        if columns == 0 {
            return Ok(());
        }
        let width = target.len() / columns;
        let put = |target: &mut [f32], column: usize, elements: &[f32]| {
            target[column * width + start..][..rows].copy_from_slice(elements);
        };
        match entry.order() {
            Order::Rows => {
                read_transposed(source, entry, [rows, columns], target, width, start)?;
            }
            Order::Columns => {
                let mut elements = zeros(rows * columns)?;
                read_rows(source, entry, &mut elements)?;
                for (column, elements) in elements.chunks_exact(rows.max(1)).enumerate() {
                    put(target, column, elements);
                }
            }
            Order::Strided => {
                let elements: Vec<f32> = read_scattered(source, entry)?;
                for column in 0..columns {
                    let elements: Vec<_> = elements.iter().skip(column).step_by(columns).copied().collect();
                    put(target, column, &elements);
                }
            }
        }
        Ok(())
    }

    fn entry(&self, name: &str, shape: &[usize]) -> Result<(&Source, &Entry)> {
        let Some(entry) = self.tensors.get(name) else {
            return Err(Error::unknown("tensor", name, self.names()).with_place(self.place()));
        };
        let source = &self.sources[entry.source];
        let wrong = |message: String| Error::malformed(&source.path, format!("tensor `{name}`: {message}"));
        if entry.shape != shape {
            return Err(wrong(format!("expected shape {shape:?}, got {:?}", entry.shape))
                .with_hint("the configuration next to the weights belongs to another checkpoint"));
        }
        if !matches!(entry.dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F64) {
            return Err(wrong(format!("expected f32, f16, bf16 or f64, got {}", entry.dtype))
                .with_hint("quantized checkpoints are not supported: use the original weights"));
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

/// Memory for `n` elements.
///
/// # Errors
/// There is not enough.
pub(crate) fn zeros<T: Held>(n: usize) -> Result<Vec<T>> {
    let megabytes = n.saturating_mul(size_of::<T>()) >> 20;
    let error = || {
        Error::mismatch(
            format!("there is not enough memory for a tensor of {megabytes} MiB"),
            "close other programs, or read a smaller checkpoint",
        )
    };
    saescope_kernels::zeros(n).ok_or_else(error)
}

/// Reads the list of a file's contents, in the format that its first bytes indicate.
fn contents(source: &Source) -> Result<(BTreeMap<String, Entry>, Values)> {
    let start = source.beginning(4)?;
    if start.starts_with(b"PK") {
        let members = archive::members(source)?;
        return match torch::pickle_of(&members) {
            Some(pickle) => torch::entries(source, &members, pickle),
            None => Ok((npy::entries(source, &members)?, Values::new())),
        };
    }
    let extension = source.path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    if start.starts_with(&[0x80, 2]) || matches!(extension, "pt" | "pth" | "bin" | "npz") {
        let message = "expected a zip archive, as torch and numpy write checkpoints, got another format";
        return Err(Error::malformed(&source.path, message).with_hint(
            "if torch before 1.6 wrote it, load it with a current torch and save it again; if it is a pointer that Git \
             LFS or a download left, download the file itself",
        ));
    }
    Ok((safetensors::entries(source)?, Values::new()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/containers").join(name)
    }

    fn open(name: &str) -> Result<Checkpoint> {
        Checkpoint::open(&[fixture(name)])
    }

    /// The transpose of a matrix, as in numpy.
    fn transposed(elements: &[f32], [rows, columns]: [usize; 2]) -> Vec<f32> {
        (0..columns).flat_map(|c| (0..rows).map(move |r| elements[r * columns + c])).collect()
    }

    #[test]
    fn every_container_gives_the_same_tensors() {
        for (name, expected) in [
            ("views.pt", "views.safetensors"),
            ("nested.pt", "nested.safetensors"),
            ("two.pt", "two.safetensors"),
            ("arrays.npz", "arrays.safetensors"),
            ("arrays_deflated.npz", "arrays.safetensors"),
        ] {
            let (got, expected) = (open(name).unwrap(), open(expected).unwrap());
            for tensor in expected.names() {
                let shape = expected.shape(tensor).unwrap();
                let elements = expected.read::<f32>(tensor, shape).unwrap();
                assert_eq!(got.read::<f32>(tensor, shape).unwrap(), elements, "{name}: {tensor}");
                if let [rows, columns] = *shape {
                    let got = got.read_transposed(tensor, [rows, columns]).unwrap();
                    assert_eq!(got, transposed(&elements, [rows, columns]), "{name}: {tensor}, transposed");
                }
            }
        }
    }

    #[test]
    fn objects_other_than_tensors_are_values() {
        let views = open("views.pt").unwrap();
        for (name, number) in [
            ("k", Some(7.0)),
            ("threshold", Some(-1.5)),
            ("one", Some(2.0)),
            ("count", Some(12.0)),
            ("factor", Some(0.25)),
            ("name", None),
            ("plain", None),
            ("absent", None),
        ] {
            assert_eq!(views.scalar(name).unwrap(), number, "{name}");
        }
        assert_eq!(views.value("name").unwrap(), "TopK");
        let nested = serde_json::json!({ "k": 32, "list": [1, 2.5, "x", null, true], "big": 1u64 << 40 });
        assert_eq!(views.value("nested"), Some(&nested));
        assert_eq!(open("arrays.npz").unwrap().scalar("k").unwrap(), Some(9.0));
    }

    #[test]
    fn unreadable_files_are_explained() {
        let error = open("legacy.pt").unwrap_err();
        assert!(error.hint().unwrap().contains("save it again"), "{error}");
        let error = open("says_far_too_much.npz").unwrap_err();
        assert!(error.to_string().contains("its size does not fit a file of"), "{error}");
        let longer = open("longer_than_it_says.npz").unwrap();
        let error = longer.read::<f32>("x", &[4096]).unwrap_err();
        assert!(error.to_string().contains("more than its stated size"), "{error}");
        let error = open("views.pt").unwrap().read::<f32>("k", &[]).unwrap_err();
        assert!(error.to_string().contains("expected f32, f16, bf16 or f64, got I64"), "{error}");
    }

    /// Opens a file with these bytes and reads everything in it; false on an error. It must not panic.
    fn read_all(name: &str, bytes: Vec<u8>) -> bool {
        let read = || {
            let checkpoint = Checkpoint::embedded(name, Box::leak(bytes.into_boxed_slice()))?;
            for name in checkpoint.names() {
                let shape = checkpoint.shape(name).unwrap_or_default();
                checkpoint.scalar(name)?;
                if checkpoint.require(name, shape).is_ok() {
                    checkpoint.read::<f32>(name, shape)?;
                }
                if let [rows, columns] = *shape {
                    let _ = checkpoint.read_transposed(name, [rows, columns]);
                }
            }
            Ok::<_, Error>(())
        };
        read().is_ok()
    }

    #[test]
    fn a_damaged_file_never_panics() {
        let mut state = 1u64;
        let mut random = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        for name in ["views.pt", "nested.pt", "arrays.npz", "arrays_deflated.npz", "views.safetensors"] {
            let intact = std::fs::read(fixture(name)).unwrap();
            assert!(read_all(name, intact.clone()), "{name}");
            for end in (0..intact.len()).step_by(1 + intact.len() / 400) {
                assert!(!read_all(name, intact[..end].to_vec()), "{name} cut at {end}");
            }
            let mut failed = 0;
            for _ in 0..3000 {
                let mut damaged = intact.clone();
                for _ in 0..=random(3) {
                    let at = random(damaged.len());
                    damaged[at] =
                        if random(2) == 0 { damaged[at] ^ (1 << random(8)) } else { random(256) as u8 };
                }
                failed += usize::from(!read_all(name, damaged));
            }
            assert!(failed > 100, "{name}: {failed}");
        }
    }
}
