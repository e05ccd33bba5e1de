//! The forms of files of records and of trees.

use super::{Shown, to_json};
use crate::error::Result;
use crate::extract::RecordFile;
use crate::interpret::TreeFile;
use std::io::Write;

impl Shown for RecordFile {
    fn title(&self) -> String {
        self.text()
    }

    fn text(&self) -> String {
        format!("Records of {}", self.path().display())
    }

    fn write_json(&self, out: &mut dyn Write) -> Result<()> {
        to_json(self.path(), out)
    }
}

impl Shown for TreeFile {
    fn title(&self) -> String {
        self.text()
    }

    fn text(&self) -> String {
        format!("Trees of {}", self.path().display())
    }

    fn write_json(&self, out: &mut dyn Write) -> Result<()> {
        to_json(self.path(), out)
    }
}
