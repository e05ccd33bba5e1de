//! Files that are written completely or not at all: under another name next to the final one, and renamed at the end.
//! A file that grows over several runs keeps that other name in between.

use crate::error::{Error, Result};
use crate::memory;
use sha2::{Digest, Sha256};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use tempfile::NamedTempFile;

/// A file being written. Dropping it leaves no trace; `keep` gives it its name and replaces an existing file.
#[derive(Debug)]
pub struct AtomicFile {
    temporary: NamedTempFile,
    path: PathBuf,
}

impl AtomicFile {
    /// Creates a file that will get the name `path`. Follows a link.
    ///
    /// # Errors
    /// The folder does not exist or is not writable; `path` exists and is not a file; a link leads to itself.
    pub fn create(path: &Path) -> Result<Self> {
        check_output(path)?;
        let path = target(path)?;
        let mut builder = tempfile::Builder::new();
        builder.prefix(".saescope-");
        #[cfg(unix)]
        {
            // The mode of an ordinary new file, to which the umask applies.
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(std::fs::Permissions::from_mode(0o666));
        }
        let folder = folder_of(&path);
        // The system's error names the temporary file, but the user asked for `path`.
        let temporary =
            builder.tempfile_in(folder).map_err(|e| Error::file("create", &path)(e.kind().into()))?;
        Ok(AtomicFile { temporary, path })
    }

    /// The file to write to.
    pub fn writer(&mut self) -> &mut File {
        self.temporary.as_file_mut()
    }

    /// Syncs the finished file to disk and gives it its name.
    ///
    /// # Errors
    /// The file cannot be synced or renamed.
    pub fn keep(self) -> Result<()> {
        self.temporary.as_file().sync_all().map_err(Error::file("write", &self.path))?;
        self.temporary.persist(&self.path).map_err(|e| Error::file("create", &self.path)(e.error))?;
        Ok(())
    }
}

/// A file that grows over several runs: its lines are in `<path>.partial` until it is complete.
#[derive(Debug)]
pub struct PartialFile {
    file: File,
    partial: PathBuf,
    path: PathBuf,
    /// Whether no earlier run left anything and nothing has been added. The file is then removed on drop.
    is_idle: bool,
    is_resumed: bool,
}

impl PartialFile {
    /// Opens what an earlier run left, else a copy of the complete file. Empty if there is neither, or if `resume` is
    /// false. Only one run can have the file open. Follows a link.
    ///
    /// # Errors
    /// The folder does not exist or is not writable; another run is writing the file; a link leads to itself; the
    /// partial file is a link.
    pub fn open(path: &Path, resume: bool) -> Result<Self> {
        check_output(path)?;
        let path = &target(path)?;
        let partial = with_partial(path);
        check_output(&partial)?;
        let refused = |expected: &str, got: &str| {
            let error = Error::invalid(format!("`{}`", partial.display()), expected, got);
            Err(error.with_hint("remove it, or choose another output"))
        };
        if partial.is_symlink() {
            // The rename would turn the output into a link.
            return refused("a file", "a link");
        }
        #[cfg(unix)]
        if partial.metadata().is_ok_and(|there| std::os::unix::fs::MetadataExt::nlink(&there) > 1) {
            return refused("a file of its own", "a hard link to another file");
        }
        let open = || OpenOptions::new().read(true).append(true).create(true).open(&partial);
        let file = open().map_err(Error::file("create", &partial))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::Error(error)) => return Err(Error::file("lock", &partial)(error)),
            Err(TryLockError::WouldBlock) => {
                return Err(Error::mismatch(
                    format!("another run is writing `{}`", path.display()),
                    "wait for it, or choose another output",
                ));
            }
        }
        // An unfinished copy of the complete file does not count as left by an earlier run.
        let is_empty = is_beginning(&file, path).map_err(Error::file("read", &partial))?;
        if is_empty || !resume {
            file.set_len(0).map_err(Error::file("write", &partial))?;
        }
        if is_empty && resume && path.is_file() {
            let mut complete = File::open(path).map_err(Error::file("read", path))?;
            std::io::copy(&mut complete, &mut &file).map_err(Error::file("write", &partial))?;
        }
        Ok(PartialFile { file, partial, path: path.to_owned(), is_idle: is_empty, is_resumed: !is_empty })
    }

    /// Whether an earlier run left an unfinished file.
    pub fn is_resumed(&self) -> bool {
        self.is_resumed
    }

    /// The path of the partial file.
    pub fn partial_path(&self) -> &Path {
        &self.partial
    }

    /// The path of the complete file, if it exists.
    pub fn complete(&self) -> Option<&Path> {
        self.path.is_file().then_some(&self.path)
    }

    /// Truncates the file to `len` bytes.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn truncate(&mut self, len: u64) -> Result<()> {
        self.file.set_len(len).map_err(Error::file("write", &self.partial))
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// The file cannot be written, for example to a full disk.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.is_idle = false;
        self.file.write_all(bytes).map_err(Error::file("write", &self.partial))
    }

    /// Syncs the finished file to disk and gives it its name.
    ///
    /// # Errors
    /// The file cannot be synced or renamed.
    pub fn keep(mut self) -> Result<()> {
        self.is_idle = false;
        self.file.sync_all().map_err(Error::file("write", &self.path))?;
        std::fs::rename(&self.partial, &self.path).map_err(Error::file("create", &self.path))
    }
}

