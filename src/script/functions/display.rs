//! Showing and saving values: `display`, files, HTML, JSON, pages of several values; and `input`.

use super::host::SessionContext;
use super::{ScriptResult, script, show};
use crate::display::{self, Bundle, Part, Shown};
use crate::error::{Error, Result};
use crate::extract::{ColoredTokens, FeatureDensity, MaxActivatingExamples};
use crate::interpret;
use crate::plot::Figure;
use rhai::plugin::*;
use rhai::{Array, Dynamic, Engine, FuncRegistration, ImmutableString, Module, Variant};
use std::io::Write;
use std::path::Path;
use std::rc::Rc;

pub(crate) fn register(engine: &mut Engine) {
    engine.register_global_module(exported_module!(functions).into());
    let mut module = Module::new();
    register_forms::<Figure>(&mut module, "Figure");
    register_forms::<ColoredTokens>(&mut module, "ColoredTokens");
    register_forms::<MaxActivatingExamples>(&mut module, "MaxActivatingExamples");
    register_forms::<FeatureDensity>(&mut module, "FeatureDensity");
    register_forms::<interpret::FeatureVector>(&mut module, "FeatureVector");
    register_forms::<interpret::DefinitionTree>(&mut module, "DefinitionTree");
    register_forms::<interpret::ScaleSweep>(&mut module, "ScaleSweep");
    register_forms::<interpret::TokenList>(&mut module, "TokenList");
    register_forms::<interpret::LogitLens>(&mut module, "LogitLens");
    register_forms::<interpret::SimilarFeatures>(&mut module, "SimilarFeatures");
    engine.register_global_module(module.into());
}

/// Registers `save`, `to_html` and `to_json` for a type.
fn register_forms<T: Shown + Variant + Clone>(module: &mut Module, name: &str) {
    let value = format!("value: &mut {name}");
    let describe = |function: &str, params: &[&str], doc: &str| {
        let registration = FuncRegistration::new(function).in_global_namespace().with_purity(true);
        registration.with_params_info(params).with_comments([doc])
    };
    let doc = "/// Writes a value to a file, in the format of its extension: .json, .txt or .html; .svg or .png for\n\
               /// values that are drawn; .dot for trees; .csv for token lists.\n\
               ///\n\
               /// ```rhai\n\
               /// plot_line([1, 4, 9]).save(\"squares.svg\");\n\
               /// ```";
    describe("save", &[&value, "path: String"], doc).set_into_module(
        module,
        |value: &mut T, path: ImmutableString| -> ScriptResult<()> {
            script(display::save(value, Path::new(path.as_str())))
        },
    );
    let doc = "/// An HTML fragment of a value, as a notebook shows it.\n\
               ///\n\
               /// ```rhai\n\
               /// print(colored_tokens([\"a\", \" boat\"], [0.0, 2.5]).to_html().contains(\"<span\"));\n\
               /// ```";
    describe("to_html", &[&value, "String"], doc)
        .set_into_module(module, |value: &mut T| -> ScriptResult<String> { script(html(value)) });
    let doc = "/// A value as a JSON string.\n\
               ///\n\
               /// ```rhai\n\
               /// print(parse_json(colored_tokens([\"a\", \" boat\"], [0.0, 2.5]).to_json()).values);\n\
               /// ```";
    describe("to_json", &[&value, "String"], doc)
        .set_into_module(module, |value: &mut T| -> ScriptResult<String> { script(value.json()) });
}

fn html(value: &dyn Shown) -> Result<String> {
    let html = display::inline(value)?;
    html.map_or_else(|| display::inline_parts(&[Part::Value(value)]), Ok)
}

/// One item of a page.
#[derive(Debug, Clone)]
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
        match show::shown(value) {
            Some(value) => Content::Value(value),
            None if value.is_array() || value.is_map() => {
                Content::Value(Rc::new(show::ScriptValue(value.clone())))
            }
            None => Content::Text(show::text(value)),
        }
    }

    fn part(&self) -> Part<'_> {
        match self {
            Content::Heading(text) => Part::Heading(text),
            Content::Text(text) => Part::Text(text),
            Content::Value(value) => Part::Value(value.as_ref()),
        }
    }
}

