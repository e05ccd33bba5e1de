//! Comma- and tab-separated values with a line of column names, quoted as RFC 4180 says.
//!
//! A field in double quotes may hold separators and line ends, and a quote as two; empty lines are skipped.

use super::source::Source;
use super::text::Text;
use crate::error::{Error, Result};
use csv::{ByteRecord, ErrorKind};
use std::io::{Chain, Read};

/// A line of our own after the last one. If it does not come out as a record, a quote was never closed and has swallowed
/// it, with all that is before it.
const END: &[u8] = b"\n\x1e\x04end of file\x04\x1e";

const QUOTES: &str = "a field that holds a separator, a line end or a quote is put in double quotes, each quote in it \
                      written twice";

/// The texts of a file of separated values.
pub(super) struct Csv {
    rows: csv::Reader<Chain<Text, &'static [u8]>>,
    column: String,
    record: ByteRecord,
    /// How many fields a record has, and which of them is the text.
    width: usize,
    index: usize,
    row: u64,
    /// Whether lines end in `\r\n`.
    is_crlf: bool,
}

impl Csv {
    pub(super) fn open(source: &Source, column: &str, separator: u8) -> Result<Self> {
        let rows = csv::ReaderBuilder::new()
            .delimiter(separator)
            .has_headers(false)
            .flexible(true)
            .from_reader(Text::open(source)?.chain(END));
        let (column, record) = (column.to_owned(), ByteRecord::new());
        let mut csv = Csv { rows, column, record, width: 0, index: 0, row: 0, is_crlf: false };
        if csv.read()? {
            // The reader stops after the first byte of a line end and counts the line with the last.
            csv.is_crlf = csv.rows.position().line() == 1 + csv.lines_within();
            csv.width = csv.record.len();
            csv.index = csv.find_column()?;
        }
        Ok(csv)
    }

    fn find_column(&self) -> Result<usize> {
        let found = self.record.iter().position(|name| name == self.column.as_bytes());
        found.ok_or_else(|| Error::Unknown {
            kind: "column",
            name: self.column.clone(),
            place: format!("`{}`, line 1", self.text().path().display()),
            known: self.record.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect(),
        })
    }

    fn advance(&mut self) -> Result<Option<String>> {
        self.row += 1;
        if !self.read()? {
            return Ok(None);
        }
        if self.record.len() != self.width {
            let (expected, got) = (self.width, self.record.len());
            let message = format!("expected {expected} fields as in the first line, got {got}");
            return Err(self.text().malformed(&self.at(true), message).with_hint(QUOTES));
        }
        let field = self.record.get(self.index).unwrap_or_default();
        Ok(Some(self.text().utf8(&self.at(true), field)?.to_owned()))
    }

    /// Reads the next record; false at the end of the file.
    fn read(&mut self) -> Result<bool> {
        self.rows.get_mut().get_mut().0.begin();
        match self.rows.read_byte_record(&mut self.record).map_err(csv::Error::into_kind) {
            Ok(true) => {}
            Ok(false) => return Ok(false),
            Err(ErrorKind::Io(error)) => return Err(self.text().failed(self.at(false), error)),
            Err(other) => {
                return Err(self.text().malformed(&self.at(false), format!("not readable: {other:?}")));
            }
        }
        let last = self.record.iter().next_back().unwrap_or_default();
        if self.record.len() == 1 && END.get(1..) == Some(last) {
            return Ok(false);
        }
        if last.ends_with(END) {
            let message = "expected a closing quote, got the end of the file";
            return Err(self.text().malformed(&self.at(false), message).with_hint(QUOTES));
        }
        Ok(true)
    }

    fn text(&self) -> &Text {
        self.rows.get_ref().get_ref().0
    }

    /// The row and the line on which it begins; `is_whole` if its line end has been read.
    fn at(&self, is_whole: bool) -> String {
        let last = self.rows.position().line().saturating_sub(u64::from(is_whole && !self.is_crlf));
        format!("row {}, line {}", self.row, last.saturating_sub(self.lines_within()).max(1))
    }

    /// How many line ends the fields of the record hold.
    fn lines_within(&self) -> u64 {
        self.record.as_slice().iter().filter(|byte| **byte == b'\n').count() as u64
    }
}

impl Iterator for Csv {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}
