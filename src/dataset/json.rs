//! JSON: one array of objects, or consecutive objects, read one at a time. The array may be the value of a top-level
//! key that a card names.

use super::fault::Fault;
use super::python_json::PythonJson;
use super::reading::Reading;
use super::row::{self, Cell, Row};
use super::source::Source;
use super::text::Text;
use crate::error::{Error, Result};
use serde::de::{DeserializeOwned, IgnoredAny};
use std::io::BufRead;

/// The limit on the keys that an error lists.
const MAX_NAMED: usize = 100;

const SHAPE: &str = "the file must be one array of objects, such as [{\"text\": \"…\"}], or consecutive objects; \
                     if it was cut off, download it again";

/// The documents of a JSON file.
pub(super) struct Json {
    text: Text,
    column: String,
    /// Whether the objects are the elements of an array; unknown before the first byte.
    array: Option<bool>,
    /// The number of objects whose reading has begun.
    elements: u64,
    /// The key of the array, until it has been reached.
    field: Option<String>,
    /// Whether the array is inside an object, so that more may follow it.
    is_within: bool,
}

impl Json {
    pub(super) fn open(source: &Source, column: &str) -> Result<Self> {
        let (text, column) = (Text::open(source)?, column.to_owned());
        let field = if let Reading::Field(field) = &source.reading { Some(field.clone()) } else { None };
        Ok(Json { text, column, array: None, elements: 0, is_within: field.is_some(), field })
    }

    pub(super) fn advance(&mut self) -> Result<Option<Cell>, Fault> {
        self.text.begin();
        if let Some(field) = self.field.take() {
            self.find_field(&field)?;
        }
        let mut next = self.peek()?;
        let array = *self.array.get_or_insert(next == Some(b'['));
        if array {
            let is_first = self.elements == 0;
            match next {
                Some(b'[') if is_first => self.text.consume(1),
                Some(b',') if !is_first => self.text.consume(1),
                Some(b']') if !is_first => return Ok(self.end()?),
                _ => return Err(self.unexpected("`,` or `]`", next).into()),
            }
            next = self.peek()?;
            if is_first && next == Some(b']') {
                return Ok(self.end()?);
            }
        } else if next.is_none() {
            return Ok(None);
        }
        self.elements += 1;
        self.text.begin();
        self.element().map(Some)
    }

    fn element(&mut self) -> Result<Cell, Fault> {
        let at = format!("element {}, {}", self.elements, self.text.at());
        // A number or a word ends at the first byte of something else, which must not be consumed.
        if let Some(kind) = self.peek()?.and_then(kind_of_word) {
            self.skip_word()?;
            return Row::Other(kind).into_cell(self.text.path(), &at, &self.column).map_err(Fault::Row);
        }
        let json = PythonJson::new(&mut self.text);
        match row::read(&mut serde_json::Deserializer::from_reader(json), &self.column) {
            // The element was read to its end, so the next one can be read even if this one is damaged.
            Ok(row) => row.into_cell(self.text.path(), &at, &self.column).map_err(Fault::Row),
            Err(error) => Err(Fault::File(self.not_json(at, error))),
        }
    }

    /// Consumes the end of the array, and checks that nothing follows unless the array is inside an object.
    fn end(&mut self) -> Result<Option<Cell>> {
        self.text.consume(1);
        let more = self.peek()?;
        if self.is_within {
            // The other keys do not matter.
            while self.text.skip_line()? {}
        } else if more.is_some() {
            return Err(self.unexpected("the end of the file after the array", more));
        }
        // The next call then finds the end of consecutive objects.
        self.array = Some(false);
        Ok(None)
    }

    /// Moves to the array under the key `field` of the file's object.
    fn find_field(&mut self, field: &str) -> Result<()> {
        let mut known = Vec::new();
        let mut before = b'{';
        loop {
            self.text.begin();
            match self.peek()? {
                Some(byte) if byte == before => self.text.consume(1),
                Some(b'}') if before == b',' => {
                    let (name, place) = (field.to_owned(), format!("`{}`", self.text.path().display()));
                    return Err(Error::Unknown { kind: "`field`", name, place, known });
                }
                next => return Err(self.unexpected("an object", next)),
            }
            before = b',';
            let key: String = self.value()?;
            match self.peek()? {
                Some(b':') => self.text.consume(1),
                next => return Err(self.unexpected("`:`", next)),
            }
            let next = self.peek()?;
            if key == field {
                return if next == Some(b'[') { Ok(()) } else { Err(self.unexpected("an array", next)) };
            }
            if known.len() < MAX_NAMED {
                known.push(key);
            }
            match next.and_then(kind_of_word) {
                Some(_) => self.skip_word()?,
                None => self.value::<IgnoredAny>().map(|_| ())?,
            }
        }
    }

    /// Reads a string, an array or an object to its end and no further.
    fn value<T: DeserializeOwned>(&mut self) -> Result<T> {
        let json = PythonJson::new(&mut self.text);
        T::deserialize(&mut serde_json::Deserializer::from_reader(json))
            .map_err(|error| self.not_json(self.text.at(), error))
    }

    /// The error of a value that began at `at`.
    fn not_json(&self, at: String, error: serde_json::Error) -> Error {
        if error.is_io() {
            return self.text.failed(at, error.into());
        }
        let (reason, hint) = row::reason(&error, SHAPE);
        let message = format!("{reason} at {}", self.text.position());
        self.text.malformed(&at, message).with_hint(hint)
    }

    fn skip_word(&mut self) -> Result<()> {
        loop {
            let byte = self.text.fill_buf().map(|bytes| bytes.first().copied());
            let byte = byte.map_err(|error| self.text.failed(self.text.position(), error))?;
            if byte.is_none_or(|byte| b",]}".contains(&byte) || byte.is_ascii_whitespace()) {
                return Ok(());
            }
            self.text.consume(1);
        }
    }

    fn peek(&mut self) -> Result<Option<u8>> {
        let next = self.text.peek();
        next.map_err(|error| self.text.failed(self.text.position(), error))
    }

    fn unexpected(&self, expected: &str, got: Option<u8>) -> Error {
        let got = match got {
            None => "the end of the file".to_owned(),
            Some(byte) if byte.is_ascii_graphic() => format!("`{}`", char::from(byte)),
            Some(byte) => format!("byte 0x{byte:02x}"),
        };
        self.text.malformed(&self.text.position(), format!("expected {expected}, got {got}")).with_hint(SHAPE)
    }
}

/// The kind of number or word that starts with this byte; `None` for a string, an array or an object.
fn kind_of_word(byte: u8) -> Option<&'static str> {
    match byte {
        b'-' | b'0'..=b'9' | b'N' | b'I' => Some("a number"),
        b't' | b'f' => Some("a boolean"),
        b'n' => Some("null"),
        _ => None,
    }
}