/// A page that a script has composed.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    title: String,
    contents: Vec<Content>,
}

impl Page {
    fn parts(&self) -> Vec<Part<'_>> {
        self.contents.iter().map(Content::part).collect()
    }
}

impl Shown for Page {
    fn title(&self) -> String {
        format!("the page {:?}", self.title)
    }

    fn text(&self) -> String {
        format!("Page {:?} of {} parts", self.title, self.contents.len())
    }

    fn html(&self) -> Option<String> {
        let parts: Vec<_> = [Part::Heading(&self.title)].into_iter().chain(self.parts()).collect();
        display::inline_parts(&parts).ok()
    }

    fn write_json(&self, out: &mut dyn Write) -> Result<()> {
        display::to_json(&self.title, out)
    }
}

#[export_module]
mod functions {
    /// Several values on one HTML page.
    pub type Page = super::Page;

    /// Shows a value at this point of the script: with its picture in a notebook, as text in a terminal.
    ///
    /// ```rhai
    /// for i in 1..3 { display(plot_line([1, i, i * i])); }
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn display(context: NativeCallContext, value: Dynamic) -> ScriptResult<()> {
        let bundle = script(show::bundle(&value))?.unwrap_or_else(|| Bundle::of_text("()"));
        if let Some(surroundings) = SessionContext::of(&context) {
            surroundings.host.display(bundle);
        }
        Ok(())
    }

    /// Asks the user for a line of text and waits for it. It is an error if no user can answer, as in a notebook that
    /// runs non-interactively.
    ///
    /// ```rhai
    /// let name = "demo";
    /// try { name = input("Which model? "); } catch { }
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn input(context: NativeCallContext, prompt: &str) -> ScriptResult<String> {
        let host = SessionContext::of(&context).map(|surroundings| surroundings.host);
        let host = host.ok_or_else(|| Error::internal("`input` was called outside of a session"));
        script(script(host)?.input(prompt))
    }

    /// A self-contained HTML page from an array of strings and values, in this order. A string that begins with `# ` is
    /// a heading; values are shown with their pictures.
    ///
    /// ```rhai
    /// let model = load_model("demo");
    /// let v = feature_vector(model, load_sae("demo", "blocks.0.hook_resid_pre"), 624);
    /// page("Feature 624", [
    ///     v,
    ///     "# What the model says", definition_tree(model, v, #{ cutoff: 1e-3 }),
    ///     "# Nearest tokens", "The ten nearest tokens.", token_list(model, v, #{ top: 10 }),
    /// ]).save("feature.html");
    /// ```
    pub fn page(title: &str, parts: Array) -> Page {
        super::Page { title: title.to_owned(), contents: parts.iter().map(super::Content::of).collect() }
    }

    /// Writes a page to a file; the name must end in .html.
    ///
    /// ```rhai
    /// page("Squares", ["# A line", plot_line([1, 4, 9])]).save("squares.html");
    /// ```
    #[rhai_fn(global, name = "save", pure, return_raw, volatile)]
    pub fn save_page(page: &mut Page, path: &str) -> ScriptResult<()> {
        script(display::save_page(&page.title, &page.parts(), Path::new(path)))
    }

    /// A page as a complete HTML document.
    ///
    /// ```rhai
    /// print(page("Squares", [plot_line([1, 4, 9])]).to_html().len());
    /// ```
    #[rhai_fn(global, name = "to_html", pure, return_raw)]
    pub fn page_to_html(page: &mut Page) -> ScriptResult<String> {
        script(display::page(&page.title, &page.parts()))
    }

    /// A definition tree in Graphviz's DOT language.
    ///
    /// ```rhai
    /// let model = load_model("demo");
    /// let v = feature_vector(model, load_sae("demo", "blocks.0.hook_resid_pre"), 624);
    /// let tree = definition_tree(model, v, #{ cutoff: 1e-2 });
    /// print(tree.to_dot());
    /// ```
    #[rhai_fn(global, pure)]
    pub fn to_dot(tree: &mut interpret::DefinitionTree) -> String {
        tree.dot().unwrap_or_default()
    }

    #[rhai_fn(global, name = "to_string", name = "to_debug", pure)]
    pub fn show_page(page: &mut Page) -> String {
        page.text()
    }
}
