//! The formats of files of documents, by extension, and the files beside them that only describe a dataset.

use super::card::CARD_OVERRIDE;
use crate::error::{Error, Result};
use crate::files;
use std::fmt;
use std::path::Path;

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

    /// The extensions, the name of a format before its other ones.
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

    pub(super) fn of(path: &Path) -> Option<Format> {
        let extension = extension(path)?;
        Format::EXTENSIONS.iter().find(|(name, _)| *name == extension).map(|(_, format)| *format)
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names = Format::EXTENSIONS.iter().filter(|(_, format)| format == self);
        f.write_str(names.next().map_or("", |(name, _)| name))
    }
}

/// The extension in lower case, ignoring that of a compression: `jsonl` for `docs.jsonl.gz`.
fn extension(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_string_lossy().to_lowercase();
    let packed = [".gz", ".gzip", ".zst", ".zstd", ".bz2", ".xz"];
    let name = packed.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
    name.rsplit_once('.').map(|(_, extension)| extension.to_owned())
}

/// Keeps the files of the most common format.
pub(super) fn keep_most_common<P: AsRef<Path>>(paths: &mut Vec<P>) {
    let formats: Vec<_> = paths.iter().filter_map(|path| Format::of(path.as_ref())).collect();
    let count = |format: &Format| formats.iter().filter(|one| *one == format).count();
    // The last of equals wins, so the preferred format comes last.
    let most = Format::ALL.into_iter().rev().max_by_key(count);
    paths.retain(|path| Format::of(path.as_ref()).is_some_and(|format| Some(format) == most));
}

/// The names of files that describe a dataset.
const ABOUT: [&str; 5] =
    ["README.md", "config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json"];

/// Whether the file at this path, or of this name, describes a dataset rather than being part of it.
pub(super) fn is_description(path: &str) -> bool {
    path.ends_with(".meta.json") || ABOUT.contains(&file_name(path))
}

/// Whether the file at this path may affect how a dataset is read.
pub(super) fn describes(path: &str) -> bool {
    ABOUT.contains(&file_name(path)) || ["state.json", CARD_OVERRIDE].contains(&file_name(path))
}

/// The name of the file at a path of a repository.
pub(super) fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

pub(super) fn is_parquet(path: &Path) -> Result<bool> {
    Ok(files::read_start(path, 4)? == b"PAR1")
}

pub(super) fn unknown_format(path: &Path) -> Error {
    const PACKED: [&str; 10] = ["zip", "tar", "tgz", "7z", "rar", "lz4", "lzma", "br", "z", "lz"];
    let what = format!("dataset `{}`", path.display());
    match extension(path) {
        None => Error::invalid(what, extensions(), "a name without an extension")
            .with_hint("add the format to the file's name, as in `docs.jsonl`"),
        Some(packed) if PACKED.contains(&packed.as_str()) => {
            Error::invalid(what, extensions(), format!("a .{packed} file"))
                .with_hint("unpack it first; .gz, .zst, .bz2 and .xz are read directly")
        }
        Some(name) => {
            let known = Format::EXTENSIONS.iter().map(|(name, _)| (*name).to_owned()).collect();
            Error::Unknown { kind: "format", name, place: format!("`{}`", path.display()), known }
        }
    }
}

/// The supported extensions, for a message.
pub(super) fn extensions() -> String {
    let names: Vec<_> = Format::EXTENSIONS.iter().map(|(name, _)| format!(".{name}")).collect();
    format!("a file that ends in one of {}", names.join(", "))
}
