//! Numpy's formats: npy, a header and one array, and npz, a zip archive of npy files.
//! Format: <https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>.

use super::archive::Member;
use super::entry::Entry;
use super::source::Source;
use crate::error::{Error, Result};
use safetensors::Dtype;
use std::collections::BTreeMap;

/// The size limit of a header, in bytes; numpy writes about a hundred.
pub const MAX_HEADER: usize = 1 << 13;

/// The header of an npy file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NpyHeader {
    /// The type of the elements.
    pub dtype: Dtype,
    /// Whether the first index varies fastest (column-major order).
    pub fortran_order: bool,
    /// The shape of the array.
    pub shape: Vec<usize>,
    /// The byte offset of the elements.
    pub data_start: usize,
    /// The size of the elements in bytes.
    pub data_size: u64,
}

impl NpyHeader {
    /// Parses the header from the first bytes of a file.
    ///
    /// # Errors
    /// A description of what is wrong.
    pub fn parse(start: &[u8]) -> std::result::Result<Self, String> {
        let (header_start, length) = match start {
            [0x93, b'N', b'U', b'M', b'P', b'Y', 1, _, a, b, ..] => (10, u32::from_le_bytes([*a, *b, 0, 0])),
            [0x93, b'N', b'U', b'M', b'P', b'Y', 2 | 3, _, a, b, c, d, ..] => {
                (12, u32::from_le_bytes([*a, *b, *c, *d]))
            }
            _ => return Err("its first bytes are not those of npy".to_owned()),
        };
        let data_start = header_start + length as usize;
        let header = start.get(header_start..data_start).and_then(|h| std::str::from_utf8(h).ok());
        let header = header.ok_or("its header is cut short")?;
        let after = |key: &str| header.split_once(key).map(|(_, rest)| rest.trim_start());
        let shape =
            after("'shape':").and_then(|rest| rest.strip_prefix('(')?.split_once(')')).map(|(s, _)| s);
        let parts = shape.ok_or("its header has no shape")?.split(',').map(str::trim);
        let shape = parts.filter(|part| !part.is_empty()).map(str::parse).collect::<Result<Vec<usize>, _>>();
        let shape = shape.map_err(|_| "its shape is not a list of sizes")?;
        let descr = after("'descr':").and_then(|rest| rest.strip_prefix('\'')?.split_once('\''));
        let (descr, _) = descr.ok_or("its header has no dtype")?;
        let dtype = dtype(descr).ok_or_else(|| format!("its dtype `{descr}` is not supported"))?;
        let data_size = super::entry::byte_count(&shape, dtype).ok_or("its shape is too large")?;
        let fortran_order = after("'fortran_order':").is_some_and(|rest| rest.starts_with("True"));
        Ok(NpyHeader { dtype, fortran_order, shape, data_start, data_size })
    }
}

/// The dtypes of numpy, by the names of their little-endian forms.
const DTYPES: [(&str, Dtype); 12] = [
    ("<f4", Dtype::F32),
    ("<f2", Dtype::F16),
    ("<f8", Dtype::F64),
    ("<i8", Dtype::I64),
    ("<i4", Dtype::I32),
    ("<i2", Dtype::I16),
    ("|i1", Dtype::I8),
    ("<u8", Dtype::U64),
    ("<u4", Dtype::U32),
    ("<u2", Dtype::U16),
    ("|u1", Dtype::U8),
    ("|b1", Dtype::BOOL),
];

/// Parses numpy's name of a little-endian dtype.
fn dtype(descr: &str) -> Option<Dtype> {
    DTYPES.iter().find(|(name, _)| *name == descr).map(|(_, dtype)| *dtype)
}

/// Returns numpy's name of a dtype, if it has one.
pub(crate) fn npy_name(dtype: Dtype) -> Option<&'static str> {
    DTYPES.iter().find(|(_, known)| *known == dtype).map(|(name, _)| *name)
}

/// The arrays of an npz archive.
pub(super) fn entries(source: &Source, members: &[Member]) -> Result<BTreeMap<String, Entry>> {
    let mut entries = BTreeMap::new();
    for Member { name, span } in members {
        let Some(array) = name.strip_suffix(".npy") else { continue };
        let malformed = |message: &str| {
            let message = format!("array `{array}`: not a readable npy file: {message}");
            Error::malformed(&source.path, message)
                .with_hint("write it with numpy.savez or numpy.savez_compressed as float32")
        };
        let mut start = vec![0; MAX_HEADER.min(usize::try_from(span.size).unwrap_or(usize::MAX))];
        source.stream(*span, 0)?.fill(&mut start).map_err(|e| source.error(e))?;
        let header = NpyHeader::parse(&start).map_err(|message| malformed(&message))?;
        let expected = header.data_size.checked_add(header.data_start as u64);
        if expected != Some(span.size) {
            return Err(malformed("its size contradicts its shape"));
        }
        let strides = header.shape.iter().scan(1usize, |next, n| {
            let after = next.saturating_mul(*n);
            Some(std::mem::replace(next, after))
        });
        let strides = header.fortran_order.then(|| strides.collect());
        let offset = header.data_start as u64;
        let entry = Entry { strides, offset, ..Entry::new(header.dtype, header.shape, *span) };
        entries.insert(array.to_owned(), entry);
    }
    Ok(entries)
}
