//! Plain text: every line is a document.
//!
//! A line ends in `\n` or `\r\n`. An empty line is an empty document; nothing after the last line end is no document.

use super::source::Source;
use super::text::Text;
use crate::error::Result;

/// The lines of a text file.
pub(super) struct Txt {
    text: Text,
    line: Vec<u8>,
}

impl Txt {
    pub(super) fn open(source: &Source) -> Result<Self> {
        Ok(Txt { text: Text::open(source)?, line: Vec::new() })
    }

    fn advance(&mut self) -> Result<Option<String>> {
        if !self.text.read_line(&mut self.line)? {
            return Ok(None);
        }
        Ok(Some(self.text.utf8(&self.text.at(), &self.line)?.to_owned()))
    }
}

impl Iterator for Txt {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        self.advance().transpose()
    }
}
