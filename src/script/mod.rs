//! Scripts: a rhai engine with the functions of this crate, as a [`Session`] that every face shares.
//!
//! The functions convert their arguments, call one library function and convert back; there is one file for each layer.
//! What `help`, completion and the error hints know comes from the doc comments of those functions.

mod session;

mod complete;
mod errors;
mod exit;
mod growth;
mod help;
mod host;
mod items;
mod lexer;
mod limits;
mod modules;
mod options;
mod order;
mod show;

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

pub use complete::{Completion, CompletionKind, Completions, Inspection};
pub use help::{Help, HelpEntry, HelpText};
pub use host::Host;
pub use lexer::{Completeness, Piece, PieceKind, Unfinished};
#[cfg(feature = "cli")]
pub(crate) use session::plain;
pub use session::{Session, Variable};

use crate::error::{Error, Result};
use crate::progress::Progress;
use host::Surroundings;
use rhai::{Engine, EvalAltResult, FuncRegistration};

/// What a native function gives to a script.
type ScriptResult<T> = std::result::Result<T, Box<EvalAltResult>>;

/// Registers everything but `help`.
fn register(engine: &mut Engine, progress: &Progress, exit: &exit::Exit) {
    let passed_over = items::PassedOver::default();
    limits::register(engine, progress, exit, &passed_over);
    exit.register(engine);
    growth::register(engine);
    order::register(engine);
    show::register(engine);
    tensor::register(engine);
    arithmetic::register(engine, progress);
    model::register(engine);
    sae::register(engine);
    registry::register(engine);
    dataset::register(engine, &passed_over);
    extract::register(engine, &passed_over);
    records::register(engine);
    interpret::register(engine);
    trees::register(engine, &passed_over);
    plot::register(engine);
    display::register(engine);
}

/// A function that changes the value that it is called on, which must not be a constant.
fn changing(name: &str) -> FuncRegistration {
    FuncRegistration::new(name).with_purity(false)
}

/// A result of this crate as a result that a script understands.
fn script<T>(result: Result<T, impl Into<Error>>) -> ScriptResult<T> {
    result.map_err(|error| errors::to_script(&error.into()))
}

/// The session's progress, for a native function that was called with this context.
fn progress_of(context: &rhai::NativeCallContext) -> Progress {
    Surroundings::of(context).map(|surroundings| surroundings.progress).unwrap_or_default()
}
