//! One file of a dataset: where it is, and how it is read.

use super::formats::{Format, is_parquet, unknown_format};
use super::reading::Reading;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::repo::Repo;
use std::fs;
use std::path::PathBuf;
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
    pub(super) fn of(path: PathBuf, bytes: u64) -> Result<Source> {
        let format = match Format::of(&path) {
            Some(format) => format,
            None if is_parquet(&path)? => Format::Parquet,
            None => return Err(unknown_format(&path)),
        };
        let (read, reading) = (Arc::default(), Reading::Default);
        Ok(Source { path, format, bytes, repo: None, embedded: None, read, reading })
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
        let bytes = fs::metadata(&path).map_err(Error::file("open", &path))?.len();
        Ok(Source { path, bytes, repo: None, ..self.clone() })
    }
}
