//! The forms of files of records and of trees.

use super::{Shown, to_json};
use crate::error::Result;
use crate::extract::RecordFile;
use crate::interpret::TreeFile;
use std::io::Write;

/// The forms of a file: what it contains, and its path.
macro_rules! file_forms {
    ($type:ty, $contents:literal) => {
        impl Shown for $type {
            fn title(&self) -> String {
                self.text()
            }

            fn text(&self) -> String {
                format!("{} of {}", $contents, self.path().display())
            }

            fn write_json(&self, out: &mut dyn Write) -> Result<()> {
                to_json(self.path(), out)
            }
        }
    };
}

file_forms!(RecordFile, "Records");
file_forms!(TreeFile, "Trees");
