//! Statistics of features over a feature dataset: where a feature is most active, and how often each is active.

use super::tokens::ColoredTokens;
use crate::error::{Error, Result};
use crate::extract::{Bos, FeatureRecord};
use crate::progress::Progress;
use saescope_options::options;
use serde::{Deserialize, Serialize};

options! {
    /// Options of [`max_activating_examples`].
    pub struct ExampleOptions {
        /// The number of examples. Default: 10.
        #[serde(alias = "top")]
        pub top_k: usize = 10,
        /// The number of tokens to show before and after the one with the largest activation. Default: 12.
        pub buffer: usize = 12,
    }
}

/// The records in which a feature is most active.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct MaxActivatingExamples {
    /// The index of the feature, below `d_sae`.
    pub feature: usize,
    /// The number of records read.
    pub records: u64,
    /// The number of tokens in them, without BOS tokens.
    pub tokens: u64,
    /// The number of tokens at which the feature is active.
    pub active: u64,
    /// The examples, the largest activation first; at most one per record.
    pub examples: Vec<Example>,
    /// A note on the uncertainty of the counts, if there is any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// One token at which a feature is active, with its context.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Example {
    /// The index of the record, from 0.
    pub record: u64,
    /// The position in the record of the token with the largest activation.
    pub pos: usize,
    /// The activation at that token.
    pub value: f32,
    /// The surrounding tokens, that one included.
    pub tokens: ColoredTokens,
}

/// Finds where a feature is most active in the records of a feature dataset: the "max activating examples" of SAE
/// dashboards. Ties are in the order of the records. A BOS is neither an example nor counted, because its activations
/// are the same in every context.
///
/// ```
/// # fn main() -> saescope::Result<()> {
/// use saescope::prelude::*;
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("features.jsonl");
/// # let output_path = path.to_string_lossy().into_owned();
/// # let (model, sae) = (Model::load("demo")?, Sae::load("demo")?);
/// # let options =
/// #     ExtractOptions { dataset_path: "demo".to_owned(), output_path, max_examples: Some(10), ..Default::default() };
/// # create_feature_dataset(&model, &sae, None, &options, &Progress::default())?;
///
/// let options = ExampleOptions { top_k: 3, ..Default::default() };
/// let examples = max_activating_examples(read_records(&path)?, 1919, &options, &Progress::default())?;
/// println!("{examples}");
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// A record that cannot be read; [`Error::Interrupted`].
pub fn max_activating_examples(
    records: impl IntoIterator<Item = Result<FeatureRecord>>,
    feature: usize,
    options: &ExampleOptions,
    progress: &Progress,
) -> Result<MaxActivatingExamples> {
    let mut found = MaxActivatingExamples { feature, ..Default::default() };
    let mut guesses = [0; 2];
    for record in records {
        progress.check()?;
        let record = record?;
        count_guess(&mut guesses, &record);
        let values = record.activations_of(feature);
        let skipped = usize::from(record.begins_with_bos());
        let counted = || values.iter().copied().enumerate().skip(skipped);
        found.tokens += counted().count() as u64;
        let active = || counted().filter(|(_, value)| *value != 0.0);
        found.active += active().count() as u64;
        // The first one, if several are equal.
        let largest = active().reduce(|best, next| if next.1.abs() > best.1.abs() { next } else { best });
        if let Some((pos, value)) = largest {
            let place = found.examples.partition_point(|example| example.value.abs() >= value.abs());
            if place < options.top_k {
                let (start, end) = (
                    pos.saturating_sub(options.buffer),
                    pos.saturating_add(options.buffer).saturating_add(1),
                );
                let tokens = record.colored_tokens(feature).slice(start, end);
                found.examples.insert(place, Example { record: found.records, pos, value, tokens });
                found.examples.truncate(options.top_k);
            }
        }
        found.records += 1;
    }
    found.note = note(guesses);
    Ok(found)
}

