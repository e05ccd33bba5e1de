//! Where text comes from: a file, a folder or a glob of files in one of six formats, or the embedded documents.
//!
//! [`Dataset::open`] looks at names only; [`Dataset::documents`] reads lazily, one document at a time, in memory that
//! does not grow with the files. A format is told by a file's extension, its compression by its first bytes. Nothing is
//! downloaded here, and nothing is tokenized.

mod source;

mod text;

mod csv;
mod json;
mod jsonl;
mod parquet;
mod row;
mod txt;

use crate::error::Result;
use serde::{Deserialize, Serialize};
use source::{Format, Source};
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How the text of a dataset is found in its files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatasetOptions {
    /// The column that holds the text; a `.txt` file has no columns and does without. Default: "text".
    pub text_column: String,
}

impl Default for DatasetOptions {
    fn default() -> Self {
        DatasetOptions { text_column: "text".to_owned() }
    }
}

/// A list of files that hold documents, in the order in which they are read.
#[derive(Debug, Clone)]
pub struct Dataset {
    path: String,
    text_column: String,
    sources: Vec<Source>,
}

impl Dataset {
    /// Finds the files that `path` stands for, without reading their documents.
    ///
    /// `path` is one of
    /// - a file: `.jsonl`, `.ndjson`, `.json`, `.csv`, `.tsv`, `.txt` or `.parquet`; each but the last may be
    ///   compressed with gzip or zstd, with `.gz` or `.zst` after its extension;
    /// - a folder: all files in it and in its folders that have the format most of them have. Hidden files, cards and
    ///   descriptions (`README.md`, `dataset_info.json`, …) are left out;
    /// - a glob, such as `data/train-*.parquet` or `data/**/*.jsonl`;
    /// - `demo`: a few documents that are part of the program (a folder of that name is `./demo`).
    ///
    /// Files are sorted by path.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) where nothing is at `path`, or no file that can be read;
    /// [`Error::Unknown`](crate::Error::Unknown) for an extension that is no format;
    /// [`Error::File`](crate::Error::File) where the system does not let us look.
    pub fn open(path: &str, options: &DatasetOptions) -> Result<Dataset> {
        let sources = source::find(path)?;
        Ok(Dataset { path: path.to_owned(), text_column: options.text_column.clone(), sources })
    }

    /// The path as it was given.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The column that holds the text.
    pub fn text_column(&self) -> &str {
        &self.text_column
    }

    /// The files in the order in which they are read; none for the embedded documents.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.sources.iter().filter(|source| source.embedded.is_none()).map(|source| source.path.as_path())
    }

    /// A reader of all documents from the first, file after file.
    ///
    /// A row whose text is null gives an empty document, so that documents keep the numbers of their rows.
    pub fn documents(&self) -> Documents {
        let read = Arc::new(AtomicU64::new(0));
        let sources: Vec<_> =
            self.sources.iter().map(|source| Source { read: read.clone(), ..source.clone() }).collect();
        Documents {
            bytes: sources.iter().map(|source| source.bytes).sum(),
            read,
            sources: sources.into_iter(),
            column: self.text_column.clone(),
            reader: None,
            over: false,
        }
    }
}

impl fmt::Display for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = size(self.sources.iter().map(|source| source.bytes).sum());
        let files = if self.sources.iter().any(|source| source.embedded.is_some()) {
            "embedded documents".to_owned()
        } else {
            let of_format = |format| self.sources.iter().filter(|source| source.format == format).count();
            let counts = Format::ALL.map(|format| (format, of_format(format)));
            let counts = counts.iter().filter(|(_, count)| *count > 0);
            let counts =
                counts.map(|(format, n)| format!("{n} {format} file{}", if *n == 1 { "" } else { "s" }));
            counts.collect::<Vec<_>>().join(", ")
        };
        write!(f, "Dataset {}: {files}, {bytes}, text column `{}`", self.path, self.text_column)
    }
}

/// A number of bytes for a person: `812 bytes`, `12.3 KB`.
fn size(bytes: u64) -> String {
    if bytes < 1000 {
        return format!("{bytes} byte{}", if bytes == 1 { "" } else { "s" });
    }
    let mut value = bytes as f64 / 1000.0;
    let mut unit = "KB";
    for next in ["MB", "GB", "TB"] {
        if value < 999.95 {
            break;
        }
        value /= 1000.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

/// The documents of one file.
type Reader = Box<dyn Iterator<Item = Result<String>> + Send>;

/// The documents of a [`Dataset`], read one at a time; it ends after the first error.
///
/// # Errors
/// An item is [`Error::Malformed`](crate::Error::Malformed) where a file is not what its format says, with the line or
/// row; [`Error::Unknown`](crate::Error::Unknown) where it has no such column; [`Error::File`](crate::Error::File)
/// where it cannot be read.
pub struct Documents {
    bytes: u64,
    read: Arc<AtomicU64>,
    sources: std::vec::IntoIter<Source>,
    column: String,
    reader: Option<Reader>,
    over: bool,
}

impl Documents {
    /// How much of the files has been read, from 0 to 1.
    pub fn fraction_read(&self) -> f64 {
        (self.read.load(Ordering::Relaxed) as f64 / self.bytes.max(1) as f64).min(1.0)
    }

    fn advance(&mut self) -> Result<Option<String>> {
        loop {
            if let Some(document) = self.reader.as_mut().and_then(Iterator::next) {
                return document.map(Some);
            }
            let Some(source) = self.sources.next() else {
                return Ok(None);
            };
            self.reader = Some(read(&source, &self.column)?);
        }
    }
}

impl Iterator for Documents {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let document = self.advance().transpose();
        if !matches!(document, Some(Ok(_))) {
            self.over = true;
            self.reader = None;
        }
        document
    }
}

impl std::iter::FusedIterator for Documents {}

impl fmt::Debug for Documents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Documents")
            .field("sources", &self.sources)
            .field("column", &self.column)
            .finish_non_exhaustive()
    }
}

fn read(source: &Source, column: &str) -> Result<Reader> {
    Ok(match source.format {
        Format::Parquet => Box::new(parquet::Parquet::open(source, column)?),
        Format::Jsonl => Box::new(jsonl::Jsonl::open(source, column)?),
        Format::Json => Box::new(json::Json::open(source, column)?),
        Format::Csv => Box::new(csv::Csv::open(source, column, b',')?),
        Format::Tsv => Box::new(csv::Csv::open(source, column, b'\t')?),
        Format::Txt => Box::new(txt::Txt::open(source)?),
    })
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_read_well() {
        let sizes = [0, 1, 999, 1000, 12_345, 999_949, 999_950, 2_500_000_000].map(size);
        assert_eq!(
            sizes,
            ["0 bytes", "1 byte", "999 bytes", "1.0 KB", "12.3 KB", "999.9 KB", "1.0 MB", "2.5 GB"]
        );
    }
}
