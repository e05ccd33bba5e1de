//! Feature records, the lines of a feature dataset: writing, reading and checking them.

use super::bos::{Bos, Rule};
use super::windows::Context;
use crate::error::{Error, Result};
use crate::files::Lines;
use crate::sae::FeatureActs;
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::path::{Path, PathBuf};

/// A text with its tokens and the features active at each of them. The lengths of the arrays are equal, as the field
/// docs state. A line of a feature dataset has exactly these keys in this order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureRecord {
    /// The exact slice of the document that was run.
    pub text: String,
    /// The token ids that the model read, `[pos]`, including a BOS if one was prepended.
    pub tokens: Vec<u32>,
    /// The character offset (in Unicode scalars) of each token in `text`, `[pos]`; 0 for a BOS.
    pub offsets: Vec<usize>,
    /// The features of each token whose activation exceeds the threshold in magnitude, ascending, `[pos][active]`.
    pub active_features: Vec<Vec<u32>>,
    /// The activations of these features, `[pos][active]`.
    pub activations: Vec<Vec<f32>>,
    /// Whether the first token is a BOS. Not written: a reader finds it in the description of the run, see
    /// [`read_records`].
    #[serde(skip)]
    pub bos: Bos,
}

impl FeatureRecord {
    /// Creates the record of a context, with the features of its tokens; for a [`Consumer`](super::Consumer).
    pub fn new(context: &Context, acts: &FeatureActs) -> Self {
        FeatureRecord {
            text: context.text.clone(),
            tokens: context.tokens.clone(),
            offsets: context.offsets.clone(),
            active_features: context.rows().map(|row| acts.at(row).0.to_vec()).collect(),
            activations: context.rows().map(|row| acts.at(row).1.to_vec()).collect(),
            bos: if context.begins_with_bos { Bos::Present } else { Bos::Absent },
        }
    }

    /// Whether the first token is a BOS.
    pub fn begins_with_bos(&self) -> bool {
        matches!(self.bos, Bos::Present | Bos::Guessed(true)) && !self.tokens.is_empty()
    }

    /// Writes the record as one line of JSON. Activations are the shortest decimals that read back as the same f32,
    /// always with a point or an exponent, so that readers infer f32s.
    ///
    /// # Errors
    /// Any error of the writer.
    pub fn write_line(&self, mut writer: impl Write) -> std::io::Result<()> {
        serde_json::to_writer(&mut writer, self)?;
        writer.write_all(b"\n")
    }

    /// The number of tokens and the mean number of active features per token: `12 tokens, L0 5.3`.
    pub(crate) fn counts(&self) -> String {
        let active: usize = self.active_features.iter().map(Vec::len).sum();
        let l0 = active as f64 / self.tokens.len().max(1) as f64;
        format!("{} tokens, L0 {l0:.1}", self.tokens.len())
    }

    /// Checks that the lengths of the arrays are equal and that features ascend.
    fn check(&self) -> Result<(), String> {
        let n = self.tokens.len();
        for (name, len) in [
            ("offsets", self.offsets.len()),
            ("active_features", self.active_features.len()),
            ("activations", self.activations.len()),
        ] {
            if len != n {
                return Err(format!("`{name}`: expected {n}, one per token, got {len}"));
            }
        }
        for (pos, (features, values)) in self.active_features.iter().zip(&self.activations).enumerate() {
            if features.len() != values.len() {
                let (features, values) = (features.len(), values.len());
                return Err(format!("token {pos}: expected {features} activations, got {values}"));
            }
            if !features.is_sorted_by(|a, b| a < b) {
                return Err(format!("token {pos}: `active_features` must ascend"));
            }
        }
        Ok(())
    }
}

/// An iterator over the records of a feature dataset, read one at a time; ends after the first error.
#[derive(Debug)]
pub struct RecordReader {
    path: PathBuf,
    rule: Rule,
    lines: Lines,
    line: Vec<u8>,
    over: bool,
}

/// Opens a feature dataset. Whether records begin with a BOS is read from `<path>.meta.json`; without that file it is
/// guessed from the first records ([`Bos::Guessed`]).
///
/// ```
/// # fn main() -> saescope::Result<()> {
/// # let folder = tempfile::tempdir().map_err(saescope::Error::failed("create a folder"))?;
/// # let path = folder.path().join("x.jsonl");
/// # std::fs::write(&path, "{\"text\":\"a\",\"tokens\":[1],\"offsets\":[0],\"active_features\":[[7]],\"activations\":[[0.5]]}\n").unwrap();
/// for record in saescope::read_records(&path)? {
///     let record = record?;
///     assert_eq!(record.active_features[0], [7]);
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// A file that cannot be opened. Each record may be an error that names its line.
pub fn read_records(path: &Path) -> Result<RecordReader> {
    read_records_of(path, None)
}