/// Counts a record whose BOS was guessed: in `guesses[0]` if absent, in `guesses[1]` if present.
fn count_guess(guesses: &mut [u64; 2], record: &FeatureRecord) {
    if let Bos::Guessed(is_bos) = record.bos {
        guesses[usize::from(is_bos)] += 1;
    }
}

/// The note for counts over records, `guesses` of which were guessed to begin with `[text, BOS]`; `None` if 0 and 0.
fn note(guesses: [u64; 2]) -> Option<String> {
    let [text, bos] = guesses;
    let how = match (text, bos) {
        (0, 0) => return None,
        (_, 0) => "the first token of each was counted".to_owned(),
        (0, _) => "the first token of each was left out".to_owned(),
        _ => format!("the first token was left out of {bos} records and counted in {text}"),
    };
    Some(format!("no description (.meta.json) says whether the records begin with a BOS: {how}"))
}

/// How often each feature is active: its *density* is the fraction of tokens at which it is active.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FeatureDensity {
    /// The number of tokens counted, without BOS tokens.
    pub tokens: u64,
    /// The number of tokens at which each feature is active, `[d_sae]`.
    pub active: Vec<u64>,
    /// A note on the uncertainty of the counts, if there is any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl FeatureDensity {
    /// The density of each feature, `[d_sae]`, from 0 to 1.
    pub fn densities(&self) -> Vec<f64> {
        self.active.iter().map(|active| *active as f64 / self.tokens.max(1) as f64).collect()
    }

    /// The number of features that are never active.
    pub fn dead(&self) -> usize {
        self.active.iter().filter(|active| **active == 0).count()
    }

    /// The mean number of active features per token.
    pub fn mean_l0(&self) -> f64 {
        self.active.iter().sum::<u64>() as f64 / self.tokens.max(1) as f64
    }
}

/// Counts how often each of `d_sae` features is active in the records of a feature dataset. A BOS is not counted,
/// because its activations are the same in every context.
///
/// ```
/// # fn main() -> saescope::Result<()> {
/// use saescope::prelude::*;
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("features.jsonl");
/// # let output_path = path.to_string_lossy().into_owned();
/// # let (model, sae) = (Model::load("demo")?, Sae::load("demo")?);
/// # let options =
/// #     ExtractOptions { dataset_path: "demo".to_owned(), output_path, max_examples: Some(10), ..Default::default() };
/// # create_feature_dataset(&model, &sae, None, &options, &Progress::default())?;
///
/// let density = feature_density(read_records(&path)?, sae.cfg().d_sae, &Progress::default())?;
/// println!("{density}");
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// A record that cannot be read, or with a feature not below `d_sae`; [`Error::Interrupted`].
pub fn feature_density(
    records: impl IntoIterator<Item = Result<FeatureRecord>>,
    d_sae: usize,
    progress: &Progress,
) -> Result<FeatureDensity> {
    let mut density = FeatureDensity { tokens: 0, active: vec![0; d_sae], note: None };
    let mut guesses = [0; 2];
    for record in records {
        progress.check()?;
        let record = record?;
        count_guess(&mut guesses, &record);
        for active in record.active_features.iter().skip(usize::from(record.begins_with_bos())) {
            density.tokens += 1;
            for feature in active {
                let count = density.active.get_mut(*feature as usize).ok_or_else(|| {
                    let expected = format!("at most {} (d_sae = {d_sae})", d_sae.saturating_sub(1));
                    Error::invalid("a feature of the records", expected, feature)
                        .with_hint("were the records made with this SAE?")
                })?;
                *count += 1;
            }
        }
    }
    density.note = note(guesses);
    Ok(density)
}

impl std::fmt::Display for MaxActivatingExamples {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.summary())?;
        for example in &self.examples {
            let tokens = ColoredTokens { title: String::new(), ..example.tokens.clone() };
            write!(f, "\n{:>9.3}  {tokens}", example.value)?;
        }
        self.note.iter().try_for_each(|note| write!(f, "\nnote: {note}"))
    }
}

