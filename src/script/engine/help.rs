//! Help texts from the doc comments of script functions: for `help`, completion, error hints and the reference page.

use super::completion::{Completion, CompletionKind};
use super::names::{first_lower, is_word, script_types};
use super::options::FunctionOptions;
use super::script;
use crate::error::{Error, did_you_mean};
use rhai::Engine;
use saescope_options::Field;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

/// The help of every function, property and method.
#[derive(Debug, Clone, Default)]
pub struct Help {
    entries: BTreeMap<Key, HelpEntry>,
    /// The types of values, each with its doc comment.
    types: BTreeMap<String, String>,
}

/// A name (a property's starts with a dot), and the type that it belongs to; `None` for a function.
type Key = (String, Option<String>);

/// A function, a property or a method, with all its signatures.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HelpEntry {
    /// The name; a property starts with a dot: `load_model`, `.cfg`.
    pub name: String,
    /// The type that the property or method belongs to; `None` for a function.
    pub owner: Option<String>,
    /// The signatures: `sum(tensor: Tensor, axis: int) -> Tensor`.
    pub signatures: Vec<String>,
    /// The doc comment, in Markdown.
    pub text: String,
}

/// The help of a name: signatures and a text, once for each type that has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HelpText {
    /// For each type, the signatures, one per line, and the text in Markdown.
    parts: Vec<(String, String)>,
}

impl HelpText {
    pub(super) fn of(parts: impl Iterator<Item = (String, String)>) -> Self {
        HelpText { parts: parts.collect() }
    }

    /// Returns, for each type, the signatures, one per line, and the text in Markdown.
    pub fn parts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.parts.iter().map(|(signatures, text)| (signatures.as_str(), text.as_str()))
    }

    /// Returns the help in Markdown, signatures as code blocks.
    pub fn markdown(&self) -> String {
        let part = |(signatures, text): &(String, String)| format!("```text\n{signatures}\n```\n\n{text}");
        self.parts.iter().map(part).collect::<Vec<_>>().join("\n\n")
    }
}

impl std::fmt::Display for HelpText {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let part =
            |(signatures, text): &(String, String)| format!("{signatures}\n\n{text}").trim_end().to_owned();
        f.write_str(&self.parts.iter().map(part).collect::<Vec<_>>().join("\n\n"))
    }
}

impl HelpEntry {
    /// Returns the first sentence of the text, without its full stop.
    pub fn summary(&self) -> String {
        let paragraph = self.text.split("\n\n").next().unwrap_or_default().replace('\n', " ");
        let sentence = paragraph.split_once(". ").map_or(paragraph.as_str(), |(sentence, _)| sentence);
        sentence.trim_end_matches('.').to_owned()
    }

    /// Returns the ```` ```rhai ```` examples in the doc comment.
    pub fn examples(&self) -> impl Iterator<Item = &str> {
        self.text.split("```rhai\n").skip(1).filter_map(|rest| rest.split_once("```").map(|(block, _)| block))
    }

    /// Appends the section of this entry to the reference page.
    fn describe(&self, page: &mut String) {
        let signatures = self.signatures.join("\n");
        let _ = write!(page, "\n### {}\n\n```text\n{signatures}\n```\n\n{}\n", self.name, self.text);
    }
}

