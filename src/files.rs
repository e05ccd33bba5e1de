//! Files that are there whole or not at all: written under another name beside the final one, and renamed at the end.

use crate::error::{Error, Result};
use std::io::Write;
use std::path::Path;
use tempfile::NamedTempFile;

/// A new temporary file in the folder of `path`; dropped, it is gone.
///
/// # Errors
/// A folder that does not exist or that may not be written.
pub fn beside(path: &Path) -> Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".saescope-");
    #[cfg(unix)]
    {
        // As an ordinary new file: the process' umask takes from it what it wants.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    // The error names the temporary file; what the user asked for is the other one.
    builder.tempfile_in(folder_of(path)).map_err(|e| Error::file("create", path)(e.kind().into()))
}

/// Gives a finished temporary file its name, once the disk has it.
///
/// # Errors
/// A disk that could not keep what was written, a name that cannot be taken.
pub fn keep(file: NamedTempFile, path: &Path) -> Result<()> {
    file.as_file().sync_all().map_err(Error::file("write", path))?;
    file.persist(path).map_err(|e| Error::file("create", path)(e.error))?;
    Ok(())
}

/// Writes a whole file.
///
/// # Errors
/// A folder that does not exist, a full disk.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = beside(path)?;
    file.write_all(bytes).map_err(Error::file("write", path))?;
    keep(file, path)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
