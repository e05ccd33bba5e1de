//! Rows of JSON files: one object each, of which only the text column is kept. Some rows may lack the column; a file in
//! which every row lacks it is an error.

use super::fault::{Document, Fault, malformed, unknown_column};
use super::source::Source;
use crate::error::{Error, Result};
use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::collections::VecDeque;
use std::fmt;
use std::path::{Path, PathBuf};

/// A JSON value, reduced to a string or to the text column of an object.
pub(super) enum Row {
    Text(String),
    /// Another value; this is its kind.
    Other(&'static str),
    /// An object: the value of the column, or the names of the others if it is missing.
    Object(std::result::Result<Box<Row>, Vec<String>>),
}

/// Reads a row and picks the text of `column`; the last one, if there are several.
pub(super) fn read<'de, D: Deserializer<'de>>(json: D, column: &str) -> std::result::Result<Row, D::Error> {
    Shallow { column: Some(column) }.deserialize(json)
}

/// Like [`read`], for JSON that holds nothing else.
pub(super) fn read_all<'de, R: serde_json::de::Read<'de>>(
    mut json: serde_json::Deserializer<R>,
    column: &str,
) -> serde_json::Result<Row> {
    let row = read(&mut json, column)?;
    json.end().map(|()| row)
}

impl Row {
    fn kind(&self) -> &'static str {
        match self {
            Row::Text(_) => "a string",
            Row::Other(kind) => kind,
            Row::Object(_) => "an object",
        }
    }

    /// The value of the column, or the error of the row at `at`.
    pub(super) fn into_cell(self, path: &Path, at: &str, column: &str) -> Result<Cell> {
        let (message, hint) = match self {
            Row::Object(Err(known)) => return Ok(Cell::Missing { at: at.to_owned(), known }),
            Row::Object(Ok(value)) => match *value {
                Row::Text(text) => return Ok(Cell::There(Some(text))),
                Row::Other("null") => return Ok(Cell::There(None)),
                other => (
                    format!("column `{column}`: expected a string, got {}", other.kind()),
                    "set `text_column` to the column that contains the text",
                ),
            },
            other => (
                format!("expected an object with a column `{column}`, got {}", other.kind()),
                match other.kind() {
                    "an array" => "name a file that is one array of objects .json, not .jsonl",
                    _ => "name a file of plain text, one document per line, .txt",
                },
            ),
        };
        Err(malformed(path, at, message, hint))
    }
}

/// The value of the text column in one row.
pub(super) enum Cell {
    /// The text; `None` for null.
    There(Option<String>),
    /// The column is missing from the row `at`, which has the columns `known`.
    Missing { at: String, known: Vec<String> },
}

/// The limit on rows without the column before the first row with it.
const LOOK_AHEAD: usize = 100_000;

/// The documents of rows, some of which may lack the column. Nothing is returned until a row with the column is found.
pub(super) struct Filled<R> {
    rows: R,
    path: PathBuf,
    column: String,
    /// Whether any row so far had the column.
    has_column: bool,
    /// The documents read ahead.
    waiting: VecDeque<Document>,
}

impl<R: Iterator<Item = Result<Cell, Fault>>> Filled<R> {
    pub(super) fn new(rows: R, source: &Source, column: &str) -> Self {
        let (path, column) = (source.path.clone(), column.to_owned());
        Filled { rows, path, column, has_column: false, waiting: VecDeque::new() }
    }

    /// After a row without the column, reads ahead to the first row with it.
    fn look_ahead(&mut self, at: &str, known: Vec<String>) -> Document {
        while !self.has_column && self.waiting.len() < LOOK_AHEAD {
            match self.rows.next() {
                Some(Ok(Cell::Missing { .. })) => self.waiting.push_back(Ok(None)),
                Some(Ok(cell)) => {
                    self.has_column = true;
                    self.waiting.push_back(Ok(cell.into_text()));
                }
                Some(Err(fault @ Fault::Row(_))) => self.waiting.push_back(Err(fault)),
                Some(Err(fault)) => return Err(fault),
                None => break,
            }
        }
        if self.has_column { Ok(None) } else { Err(Fault::File(self.unknown(at, known))) }
    }

