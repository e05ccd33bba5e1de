//! Files that are there whole or not at all: written under another name beside the final one, and renamed at the end.

use crate::error::{Error, Result};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// A file that is being written. Dropped, it leaves no trace; kept, it takes its name and replaces what had it.
#[derive(Debug)]
pub struct WholeFile {
    temporary: NamedTempFile,
    path: PathBuf,
}

impl WholeFile {
    /// A new file that will be called `path`; a link is followed.
    ///
    /// # Errors
    /// A folder that does not exist or may not be written; a name that something other than a file has.
    pub fn create(path: &Path) -> Result<Self> {
        let path = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        if std::fs::metadata(&path).is_ok_and(|there| !there.is_file()) {
            let what = format!("the output `{}`", path.display());
            return Err(Error::invalid(what, "a new name or that of a file", "a folder or a device"));
        }
        let mut builder = tempfile::Builder::new();
        builder.prefix(".saescope-");
        #[cfg(unix)]
        {
            // As an ordinary new file: the process' umask takes from it what it wants.
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(std::fs::Permissions::from_mode(0o666));
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // The error names the temporary file; what the user asked for is the other one.
        let temporary =
            builder.tempfile_in(folder).map_err(|e| Error::file("create", &path)(e.kind().into()))?;
        Ok(WholeFile { temporary, path })
    }

    /// What to write to.
    pub fn writer(&mut self) -> &mut File {
        self.temporary.as_file_mut()
    }

    /// The file under its temporary name, for a writer that wants a path.
    pub fn temporary_path(&self) -> &Path {
        self.temporary.path()
    }

    /// Gives the finished file its name, once the disk has it.
    ///
    /// # Errors
    /// A disk that could not keep what was written, a name that cannot be taken.
    pub fn keep(self) -> Result<()> {
        self.temporary.as_file().sync_all().map_err(Error::file("write", &self.path))?;
        self.temporary.persist(&self.path).map_err(|e| Error::file("create", &self.path)(e.error))?;
        Ok(())
    }
}

/// Reads a whole file; anything else, such as a pipe that nobody writes to, is refused rather than waited for.
///
/// # Errors
/// A file that is not there, is no file, or cannot be read.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    check_is_file(path)?;
    std::fs::read(path).map_err(Error::file("read", path))
}

/// Checks that a path is that of a file.
///
/// # Errors
/// A file that is not there, or is something else.
pub fn check_is_file(path: &Path) -> Result<()> {
    if std::fs::metadata(path).map_err(Error::file("read", path))?.is_file() {
        return Ok(());
    }
    Err(Error::malformed(path, "expected a file, got something else of that name"))
}

/// Writes a whole file.
///
/// # Errors
/// As [`WholeFile::create`] and [`WholeFile::keep`]; a full disk.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = WholeFile::create(path)?;
    file.writer().write_all(bytes).map_err(Error::file("write", path))?;
    file.keep()
}
