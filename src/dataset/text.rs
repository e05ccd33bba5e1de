//! The bytes of a text file as a stream: decompressed, without a byte order mark, with the current line and column.
//!
//! Compression is detected by the first bytes, whatever the file is called: gzip with any number of members, zstd with
//! any number of frames, bzip2 and xz with any number of streams. One record of a file may take [`LONGEST`] bytes, so
//! a file without line ends, or a small one that decompresses to a huge one, is an error rather than exhausting memory.

use super::fault::{Fault, malformed};
use super::source::Source;
use crate::error::{Error, Result};
use crate::files;
use crate::memory;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The size limit of one record (a line, an element, a row): 256 MiB.
const LONGEST: u64 = 256 << 20;

const BUFFER: usize = 128 << 10;

/// The length in bytes from which on available memory is checked for a record.
const LONG: u64 = 1 << 24;

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
    /// The length of the record at which available memory is checked next.
    look_at: u64,
    /// Whether the last line read had a line end.
    has_end: bool,
}

impl Text {
    /// Opens a file, compressed or not.
    pub(super) fn open(source: &Source) -> Result<Text> {
        let path = source.path.as_path();
        let bytes: Bytes = match source.embedded {
            Some(bytes) => Box::new(bytes),
            None => {
                let file = files::open(path)?;
                Box::new(BufReader::with_capacity(BUFFER, file))
            }
        };
        Text::new(path, Box::new(Counted { bytes, read: source.read.clone() }), LONGEST)
    }

    fn new(path: &Path, bytes: Bytes, longest: u64) -> Result<Text> {
        let failed = |error| failed(path, "line 1".to_owned(), longest, error);
        let (head, bytes) = peek(decompressed(path, bytes, failed)?).map_err(failed)?;
        let bytes = match head.as_slice() {
            [0xef, 0xbb, 0xbf, rest @ ..] => Box::new(Cursor::new(rest.to_vec()).chain(bytes)),
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => {
                return Err(Error::malformed(path, "expected text in UTF-8, got UTF-16")
                    .with_hint("convert the file first, for example with `iconv -f utf-16 -t utf-8`"));
            }
            _ => Box::new(Cursor::new(head).chain(bytes)) as Bytes,
        };
        Ok(Text {
            path: path.to_owned(),
            bytes,
            line: 1,
            column: 1,
            record_line: 1,
            longest,
            left: longest,
            look_at: LONG,
            has_end: false,
        })
    }

    /// The path of the file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Starts a record here: [`Text::at`] returns this line, and the length is counted from here.
    pub(super) fn begin(&mut self) {
        self.record_line = self.line;
        (self.left, self.look_at) = (self.longest, LONG);
    }

    /// The line on which the record began, for an error.
    pub(super) fn at(&self) -> String {
        format!("line {}", self.record_line)
    }

    /// The line and the column of the next byte, for an error.
    pub(super) fn position(&self) -> String {
        format!("line {}, column {}", self.line, self.column)
    }

    /// Skips the rest of the line, however long it is; false at the end of the file.
    pub(super) fn skip_line(&mut self) -> Result<bool> {
        loop {
            self.left = self.longest;
            let at = self.at();
            let chunk = self.fill_buf();
            let (found, amount) = match chunk {
                Ok([]) => return Ok(false),
                Ok(bytes) => match bytes.iter().position(|byte| *byte == b'\n') {
                    Some(end) => (true, end + 1),
                    None => (false, bytes.len()),
                },
                Err(error) => return Err(self.failed(at, error)),
            };
            self.consume(amount);
            if found {
                return Ok(true);
            }
        }
    }

    /// Reads a line without its end, `\n` or `\r\n`, into `line`; false at the end of the file. A line that is too long
    /// is skipped with an error, after which the next one can be read.
    pub(super) fn read_line(&mut self, line: &mut Vec<u8>) -> Result<bool, Fault> {
        self.begin();
        line.clear();
        if let Err(error) = self.read_until(b'\n', line) {
            let is_too_long = too_long(&error).is_some();
            let error = self.failed(self.at(), error);
            if !is_too_long {
                return Err(Fault::File(error));
            }
            *line = Vec::new();
            self.skip_line()?;
            return Err(Fault::Row(error));
        }
        let found = !line.is_empty();
        self.has_end = line.pop_if(|byte| *byte == b'\n').is_some();
        line.pop_if(|byte| *byte == b'\r');
        Ok(found)
    }