/// The path of the partial file of `path`. If `path` is a link, it is next to the link's target.
///
/// # Errors
/// A link leads to itself.
pub fn partial_path(path: &Path) -> Result<PathBuf> {
    target(path).map(|path| with_partial(&path))
}

fn with_partial(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}

/// Follows links to the file that a path leads to, which need not exist. The system refuses circular links.
fn target(path: &Path) -> Result<PathBuf> {
    match path.canonicalize() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => match path.read_link() {
            Ok(link) => target(&path.parent().unwrap_or(Path::new("")).join(link)),
            Err(_) => Ok(path.to_owned()),
        },
        there => there.map_err(Error::file("create", path)),
    }
}

/// Whether a file is empty, or is only the beginning of the file at `path`.
fn is_beginning(partial: &File, path: &Path) -> std::io::Result<bool> {
    let len = partial.metadata()?.len();
    if len == 0 || !path.is_file() {
        return Ok(len == 0);
    }
    let mut mine = BufReader::new(partial);
    let mut complete = BufReader::new(File::open(path)?);
    loop {
        let (a, b) = (mine.fill_buf()?, complete.fill_buf()?);
        let n = a.len().min(b.len());
        if a.is_empty() || n == 0 || a[..n] != b[..n] {
            return Ok(a.is_empty());
        }
        mine.consume(n);
        complete.consume(n);
    }
}

impl Drop for PartialFile {
    fn drop(&mut self) {
        if self.is_idle {
            // An unused partial file would only be in the way.
            let _ = std::fs::remove_file(&self.partial);
        }
    }
}

/// The maximum length in bytes of a file that is read at once: descriptions, tokenizers, trees.
const MAX: u64 = 1 << 28;

/// Opens a file to read it. Refuses anything else, such as a pipe, which could block forever.
///
/// # Errors
/// The file does not exist, is not a file, or is not readable.
pub fn open(path: &Path) -> Result<File> {
    check_is_file(path)?;
    File::open(path).map_err(Error::file("open", path))
}

/// Reads a file of at most 256 MiB.
///
/// # Errors
/// As [`open`]; the file is longer.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let bytes = read_start(path, MAX + 1)?;
    match bytes.len() as u64 {
        n if n > MAX => Err(Error::malformed(path, format!("expected at most {MAX} bytes, got more"))),
        _ => Ok(bytes),
    }
}

/// Reads the first `most` bytes of a file, all if it has fewer.
///
/// # Errors
/// As [`open`].
pub fn read_start(path: &Path, most: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(most).read_to_end(&mut bytes).map_err(Error::file("read", path))?;
    Ok(bytes)
}

/// Checks that a path leads to a file.
///
/// # Errors
/// The path does not exist or is not a file.
pub fn check_is_file(path: &Path) -> Result<()> {
    if std::fs::metadata(path).map_err(Error::file("read", path))?.is_file() {
        return Ok(());
    }
    Err(Error::malformed(path, "expected a file, got a folder, pipe or device"))
}

/// Checks that the path of an output is a file or does not exist.
///
/// # Errors
/// The path is a folder, pipe or device.
pub fn check_output(path: &Path) -> Result<()> {
    if std::fs::metadata(path).is_ok_and(|there| !there.is_file()) {
        let what = format!("the output `{}`", path.display());
        return Err(Error::invalid(what, "a new or existing file", "a folder, pipe or device"));
    }
    Ok(())
}

