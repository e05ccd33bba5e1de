//! Writes the JSONL file of a feature dataset.

use super::consumer::Consumer;
use super::record::FeatureRecord;
use super::windows::Context;
use crate::error::{Error, Result};
use crate::files;
use crate::sae::FeatureActs;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// Writes contexts as records, one per line. Errors name this path.
pub(crate) struct JsonlWriter<'a>(pub(crate) &'a Path);

/// An open JSONL file, with the SHA-256 of what is in it.
pub(crate) struct JsonlFile<'a> {
    file: &'a mut File,
    hash: Sha256,
}

impl<'a> JsonlFile<'a> {
    pub(crate) fn new(file: &'a mut File) -> Self {
        JsonlFile { file, hash: Sha256::new() }
    }

    /// The SHA-256 of the file, in hexadecimal.
    pub(crate) fn sha256(self) -> String {
        files::hex(&self.hash.finalize())
    }
}

impl<'a> Consumer for JsonlWriter<'a> {
    type Part = Vec<u8>;
    type State = JsonlFile<'a>;

    fn reduce(&self, contexts: &[Context], acts: &FeatureActs) -> Result<Vec<u8>> {
        let mut lines = Vec::new();
        for context in contexts {
            let record = FeatureRecord::new(context, acts);
            record.write_line(&mut lines).map_err(Error::file("write", self.0))?;
        }
        Ok(lines)
    }

    fn fold(&self, state: &mut JsonlFile<'a>, lines: Vec<u8>) -> Result<()> {
        state.hash.update(&lines);
        state.file.write_all(&lines).map_err(Error::file("write", self.0))
    }
}
