//! Options: the conversion of object maps such as `#{ max_examples: 10 }` to option structs.

use super::help::type_name;
use super::interpret::SimilarOptions;
use super::model::TokenOptions;
use super::{ScriptResult, script};
use crate::dataset::DatasetOptions;
use crate::error::Error;
use crate::extract::{CheckOptions, ExampleOptions, ExtractOptions};
use crate::interpret::{LogitLensOptions, TokenListOptions, TreeOptions, VectorOptions, WriteTreesOptions};
use crate::model::{GenerateOptions, ModelOptions};
use crate::plot::{HeatmapOptions, HistogramOptions, PlotOptions, options_without};
use crate::registry::SaeFilter;
use crate::sae::SaeOptions;
use candle_core::{DType, Tensor};
use rhai::{Array, Dynamic, Identifier, Map};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt::Display;

/// Parses the options in a map; missing ones get their defaults.
///
/// Uses serde_json, which accepts a whole number for a float; rhai's own conversion does not.
pub(crate) fn parse<T: DeserializeOwned>(map: Map) -> ScriptResult<T> {
    let mut object = serde_json::Map::new();
    for (name, value) in map {
        let json = script(to_json(&name, &value))?;
        object.insert(name.to_string(), json);
    }
    let parsed = serde_json::from_value(Value::Object(object.clone()));
    script(parsed.map_err(|error| {
        let unknown = unknown_field(&error.to_string());
        unknown.unwrap_or_else(|| wrong_value::<T>(&object, &error))
    }))
}

/// Parses the options of a chart function.
pub(crate) fn parse_chart(function: &str, map: Map) -> ScriptResult<PlotOptions> {
    let known = of_function(function);
    match map.keys().find(|name| !known.iter().any(|(known, _)| known == name.as_str())) {
        None => parse(map),
        Some(name) => {
            let known = known.into_iter().map(|(name, _)| name);
            script(Err(Error::unknown("option", name.as_str(), known)))
        }
    }
}

/// Parses the options of a chart function that has additional options, of type `T`.
pub(crate) fn parse_both<T>(function: &str, map: Map) -> ScriptResult<(T, PlotOptions)>
where
    T: DeserializeOwned + Serialize + Default,
{
    let own = names_of(&T::default());
    let (own, chart) = map.into_iter().partition(|(name, _)| own.iter().any(|own| own == name.as_str()));
    Ok((parse(own)?, parse_chart(function, chart)?))
}

/// Returns the names of the options in a struct.
pub(crate) fn names_of(options: &impl Serialize) -> Vec<String> {
    let json = serde_json::to_value(options).unwrap_or_default();
    json.as_object().into_iter().flat_map(|options| options.keys().cloned()).collect()
}

/// Returns the options of a function with their defaults; empty if it has none.
pub(crate) fn of_function(function: &str) -> Vec<(String, String)> {
    fn of<T: Serialize + Default>() -> Vec<(String, String)> {
        let json = serde_json::to_value(T::default()).unwrap_or_default();
        let options = json.as_object().cloned().unwrap_or_default().into_iter();
        options
            .map(|(name, default)| {
                (name, if default.is_null() { String::new() } else { default.to_string() })
            })
            .collect()
    }
    let named = |name: &str, default: &str| vec![(name.to_owned(), default.to_owned())];
    let of_chart = || {
        let without = options_without(function);
        of::<PlotOptions>()
            .into_iter()
            .filter(|(name, _)| !without.contains(&name.as_str()))
            .collect::<Vec<_>>()
    };
    match function {
        "check_sae" => of::<CheckOptions>(),
        "create_feature_dataset" => of::<ExtractOptions>(),
        "decoder_logit_lens" | "logit_lens" => of::<LogitLensOptions>(),
        "definition_tree" => [of::<TreeOptions>(), named("scale", "")].concat(),
        "write_definition_trees" | "definition_trees" => {
            let own =
                of::<WriteTreesOptions>().into_iter().filter(|(name, _)| TREES.contains(&name.as_str()));
            [own.collect(), of::<VectorOptions>(), of::<TreeOptions>()].concat()
        }
        "feature_vector" | "ghost_token" => of::<VectorOptions>(),
        "generate" => [of::<GenerateOptions>(), named("hooks", "")].concat(),
        "list_saes" => of::<SaeFilter>(),
        "load_model" => of::<ModelOptions>(),
        "load_sae" => of::<SaeOptions>(),
        "max_activating_examples" => of::<ExampleOptions>(),
        "open_dataset" => of::<DatasetOptions>(),
        "plot_activations" | "plot_bars" | "plot_line" | "plot_scatter" => of_chart(),
        "plot_density" | "plot_histogram" => [of::<HistogramOptions>(), of_chart()].concat(),
        "plot_heatmap" => [of::<HeatmapOptions>(), of_chart()].concat(),
        "similar_features" => of::<SimilarOptions>(),
        "to_tokens" => of::<TokenOptions>(),
        "token_list" => of::<TokenListOptions>(),
        _ => Vec::new(),
    }
}

/// The options that `write_definition_trees` adds to those of the vector and the tree.
pub(crate) const TREES: [&str; 3] = ["output_path", "batch_size", "resume"];