/// Like [`read_records`], for records of the model `model_name`, whose BOS is used if there is no description of the
/// run.
///
/// # Errors
/// See [`read_records`].
pub fn read_records_of(path: &Path, model_name: Option<&str>) -> Result<RecordReader> {
    let rule = match Rule::of_description(path) {
        Some(rule) => rule,
        None => {
            let records = RecordReader::open(path, Rule::All(false))?.map_while(Result::ok);
            Rule::guess(records.map(|record| (record.tokens, record.offsets)), model_name)
        }
    };
    RecordReader::open(path, rule)
}

impl RecordReader {
    fn open(path: &Path, rule: Rule) -> Result<RecordReader> {
        let lines = Lines::open(path)?;
        Ok(RecordReader { path: path.to_owned(), rule, lines, line: Vec::new(), over: false })
    }

    fn read(&mut self) -> Result<Option<FeatureRecord>> {
        while self.lines.read(&mut self.line)? {
            let line = self.line.trim_ascii();
            if line.is_empty() {
                continue;
            }
            let record = serde_json::from_slice::<FeatureRecord>(line).map_err(|e| e.to_string());
            let checked = record.and_then(|mut record| {
                record.check()?;
                record.bos = self.rule.bos(&record.tokens);
                Ok(record)
            });
            return checked.map(Some).map_err(|message| Error::Malformed {
                path: self.path.clone(),
                at: format!("line {}", self.lines.number()),
                message: format!("not a feature record: {message}"),
                hint: Some("was the file written by create_feature_dataset, and completely?".to_owned()),
            });
        }
        Ok(None)
    }
}

impl Iterator for RecordReader {
    type Item = Result<FeatureRecord>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let record = self.read().transpose();
        self.over = !matches!(record, Some(Ok(_)));
        record
    }
}

impl std::fmt::Display for FeatureRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const SHOWN: usize = 60;
        let text: String = self.text.chars().take(SHOWN).collect();
        let more = if self.text.chars().nth(SHOWN).is_some() { "…" } else { "" };
        write!(f, "FeatureRecord {text:?}{more}, {}", self.counts())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_keys_in_order_and_numbers_that_read_back() {
        let values = [1.0_f32, 0.1, 16_777_216.0, 1e-10, 3.4e38, f32::MIN_POSITIVE, 123_456.79];
        let record = FeatureRecord {
            text: "naïve\n\"quote\"".to_owned(),
            tokens: vec![0, 5],
            offsets: vec![0, 0],
            active_features: vec![vec![], (0..7).collect()],
            activations: vec![vec![], values.to_vec()],
            bos: Bos::Absent,
        };
        let mut line = Vec::new();
        record.write_line(&mut line).unwrap();
        let line = String::from_utf8(line).unwrap();
        assert!(line.starts_with(
            r#"{"text":"naïve\n\"quote\"","tokens":[0,5],"offsets":[0,0],"active_features":[[],["#
        ));
        let numbers = line.rsplit('[').next().unwrap().trim_end_matches("]]}\n");
        for (text, value) in numbers.split(',').zip(values) {
            assert!(text.contains(['.', 'e']), "{text}");
            assert_eq!(text.parse::<f32>().unwrap(), value);
        }
        assert_eq!(serde_json::from_str::<FeatureRecord>(&line).unwrap(), record);
    }

    #[test]
    fn a_broken_record_names_its_line_and_what_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("records.jsonl");
        let good = r#"{"text":"a","tokens":[1],"offsets":[0],"active_features":[[7]],"activations":[[0.5]]}"#;
        for (bad, expected) in [
            (good.replace("[[0.5]]", "[[]]"), "expected 1 activations, got 0"),
            (good.replace("[0]", "[0,1]"), "`offsets`: expected 1, one per token, got 2"),
            (good.replace("[[7]]", "[[7,7]]").replace("[[0.5]]", "[[1,1]]"), "must ascend"),
            (good[..40].to_owned(), "not a feature record: EOF"),
        ] {
            std::fs::write(&path, format!("{good}\n{bad}\n{good}\n")).unwrap();
            let records: Vec<_> = read_records(&path).unwrap().collect();
            assert_eq!(records.len(), 2);
            let error = records[1].as_ref().unwrap_err().to_string();
            assert!(error.contains("line 2") && error.contains(expected), "{error}");
        }
    }
}
