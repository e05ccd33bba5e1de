//! Names in scripts: of types, in words for messages, and of functions.

use rhai::Dynamic;

/// Returns the type name of a value in scripts, for messages.
pub(crate) fn type_name(value: &Dynamic) -> String {
    match value.type_name() {
        "array" => "Array".to_owned(),
        "map" => "Map".to_owned(),
        "string" => "String".to_owned(),
        other => script_types(other.rsplit("::").next().unwrap_or(other)),
    }
}

/// Replaces Rust type names by those of scripts.
pub(super) fn script_types(text: &str) -> String {
    let types = [
        ("(&str | ImmutableString | String)", "String"),
        ("&str | ImmutableString | String", "String"),
        ("candle_core::tensor::Tensor", "Tensor"),
        ("rhai::types::dynamic::Dynamic", "any"),
        ("&mut ", ""),
        ("&str", "String"),
        ("ImmutableString", "String"),
        ("INT", "int"),
        ("FLOAT", "float"),
        ("i64", "int"),
        ("f64", "float"),
        ("Dynamic", "any"),
    ];
    types.iter().fold(text.to_owned(), |text, (rust, script)| text.replace(rust, script))
}

/// Whether a string has only letters, digits and underscores.
pub(super) fn is_word(name: &str) -> bool {
    name.chars().all(|c| c.is_alphanumeric() || c == '_')
}

/// Whether a function is a closure; the language names these `anon$…`.
pub(crate) fn is_closure(name: &str) -> bool {
    name.starts_with("anon$")
}

/// Returns a string with its first letter in lower case.
pub(super) fn first_lower(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}
