//! Arrow: the stream of record batches that Python's `save_to_disk` writes, and Arrow files (Feather), which hold the
//! same messages between two magic strings.
//!
//! The library allocates memory as bytes arrive, not for the size that a message claims. Compressed batches, which
//! `datasets` does not write, are not supported.

use super::fault::{Fault, malformed, unknown_column};
use super::source::Source;
use super::text::{Compression, not_unpacked};
use crate::error::{Error, Result};
use crate::files;
use crate::guard::guarded;
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef};
use arrow_buffer::Buffer;
use arrow_ipc::reader::StreamDecoder;
use arrow_schema::{ArrowError, DataType, Schema};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::atomic::Ordering;

/// The number of bytes passed to the decoder at once.
const CHUNK: u64 = 1 << 20;

/// The size limit of one batch, 1 GiB; `datasets` writes batches of a thousand rows.
const LARGEST: u64 = 1 << 30;

/// The magic bytes of an Arrow file with a footer, which contains the same batches as a stream.
const MARK: &[u8] = b"ARROW1\0\0";

/// The documents of an Arrow file.
pub(super) struct Arrow {
    source: Source,
    column: String,
    file: File,
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
        let path = &source.path;
        let head = files::read_start(path, Compression::HEAD)?;
        if let Some(compression) = Compression::of(&head) {
            return Err(not_unpacked(path, compression));
        }
        let mut file = files::open(path)?;
        if head.starts_with(MARK) {
            file.seek(SeekFrom::Start(MARK.len() as u64)).map_err(Error::file("read", path))?;
        }
        let mut arrow = Arrow {
            source: source.clone(),
            column: column.to_owned(),
            file,
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

    pub(super) fn advance(&mut self) -> Result<Option<Option<String>>, Fault> {
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
        let mut bytes = Vec::new();
        let read = self.file.by_ref().take(CHUNK).read_to_end(&mut bytes);
        read.map_err(Error::file("read", &self.source.path))?;
        self.source.read.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        self.since_batch += bytes.len() as u64;
        self.waiting = Buffer::from(bytes);
        Ok(!self.waiting.is_empty())
    }

    fn find_column(&self, schema: &Schema) -> Result<usize> {
        let fields = schema.fields();
        let Some((at, field)) = fields.find(&self.column) else {
            let known = fields.iter().map(|field| field.name().clone()).collect();
            return Err(unknown_column(&self.source.path, "", &self.column, known));
        };
        match field.data_type() {
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => Ok(at),
            other => {
                let message = format!("column `{}`: expected strings, got {other}", self.column);
                let hint = "set `text_column` to a column that holds strings";
                Err(malformed(&self.source.path, "", message, hint))
            }
        }
    }

    fn malformed(&self, reason: String) -> Error {
        let at = if self.row == 0 { String::new() } else { format!("row {}", self.row + 1) };
        let message = format!("not readable as Arrow: {reason}");
        let hint = "the file is damaged or truncated; Python's to_parquet writes a smaller file";
        malformed(&self.source.path, &at, message, hint)
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
