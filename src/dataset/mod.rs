//! Where text comes from: a file, a folder or a glob of files in one of seven formats, a dataset on the hub, or the
//! embedded documents.
//!
//! [`Dataset::open`] looks at names only; [`Dataset::documents`] reads lazily, one document at a time, in memory that
//! does not grow with the files. A format is told by a file's extension, its compression by its first bytes. The splits
//! of a repository are those that Python's `datasets` finds. Nothing is tokenized here.

mod hub;
mod saved;
mod source;

mod fault;
mod text;

mod arrow;
mod csv;
mod dialect;
mod json;
mod jsonl;
mod parquet;
mod parquet_limits;
mod python_json;
mod row;
mod txt;

use crate::error::{Error, Result};
use crate::progress::{Progress, Report};
use dialect::Dialect;
use fault::{Document, Fault};
use serde::{Deserialize, Serialize};
use source::{Files, Format, Reading, Source};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Which files of a dataset are read, and how the text is found in them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatasetOptions {
    /// The column that holds the text; a `.txt` file has no columns and does without. Default: "text".
    pub text_column: String,
    /// The split, of a repository or a folder that is laid out like one. Default: "train".
    pub split: Option<String>,
    /// The configuration, where a repository has several; `name` is another word for it. Default: the one that the
    /// repository calls so.
    #[serde(alias = "name")]
    pub config: Option<String>,
    /// The branch, tag or commit of a repository on the hub. Default: its main branch.
    pub revision: Option<String>,
    /// The character between the values of a `.csv` or `.tsv` file. Default: as the dataset's card says, else "," and tab.
    pub sep: Option<String>,
    /// How many damaged rows are passed over, each with a warning that names its line, before one is an error. A row
    /// without a text is not damaged: it is an empty document. Default: 0.
    pub max_bad_rows: u64,
}

impl Default for DatasetOptions {
    fn default() -> Self {
        DatasetOptions {
            text_column: "text".to_owned(),
            split: None,
            config: None,
            revision: None,
            sep: None,
            max_bad_rows: 0,
        }
    }
}

/// A list of files that hold documents, in the order in which they are read.
#[derive(Debug, Clone)]
pub struct Dataset {
    path: String,
    text_column: String,
    max_bad_rows: u64,
    files: Files,
    /// For what is fetched while documents are read.
    progress: Progress,
}

impl Dataset {
    /// Finds the files that `path` stands for, without reading their documents.
    ///
    /// `path` is one of
    /// - a file: `.jsonl`, `.ndjson`, `.json`, `.csv`, `.tsv`, `.txt`, `.parquet` or `.arrow`; each but the last two may be
    ///   compressed with gzip, zstd, bzip2 or xz, with `.gz`, `.zst`, `.bz2` or `.xz` after its extension;
    /// - a folder: all files in it and in its folders that have the format most of them have. Hidden files, cards and
    ///   descriptions (`README.md`, `dataset_info.json`, …) are left out. Of a folder that is laid out like a repository
    ///   (a `README.md` with `configs`, files such as `data/train-00000-of-00002.parquet`) or of which a split is asked
    ///   for, that split, which is `train` unless another is named; the same of a folder of Python's `save_to_disk`;
    /// - a glob, such as `data/train-*.parquet` or `data/**/*.jsonl`;
    /// - `demo`: a few documents that are part of the program (a folder of that name is `./demo`).
    ///
    /// Files are sorted by path, those of a split as `datasets` sorts them.
    ///
    /// # Errors
    /// [`Error::Invalid`](crate::Error::Invalid) where nothing is at `path`, or no file that can be read;
    /// [`Error::Unknown`](crate::Error::Unknown) for an extension that is no format, and for a split or a configuration
    /// that is not there; [`Error::File`](crate::Error::File) where the system does not let us look.
    pub fn open(path: &str, options: &DatasetOptions) -> Result<Dataset> {
        Dataset::open_with(path, options, &Progress::default())
    }

    /// As [`Dataset::open`], with a progress that can stop it and is told what is fetched, then and later.
    ///
    /// # Errors
    /// As [`Dataset::open`]; [`Error::Interrupted`](crate::Error::Interrupted).
    pub fn open_with(path: &str, options: &DatasetOptions, progress: &Progress) -> Result<Dataset> {
        let files = source::find(path, options, progress)?;
        let (path, text_column) = (path.to_owned(), options.text_column.clone());
        let max_bad_rows = options.max_bad_rows;
        Ok(Dataset { path, text_column, max_bad_rows, files, progress: progress.clone() })
    }

    /// The path as it was given.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The column that holds the text.
    pub fn text_column(&self) -> &str {
        &self.text_column
    }

    /// The split that is read, of a repository or a folder that is laid out like one.
    pub fn split(&self) -> Option<&str> {
        self.files.split.as_deref()
    }

    /// The configuration that is read, where there are any.
    pub fn config(&self) -> Option<&str> {
        self.files.config.as_deref()
    }

    /// The commit of a repository on the hub.
    pub fn revision(&self) -> Option<&str> {
        self.files.revision.as_deref()
    }

