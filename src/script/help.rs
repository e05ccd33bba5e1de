//! Help: what functions do, from their doc comments; for `help`, for completion and for the reference page.

use super::complete::{Completion, CompletionKind};
use crate::error::{Error, did_you_mean};
use rhai::Engine;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Write;

/// What every function does, by name; a property is under `.name`.
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
    /// The types that it is a property or a method of.
    pub owners: Vec<String>,
}

impl HelpEntry {
    /// The first sentence.
    pub fn summary(&self) -> String {
        let paragraph = self.text.split("\n\n").next().unwrap_or_default().replace('\n', " ");
        let sentence = paragraph.split_once(". ").map_or(paragraph.as_str(), |(sentence, _)| sentence);
        sentence.trim_end_matches('.').to_owned()
    }

    /// The options that the doc comment names, with what it says of each.
    fn options(&self) -> Vec<(&str, &str)> {
        let Some((_, options)) = self.text.split_once("Options") else { return Vec::new() };
        let options = options.split("```").next().unwrap_or_default();
        let mut names: Vec<(&str, &str)> = Vec::new();
        let mut parts = options.split('`').skip(1);
        while let (Some(name), Some(after)) = (parts.next(), parts.next()) {
            if !names.iter().any(|(known, _)| *known == name) && is_word(name) && !name.is_empty() {
                let note = after.trim_start().strip_prefix('(').and_then(|note| note.split_once(')'));
                names.push((name, note.map_or("", |(note, _)| note)));
            }
        }
        names
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

impl HelpEntry {
    /// How it is called, on a value of a type.
    fn signature_for(&self, owner: Option<&str>) -> &str {
        let fits = |signature: &&String| {
            let Some(owner) = owner else { return true };
            let first = signature.split(['(', ',', ')']).nth(1).unwrap_or_default();
            signature.starts_with(&format!("{owner}.")) || first.rsplit(": ").next() == Some(owner)
        };
        self.signatures.iter().find(fits).or(self.signatures.first()).map_or("", String::as_str)
    }
}

impl Help {
    /// Collects the doc comments of everything that is registered; with `standard` those of the language too.
    pub(super) fn of(engine: &Engine, standard: bool) -> Self {
        let json = engine.gen_fn_metadata_to_json(standard).unwrap_or_default();
        let metadata: Metadata = serde_json::from_str(&json).unwrap_or(Metadata { functions: Vec::new() });
        let mut entries = BTreeMap::<String, HelpEntry>::new();
        for function in metadata.functions {
            let name = match function.name.strip_prefix("get$") {
                Some(property) => format!(".{property}"),
                None => function.name,
            };
            let entry = entries.entry(name).or_default();
            let signature = plain_signature(&function.signature);
            // What is called on a value takes it by reference.
            let first = function.signature.split(['(', ',', ')']).nth(1).unwrap_or_default();
            if first.contains("&mut ") {
                entry.owners.push(plain_types(first.rsplit(": ").next().unwrap_or_default()));
            }
            entry.signatures.push(signature);
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

    /// The names of the properties and methods of a type.
    pub(super) fn properties_of(&self, type_name: &str) -> Vec<String> {
        self.members_of(Some(type_name)).into_iter().map(|member| member.text).collect()
    }

    /// The properties and methods of a type, or of all.
    pub(super) fn members_of(&self, type_name: Option<&str>) -> Vec<Completion> {
        // What is called for a text in a text is not for those who write.
        let entries = self.entries().filter(|(name, _)| *name != "to_debug");
        let owned = entries.filter(|(_, entry)| match type_name {
            Some(type_name) => entry.owners.iter().any(|owner| owner == type_name || owner == "any"),
            None => !entry.owners.is_empty(),
        });
        let member = |(name, entry): (&str, &HelpEntry)| {
            let property = name.strip_prefix('.');
            let kind = if property.is_some() { CompletionKind::Property } else { CompletionKind::Method };
            let detail = entry.signature_for(type_name).to_owned();
            Completion { text: property.unwrap_or(name).to_owned(), kind, detail }
        };
        owned.map(member).collect()
    }

    /// The functions that are called by their name alone, with a signature each.
    pub(super) fn functions(&self) -> impl Iterator<Item = (&str, &str)> {
        let functions = self
            .entries()
            .filter(|(name, entry)| !name.starts_with('.') && entry.signatures.len() > entry.owners.len());
        functions.map(|(name, entry)| (name, entry.signature_for(None)))
    }

    /// The type of what a function gives, or a property or a method of a type.
    pub(super) fn type_of(&self, owner: Option<&str>, name: &str) -> Option<String> {
        let entries = [self.entries.get(&format!(".{name}")), self.entries.get(name)];
        let signature = |entry: &HelpEntry| {
            let gives = entry.signature_for(owner).rsplit_once("-> ").map(|(_, gives)| gives.to_owned());
            let fits = owner.is_none_or(|owner| entry.owners.iter().any(|o| o == owner));
            gives.filter(|_| fits)
        };
        entries.into_iter().flatten().find_map(signature)
    }

    /// The options of a function, those that it shares with others included.
    pub(super) fn options_of(&self, function: &str) -> Vec<(String, String)> {
        let Some(entry) = self.entries.get(function) else { return Vec::new() };
        let mut options = Vec::new();
        for (name, note) in entry.options() {
            match self.entries.get(name) {
                Some(other) => options.extend(other.options()),
                None => options.push((name, note)),
            }
        }
        options.into_iter().map(|(name, note)| (name.to_owned(), note.to_owned())).collect()
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