/// The engine's description of its functions, from its JSON.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    functions: Vec<FunctionMetadata>,
    custom_types: Vec<TypeMetadata>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct FunctionMetadata {
    name: String,
    signature: String,
    #[serde(default)]
    doc_comments: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TypeMetadata {
    display_name: String,
    #[serde(default)]
    doc_comments: Vec<String>,
}

impl Help {
    /// Collects the doc comments of everything that this crate registers.
    pub(crate) fn of(engine: &Engine) -> Self {
        Help::collect(engine, None)
    }

    /// Lists the options of functions in their help.
    pub(crate) fn with_options(mut self, options: &[&[FunctionOptions]]) -> Self {
        for (function, options) in options.iter().copied().flatten() {
            for entry in self.entries.values_mut().filter(|entry| entry.name == *function) {
                let list =
                    options().into_iter().map(|Field { name, doc, .. }| format!("- `{name}`: {doc}\n"));
                let list = format!("Options:\n{}\n", list.collect::<String>());
                // The example stays last.
                entry.text.insert_str(entry.text.find("```").unwrap_or(entry.text.len()), &list);
            }
        }
        self
    }

    /// Adds the functions of the language. Each of these is also a method of its first argument, whereas the methods of
    /// this crate are the functions that take their first argument by reference.
    pub(crate) fn with_language(&self, engine: &Engine) -> Self {
        Help::collect(engine, Some(self))
    }

    /// Collects doc comments; with those of the language if `own`, the help of this crate, is given.
    fn collect(engine: &Engine, own: Option<&Help>) -> Self {
        let json = engine.gen_fn_metadata_to_json(own.is_some()).unwrap_or_default();
        let metadata: Metadata = serde_json::from_str(&json).unwrap_or_default();
        let is_of_language =
            |name: &str| own.is_some_and(|own| !own.entries.contains_key(&(name.to_owned(), None)));
        let mut entries = BTreeMap::<Key, HelpEntry>::new();
        for function in metadata.functions {
            let name = match function.name.strip_prefix("get$") {
                Some(property) => format!(".{property}"),
                None => function.name,
            };
            // A method takes its value by reference.
            let first = function.signature.split(['(', ',', ')']).nth(1).unwrap_or_default();
            let of_value = first.contains("&mut ");
            let owner = of_value.then(|| script_types(first.rsplit(": ").next().unwrap_or_default()));
            let mut owners = vec![owner];
            if !of_value && is_of_language(&name) {
                let of = script_types(first.rsplit(": ").next().unwrap_or_default());
                owners.extend(is_word(&of).then_some(Some(of)));
            }
            let text = strip_comment(&function.doc_comments);
            for owner in owners {
                let entry = entries.entry((name.clone(), owner.clone())).or_default();
                (entry.name, entry.owner) = (name.clone(), owner);
                entry.signatures.push(plain_signature(&function.signature));
                if !entry.text.contains(&text) {
                    entry.text += if entry.text.is_empty() { "" } else { "\n\n" };
                    entry.text += &text;
                }
            }
        }
        entries
            .values_mut()
            .for_each(|entry| entry.signatures.sort_by_key(|form| (form.len(), form.clone())));
        let types = metadata.custom_types.into_iter();
        let types = types.map(|t| (t.display_name, strip_comment(&t.doc_comments)));
        Help { entries, types: types.filter(|(_, text)| !text.is_empty()).collect() }
    }

    /// Returns the documented functions, properties and methods, without operators.
    pub fn entries(&self) -> impl Iterator<Item = &HelpEntry> {
        let is_documented =
            |entry: &&HelpEntry| is_word(entry.name.trim_start_matches('.')) && !entry.text.is_empty();
        self.entries.values().filter(is_documented)
    }

    /// Returns the types of values, each with its doc comment.
    pub fn types(&self) -> impl Iterator<Item = (&str, &str)> {
        self.types.iter().map(|(name, text)| (name.as_str(), text.as_str()))
    }

    /// Returns the help of a function, or of a property or method of any type; `Tensor.sum` asks for that of one type.
    ///
    /// # Errors
    /// The name is unknown.
    pub fn get(&self, name: &str) -> Result<HelpText, Error> {
        let bare = name.trim_start_matches('.');
        // `Tensor.sum` names the type.
        let (owner, bare) = bare.split_once('.').map_or((None, bare), |(owner, bare)| (Some(owner), bare));
        let of_name = |entry: &&HelpEntry| {
            entry.name.trim_start_matches('.') == bare && (owner.is_none() || entry.owner.as_deref() == owner)
        };
        let mut found: Vec<(String, &str)> = Vec::new();
        for entry in self.entries().filter(of_name) {
            let signatures = entry.signatures.join("\n");
            // A text that several types share is shown once.
            match found.iter_mut().find(|(_, text)| *text == entry.text) {
                Some((all, _)) if all.contains(&signatures) => {}
                Some((all, _)) => *all += &format!("\n{signatures}"),
                None => found.push((signatures, &entry.text)),
            }
        }
        if found.is_empty() {
            // A few similar names help more than all names.
            let known = match did_you_mean(bare, self.names()) {
                Some(near) => vec![near],
                None => self.names().filter(|name| name.contains(bare)).collect(),
            };
            return Err(Error::unknown("function", name, known));
        }
        Ok(HelpText::of(found.into_iter().map(|(signatures, text)| (signatures, text.to_owned()))))
    }

    /// Returns an overview: the functions, then the properties and methods of each type, one line each.
    pub fn list(&self) -> String {
        const LONGEST: usize = 92;
        let mut text = String::new();
        let mut part = |title: &str, entries: &[&HelpEntry]| {
            let width = entries.iter().map(|entry| entry.name.len()).max().unwrap_or(0);
            let _ = writeln!(text, "{title}");
            for entry in entries {
                let summary = entry.summary();
                let short: String = summary.chars().take(LONGEST).collect();
                let more = if short.len() < summary.len() { "…" } else { "" };
                let _ = writeln!(text, "  {:width$}  {short}{more}", entry.name);
            }
            text.push('\n');
        };
        part("Functions", &self.of_owner(None));
        for (name, what) in self.types() {
            let entries = self.of_owner(Some(name));
            if !entries.is_empty() {
                let what = what.split(['.', ':']).next().unwrap_or_default();
                part(&format!("{name}: {}", first_lower(what)), &entries);
            }
        }
        text + "help(\"name\") shows the help of one name."
    }

    /// Returns the reference page, in Markdown.
    pub fn reference(&self) -> String {
        let mut page = String::from(
            "# Reference\n\nThe functions of scripts, of the prompt and of notebooks; then each type of value with its \
             properties and methods. This page is generated from the doc comments in the code, and the tests run its \
             examples. The language itself is described in [rhai's book](https://rhai.rs/book/language).\n",
        );
        let functions = self.of_owner(None);
        // A text that many types share is shown once.
        let owners = |entry: &HelpEntry| self.entries().filter(|other| other.text == entry.text).count();
        let is_shared = |entry: &&HelpEntry| entry.owner.is_some() && owners(entry) > 2;
        let of_type = |name| {
            self.of_owner(Some(name)).into_iter().filter(|entry| !is_shared(entry)).collect::<Vec<_>>()
        };
        let types: Vec<_> = self.types().map(|(name, what)| (name, what, of_type(name))).collect();
        let names: Vec<_> =
            functions.iter().map(|e| format!("[`{}`](#{})", e.name, e.name.to_lowercase())).collect();
        let _ = write!(page, "\nFunctions: {}.\n", names.join(", "));
        let names: Vec<_> =
            types.iter().map(|(name, ..)| format!("[`{name}`](#type-{})", name.to_lowercase())).collect();
        let _ = write!(page, "\nTypes: {}.\n\n## Functions\n", names.join(", "));
        functions.iter().for_each(|entry| entry.describe(&mut page));
        page += "\n## Values that can be saved\n\nEach of these is a method of several types: see its signatures.\n";
        let mut shared = BTreeMap::<&str, HelpEntry>::new();
        for entry in self.entries().filter(is_shared) {
            let all = shared
                .entry(&entry.name)
                .or_insert_with(|| HelpEntry { signatures: Vec::new(), ..entry.clone() });
            all.signatures.extend(entry.signatures.iter().cloned());
        }
        shared.values().for_each(|entry| entry.describe(&mut page));
        for (name, what, entries) in types {
            let _ = write!(page, "\n## Type {name}\n\n{what}\n");
            entries.iter().for_each(|entry| entry.describe(&mut page));
        }
        page
    }

    /// Returns the functions, or the properties and methods of a type.
    fn of_owner(&self, owner: Option<&str>) -> Vec<&HelpEntry> {
        self.entries().filter(|entry| entry.owner.as_deref() == owner).collect()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.values().map(|entry| entry.name.as_str()).filter(|name| is_word(name))
    }

    pub(super) fn signatures_of(&self, name: &str) -> Vec<String> {
        let of_name = self.entries.values().filter(|entry| entry.name == name);
        of_name.flat_map(|entry| entry.signatures.iter().cloned()).collect()
    }

    /// Returns the properties and methods of a type, or of all types, without those of every value, such as `print`,
    /// which are called as functions.
    pub(super) fn members_of(&self, type_name: Option<&str>) -> Vec<Completion> {
        // `to_debug` is called by the language, not by the user.
        let members = self.entries.values().filter(|entry| {
            let is_own = entry.owner.as_deref().is_some_and(|owner| owner != "any");
            is_own && entry.name != "to_debug" && is_word(entry.name.trim_start_matches('.'))
        });
        let fits = |entry: &&HelpEntry| type_name.is_none_or(|name| entry.owner.as_deref() == Some(name));
        let member = |entry: &HelpEntry| {
            let property = entry.name.strip_prefix('.');
            let kind = if property.is_some() { CompletionKind::Property } else { CompletionKind::Method };
            let detail = entry.signatures.first().cloned().unwrap_or_default();
            Completion { text: property.unwrap_or(&entry.name).to_owned(), kind, detail }
        };
        let mut found: Vec<Completion> = members.filter(fits).map(member).collect();
        // A name that is also a property is completed as one, not as a call.
        let properties: BTreeSet<String> =
            found.iter().filter(|c| c.kind == CompletionKind::Property).map(|c| c.text.clone()).collect();
        found.retain(|c| c.kind == CompletionKind::Property || !properties.contains(&c.text));
        found
    }

    /// Returns the functions that are not methods, each with its shortest signature.
    pub(super) fn functions(&self) -> impl Iterator<Item = (&str, &str)> {
        let functions = self.entries().filter(|entry| entry.owner.is_none() && is_word(&entry.name));
        functions.map(|entry| (entry.name.as_str(), entry.signatures.first().map_or("", String::as_str)))
    }

    /// Returns the type of the result of a function, or of a property or method of `owner`.
    pub(super) fn type_of(&self, owner: Option<&str>, name: &str) -> Option<String> {
        let owner = owner.map(str::to_owned);
        let keys = [(format!(".{name}"), owner.clone()), (name.to_owned(), owner), (name.to_owned(), None)];
        let entry = keys.iter().find_map(|key| self.entries.get(key))?;
        entry.signatures.iter().find_map(|form| form.rsplit_once("-> ").map(|(_, gives)| gives.to_owned()))
    }
}

/// Registers `help`.
pub(crate) fn register(engine: &mut Engine, help: Help) {
    let list = help.clone();
    engine.register_fn("help", move || list.list());
    engine.register_fn("help", move |name: &str| script(help.get(name).map(|text| text.to_string())));
}

/// Rewrites rhai's signature with the type names of scripts.
fn plain_signature(signature: &str) -> String {
    let text = match signature.rsplit_once("-> ") {
        Some((call, result)) => {
            let inner = result.rsplit_once("Result<").map_or(result, |(_, inner)| inner);
            let value = inner.split([',', '>']).next().unwrap_or_default().trim();
            if value == "()" { call.trim_end().to_owned() } else { format!("{call}-> {value}") }
        }
        None => signature.to_owned(),
    };
    let text = script_types(&text);
    // A property: `get$cfg(model: Model) -> any` is `Model.cfg -> any`.
    match text.strip_prefix("get$").and_then(|rest| rest.split_once('(')).zip(text.split_once(')')) {
        Some(((name, parameters), (_, result))) => {
            let owner = parameters.split([',', ')']).next().unwrap_or_default();
            format!("{}.{name}{result}", owner.rsplit(": ").next().unwrap_or_default())
        }
        None => text,
    }
}

/// Strips the slashes of a doc comment.
pub(super) fn strip_comment(lines: &[impl AsRef<str>]) -> String {
    let lines = lines.iter().flat_map(|block| block.as_ref().lines());
    let lines = lines.map(|line| line.trim_start().trim_start_matches("///"));
    lines.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect::<Vec<_>>().join("\n").trim().to_owned()
}
