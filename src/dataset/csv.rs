//! Comma- and tab-separated values with a line of column names, quoted as in RFC 4180.
//!
//! A field in double quotes may contain separators, line ends and doubled quotes; empty lines are skipped.

use super::dialect::Dialect;
use super::fault::{Fault, unknown_column};
use super::source::Source;
use super::text::Text;
use crate::error::{Error, Result};
use csv::{ByteRecord, ErrorKind};
use std::io::{Chain, Read};

/// A line appended to the file. If it does not come back as a record of its own, a quote was never closed and the field
/// has swallowed it.
const END: &[u8] = b"\n\x1e\x04end of file\x04\x1e";

/// The limit on the columns of a file.
const MAX_COLUMNS: usize = 1 << 20;

const QUOTES: &str = "put a field that contains a separator, a line end or a quote in double quotes, and double each \
                      quote in it";

/// The documents of a file of separated values.
pub(super) struct Csv {
    rows: csv::Reader<Chain<Text, &'static [u8]>>,
    dialect: Dialect,
    column: String,
    record: ByteRecord,
    /// Whether `record` already holds the first row, which was read to learn the width of rows.
    is_read: bool,
    /// The number of fields of a record, and the index of the text among them.
    width: usize,
    index: usize,
    row: u64,
    /// Whether lines end in `\r\n`.
    is_crlf: bool,
}

impl Csv {
    pub(super) fn open(source: &Source, column: &str, dialect: Dialect) -> Result<Self> {
        let mut text = Text::open(source)?;
        for _ in 0..dialect.skip_lines {
            text.begin();
            if !text.skip_line()? {
                break;
            }
        }
        let rows = csv::ReaderBuilder::new()
            .delimiter(dialect.separator)
            .quote(dialect.quote.unwrap_or(b'"'))
            .quoting(dialect.quote.is_some())
            .double_quote(dialect.is_quote_doubled)
            .escape(dialect.escape)
            .has_headers(false)
            .flexible(true)
            .from_reader(text.chain(END));
        let (column, record) = (column.to_owned(), ByteRecord::new());
        let mut csv =
            Csv { rows, dialect, column, record, is_read: false, width: 0, index: 0, row: 0, is_crlf: false };
        csv.read_header()?;
        Ok(csv)
    }

    /// Finds the column and the width of rows.
    fn read_header(&mut self) -> Result<()> {
        for row in self.dialect.header.into_iter().flat_map(|last| 0..=last) {
            if !self.read()? {
                return Ok(());
            }
            // The reader stops after the first byte of a line end and counts the line with the last.
            self.is_crlf |= row == 0 && self.rows.position().line() == 1 + self.lines_within();
        }
        let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
        // The record is now the header.
        let names = match (&self.dialect.names, self.dialect.header) {
            (Some(given), _) => given.clone(),
            (None, Some(_)) => self.record.iter().map(text).collect(),
            // Columns without names are named by their index.
            (None, None) => {
                self.is_read = self.read()?;
                (0..self.record.len()).map(|column| column.to_string()).collect()
            }
        };
        let found = names.iter().position(|name| *name == self.column);
        let found = found.ok_or_else(|| self.unknown_column(&names))?;
        if !self.is_read {
            self.is_read = self.read()?;
        }
        // As in pandas, the extra fields of rows longer than the header come first and are row names, or come last and
        // belong to no column if there are no row names.
        let beyond = if self.is_read { self.record.len().saturating_sub(names.len()) } else { 0 };
        let index = if self.dialect.has_index { beyond } else { 0 };
        (self.width, self.index) = (names.len() + beyond, found + index);
        Ok(())
    }

    fn unknown_column(&self, names: &[String]) -> Error {
        let error = unknown_column(self.text().path(), ", line 1", &self.column, names.to_vec());
        let [only] = names else { return error };
        match [';', '\t', '|', ','].into_iter().find(|separator| only.contains(*separator)) {
            Some(separator) => Error::mismatch(
                format!("{error}: the only column is `{only}`"),
                format!("set `sep` to {separator:?} if that separates the columns"),
            ),
            None => error,
        }
    }

    pub(super) fn advance(&mut self) -> Result<Option<Option<String>>, Fault> {
        loop {
            self.row += 1;
            if !std::mem::take(&mut self.is_read) && !self.read()? {
                return Ok(None);
            }
            let got = self.record.len();
            if got <= self.width {
                break;
            }
            if !self.dialect.skips_long_rows {
                let message = format!("expected {} fields, one per column, got {got}", self.width);
                return Err(Fault::Row(self.text().malformed(&self.at(true), message).with_hint(QUOTES)));
            }
        }
        // Spreadsheets omit empty fields at the end of a row.
        let Some(field) = self.record.get(self.index) else { return Ok(Some(None)) };
        if self.dialect.missing.iter().any(|text| text.as_bytes() == field) {
            return Ok(Some(None));
        }
        let text = self.text().utf8(&self.at(true), field).map_err(Fault::Row)?;
        Ok(Some(Some(text.to_owned())))
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
        if self.record.len() > MAX_COLUMNS {
            let message = format!("expected at most {MAX_COLUMNS} columns, got {}", self.record.len());
            return Err(self.text().malformed(&self.at(true), message));
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

    /// The row and the line on which it begins; `is_complete` if its line end has been read.
    fn at(&self, is_complete: bool) -> String {
        let last = self.rows.position().line().saturating_sub(u64::from(is_complete && !self.is_crlf));
        let line = last.saturating_sub(self.lines_within()).max(1) + self.dialect.skip_lines as u64;
        format!("row {}, line {line}", self.row)
    }

    /// The number of line ends inside the fields of the record.
    fn lines_within(&self) -> u64 {
        self.record.as_slice().iter().filter(|byte| **byte == b'\n').count() as u64
    }
}
