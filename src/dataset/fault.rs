//! The errors of reading a file of documents: one damaged row, or a file that cannot be read further.

use crate::error::Error;

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
