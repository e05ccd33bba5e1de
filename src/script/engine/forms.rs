//! `save`, `to_html` and `to_json`: methods of all values that are more than a line of text.

use super::{ScriptResult, script};
use crate::display::{self, Part, Shown};
use crate::error::Result;
use rhai::{Engine, FuncRegistration, ImmutableString, Variant};
use std::path::Path;

/// Registers `save`, `to_html` and `to_json` for a type.
pub(super) fn register<T: Shown + Variant + Clone>(engine: &mut Engine, name: &str) {
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
    describe("save", &[&value, "path: String"], doc).register_into_engine(
        engine,
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
        .register_into_engine(engine, |value: &mut T| -> ScriptResult<String> { script(html(value)) });
    let doc = "/// A value as a JSON string.\n\
               ///\n\
               /// ```rhai\n\
               /// print(parse_json(colored_tokens([\"a\", \" boat\"], [0.0, 2.5]).to_json()).values);\n\
               /// ```";
    describe("to_json", &[&value, "String"], doc)
        .register_into_engine(engine, |value: &mut T| -> ScriptResult<String> { script(value.json()) });
}

fn html(value: &dyn Shown) -> Result<String> {
    let html = display::inline(value)?;
    html.map_or_else(|| display::inline_parts(&[Part::Value(value)]), Ok)
}
