//! The prompt: reads statements, evaluates them and shows their values, until the input ends.

mod commands;
mod editor;
mod picture;
mod piped;

use super::engine::Engine;
use super::interrupts::Interrupts;
use super::output::Output;
use super::terminal::{cut, escape_controls, help, print, report, show};
use crate::display::Bundle;
use crate::error::{Error, Result};
use crate::script::{Inspection, PieceKind, Session, strip_preamble};
use commands::Command;
use reedline::Signal;
use std::collections::HashSet;
use std::io::IsTerminal;
use std::path::Path;
use std::time::Instant;

/// Runs the prompt in the terminal, or evaluates standard input if that is not a terminal.
pub(super) fn run(interrupts: &Interrupts) -> Result<()> {
    if !std::io::stdin().is_terminal() {
        return piped::run(interrupts);
    }
    interrupts.end_with_terminal()?;
    let output = Output::new(interrupts.progress()).showing(shown);
    let engine = Engine::start(interrupts.progress(), output.clone())?;
    let mut editor = editor::new(&engine);
    print(&format!(
        "saescope {}. `help` lists the functions, `help NAME` describes one, `:help` is about this prompt.",
        env!("CARGO_PKG_VERSION")
    ))?;
    let mut repl = Repl { engine, interrupts, output, entered: Vec::new() };
    loop {
        match interrupts.at_prompt(|| editor.read_line(&editor::Prompt)) {
            Ok(Signal::Success(line)) => {
                // A later kill then loses nothing, and other prompts see the line. Does nothing without a file.
                let _ = editor.sync_history();
                if !repl.enter(&line)? {
                    return Ok(());
                }
            }
            // The typed line is discarded; the session is not.
            Ok(Signal::CtrlC) => {}
            Ok(Signal::CtrlD) => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(Error::file("read", Path::new("the terminal"))(error)),
        }
    }
}

/// A session and the statements entered into it.
struct Repl<'a> {
    engine: Engine,
    interrupts: &'a Interrupts,
    output: Output,
    /// The statements that did not fail.
    entered: Vec<String>,
}

impl Repl<'_> {
    /// Runs a line and prints its error, if any. Returns false if the line ends the prompt.
    fn enter(&mut self, line: &str) -> Result<bool> {
        if line.trim().is_empty() {
            return Ok(true);
        }
        let done = match commands::parse(line) {
            Ok(None) => self.eval(line).map(|()| true),
            Ok(Some(command)) => self.command(command),
            Err(error) => Err(error),
        };
        match done {
            // The reader of the output has gone.
            Err(Error::File { source, .. }) if source.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => {
                report(&error);
                Ok(true)
            }
            Ok(continues) => Ok(continues),
        }
    }

    fn command(&mut self, command: Command) -> Result<bool> {
        match command {
            Command::Quit => return Ok(false),
            Command::Help(None) => print(&cut(&self.engine.ask(|session| session.help().list())?))?,
            Command::Help(Some(name)) => match self.engine.ask(move |session| session.about(&name))?? {
                Inspection::Help(text) => print(&help(&text))?,
                Inspection::Variable(text) => print(&escape_controls(&text))?,
            },
            Command::AboutPrompt => print(commands::ABOUT)?,
            Command::Load(path) => {
                let text = String::from_utf8_lossy(&crate::files::read(&path)?).into_owned();
                self.eval_by(strip_preamble(&text), move |session| session.run_file(&path, &[]))?;
            }
            Command::Save(path) => {
                let entered = self.entered.clone();
                let kept = self.engine.ask(move |session| current(session, entered))?;
                crate::files::write_atomic(&path, kept.concat().as_bytes())?;
                let statements = if kept.len() == 1 { "statement" } else { "statements" };
                print(&format!("{} {statements} saved to {}", kept.len(), path.display()))?;
            }
            Command::Vars => {
                let variables = self.engine.ask(|session| session.variables())?;
                let widest =
                    |strings: &mut dyn Iterator<Item = &String>| strings.map(|t| t.chars().count()).max();
                let names = widest(&mut variables.iter().map(|v| &v.name)).unwrap_or(0);
                let types = widest(&mut variables.iter().map(|v| &v.type_name)).unwrap_or(0);
                for variable in &variables {
                    let text: String = escape_controls(&variable.text).chars().take(100).collect();
                    print(&format!("{:names$}  {:types$}  {text}", variable.name, variable.type_name))?;
                }
            }
            Command::Time(script) => {
                let start = Instant::now();
                self.eval(&script)?;
                print(&format!("{:.3} s", start.elapsed().as_secs_f64()))?;
            }
            Command::Reset => {
                self.entered.clear();
                self.engine.ask(|session| session.reset())?;
            }
        }
        Ok(true)
    }

    fn eval(&mut self, script: &str) -> Result<()> {
        let text = script.to_owned();
        self.eval_by(script.to_owned(), move |session| session.eval(&text))
    }

    /// Calls `eval`, which Ctrl-C stops, and shows the value. Records `entered` as the statements.
    fn eval_by(
        &mut self,
        entered: String,
        eval: impl FnOnce(&mut Session) -> Result<Option<Bundle>> + Send + 'static,
    ) -> Result<()> {
        self.interrupts.progress().reset();
        let value = self.engine.ask(eval);
        // An interrupt ends with its statements: the editor's next request is not canceled.
        self.interrupts.progress().reset();
        let value = self.output.result(value.flatten())?;
        self.entered.push(entered);
        value.map_or(Ok(()), |bundle| shown(&bundle))
    }
}