/// Checks that no output would overwrite a file that the run reads, or another output.
///
/// # Errors
/// Two of the paths are the same file, possibly under different names.
pub fn check_distinct(outputs: &[PathBuf], read: impl IntoIterator<Item = impl AsRef<Path>>) -> Result<()> {
    let identities = outputs.iter().map(|output| identity(output)).collect::<Result<Vec<_>>>()?;
    let same = |output: &Path, expected: &str, got: String| {
        let what = format!("the output `{}`", output.display());
        Error::invalid(what, expected, got).with_hint("choose another name for the output")
    };
    for (i, one) in identities.iter().enumerate() {
        if let Some(j) = identities[..i].iter().position(|other| other == one) {
            let got = format!("the same file as `{}`", outputs[i].display());
            return Err(same(&outputs[j], "a file of its own", got));
        }
    }
    for file in read {
        // A file that cannot be examined is reported when it is read.
        let Ok(file) = identity(file.as_ref()) else { continue };
        if let Some(i) = identities.iter().position(|output| *output == file) {
            return Err(same(&outputs[i], "a file that is not an input", "an input of the run".to_owned()));
        }
    }
    Ok(())
}

/// The identity of a file, whatever path leads to it.
#[derive(PartialEq)]
enum Identity {
    /// Device and inode of an existing file, which its hard links share.
    #[cfg(unix)]
    There(u64, u64),
    /// The path of a file that may not exist yet.
    At(PathBuf),
}

fn identity(path: &Path) -> Result<Identity> {
    #[cfg(unix)]
    if let Ok(found) = std::fs::metadata(path) {
        use std::os::unix::fs::MetadataExt;
        return Ok(Identity::There(found.dev(), found.ino()));
    }
    let path = target(path)?;
    let there = folder_of(&path).canonicalize();
    Ok(Identity::At(match (there, path.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => path,
    }))
}

/// The folder that a path is in.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The lines of a file, with a limit on the length of a line.
#[derive(Debug)]
pub struct Lines {
    path: PathBuf,
    reader: BufReader<File>,
    number: usize,
}

impl Lines {
    /// The maximum length of a line: 1 GiB.
    const LONGEST: u64 = 1 << 30;

    /// Opens a file.
    ///
    /// # Errors
    /// As [`open`].
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Lines { path: path.to_owned(), reader: BufReader::new(open(path)?), number: 0 })
    }

    /// The number of the last line read, from 1.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Reads the next line, with its line break if any, into `line`. Returns false at the end of the file.
    ///
    /// # Errors
    /// The line is longer than 1 GiB or than memory allows; the file cannot be read.
    pub fn read(&mut self, line: &mut Vec<u8>) -> Result<bool> {
        const STEP: u64 = 1 << 24;
        line.clear();
        self.number += 1;
        loop {
            let mut part = (&mut self.reader).take(STEP);
            let n = part.read_until(b'\n', line).map_err(Error::file("read", &self.path))?;
            if (n as u64) < STEP || line.last() == Some(&b'\n') {
                return Ok(!line.is_empty());
            }
            let malformed = |message: String| Error::Malformed {
                path: self.path.clone(),
                at: format!("line {}", self.number),
                message,
                hint: Some("check that the file has line breaks".to_owned()),
            };
            let most = Self::LONGEST;
            if line.len() as u64 > most {
                return Err(malformed(format!("expected a line of at most {most} bytes, got a longer one")));
            }
            // A buffer can take twice the line's length, and each empty list in it (3 bytes) 48 bytes: 2 + 48 / 3 = 18.
            memory::check("the line with its contents", 18 * line.len() as u64)
                .map_err(|error| malformed(error.to_string()))?;
        }
    }
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The SHA-256 of several parts and their lengths, in hexadecimal.
pub fn sha256(parts: &[&[u8]]) -> String {
    let add = |hash: Sha256, part: &&[u8]| hash.chain_update(part.len().to_le_bytes()).chain_update(part);
    hex(&parts.iter().fold(Sha256::new(), add).finalize())
}

/// Writes a file completely or not at all.
///
/// # Errors
/// As [`AtomicFile::create`] and [`AtomicFile::keep`]; the disk is full.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = AtomicFile::create(path)?;
    file.writer().write_all(bytes).map_err(Error::file("write", path))?;
    file.keep()
}
