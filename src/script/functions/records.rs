//! Features in a feature dataset: `max_activating_examples`, `feature_density`, `colored_tokens`.

use super::arguments::{feature_index, records_of, values_of};
use super::names::type_name;
use super::options::{self, FunctionOptions};
use super::show::ShownType;
use super::{ScriptResult, progress_of, script};
use crate::dashboard::{ColoredTokens, Example, ExampleOptions, FeatureDensity, MaxActivatingExamples};
use crate::error::Error;
use crate::extract::FeatureRecord;
use crate::sae::Sae;
use candle_core::{Device, Tensor};
use rhai::plugin::*;
use rhai::{Array, Dynamic, Engine, FLOAT, INT, Map};
use saescope_options::Options;

pub(super) const SHOWN: &[ShownType] = &[
    ShownType::of::<ColoredTokens>("tokens: &mut ColoredTokens").saved(),
    ShownType::of::<MaxActivatingExamples>("found: &mut MaxActivatingExamples").saved(),
    ShownType::of::<FeatureDensity>("density: &mut FeatureDensity").saved(),
];
pub(super) const OPTIONS: &[FunctionOptions] = &[("max_activating_examples", ExampleOptions::fields)];

pub(super) fn register(engine: &mut Engine) {
    engine.register_global_module(exported_module!(functions).into());
}

#[export_module]
mod functions {
    /// The strongest activations of a feature, each with the text around it.
    pub type MaxActivatingExamples = crate::dashboard::MaxActivatingExamples;
    /// The fraction of tokens at which each feature is active.
    pub type FeatureDensity = crate::dashboard::FeatureDensity;
    /// Tokens with a value each, shown on a colored background.
    pub type ColoredTokens = crate::dashboard::ColoredTokens;

    /// The strongest activations of a feature in a feature dataset (a path, a value of `read_records`, or an array of
    /// records), each with the text around it, the largest first. Each record gives at most one; BOS tokens are
    /// skipped.
    ///
    /// ```rhai
    /// create_feature_dataset(load_model("demo"), load_sae("demo"), #{
    ///     dataset_path: "demo", output_path: "feature_activations.jsonl", max_examples: 50,
    /// });
    /// let found = max_activating_examples("feature_activations.jsonl", 1919, #{ top_k: 3 });
    /// print(found);
    /// print(found.examples[0].value);
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn max_activating_examples(
        context: NativeCallContext,
        records: Dynamic,
        feature: INT,
        options: Map,
    ) -> ScriptResult<MaxActivatingExamples> {
        let options: ExampleOptions = options::parse(options)?;
        let (records, feature) = (script(records_of(&records, None))?, script(feature_index(feature))?);
        let progress = progress_of(&context);
        script(crate::dashboard::max_activating_examples(records, feature, &options, &progress))
    }

    /// The examples, an array of maps: `record` (its index), `pos`, `value` (the activation), `tokens` (with context).
    ///
    /// ```rhai
    /// create_feature_dataset(load_model("demo"), load_sae("demo"), #{
    ///     dataset_path: "demo", output_path: "feature_activations.jsonl", max_examples: 20,
    /// });
    /// for example in max_activating_examples("feature_activations.jsonl", 1919).examples { display(example.tokens); }
    /// ```
    #[rhai_fn(global, get = "examples", pure)]
    pub fn examples(found: &mut MaxActivatingExamples) -> Array {
        let map = |Example { record, pos, value, tokens }: &Example| -> Dynamic {
            let mut map = Map::new();
            map.insert("record".into(), (*record as INT).into());
            map.insert("pos".into(), (*pos as INT).into());
            map.insert("value".into(), FLOAT::from(*value).into());
            map.insert("tokens".into(), Dynamic::from(tokens.clone()));
            map.into()
        };
        found.examples.iter().map(map).collect()
    }

    /// The number of tokens in the records at which the feature is active.
    ///
    /// ```rhai
    /// create_feature_dataset(load_model("demo"), load_sae("demo"), #{
    ///     dataset_path: "demo", output_path: "feature_activations.jsonl", max_examples: 20,
    /// });
    /// print(max_activating_examples("feature_activations.jsonl", 1919).active);
    /// ```
    #[rhai_fn(global, get = "active", pure)]
    pub fn examples_active(found: &mut MaxActivatingExamples) -> INT {
        found.active as INT
    }

