//! JSON: one array of objects, or objects one after another, read one at a time.

use super::row;
use super::source::Source;
use super::text::Text;
use crate::error::{Error, Result};
use std::io::BufRead;

const SHAPE: &str = "the file must be one array of objects, such as [{\"text\": \"…\"}], or objects one after another; \
                     a file that was cut off must be downloaded again";

/// The texts of a JSON file.
pub(super) struct Json {
    text: Text,
    column: String,
    /// Whether the objects are the elements of an array; unknown before the first byte.
    array: Option<bool>,
    /// How many objects have been begun.
    elements: u64,
}

impl Json {
    pub(super) fn open(source: &Source, column: &str) -> Result<Self> {
        Ok(Json { text: Text::open(source)?, column: column.to_owned(), array: None, elements: 0 })
    }

    fn advance(&mut self) -> Result<Option<String>> {
        self.text.begin();
        let mut next = self.peek()?;
        let array = *self.array.get_or_insert(next == Some(b'['));
        if array {
            let is_first = self.elements == 0;
            match next {
                Some(b'[') if is_first => self.text.consume(1),
                Some(b',') if !is_first => self.text.consume(1),
                Some(b']') if !is_first => return self.end(),
                _ => return Err(self.unexpected("`,` or `]`", next)),
            }
            next = self.peek()?;
            if is_first && next == Some(b']') {
                return self.end();
            }
        } else if next.is_none() {
            return Ok(None);
        }
        self.elements += 1;
        self.text.begin();
        self.element().map(Some)
    }

    fn element(&mut self) -> Result<String> {
        let at = format!("element {}, {}", self.elements, self.text.at());
        let row = row::read(&mut serde_json::Deserializer::from_reader(&mut self.text), &self.column);
        match row {
            Ok(row) => row.into_text(self.text.path(), &at, &self.column),
            Err(error) if error.is_io() => Err(self.text.failed(at, error.into())),
            Err(error) => {
                let (reason, hint) = row::reason(&error, SHAPE);
                let message = format!("{reason} at {}", self.text.spot());
                Err(self.text.malformed(&at, message).with_hint(hint))
            }
        }
    }

    /// The end of the array, after which nothing may come.
    fn end(&mut self) -> Result<Option<String>> {
        self.text.consume(1);
        match self.peek()? {
            None => {
                // From here on the file is over, as one of objects without more of them.
                self.array = Some(false);
                Ok(None)
            }
            more => Err(self.unexpected("the end of the file after the array", more)),
        }
    }

    fn peek(&mut self) -> Result<Option<u8>> {
        let next = self.text.peek();
        next.map_err(|error| self.text.failed(self.text.spot(), error))
    }

    fn unexpected(&self, expected: &str, got: Option<u8>) -> Error {
        let got = match got {
            None => "the end of the file".to_owned(),
            Some(byte) if byte.is_ascii_graphic() => format!("`{}`", char::from(byte)),
            Some(byte) => format!("byte 0x{byte:02x}"),
        };
        self.text.malformed(&self.text.spot(), format!("expected {expected}, got {got}")).with_hint(SHAPE)
    }
}

impl Iterator for Json {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}
