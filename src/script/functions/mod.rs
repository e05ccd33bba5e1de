//! The functions of scripts, one file per layer, and what these files say of them: types, options, names in strings.

mod arguments;

mod arithmetic;
mod dataset;
mod display;
mod extract;
mod interpret;
mod model;
mod plot;
mod records;
mod registry;
mod sae;
mod tensor;
mod trees;

use super::engine::completion::{self, NamesInString};
use super::engine::host::SessionContext;
use super::engine::items::{self, SkippedError};
use super::engine::options::{self, FunctionOptions};
use super::engine::show::{self, Types};
use super::engine::{errors, host, limits, names};
use super::{ScriptResult, script};
use crate::progress::Progress;
use rhai::Engine;

/// The types of values that can be shown.
pub(super) const TYPES: Types = Types(&[
    tensor::SHOWN,
    model::SHOWN,
    sae::SHOWN,
    registry::SHOWN,
    dataset::SHOWN,
    extract::SHOWN,
    records::SHOWN,
    interpret::SHOWN,
    trees::SHOWN,
    plot::SHOWN,
    display::SHOWN,
]);

/// The functions with options.
pub(super) const OPTIONS: &[&[FunctionOptions]] = &[
    model::OPTIONS,
    sae::OPTIONS,
    registry::OPTIONS,
    dataset::OPTIONS,
    extract::OPTIONS,
    records::OPTIONS,
    interpret::OPTIONS,
    trees::OPTIONS,
    plot::OPTIONS,
];

/// Who completes names in strings. SAEs come before models, which complete hooks in any string that begins like one.
pub(super) const NAMES: &[NamesInString] = &[sae::names, model::names];

/// Registers all functions.
pub(super) fn register(engine: &mut Engine, progress: &Progress, skipped: &SkippedError) {
    tensor::register(engine);
    arithmetic::register(engine, progress);
    model::register(engine);
    sae::register(engine);
    registry::register(engine);
    dataset::register(engine, progress, skipped);
    extract::register(engine, skipped);
    records::register(engine);
    interpret::register(engine);
    trees::register(engine, skipped);
    plot::register(engine);
    display::register(engine);
    options::register_defaults(engine, OPTIONS);
}

/// Returns the progress of the session that called a native function.
fn progress_of(context: &rhai::NativeCallContext) -> Progress {
    SessionContext::of(context).map(|context| context.progress).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Session;

    #[test]
    fn options_can_be_left_out_unless_one_is_required() {
        let session = Session::new(Progress::default(), |_: &str| ());
        let required = ["create_feature_dataset", "definition_trees", "write_definition_trees"];
        for entry in session.help().entries() {
            let takes_options = |form: &&String| form.contains("options: Map");
            for form in entry.signatures.iter().filter(takes_options) {
                let without = form.replace(", options: Map", "").replace("options: Map", "");
                let is_there = entry.signatures.contains(&without);
                assert_eq!(is_there, !required.contains(&entry.name.as_str()), "{form}");
            }
        }
    }

    #[test]
    fn every_function_that_takes_options_is_listed() {
        let options_of = |function: &str| options::of_function(OPTIONS, function);
        let session = Session::new(Progress::default(), |_: &str| ());
        let mut n = 0;
        for entry in session.help().entries() {
            let takes = entry.signatures.iter().any(|signature| signature.contains("options: Map"));
            assert_eq!(takes, !options_of(&entry.name).is_empty(), "{}", entry.name);
            n += usize::from(takes);
        }
        assert!(n > 20, "{n}");
        let find =
            |function: &str, name: &str| options_of(function).into_iter().find(|field| field.name == name);
        assert_eq!(find("token_list", "top_k").unwrap().default, Some(100.into()));
        assert!(
            find("write_definition_trees", "cutoff").is_some()
                && find("write_definition_trees", "vector").is_none()
        );
    }
}
