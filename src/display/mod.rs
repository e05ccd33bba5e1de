//! Every shown value in the forms that it has: text for a terminal, HTML for a notebook, pictures, JSON and others for
//! files.
//!
//! Each form is made when it is asked for, and no sooner: the bitmap of a large tree takes a second.

mod html;
mod text;

use crate::error::{Error, Result};
use crate::files;
use crate::interpret::{DefinitionTree, FeatureVector, LogitLens, ScaleSweep, SimilarFeatures, TokenList};
use crate::plot::{Figure, features_figure, lens_figure, tokens_figure, tree_dot, tree_figure};
use serde::Serialize;
use std::path::Path;

/// A value that can be shown.
pub trait Shown: std::fmt::Debug {
    /// What it is, in a few words.
    fn title(&self) -> String;

    /// For a terminal.
    fn text(&self) -> String;

    /// A piece of HTML that needs nothing else: no script, no files, and its style touches nothing around it.
    fn html(&self) -> String;

    /// All that it is, to be read back.
    ///
    /// # Errors
    /// Numbers that JSON has not.
    fn json(&self) -> Result<String>;

    /// As a picture, if it is one.
    fn figure(&self) -> Option<Figure> {
        None
    }

    /// Whether the HTML is what one reads first, because it folds, and the picture comes behind it.
    fn folds(&self) -> bool {
        false
    }

    /// As a graph in Graphviz' language, if it is one.
    fn dot(&self) -> Option<String> {
        None
    }

    /// As a table, comma-separated, if it is one.
    ///
    /// # Errors
    /// A text that cannot be written.
    fn csv(&self) -> Result<Option<String>> {
        Ok(None)
    }
}

/// Writes a value to a file, in the form that the extension names: .json, .txt and .html for every value; .svg and .png for
/// what has a picture, .dot for trees, .csv for token lists.
///
/// # Errors
/// An extension that the value has no form for; a file that cannot be written.
pub fn save(value: &dyn Shown, path: &Path) -> Result<()> {
    let extension = path.extension().map(|e| e.to_string_lossy().to_lowercase()).unwrap_or_default();
    let bytes = match extension.as_str() {
        "json" => value.json()?.into_bytes(),
        "txt" => (value.text() + "\n").into_bytes(),
        "html" => page(&value.title(), &[Part::Value(value)])?.into_bytes(),
        "svg" => figure_of(value, path)?.svg()?.into_bytes(),
        "png" => figure_of(value, path)?.png()?,
        "dot" => value.dot().ok_or_else(|| no_form(value, path))?.into_bytes(),
        "csv" => value.csv()?.ok_or_else(|| no_form(value, path))?.into_bytes(),
        _ => return Err(no_form(value, path)),
    };
    files::write_whole(path, &bytes)
}

