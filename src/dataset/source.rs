//! One file of a dataset: where it is, and how it is read.

use super::formats::{Format, is_parquet, unknown_format};
use super::reading::Reading;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::repo::Repo;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// One file of a dataset.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// The local path, or the name in `repo` until it is downloaded.
    pub(super) path: PathBuf,
    pub(super) format: Format,
    /// The size in bytes; 0 until it is downloaded.
    pub(super) bytes: u64,
    /// The repository to download it from when it is read.
    pub(super) repo: Option<Repo>,
    /// The contents of an embedded file.
    pub(super) embedded: Option<&'static [u8]>,
    /// The number of bytes read so far, shared by all sources of one [`super::Documents`].
    pub(super) read: Arc<AtomicU64>,
    /// How to read the file, from the card and the options.
    pub(super) reading: Reading,
}

impl Source {
    /// A file that is read in the usual way of its format.
    pub(super) fn new(path: PathBuf, format: Format, bytes: u64) -> Source {
        let (read, reading) = (Arc::default(), Reading::Default);
        Source { path, format, bytes, repo: None, embedded: None, read, reading }
    }

    /// A local file.
    ///
    /// # Errors
    /// A file that is not there, or in an unknown format.
    pub(super) fn local(path: PathBuf) -> Result<Source> {
        let bytes = length(&path)?;
        match Format::of(&path) {
            Some(format) => Ok(Source::new(path, format, bytes)),
            None if is_parquet(&path)? => Ok(Source::new(path, Format::Parquet, bytes)),
            None => Err(unknown_format(&path)),
        }
    }

    /// The local path; `None` if it is embedded or not downloaded yet.
    pub(super) fn local_path(&self) -> Option<PathBuf> {
        match &self.repo {
            Some(repo) => repo.local_path(&self.path.to_string_lossy()),
            None => self.embedded.is_none().then(|| self.path.clone()),
        }
    }

    /// The same file, downloaded if necessary.
    pub(super) fn fetched(&self, progress: &Progress) -> Result<Source> {
        let Some(repo) = &self.repo else { return Ok(self.clone()) };
        let path = repo.file(&self.path.to_string_lossy(), progress)?;
        Ok(Source { bytes: length(&path)?, path, repo: None, ..self.clone() })
    }
}

fn length(path: &Path) -> Result<u64> {
    Ok(fs::metadata(path).map_err(Error::file("open", path))?.len())
}
