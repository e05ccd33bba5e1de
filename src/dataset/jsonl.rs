//! JSON lines: every line is an object that has the text in one column; blank lines are skipped.

use super::row;
use super::source::Source;
use super::text::Text;
use crate::error::Result;

const SHAPE: &str = "every line must be one whole object, such as {\"text\": \"…\"}, and a line end in a text is \
                     written \\n; a file that was cut off must be downloaded again";

/// The texts of a JSON-lines file.
pub(super) struct Jsonl {
    text: Text,
    column: String,
    line: Vec<u8>,
}

impl Jsonl {
    pub(super) fn open(source: &Source, column: &str) -> Result<Self> {
        Ok(Jsonl { text: Text::open(source)?, column: column.to_owned(), line: Vec::new() })
    }

    fn advance(&mut self) -> Result<Option<String>> {
        loop {
            if !self.text.read_line(&mut self.line)? {
                return Ok(None);
            }
            if !self.line.trim_ascii().is_empty() {
                return self.row().map(Some);
            }
        }
    }

    fn row(&self) -> Result<String> {
        let at = self.text.at();
        let line = self.text.utf8(&at, &self.line)?;
        let mut json = serde_json::Deserializer::from_str(line);
        let row = row::read(&mut json, &self.column).and_then(|row| json.end().map(|()| row));
        let row = row.map_err(|error| {
            let (reason, hint) = row::reason(&error, SHAPE);
            let message = format!("{reason} at column {}", error.column());
            self.text.malformed(&at, message).with_hint(hint)
        })?;
        row.into_text(self.text.path(), &at, &self.column)
    }
}

impl Iterator for Jsonl {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}