    /// Whether the last line read had a line end.
    pub(super) fn has_end(&self) -> bool {
        self.has_end
    }

    /// The next byte that is not white space, without consuming it.
    pub(super) fn peek(&mut self) -> io::Result<Option<u8>> {
        loop {
            let byte = self.fill_buf()?.first().copied();
            if !byte.is_some_and(|byte| byte.is_ascii_whitespace()) {
                return Ok(byte);
            }
            self.consume(1);
        }
    }

    /// `bytes` as a string; an error at `at` if they are not UTF-8.
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

    /// An error about the contents at `at`.
    pub(super) fn malformed(&self, at: &str, message: impl Into<String>) -> Error {
        let (path, at) = (self.path.clone(), at.to_owned());
        Error::Malformed { path, at, message: message.into(), hint: None }
    }

    /// A read error at `at`: from the system, damaged compressed data, or a record that is too long.
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
            return Err(io::Error::other(TooLong { memory: None }));
        }
        let taken = self.longest - self.left;
        if taken >= self.look_at {
            // The record may double before the next check; the buffer then doubles as well, and its text is copied.
            self.look_at = 2 * taken;
            memory::check("a document that is being read", 8 * taken)
                .map_err(|error| io::Error::other(TooLong { memory: Some(error.to_string()) }))?;
        }
        let buffered = self.bytes.fill_buf()?;
        let end = usize::try_from(self.left).unwrap_or(usize::MAX);
        Ok(buffered.get(..end).unwrap_or(buffered))
    }

    fn consume(&mut self, amount: usize) {
        if amount == 0 {
            return;
        }
        // Returns what is already buffered, without reading.
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
struct TooLong {
    /// The message about memory, if that is the reason.
    memory: Option<String>,
}

fn too_long(error: &io::Error) -> Option<&TooLong> {
    error.get_ref()?.downcast_ref()
}

fn failed(path: &Path, at: String, longest: u64, error: io::Error) -> Error {
    if error.raw_os_error().is_some() {
        return Error::file("read", path)(error);
    }
    let (message, hint) = if let Some(TooLong { memory }) = too_long(&error) {
        let usual = || format!("expected a document of at most {longest} bytes, got a longer one");
        let message = memory.clone().unwrap_or_else(usual);
        (message, "check the line ends and quotes of the file, or split the document")
    } else if error.kind() == io::ErrorKind::UnexpectedEof || error.to_string().contains("premature eof") {
        ("the compressed data ends too early".to_owned(), "the file was cut off: download it again")
    } else {
        (format!("the compressed data is damaged ({error})"), "download the file again")
    };
    malformed(path, &at, message, hint)
}

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    Gzip,
    Zstd,
    Bzip2,
    Xz,
    /// An archive, or a compression that is not supported.
    Other(&'static str),
}

impl Compression {
    /// The number of first bytes needed to detect it.
    pub(super) const HEAD: u64 = 10;

    /// The compression of a file with these first bytes.
    pub(super) fn of(head: &[u8]) -> Option<Compression> {
        Some(match head {
            [0x1f, 0x8b, ..] => Compression::Gzip,
            // A frame, or a skippable frame, which some compressors write first.
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Compression::Zstd,
            // Includes the start of the first block or of the end, because plain text can begin with BZh too.
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..]
            | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, 0x45, 0x38, 0x50, 0x90, ..] => Compression::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0x00, ..] => Compression::Xz,
            [b'P', b'K', 3, 4, ..] => Compression::Other("zip"),
            [b'7', b'z', 0xbc, 0xaf, 0x27, 0x1c, ..] => Compression::Other("7z"),
            [b'R', b'a', b'r', b'!', 0x1a, 0x07, ..] => Compression::Other("rar"),
            [0x04, 0x22, 0x4d, 0x18, ..] => Compression::Other("lz4"),
            _ => return None,
        })
    }

    /// Its name, and the command that decompresses it.
    pub(super) fn name_and_unpack(self) -> (&'static str, &'static str) {
        match self {
            Compression::Gzip => ("gzip", "`gunzip`"),
            Compression::Zstd => ("zstd", "`unzstd`"),
            Compression::Bzip2 => ("bzip2", "`bunzip2`"),
            Compression::Xz => ("xz", "`unxz`"),
            Compression::Other("zip") => ("zip", "`unzip`"),
            Compression::Other("lz4") => ("lz4", "`unlz4`"),
            Compression::Other(name) => (name, "the program that wrote it"),
        }
    }
}