/// A part of a page.
#[derive(Debug)]
pub enum Part<'a> {
    /// The heading of what follows.
    Heading(&'a str),
    /// A paragraph.
    Text(&'a str),
    /// A value, with its picture if it has one.
    Value(&'a dyn Shown),
}

/// A whole HTML page, in one file.
///
/// # Errors
/// A picture that cannot be drawn.
pub fn page(title: &str, parts: &[Part]) -> Result<String> {
    html::page(title, parts)
}

/// Writes a whole HTML page to a file.
///
/// # Errors
/// A file that does not end in .html, or that cannot be written; and as [`page`].
pub fn save_page(title: &str, parts: &[Part], path: &Path) -> Result<()> {
    if path.extension().is_none_or(|extension| !extension.eq_ignore_ascii_case("html")) {
        let got = format!("`{}`", path.display());
        return Err(Error::invalid("the file of a page", "a name that ends in .html", got));
    }
    files::write_whole(path, page(title, parts)?.as_bytes())
}

fn figure_of(value: &dyn Shown, path: &Path) -> Result<Figure> {
    value.figure().ok_or_else(|| no_form(value, path))
}

fn no_form(value: &dyn Shown, path: &Path) -> Error {
    let mut known = vec![".json", ".txt", ".html"];
    if value.figure().is_some() {
        known.extend([".svg", ".png"]);
    }
    if value.dot().is_some() {
        known.push(".dot");
    }
    if value.csv().is_ok_and(|csv| csv.is_some()) {
        known.push(".csv");
    }
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Error::invalid(
        "the file to save to",
        format!("a name that ends in {}", known.join(", ")),
        format!("`{name}`"),
    )
    .with_hint(format!("the extension says what to write: this is {}", value.title()))
}

fn json(value: &impl Serialize) -> Result<String> {
    let text = serde_json::to_string_pretty(value);
    Ok(text.map_err(|e| Error::invalid("a value", "one that can be written as JSON", e))? + "\n")
}

/// Reads a tree that [`save`] has written as JSON.
///
/// # Errors
/// A file that is not there, or is no definition tree.
pub fn load_tree(path: &Path) -> Result<DefinitionTree> {
    let bytes = files::read(path)?;
    serde_json::from_slice(&bytes).map_err(|error| {
        Error::malformed(path, format!("not a definition tree: {error}"))
            .with_hint("`tree.save(\"tree.json\")` writes one; a .jsonl file of many is read by `read_trees`")
    })
}

impl Shown for DefinitionTree {
    fn title(&self) -> String {
        format!("the definition tree of {}", self.params.vector.title())
    }

    fn text(&self) -> String {
        text::tree(self, None)
    }

    fn html(&self) -> String {
        html::tree(self)
    }

    fn json(&self) -> Result<String> {
        json(self)
    }

    fn folds(&self) -> bool {
        true
    }

    fn figure(&self) -> Option<Figure> {
        Some(tree_figure(self))
    }

    fn dot(&self) -> Option<String> {
        Some(tree_dot(self))
    }
}

impl std::fmt::Display for DefinitionTree {
    /// As much as fits a screen or two: the likeliest nodes.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const NODES: usize = 120;
        f.write_str(&text::tree(self, Some(NODES)))
    }
}

impl Shown for TokenList {
    fn title(&self) -> String {
        self.params.title()
    }

    fn text(&self) -> String {
        self.to_string()
    }

    fn html(&self) -> String {
        html::tokens(&self.tokens)
    }

    fn json(&self) -> Result<String> {
        json(self)
    }

    fn figure(&self) -> Option<Figure> {
        Some(tokens_figure(self))
    }

    fn csv(&self) -> Result<Option<String>> {
        self.to_csv().map(Some)
    }
}

impl Shown for LogitLens {
    fn title(&self) -> String {
        format!("the logit lens of {}", self.params.title())
    }

    fn text(&self) -> String {
        self.to_string()
    }

    fn html(&self) -> String {
        html::lens(self)
    }

    fn json(&self) -> Result<String> {
        json(self)
    }

    fn figure(&self) -> Option<Figure> {
        Some(lens_figure(self))
    }
}

impl Shown for SimilarFeatures {
    fn title(&self) -> String {
        format!("features like {} of {}", self.feature, self.sae)
    }

    fn text(&self) -> String {
        self.to_string()
    }

    fn html(&self) -> String {
        html::features(self)
    }

    fn json(&self) -> Result<String> {
        json(self)
    }

    fn figure(&self) -> Option<Figure> {
        Some(features_figure(self))
    }
}

impl Shown for FeatureVector {
    fn title(&self) -> String {
        self.params.title()
    }

    fn text(&self) -> String {
        self.to_string()
    }

    fn html(&self) -> String {
        html::preformatted(&self.to_string())
    }

    fn json(&self) -> Result<String> {
        json(self)
    }
}

impl Shown for ScaleSweep {
    fn title(&self) -> String {
        format!("scales of {}", self.best().params.vector.title())
    }

    fn text(&self) -> String {
        self.to_string()
    }

    fn html(&self) -> String {
        html::sweep(self)
    }

    fn json(&self) -> Result<String> {
        json(self)
    }

    fn folds(&self) -> bool {
        true
    }

    fn figure(&self) -> Option<Figure> {
        Some(tree_figure(self.best()))
    }
}
