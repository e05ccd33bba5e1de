//! The formats of files of documents, by extension, and the files beside them that only describe a dataset.

use super::card::CARD_OVERRIDE;
use crate::error::{Error, Result};
use crate::files;
use std::fmt;
use std::io::Read;
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

/// The most common format, or `None` for an empty list.
pub(super) fn most_common_format(formats: impl Iterator<Item = Format>) -> Option<Format> {
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

/// The names of files that describe a dataset.
const ABOUT: [&str; 5] =
    ["README.md", "config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json"];

/// Whether a file of this name describes a dataset rather than being part of it.
pub(super) fn is_description(name: &str) -> bool {
    name.ends_with(".meta.json") || ABOUT.contains(&name)
}

/// Whether the file at this path may affect how a dataset is read.
pub(super) fn describes(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    ABOUT.contains(&name) || ["state.json", CARD_OVERRIDE].contains(&name)
}

pub(super) fn is_parquet(path: &Path) -> Result<bool> {
    let mut head = Vec::new();
    let file = files::open(path)?;
    file.take(4).read_to_end(&mut head).map_err(Error::file("read", path))?;
    Ok(head == b"PAR1")
}

pub(super) fn unknown_format(path: &Path) -> Error {
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
