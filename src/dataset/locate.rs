//! Resolves a path to files and their formats: one file, a folder, a glob, a repository, or the embedded documents.

use super::DatasetOptions;
use super::formats::{Format, describes, extensions, is_description, keep_most_common, unknown_format};
use super::reading::Reading;
use super::saved;
use super::source::Source;
use super::splits::{self, Found, TRAIN, unknown};
use crate::error::{Error, Result, did_you_mean};
use crate::files;
use crate::hub::{RepoKind, Snapshot};
use crate::progress::Progress;
use crate::repo::{Repo, check_no_revision};
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The files at a path, with what a repository says about them.
#[derive(Debug, Clone, Default)]
pub(super) struct Files {
    pub(super) sources: Vec<Source>,
    /// The commit of a repository, if known.
    pub(super) revision: Option<String>,
    pub(super) config: Option<String>,
    pub(super) split: Option<String>,
    /// The card's options for the reader of the files.
    pub(super) reader_options: Map<String, Value>,
    /// The paths of the cards and descriptions used.
    pub(super) about: Vec<PathBuf>,
}

/// Finds the files at `path`, in reading order.
pub(super) fn find(path: &str, options: &DatasetOptions, progress: &Progress) -> Result<Files> {
    let files = find_files(path, options, progress)?;
    let with_reading = |source: Source| {
        let reading = Reading::from_card(source.format, &files.reader_options, options.sep.as_deref(), path)?;
        Ok(Source { reading, ..source })
    };
    let sources = files.sources.into_iter().map(with_reading).collect::<Result<_>>()?;
    Ok(Files { sources, ..files })
}

fn find_files(path: &str, options: &DatasetOptions, progress: &Progress) -> Result<Files> {
    if path == "demo" {
        check_no_repository(path, options)?;
        let bytes = crate::demo::DOCS;
        let source = Source::new(PathBuf::from(path), Format::Jsonl, bytes.len() as u64);
        let source = Source { embedded: Some(bytes), ..source };
        return Ok(Files { sources: vec![source], ..Files::default() });
    }
    let place = Path::new(path);
    let without_repository = |sources: Result<Vec<Source>>| {
        check_no_repository(path, options)?;
        Ok(Files { sources: sources?, ..Files::default() })
    };
    match fs::metadata(place) {
        Ok(found) if found.is_dir() => in_folder_or_repo(place, options, progress),
        Ok(_) => without_repository(Source::local(place.to_owned()).map(|source| vec![source])),
        Err(_) if path.contains(['*', '?', '[']) => without_repository(matching(path)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            on_hub(path, options, progress)
        }
        Err(error) => Err(Error::file("open", place)(error)),
    }
}

/// Refuses configurations and splits other than `train`: as in `datasets`, files outside a repository are one split.
fn check_no_repository(path: &str, options: &DatasetOptions) -> Result<()> {
    check_no_revision(path, "dataset", options.revision.as_deref())?;
    match (&options.config, &options.split) {
        (Some(config), _) => Err(unknown("config", config, path.to_owned(), [""; 0])),
        (_, Some(split)) if split != TRAIN => Err(unknown("split", split, path.to_owned(), [TRAIN])),
        _ => Ok(()),
    }
}

/// Finds the files of a folder: as in a repository if a split or a configuration is requested or the folder defines its
/// splits, otherwise all of them.
fn in_folder_or_repo(folder: &Path, options: &DatasetOptions, progress: &Progress) -> Result<Files> {
    check_no_revision(&folder.to_string_lossy(), "dataset", options.revision.as_deref())?;
    let repo = Repo::local(folder);
    let names = repo.names(progress)?;
    let about = names.iter().filter(|name| describes(name)).map(|name| folder.join(name)).collect();
    let is_all_wanted = options.split.is_none() && options.config.is_none();
    let Found { names, config, split, reader_options } = match saved::find(&repo, &names, options, progress)?
    {
        Some(found) => found,
        None if is_all_wanted && !splits::is_laid_out(&repo, &names, progress) => {
            return Ok(Files { sources: in_folder(folder)?, about, ..Files::default() });
        }
        None => splits::find(repo, options, None, progress)?.1,
    };
    let sources = names.iter().map(|name| Source::local(folder.join(name))).collect::<Result<_>>()?;
    Ok(Files { sources, revision: None, config, split: Some(split), reader_options, about })
}

