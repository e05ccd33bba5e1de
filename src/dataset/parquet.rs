//! Parquet: one top-level column of strings, read page by page.
//!
//! Encodings: plain, dictionary and delta. Compression: none, snappy, gzip, zstd, brotli and lz4. Memory holds one page
//! and one dictionary of the column, however large the row groups are.

use super::fault::{Fault, malformed, unknown_column};
use super::parquet_limits::{Checked, Pages, check_footer};
use super::source::Source;
use super::text::Compression;
use crate::error::{Error, Result};
use crate::files;
use parquet::basic::{ConvertedType, Encoding, LogicalType, Repetition};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl, get_column_reader};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::ParquetError;
use parquet::file::reader::{FileReader, SerializedFileReader, SerializedPageReader};
use parquet::schema::types::Type;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The usual number of rows decoded at once.
const BATCH: usize = 256;

/// The documents of a Parquet file.
pub(super) struct Parquet {
    contents: SerializedFileReader<File>,
    pages: Arc<Pages>,
    /// The index of the column among the leaves of the schema.
    leaf: usize,
    is_optional: bool,
    groups: std::ops::Range<usize>,
    group: Option<Group>,
    batch: std::vec::IntoIter<Option<ByteArray>>,
    row: u64,
    source: Source,
}

struct Group {
    number: usize,
    rows: u64,
    left: u64,
    /// The number of rows decoded at once.
    batch: usize,
    column: ColumnReaderImpl<ByteArrayType>,
}

impl Parquet {
    pub(super) fn open(source: &Source, column: &str) -> Result<Self> {
        let path = source.path.as_path();
        refuse_compressed(path)?;
        let file = files::open(path)?;
        let again = file.try_clone().map_err(Error::file("open", path))?;
        let contents = guarded(path, "", || {
            check_footer(&file)?;
            SerializedFileReader::new(file)
        })?;
        let (leaf, is_optional) = find_column(path, &contents, column)?;
        let groups = 0..contents.num_row_groups();
        let batch = Vec::new().into_iter();
        Ok(Parquet {
            contents,
            pages: Arc::new(Pages(again)),
            leaf,
            is_optional,
            groups,
            group: None,
            batch,
            row: 0,
            source: source.clone(),
        })
    }

    pub(super) fn advance(&mut self) -> Result<Option<Option<String>>, Fault> {
        loop {
            if let Some(value) = self.batch.next() {
                self.row += 1;
                return self.text(value).map(Some).map_err(Fault::Row);
            }
            match self.group.take() {
                Some(group) if group.left > 0 => self.read_batch(group)?,
                _ => match self.groups.next() {
                    Some(number) => {
                        // Progress within a file is counted in row groups.
                        let share = self.source.bytes / self.groups.end.max(1) as u64;
                        self.source.read.fetch_add(share, Ordering::Relaxed);
                        self.group = Some(self.open_group(number)?);
                    }
                    None => return Ok(None),
                },
            }
        }
    }

    fn text(&self, value: Option<ByteArray>) -> Result<Option<String>> {
        let Some(value) = value else { return Ok(None) };
        let text = std::str::from_utf8(value.data()).map_err(|error| {
            let message =
                format!("expected text in UTF-8, got other bytes after byte {}", error.valid_up_to());
            let at = format!("row {}", self.row);
            malformed(&self.source.path, &at, message, "write the file again from valid strings")
        })?;
        Ok(Some(text.to_owned()))
    }

    fn open_group(&self, number: usize) -> Result<Group> {
        let at = format!("row group {number}");
        let (pages, leaf, is_optional) = (self.pages.clone(), self.leaf, self.is_optional);
        let group = self.contents.metadata().row_groups().get(number);
        let (column, batch) = guarded(&self.source.path, &at, || {
            let gone = || ParquetError::EOF("there is no such row group".to_owned());
            let group = group.ok_or_else(gone)?;
            let column = group.columns().get(leaf).ok_or_else(gone)?;
            let rows = usize::try_from(group.num_rows())?;
            let shares_prefixes = column.encodings().any(|encoding| encoding == Encoding::DELTA_BYTE_ARRAY);
            let pages = SerializedPageReader::new(pages, column, rows, None)?;
            let checked = Checked { pages, is_optional, shares_prefixes };
            // Each string can then be far longer than its bytes in the file, so they are decoded one at a time.
            let batch = if shares_prefixes { 1 } else { BATCH };
            Ok((get_column_reader(group.schema_descr().column(leaf), Box::new(checked)), batch))
        })?;
        let ColumnReader::ByteArrayColumnReader(column) = column else {
            let message = "expected a column of strings, got another type";
            return Err(malformed(&self.source.path, &at, message, AGAIN));
        };
        let rows = group.map_or(0, |group| group.num_rows());
        let rows = u64::try_from(rows).map_err(|_| {
            malformed(&self.source.path, &at, format!("expected a number of rows, got {rows}"), AGAIN)
        })?;
        Ok(Group { number, rows, left: rows, batch, column })
    }

