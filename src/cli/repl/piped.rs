//! Statements from a pipe or a file: evaluated one after another, up to the first that fails.

use super::super::engine::Engine;
use super::super::interrupts::Interrupts;
use super::super::terminal::{print, show};
use super::evaluated;
use crate::display::Bundle;
use crate::error::{Error, Result};
use crate::script::{Completeness, Host};
use std::io::BufRead;
use std::path::Path;

/// Reads the standard input to its end.
pub(super) fn run(interrupts: &Interrupts) -> Result<()> {
    let progress = interrupts.progress();
    let engine = Engine::start(progress, Pipe)?;
    let mut statement = String::new();
    for line in std::io::stdin().lock().lines() {
        progress.check()?;
        statement += &line.map_err(Error::file("read", Path::new("standard input")))?;
        statement.push('\n');
        let text = statement.clone();
        let whole = engine.ask(move |session| session.completeness(&text))?;
        if let Completeness::Incomplete { .. } = whole {
            continue;
        }
        eval(&engine, interrupts, &std::mem::take(&mut statement))?;
    }
    // What is not whole says what it lacks.
    eval(&engine, interrupts, &statement)
}

fn eval(engine: &Engine, interrupts: &Interrupts, statement: &str) -> Result<()> {
    match evaluated(engine, interrupts, None, statement)? {
        Some(bundle) => show(&bundle),
        None => Ok(()),
    }
}

/// The standard output; statements come over the standard input, so that nobody can be asked.
struct Pipe;

impl Host for Pipe {
    fn print(&self, line: &str) {
        let _ = print(line);
    }

    fn display(&self, bundle: Bundle) {
        let _ = show(&bundle);
    }
}
