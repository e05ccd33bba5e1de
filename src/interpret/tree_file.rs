//! A file of definition trees that can be read again and again.

use super::{DefinitionTree, read_trees};
use crate::error::Result;
use std::path::{Path, PathBuf};

/// A file of definition trees. Each call of [`TreeFile::trees`] reads it from its beginning.
#[derive(Debug, Clone)]
pub struct TreeFile(PathBuf);

impl TreeFile {
    /// Returns the file at `path`, after checking that it can be opened.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        // A missing file is an error here, not at the first tree.
        read_trees(path)?;
        Ok(TreeFile(path.to_owned()))
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Returns the trees, or the error of a file that cannot be opened.
    pub fn trees(&self) -> Box<dyn Iterator<Item = Result<DefinitionTree>>> {
        match read_trees(&self.0) {
            Ok(trees) => Box::new(trees),
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    }
}
