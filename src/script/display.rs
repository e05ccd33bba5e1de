//! The forms of values that are shown: files, HTML, JSON, and pages of several.

use super::{ScriptResult, script, show};
use crate::display::{self, Part, Shown};
use crate::interpret;
use rhai::plugin::*;
use rhai::{Array, Dynamic, Engine, FuncRegistration, ImmutableString, Module, Variant};
use std::path::Path;
use std::rc::Rc;

pub(super) fn register(engine: &mut Engine) {
    engine.register_global_module(exported_module!(functions).into());
    let mut module = Module::new();
    register_forms::<interpret::FeatureVector>(&mut module, "FeatureVector");
    register_forms::<interpret::DefinitionTree>(&mut module, "DefinitionTree");
    register_forms::<interpret::ScaleSweep>(&mut module, "ScaleSweep");
    register_forms::<interpret::TokenList>(&mut module, "TokenList");
    register_forms::<interpret::LogitLens>(&mut module, "LogitLens");
    register_forms::<interpret::SimilarFeatures>(&mut module, "SimilarFeatures");
    engine.register_global_module(module.into());
}

/// `save`, `to_html` and `to_json` of a type.
fn register_forms<T: Shown + Variant + Clone>(module: &mut Module, name: &str) {
    let value = format!("value: {name}");
    let describe = |function: &str, params: &[&str], doc: &str| {
        let registration = FuncRegistration::new(function).in_global_namespace().with_purity(true);
        registration.with_params_info(params).with_comments([format!("/// {doc}")])
    };
    let doc = "Writes a tree, a token list or the like to a file; the ending says how: .json, .txt, .html; .svg and .png \
               for what has a picture, .dot for trees, .csv for token lists.";
    describe("save", &[&value, "path: String"], doc).set_into_module(
        module,
        |value: &mut T, path: ImmutableString| -> ScriptResult<()> {
            script(display::save(value, Path::new(path.as_str())))
        },
    );
    let doc = "A tree, a token list or the like as a piece of HTML.";
    describe("to_html", &[&value, "String"], doc)
        .set_into_module(module, |value: &mut T| -> String { value.html() });
    let doc = "A tree, a token list or the like as JSON.";
    describe("to_json", &[&value, "String"], doc)
        .set_into_module(module, |value: &mut T| -> ScriptResult<String> { script(value.json()) });
}

/// What is on a page.
#[derive(Clone)]
enum Content {
    Heading(String),
    Text(String),
    Value(Rc<dyn Shown>),
}

impl Content {
    fn of(value: &Dynamic) -> Self {
        if let Some(text) = value.read_lock::<ImmutableString>() {
            return match text.strip_prefix("# ") {
                Some(heading) => Content::Heading(heading.to_owned()),
                None => Content::Text(text.to_string()),
            };
        }
        let shown = shown::<interpret::DefinitionTree>(value)
            .or_else(|| shown::<interpret::FeatureVector>(value))
            .or_else(|| shown::<interpret::ScaleSweep>(value))
            .or_else(|| shown::<interpret::TokenList>(value))
            .or_else(|| shown::<interpret::LogitLens>(value))
            .or_else(|| shown::<interpret::SimilarFeatures>(value));
        shown.unwrap_or_else(|| Content::Text(show::text(value).unwrap_or_default()))
    }

    fn part(&self) -> Part<'_> {
        match self {
            Content::Heading(text) => Part::Heading(text),
            Content::Text(text) => Part::Text(text),
            Content::Value(value) => Part::Value(value.as_ref()),
        }
    }
}

fn shown<T: Shown + Clone + 'static>(value: &Dynamic) -> Option<Content> {
    value.read_lock::<T>().map(|value| Content::Value(Rc::new(value.clone())))
}

/// A page that a script has put together.
#[derive(Clone)]
pub(super) struct Page {
    title: String,
    contents: Vec<Content>,
}

impl Page {
    fn parts(&self) -> Vec<Part<'_>> {
        self.contents.iter().map(Content::part).collect()
    }
}

impl std::fmt::Display for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Page {:?} of {} parts", self.title, self.contents.len())
    }
}

#[export_module]
mod functions {
    /// Several values on one HTML page.
    pub type Page = super::Page;

    /// An HTML page, whole in one file, of an array of texts and values in their order; a text that begins with `# ` is a
    /// heading. Values come with their pictures.
    ///
    /// ```rhai
    /// let model = load_model("demo");
    /// let v = feature_vector(model, load_sae("demo", "blocks.0.hook_resid_pre"), 624);
    /// page("Feature 624", [
    ///     v,
    ///     "# What the model says", definition_tree(model, v, #{ cutoff: 1e-3 }),
    ///     "# What lies near", "The ten nearest tokens.", token_list(model, v, #{ top: 10 }),
    /// ]).save("feature.html");
    /// ```
    pub fn page(title: &str, parts: Array) -> Page {
        super::Page { title: title.to_owned(), contents: parts.iter().map(super::Content::of).collect() }
    }

    /// Writes a page to a file that ends in .html.
    #[rhai_fn(global, name = "save", pure, return_raw, volatile)]
    pub fn save_page(page: &mut Page, path: &str) -> ScriptResult<()> {
        script(display::save_page(&page.title, &page.parts(), Path::new(path)))
    }

    /// A whole page as HTML.
    #[rhai_fn(global, name = "to_html", pure, return_raw)]
    pub fn page_to_html(page: &mut Page) -> ScriptResult<String> {
        script(display::page(&page.title, &page.parts()))
    }

    /// A definition tree in the language of Graphviz.
    #[rhai_fn(global, pure)]
    pub fn to_dot(tree: &mut interpret::DefinitionTree) -> String {
        tree.dot().unwrap_or_default()
    }

    #[rhai_fn(global, name = "to_string", name = "to_debug", pure)]
    pub fn show_page(page: &mut Page) -> String {
        page.to_string()
    }
}
