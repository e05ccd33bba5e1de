//! A file of records that can be read again and again.

use super::{FeatureRecord, read_records, read_records_of};
use crate::error::Result;
use std::path::{Path, PathBuf};

/// A feature dataset file. Each call of [`RecordFile::records`] reads it from its beginning.
#[derive(Debug, Clone)]
pub struct RecordFile(PathBuf);

impl RecordFile {
    /// Returns the file at `path`, after checking that it can be opened.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: &Path) -> Result<Self> {
        // A missing file is an error here, not at the first record.
        read_records(path)?;
        Ok(RecordFile(path.to_owned()))
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Returns the records, or the error of a file that cannot be opened.
    pub fn records(&self) -> Box<dyn Iterator<Item = Result<FeatureRecord>>> {
        self.records_of(None)
    }

    /// Like [`RecordFile::records`], for records of the model `model_name`.
    pub fn records_of(&self, model_name: Option<&str>) -> Box<dyn Iterator<Item = Result<FeatureRecord>>> {
        match read_records_of(&self.0, model_name) {
            Ok(records) => Box::new(records),
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    }
}
