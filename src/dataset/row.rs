//! Rows of JSON files: one object each, of which only the text column is kept. Some rows may lack the column; a file in
//! which every row lacks it is an error.

use super::fault::{Document, Fault};
use super::source::Source;
use crate::error::{Error, Result};
use serde::Deserializer;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::collections::VecDeque;
use std::fmt;
use std::path::{Path, PathBuf};

/// A parsed row, reduced to its text column.
pub(super) enum Row {
    Text(String),
    Null,
    /// The column is not a string; this is its kind.
    NotText(&'static str),
    /// The column is missing; these are the others.
    Missing(Vec<String>),
    /// The row is not an object; this is its kind.
    NotObject(&'static str),
}

/// Reads a row and picks the text of `column`; the last one, if there are several.
pub(super) fn read<'de, D: Deserializer<'de>>(json: D, column: &str) -> std::result::Result<Row, D::Error> {
    Ok(match (Shallow { column: Some(column) }).deserialize(json)? {
        Value::Row(Ok(cell)) => match *cell {
            Value::Text(text) => Row::Text(text),
            Value::Other("null") => Row::Null,
            Value::Other(kind) => Row::NotText(kind),
            Value::Row(_) => Row::NotText("an object"),
        },
        Value::Row(Err(names)) => Row::Missing(names),
        Value::Other(kind) => Row::NotObject(kind),
        Value::Text(_) => Row::NotObject("a string"),
    })
}

impl Row {
    /// The value of the column, or the error of the row at `at`.
    pub(super) fn into_cell(self, path: &Path, at: &str, column: &str) -> Result<Cell> {
        let malformed = |message: String, hint: &str| Error::Malformed {
            path: path.to_owned(),
            at: at.to_owned(),
            message,
            hint: Some(hint.to_owned()),
        };
        Err(match self {
            Row::Text(text) => return Ok(Cell::Text(text)),
            Row::Null => return Ok(Cell::Null),
            Row::Missing(known) => return Ok(Cell::Missing { at: at.to_owned(), known }),
            Row::NotText(kind) => malformed(
                format!("column `{column}`: expected a string, got {kind}"),
                "set `text_column` to the column that contains the text",
            ),
            Row::NotObject("an array") => malformed(
                format!("expected an object with a column `{column}`, got an array"),
                "name a file that is one array of objects .json, not .jsonl",
            ),
            Row::NotObject(kind) => malformed(
                format!("expected an object with a column `{column}`, got {kind}"),
                "name a file of plain text, one document per line, .txt",
            ),
        })
    }
}

/// The value of the text column in one row.
pub(super) enum Cell {
    Text(String),
    Null,
    /// The column is missing from the row `at`, which has the columns `known`.
    Missing {
        at: String,
        known: Vec<String>,
    },
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
        let place = format!("`{}`, {at}", self.path.display());
        if known.is_empty() {
            let message =
                format!("expected an object with a column `{}`, got one without columns", self.column);
            let hint = Some("remove the empty objects from the file".to_owned());
            return Error::Malformed { path: self.path.clone(), at: at.to_owned(), message, hint };
        }
        Error::Unknown { kind: "column", name: self.column.clone(), place, known }
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
            Cell::Text(text) => Some(text),
            Cell::Null | Cell::Missing { .. } => None,
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

/// A JSON value, reduced to a string or to one column of an object.
enum Value {
    Text(String),
    Other(&'static str),
    /// The value of the requested column, or the names of the columns if it is missing.
    Row(std::result::Result<Box<Value>, Vec<String>>),
}

struct Shallow<'c> {
    column: Option<&'c str>,
}

impl<'de> DeserializeSeed<'de> for Shallow<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> std::result::Result<Value, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Shallow<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_str<E>(self, text: &str) -> std::result::Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_string<E>(self, text: String) -> std::result::Result<Value, E> {
        Ok(Value::Text(text))
    }

    fn visit_unit<E>(self) -> std::result::Result<Value, E> {
        Ok(Value::Other("null"))
    }

    fn visit_bool<E>(self, _: bool) -> std::result::Result<Value, E> {
        Ok(Value::Other("a boolean"))
    }

    fn visit_i64<E>(self, _: i64) -> std::result::Result<Value, E> {
        Ok(Value::Other("a number"))
    }

    fn visit_u64<E>(self, _: u64) -> std::result::Result<Value, E> {
        Ok(Value::Other("a number"))
    }

    fn visit_f64<E>(self, _: f64) -> std::result::Result<Value, E> {
        Ok(Value::Other("a number"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> std::result::Result<Value, A::Error> {
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Other("an array"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> std::result::Result<Value, A::Error> {
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
        Ok(Value::Row(cell.ok_or(names)))
    }
}
