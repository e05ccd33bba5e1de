//! The host of a session on the command line: prints to standard output and reads from standard input.

use super::terminal::{self, print};
use crate::display::Bundle;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::script::Host;
use std::sync::{Arc, Mutex, PoisonError};

/// The output of a session. Clones share the state.
#[derive(Clone)]
pub(super) struct Output {
    progress: Progress,
    /// Shows a value.
    show: fn(&Bundle) -> Result<()>,
    /// Whether a script may read a line.
    asks: bool,
    /// The error of the first failed write.
    lost: Arc<Mutex<Option<Error>>>,
}

impl Output {
    /// An output that shows values as text.
    pub(super) fn new(progress: &Progress) -> Self {
        Output { progress: progress.clone(), show: terminal::show, asks: true, lost: Arc::default() }
    }

    /// Shows values with `show` instead.
    pub(super) fn showing(self, show: fn(&Bundle) -> Result<()>) -> Self {
        Output { show, ..self }
    }

    /// Refuses `input()`, because standard input holds the statements.
    pub(super) fn without_input(self) -> Self {
        Output { asks: false, ..self }
    }

    /// The result of a script, or the error of a failed write if that stopped it.
    pub(super) fn result<T>(&self, result: Result<T>) -> Result<T> {
        let lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner).take();
        lost.map_or(result, Err)
    }

    /// Stops a script whose output cannot be written, as other programs stop.
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
            let got = "statements, which are read from there";
            return Err(Error::invalid("input", "answers on standard input", got)
                .with_hint("put the statements in a file: saescope run script.rhai"));
        }
        terminal::input(prompt, &self.progress)
    }
}
