//! A folder whose files are asked for by name, wherever it lies.

use crate::error::{Error, Result, did_you_mean};
use crate::progress::Progress;
use std::path::{Path, PathBuf};

/// The most files that are listed of one folder.
const MOST_FILES: usize = 200_000;

/// A folder whose files are asked for by name: their paths below it, with `/` between the parts.
#[derive(Debug, Clone)]
pub struct Repo {
    folder: PathBuf,
}

impl Repo {
    /// A folder on this machine.
    pub fn local(folder: impl Into<PathBuf>) -> Self {
        Repo { folder: folder.into() }
    }

    /// What it is called in messages: the folder's path.
    pub fn name(&self) -> String {
        self.folder.display().to_string()
    }

    /// The commit that the files are of, where that is known.
    pub fn revision(&self) -> Option<&str> {
        None
    }

    /// The folder `path` in it; nothing is looked up.
    #[must_use]
    pub fn folder(&self, path: &str) -> Self {
        Repo { folder: self.folder.join(path) }
    }

    /// The names of all files in it and below, sorted.
    ///
    /// # Errors
    /// A folder that cannot be read.
    pub fn names(&self, progress: &Progress) -> Result<Vec<String>> {
        let mut names = Vec::new();
        walk(&self.folder, "", &mut names, progress)?;
        names.sort();
        Ok(names)
    }

    /// Whether it has a file of this name.
    ///
    /// # Errors
    /// As [`Repo::names`].
    pub fn has(&self, name: &str, progress: &Progress) -> Result<bool> {
        progress.check()?;
        Ok(self.folder.join(name).is_file())
    }

    /// The path of a file on this machine.
    ///
    /// # Errors
    /// It has no such file.
    pub fn file(&self, name: &str, progress: &Progress) -> Result<PathBuf> {
        if self.has(name, progress)? {
            return Ok(self.folder.join(name));
        }
        let names = self.names(progress).unwrap_or_default();
        let nearest = did_you_mean(name, names.iter().map(String::as_str));
        Err(Error::mismatch(
            format!("`{}` has no file `{name}`", self.name()),
            match nearest {
                Some(nearest) => format!("did you mean `{nearest}`?"),
                None => "check the name; the file may not have been copied or downloaded".to_owned(),
            },
        ))
    }
}

fn walk(folder: &Path, prefix: &str, names: &mut Vec<String>, progress: &Progress) -> Result<()> {
    progress.check()?;
    let entries = std::fs::read_dir(folder).map_err(Error::file("read", folder))?;
    for entry in entries {
        let entry = entry.map_err(Error::file("read", folder))?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let path = entry.path();
        // A link to a folder could lead back to where it lies.
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder {
            walk(&path, &format!("{name}/"), names, progress)?;
        } else if path.is_file() && names.len() < MOST_FILES {
            names.push(name);
        }
    }
    Ok(())
}