    fn unknown(&self, at: &str, known: Vec<String>) -> Error {
        if known.is_empty() {
            let message =
                format!("expected an object with a column `{}`, got one without columns", self.column);
            return malformed(&self.path, at, message, "remove the empty objects from the file");
        }
        unknown_column(&self.path, &format!(", {at}"), &self.column, known)
    }
}

impl<R: Iterator<Item = Result<Cell, Fault>>> Iterator for Filled<R> {
    type Item = Document;

    fn next(&mut self) -> Option<Document> {
        if let Some(document) = self.waiting.pop_front() {
            return Some(document);
        }
        match self.rows.next()? {
            Ok(Cell::Missing { at, known }) if !self.has_column => {
                let document = self.look_ahead(&at, known);
                if document.is_err() {
                    self.waiting.clear();
                }
                Some(document)
            }
            Ok(cell) => {
                self.has_column = true;
                Some(Ok(cell.into_text()))
            }
            Err(fault) => Some(Err(fault)),
        }
    }
}

impl Cell {
    fn into_text(self) -> Option<String> {
        match self {
            Cell::There(text) => text,
            Cell::Missing { .. } => None,
        }
    }
}

/// The message and the hint for JSON that does not parse; `shape` is the hint about the structure of the file.
pub(super) fn reason(error: &serde_json::Error, shape: &str) -> (String, String) {
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(reason, _)| reason);
    match text {
        "lone leading surrogate in hex escape" | "unexpected end of hex escape" => (
            "expected text in UTF-8, got a lone surrogate (half a character, such as \\ud800)".to_owned(),
            "write the file again without lone surrogates; in Python, text.encode('utf-8', 'replace').decode()"
                .to_owned(),
        ),
        "invalid unicode code point" => (
            "expected text in UTF-8, got other bytes".to_owned(),
            "convert the file first, for example with `iconv -f latin1 -t utf-8`".to_owned(),
        ),
        reason => (format!("not JSON: {reason}"), shape.to_owned()),
    }
}

/// Reads a value; that of an object's `column`, if that is wanted.
struct Shallow<'c> {
    column: Option<&'c str>,
}

impl<'de> DeserializeSeed<'de> for Shallow<'_> {
    type Value = Row;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> std::result::Result<Row, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Shallow<'_> {
    type Value = Row;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_str<E>(self, text: &str) -> std::result::Result<Row, E> {
        Ok(Row::Text(text.to_owned()))
    }

    fn visit_unit<E>(self) -> std::result::Result<Row, E> {
        Ok(Row::Other("null"))
    }

    fn visit_bool<E>(self, _: bool) -> std::result::Result<Row, E> {
        Ok(Row::Other("a boolean"))
    }

    fn visit_i64<E>(self, _: i64) -> std::result::Result<Row, E> {
        Ok(Row::Other("a number"))
    }

    fn visit_u64<E>(self, _: u64) -> std::result::Result<Row, E> {
        Ok(Row::Other("a number"))
    }

    fn visit_f64<E>(self, _: f64) -> std::result::Result<Row, E> {
        Ok(Row::Other("a number"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> std::result::Result<Row, A::Error> {
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Row::Other("an array"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> std::result::Result<Row, A::Error> {
        let (mut cell, mut names) = (None, Vec::new());
        while let Some(name) = entries.next_key::<String>()? {
            if self.column == Some(name.as_str()) {
                cell = Some(Box::new(entries.next_value_seed(Shallow { column: None })?));
            } else {
                entries.next_value::<IgnoredAny>()?;
                if cell.is_none() && names.len() < 100 && !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        Ok(Row::Object(cell.ok_or(names)))
    }
}
