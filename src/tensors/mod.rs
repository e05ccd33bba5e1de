//! Tensor files (safetensors and npy), random tensors, and a short description of a tensor.

mod index;

pub(crate) use index::wrap;
pub use index::{TensorIndex, index_tensor};

use crate::checkpoint::{Checkpoint, MAX_HEADER, NpyHeader, npy_name};
use crate::error::{Error, Result};
use crate::files;
use crate::large;
use crate::memory;
use crate::progress::Progress;
use candle_core::{DType, Device, Tensor, WithDType};
use std::collections::BTreeMap;
use std::io::BufWriter;
use std::path::Path;

/// Writes tensors to a safetensors file, which is written completely or not at all.
///
/// # Errors
/// A file that cannot be written.
pub fn save_safetensors(tensors: impl IntoIterator<Item = (String, Tensor)>, path: &Path) -> Result<()> {
    /// The format reserves this name for metadata of the file.
    const RESERVED: &str = "__metadata__";
    let tensors: BTreeMap<_, _> = tensors.into_iter().collect();
    if tensors.contains_key(RESERVED) {
        let error = Error::invalid("the name of a tensor", "one that the format does not reserve", RESERVED);
        return Err(error.with_hint("choose another name"));
    }
    let bytes: usize =
        tensors.values().map(|tensor| tensor.elem_count() * tensor.dtype().size_in_bytes()).sum();
    // Each tensor is copied twice on the way to the bytes of the file.
    memory::check("tensors for a file", 2 * bytes as u64)?;
    let bytes = safetensors::serialize(tensors.iter(), None)
        .map_err(|e| Error::malformed(path, format!("cannot write these tensors: {e}")))?;
    files::write_atomic(path, &bytes)
}

/// Writes one tensor to an npy file, which is written completely or not at all.
///
/// # Errors
/// A file that cannot be written, a dtype that npy does not support.
pub fn save_npy(tensor: &Tensor, path: &Path) -> Result<()> {
    use std::io::Write;
    let header = npy_header(tensor)?;
    let mut file = files::AtomicFile::create(path)?;
    // candle's own `write_npy` makes a system call for every element.
    let mut writer = BufWriter::new(file.writer());
    writer.write_all(&header).map_err(Error::file("write", path))?;
    large::visit(tensor, &mut |part| {
        part.write_bytes(&mut writer).map_err(|error| match error {
            candle_core::Error::Io(source) => Error::file("write", path)(source),
            other => other.into(),
        })
    })?;
    writer.flush().map_err(Error::file("write", path))?;
    drop(writer);
    file.keep()
}

/// The header of an npy file, version 1.0 (numpy's `lib/format.py`).
fn npy_header(tensor: &Tensor) -> Result<Vec<u8>> {
    let dtype = npy_name(tensor.dtype().into()).ok_or_else(|| {
        Error::invalid("a tensor for npy", "a dtype of numpy", tensor.dtype().as_str())
            .with_hint("convert it, as in x.to_dtype(\"f32\"), or write a .safetensors file")
    })?;
    let shape: String = tensor.dims().iter().map(|n| format!("{n}, ")).collect();
    let text = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({}), }}", shape.trim_end());
    // The elements begin at a multiple of 64 bytes, after a line end.
    const BEFORE: usize = 10;
    let length = (BEFORE + text.len() + 1).next_multiple_of(64) - BEFORE;
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend(u16::try_from(length).unwrap_or(u16::MAX).to_le_bytes());
    header.extend(format!("{text:width$}\n", width = length - 1).bytes());
    Ok(header)
}

/// Reads all tensors of a safetensors file.
///
/// # Errors
/// A file that cannot be read or is cut short.
pub fn load_safetensors(path: &Path) -> Result<BTreeMap<String, Tensor>> {
    // Opening the file as a checkpoint checks its header before anything is allocated.
    Checkpoint::open(&[path.to_owned()])?;
    check_memory(path)?;
    Ok(candle_core::safetensors::load(path, &Device::Cpu)?.into_iter().collect())
}

