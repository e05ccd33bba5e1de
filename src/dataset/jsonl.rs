//! JSON lines: every line is an object with the text in one column; blank lines are skipped.

use super::fault::Fault;
use super::python_json::PythonJson;
use super::row::{self, Cell};
use super::source::Source;
use super::text::Text;
use crate::error::Result;
use serde_json::Deserializer;

const SHAPE: &str = "every line must be one complete object, such as {\"text\": \"…\"}, with line ends in the text \
                     written as \\n; if the file was cut off, download it again";

/// The documents of a JSON-lines file.
pub(super) struct Jsonl {
    text: Text,
    column: String,
    line: Vec<u8>,
}

impl Jsonl {
    pub(super) fn open(source: &Source, column: &str) -> Result<Self> {
        Ok(Jsonl { text: Text::open(source)?, column: column.to_owned(), line: Vec::new() })
    }

    pub(super) fn advance(&mut self) -> Result<Option<Cell>, Fault> {
        loop {
            if !self.text.read_line(&mut self.line)? {
                return Ok(None);
            }
            if !self.line.trim_ascii().is_empty() {
                return self.row().map(Some);
            }
        }
    }

    fn row(&self) -> Result<Cell, Fault> {
        let at = self.text.at();
        let line = self.text.utf8(&at, &self.line).map_err(Fault::Row)?;
        let row = row::read_all(Deserializer::from_str(line), &self.column).or_else(|error| {
            // Python's extensions of JSON are rare and slower to read.
            let json = PythonJson::new(line.as_bytes());
            row::read_all(Deserializer::from_reader(json), &self.column).map_err(|_| error)
        });
        let row = row.map_err(|error| {
            let (reason, hint) = row::reason(&error, SHAPE);
            let message = format!("{reason} at column {}", error.column());
            Fault::Row(self.text.malformed(&at, message).with_hint(hint))
        })?;
        row.into_cell(self.text.path(), &at, &self.column).map_err(Fault::Row)
    }
}
