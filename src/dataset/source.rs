//! Resolves a path to files and their formats: one file, a folder, a glob, a repository, or the embedded documents.

use super::DatasetOptions;
use super::dialect::Dialect;
use super::hub::{self, Found};
use super::saved;
use super::txt::Sample;
use crate::error::{Error, Result, did_you_mean};
use crate::files;
use crate::hub::{RepoKind, Snapshot};
use crate::progress::Progress;
use crate::repo::Repo;
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// The format of a file of documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Parquet,
    Arrow,
    Jsonl,
    Json,
    Csv,
    Tsv,
    Txt,
}

impl Format {
    /// All formats, preferred ones first: of two equally common in a folder, the earlier one is read.
    pub(super) const ALL: [Format; 7] =
        [Format::Parquet, Format::Arrow, Format::Jsonl, Format::Json, Format::Csv, Format::Tsv, Format::Txt];

    const EXTENSIONS: [(&str, Format); 8] = [
        ("jsonl", Format::Jsonl),
        ("ndjson", Format::Jsonl),
        ("json", Format::Json),
        ("csv", Format::Csv),
        ("tsv", Format::Tsv),
        ("txt", Format::Txt),
        ("parquet", Format::Parquet),
        ("arrow", Format::Arrow),
    ];

    fn of(path: &Path) -> Option<Format> {
        let extension = extension(path)?;
        Format::EXTENSIONS.iter().find(|(name, _)| *name == extension).map(|(_, format)| *format)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Format::Parquet => "parquet",
            Format::Arrow => "arrow",
            Format::Jsonl => "jsonl",
            Format::Json => "json",
            Format::Csv => "csv",
            Format::Tsv => "tsv",
            Format::Txt => "txt",
        })
    }
}

/// The extension in lower case, ignoring that of a compression: `jsonl` for `docs.jsonl.gz`.
fn extension(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_string_lossy().to_lowercase();
    let packed = [".gz", ".gzip", ".zst", ".zstd", ".bz2", ".xz"];
    let name = packed.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
    name.rsplit_once('.').map(|(_, extension)| extension.to_owned())
}

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

/// How a file is read.
#[derive(Debug, Clone, Default)]
pub(super) enum Reading {
    /// The default for its format.
    #[default]
    Usual,
    /// Separated values in this dialect.
    Separated(Arc<Dialect>),
    /// Text, with this unit as one document.
    Sampled(Sample),
    /// A JSON object with the rows under this key.
    Field(String),
}

impl Source {
    fn of(path: PathBuf, bytes: u64) -> Result<Source> {
        let format = match Format::of(&path) {
            Some(format) => format,
            None if is_parquet(&path)? => Format::Parquet,
            None => return Err(unknown_format(&path)),
        };
        let (read, reading) = (Arc::default(), Reading::Usual);
        Ok(Source { path, format, bytes, repo: None, embedded: None, read, reading })
    }

    /// Applies the options of the card, `told`, and the separator of the dataset options.
    fn told(self, told: &Map<String, Value>, sep: Option<&str>, dataset: &str) -> Result<Source> {
        let place = format!("the card of dataset `{dataset}`");
        let reading = match self.format {
            Format::Csv | Format::Tsv => {
                let usual = if self.format == Format::Tsv { b'\t' } else { b',' };
                let mut dialect = Dialect::new(usual).with(told, &place)?;
                if let Some(sep) = sep {
                    let told = Map::from_iter([("sep".to_owned(), Value::from(sep))]);
                    dialect = dialect.with(&told, "the options")?;
                }
                Reading::Separated(Arc::new(dialect))
            }
            Format::Txt => Reading::Sampled(Sample::told(told, &place)?),
            Format::Json => match told.get("field").and_then(Value::as_str) {
                Some(field) => Reading::Field(field.to_owned()),
                None => Reading::Usual,
            },
            Format::Jsonl | Format::Parquet | Format::Arrow => Reading::Usual,
        };
        Ok(Source { reading, ..self })
    }

