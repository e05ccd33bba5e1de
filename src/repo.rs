//! A folder of files that are requested by name, local or on the hub.

use crate::error::{Error, Result, did_you_mean};
use crate::hub::{HubSettings, RepoKind, Snapshot, check_path};
use crate::progress::Progress;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The maximum number of files listed below one folder.
const MAX_FILES: usize = 200_000;

/// A folder of files that are requested by name: their paths in it, with `/` between the parts. It is a local folder,
/// or a repository on the Hugging Face hub at one commit, whose files are downloaded when they are requested.
#[derive(Debug, Clone)]
pub struct Repo {
    place: Place,
    requested: Arc<Mutex<BTreeSet<PathBuf>>>,
}

#[derive(Debug, Clone)]
enum Place {
    Local(PathBuf),
    Hub(Arc<Snapshot>),
}

impl Repo {
    /// Opens a local folder.
    pub fn local(folder: impl Into<PathBuf>) -> Self {
        Repo { place: Place::Local(folder.into()), requested: Arc::default() }
    }

    /// Opens the local folder of this name if there is one, else the repository on the hub: `owner/name`, or an old
    /// bare name such as `gpt2`. `revision` is a branch, tag or commit, by default `main`; it is resolved to a commit
    /// once, here.
    ///
    /// # Errors
    /// A name that is neither a folder nor a repository; a revision of a local folder; see [`Repo::hub`].
    pub fn open(kind: RepoKind, name: &str, revision: Option<&str>, progress: &Progress) -> Result<Self> {
        if Path::new(name).is_dir() {
            check_no_revision(name, "folder", revision)?;
            return Ok(Repo::local(name));
        }
        if Path::new(name).exists() {
            return Err(Error::invalid(format!("`{name}`"), "a folder", "a file or a device"));
        }
        if !Snapshot::is_valid_id(name) {
            let expected = "a folder, or the name of a repository on the hub such as `owner/name`";
            let message = format!("`{}`: expected {expected}, got neither", name.escape_debug());
            return Err(Error::not_found(message, "check the path; it is relative to the current folder"));
        }
        Repo::hub(kind, name, revision, progress)
    }

    /// Opens a repository on the hub, even if a folder has that name.
    ///
    /// # Errors
    /// A name or revision that the hub does not know, or that requires a token; a hub that cannot be reached, with
    /// nothing in the cache.
    pub fn hub(kind: RepoKind, id: &str, revision: Option<&str>, progress: &Progress) -> Result<Self> {
        Repo::hub_with(&HubSettings::from_env(), kind, id, revision, progress)
    }

    /// Like [`Repo::hub`], with settings other than those of the environment.
    ///
    /// # Errors
    /// The errors of [`Repo::hub`].
    pub fn hub_with(
        settings: &HubSettings,
        kind: RepoKind,
        id: &str,
        revision: Option<&str>,
        progress: &Progress,
    ) -> Result<Self> {
        let snapshot = Snapshot::open(settings, kind, id, revision, progress)?;
        Ok(Repo { place: Place::Hub(Arc::new(snapshot)), requested: Arc::default() })
    }

    /// Returns the name for messages: the path of the folder, or the name of the repository.
    pub fn name(&self) -> String {
        match &self.place {
            Place::Local(folder) => folder.display().to_string().trim_end_matches('/').to_owned(),
            Place::Hub(snapshot) => snapshot.id().to_owned(),
        }
    }

    /// Returns the commit that the files belong to, `None` for a local folder.
    pub fn revision(&self) -> Option<&str> {
        match &self.place {
            Place::Local(_) => None,
            Place::Hub(snapshot) => Some(snapshot.commit()),
        }
    }

    /// Whether this is a local folder, not a repository on the hub.
    pub fn is_local(&self) -> bool {
        matches!(self.place, Place::Local(_))
    }

    /// Returns the names of all files in the folder and below, sorted. If the hub cannot be reached, only the names of
    /// the downloaded files.
    ///
    /// # Errors
    /// A folder that cannot be read; see [`Repo::hub`].
    pub fn names(&self, progress: &Progress) -> Result<Vec<String>> {
        let folder = match &self.place {
            Place::Local(folder) => folder.clone(),
            Place::Hub(snapshot) => match snapshot.listing(progress)? {
                Some(names) => return Ok(names.to_vec()),
                None => snapshot.folder(),
            },
        };
        let mut names = Vec::new();
        walk(&folder, "", &mut names, progress)?;
        names.sort();
        Ok(names)
    }

