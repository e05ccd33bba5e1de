//! YAML from elsewhere: dataset cards, lists of releases.

use crate::error::{Error, Result};
use serde::de::DeserializeOwned;
use std::path::Path;

/// Parses a YAML document; `path` is its source, for messages. The size that aliases and nesting can give a small
/// document is limited. The last value of a duplicate key counts.
///
/// # Errors
/// The document is not YAML, is too large, or does not fit `T`.
pub fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { max_events: 4_000_000, max_nodes: 2_000_000 },
        with_snippet: false,
        // As Python's `yaml.safe_load`.
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::LastWins,
    };
    let read = match serde_saphyr::from_str_with_options(text, options.clone()) {
        // A struct refuses a duplicate field; a mapping accepts it.
        Err(error) if error.to_string().contains("duplicate field") => {
            let value: serde_json::Value = serde_saphyr::from_str_with_options(text, options)
                .map_err(|error| Error::malformed(path, error.without_snippet().to_string()))?;
            return serde_json::from_value(value).map_err(|error| Error::malformed(path, error.to_string()));
        }
        read => read,
    };
    read.map_err(|error| {
        let at = error.location().map_or(String::new(), |at| format!("line {}", at.line()));
        let message = error.without_snippet().to_string();
        // `at` gives the line already.
        let message = match message.split(" at line ").next().unwrap_or_default() {
            limit if limit.contains("budget") => "too large or too deeply nested".to_owned(),
            message => message.to_owned(),
        };
        Error::Malformed { path: path.to_owned(), at, message, hint: None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn a_small_document_stays_small() {
        let path = Path::new("a.yaml");
        let value: Value = parse(path, "a: [1, true, x]\nb: &n {c: 2.5}\nd: *n").unwrap();
        assert_eq!(value, serde_json::json!({"a": [1, true, "x"], "b": {"c": 2.5}, "d": {"c": 2.5}}));
        let value: Value = parse(path, "a: 1\nb: 2\na: {c: 3, c: 4}").unwrap();
        assert_eq!(value, serde_json::json!({"a": {"c": 4}, "b": 2}));
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..12 {
            bomb += &format!("a{i}: &a{i} [{}]\n", [format!("*a{}", i - 1).as_str(); 10].join(", "));
        }
        for (text, what) in
            [(bomb.as_str(), ""), (&"[".repeat(100_000), ""), ("a: b\nc: [", "line 2"), ("\0", "")]
        {
            let error = parse::<Value>(path, text).unwrap_err().to_string();
            assert!(error.starts_with("`a.yaml`") && error.contains(what), "{error}");
        }
    }
}
