//! The host of a session: where a script's output goes, and where its input comes from.

use crate::display::Bundle;
use crate::error::{Error, Result};
use crate::progress::Progress;
use rhai::NativeCallContext;
use std::rc::Rc;

/// The host of a session: it prints, shows values and reads input. A `Fn(&str)` is a host that only prints.
pub trait Host {
    /// Prints a line.
    fn print(&self, line: &str);

    /// Shows a value that a script passes to `display`. Default: prints its text.
    fn display(&self, bundle: Bundle) {
        self.print(&bundle.text);
    }

    /// Reads a line that a script requests with `input`. Default: an error.
    ///
    /// # Errors
    /// No user can answer, or [`Error::Interrupted`].
    fn input(&self, prompt: &str) -> Result<String> {
        let reason = "input needs a terminal, or a notebook that allows it";
        Err(Error::failed(format!("ask \"{prompt}\""))(reason))
    }
}

impl<F: Fn(&str)> Host for F {
    fn print(&self, line: &str) {
        self(line);
    }
}

/// The data that native functions find in the tag of their call context.
#[derive(Clone)]
pub(crate) struct SessionContext {
    pub(crate) progress: Progress,
    pub(crate) host: Rc<dyn Host>,
}

impl SessionContext {
    /// Returns the context of the session that called a native function.
    pub(crate) fn of(context: &NativeCallContext) -> Option<SessionContext> {
        let context = context.tag()?.read_lock::<SessionContext>()?;
        Some(context.clone())
    }
}
