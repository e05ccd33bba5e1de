//! Scripts: a rhai engine with the functions of this crate, in a [`Session`] that every front end shares.
//!
//! `engine/` is the language. `functions/` has the functions of this crate, one file per layer: each converts its
//! arguments, calls one library function and converts the result back. `help`, completion and the error hints read the doc comments of these functions.

mod engine;
mod functions;
mod session;

pub use engine::complete::{Completion, CompletionKind, Completions, Inspection};
pub use engine::help::{Help, HelpEntry, HelpText};
pub use engine::host::Host;
pub use engine::lexer::{Completeness, Piece, PieceKind, Unfinished};
#[cfg(feature = "cli")]
pub(crate) use session::plain;
pub use session::{Session, Variable};

use crate::error::{Error, Result};
use crate::progress::Progress;
use engine::{complete, errors, exit, growth, help, host, items, lexer, limits, modules, order, show};
use functions::{
    arithmetic, dataset, display, extract, interpret, model, plot, records, registry, sae, tensor, trees,
};
use host::SessionContext;
use rhai::{Engine, EvalAltResult, FuncRegistration};

/// The result of a native function, as a script receives it.
type ScriptResult<T> = std::result::Result<T, Box<EvalAltResult>>;

/// Registers everything except `help`.
fn register(engine: &mut Engine, progress: &Progress, exit: &exit::Exit) {
    let skipped = items::SkippedError::default();
    limits::register(engine, progress, exit, &skipped);
    exit.register(engine);
    growth::register(engine);
    order::register(engine);
    show::register(engine);
    tensor::register(engine);
    arithmetic::register(engine, progress);
    model::register(engine);
    sae::register(engine);
    registry::register(engine);
    dataset::register(engine, &skipped);
    extract::register(engine, &skipped);
    records::register(engine);
    interpret::register(engine);
    trees::register(engine, &skipped);
    plot::register(engine);
    display::register(engine);
}

/// A function that changes the value it is called on, so that calling it on a constant is an error.
fn changing(name: &str) -> FuncRegistration {
    FuncRegistration::new(name).with_purity(false)
}

/// Converts a result of this crate to one that a script understands.
fn script<T>(result: Result<T, impl Into<Error>>) -> ScriptResult<T> {
    result.map_err(|error| errors::to_script(&error.into()))
}

/// Returns the progress of the session that called a native function.
fn progress_of(context: &rhai::NativeCallContext) -> Progress {
    SessionContext::of(context).map(|surroundings| surroundings.progress).unwrap_or_default()
}