/// Removes an option whose value is a map, such as one of closures, and returns it; an empty map if it is missing.
pub(crate) fn take_map(map: &mut Map, name: &str) -> ScriptResult<Map> {
    let Some(value) = map.remove(name) else { return Ok(Map::new()) };
    let got = type_name(&value);
    let taken = value.try_cast::<Map>();
    script(taken.ok_or_else(|| Error::invalid(format!("option `{name}`"), "a map #{ … }", got)))
}

/// Converts the value of an option to JSON; a tensor [n] becomes an array of numbers.
fn to_json(name: &str, value: &Dynamic) -> Result<Value, Error> {
    let wrong = |expected: &str, got: &dyn Display| Error::invalid(format!("option `{name}`"), expected, got);
    if let Some(map) = value.read_lock::<Map>() {
        let entry = |(key, value): (&Identifier, &Dynamic)| Ok((key.to_string(), to_json(name, value)?));
        return map.iter().map(entry).collect::<Result<_, _>>().map(Value::Object);
    }
    if let Some(array) = value.read_lock::<Array>() {
        return array.iter().map(|value| to_json(name, value)).collect::<Result<_, _>>().map(Value::Array);
    }
    if let Some(tensor) = value.read_lock::<Tensor>() {
        if tensor.rank() != 1 {
            return Err(wrong("a tensor [n]", &format!("a tensor {:?}", tensor.dims())));
        }
        return Ok(tensor.to_dtype(DType::F32)?.to_vec1::<f32>()?.into());
    }
    if value.as_float().is_ok_and(|x| !x.is_finite()) {
        return Err(wrong("a finite number", value));
    }
    // serde would turn other types of this crate into their type names.
    let is_json =
        value.is_unit() || value.is_bool() || value.is_int() || value.is_float() || value.is_string();
    let json = serde_json::to_value(value).ok().filter(|_| is_json);
    json.ok_or_else(|| wrong("a number, a string, true or false", &type_name(value)))
}

/// serde says "unknown field `a`, expected one of `b`, `c`": the names are between the backticks.
fn unknown_field(message: &str) -> Option<Error> {
    let mut names = message.strip_prefix("unknown field ")?.split('`').skip(1).step_by(2);
    let name = names.next()?;
    Some(Error::unknown("option", name, names))
}

/// Finds the option with the wrong value, which serde does not name, by parsing each option by itself.
fn wrong_value<T: DeserializeOwned>(
    object: &serde_json::Map<String, Value>,
    error: &serde_json::Error,
) -> Error {
    for (name, value) in object {
        let single = Value::Object([(name.clone(), value.clone())].into_iter().collect());
        if let Err(error) = serde_json::from_value::<T>(single) {
            let message = error.to_string();
            let missing = message.strip_prefix("missing field ").map(|field| format!("a map with {field}"));
            // An error of this crate has a `got` about the value; serde's names only its type.
            let own = message.strip_prefix("expected ");
            let own = own.or_else(|| message.split_once(": expected ").map(|(_, own)| own));
            let own = own.and_then(|own| own.split_once(", got "));
            let expected = message.rsplit_once("expected ").map(|(_, expected)| expected);
            let expected = own.map(|(expected, _)| expected).or(expected).map(type_words);
            let expected = missing.or(expected).unwrap_or_else(|| "another value".to_owned());
            let got = own.map_or_else(|| value.to_string(), |(_, got)| got.to_owned());
            return Error::invalid(format!("option `{name}`"), expected, shortened(&got));
        }
    }
    Error::invalid("the options", "other values", error)
}

/// Rewrites serde's names of types for users.
fn type_words(expected: &str) -> String {
    match expected {
        "usize" | "u64" | "u32" => "a whole number, 0 or more".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a sequence" => "an array".to_owned(),
        "an array of length 2" | "fewer elements in array" => "two numbers".to_owned(),
        other if other.starts_with("struct ") => "a map #{ … }".to_owned(),
        other => other.to_owned(),
    }
}

/// Returns the beginning of a string that may be long.
fn shortened(text: &str) -> String {
    const SHOWN: usize = 100;
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{} …", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Progress;
    use crate::script::help::Help;
    use rhai::Engine;

    #[test]
    fn every_function_that_takes_options_is_listed() {
        let mut engine = Engine::new();
        crate::script::register(&mut engine, &Progress::default(), &Default::default());
        let help = Help::of(&engine);
        let mut n = 0;
        for entry in help.entries() {
            let takes = entry.signatures.iter().any(|signature| signature.contains("options: Map"));
            assert_eq!(takes, !of_function(&entry.name).is_empty(), "{}", entry.name);
            n += usize::from(takes);
        }
        assert!(n > 20, "{n}");
        let find =
            |function: &str, name: &str| of_function(function).into_iter().find(|(option, _)| option == name);
        assert_eq!(find("token_list", "top_k").map(|(_, default)| default), Some("100".to_owned()));
        assert!(
            find("write_definition_trees", "cutoff").is_some()
                && find("write_definition_trees", "vector").is_none()
        );
    }
}
