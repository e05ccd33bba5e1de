//! The folder of one repository in the cache, laid out as Python's huggingface_hub does: a file that either has
//! downloaded is there for the other.
//!
//! ```text
//! models--owner--name/
//!   blobs/<etag>                 what the files hold, each once
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

/// How often a lock that another holds is looked at.
const STEP: Duration = Duration::from_millis(50);

/// The folder of one repository.
#[derive(Debug, Clone)]
pub(super) struct Folder {
    root: PathBuf,
    repo: hf_hub::Repo,
}

impl Folder {
    /// The folder of a repository below `root`; `id` has been checked.
    pub(super) fn new(root: &Path, kind: RepoKind, id: &str) -> Self {
        let kind = match kind {
            RepoKind::Model => hf_hub::RepoType::Model,
            RepoKind::Dataset => hf_hub::RepoType::Dataset,
        };
        Folder { root: root.to_owned(), repo: hf_hub::Repo::new(id.to_owned(), kind) }
    }

    /// The folder of everything, for messages.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// The folder with the files of a commit.
    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        hf_hub::Cache::new(self.root.clone()).repo(self.repo.clone()).pointer_path(commit)
    }

    /// What a file holds, by its etag.
    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.root.join(self.repo.folder_name()).join("blobs").join(etag)
    }

    /// The commit that a branch or tag was seen at last.
    pub(super) fn commit_of(&self, revision: &str) -> Option<String> {
        let text = String::from_utf8(files::read(&self.reference(revision)).ok()?).ok()?;
        Some(text.trim().to_owned()).filter(|commit| is_commit(commit))
    }

    /// Remembers the commit of a branch or tag.
    pub(super) fn remember(&self, revision: &str, commit: &str) -> Result<()> {
        if revision == commit || self.commit_of(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        let path = self.reference(revision);
        create_parent(&path)?;
        files::write_whole(&path, commit.as_bytes())
    }

    /// Takes the lock of a file, waiting for whoever has it. It is given back when the value is dropped.
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
                // Some network disks have no locks: two downloads at once then cost time, and no more.
                Err(TryLockError::Error(e)) if e.kind() == std::io::ErrorKind::Unsupported => {
                    return Ok(file);
                }
                Err(TryLockError::Error(e)) => return Err(Error::file("lock", &path)(e)),
                Ok(()) => return Ok(file),
            }
        }
    }

    /// Puts a blob into the snapshot of a commit under the name of the file, and gives its path there.
    pub(super) fn link(&self, etag: &str, commit: &str, name: &str) -> Result<PathBuf> {
        let path = self.snapshot(commit).join(name);
        if path.is_file() {
            return Ok(path);
        }
        create_parent(&path)?;
        // A link that leads nowhere; nothing else can be in the way.
        if path.is_symlink() {
            std::fs::remove_file(&path).map_err(Error::file("replace", &path))?;
        }
        let up = "../".repeat(1 + name.split('/').count());
        if symlink(&format!("{up}blobs/{etag}"), &path).is_err() && !path.is_file() {
            // Where links are not to be had, a copy takes room but works as well.
            let mut copy = files::WholeFile::create(&path)?;
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

/// Creates the folder that `path` lies in.
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