impl MaxActivatingExamples {
    /// How often the feature is active, in one line: `feature 7: active at 6 of 15 tokens (40.000 %)`.
    pub fn summary(&self) -> String {
        let density = self.active as f64 / self.tokens.max(1) as f64;
        let (feature, active, tokens) = (self.feature, self.active, self.tokens);
        format!("feature {feature}: active at {active} of {tokens} tokens ({:.3} %)", 100.0 * density)
    }
}

impl std::fmt::Display for FeatureDensity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let n = self.active.len();
        write!(f, "FeatureDensity of {n} features over {} tokens: ", self.tokens)?;
        write!(f, "{} never active, L0 {:.1}", self.dead(), self.mean_l0())?;
        self.note.iter().try_for_each(|note| write!(f, "\nnote: {note}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record of one-letter tokens in which feature 7 has these activations.
    fn record(values: &[f32]) -> Result<FeatureRecord> {
        let n = values.len();
        let active = |value: &f32| if *value == 0.0 { (vec![], vec![]) } else { (vec![7], vec![*value]) };
        let (active_features, activations) = values.iter().map(active).unzip();
        Ok(FeatureRecord {
            text: "abcdefghijklmnop"[..n].to_owned(),
            tokens: vec![1; n],
            offsets: (0..n).collect(),
            active_features,
            activations,
            bos: Bos::Absent,
        })
    }

    #[test]
    fn examples_are_sorted_by_activation_and_cut_out_of_their_records() {
        let records = [
            record(&[0.0, 1.0, 3.0, 0.0]),
            record(&[0.0; 3]),
            record(&[5.0, 0.0, 0.0, 0.0, 5.0]),
            record(&[0.0, 3.0]),
            record(&[-4.0]),
        ];
        let options = ExampleOptions { top_k: 3, buffer: 1 };
        let found = max_activating_examples(records, 7, &options, &Progress::default()).unwrap();
        assert_eq!((found.records, found.tokens, found.active), (5, 15, 6));
        let places: Vec<_> = found.examples.iter().map(|e| (e.record, e.pos, e.value)).collect();
        assert_eq!(places, [(2, 0, 5.0), (4, 0, -4.0), (0, 2, 3.0)]);
        assert_eq!(found.examples[0].tokens.tokens, ["a", "b"]);
        assert_eq!(found.examples[2].tokens.values, [1.0, 3.0, 0.0]);
        assert!(
            found
                .to_string()
                .starts_with("feature 7: active at 6 of 15 tokens (40.000 %)\n    5.000  a[5.00]b")
        );
    }

    #[test]
    fn densities_are_fractions_of_tokens() {
        let records = || [record(&[1.0, 2.0, 0.0]), record(&[1.0, 0.0])];
        let density = feature_density(records(), 9, &Progress::default()).unwrap();
        assert_eq!((density.tokens, density.active[7], density.dead()), (5, 3, 8));
        assert_eq!((density.densities()[7], density.mean_l0()), (0.6, 0.6));
        let error = feature_density(records(), 7, &Progress::default()).unwrap_err();
        assert!(error.to_string().contains("at most 6 (d_sae = 7), got 7"), "{error}");
        let stopped = Progress::default();
        stopped.cancel();
        assert!(feature_density(records(), 9, &stopped).unwrap_err().is_interrupted());
    }

    #[test]
    fn a_bos_is_neither_an_example_nor_counted() {
        let with_bos = |values: &[f32]| {
            let offsets = [0].into_iter().chain(0..values.len() - 1).collect();
            Ok(FeatureRecord { offsets, bos: Bos::Present, ..record(values)? })
        };
        let records = || [with_bos(&[9.0, 1.0, 0.0]), record(&[9.0])];
        let found =
            max_activating_examples(records(), 7, &ExampleOptions::default(), &Progress::default()).unwrap();
        assert_eq!((found.tokens, found.active, found.examples.len()), (3, 2, 2));
        assert_eq!((found.examples[0].value, found.examples[1].value), (9.0, 1.0));
        let density = feature_density(records(), 9, &Progress::default()).unwrap();
        assert_eq!((density.tokens, density.active[7]), (3, 2));
    }
}
