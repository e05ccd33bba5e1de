//! The functions of scripts, one file per layer.

pub(super) mod arithmetic;
pub(super) mod dataset;
pub(super) mod display;
pub(super) mod extract;
pub(super) mod interpret;
pub(super) mod model;
pub(super) mod plot;
pub(super) mod records;
pub(super) mod registry;
pub(super) mod sae;
pub(super) mod tensor;
pub(super) mod trees;

use super::engine::{errors, help, host, items, limits, options, show};
use super::{ScriptResult, progress_of, script};