/// The statements of a session, to write to a file: without functions that were redefined later, since a script may
/// define each only once.
fn current(session: &Session, entered: Vec<String>) -> Vec<String> {
    let mut later = HashSet::new();
    let mut kept = Vec::new();
    for statement in entered.iter().rev() {
        let mut text = statement.clone();
        for (function, range) in session.functions(statement).into_iter().rev() {
            if !later.insert(function) {
                text.replace_range(range, "");
            }
        }
        if !text.trim().is_empty() {
            kept.push(ended(session, text.trim_start()));
        }
    }
    kept.reverse();
    kept
}

/// Ends statements with a semicolon and a line break, so that others can follow them in a file.
fn ended(session: &Session, statements: &str) -> String {
    let pieces = session.pieces(statements);
    let last = pieces.iter().rfind(|piece| piece.kind != PieceKind::Comment);
    let end = last.map_or(0, |piece| piece.range.end);
    let (before, after) = statements.split_at(end);
    let semicolon = if before.is_empty() || before.ends_with(';') { "" } else { ";" };
    format!("{before}{semicolon}{}\n", after.trim_end())
}

/// Shows a value in the terminal: its picture if the terminal can draw one, else its text. A value that is only a
/// picture is then also saved, and the path printed.
fn shown(bundle: &Bundle) -> Result<()> {
    let Some(figure) = &bundle.figure else { return show(bundle) };
    if picture::draw(figure)? {
        return Ok(());
    }
    show(bundle)?;
    if bundle.is_picture {
        print(&format!("saved to {}", picture::save(figure)?.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Progress;

    #[test]
    fn saved_statements_run_and_have_each_function_once() {
        let mut session = Session::new(Progress::default(), |_| {});
        let entered = [
            "fn f() { 1 } let a = f()",
            "/// Twice.\nfn g(x) {\n    2 * x\n}",
            "// a note",
            "fn f() { 2 }",
            "fn g(x) { 3 * x } let b = g(a); // three",
        ];
        for statement in entered {
            session.eval(statement).unwrap();
        }
        let kept = current(&session, entered.map(str::to_owned).into());
        let saved = "let a = f();\n// a note\nfn f() { 2 };\nfn g(x) { 3 * x } let b = g(a); // three\n";
        assert_eq!(kept.concat(), saved);
        let mut session = Session::new(Progress::default(), |_| {});
        session.eval(saved).unwrap();
        assert_eq!(session.eval("b").unwrap().unwrap().text, "6");
    }
}
