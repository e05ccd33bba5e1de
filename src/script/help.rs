//! Help: what the functions of this crate do, from their doc comments.

use crate::error::{Error, did_you_mean};
use rhai::Engine;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write;

/// What every function of this crate does, by name.
#[derive(Debug, Clone, Default)]
pub struct Help {
    entries: BTreeMap<String, HelpEntry>,
}

/// One function, in all its forms.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HelpEntry {
    /// How it is called: `sum(tensor: Tensor, axis: int) -> Tensor`.
    pub signatures: Vec<String>,
    /// Its doc comment.
    pub text: String,
}

impl HelpEntry {
    /// The first sentence.
    pub fn summary(&self) -> String {
        let paragraph = self.text.split("\n\n").next().unwrap_or_default().replace('\n', " ");
        let sentence = paragraph.split_once(". ").map_or(paragraph.as_str(), |(sentence, _)| sentence);
        sentence.trim_end_matches('.').to_owned()
    }

    /// The examples in the doc comment.
    pub fn examples(&self) -> impl Iterator<Item = &str> {
        self.text.split("```rhai\n").skip(1).filter_map(|rest| rest.split_once("```").map(|(block, _)| block))
    }
}

/// The engine's own description of its functions.
#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    functions: Vec<FunctionMetadata>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FunctionMetadata {
    name: String,
    signature: String,
    #[serde(default)]
    doc_comments: Vec<String>,
}

impl Help {
    /// Collects the doc comments of everything that is registered.
    pub(super) fn of(engine: &Engine) -> Self {
        let json = engine.gen_fn_metadata_to_json(false).unwrap_or_default();
        let metadata: Metadata = serde_json::from_str(&json).unwrap_or(Metadata { functions: Vec::new() });
        let mut entries = BTreeMap::<String, HelpEntry>::new();
        for function in metadata.functions {
            let name = match function.name.strip_prefix("get$") {
                Some(property) => format!(".{property}"),
                None => function.name,
            };
            let entry = entries.entry(name).or_default();
            entry.signatures.push(plain_signature(&function.signature));
            let text = plain_comment(&function.doc_comments);
            if !entry.text.contains(&text) {
                entry.text += if entry.text.is_empty() { "" } else { "\n\n" };
                entry.text += &text;
            }
        }
        entries.values_mut().for_each(|entry| entry.signatures.sort_by_key(String::len));
        Help { entries }
    }

    /// The functions and, as `.name`, the properties, with operators and what has no doc comment left out.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &HelpEntry)> {
        self.entries
            .iter()
            .filter(|(name, entry)| is_word(name.trim_start_matches('.')) && !entry.text.is_empty())
            .map(|(name, entry)| (name.as_str(), entry))
    }

    /// What one function does: how it is called, and its doc comment.
    ///
    /// # Errors
    /// A name that no function has.
    pub fn get(&self, name: &str) -> Result<String, Error> {
        let entry = self.entries.get(name).or_else(|| self.entries.get(&format!(".{name}")));
        let entry = entry.filter(|entry| !entry.text.is_empty());
        let entry = entry.ok_or_else(|| {
            // A few near ones are more use than all.
            let near = did_you_mean(name, self.names());
            let known = near.map_or_else(|| self.containing(name), |near| vec![near.to_owned()]);
            Error::unknown("function", name, known)
        })?;
        let mut text = entry.signatures.join("\n");
        text += "\n\n";
        text += &entry.text;
        Ok(text)
    }

    /// Every function with its first sentence, a line each.
    pub fn list(&self) -> String {
        let width = self.entries().map(|(name, _)| name.len()).max().unwrap_or(0);
        let mut text = String::new();
        for (name, entry) in self.entries() {
            let _ = writeln!(text, "{name:width$}  {}", entry.summary());
        }
        text + "\nhelp(\"name\") tells more of one."
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str).filter(|name| is_word(name))
    }

    pub(super) fn signatures_of(&self, name: &str) -> Vec<String> {
        self.entries.get(name).map(|entry| entry.signatures.clone()).unwrap_or_default()
    }

    /// The properties and methods of a type, from the first parameter of each signature.
    pub(super) fn properties_of(&self, type_name: &str) -> Vec<String> {
        let takes = |signature: &String| {
            let first = signature.split(['(', ',', ')']).nth(1).unwrap_or_default();
            let owned = signature.strip_prefix(type_name).is_some_and(|rest| rest.starts_with('.'));
            owned || first.rsplit(": ").next() == Some(type_name)
        };
        let of_type = self.entries.iter().filter(|(_, entry)| entry.signatures.iter().any(takes));
        let names = of_type.map(|(name, _)| name.trim_start_matches('.').to_owned());
        names.filter(|name| is_word(name) && !name.starts_with("to_debug")).collect()
    }

    fn containing(&self, part: &str) -> Vec<String> {
        let names = self.names().filter(|name| name.contains(part)).map(str::to_owned);
        names.collect()
    }
}

/// Registers `help`.
pub(super) fn register(engine: &mut Engine, help: Help) {
    let list = help.clone();
    engine.register_fn("help", move || list.list());
    engine.register_fn("help", move |name: &str| super::script(help.get(name)));
}

fn is_word(name: &str) -> bool {
    name.chars().all(|c| c.is_alphanumeric() || c == '_')
}

/// rhai's signature with the types as a script names them.
fn plain_signature(signature: &str) -> String {
    let text = match signature.rsplit_once("-> ") {
        Some((call, result)) => {
            let inner = result.rsplit_once("Result<").map_or(result, |(_, inner)| inner);
            let value = inner.split([',', '>']).next().unwrap_or_default().trim();
            if value == "()" { call.trim_end().to_owned() } else { format!("{call}-> {value}") }
        }
        None => signature.to_owned(),
    };
    let text = plain_types(&text);
    // A property: `get$cfg(model: Model) -> any` is `Model.cfg -> any`.
    match text.strip_prefix("get$").and_then(|rest| rest.split_once('(')).zip(text.split_once(')')) {
        Some(((name, parameters), (_, result))) => {
            let owner = parameters.split([',', ')']).next().unwrap_or_default();
            format!("{}.{name}{result}", owner.rsplit(": ").next().unwrap_or_default())
        }
        None => text,
    }
}

/// Names of Rust types as a script knows them.
pub(super) fn plain_types(text: &str) -> String {
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

/// A doc comment without its slashes.
fn plain_comment(lines: &[String]) -> String {
    let lines = lines.iter().flat_map(|block| block.lines());
    let lines = lines.map(|line| line.trim_start().trim_start_matches("///"));
    lines.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect::<Vec<_>>().join("\n").trim().to_owned()
}
