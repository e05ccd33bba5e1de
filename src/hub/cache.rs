//! The folder of one repository in the cache, laid out as by Python's huggingface_hub: each finds the files that the
//! other has downloaded.
//!
//! ```text
//! models--owner--name/
//!   blobs/<etag>                 the contents of the files, each once
//!   snapshots/<commit>/a/b.txt   the files of a commit: links into blobs/
//!   refs/<revision>              the commit of a branch or tag
//! .locks/models--owner--name/<etag>.lock
//! ```

use super::RepoKind;
use super::names::is_commit;
use crate::error::{Error, Result};
use crate::files;
use crate::progress::Progress;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The interval between two attempts to take a lock that is held elsewhere.
const STEP: Duration = Duration::from_millis(50);

/// The folder of one repository in the cache.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    root: PathBuf,
    repo: hf_hub::Repo,
}

impl Folder {
    /// Returns the folder of a repository below `root`; `id` has been checked.
    pub(super) fn new(root: &Path, kind: RepoKind, id: &str) -> Self {
        let kind = match kind {
            RepoKind::Model => hf_hub::RepoType::Model,
            RepoKind::Dataset => hf_hub::RepoType::Dataset,
        };
        Folder { root: root.to_owned(), repo: hf_hub::Repo::new(id.to_owned(), kind) }
    }

    /// Returns the folder of the cache, for messages.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Returns the folder with the files of a commit.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        hf_hub::Cache::new(self.root.clone()).repo(self.repo.clone()).pointer_path(commit)
    }

    /// Returns the path of a file's contents, by its etag.
    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.root.join(self.repo.folder_name()).join("blobs").join(etag)
    }

    /// Returns the commit that a branch or tag was at when the hub was last asked.
    pub(super) fn commit_of(&self, revision: &str) -> Option<String> {
        let text = String::from_utf8(files::read(&self.reference(revision)).ok()?).ok()?;
        Some(text.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    /// Stores the commit of a branch or tag.
    pub(super) fn remember(&self, revision: &str, commit: &str) -> Result<()> {
        if revision == commit || self.commit_of(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        let path = self.reference(revision);
        create_parent(&path)?;
        files::write_atomic(&path, commit.as_bytes())
    }

    /// Locks a file, waiting for other processes. The lock is released when the value is dropped.
    pub(super) fn lock(&self, etag: &str, progress: &Progress) -> Result<File> {
        let path = self.root.join(".locks").join(self.repo.folder_name()).join(format!("{etag}.lock"));
        create_parent(&path)?;
        files::check_output(&path)?;
        let mut options = File::options();
        let file = options.create(true).append(true).open(&path).map_err(Error::file("create", &path))?;
        loop {
            progress.check()?;
            match file.try_lock() {
                Err(TryLockError::WouldBlock) => std::thread::sleep(STEP),
                // Some network disks have no locks: simultaneous downloads then only cost time.
                Err(TryLockError::Error(e)) if e.kind() == std::io::ErrorKind::Unsupported => {
                    return Ok(file);
                }
                Err(TryLockError::Error(e)) => return Err(Error::file("lock", &path)(e)),
                Ok(()) => return Ok(file),
            }
        }
    }

    /// Links a blob into the snapshot of a commit under the name of the file, and returns its path there.
    pub(super) fn link(&self, etag: &str, commit: &str, name: &str) -> Result<PathBuf> {
        let path = self.snapshot(commit).join(name);
        if path.is_file() {
            return Ok(path);
        }
        create_parent(&path)?;
        // A dangling link; nothing else can have this name.
        if path.is_symlink() {
            std::fs::remove_file(&path).map_err(Error::file("replace", &path))?;
        }
        let up = "../".repeat(1 + name.split('/').count());
        if symlink(&format!("{up}blobs/{etag}"), &path).is_err() && !path.is_file() {
            // Without links, a copy works as well, but takes space.
            let mut copy = files::AtomicFile::create(&path)?;
            let blob = self.blob(etag);
            let mut from = files::open(&blob)?;
            std::io::copy(&mut from, copy.writer()).map_err(Error::file("write", &path))?;
            copy.keep()?;
        }
        Ok(path)
    }

    fn reference(&self, revision: &str) -> PathBuf {
        self.root.join(self.repo.folder_name()).join("refs").join(revision)
    }
}

/// Creates the parent folder of `path`.
pub(super) fn create_parent(path: &Path) -> Result<()> {
    let parent = path.parent().unwrap_or(path);
    std::fs::create_dir_all(parent).map_err(Error::file("create", parent))
}

#[cfg(unix)]
fn symlink(target: &str, path: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, path)
}

#[cfg(not(unix))]
fn symlink(_: &str, _: &Path) -> std::io::Result<()> {
    Err(std::io::ErrorKind::Unsupported.into())
}
