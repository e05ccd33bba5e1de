//! The dialect of a file of separated values, in the options of pandas' `read_csv`, which a dataset's card may contain
//! and Python's `datasets` passes on.

use crate::error::{Error, Result};
use serde_json::{Map, Value};

/// The strings that pandas reads as a missing value (`pandas._libs.parsers.STR_NA_VALUES`).
const MISSING: [&str; 19] = [
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A",
    "NA", "NULL", "NaN", "None", "n/a", "nan", "null",
];

/// Options that change what is read and are supported only with their default value: this one, or null.
const UNSUPPORTED: [(&str, &str); 9] = [
    ("skipinitialspace", "false"),
    ("skip_blank_lines", "true"),
    ("skipfooter", "0"),
    ("dialect", "null"),
    ("usecols", "null"),
    ("comment", "null"),
    ("nrows", "null"),
    ("lineterminator", "\"\\n\""),
    ("quoting", "0"),
];

/// The dialect of a file of separated values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Dialect {
    pub(super) separator: u8,
    /// The number of lines to skip at the start of the file.
    pub(super) skip_lines: usize,
    /// The row that contains the column names, counted from 0.
    pub(super) header: Option<usize>,
    /// The column names, overriding the names in the file.
    pub(super) names: Option<Vec<String>>,
    /// The quote character; `None` if quotes have no special meaning.
    pub(super) quote: Option<u8>,
    pub(super) is_quote_doubled: bool,
    pub(super) escape: Option<u8>,
    /// The strings that represent a missing value.
    pub(super) missing: Vec<String>,
    /// Whether the extra first fields of rows longer than the header are row names.
    pub(super) has_index: bool,
    /// Whether rows that are too long are skipped.
    pub(super) skips_long_rows: bool,
}

impl Dialect {
    /// The default dialect with this separator.
    pub(super) fn new(separator: u8) -> Self {
        Dialect {
            separator,
            skip_lines: 0,
            header: Some(0),
            names: None,
            quote: Some(b'"'),
            is_quote_doubled: true,
            escape: None,
            missing: MISSING.map(str::to_owned).into(),
            has_index: true,
            skips_long_rows: false,
        }
    }

    /// Overrides this dialect with the given options; `place` names their origin in messages.
    ///
    /// # Errors
    /// An option with an unknown or unsupported value.
    pub(super) fn with(mut self, options: &Map<String, Value>, place: &str) -> Result<Self> {
        // `datasets` lets the longer name win.
        let separator = options.get("delimiter").filter(|v| !v.is_null()).or_else(|| options.get("sep"));
        let names = options.get("column_names").filter(|v| !v.is_null()).or_else(|| options.get("names"));
        let wrong = |key: &str, expected: &str, got: &Value| {
            Error::invalid(format!("`{key}` in {place}"), expected, got)
                .with_hint("convert the files to another format, such as JSON lines, in Python")
        };
        let byte = |key: &str, value: &Value| match value.as_str().map(str::as_bytes) {
            Some([byte]) => Ok(Some(*byte)),
            _ if value.is_null() => Ok(None),
            _ => Err(wrong(key, "one ASCII character", value)),
        };
        if let Some(value) = separator {
            self.separator = byte("sep", value)?.ok_or_else(|| wrong("sep", "one ASCII character", value))?;
        }
        if let Some(names) = names.filter(|names| !names.is_null()) {
            let list = names.as_array().and_then(|names| names.iter().map(text_of).collect::<Option<_>>());
            self.names = Some(list.ok_or_else(|| wrong("names", "a list of names", names))?);
            // The file then has no header row, unless a row is given.
            self.header = None;
        }
        for (key, value) in options {
            let count = || value.as_u64().and_then(|n| usize::try_from(n).ok());
            match key.as_str() {
                "sep" | "delimiter" | "names" | "column_names" => {}
                "header" if value.is_null() => self.header = None,
                "header" if value == "infer" => {}
                "header" => self.header = Some(count().ok_or_else(|| wrong(key, "a row number", value))?),
                "skiprows" if value.is_null() => {}
                "skiprows" => {
                    self.skip_lines = count().ok_or_else(|| wrong(key, "a number of lines", value))?
                }
                "quotechar" => self.quote = byte(key, value)?.or(self.quote),
                "quoting" if value.as_u64() == Some(3) => self.quote = None,
                "doublequote" => {
                    self.is_quote_doubled =
                        value.as_bool().ok_or_else(|| wrong(key, "true or false", value))?
                }
                "escapechar" => self.escape = byte(key, value)?,
                "keep_default_na" if value.as_bool() == Some(false) => {
                    self.missing.retain(|text| !MISSING.contains(&text.as_str()));
                }
                "na_values" => {
                    let strings = match value {
                        Value::Null => Some(Vec::new()),
                        Value::Array(values) => values.iter().map(text_of).collect(),
                        one => text_of(one).map(|text| vec![text]),
                    };
                    self.missing.extend(strings.ok_or_else(|| wrong(key, "a list of strings", value))?);
                }
                "index_col" => self.has_index = value.as_bool() != Some(false),
                "on_bad_lines" => self.skips_long_rows = matches!(value.as_str(), Some("skip" | "warn")),
                "encoding" => {
                    let name = value.as_str().unwrap_or_default().to_lowercase().replace(['-', '_'], "");
                    if !value.is_null() && !["utf8", "utf8sig", "ascii"].contains(&name.as_str()) {
                        return Err(wrong(key, "utf-8", value));
                    }
                }
                // Others do not affect a column of strings, or are for other readers.
                key => {
                    let written = value.to_string();
                    let is_unusual = |(name, usual): &(&str, &str)| *name == key && *usual != written;
                    if !value.is_null() && UNSUPPORTED.iter().any(is_unusual) {
                        return Err(wrong(key, "the default, as no other value is supported", value));
                    }
                }
            }
        }
        // It disables the other options about missing values.
        if options.get("na_filter").and_then(Value::as_bool) == Some(false) {
            self.missing.clear();
        }
        Ok(self)
    }
}

/// A name or a value as a string; YAML may have parsed it as a number or a boolean.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        _ => None,
    }
}
