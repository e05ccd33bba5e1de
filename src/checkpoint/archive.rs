//! Lists the members of zip archives, as numpy and torch write them.

use super::source::{Source, Span, Window};
use crate::error::{Error, Result};
use zip::CompressionMethod;
use zip::result::ZipError;

/// One file in an archive.
#[derive(Debug)]
pub(super) struct Member {
    /// The path in the archive.
    pub(super) name: String,
    /// The position of the contents.
    pub(super) span: Span,
}

/// Returns the files of an archive, each checked against the archive's size.
pub(super) fn members(source: &Source) -> Result<Vec<Member>> {
    let damaged = |error: ZipError| source.damaged(format!("not a complete zip archive: {error}"));
    let mut archive = zip::ZipArchive::new(Window::whole(source)).map_err(damaged)?;
    let mut members = Vec::new();
    for index in 0..archive.len() {
        let file = archive.by_index_raw(index).map_err(damaged)?;
        let name = file.name().map_err(damaged)?.into_owned();
        let deflated = file.compression() == CompressionMethod::DEFLATE;
        if file.encrypted() || !(deflated || file.compression() == CompressionMethod::STORE) {
            let message = format!("`{name}` is encrypted, or compressed with something other than deflate");
            return Err(Error::malformed(&source.path, message).with_hint("save the checkpoint again"));
        }
        let Some(start) = file.data_start() else { continue };
        let span = Span { start, stored: file.compressed_size(), size: file.size(), deflated };
        source.check(span, &name)?;
        members.push(Member { name, span });
    }
    Ok(members)
}