/// Finds the files of a repository on the hub. Only its card is downloaded now.
fn on_hub(path: &str, options: &DatasetOptions, progress: &Progress) -> Result<Files> {
    const CONVERTED: &str = "refs/convert/parquet";
    let repo = open_repo(path, options.revision.as_deref(), progress)?;
    // The hub converts only the newest commit.
    let converted = || open_repo(path, Some(CONVERTED), progress);
    let converted: Option<&dyn Fn() -> Result<Repo>> =
        if options.revision.is_none() { Some(&converted) } else { None };
    let (repo, Found { names, config, split, reader_options }) =
        match saved::find(&repo, &repo.names(progress)?, options, progress)? {
            Some(found) => (repo, found),
            None => splits::find(repo, options, converted, progress)?,
        };
    let source = |name: String| {
        let path = PathBuf::from(name);
        let format = Format::of(&path).ok_or_else(|| unknown_format(&path))?;
        Ok(Source { repo: Some(repo.clone()), ..Source::new(path, format, 0) })
    };
    let sources = names.into_iter().map(source).collect::<Result<_>>()?;
    let revision = repo.revision().map(str::to_owned);
    Ok(Files { sources, revision, config, split: Some(split), reader_options, about: repo.files() })
}

/// Opens a dataset's repository on the hub. A name that looks like a file name is refused as a mistyped path.
fn open_repo(name: &str, revision: Option<&str>, progress: &Progress) -> Result<Repo> {
    let place = Path::new(name);
    if !Snapshot::is_valid_id(name) || Format::of(place).is_some() || nearest_at(place).is_some() {
        return Err(nothing_at(name));
    }
    Repo::open(RepoKind::Dataset, name, revision, progress)
}

fn in_folder(folder: &Path) -> Result<Vec<Source>> {
    let mut files = Vec::new();
    walk(folder, &mut HashSet::new(), &mut files)?;
    let total = files.len();
    keep_most_common(&mut files);
    files.sort();
    if files.is_empty() {
        let got = match total {
            0 => "no files".to_owned(),
            1 => "one file in another format".to_owned(),
            _ => format!("{total} files in other formats"),
        };
        let error = Error::invalid(format!("folder `{}`", folder.display()), extensions(), got);
        return Err(error.with_hint("check the path; hidden files, cards and descriptions are ignored"));
    }
    files.into_iter().map(Source::local).collect()
}

/// Adds all files below `folder`. Each folder is entered once, even if links lead back to it.
fn walk(folder: &Path, entered: &mut HashSet<PathBuf>, files: &mut Vec<PathBuf>) -> Result<()> {
    if !entered.insert(folder.canonicalize().map_err(Error::file("read", folder))?) {
        return Ok(());
    }
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let mut entries = entries.map_err(Error::file("read", folder))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        // Names that begin so are hidden.
        if name.starts_with('.') || name.starts_with("__") || is_description(&name) {
            continue;
        }
        let path = entry.path();
        let found = fs::metadata(&path).map_err(Error::file("open", &path))?;
        if found.is_dir() {
            walk(&path, entered, files)?;
        } else if found.is_file() {
            files.push(path);
        }
    }
    Ok(())
}

fn matching(pattern: &str) -> Result<Vec<Source>> {
    let options = glob::MatchOptions { require_literal_leading_dot: true, ..glob::MatchOptions::new() };
    let paths = glob::glob_with(pattern, options).map_err(|error| {
        let got = format!("{} at character {}", error.msg, error.pos + 1);
        Error::invalid(format!("dataset `{pattern}`"), "a file, a folder or a glob", got)
            .with_hint("in a glob, `*` matches any characters, `**` any folders, `[[]` a literal bracket")
    })?;
    let mut sources = Vec::new();
    for path in paths {
        let path = path.map_err(|error| Error::File {
            action: "read",
            path: error.path().to_owned(),
            source: error.into(),
        })?;
        let found = fs::metadata(&path).map_err(Error::file("open", &path))?;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if found.is_file() && (pattern.ends_with(&name) || !is_description(&name)) {
            sources.push(Source::local(path)?);
        }
    }
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    if sources.is_empty() {
        let error = Error::invalid(format!("dataset `{pattern}`"), "files that match this glob", "none");
        return Err(
            error.with_hint("`*` stays in one folder; `**` matches any folders, as in `data/**/*.jsonl`")
        );
    }
    Ok(sources)
}

/// The path with the most similar name in the same folder, if `place` looks like a typing error.
fn nearest_at(place: &Path) -> Option<PathBuf> {
    let entries = fs::read_dir(files::folder_of(place)).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.push("demo".to_owned());
    names.sort();
    let name = place.file_name()?.to_string_lossy();
    did_you_mean(&name, names.iter().map(String::as_str)).map(|nearest| place.with_file_name(nearest))
}

fn nothing_at(path: &str) -> Error {
    let place = Path::new(path);
    let folder = files::folder_of(place);
    let hint = match nearest_at(place) {
        Some(nearest) => format!("did you mean `{}`?", nearest.display()),
        None if !folder.is_dir() => {
            format!("there is no folder `{}`; a path is relative to the current folder", folder.display())
        }
        None => "check the path; it is relative to the current folder".to_owned(),
    };
    let expected = "a file, a folder, a glob, `demo`, or a dataset on the hub as `owner/name`";
    Error::not_found(format!("dataset `{path}`: expected {expected}, got a path that does not exist"), hint)
}
