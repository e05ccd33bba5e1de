//! The language itself: its limits, its built-in functions where the library's fall short, its errors, and what front ends
//! ask about a script.

pub(super) mod complete;
pub(super) mod errors;
pub(super) mod exit;
pub(super) mod growth;
pub(super) mod help;
pub(super) mod host;
pub(super) mod items;
pub(super) mod lexer;
pub(super) mod limits;
pub(super) mod modules;
pub(super) mod options;
pub(super) mod order;
pub(super) mod show;

use super::functions::{display, extract, interpret, model, trees};
use super::{ScriptResult, changing, script};
