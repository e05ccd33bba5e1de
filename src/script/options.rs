//! Object maps as option structs: `#{ max_examples: 10 }`.

use super::{ScriptResult, script};
use crate::error::Error;
use rhai::{Dynamic, Map};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The options in a map, with defaults for those that are not in it.
///
/// Goes through serde_json, which takes a whole number where a float is wanted; rhai's own conversion does not.
pub(super) fn parse<T: DeserializeOwned>(map: Map) -> ScriptResult<T> {
    let mut object = serde_json::Map::new();
    for (name, value) in map {
        let json = script(to_json(&name, &value))?;
        object.insert(name.to_string(), json);
    }
    let whole = serde_json::from_value(Value::Object(object.clone()));
    script(whole.map_err(|error| {
        let unknown = unknown_field(&error.to_string());
        unknown.unwrap_or_else(|| wrong_value::<T>(&object, &error))
    }))
}

/// Takes an option that is a map of what is not plain data, such as closures, out of a map; an empty one if it is absent.
pub(super) fn take_map(map: &mut Map, name: &str) -> ScriptResult<Map> {
    let Some(value) = map.remove(name) else { return Ok(Map::new()) };
    let got = value.type_name();
    let taken = value.try_cast::<Map>();
    script(taken.ok_or_else(|| Error::invalid(format!("option `{name}`"), "a map #{ … }", got)))
}

fn to_json(name: &str, value: &Dynamic) -> Result<Value, Error> {
    // A value of our own would become the name of its type.
    let is_plain =
        value.is_unit() || value.is_bool() || value.is_int() || value.is_float() || value.is_string();
    let json = serde_json::to_value(value).ok().filter(|_| is_plain || value.is_array() || value.is_map());
    let expected = "a number, a text, true or false";
    json.ok_or_else(|| Error::invalid(format!("option `{name}`"), expected, value.type_name()))
}

/// serde says "unknown field `a`, expected one of `b`, `c`": the names are between the backticks.
fn unknown_field(message: &str) -> Option<Error> {
    let mut names = message.strip_prefix("unknown field ")?.split('`').skip(1).step_by(2);
    let name = names.next()?;
    Some(Error::unknown("option", name, names))
}

/// serde does not say which option has the wrong value: the one that fails alone.
fn wrong_value<T: DeserializeOwned>(
    object: &serde_json::Map<String, Value>,
    error: &serde_json::Error,
) -> Error {
    for (name, value) in object {
        let alone = Value::Object([(name.clone(), value.clone())].into_iter().collect());
        if let Err(error) = serde_json::from_value::<T>(alone) {
            let message = error.to_string();
            let expected = message.rsplit_once("expected ").map_or("another value", |(_, expected)| expected);
            return Error::invalid(format!("option `{name}`"), plain(expected), value);
        }
    }
    Error::invalid("the options", "other values", error)
}

/// serde's words for types, for a person.
fn plain(expected: &str) -> String {
    match expected {
        "usize" | "u64" | "u32" => "a whole number from 0 up".to_owned(),
        "f32" | "f64" => "a number".to_owned(),
        "a string" => "a text".to_owned(),
        "a boolean" => "true or false".to_owned(),
        other => other.to_owned(),
    }
}