    fn read_batch(&mut self, mut group: Group) -> Result<()> {
        let at = format!("row group {}", group.number);
        let wanted = usize::try_from(group.left).unwrap_or(group.batch).min(group.batch);
        let (mut levels, mut values) = (Vec::new(), Vec::new());
        let (rows, _, _) = guarded(&self.source.path, &at, || {
            group.column.read_records(wanted, Some(&mut levels), None, &mut values)
        })?;
        if rows == 0 {
            let got = group.rows - group.left;
            let message = format!("expected {} rows, got {got}", group.rows);
            return Err(malformed(&self.source.path, &at, message, AGAIN));
        }
        let mut values = values.into_iter();
        self.batch = if self.is_optional {
            let row = |level| if level == 0 { None } else { values.next() };
            levels.into_iter().map(row).collect::<Vec<_>>().into_iter()
        } else {
            values.map(Some).collect::<Vec<_>>().into_iter()
        };
        group.left = group.left.saturating_sub(rows as u64);
        self.group = Some(group);
        Ok(())
    }
}

const AGAIN: &str = "the file is damaged or was cut off: download it again";

/// Runs a call into the Parquet reader, which can panic on a damaged file.
fn guarded<T>(path: &Path, at: &str, call: impl FnOnce() -> Result<T, ParquetError>) -> Result<T> {
    let error = match crate::guard::guarded(call) {
        Some(Ok(value)) => return Ok(value),
        Some(Err(ParquetError::External(error))) => match error.downcast::<io::Error>() {
            Ok(error) if error.raw_os_error().is_some() => return Err(Error::file("read", path)(*error)),
            Ok(error) => error.to_string(),
            Err(error) => error.to_string(),
        },
        Some(Err(ParquetError::General(reason) | ParquetError::EOF(reason))) => reason,
        Some(Err(error)) => error.to_string(),
        None => "its parts contradict each other".to_owned(),
    };
    Err(malformed(path, at, format!("not readable as Parquet: {error}"), AGAIN))
}

fn refuse_compressed(path: &Path) -> Result<()> {
    let Some(compression) = Compression::of(&files::read_start(path, Compression::HEAD)?) else {
        return Ok(());
    };
    let (name, unpack) = compression.name_and_unpack();
    let message = format!("expected a Parquet file, got one compressed with {name}");
    let hint = format!("decompress it first, with {unpack}: Parquet compresses its columns itself");
    Err(malformed(path, "", message, &hint))
}

/// The index of `column` among the leaves, and whether it is nullable.
fn find_column(path: &Path, file: &SerializedFileReader<File>, column: &str) -> Result<(usize, bool)> {
    let schema = file.metadata().file_metadata().schema_descr();
    let fields = schema.root_schema().get_fields();
    let Some(field) = fields.iter().find(|field| field.name() == column) else {
        let known = fields.iter().map(|field| field.name().to_owned()).collect();
        return Err(unknown_column(path, "", column, known));
    };
    let leaf =
        schema.columns().iter().position(|leaf| matches!(leaf.path().parts(), [name] if name == column));
    match (leaf, other_type(field)) {
        (Some(leaf), None) => Ok((leaf, field.get_basic_info().repetition() == Repetition::OPTIONAL)),
        (_, other) => {
            let got = other.unwrap_or_else(|| "a nested type".to_owned());
            let message = format!("column `{column}`: expected strings, got {got}");
            let strings = fields.iter().filter(|field| other_type(field).is_none());
            let strings: Vec<_> = strings.map(|field| format!("`{}`", field.name())).collect();
            let hint = match strings.as_slice() {
                [] => "no column of this file contains strings".to_owned(),
                names => format!("set `text_column` to a column that holds strings: {}", names.join(", ")),
            };
            Err(malformed(path, "", message, &hint))
        }
    }
}

/// The type of a column, if it is anything but one string per row.
fn other_type(field: &Type) -> Option<String> {
    let info = field.get_basic_info();
    if info.has_repetition() && info.repetition() == Repetition::REPEATED {
        return Some("a list".to_owned());
    }
    match (field, info.logical_type_ref(), info.converted_type()) {
        (Type::GroupType { .. }, _, ConvertedType::LIST) => Some("a list".to_owned()),
        (Type::GroupType { .. }, _, ConvertedType::MAP) => Some("a map".to_owned()),
        (Type::GroupType { .. }, ..) => Some("a struct".to_owned()),
        (_, Some(LogicalType::String), _) | (_, None, ConvertedType::UTF8) => None,
        (_, Some(logical), _) => Some(format!("{} ({logical:?})", field.get_physical_type())),
        (_, None, ConvertedType::NONE) => Some(field.get_physical_type().to_string()),
        (_, None, converted) => Some(format!("{} ({converted})", field.get_physical_type())),
    }
}
