//! Datasets: documents from a file, a folder or a glob of files in one of seven formats, from the hub, or embedded.
//!
//! [`Dataset::open`] only looks at names; [`Dataset::documents`] reads lazily, one document at a time, in memory that
//! does not grow with the files. The format is known by a file's extension, the compression by its first bytes. The
//! splits of a repository are the same as in Python's `datasets`. Nothing is tokenized here.

mod card;
mod formats;
mod locate;
mod reading;
mod saved;
mod source;
mod splits;

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

use self::csv::Csv;
use self::parquet::Parquet;
use crate::error::{Error, Result};
use crate::progress::{Progress, ProgressEvent};
use arrow::Arrow;
use dialect::Dialect;
use fault::{Document, Fault};
use formats::Format;
use json::Json;
use jsonl::Jsonl;
use locate::Files;
use reading::{Reading, Sample};
use row::Filled;
use saescope_options::options;
use source::Source;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use txt::Txt;

options! {
    /// Selects the files of a dataset and the text in them.
    pub struct DatasetOptions {
        /// The column that contains the text; ignored for `.txt` files, which have no columns. Default: "text".
        pub text_column: String = "text".to_owned(),
        /// The split of a repository, or of a folder laid out like one. Default: "train".
        pub split: Option<String> = None,
        /// The configuration of a repository that has several; `name` is an alias. Default: the repository's own
        /// default.
        #[serde(alias = "name")]
        pub config: Option<String> = None,
        /// The branch, tag or commit of a repository on the hub. Default: its main branch.
        pub revision: Option<String> = None,
        /// The separator of `.csv` and `.tsv` files. Default: the one in the dataset's card, otherwise "," and tab.
        pub sep: Option<String> = None,
        /// The number of damaged rows to skip, each with a warning that names its line, before one is an error. A row
        /// without text is not damaged: it is an empty document. Default: 0.
        pub max_bad_rows: u64 = 0,
    }
}

/// A list of files that contain documents, in reading order.
#[derive(Debug, Clone)]
pub struct Dataset {
    path: String,
    text_column: String,
    max_bad_rows: u64,
    files: Files,
}

impl Dataset {
    /// Finds the files at `path` without reading their documents.
    ///
    /// `path` is one of
    /// - a file: `.jsonl`, `.ndjson`, `.json`, `.csv`, `.tsv`, `.txt`, `.parquet` or `.arrow`. All but the last two may
    ///   be compressed with gzip, zstd, bzip2 or xz, with `.gz`, `.zst`, `.bz2` or `.xz` after the extension;
    /// - a folder: all files of its most common format, in it and its subfolders. Hidden files, cards and descriptions
    ///   (`README.md`, `dataset_info.json`, …) are ignored. If the folder is laid out like a repository (a `README.md`
    ///   with `configs`, files such as `data/train-00000-of-00002.parquet`), was written by Python's `save_to_disk`, or
    ///   if `split` is set, only the files of that split (default: `train`);
    /// - a glob, such as `data/train-*.parquet` or `data/**/*.jsonl`;
    /// - a dataset on the hub, as `owner/name`;
    /// - `demo`: a few embedded documents (write `./demo` for a folder of that name).
    ///
    /// Files are sorted by path; the files of a split are in the order of `datasets`.
    ///
    /// ```
    /// # fn main() -> saescope::Result<()> {
    /// use saescope::{Dataset, Progress};
    ///
    /// let dataset = Dataset::open("demo")?;
    /// for document in dataset.documents(&Progress::default()).take(3) {
    ///     println!("{}", document?);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::NotFound`] if nothing is at `path`; [`Error::Invalid`] if no file there is in a supported format;
    /// [`Error::Unknown`] for an unknown extension, split or configuration; [`Error::File`] if the system refuses access.
    pub fn open(path: &str) -> Result<Dataset> {
        Dataset::open_with(path, &DatasetOptions::default(), &Progress::default())
    }

    /// Like [`Dataset::open`], with options, and a progress that reports downloads and can cancel them.
    ///
    /// # Errors
    /// See [`Dataset::open`]; [`Error::Interrupted`].
    pub fn open_with(path: &str, options: &DatasetOptions, progress: &Progress) -> Result<Dataset> {
        let files = locate::find(path, options, progress)?;
        let (path, text_column) = (path.to_owned(), options.text_column.clone());
        let max_bad_rows = options.max_bad_rows;
        Ok(Dataset { path, text_column, max_bad_rows, files })
    }

    /// The path passed to [`Dataset::open`].
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The column that contains the text.
    pub fn text_column(&self) -> &str {
        &self.text_column
    }

    /// The split, of a repository or a folder laid out like one.
    pub fn split(&self) -> Option<&str> {
        self.files.split.as_deref()
    }

    /// The configuration, if the dataset has any.
    pub fn config(&self) -> Option<&str> {
        self.files.config.as_deref()
    }

    /// The commit of a repository on the hub.
    pub fn revision(&self) -> Option<&str> {
        self.files.revision.as_deref()
    }

