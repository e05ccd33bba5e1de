//! Arrow: the stream of record batches that Python's `save_to_disk` writes, and Arrow files (Feather), which hold the
//! same messages between two magic strings.
//!
//! The library allocates memory as bytes arrive, not for the size that a message claims. Compressed batches, which
//! `datasets` does not write, are not supported.

use super::fault::{Document, Fault};
use super::source::Source;
use super::text::Compression;
use crate::error::{Error, Result};
use crate::files;
use crate::guard::guarded;
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use arrow_buffer::Buffer;
use arrow_ipc::reader::StreamDecoder;
use arrow_schema::{ArrowError, DataType, Schema};
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The number of bytes passed to the decoder at once.
const CHUNK: usize = 1 << 20;

/// The size limit of one batch, 1 GiB; `datasets` writes batches of a thousand rows.
const LARGEST: u64 = 1 << 30;

/// The magic bytes of an Arrow file with a footer, which contains the same batches as a stream.
const MARK: &[u8] = b"ARROW1\0\0";

/// The documents of an Arrow file.
pub(super) struct Arrow {
    path: PathBuf,
    column: String,
    file: File,
    /// The first bytes, already read to detect the format.
    head: Vec<u8>,
    read: Arc<AtomicU64>,
    decoder: StreamDecoder,
    waiting: Buffer,
    /// The number of bytes read since the last batch.
    since_batch: u64,
    strings: Option<ArrayRef>,
    next: usize,
    row: u64,
    is_over: bool,
}

impl Arrow {
    pub(super) fn open(source: &Source, column: &str) -> Result<Self> {
        let path = source.path.clone();
        let mut file = files::open(&path)?;
        let mut head = Vec::new();
        file.by_ref().take(Compression::HEAD).read_to_end(&mut head).map_err(Error::file("read", &path))?;
        if let Some(compression) = Compression::of(&head) {
            return Err(super::text::not_unpacked(&path, compression));
        }
        if let Some(rest) = head.strip_prefix(MARK) {
            head = rest.to_vec();
        }
        let mut arrow = Arrow {
            path,
            column: column.to_owned(),
            file,
            head,
            read: source.read.clone(),
            decoder: StreamDecoder::new(),
            waiting: Buffer::from(Vec::<u8>::new()),
            since_batch: 0,
            strings: None,
            next: 0,
            row: 0,
            is_over: false,
        };
        arrow.read_batch()?;
        match arrow.decoder.schema() {
            Some(schema) => arrow.find_column(&schema).map(|_| arrow),
            None => Err(arrow.malformed("expected record batches, got the end of the file".to_owned())),
        }
    }

    fn advance(&mut self) -> Result<Option<Option<String>>, Fault> {
        loop {
            if let Some(strings) = &self.strings
                && self.next < strings.len()
            {
                let text = text_at(strings, self.next);
                self.next += 1;
                self.row += 1;
                return Ok(Some(text));
            }
            if self.is_over {
                return Ok(None);
            }
            self.read_batch()?;
        }
    }

    /// Reads up to the next batch, or to the end.
    fn read_batch(&mut self) -> Result<()> {
        (self.strings, self.next) = (None, 0);
        loop {
            if self.waiting.is_empty() && !self.fill()? {
                self.is_over = true;
                let finished = self.decoder.finish();
                return finished.map_err(|_| self.malformed("the file ends inside a batch".to_owned()));
            }
            let (decoder, waiting) = (&mut self.decoder, &mut self.waiting);
            let batch = match guarded(|| decoder.decode(waiting)) {
                Some(Ok(batch)) => batch,
                // The end of the stream may be followed by a footer.
                Some(Err(ArrowError::IpcError(reason))) if reason == "Unexpected EOS" => {
                    self.is_over = true;
                    return Ok(());
                }
                Some(Err(error)) => return Err(self.malformed(error.to_string())),
                None => return Err(self.malformed("its parts contradict each other".to_owned())),
            };
            if let Some(batch) = batch {
                self.since_batch = 0;
                let column = self.find_column(&batch.schema())?;
                self.strings = Some(batch.column(column).clone());
                return Ok(());
            }
            if self.since_batch > LARGEST {
                let message = format!("expected batches of at most {} MiB, got a larger one", LARGEST >> 20);
                return Err(self.malformed(message));
            }
        }
    }

    /// Reads the next bytes of the file into `waiting`; false at the end.
    fn fill(&mut self) -> Result<bool> {
        let mut bytes = std::mem::take(&mut self.head);
        let room = (CHUNK - bytes.len()) as u64;
        self.file.by_ref().take(room).read_to_end(&mut bytes).map_err(Error::file("read", &self.path))?;
        self.read.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.since_batch += bytes.len() as u64;
        self.waiting = Buffer::from(bytes);
        Ok(!self.waiting.is_empty())
    }

    fn find_column(&self, schema: &Schema) -> Result<usize> {
        let fields = schema.fields();
        let Some((at, field)) = fields.find(&self.column) else {
            let known = fields.iter().map(|field| field.name().clone()).collect();
            let place = format!("`{}`", self.path.display());
            return Err(Error::Unknown { kind: "column", name: self.column.clone(), place, known });
        };
        match field.data_type() {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => Ok(at),
            other => {
                let message = format!("column `{}`: expected strings, got {other}", self.column);
                Err(Error::malformed(&self.path, message)
                    .with_hint("set `text_column` to a column that holds strings"))
            }
        }
    }

    fn malformed(&self, reason: String) -> Error {
        let at = if self.row == 0 { String::new() } else { format!("row {}", self.row + 1) };
        let message = format!("not readable as Arrow: {reason}");
        let hint =
            Some("the file is damaged or truncated; Python's to_parquet writes a smaller file".to_owned());
        Error::Malformed { path: self.path.clone(), at, message, hint }
    }
}

/// The string in `row` of a column; `None` for null.
fn text_at(strings: &ArrayRef, row: usize) -> Option<String> {
    if strings.is_null(row) {
        return None;
    }
    match strings.data_type() {
        DataType::Utf8 => Some(strings.as_string::<i32>().value(row).to_owned()),
        DataType::LargeUtf8 => Some(strings.as_string::<i64>().value(row).to_owned()),
        DataType::Utf8View => Some(strings.as_string_view().value(row).to_owned()),
        _ => None,
    }
}

impl Iterator for Arrow {
    type Item = Document;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}
