//! The bytes of a text file as a stream: decompressed, without a byte order mark, with the place that has been reached.
//!
//! Compression is told by the first bytes, whatever the file is called: gzip with any number of members, zstd with any
//! number of frames. One record of a file may take [`LONGEST`] bytes, so that a file without line ends, or a small one
//! that unpacks to a huge one, ends in an error rather than in all memory taken.

use super::source::Source;
use crate::error::{Error, Result};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many bytes one record (a line, an element, a row) may take: 256 MiB.
const LONGEST: u64 = 256 << 20;

const BUFFER: usize = 128 << 10;

type Bytes = Box<dyn BufRead + Send>;

/// A text file that is being read.
pub(super) struct Text {
    path: PathBuf,
    bytes: Bytes,
    line: u64,
    column: u64,
    record_line: u64,
    longest: u64,
    left: u64,
}

impl Text {
    /// Opens a file, compressed or not.
    pub(super) fn open(source: &Source) -> Result<Text> {
        let path = source.path.as_path();
        let bytes: Bytes = match source.embedded {
            Some(bytes) => Box::new(bytes),
            None => {
                let file = File::open(path).map_err(Error::file("open", path))?;
                Box::new(BufReader::with_capacity(BUFFER, file))
            }
        };
        Text::new(path, Box::new(Counted { bytes, read: source.read.clone() }), LONGEST)
    }

    fn new(path: &Path, bytes: Bytes, longest: u64) -> Result<Text> {
        let failed = |error| failed(path, "line 1".to_owned(), longest, error);
        let (head, bytes) = decompressed(bytes).and_then(peek).map_err(failed)?;
        let bytes = match head.as_slice() {
            [0xef, 0xbb, 0xbf, rest @ ..] => Box::new(Cursor::new(rest.to_vec()).chain(bytes)),
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
                return Err(Error::malformed(path, "expected text in UTF-8, got UTF-16")
                    .with_hint("convert the file first, for example with `iconv -f utf-16 -t utf-8`"));
            }
            _ => Box::new(Cursor::new(head).chain(bytes)) as Bytes,
        };
        Ok(Text { path: path.to_owned(), bytes, line: 1, column: 1, record_line: 1, longest, left: longest })
    }

    /// The file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Starts a record here: its line is what [`Text::at`] gives, and its length is counted from here.
    pub(super) fn begin(&mut self) {
        self.record_line = self.line;
        self.left = self.longest;
    }

    /// The line on which the record began, for an error.
    pub(super) fn at(&self) -> String {
        format!("line {}", self.record_line)
    }

    /// The line and the column of the next byte, for an error.
    pub(super) fn spot(&self) -> String {
        format!("line {}, column {}", self.line, self.column)
    }

    /// Reads a line without its end, `\n` or `\r\n`, into `line`; false at the end of the file.
    pub(super) fn read_line(&mut self, line: &mut Vec<u8>) -> Result<bool> {
        self.begin();
        line.clear();
        let read = self.read_until(b'\n', line);
        read.map_err(|error| self.failed(self.at(), error))?;
        let found = !line.is_empty();
        line.pop_if(|byte| *byte == b'\n');
        line.pop_if(|byte| *byte == b'\r');
        Ok(found)
    }

    /// The next byte that is not white space, which stays to be read.
    pub(super) fn peek(&mut self) -> io::Result<Option<u8>> {
        loop {
            let byte = self.fill_buf()?.first().copied();
            if !byte.is_some_and(|byte| byte.is_ascii_whitespace()) {
                return Ok(byte);
            }
            self.consume(1);
        }
    }

    /// `bytes` as text.
    pub(super) fn utf8<'b>(&self, at: &str, bytes: &'b [u8]) -> Result<&'b str> {
        std::str::from_utf8(bytes).map_err(|error| {
            let valid = error.valid_up_to();
            let byte = bytes.get(valid).copied().unwrap_or_default();
            self.malformed(
                at,
                format!("expected text in UTF-8, got byte 0x{byte:02x} at column {}", valid + 1),
            )
            .with_hint("convert the file first, for example with `iconv -f latin1 -t utf-8`")
        })
    }

    /// An error about the content at `at`.
    pub(super) fn malformed(&self, at: &str, message: impl Into<String>) -> Error {
        let (path, at) = (self.path.clone(), at.to_owned());
        Error::Malformed { path, at, message: message.into(), hint: None }
    }

    /// An error of reading at `at`: of the system, of the compressed data, or of a record that is too long.
    pub(super) fn failed(&self, at: String, error: io::Error) -> Error {
        failed(&self.path, at, self.longest, error)
    }
}

