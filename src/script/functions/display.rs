//! Showing and saving values: `display`, files, HTML, JSON, pages of several values; and `input`.

use super::host::SessionContext;
use super::show::{ScriptValue, ShownType};
use super::{ScriptResult, TYPES, script};
use crate::display::{Bundle, Page, PageItem};
use crate::error::Error;
use rhai::plugin::*;
use rhai::{Array, Dynamic, Engine, ImmutableString};
use std::path::Path;
use std::rc::Rc;

pub(super) const SHOWN: &[ShownType] = &[ShownType::of::<Page>("page: &mut Page")];

pub(super) fn register(engine: &mut Engine) {
    engine.register_global_module(exported_module!(functions).into());
}

/// Converts one element of the array that a page is made of.
fn item_of(value: &Dynamic) -> PageItem {
    if let Some(text) = value.read_lock::<ImmutableString>() {
        return match text.strip_prefix("# ") {
            Some(heading) => PageItem::Heading(heading.to_owned()),
            None => PageItem::Text(text.to_string()),
        };
    }
    match TYPES.shown(value) {
        Some(value) => PageItem::Value(value),
        None if value.is_array() || value.is_map() => {
            PageItem::Value(Rc::new(ScriptValue { value: value.clone(), types: TYPES }))
        }
        None => PageItem::Text(TYPES.text(value)),
    }
}

#[export_module]
mod functions {
    /// Several values on one HTML page.
    pub type Page = crate::display::Page;

    /// Shows a value at this point of the script: with its picture in a notebook, as text in a terminal.
    ///
    /// ```rhai
    /// for i in 1..3 { display(plot_line([1, i, i * i])); }
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn display(context: NativeCallContext, value: Dynamic) -> ScriptResult<()> {
        let bundle = script(TYPES.bundle(&value))?.unwrap_or_else(|| Bundle::of_text("()"));
        if let Some(context) = SessionContext::of(&context) {
            context.host.display(bundle);
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
        let host = SessionContext::of(&context).map(|context| context.host);
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
        Page::new(title, parts.iter().map(item_of).collect())
    }

    /// Writes a page to a file; the name must end in .html.
    ///
    /// ```rhai
    /// page("Squares", ["# A line", plot_line([1, 4, 9])]).save("squares.html");
    /// ```
    #[rhai_fn(global, name = "save", pure, return_raw, volatile)]
    pub fn save_page(page: &mut Page, path: &str) -> ScriptResult<()> {
        script(page.save(Path::new(path)))
    }

    /// A page as a complete HTML document.
    ///
    /// ```rhai
    /// print(page("Squares", [plot_line([1, 4, 9])]).to_html().len());
    /// ```
    #[rhai_fn(global, name = "to_html", pure, return_raw)]
    pub fn page_to_html(page: &mut Page) -> ScriptResult<String> {
        script(page.document())
    }
}