    /// The local path; `None` if it is embedded or not downloaded yet.
    pub(super) fn here(&self) -> Option<PathBuf> {
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

/// The files at a path, with what a repository says about them.
#[derive(Debug, Clone, Default)]
pub(super) struct Files {
    pub(super) sources: Vec<Source>,
    /// The commit of a repository, if known.
    pub(super) revision: Option<String>,
    pub(super) config: Option<String>,
    pub(super) split: Option<String>,
    /// The card's options for the reader of the files.
    pub(super) told: Map<String, Value>,
    /// The paths of the cards and descriptions used.
    pub(super) about: Vec<PathBuf>,
}

/// Finds the files at `path`, in reading order.
pub(super) fn find(path: &str, options: &DatasetOptions, progress: &Progress) -> Result<Files> {
    let files = find_files(path, options, progress)?;
    let told = |source: Source| source.told(&files.told, options.sep.as_deref(), path);
    let sources = files.sources.into_iter().map(told).collect::<Result<_>>()?;
    Ok(Files { sources, ..files })
}

fn find_files(path: &str, options: &DatasetOptions, progress: &Progress) -> Result<Files> {
    if path == "demo" {
        check_plain(path, options)?;
        let bytes = crate::demo::DOCS;
        let source = Source {
            path: PathBuf::from(path),
            format: Format::Jsonl,
            bytes: bytes.len() as u64,
            repo: None,
            embedded: Some(bytes),
            read: Arc::default(),
            reading: Reading::Usual,
        };
        return Ok(Files { sources: vec![source], ..Files::default() });
    }
    let place = Path::new(path);
    let plain = |sources: Result<Vec<Source>>| {
        check_plain(path, options)?;
        Ok(Files { sources: sources?, ..Files::default() })
    };
    match fs::metadata(place) {
        Ok(found) if found.is_dir() => in_folder_or_repo(place, options, progress),
        Ok(found) => plain(Source::of(place.to_owned(), found.len()).map(|source| vec![source])),
        Err(_) if path.contains(['*', '?', '[']) => plain(matching(path)),
        Err(error) if is_absence(&error) => on_hub(path, options, progress),
        Err(error) => Err(Error::file("open", place)(error)),
    }
}

/// Refuses configurations and splits other than `train`: as in `datasets`, files outside a repository are one split.
fn check_plain(path: &str, options: &DatasetOptions) -> Result<()> {
    check_local(path, options)?;
    let place = format!("dataset `{path}`");
    match (&options.config, &options.split) {
        (Some(config), _) => {
            Err(Error::Unknown { kind: "config", name: config.clone(), place, known: Vec::new() })
        }
        (_, Some(split)) if split != "train" => {
            Err(Error::Unknown { kind: "split", name: split.clone(), place, known: vec!["train".to_owned()] })
        }
        _ => Ok(()),
    }
}

fn check_local(path: &str, options: &DatasetOptions) -> Result<()> {
    let Some(revision) = &options.revision else { return Ok(()) };
    let what = format!("the revision of dataset `{path}`");
    let error = Error::invalid(what, "none, as the dataset is local", format!("`{revision}`"));
    Err(error.with_hint("leave `revision` out"))
}

/// Finds the files of a folder: as in a repository if a split or a configuration is requested or the folder defines its
/// splits, otherwise all of them.
fn in_folder_or_repo(folder: &Path, options: &DatasetOptions, progress: &Progress) -> Result<Files> {
    check_local(&folder.to_string_lossy(), options)?;
    let repo = Repo::local(folder);
    let names = repo.names(progress)?;
    let about = || names.iter().filter(|name| describes(name)).map(|name| folder.join(name)).collect();
    let source = |name: &String| {
        let path = folder.join(name);
        let bytes = fs::metadata(&path).map_err(Error::file("open", &path))?.len();
        Source::of(path, bytes)
    };
    if let Some(found) = saved::find(&repo, &names, options, progress)? {
        let sources = found.names.iter().map(source).collect::<Result<_>>()?;
        return Ok(Files { sources, split: Some(found.split), about: about(), ..Files::default() });
    }
    if options.split.is_none() && options.config.is_none() && !hub::is_laid_out(&repo, &names, progress) {
        return Ok(Files { sources: in_folder(folder)?, about: about(), ..Files::default() });
    }
    let (_, found) = hub::find(repo, options, None, progress)?;
    let sources = found.names.iter().map(source).collect::<Result<_>>()?;
    let Found { config, split, told, .. } = found;
    Ok(Files { sources, revision: None, config, split: Some(split), told, about: about() })
}

/// Finds the files of a repository on the hub. Only its card is downloaded now.
fn on_hub(path: &str, options: &DatasetOptions, progress: &Progress) -> Result<Files> {
    const CONVERTED: &str = "refs/convert/parquet";
    let repo = open_repo(path, options.revision.as_deref(), progress)?;
    // The hub converts only the newest commit.
    let converted = || open_repo(path, Some(CONVERTED), progress);
    let converted: Option<&dyn Fn() -> Result<Repo>> =
        if options.revision.is_none() { Some(&converted) } else { None };
    let (repo, Found { names, config, split, told }) =
        match saved::find(&repo, &repo.names(progress)?, options, progress)? {
            Some(found) => (repo, found),
            None => hub::find(repo, options, converted, progress)?,
        };
    let source = |name: String| {
        let path = PathBuf::from(name);
        let format = Format::of(&path).ok_or_else(|| unknown_format(&path))?;
        let (repo, read, reading) = (Some(repo.clone()), Arc::default(), Reading::Usual);
        Ok(Source { path, format, bytes: 0, repo, embedded: None, read, reading })
    };
    let sources = names.into_iter().map(source).collect::<Result<_>>()?;
    let revision = repo.revision().map(str::to_owned);
    Ok(Files { sources, revision, config, split: Some(split), told, about: repo.files() })
}

/// Opens a dataset's repository on the hub. A name that looks like a file name is refused as a mistyped path.
fn open_repo(name: &str, revision: Option<&str>, progress: &Progress) -> Result<Repo> {
    let place = Path::new(name);
    if !Snapshot::is_valid_id(name) || Format::of(place).is_some() || nearest_at(place).is_some() {
        return Err(nothing_at(name));
    }
    Repo::open(RepoKind::Dataset, name, revision, progress)
}

fn is_absence(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
}

fn in_folder(folder: &Path) -> Result<Vec<Source>> {
    let mut files = Vec::new();
    walk(folder, &mut HashSet::new(), &mut files)?;
    let total = files.len();
    let mut sources = Vec::new();
    for (path, bytes) in files {
        if Format::of(&path).is_some() {
            sources.push(Source::of(path, bytes)?);
        }
    }
    let most = most_common_format(sources.iter().map(|source| source.format));
    sources.retain(|source| Some(source.format) == most);
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    if sources.is_empty() {
        let got = match total {
            0 => "no files".to_owned(),
            1 => "one file in another format".to_owned(),
            _ => format!("{total} files in other formats"),
        };
        let error = Error::invalid(format!("folder `{}`", folder.display()), extensions(), got);
        return Err(error.with_hint("check the path; hidden files, cards and descriptions are ignored"));
    }
    Ok(sources)
}

/// The most common format, or `None` for an empty list.
fn most_common_format(formats: impl Iterator<Item = Format>) -> Option<Format> {
    let formats: Vec<_> = formats.collect();
    let count = |format: &Format| formats.iter().filter(|one| *one == format).count();
    // The last of equals wins, so the preferred format comes last.
    Format::ALL.into_iter().rev().max_by_key(count).filter(|format| formats.contains(format))
}

/// Keeps the files of the most common format.
pub(super) fn most_common(mut names: Vec<String>) -> Vec<String> {
    let of = |name: &String| Format::of(Path::new(name));
    let most = most_common_format(names.iter().filter_map(of));
    names.retain(|name| most.is_some() && of(name) == most);
    names
}

/// Adds all files below `folder` with their sizes. Each folder is entered once, even if links lead back to it.
fn walk(folder: &Path, entered: &mut HashSet<PathBuf>, files: &mut Vec<(PathBuf, u64)>) -> Result<()> {
    if !entered.insert(folder.canonicalize().map_err(Error::file("read", folder))?) {
        return Ok(());
    }
    let entries = fs::read_dir(folder).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let mut entries = entries.map_err(Error::file("read", folder))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_hidden(&name) || is_description(&name) {
            continue;
        }
        let path = entry.path();
        let found = fs::metadata(&path).map_err(Error::file("open", &path))?;
        if found.is_dir() {
            walk(&path, entered, files)?;
        } else if found.is_file() {
            files.push((path, found.len()));
        }
    }
    Ok(())
}

/// Whether a file or folder of this name is hidden.
fn is_hidden(name: &str) -> bool {
    name.starts_with('.') || name.starts_with("__")
}

/// The names of files that describe a dataset.
const ABOUT: [&str; 5] =
    ["README.md", "config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json"];

/// Whether a file of this name describes a dataset rather than being part of it.
pub(super) fn is_description(name: &str) -> bool {
    name.ends_with(".meta.json") || ABOUT.contains(&name)
}

/// Whether the file at this path may affect how a dataset is read.
fn describes(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    ABOUT.contains(&name) || ["state.json", hub::CARD_OVERRIDE].contains(&name)
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
            sources.push(Source::of(path, found.len())?);
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

fn is_parquet(path: &Path) -> Result<bool> {
    let mut head = Vec::new();
    let file = files::open(path)?;
    file.take(4).read_to_end(&mut head).map_err(Error::file("read", path))?;
    Ok(head == b"PAR1")
}

fn unknown_format(path: &Path) -> Error {
    const PACKED: [&str; 10] = ["zip", "tar", "tgz", "7z", "rar", "lz4", "lzma", "br", "z", "lz"];
    if let Some(packed) = PACKED.into_iter().find(|end| extension(path).as_deref() == Some(end)) {
        let what = format!("dataset `{}`", path.display());
        let error = Error::invalid(what, extensions(), format!("a .{packed} file"));
        return error.with_hint("unpack it first; .gz, .zst, .bz2 and .xz are read directly");
    }
    let Some(extension) = extension(path) else {
        return Error::invalid(
            format!("dataset `{}`", path.display()),
            extensions(),
            "a name without an extension",
        )
        .with_hint("add the format to the file's name, as in `docs.jsonl`");
    };
    Error::Unknown {
        kind: "format",
        name: extension,
        place: format!("`{}`", path.display()),
        known: Format::EXTENSIONS.iter().map(|(name, _)| (*name).to_owned()).collect(),
    }
}

/// The supported extensions, for a message.
pub(super) fn extensions() -> String {
    let names: Vec<_> = Format::EXTENSIONS.iter().map(|(name, _)| format!(".{name}")).collect();
    format!("a file that ends in one of {}", names.join(", "))
}
