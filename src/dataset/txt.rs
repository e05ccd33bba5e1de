//! Plain text: every line is a document, or every paragraph or file if the card says so.
//!
//! A line ends in `\n` or `\r\n`. An empty line is an empty document; a line end at the end of the file does not start
//! another one. A paragraph ends at an empty line and is never empty.

use super::fault::{Document, Fault};
use super::source::Source;
use super::text::Text;
use crate::error::{Error, Result};
use serde_json::{Map, Value};
use std::io::{BufRead, Read};

/// The unit of a text file that is one document: `sample_by` and `keep_linebreaks` of Python's `datasets`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Sample {
    #[default]
    Line,
    LineWithEnd,
    Paragraph,
    File,
}

impl Sample {
    /// Parses the options of a card; `place` names the card in messages.
    ///
    /// # Errors
    /// An unknown value.
    pub(super) fn told(told: &Map<String, Value>, place: &str) -> Result<Self> {
        let keeps_ends = told.get("keep_linebreaks").and_then(Value::as_bool) == Some(true);
        let known = ["line", "paragraph", "document"];
        match told.get("sample_by").filter(|value| !value.is_null()).map(Value::as_str) {
            None | Some(Some("line")) if keeps_ends => Ok(Sample::LineWithEnd),
            None | Some(Some("line")) => Ok(Sample::Line),
            Some(Some("paragraph")) => Ok(Sample::Paragraph),
            Some(Some("document")) => Ok(Sample::File),
            Some(other) => {
                let name = other.unwrap_or("another value").to_owned();
                let known = known.map(str::to_owned).into();
                Err(Error::Unknown { kind: "`sample_by`", name, place: place.to_owned(), known })
            }
        }
    }
}

/// The documents of a text file.
pub(super) struct Txt {
    text: Text,
    sample: Sample,
    bytes: Vec<u8>,
    is_over: bool,
}

impl Txt {
    pub(super) fn open(source: &Source, sample: Sample) -> Result<Self> {
        Ok(Txt { text: Text::open(source)?, sample, bytes: Vec::new(), is_over: false })
    }

    fn advance(&mut self) -> Result<Option<Option<String>>, Fault> {
        let found = match self.sample {
            Sample::Line | Sample::LineWithEnd => self.text.read_line(&mut self.bytes)?,
            Sample::Paragraph => self.read_paragraph()?,
            Sample::File => self.read_file()?,
        };
        if !found {
            return Ok(None);
        }
        let mut text = self.text.utf8(&self.text.at(), &self.bytes).map_err(Fault::Row)?.to_owned();
        if self.sample == Sample::LineWithEnd && self.text.has_end() {
            text.push('\n');
        }
        Ok(Some(Some(text)))
    }

    /// Reads a paragraph, up to an empty line; false at the end of the file.
    fn read_paragraph(&mut self) -> Result<bool> {
        self.text.begin();
        self.bytes.clear();
        loop {
            let start = self.bytes.len();
            let read = self.text.read_until(b'\n', &mut self.bytes);
            if read.map_err(|error| self.text.failed(self.text.at(), error))? == 0 {
                return Ok(!self.bytes.is_empty());
            }
            if self.bytes[start..].ends_with(b"\r\n") {
                self.bytes.truncate(self.bytes.len() - 2);
                self.bytes.push(b'\n');
            }
            if self.bytes.ends_with(b"\n\n") {
                self.bytes.truncate(self.bytes.len() - 2);
                if !self.bytes.is_empty() {
                    return Ok(true);
                }
                self.text.begin();
            }
        }
    }

    fn read_file(&mut self) -> Result<bool> {
        if std::mem::replace(&mut self.is_over, true) {
            return Ok(false);
        }
        self.bytes.clear();
        let read = self.text.read_to_end(&mut self.bytes);
        read.map_err(|error| self.text.failed(self.text.at(), error))?;
        if self.bytes.contains(&b'\r') {
            let ends_line = |at: usize, byte: u8| byte == b'\r' && self.bytes.get(at + 1) == Some(&b'\n');
            let kept = self.bytes.iter().enumerate().filter(|(at, byte)| !ends_line(*at, **byte));
            self.bytes = kept.map(|(_, byte)| *byte).collect();
        }
        Ok(true)
    }
}

impl Iterator for Txt {
    type Item = Document;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}