    /// How often each feature of an SAE is active in a feature dataset (a path, a value of `read_records`, or an array
    /// of records). BOS tokens are not counted.
    ///
    /// ```rhai
    /// let sae = load_sae("demo");
    /// create_feature_dataset(load_model("demo"), sae, #{
    ///     dataset_path: "demo", output_path: "feature_activations.jsonl", max_examples: 50,
    /// });
    /// let density = feature_density(sae, "feature_activations.jsonl");
    /// print(density);
    /// print(density.densities[1919]);
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn feature_density(
        context: NativeCallContext,
        sae: Sae,
        records: Dynamic,
    ) -> ScriptResult<FeatureDensity> {
        let records = script(records_of(&records, sae.cfg().model_name.as_deref()))?;
        script(crate::dashboard::feature_density(records, sae.cfg().d_sae, &progress_of(&context)))
    }

    /// The fraction of tokens at which each feature is active, [d_sae].
    ///
    /// ```rhai
    /// let sae = load_sae("demo");
    /// create_feature_dataset(load_model("demo"), sae, #{
    ///     dataset_path: "demo", output_path: "feature_activations.jsonl", max_examples: 20,
    /// });
    /// print(feature_density(sae, "feature_activations.jsonl").densities.topk(3));
    /// ```
    #[rhai_fn(global, get = "densities", pure, return_raw)]
    pub fn densities(density: &mut FeatureDensity) -> ScriptResult<Tensor> {
        let densities: Vec<f32> = density.densities().into_iter().map(|x| x as f32).collect();
        script(Tensor::new(densities, &Device::Cpu))
    }

    /// The number of features that are never active.
    ///
    /// ```rhai
    /// let sae = load_sae("demo");
    /// create_feature_dataset(load_model("demo"), sae, #{
    ///     dataset_path: "demo", output_path: "feature_activations.jsonl", max_examples: 20,
    /// });
    /// print(feature_density(sae, "feature_activations.jsonl").dead);
    /// ```
    #[rhai_fn(global, get = "dead", pure)]
    pub fn dead(density: &mut FeatureDensity) -> INT {
        density.dead() as INT
    }

    /// Tokens on a colored background, darker for larger values: an array of strings, and a tensor [pos] or an array of
    /// numbers. Or the tokens of a record, with the activations of a feature.
    ///
    /// ```rhai
    /// let model = load_model("demo");
    /// let text = "A plant having leaves has roots.";
    /// let acts = feature_acts(model, load_sae("demo"), text);
    /// print(colored_tokens(model.to_str_tokens(text), acts.of(1919)));
    /// ```
    #[rhai_fn(return_raw)]
    pub fn colored_tokens(tokens: Array, values: Dynamic) -> ScriptResult<ColoredTokens> {
        let text = |token: Dynamic| {
            let got = type_name(&token);
            token.into_string().map_err(|_| Error::invalid("the tokens", "an array of strings", got))
        };
        let tokens = script(tokens.into_iter().map(text).collect::<Result<_, _>>())?;
        let values = script(values_of("the values", &values))?;
        script(ColoredTokens::new("", tokens, values.into_iter().map(|x| x as f32).collect()))
    }

    #[rhai_fn(global, name = "colored_tokens", pure, return_raw)]
    pub fn record_colored_tokens(record: &mut FeatureRecord, feature: INT) -> ScriptResult<ColoredTokens> {
        Ok(record.colored_tokens(script(feature_index(feature))?))
    }

    /// The text of each token of a record, an array of strings; empty for a BOS.
    ///
    /// ```rhai
    /// create_feature_dataset(load_model("demo"), load_sae("demo"), #{
    ///     dataset_path: "demo", output_path: "feature_activations.jsonl", max_examples: 1,
    /// });
    /// print(read_records("feature_activations.jsonl").take(1)[0].str_tokens);
    /// ```
    #[rhai_fn(global, get = "str_tokens", pure)]
    pub fn record_str_tokens(record: &mut FeatureRecord) -> Array {
        record.str_tokens().into_iter().map(Dynamic::from).collect()
    }

    /// The activation of one feature at every token of a record, [pos].
    ///
    /// ```rhai
    /// create_feature_dataset(load_model("demo"), load_sae("demo"), #{
    ///     dataset_path: "demo", output_path: "feature_activations.jsonl", max_examples: 1,
    /// });
    /// print(read_records("feature_activations.jsonl").take(1)[0].activations_of(1919).max());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn activations_of(record: &mut FeatureRecord, feature: INT) -> ScriptResult<Tensor> {
        let values = record.activations_of(script(feature_index(feature))?);
        script(Tensor::new(values, &Device::Cpu))
    }
}
