//! Safetensors: a JSON header, then the elements. Format: <https://github.com/huggingface/safetensors#format>.

use super::entry::Entry;
use super::source::{Source, Span};
use crate::error::{Error, Result};
use safetensors::tensor::Metadata;
use std::collections::BTreeMap;

/// The format's size limit of a header, in bytes.
const MAX_HEADER: u64 = 100_000_000;

/// Reads and checks the header of a safetensors file, and returns its tensors.
pub(super) fn entries(source: &Source) -> Result<BTreeMap<String, Entry>> {
    let (data_start, header) = read_header(source)?;
    let mut entries = BTreeMap::new();
    for name in header.offset_keys() {
        let Some(info) = header.info(&name) else { continue };
        let (start, end) = info.data_offsets;
        let span = Span::plain(data_start + start as u64, (end - start) as u64);
        entries.insert(name, Entry::new(info.dtype, info.shape.clone(), span));
    }
    Ok(entries)
}

/// Reads the header and returns it with the byte offset of the elements.
fn read_header(source: &Source) -> Result<(u64, Metadata)> {
    let size = source.size;
    let cut_short = |expected: u64| {
        Error::malformed(
            &source.path,
            format!("not a complete safetensors file: expected {expected} bytes, got {size}"),
        )
        .with_hint("the file was cut short or has another format: download or copy it again")
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
            "not a safetensors file: its header length is out of range",
        )
        .with_hint("if it is a pointer that Git LFS or a download left, download the file itself"));
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
