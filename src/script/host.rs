//! What is around a session: where what a script prints and shows goes, and where what it asks for comes from.

use crate::display::Bundle;
use crate::error::{Error, Result};
use crate::progress::Progress;
use rhai::NativeCallContext;
use std::rc::Rc;

/// What is around a session. A function of a line is one that only prints.
pub trait Host {
    /// A line that a script prints.
    fn print(&self, line: &str);

    /// A value that a script shows with `display`.
    fn display(&self, bundle: Bundle) {
        self.print(&bundle.text);
    }

    /// A line that a script asks for with `input`.
    ///
    /// # Errors
    /// Nobody to ask; an interrupt.
    fn input(&self, prompt: &str) -> Result<String> {
        let got = format!("nobody who could answer \"{prompt}\"");
        Err(Error::invalid("input", "a terminal or a notebook that lets it ask", got))
    }
}

impl<F: Fn(&str)> Host for F {
    fn print(&self, line: &str) {
        self(line);
    }
}

/// What native functions find in their context.
#[derive(Clone)]
pub(super) struct Surroundings {
    pub(super) progress: Progress,
    pub(super) host: Rc<dyn Host>,
}

impl Surroundings {
    /// Those of the session that called a native function.
    pub(super) fn of(context: &NativeCallContext) -> Option<Surroundings> {
        context.tag().and_then(|tag| tag.read_lock::<Surroundings>().map(|surroundings| surroundings.clone()))
    }
}
