//! A folder whose files are asked for by name, wherever it lies.

use crate::error::{Error, Result, did_you_mean};
use crate::hub::{HubSettings, RepoKind, Snapshot, check_path};
use crate::progress::Progress;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// The most files that are listed of one folder.
const MOST_FILES: usize = 200_000;

/// A folder whose files are asked for by name: their paths below it, with `/` between the parts. It is on this machine,
/// or in a repository on the Hugging Face hub at one commit, whose files are downloaded when they are asked for.
#[derive(Debug, Clone)]
pub struct Repo {
    place: Place,
    asked: Arc<Mutex<BTreeSet<PathBuf>>>,
}

#[derive(Debug, Clone)]
enum Place {
    Local(PathBuf),
    Hub(Snapshot),
}

impl Repo {
    /// A folder on this machine.
    pub fn local(folder: impl Into<PathBuf>) -> Self {
        Repo::at(Place::Local(folder.into()))
    }

    /// A local folder of that name if there is one, else the repository on the hub: `owner/name`, or a bare name of the
    /// early days such as `gpt2`. The revision, a branch, tag or commit, is `main` unless it is given; which commit that
    /// is now is asked once, here.
    ///
    /// # Errors
    /// A name that neither a folder nor a repository has; a revision of a local folder; see [`Repo::hub`].
    pub fn open(kind: RepoKind, name: &str, revision: Option<&str>, progress: &Progress) -> Result<Self> {
        if Path::new(name).is_dir() {
            return match revision {
                None => Ok(Repo::local(name)),
                Some(revision) => {
                    let what = format!("the revision of `{name}`");
                    Err(Error::invalid(what, "none, as it is a local folder", format!("`{revision}`")))
                }
            };
        }
        if Path::new(name).exists() {
            return Err(Error::invalid(format!("`{name}`"), "a folder", "something else of that name"));
        }
        if !Snapshot::can_be_called(name) {
            let expected = "a folder, or the name of a repository on the hub such as `owner/name`";
            let what = format!("`{}`", name.escape_debug());
            return Err(Error::invalid(what, expected, "neither")
                .with_hint("check the path; it is relative to the folder you are in"));
        }
        Repo::hub(kind, name, revision, progress)
    }

    /// A repository on the hub, even where a folder has that name.
    ///
    /// # Errors
    /// A name or revision that the hub does not know, or that needs a token; a hub that cannot be reached, and nothing
    /// in the cache.
    pub fn hub(kind: RepoKind, id: &str, revision: Option<&str>, progress: &Progress) -> Result<Self> {
        Repo::hub_with(&HubSettings::from_env(), kind, id, revision, progress)
    }

    /// As [`Repo::hub`], with settings other than those of the environment.
    ///
    /// # Errors
    /// As [`Repo::hub`].
    pub fn hub_with(
        settings: &HubSettings,
        kind: RepoKind,
        id: &str,
        revision: Option<&str>,
        progress: &Progress,
    ) -> Result<Self> {
        let snapshot = Snapshot::open(settings, kind, id, revision, progress)?;
        Ok(Repo::at(Place::Hub(snapshot)))
    }

    fn at(place: Place) -> Self {
        Repo { place, asked: Arc::default() }
    }

    /// What it is called in messages: the folder's path, or the name of the repository.
    pub fn name(&self) -> String {
        match &self.place {
            Place::Local(folder) => folder.display().to_string().trim_end_matches('/').to_owned(),
            Place::Hub(snapshot) => snapshot.id().to_owned(),
        }
    }

    /// The commit that the files are of, where that is known.
    pub fn revision(&self) -> Option<&str> {
        match &self.place {
            Place::Local(_) => None,
            Place::Hub(snapshot) => Some(snapshot.commit()),
        }
    }

    /// Whether it is a folder on this machine, not a repository on the hub.
    pub fn is_local(&self) -> bool {
        matches!(self.place, Place::Local(_))
    }

    /// The names of all files in it and below, sorted. Of a repository that cannot be asked, they are those of the files
    /// that were downloaded.
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

    /// Whether it has a file of this name.
    ///
    /// # Errors
    /// As [`Repo::names`]; a name that is no path below it.
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

    /// The path of a file on this machine; it is downloaded if that is needed.
    ///
    /// # Errors
    /// It has no such file; a name that is no path below it; see [`Repo::hub`].
    pub fn file(&self, name: &str, progress: &Progress) -> Result<PathBuf> {
        let path = self.find(name, progress)?;
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone());
        Ok(path)
    }

    /// The path of a file that need not be downloaded.
    pub(crate) fn here(&self, name: &str) -> Option<PathBuf> {
        match &self.place {
            Place::Local(folder) => Some(folder.join(name)),
            Place::Hub(snapshot) => snapshot.cached(name).ok().flatten(),
        }
    }

    /// The files that were asked for so far, by this or one of its clones.
    pub fn files(&self) -> Vec<PathBuf> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
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
        Err(Error::mismatch(
            format!("`{}` has no file `{name}`", self.name()),
            match nearest {
                Some(nearest) => format!("did you mean `{nearest}`?"),
                None => "check the name; the file may not have been copied or downloaded".to_owned(),
            },
        ))
    }

    /// Whether it may have more files than are known: those in the cache of a repository that cannot be asked.
    pub(crate) fn is_partial(&self) -> bool {
        match &self.place {
            Place::Local(_) => false,
            Place::Hub(snapshot) => snapshot.is_partial(),
        }
    }

    /// The error for a file that is needed and not there: `error`, or where the repository cannot be asked whether it has
    /// the file, that it is not in the cache.
    pub(crate) fn lacking(&self, name: &str, error: Error, progress: &Progress) -> Error {
        match self.is_partial() {
            true => self.file(name, progress).err().unwrap_or(error),
            false => error,
        }
    }

    /// Checks that a name does not lead out of the place.
    fn check(&self, name: &str) -> Result<()> {
        check_path(&format!("a file of `{}`", self.name()), name)
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
        } else if path.is_file() {
            names.push(name);
        }
        if names.len() > MOST_FILES {
            let what = format!("the folder `{}`", folder.display());
            let got = format!("more than {MOST_FILES}");
            return Err(Error::invalid(what, "a folder with the files of one repository", got)
                .with_hint("give a folder further down"));
        }
    }
    Ok(())
}
