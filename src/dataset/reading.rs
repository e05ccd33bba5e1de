//! How the files of a dataset are read, as its card and the options say.

use super::dialect::Dialect;
use super::formats::Format;
use crate::error::{Error, Result};
use serde_json::{Map, Value};
use std::sync::Arc;

/// How a file is read.
#[derive(Debug, Clone, Default)]
pub(super) enum Reading {
    /// The default for its format.
    #[default]
    Default,
    /// Separated values in this dialect.
    Separated(Arc<Dialect>),
    /// Text, with this unit as one document.
    Sampled(Sample),
    /// A JSON object with the rows under this key.
    Field(String),
}

impl Reading {
    /// Parses the `reader_options` of the card of `dataset`; `sep` is the separator of the dataset options.
    ///
    /// # Errors
    /// An option with an unknown or unsupported value.
    pub(super) fn from_card(
        format: Format,
        reader_options: &Map<String, Value>,
        sep: Option<&str>,
        dataset: &str,
    ) -> Result<Self> {
        let place = format!("the card of dataset `{dataset}`");
        Ok(match format {
            Format::Csv | Format::Tsv => {
                let default = if format == Format::Tsv { b'\t' } else { b',' };
                let mut dialect = Dialect::new(default).with(reader_options, &place)?;
                if let Some(sep) = sep {
                    let options = Map::from_iter([("sep".to_owned(), Value::from(sep))]);
                    dialect = dialect.with(&options, "the options")?;
                }
                Reading::Separated(Arc::new(dialect))
            }
            Format::Txt => Reading::Sampled(Sample::from_card(reader_options, &place)?),
            Format::Json => match reader_options.get("field").and_then(Value::as_str) {
                Some(field) => Reading::Field(field.to_owned()),
                None => Reading::Default,
            },
            Format::Jsonl | Format::Parquet | Format::Arrow => Reading::Default,
        })
    }
}

/// The unit of a text file that is one document: `sample_by` and `keep_linebreaks` of Python's `datasets`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Sample {
    #[default]
    Line,
    LineWithEnd,
    Paragraph,
    File,
}

impl Sample {
    /// Parses the reader options of a card; `place` names the card in messages.
    ///
    /// # Errors
    /// An unknown value.
    pub(super) fn from_card(reader_options: &Map<String, Value>, place: &str) -> Result<Self> {
        let keeps_ends = reader_options.get("keep_linebreaks").and_then(Value::as_bool) == Some(true);
        let known = ["line", "paragraph", "document"];
        match reader_options.get("sample_by").filter(|value| !value.is_null()).map(Value::as_str) {
            None | Some(Some("line")) if keeps_ends => Ok(Sample::LineWithEnd),
            None | Some(Some("line")) => Ok(Sample::Line),
            Some(Some("paragraph")) => Ok(Sample::Paragraph),
            Some(Some("document")) => Ok(Sample::File),
            Some(other) => {
                let name = other.unwrap_or("another value").to_owned();
                let known = known.map(str::to_owned).into();
                Err(Error::Unknown { kind: "`sample_by`", name, place: place.to_owned(), known })
            }
        }
    }
}