impl Read for Text {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(into)?;
        self.consume(read);
        Ok(read)
    }
}

impl BufRead for Text {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.left == 0 {
            return Err(io::Error::other(TooLong));
        }
        let buffered = self.bytes.fill_buf()?;
        let end = usize::try_from(self.left).unwrap_or(usize::MAX);
        Ok(buffered.get(..end).unwrap_or(buffered))
    }

    fn consume(&mut self, amount: usize) {
        if amount == 0 {
            return;
        }
        // What is buffered already: this reads nothing.
        let buffered = self.bytes.fill_buf().unwrap_or_default();
        let taken = buffered.get(..amount).unwrap_or(buffered);
        match taken.iter().rposition(|byte| *byte == b'\n') {
            Some(last) => {
                self.line += taken.iter().filter(|byte| **byte == b'\n').count() as u64;
                self.column = (taken.len() - last) as u64;
            }
            None => self.column += taken.len() as u64,
        }
        self.left = self.left.saturating_sub(amount as u64);
        self.bytes.consume(amount);
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the record is too long")]
struct TooLong;

fn failed(path: &Path, at: String, longest: u64, error: io::Error) -> Error {
    if error.raw_os_error().is_some() {
        return Error::file("read", path)(error);
    }
    let (message, hint) = if error.get_ref().is_some_and(|inner| inner.is::<TooLong>()) {
        let message = format!("expected a document of at most {longest} bytes, got a longer one");
        (message, "check that the file has its line ends and quotes, or split the document")
    } else if error.kind() == io::ErrorKind::UnexpectedEof {
        ("the compressed data end too early".to_owned(), "the file was cut off: download it again")
    } else {
        (format!("the compressed data are damaged ({error})"), "download the file again")
    };
    Error::Malformed { path: path.to_owned(), at, message, hint: Some(hint.to_owned()) }
}

/// The compression that a file with these first bytes has.
pub(super) fn compression(head: &[u8]) -> Option<&'static str> {
    match head {
        [0x1f, 0x8b, ..] => Some("gzip"),
        // A frame, or one to be skipped as some compressors write it first.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some("zstd"),
        _ => None,
    }
}

/// Bytes of which it is known how many have been read.
struct Counted {
    bytes: Bytes,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let n = self.bytes.read(into)?;
        self.read.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

impl BufRead for Counted {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.bytes.fill_buf()
    }

    fn consume(&mut self, n: usize) {
        self.read.fetch_add(n as u64, Ordering::Relaxed);
        self.bytes.consume(n);
    }
}

fn decompressed(bytes: Bytes) -> io::Result<Bytes> {
    let (head, rest) = peek(bytes)?;
    let bytes = Cursor::new(head.clone()).chain(rest);
    Ok(match compression(&head) {
        Some("gzip") => {
            Box::new(BufReader::with_capacity(BUFFER, flate2::bufread::MultiGzDecoder::new(bytes)))
        }
        Some(_) => {
            let decoder = zstd::stream::read::Decoder::with_buffer(bytes)?;
            Box::new(BufReader::with_capacity(BUFFER, decoder))
        }
        None => Box::new(bytes),
    })
}

/// The first four bytes, and those after them.
fn peek(mut bytes: Bytes) -> io::Result<(Vec<u8>, Bytes)> {
    let mut head = Vec::new();
    bytes.by_ref().take(4).read_to_end(&mut head)?;
    Ok((head, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &'static [u8], longest: u64) -> Text {
        Text::new(Path::new("x.txt"), Box::new(bytes), longest).expect("plain bytes")
    }

    #[test]
    fn lines_and_places() {
        let mut text = text(b"\xef\xbb\xbfone\r\n\n  \ntwo", 100);
        let (mut line, mut lines) = (Vec::new(), Vec::new());
        while text.read_line(&mut line).expect("plain bytes") {
            lines.push((text.at(), String::from_utf8_lossy(&line).into_owned()));
        }
        let expected = [("line 1", "one"), ("line 2", ""), ("line 3", "  "), ("line 4", "two")];
        assert_eq!(lines, expected.map(|(at, line)| (at.to_owned(), line.to_owned())));
        assert_eq!(text.spot(), "line 4, column 4");
    }

    #[test]
    fn a_record_has_an_end() {
        let mut text = text(b"short\nlonger than ten bytes\n", 10);
        let mut line = Vec::new();
        assert!(text.read_line(&mut line).is_ok());
        let error = text.read_line(&mut line).expect_err("a long line");
        assert_eq!(
            error.to_string(),
            "`x.txt`, line 2: expected a document of at most 10 bytes, got a longer one"
        );
    }
}
