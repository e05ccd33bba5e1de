//! Scripts: a rhai engine with the functions of this crate, in a [`Session`] that every front end shares.
//!
//! `engine/` is the language. `functions/` has the functions of this crate, one file per layer: each converts its
//! arguments, calls one library function and converts the result back. `help`, completion and the error hints read the doc
//! comments of these functions.

mod session;

mod engine;
mod functions;

pub use engine::complete::Inspection;
pub use engine::completion::{Completion, CompletionKind, Completions};
pub use engine::help::{Help, HelpEntry, HelpText};
pub use engine::host::Host;
pub use engine::lexer::{Completeness, Piece, PieceKind, Unfinished};
#[cfg(feature = "cli")]
pub(crate) use session::strip_preamble;
pub use session::{Session, Variable};

use crate::error::{Error, Result};
use rhai::EvalAltResult;

/// The result of a native function, as a script receives it.
type ScriptResult<T> = std::result::Result<T, Box<EvalAltResult>>;

/// Converts a result of this crate to one that a script understands.
fn script<T>(result: Result<T, impl Into<Error>>) -> ScriptResult<T> {
    result.map_err(|error| engine::errors::to_script(&error.into()))
}
