//! Access to a checkpoint's bytes: a file or embedded data, and spans in it, plain or deflated.

use crate::error::{Error, Result};
use crate::files;
use flate2::read::DeflateDecoder;
use std::fs::File;
use std::io::{Error as IoError, ErrorKind, Read, Result as IoResult, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// The maximum compression ratio of deflate.
const MAX_DEFLATION: u64 = 1032;
/// The compression ratio accepted above [`LARGE`] bytes: weights hardly compress, and that many zeros are an attempt to
/// exhaust the memory.
const MAX_DEFLATION_OF_LARGE: u64 = 32;
const LARGE: u64 = 64 << 20;

/// A file, or data embedded in this program.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) size: u64,
    bytes: Bytes,
}

#[derive(Debug)]
enum Bytes {
    /// Several threads read at different offsets at once.
    File(File),
    Embedded(&'static [u8]),
}

/// A range of bytes in a source, plain or deflated.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    /// The offset of the first byte.
    pub(super) start: u64,
    /// The number of bytes in the source.
    pub(super) stored: u64,
    /// The number of bytes of the contents, after inflating.
    pub(super) size: u64,
    pub(super) deflated: bool,
}

impl Span {
    /// A span that is not deflated.
    pub(super) fn plain(start: u64, size: u64) -> Self {
        Span { start, stored: size, size, deflated: false }
    }
}

impl Source {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = files::open(path)?;
        let size = file.metadata().map_err(Error::file("read", path))?.len();
        Ok(Source { path: path.to_owned(), size, bytes: Bytes::File(file) })
    }

    pub(super) fn embedded(name: &str, bytes: &'static [u8]) -> Self {
        Source { path: name.into(), size: bytes.len() as u64, bytes: Bytes::Embedded(bytes) }
    }

    /// Fills `into` with the bytes from `start` on.
    pub(super) fn read_at(&self, start: u64, into: &mut [u8]) -> Result<()> {
        self.fill(start, into).map_err(|e| self.error(e))
    }

    /// Returns the first `count` bytes, or all if there are fewer.
    pub(super) fn beginning(&self, count: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; count.min(usize::try_from(self.size).unwrap_or(usize::MAX))];
        self.read_at(0, &mut bytes)?;
        Ok(bytes)
    }

    /// Checks that a span is inside the source, and that its claimed size is plausible.
    pub(super) fn check(&self, span: Span, what: &str) -> Result<()> {
        let inside = span.start.checked_add(span.stored).is_some_and(|end| end <= self.size);
        let most = if span.size > LARGE { MAX_DEFLATION_OF_LARGE } else { MAX_DEFLATION };
        let honest = if span.deflated { span.size / most <= span.stored } else { span.size == span.stored };
        if inside && honest {
            return Ok(());
        }
        let message = format!("`{what}`: its size does not fit a file of {} bytes", self.size);
        Err(Error::malformed(&self.path, message)
            .with_hint("the file was cut short: download or copy it again"))
    }

    /// Returns a stream of the contents of a span from byte `skip` on.
    pub(super) fn stream(&self, span: Span, skip: u64) -> Result<Stream<'_>> {
        if !span.deflated {
            let at = span.start + skip.min(span.size);
            return Ok(Stream::Plain(Window { source: self, at, end: span.start + span.size }));
        }
        let window = Window { source: self, at: span.start, end: span.start + span.stored };
        let mut inflated = DeflateDecoder::new(window);
        match std::io::copy(&mut (&mut inflated).take(skip), &mut std::io::sink()) {
            Ok(n) if n == skip => Ok(Stream::Deflated { inflated, left: span.size.saturating_sub(skip) }),
            Ok(_) => Err(self.error(ErrorKind::UnexpectedEof.into())),
            Err(e) => Err(self.error(e)),
        }
    }

    /// Reads the contents of a span that was checked.
    pub(super) fn read_span(&self, span: Span) -> Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(span.size).unwrap_or(usize::MAX)];
        let mut stream = self.stream(span, 0)?;
        stream.fill(&mut bytes).map_err(|e| self.error(e))?;
        Ok(bytes)
    }

    /// Converts an error of reading this source.
    pub(super) fn error(&self, error: IoError) -> Error {
        let cut_short = error.kind() == ErrorKind::UnexpectedEof;
        let damaged = matches!(error.kind(), ErrorKind::InvalidData | ErrorKind::InvalidInput);
        if cut_short || damaged {
            let message = if cut_short { "it ends too early".to_owned() } else { error.to_string() };
            return self.damaged(message);
        }
        Error::file("read", &self.path)(error)
    }

    /// The error for contents that no program wrote like that.
    pub(super) fn damaged(&self, message: impl Into<String>) -> Error {
        Error::malformed(&self.path, message)
            .with_hint("the file was cut short or damaged: download or copy it again")
    }

    fn fill(&self, start: u64, into: &mut [u8]) -> IoResult<()> {
        match &self.bytes {
            Bytes::Embedded(bytes) => {
                let from = usize::try_from(start).ok().and_then(|start| bytes.get(start..));
                let slice = from.and_then(|rest| rest.get(..into.len())).ok_or(ErrorKind::UnexpectedEof)?;
                into.copy_from_slice(slice);
                Ok(())
            }
            #[cfg(unix)]
            Bytes::File(file) => std::os::unix::fs::FileExt::read_exact_at(file, into, start),
            #[cfg(not(unix))]
            Bytes::File(file) => {
                // Here all threads share the file's one position.
                static READING: std::sync::Mutex<()> = std::sync::Mutex::new(());
                let _reading = READING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                let mut file = file;
                file.seek(SeekFrom::Start(start)).and_then(|_| file.read_exact(into))
            }
        }
    }
}