    /// Whether there is a file of this name.
    ///
    /// # Errors
    /// The errors of [`Repo::names`]; a name that is not a path below the folder.
    pub fn has(&self, name: &str, progress: &Progress) -> Result<bool> {
        progress.check()?;
        self.check(name)?;
        match &self.place {
            Place::Local(folder) => Ok(folder.join(name).is_file()),
            Place::Hub(snapshot) if snapshot.cached(name)?.is_some() => Ok(true),
            Place::Hub(snapshot) => {
                let names = snapshot.listing(progress)?;
                Ok(names
                    .is_some_and(|names| names.binary_search_by(|known| known.as_str().cmp(name)).is_ok()))
            }
        }
    }

    /// Returns the local path of a file, downloading the file if necessary.
    ///
    /// # Errors
    /// A file that does not exist; a name that is not a path below the folder; see [`Repo::hub`].
    pub fn file(&self, name: &str, progress: &Progress) -> Result<PathBuf> {
        let path = self.find(name, progress)?;
        self.requested.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone());
        Ok(path)
    }

    /// Returns the local path of a file, or `None` if it would have to be downloaded.
    pub(crate) fn local_path(&self, name: &str) -> Option<PathBuf> {
        match &self.place {
            Place::Local(folder) => Some(folder.join(name)),
            Place::Hub(snapshot) => snapshot.cached(name).ok().flatten(),
        }
    }

    /// Returns the files requested so far, through this value or its clones.
    pub fn files(&self) -> Vec<PathBuf> {
        self.requested.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    fn find(&self, name: &str, progress: &Progress) -> Result<PathBuf> {
        self.check(name)?;
        let folder = match &self.place {
            Place::Hub(snapshot) => return snapshot.file(name, progress),
            Place::Local(folder) => folder,
        };
        if self.has(name, progress)? {
            return Ok(folder.join(name));
        }
        let names = self.names(progress).unwrap_or_default();
        let nearest = did_you_mean(name, names.iter().map(String::as_str));
        Err(Error::not_found(
            format!("`{}` has no file `{name}`", self.name()),
            match nearest {
                Some(nearest) => format!("did you mean `{nearest}`?"),
                None => "check the name; the file may not have been copied or downloaded".to_owned(),
            },
        ))
    }

    /// Whether there may be more files than are known: the hub cannot be reached, and only the cached ones are known.
    pub(crate) fn is_partial(&self) -> bool {
        match &self.place {
            Place::Local(_) => false,
            Place::Hub(snapshot) => snapshot.is_partial(),
        }
    }

    /// Returns the error for a missing file: `error`, or, if the hub cannot be asked whether it has the file, that the
    /// file is not in the cache.
    pub(crate) fn missing_file_error(&self, name: &str, error: Error, progress: &Progress) -> Error {
        match self.is_partial() {
            true => self.file(name, progress).err().unwrap_or(error),
            false => error,
        }
    }

    /// Checks that a name does not lead out of the folder.
    fn check(&self, name: &str) -> Result<()> {
        check_path(&format!("a file of `{}`", self.name()), name)
    }
}

/// Refuses a revision of something local: the `thing` (a folder, an SAE, …) of this name.
pub(crate) fn check_no_revision(name: &str, thing: &str, revision: Option<&str>) -> Result<()> {
    let Some(revision) = revision else { return Ok(()) };
    let (what, expected) = (format!("the revision of `{name}`"), format!("none for a local {thing}"));
    Err(Error::invalid(what, expected, format!("`{revision}`")).with_hint("leave the revision out"))
}

fn walk(folder: &Path, prefix: &str, names: &mut Vec<String>, progress: &Progress) -> Result<()> {
    progress.check()?;
    let entries = std::fs::read_dir(folder).map_err(Error::file("read", folder))?;
    for entry in entries {
        let entry = entry.map_err(Error::file("read", folder))?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        let path = entry.path();
        // Links to folders are not followed: they could lead back to a parent.
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&path, &format!("{name}/"), names, progress)?;
        } else if path.is_file() {
            names.push(name);
        }
        if names.len() > MAX_FILES {
            let what = format!("the folder `{}`", folder.display());
            let got = format!("more than {MAX_FILES} files");
            return Err(Error::invalid(what, "a folder with the files of one repository", got)
                .with_hint("give one of its subfolders"));
        }
    }
    Ok(())
}