    /// The files in the order in which they are read; of a repository on the hub their names in it, and none for the
    /// embedded documents.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.in_files().map(|source| source.path.as_path())
    }

    /// All that it is read from and that is on this machine, by its paths: documents, cards and descriptions.
    pub(crate) fn files_here(&self) -> impl Iterator<Item = PathBuf> {
        self.files.sources.iter().filter_map(Source::here).chain(self.files.about.iter().cloned())
    }

    fn in_files(&self) -> impl Iterator<Item = &Source> {
        self.files.sources.iter().filter(|source| source.embedded.is_none())
    }

    /// A reader of all documents from the first, file after file.
    ///
    /// A row whose text is null, or that does not have the column, gives an empty document, so that documents keep the
    /// numbers of their rows. A damaged row gives none; see [`DatasetOptions::max_bad_rows`].
    pub fn documents(&self) -> Documents {
        let read = Arc::new(AtomicU64::new(0));
        let sources: Vec<_> =
            self.files.sources.iter().map(|source| Source { read: read.clone(), ..source.clone() }).collect();
        Documents {
            bytes: sources.iter().map(|source| source.bytes).sum(),
            files: sources.len(),
            here: sources.iter().filter(|source| source.repo.is_none()).count(),
            progress: self.progress.clone(),
            read,
            sources: sources.into_iter(),
            column: self.text_column.clone(),
            reader: None,
            max_bad_rows: self.max_bad_rows,
            bad_rows: 0,
            over: false,
        }
    }
}

impl fmt::Display for Dataset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sources = &self.files.sources;
        let bytes = sources.iter().map(|source| source.bytes).sum();
        let bytes = if bytes == 0 { String::new() } else { format!(", {}", size(bytes)) };
        let files = if sources.iter().any(|source| source.embedded.is_some()) {
            "embedded documents".to_owned()
        } else {
            let of_format = |format| sources.iter().filter(|source| source.format == format).count();
            let counts = Format::ALL.map(|format| (format, of_format(format)));
            let counts = counts.iter().filter(|(_, count)| *count > 0);
            let counts =
                counts.map(|(format, n)| format!("{n} {format} file{}", if *n == 1 { "" } else { "s" }));
            counts.collect::<Vec<_>>().join(", ")
        };
        let split = self.split().map_or(String::new(), |split| format!(", split `{split}`"));
        let config = self.config().map_or(String::new(), |config| format!(", config `{config}`"));
        write!(f, "Dataset {}{config}{split}: {files}{bytes}, text column `{}`", self.path, self.text_column)
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
type Reader = Box<dyn Iterator<Item = Document> + Send>;

/// The documents of a [`Dataset`], read one at a time; it ends after the first error.
///
/// # Errors
/// An item is [`Error::Malformed`](crate::Error::Malformed) where a file is not what its format says, with the line or
/// row; [`Error::Unknown`](crate::Error::Unknown) where it has no such column; [`Error::File`](crate::Error::File)
/// where it cannot be read.
pub struct Documents {
    /// The size of the files that are on this machine.
    bytes: u64,
    /// How many there are, and how many of them on this machine.
    files: usize,
    here: usize,
    progress: Progress,
    read: Arc<AtomicU64>,
    sources: std::vec::IntoIter<Source>,
    column: String,
    reader: Option<Reader>,
    max_bad_rows: u64,
    bad_rows: u64,
    over: bool,
}

impl Documents {
    /// How many damaged rows have been passed over.
    pub fn bad_rows(&self) -> u64 {
        self.bad_rows
    }

    /// Passes over a row, or a document that cannot be used, with a warning; after `max_bad_rows` of them it ends.
    ///
    /// # Errors
    /// `error`, where no more may be passed over.
    pub(crate) fn pass_over(&mut self, error: Error) -> Result<()> {
        const SHOWN: u64 = 10;
        if self.bad_rows >= self.max_bad_rows {
            self.over = true;
            let hint = error.hint().map(|hint| hint + "; ").unwrap_or_default();
            let how = if self.max_bad_rows == 0 { "set" } else { "raise" };
            return Err(
                error.with_hint(format!("{hint}{how} `max_bad_rows` to pass over more rows like this"))
            );
        }
        self.bad_rows += 1;
        if self.bad_rows <= SHOWN {
            let last = if self.bad_rows == SHOWN { "; further ones are counted only" } else { "" };
            self.progress.report(Report::Warning(format!("passed over: {error}{last}")));
        }
        Ok(())
    }

    /// How much of the files has been read, from 0 to 1. A file that has not been fetched counts as much as another.
    pub fn fraction_read(&self) -> f64 {
        let bytes = self.bytes as f64 * self.files as f64 / self.here.max(1) as f64;
        (self.read.load(Ordering::Relaxed) as f64 / bytes.max(1.0)).min(1.0)
    }

    fn advance(&mut self) -> Result<Option<String>> {
        loop {
            match self.reader.as_mut().and_then(Iterator::next) {
                Some(Ok(document)) => return Ok(Some(document.unwrap_or_default())),
                Some(Err(Fault::Row(error))) => {
                    self.pass_over(error)?;
                    continue;
                }
                Some(Err(Fault::File(error))) => return Err(error),
                None => {}
            }
            let Some(source) = self.sources.next() else {
                return Ok(None);
            };
            if source.repo.is_none() {
                self.reader = Some(read(&source, &self.column)?);
                continue;
            }
            let source = source.fetched(&self.progress)?;
            self.bytes += source.bytes;
            self.here += 1;
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
        Format::Arrow => Box::new(arrow::Arrow::open(source, column)?),
        Format::Jsonl => Box::new(jsonl::documents(source, column)?),
        Format::Json => Box::new(json::documents(source, column)?),
        Format::Csv | Format::Tsv => {
            let dialect = match &source.reading {
                Reading::Separated(dialect) => dialect.as_ref().clone(),
                _ => Dialect::new(b','),
            };
            Box::new(csv::Csv::open(source, column, dialect)?)
        }
        Format::Txt => {
            let sample =
                if let Reading::Sampled(sample) = source.reading { sample } else { txt::Sample::Line };
            Box::new(txt::Txt::open(source, sample)?)
        }
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
