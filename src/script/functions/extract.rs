//! Feature datasets: `create_feature_dataset`, `read_records` and `check_sae`.

use super::arguments::{integers, register_properties};
use super::items::{self, SkippedError};
use super::names::type_name;
use super::options::{self, FunctionOptions};
use super::show::ShownType;
use super::{ScriptResult, progress_of, script};
use crate::dataset::{Dataset, DatasetOptions};
use crate::error::Error;
use crate::evaluate::{self, CheckOptions, SaeEvaluation};
use crate::extract::{ExtractOptions, ExtractSummary, FeatureRecord, RecordFile};
use crate::feature_dataset;
use crate::model::Model;
use crate::sae::Sae;
use rhai::plugin::*;
use rhai::{Array, Dynamic, Engine, FLOAT, INT, Map};
use saescope_options::Options;
use std::path::Path;

pub(super) const SHOWN: &[ShownType] = &[
    ShownType::of::<FeatureRecord>("record: &mut FeatureRecord"),
    ShownType::of::<RecordFile>("records: &mut Records"),
    ShownType::of::<SaeEvaluation>("check: &mut SaeEvaluation"),
    ShownType::of::<ExtractSummary>("summary: &mut ExtractSummary"),
];
pub(super) const OPTIONS: &[FunctionOptions] =
    &[("check_sae", CheckOptions::fields), ("create_feature_dataset", ExtractOptions::fields)];

pub(super) fn register(engine: &mut Engine, skipped: &SkippedError) {
    engine.register_global_module(exported_module!(functions).into());
    items::register(engine, skipped, |file: RecordFile| file.records());
    register_properties::<ExtractSummary>(engine);
    register_properties::<SaeEvaluation>(engine);
}

#[export_module]
mod functions {
    /// One line of a feature dataset: a text, its tokens and their active features.
    pub type FeatureRecord = crate::extract::FeatureRecord;
    /// The records of a feature dataset.
    pub type Records = crate::extract::RecordFile;
    /// The result of `check_sae`: how well an SAE reconstructs real activations.
    pub type SaeEvaluation = crate::evaluate::SaeEvaluation;
    /// The counts of a finished extraction.
    pub type ExtractSummary = crate::extract::ExtractSummary;

    /// Writes the active features of every token of a dataset to a JSON lines file and returns a summary. The dataset
    /// is the option `dataset_path`, or a value of `open_dataset` as the third argument.
    ///
    /// ```rhai
    /// let summary = create_feature_dataset(load_model("demo"), load_sae("demo"), #{
    ///     dataset_path: "demo",
    ///     output_path: "feature_activations.jsonl",
    ///     max_examples: 20,
    ///     activation_threshold: 0.1,
    /// });
    /// print(summary);
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn create_feature_dataset(
        context: NativeCallContext,
        model: Model,
        sae: Sae,
        options: Map,
    ) -> ScriptResult<ExtractSummary> {
        let options = options::parse(options)?;
        script(feature_dataset::create_feature_dataset(&model, &sae, None, &options, &progress_of(&context)))
    }

    #[rhai_fn(name = "create_feature_dataset", return_raw, volatile)]
    pub fn create_feature_dataset_of(
        context: NativeCallContext,
        model: Model,
        sae: Sae,
        dataset: Dataset,
        options: Map,
    ) -> ScriptResult<ExtractSummary> {
        let options = options::parse(options)?;
        let progress = progress_of(&context);
        script(feature_dataset::create_feature_dataset(&model, &sae, Some(&dataset), &options, &progress))
    }

    /// Measures an SAE on the first tokens of a dataset, given as a path or a value of `open_dataset`: `l0` (the mean
    /// number of active features per token), `published_l0` (as its authors measured it, for an SAE in the registry),
    /// `explained_variance`, `tokens` (their number), and `warnings` with the likely cause if these are far off.
    /// ```rhai
    /// let check = check_sae(load_model("demo"), load_sae("demo"), "demo", #{ max_tokens: 500 });
    /// print(check);
    /// print(check.explained_variance);
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn check_sae(
        context: NativeCallContext,
        model: Model,
        sae: Sae,
        dataset: Dynamic,
        options: Map,
    ) -> ScriptResult<SaeEvaluation> {
        let (options, progress) = (options::parse(options)?, progress_of(&context));
        let what = type_name(&dataset);
        let dataset = match dataset.clone().into_string() {
            Ok(path) => script(Dataset::open_with(&path, &DatasetOptions::default(), &progress))?,
            Err(_) => {
                let wrong = || Error::invalid("the dataset", "a path or a value of open_dataset", what);
                script(dataset.try_cast::<Dataset>().ok_or_else(wrong))?
            }
        };
        script(evaluate::check_sae(&model, &sae, &dataset, &options, &progress))
    }

    /// All results of a check, as a map.
    ///
    /// ```rhai
    /// let check = check_sae(load_model("demo"), load_sae("demo"), "demo", #{ max_tokens: 200 });
    /// print(check.to_map());
    /// ```
    #[rhai_fn(global, name = "to_map", pure, return_raw)]
    pub fn check_to_map(check: &mut SaeEvaluation) -> ScriptResult<Dynamic> {
        rhai::serde::to_dynamic(check)
    }