/// Reads the tensor of an npy file.
///
/// # Errors
/// A file that cannot be read or is cut short, an unsupported dtype.
pub fn load_npy(path: &Path) -> Result<Tensor> {
    check_npy(path)?;
    check_memory(path)?;
    Ok(Tensor::read_npy(path)?)
}

/// Normally distributed random numbers, the same for a seed on every machine: SplitMix64 and the Box-Muller transform.
/// (candle's generator on the CPU takes no seed.)
///
/// # Errors
/// A shape that is too large for a tensor or for the memory; [`Error::Interrupted`].
pub(crate) fn randn(shape: &[usize], seed: u64, progress: &Progress) -> Result<Tensor> {
    // The generator's state advances by a constant, so that any element can be computed on its own.
    let uniform = |i: usize| {
        let mut z = seed.wrapping_add((i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    };
    let normal = |i: usize| {
        let radius = (-2.0 * (1.0 - uniform(2 * i)).ln()).sqrt();
        (radius * (std::f64::consts::TAU * uniform(2 * i + 1)).cos()) as f32
    };
    large::filled(shape, progress, |first, elements| {
        elements.iter_mut().enumerate().for_each(|(i, element)| *element = normal(first + i));
    })
}

/// Checks that there is memory for the contents of a file.
fn check_memory(path: &Path) -> Result<()> {
    let size = std::fs::metadata(path).map_err(Error::file("read", path))?.len();
    memory::check(&format!("the tensors of `{}`", path.display()), size)
}

/// Checks an npy header against the size of the file, because candle's reader allocates whatever it says.
fn check_npy(path: &Path) -> Result<()> {
    use std::io::Read;
    let malformed = |message: &str| {
        Error::malformed(path, format!("not a readable npy file: {message}"))
            .with_hint("write it with numpy.save as float32, C order")
    };
    let mut file = files::open(path)?;
    let size = file.metadata().map_err(Error::file("read", path))?.len();
    let mut start = Vec::new();
    file.by_ref().take(MAX_HEADER as u64).read_to_end(&mut start).map_err(Error::file("read", path))?;
    let header = NpyHeader::parse(&start).map_err(|message| malformed(&message))?;
    match header.data_size.checked_add(header.data_start as u64) {
        Some(expected) if expected == size => Ok(()),
        Some(expected) => Err(malformed(&format!("expected {expected} bytes, got {size}"))),
        None => Err(malformed("its shape is too large")),
    }
}

/// Calls `take` with the elements of a tensor in order, in blocks, because there may be no memory for a copy.
pub(crate) fn blocks<T: WithDType>(tensor: &Tensor, mut take: impl FnMut(&[T]) -> Result<()>) -> Result<()> {
    const BLOCK: usize = 1 << 16;
    let flat = tensor.flatten_all()?;
    for start in (0..flat.elem_count()).step_by(BLOCK) {
        let block = flat.narrow(0, start, BLOCK.min(flat.elem_count() - start))?;
        take(&block.to_dtype(T::DTYPE)?.to_vec1::<T>()?)?;
    }
    Ok(())
}

/// Describes a tensor by shape, dtype, a summary and its first rows: `Tensor [3, 192] f32, mean 0.01, std 0.2, …`.
pub(crate) fn describe(tensor: &Tensor) -> Result<String> {
    const ROWS: usize = 4;
    const COLUMNS: usize = 6;
    let (dtype, count) = (tensor.dtype().as_str(), tensor.elem_count());
    let mut text = format!("Tensor {:?} {dtype}", tensor.dims());
    if count == 0 {
        return Ok(text + ", empty");
    }
    if count > 1 {
        let (mut sum, mut squares, mut not_finite) = (0.0, 0.0, 0);
        // Like `f64::min`, these ignore NaN.
        let (mut min, mut max) = (f64::NAN, f64::NAN);
        blocks::<f64>(tensor, |elements| {
            sum += elements.iter().sum::<f64>();
            min = elements.iter().copied().fold(min, f64::min);
            max = elements.iter().copied().fold(max, f64::max);
            not_finite += elements.iter().filter(|x| !x.is_finite()).count();
            Ok(())
        })?;
        let mean = sum / count as f64;
        blocks::<f64>(tensor, |elements| {
            squares += elements.iter().map(|x| (x - mean).powi(2)).sum::<f64>();
            Ok(())
        })?;
        let [mean, std, min, max] = [mean, (squares / count as f64).sqrt(), min, max].map(short);
        text += &format!(", mean {mean}, std {std}, min {min}, max {max}");
        if not_finite > 0 {
            text += &format!(", {not_finite} not finite");
        }
    }
    let columns = tensor.dims().last().copied().unwrap_or(1);
    let (flat, n_rows) = (tensor.flatten_all()?, count / columns);
    for row in 0..n_rows.min(ROWS) {
        let corner = flat.narrow(0, row * columns, columns.min(COLUMNS))?;
        let corner = corner.to_dtype(DType::F64)?.to_vec1::<f64>()?;
        let corner: Vec<_> = corner.iter().map(|x| format!("{:>10}", short(*x))).collect();
        text += &format!("\n  {}{}", corner.join(" "), if columns > COLUMNS { "  …" } else { "" });
    }
    if n_rows > ROWS {
        text += "\n  …";
    }
    Ok(text)
}

/// Formats a number with at most four significant digits.
fn short(x: f64) -> String {
    if x == 0.0 || !x.is_finite() {
        return x.to_string();
    }
    let magnitude = x.abs().log10().floor();
    if (-4.0..6.0).contains(&magnitude) {
        let digits = (3.0 - magnitude).clamp(0.0, 7.0) as usize;
        let text = format!("{x:.digits$}");
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
    } else {
        format!("{x:.3e}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_round_trip() {
        let folder = tempfile::tempdir().unwrap();
        let tensor = Tensor::new(&[[1f32, -2.5, 3.0], [0.0, 1e-9, 7.0]], &Device::Cpu).unwrap();
        let path = folder.path().join("x.npy");
        save_npy(&tensor, &path).unwrap();
        assert_eq!(load_npy(&path).unwrap().to_vec2::<f32>().unwrap(), tensor.to_vec2::<f32>().unwrap());
        let intact = std::fs::read(&path).unwrap();
        for end in 0..intact.len() {
            std::fs::write(&path, &intact[..end]).unwrap();
            assert!(load_npy(&path).is_err(), "cut at {end}");
        }
        let path = folder.path().join("x.safetensors");
        save_safetensors([("a".to_owned(), tensor.clone()), ("b".to_owned(), tensor.t().unwrap())], &path)
            .unwrap();
        let back = load_safetensors(&path).unwrap();
        assert_eq!(back["b"].to_vec2::<f32>().unwrap(), tensor.t().unwrap().to_vec2::<f32>().unwrap());
    }

    #[test]
    fn a_description_has_the_shape_a_summary_and_the_first_rows() {
        let tensor = Tensor::arange(0f32, 20.0, &Device::Cpu).unwrap().reshape((2, 10)).unwrap();
        let text = describe(&tensor).unwrap();
        assert!(text.starts_with("Tensor [2, 10] f32, mean 9.5, std 5.766, min 0, max 19\n"), "{text}");
        assert!(text.contains("0          1          2"), "{text}");
        // More than one block, not contiguous, and with NaN.
        let tensor = Tensor::arange(0f32, 200_000.0, &Device::Cpu).unwrap().reshape((1000, 200)).unwrap();
        let text = describe(&tensor.t().unwrap()).unwrap();
        assert!(
            text.starts_with("Tensor [200, 1000] f32, mean 100000, std 57735, min 0, max 199999\n"),
            "{text}"
        );
        assert!(text.contains("\n           1        201        401"), "{text}");
        let text = describe(&Tensor::new(&[1f32, f32::NAN], &Device::Cpu).unwrap()).unwrap();
        assert!(text.starts_with("Tensor [2] f32, mean NaN, std NaN, min 1, max 1, 1 not finite"), "{text}");
        assert_eq!(
            describe(&Tensor::new(3f32, &Device::Cpu).unwrap()).unwrap(),
            "Tensor [] f32\n           3"
        );
    }
}
