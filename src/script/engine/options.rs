//! Options: the conversion of object maps such as `#{ max_examples: 10 }` to option structs.

use super::names::type_name;
use super::{ScriptResult, script};
use crate::error::Error;
use candle_core::{DType, Tensor};
use rhai::{
    Array, Dynamic, Engine, FuncInfo, FuncMetadata, FuncRegistration, Identifier, Map, Module,
    NativeCallContext, RhaiFunc, Shared,
};
use saescope_options::Field;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt::Display;

/// A function of scripts, and what returns its options.
pub(crate) type FunctionOptions = (&'static str, fn() -> Vec<Field>);

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

/// Returns the options of a function; empty if it has none. `all` has the options of functions in groups.
pub(crate) fn of_function(all: &[&[FunctionOptions]], function: &str) -> Vec<Field> {
    let found = all.iter().copied().flatten().find(|(name, _)| *name == function);
    found.map_or_else(Vec::new, |(_, options)| options())
}

/// Registers each function that takes options a second time, without them, unless one of its options is required.
pub(crate) fn register_defaults(engine: &mut Engine, all: &[&[FunctionOptions]]) {
    let is_optional = |function: &str| {
        let fields = of_function(all, function);
        !fields.is_empty() && fields.iter().all(|field| field.default_text().is_some())
    };
    let with_options = |info: FuncInfo| {
        let takes_options = info.metadata.params_info.last().is_some_and(|last| last == "options: Map");
        (takes_options && is_optional(&info.metadata.name)).then(|| info.metadata.clone())
    };
    let mut module = Module::new();
    for FuncMetadata { name, params_info, param_types, return_type, .. } in
        engine.collect_fn_metadata(None, with_options, false)
    {
        let n = param_types.len() - 1;
        let own = params_info[..n].iter().chain([&return_type]);
        let registration = FuncRegistration::new(name.clone()).with_params_info(own).in_global_namespace();
        let call = move |context: Option<NativeCallContext>, arguments: &mut [&mut Dynamic]| {
            let context = context.ok_or("a function was called without a context")?;
            let mut options = Dynamic::from(Map::new());
            let mut all: Vec<_> = arguments.iter_mut().map(|argument| &mut **argument).collect();
            all.push(&mut options);
            context.call_native_fn_raw(&name, true, &mut all)
        };
        let function =
            RhaiFunc::Method { func: Shared::new(call), has_context: true, is_pure: true, is_volatile: true };
        registration.set_into_module_raw(&mut module, &param_types[..n], function);
    }
    engine.register_global_module(module.into());
}

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
            let got = match own {
                Some((_, got)) => got.to_owned(),
                None if value.is_null() => "()".to_owned(),
                None => value.to_string(),
            };
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
        // One of some words.
        "string or map" => "a string".to_owned(),
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