    /// The records of a feature dataset file, to iterate over with `for`; they are read one at a time. A record has
    /// `text`, `tokens`, `offsets`, `active_features` and `activations`.
    ///
    /// ```rhai
    /// create_feature_dataset(load_model("demo"), load_sae("demo"), #{
    ///     dataset_path: "demo", output_path: "feature_activations.jsonl", max_examples: 20,
    /// });
    /// for record in read_records("feature_activations.jsonl") {
    ///     print(`${record.text} ${record.active_features[1]}`);
    ///     break;
    /// }
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn read_records(path: &str) -> ScriptResult<Records> {
        script(Records::open(Path::new(path)))
    }

    /// The first `n` records of a feature dataset, as an array.
    ///
    /// ```rhai
    /// create_feature_dataset(load_model("demo"), load_sae("demo"), #{
    ///     dataset_path: "demo", output_path: "feature_activations.jsonl", max_examples: 3,
    /// });
    /// print(read_records("feature_activations.jsonl").take(2));
    /// ```
    #[rhai_fn(global, name = "take", pure, return_raw, volatile)]
    pub fn take_records(records: &mut Records, n: INT) -> ScriptResult<Array> {
        items::take(records.records(), n)
    }

    /// The text of a record: the part of the document that the model ran on.
    ///
    /// ```rhai
    /// create_feature_dataset(load_model("demo"), load_sae("demo"), #{
    ///     dataset_path: "demo", output_path: "feature_activations.jsonl", max_examples: 3,
    /// });
    /// let record = read_records("feature_activations.jsonl").take(1)[0];
    /// print(record.text);
    /// ```
    #[rhai_fn(global, get = "text", pure)]
    pub fn record_text(record: &mut FeatureRecord) -> String {
        record.text.clone()
    }

    /// The token ids of a record, [pos].
    ///
    /// ```rhai
    /// create_feature_dataset(load_model("demo"), load_sae("demo"), #{
    ///     dataset_path: "demo", output_path: "feature_activations.jsonl", max_examples: 3,
    /// });
    /// let record = read_records("feature_activations.jsonl").take(1)[0];
    /// print(record.tokens);
    /// ```
    #[rhai_fn(global, get = "tokens", pure)]
    pub fn record_tokens(record: &mut FeatureRecord) -> Array {
        integers(&record.tokens)
    }

    /// The character offset in the text at which each token of a record starts, [pos]; 0 for a BOS.
    ///
    /// ```rhai
    /// create_feature_dataset(load_model("demo"), load_sae("demo"), #{
    ///     dataset_path: "demo", output_path: "feature_activations.jsonl", max_examples: 3,
    /// });
    /// let record = read_records("feature_activations.jsonl").take(1)[0];
    /// print(record.offsets);
    /// ```
    #[rhai_fn(global, get = "offsets", pure)]
    pub fn record_offsets(record: &mut FeatureRecord) -> Array {
        record.offsets.iter().map(|offset| (*offset as INT).into()).collect()
    }

    /// The indices of the active features at each token of a record, ascending, [pos][active].
    ///
    /// ```rhai
    /// create_feature_dataset(load_model("demo"), load_sae("demo"), #{
    ///     dataset_path: "demo", output_path: "feature_activations.jsonl", max_examples: 3,
    /// });
    /// let record = read_records("feature_activations.jsonl").take(1)[0];
    /// print(record.active_features[1]);
    /// ```
    #[rhai_fn(global, get = "active_features", pure)]
    pub fn record_active_features(record: &mut FeatureRecord) -> Array {
        record.active_features.iter().map(|active| integers(active).into()).collect()
    }

    /// The activations of the active features at each token of a record, [pos][active].
    ///
    /// ```rhai
    /// create_feature_dataset(load_model("demo"), load_sae("demo"), #{
    ///     dataset_path: "demo", output_path: "feature_activations.jsonl", max_examples: 3,
    /// });
    /// let record = read_records("feature_activations.jsonl").take(1)[0];
    /// print(record.activations[1]);
    /// ```
    #[rhai_fn(global, get = "activations", pure)]
    pub fn record_activations(record: &mut FeatureRecord) -> Array {
        let values = |values: &Vec<f32>| -> Array {
            values.iter().map(|value| Dynamic::from(FLOAT::from(*value))).collect()
        };
        record.activations.iter().map(|active| values(active).into()).collect()
    }

    /// The counts of an extraction, as a map.
    ///
    /// ```rhai
    /// let summary = create_feature_dataset(load_model("demo"), load_sae("demo"), #{
    ///     dataset_path: "demo", output_path: "feature_activations.jsonl", max_examples: 3,
    /// });
    /// print(summary.to_map());
    /// ```
    #[rhai_fn(global, name = "to_map", pure, return_raw)]
    pub fn summary_to_map(summary: &mut ExtractSummary) -> ScriptResult<Dynamic> {
        rhai::serde::to_dynamic(summary)
    }
}