    /// The files in reading order. For a dataset on the hub, their names in the repository; empty for the embedded
    /// documents.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        let in_files = self.files.sources.iter().filter(|source| source.embedded.is_none());
        in_files.map(|source| source.path.as_path())
    }

    /// The paths of all local files that this dataset depends on: documents, cards and descriptions.
    pub(crate) fn local_files(&self) -> impl Iterator<Item = PathBuf> {
        self.files.sources.iter().filter_map(Source::local_path).chain(self.files.about.iter().cloned())
    }

    /// Returns an iterator over all documents, file by file. `progress` receives warnings about damaged rows, and
    /// reports and cancels the downloads that happen while documents are read.
    ///
    /// A row whose text is null or missing gives an empty document, so that document numbers equal row numbers. A
    /// damaged row gives no document; see [`DatasetOptions::max_bad_rows`].
    pub fn documents(&self, progress: &Progress) -> Documents {
        let read = Arc::new(AtomicU64::new(0));
        let sources: Vec<_> =
            self.files.sources.iter().map(|source| Source { read: read.clone(), ..source.clone() }).collect();
        Documents {
            bytes: sources.iter().map(|source| source.bytes).sum(),
            files: sources.len(),
            local_files: sources.iter().filter(|source| source.repo.is_none()).count(),
            progress: progress.clone(),
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

/// Formats a number of bytes: `812 bytes`, `12.3 KB`.
fn size(bytes: u64) -> String {
    const UNITS: [(f64, &str); 4] = [(1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "KB")];
    // The largest unit of which there is one, rounded.
    match UNITS.iter().find(|(unit, _)| bytes as f64 / unit >= 0.99995) {
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / unit),
        None => format!("{bytes} byte{}", if bytes == 1 { "" } else { "s" }),
    }
}

/// The documents of one file.
type Reader = Box<dyn Iterator<Item = Document> + Send>;

/// An iterator over the documents of a [`Dataset`], read one at a time; ends after the first error.
///
/// # Errors
/// An item is [`Error::Malformed`], with the line or row, if a file is not in its format;
/// [`Error::Unknown`] if it lacks the column; [`Error::File`] if it cannot
/// be read.
pub struct Documents {
    /// The total size of the local files.
    bytes: u64,
    /// The number of files, and of local files.
    files: usize,
    local_files: usize,
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
    /// The number of damaged rows skipped.
    pub fn bad_rows(&self) -> u64 {
        self.bad_rows
    }

    /// Skips a damaged row or an unusable document with a warning; ends after `max_bad_rows` of them.
    ///
    /// # Errors
    /// `error`, if no more may be skipped.
    pub(crate) fn skip_bad(&mut self, error: Error) -> Result<()> {
        const SHOWN: u64 = 10;
        if self.bad_rows >= self.max_bad_rows {
            self.over = true;
            let hint = error.hint().map(|hint| hint + "; ").unwrap_or_default();
            let how = if self.max_bad_rows == 0 { "set" } else { "raise" };
            return Err(error.with_hint(format!("{hint}{how} `max_bad_rows` to skip rows like this")));
        }
        self.bad_rows += 1;
        if self.bad_rows <= SHOWN {
            let last = if self.bad_rows == SHOWN { "; further bad rows are only counted" } else { "" };
            self.progress.report(ProgressEvent::Warning(format!("skipped: {error}{last}")));
        }
        Ok(())
    }

    /// The fraction of the files that has been read, from 0 to 1. A file not yet downloaded counts as average in size.
    pub fn fraction_read(&self) -> f64 {
        let bytes = self.bytes as f64 * self.files as f64 / self.local_files.max(1) as f64;
        (self.read.load(Ordering::Relaxed) as f64 / bytes.max(1.0)).min(1.0)
    }

    fn advance(&mut self) -> Result<Option<String>> {
        loop {
            match self.reader.as_mut().and_then(Iterator::next) {
                Some(Ok(document)) => return Ok(Some(document.unwrap_or_default())),
                Some(Err(Fault::Row(error))) => {
                    self.skip_bad(error)?;
                    continue;
                }
                Some(Err(Fault::File(error))) => return Err(error),
                None => {}
            }
            let Some(source) = self.sources.next() else {
                return Ok(None);
            };
            let fetched = source.fetched(&self.progress)?;
            if source.repo.is_some() {
                self.bytes += fetched.bytes;
                self.local_files += 1;
            }
            self.reader = Some(read(&fetched, &self.column)?);
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

/// The rows that `advance` returns one after the other.
fn rows<R, T>(
    mut reader: R,
    advance: fn(&mut R) -> Result<Option<T>, Fault>,
) -> impl Iterator<Item = Result<T, Fault>> {
    std::iter::from_fn(move || advance(&mut reader).transpose())
}

fn read(source: &Source, column: &str) -> Result<Reader> {
    Ok(match source.format {
        Format::Parquet => Box::new(rows(Parquet::open(source, column)?, Parquet::advance)),
        Format::Arrow => Box::new(rows(Arrow::open(source, column)?, Arrow::advance)),
        Format::Jsonl => {
            Box::new(Filled::new(rows(Jsonl::open(source, column)?, Jsonl::advance), source, column))
        }
        Format::Json => {
            Box::new(Filled::new(rows(Json::open(source, column)?, Json::advance), source, column))
        }
        Format::Csv | Format::Tsv => {
            let dialect = match &source.reading {
                Reading::Separated(dialect) => dialect.as_ref().clone(),
                _ => Dialect::new(b','),
            };
            Box::new(rows(Csv::open(source, column, dialect)?, Csv::advance))
        }
        Format::Txt => {
            let sample = if let Reading::Sampled(sample) = source.reading { sample } else { Sample::Line };
            Box::new(rows(Txt::open(source, sample)?, Txt::advance))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_have_a_unit_and_one_decimal() {
        let sizes = [0, 1, 999, 1000, 12_345, 999_949, 999_950, 2_500_000_000].map(size);
        assert_eq!(
            sizes,
            ["0 bytes", "1 byte", "999 bytes", "1.0 KB", "12.3 KB", "999.9 KB", "1.0 MB", "2.5 GB"]
        );
    }
}
