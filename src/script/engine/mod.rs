//! The language itself: its limits, its built-in functions where the library's fall short, its errors, and what front ends
//! ask about a script. Of the values of other layers it knows only that they are [`Shown`](crate::display::Shown); the
//! rest is given to it as values.

pub(super) mod complete;
pub(super) mod completion;
pub(super) mod errors;
pub(super) mod exit;
pub(super) mod help;
pub(super) mod host;
pub(super) mod items;
pub(super) mod lexer;
pub(super) mod limits;
pub(super) mod modules;
pub(super) mod names;
pub(super) mod options;
pub(super) mod show;

mod forms;
mod growth;
mod order;

use super::{ScriptResult, script};
use crate::progress::Progress;
use rhai::{Engine, FuncRegistration};

/// Registers the functions of the language except `help`, and its limits.
pub(super) fn register(
    engine: &mut Engine,
    progress: &Progress,
    exit: &exit::Exit,
    skipped: &items::SkippedError,
    types: show::Types,
) {
    limits::register(engine, progress, exit, skipped);
    exit.register(engine);
    growth::register(engine);
    order::register(engine);
    show::register(engine, types);
}

/// A function that changes the value it is called on, so that calling it on a constant is an error.
fn changing(name: &str) -> FuncRegistration {
    FuncRegistration::new(name).with_purity(false)
}
