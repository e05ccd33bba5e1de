//! The standard output, and the terminal behind the standard input, as a session sees them.

use super::terminal::{self, print};
use crate::display::Bundle;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::script::Host;
use std::sync::{Arc, Mutex, PoisonError};

/// Where a session prints to. Clones are the same.
#[derive(Clone)]
pub(super) struct Output {
    progress: Progress,
    /// How a value is shown.
    show: fn(&Bundle) -> Result<()>,
    /// Whether a script may ask for a line.
    asks: bool,
    /// The error of the first line that could not be written.
    lost: Arc<Mutex<Option<Error>>>,
}

impl Output {
    /// Shows values by their text.
    pub(super) fn new(progress: &Progress) -> Self {
        Output { progress: progress.clone(), show: terminal::show, asks: true, lost: Arc::default() }
    }

    /// Shows values in another way.
    pub(super) fn showing(self, show: fn(&Bundle) -> Result<()>) -> Self {
        Output { show, ..self }
    }

    /// The standard input is something else than answers.
    pub(super) fn without_input(self) -> Self {
        Output { asks: false, ..self }
    }

    /// What came of a script: that nobody read what it wrote, if it was that which stopped it.
    pub(super) fn result<T>(&self, result: Result<T>) -> Result<T> {
        let lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner).take();
        lost.map_or(result, Err)
    }

    /// A script whose output goes nowhere is stopped, as other programs are.
    fn keep(&self, written: Result<()>) {
        if let Err(error) = written {
            self.lost.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            self.progress.cancel();
        }
    }
}

impl Host for Output {
    fn print(&self, line: &str) {
        self.keep(print(line));
    }

    fn display(&self, bundle: Bundle) {
        self.keep((self.show)(&bundle));
    }

    fn input(&self, prompt: &str) -> Result<String> {
        if !self.asks {
            let got = "statements, which come from there";
            return Err(Error::invalid("input", "answers at the standard input", got)
                .with_hint("put the statements in a file: saescope run script.rhai"));
        }
        terminal::input(prompt, &self.progress)
    }
}
