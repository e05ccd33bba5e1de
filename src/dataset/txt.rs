//! Plain text: every line is a document, or every paragraph or file if the card says so.
//!
//! A line ends in `\n` or `\r\n`. An empty line is an empty document; a line end at the end of the file does not start
//! another one. A paragraph ends at an empty line and is never empty.

use super::fault::Fault;
use super::reading::Sample;
use super::source::Source;
use super::text::Text;
use crate::error::Result;
use std::io::{BufRead, Read};

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

    pub(super) fn advance(&mut self) -> Result<Option<Option<String>>, Fault> {
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
