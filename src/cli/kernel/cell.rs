//! The cell that a notebook runs.

use jupyter_protocol::JupyterMessage;
use std::sync::Arc;

/// A running cell.
#[derive(Clone)]
pub(super) struct Cell {
    /// The request that runs the cell.
    pub(super) parent: Arc<JupyterMessage>,
    /// Whether to show nothing.
    pub(super) silent: bool,
    /// Whether the front end can be asked for a line.
    pub(super) allow_stdin: bool,
}
