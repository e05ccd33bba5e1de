//! The host of a session in a notebook: shows output below the running cell and asks the front end for input.

use super::cell::Cell;
use super::media::media;
use super::progress::Bars;
use super::wire::Wire;
use crate::display::Bundle;
use crate::error::{Error, Result};
use crate::progress::{Progress, ProgressEvent};
use crate::script::Host;
use crate::threads::wait_for;
use jupyter_protocol::{DisplayData, InputRequest, StreamContent};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The notebook as a session sees it. Clones share the state.
#[derive(Clone)]
pub(super) struct Notebook {
    wire: Wire,
    progress: Progress,
    cell: Arc<Mutex<Option<Cell>>>,
    bars: Arc<Mutex<Bars>>,
    /// The lines that the user has typed.
    answers: Arc<Mutex<Receiver<String>>>,
}

impl Notebook {
    pub(super) fn new(wire: Wire, progress: Progress, answers: Receiver<String>) -> Self {
        let answers = Arc::new(Mutex::new(answers));
        Notebook { wire, progress, cell: Arc::default(), bars: Arc::default(), answers }
    }

    /// Begins a cell.
    pub(super) fn begin(&self, cell: Cell) {
        // A bar from a late report of an earlier cell is dropped.
        locked(&self.bars).forget();
        *locked(&self.cell) = Some(cell);
    }

    /// Ends the cell. Later output belongs to no cell.
    pub(super) fn end(&self) {
        locked(&self.bars).end(|content, cell| self.wire.publish(content, &cell.parent));
        *locked(&self.cell) = None;
    }

    /// Shows a report of a running call, from any thread.
    pub(super) fn report(&self, report: ProgressEvent) {
        let Some(cell) = self.shown() else { return };
        if let ProgressEvent::Warning(text) = report {
            let stream = StreamContent::stderr(&format!("warning: {text}\n"));
            return self.wire.publish(stream, &cell.parent);
        }
        locked(&self.bars).report(report, &cell, |content| self.wire.publish(content, &cell.parent));
    }

    /// The running cell, unless it is silent.
    fn shown(&self) -> Option<Cell> {
        locked(&self.cell).clone().filter(|cell| !cell.silent)
    }
}

impl Host for Notebook {
    fn print(&self, line: &str) {
        if let Some(cell) = self.shown() {
            let stream = StreamContent::stdout(&format!("{line}\n"));
            self.wire.show(stream, &cell.parent, || self.progress.is_canceled());
        }
    }

    fn display(&self, bundle: Bundle) {
        let Some(cell) = self.shown() else { return };
        match media(&bundle) {
            Ok((data, metadata)) => {
                let shown = DisplayData { data, metadata, transient: None };
                self.wire.show(shown, &cell.parent, || self.progress.is_canceled());
            }
            Err(error) => {
                self.wire.publish(StreamContent::stderr(&format!("error: {error}\n")), &cell.parent)
            }
        }
    }

    fn input(&self, prompt: &str) -> Result<String> {
        let cell = locked(&self.cell).clone().filter(|cell| cell.allow_stdin).ok_or_else(|| {
            Error::invalid(
                "input",
                "a front end that can ask",
                "one that cannot, or a notebook that runs without a user",
            )
            .with_hint("set the value in the cell instead, so that the notebook also runs without a user")
        })?;
        let answers = locked(&self.answers);
        // Drop late answers to earlier questions.
        while answers.try_recv().is_ok() {}
        self.wire.ask(InputRequest { prompt: prompt.to_owned(), password: false }, &cell.parent);
        wait_for(&answers, &self.progress)?.ok_or(Error::Interrupted)
    }
}

/// Locks a mutex, even if a thread panicked while it held the lock.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
