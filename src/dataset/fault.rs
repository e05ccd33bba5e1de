//! The errors of reading a file of documents: one damaged row, or a file that cannot be read further.

use crate::error::Error;
use std::path::Path;

/// Why a document could not be read.
#[derive(Debug)]
pub(super) enum Fault {
    /// One row is damaged; the next one can be read.
    Row(Error),
    /// Nothing more can be read from this file.
    File(Error),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Fault::File(error)
    }
}

/// A document; `None` for a row without text.
pub(super) type Document = Result<Option<String>, Fault>;

/// An error about the contents of a file, `at` a place in it if that is not empty.
pub(super) fn malformed(path: &Path, at: &str, message: impl Into<String>, hint: &str) -> Error {
    let (at, hint) = (at.to_owned(), Some(hint.to_owned()));
    Error::Malformed { path: path.to_owned(), at, message: message.into(), hint }
}

/// The error of a file that lacks the column `name`; `at` is the place where that shows, after a comma, or empty.
pub(super) fn unknown_column(path: &Path, at: &str, name: &str, known: Vec<String>) -> Error {
    let place = format!("`{}`{at}", path.display());
    Error::Unknown { kind: "column", name: name.to_owned(), place, known }
}