/// The error about a file in an unsupported compression or archive.
pub(super) fn not_unpacked(path: &Path, compression: Compression) -> Error {
    let (name, unpack) = compression.name_and_unpack();
    Error::malformed(path, format!("unsupported compression: {name}")).with_hint(format!(
        "unpack it first, with {unpack}; gzip (.gz), zstd (.zst), bzip2 (.bz2) and xz (.xz) are read directly"
    ))
}

/// A reader that counts the bytes read.
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

/// The memory limit for decompressing xz, 256 MiB: `xz -9` needs 65.
const XZ_MEMORY: u64 = 256 << 20;

/// The decompressed bytes of a file, with the compression detected by the first ones.
fn decompressed(path: &Path, bytes: Bytes, failed: impl Fn(io::Error) -> Error) -> Result<Bytes> {
    let (head, rest) = peek(bytes).map_err(&failed)?;
    let bytes = Cursor::new(head.clone()).chain(rest);
    let decoder: Box<dyn Read + Send> = match Compression::of(&head) {
        None => return Ok(Box::new(bytes)),
        Some(Compression::Gzip) => Box::new(flate2::bufread::MultiGzDecoder::new(bytes)),
        Some(Compression::Zstd) => {
            Box::new(zstd::stream::read::Decoder::with_buffer(bytes).map_err(&failed)?)
        }
        Some(Compression::Bzip2) => Box::new(bzip2::bufread::MultiBzDecoder::new(bytes)),
        Some(Compression::Xz) => {
            let concatenated = liblzma::stream::CONCATENATED;
            let stream = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, concatenated);
            let stream = stream.map_err(|error| failed(error.into()))?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(bytes, stream))
        }
        Some(other) => return Err(not_unpacked(path, other)),
    };
    Ok(Box::new(BufReader::with_capacity(BUFFER, decoder)))
}

/// Splits off the first bytes from the rest.
fn peek(mut bytes: Bytes) -> io::Result<(Vec<u8>, Bytes)> {
    let mut head = Vec::new();
    bytes.by_ref().take(Compression::HEAD).read_to_end(&mut head)?;
    Ok((head, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &'static [u8], longest: u64) -> Text {
        Text::new(Path::new("x.txt"), Box::new(bytes), longest).expect("plain bytes")
    }

    #[test]
    fn lines_have_numbers_and_no_line_ends() {
        let mut text = text(b"\xef\xbb\xbfone\r\n\n  \ntwo", 100);
        let (mut line, mut lines) = (Vec::new(), Vec::new());
        while text.read_line(&mut line).expect("plain bytes") {
            lines.push((text.at(), String::from_utf8_lossy(&line).into_owned()));
        }
        let expected = [("line 1", "one"), ("line 2", ""), ("line 3", "  "), ("line 4", "two")];
        assert_eq!(lines, expected.map(|(at, line)| (at.to_owned(), line.to_owned())));
        assert_eq!(text.position(), "line 4, column 4");
    }

    #[test]
    fn a_line_that_is_too_long_is_an_error_and_skipped() {
        let mut text = text(b"short\nlonger than ten bytes, twice as long and more\nlast\n", 10);
        let mut line = Vec::new();
        assert!(text.read_line(&mut line).is_ok());
        let Err(Fault::Row(error)) = text.read_line(&mut line) else { panic!("a long line") };
        assert_eq!(
            error.to_string(),
            "`x.txt`, line 2: expected a document of at most 10 bytes, got a longer one"
        );
        assert!(text.read_line(&mut line).expect("the next line") && line == b"last");
        assert_eq!(text.at(), "line 3");
    }
}