/// A reader of a part of a source that can seek.
#[derive(Debug, Clone)]
pub(super) struct Window<'a> {
    source: &'a Source,
    at: u64,
    end: u64,
}

impl<'a> Window<'a> {
    /// A reader of the entire source.
    pub(super) fn whole(source: &'a Source) -> Self {
        Window { source, at: 0, end: source.size }
    }
}

impl Read for Window<'_> {
    fn read(&mut self, into: &mut [u8]) -> IoResult<usize> {
        let left = self.end.saturating_sub(self.at);
        let now = usize::try_from(left).unwrap_or(usize::MAX).min(into.len());
        self.source.fill(self.at, &mut into[..now])?;
        self.at += now as u64;
        Ok(now)
    }
}

impl Seek for Window<'_> {
    fn seek(&mut self, to: SeekFrom) -> IoResult<u64> {
        let to = match to {
            SeekFrom::Start(n) => Some(n),
            SeekFrom::End(n) => self.end.checked_add_signed(n),
            SeekFrom::Current(n) => self.at.checked_add_signed(n),
        };
        self.at = to.ok_or_else(|| IoError::from(ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}

/// A sequential reader of the contents of a span.
pub(super) enum Stream<'a> {
    Plain(Window<'a>),
    Deflated {
        inflated: DeflateDecoder<Window<'a>>,
        /// The bytes left of the size that the archive states.
        left: u64,
    },
}

impl Stream<'_> {
    /// Reads exactly `into.len()` bytes. A deflated stream that continues after its stated size is damaged.
    pub(super) fn fill(&mut self, into: &mut [u8]) -> IoResult<()> {
        match self {
            Stream::Plain(window) => window.read_exact(into),
            Stream::Deflated { inflated, left } => {
                inflated.read_exact(into)?;
                *left = left.saturating_sub(into.len() as u64);
                if *left == 0 && inflated.read(&mut [0])? > 0 {
                    let message = "it contains more than its stated size";
                    return Err(IoError::new(ErrorKind::InvalidData, message));
                }
                Ok(())
            }
        }
    }
}
