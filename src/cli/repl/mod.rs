//! The prompt: statements are read, evaluated, and their values shown, until nothing more comes.

mod commands;
mod editor;
mod picture;
mod piped;

use super::engine::Engine;
use super::interrupts::Interrupts;
use super::terminal::{input, print, report, show, to_stderr};
use crate::display::Bundle;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::script::{Host, PieceKind, Session};
use commands::Command;
use reedline::Signal;
use std::io::IsTerminal;
use std::path::Path;
use std::time::Instant;

/// Reads statements from the terminal, or from the standard input if that is none.
pub(super) fn run(interrupts: &Interrupts) -> Result<()> {
    if !std::io::stdin().is_terminal() {
        return piped::run(interrupts);
    }
    let progress = interrupts.progress();
    let engine = Engine::start(progress, Terminal { progress: progress.clone() })?;
    let mut editor = editor::new(&engine);
    print(&format!(
        "saescope {}. `help` lists the functions, `help NAME` tells more of one, `:help` is about this prompt.",
        env!("CARGO_PKG_VERSION")
    ))?;
    let mut repl = Repl { engine, interrupts, entered: Vec::new() };
    loop {
        match interrupts.idle(|| editor.read_line(&editor::Prompt)) {
            Ok(Signal::Success(line)) => {
                if !repl.enter(&line)? {
                    return Ok(());
                }
            }
            // What was typed is forgotten; the session is not.
            Ok(Signal::CtrlC) => {}
            Ok(Signal::CtrlD) => return Ok(()),
            Ok(_) => {}
            Err(error) => return Err(Error::file("read", Path::new("the terminal"))(error)),
        }
    }
}

/// A session, and what has been entered into it.
struct Repl<'a> {
    engine: Engine,
    interrupts: &'a Interrupts,
    /// The statements that did not fail.
    entered: Vec<String>,
}

impl Repl<'_> {
    /// Does what a line says, and tells what went wrong; false if it was the last one.
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
            // Nobody reads what is written any more.
            Err(Error::File { source, .. }) if source.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
            Err(error) => {
                report(&error);
                Ok(true)
            }
            Ok(goes_on) => Ok(goes_on),
        }
    }

    fn command(&mut self, command: Command) -> Result<bool> {
        match command {
            Command::Quit => return Ok(false),
            Command::Help(None) => print(&self.engine.ask(|session| session.help().list())?)?,
            Command::Help(Some(name)) => {
                print(&self.engine.ask(move |session| {
                    // A variable has a value to look at, a function a text.
                    session.inspect(&name, name.len()).map_or_else(|| session.help().get(&name), Ok)
                })??)?;
            }
            Command::AboutPrompt => print(commands::ABOUT)?,
            Command::Load(path) => {
                let text = std::fs::read_to_string(&path).map_err(Error::file("read", &path))?;
                self.eval_named(Some(path.display().to_string()), &text)?;
            }
            Command::Save(path) => {
                let entered = self.entered.clone();
                let text = self.engine.ask(move |session| {
                    entered.iter().map(|statement| ended(session, statement)).collect::<String>()
                })?;
                crate::files::write_whole(&path, text.as_bytes())?;
                print(&format!("{} statements saved to {}", self.entered.len(), path.display()))?;
            }
            Command::Vars => {
                let variables = self.engine.ask(|session| session.variables())?;
                let widest =
                    |texts: &mut dyn Iterator<Item = &String>| texts.map(|t| t.chars().count()).max();
                let names = widest(&mut variables.iter().map(|v| &v.name)).unwrap_or(0);
                let types = widest(&mut variables.iter().map(|v| &v.type_name)).unwrap_or(0);
                for variable in &variables {
                    let text: String = variable.text.chars().take(100).collect();
                    print(&format!("{:names$}  {:types$}  {text}", variable.name, variable.type_name))?;
                }
            }
            Command::Time(script) => {
                let start = Instant::now();
                self.eval(&script)?;
                print(&format!("{:.3} s", start.elapsed().as_secs_f64()))?;
            }
            Command::Reset => self.engine.ask(|session| session.reset())?,
        }
        Ok(true)
    }

    fn eval(&mut self, script: &str) -> Result<()> {
        self.eval_named(None, script)
    }

    fn eval_named(&mut self, name: Option<String>, script: &str) -> Result<()> {
        let value = evaluated(&self.engine, self.interrupts, name, script)?;
        self.entered.push(script.to_owned());
        value.map_or(Ok(()), |bundle| shown(&bundle))
    }
}

/// Statements as they stand in a file, where others come behind them: with a semicolon at their end.
fn ended(session: &Session, statements: &str) -> String {
    let pieces = session.pieces(statements);
    let last = pieces.iter().rfind(|piece| piece.kind != PieceKind::Comment);
    let end = last.map_or(0, |piece| piece.range.end);
    let (before, behind) = statements.split_at(end);
    let semicolon = if before.is_empty() || before.ends_with(';') { "" } else { ";" };
    format!("{before}{semicolon}{}\n", behind.trim_end())
}

/// The value of statements; Ctrl-C stops them while they are being evaluated.
fn evaluated(
    engine: &Engine,
    interrupts: &Interrupts,
    name: Option<String>,
    script: &str,
) -> Result<Option<Bundle>> {
    interrupts.progress().reset();
    let script = script.to_owned();
    let value = engine.ask(move |session| match name {
        Some(name) => session.eval_named(&name, &script),
        None => session.eval(&script),
    });
    // What was stopped is over: what the editor asks for next is not.
    interrupts.progress().reset();
    value?
}

/// A value on the terminal: its picture where it can show one, else its text; a value that is nothing but a picture is
/// saved, and the text says where.
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

/// The terminal as a session sees it.
struct Terminal {
    progress: Progress,
}

impl Host for Terminal {
    fn print(&self, line: &str) {
        // A script goes on when nobody reads what it prints.
        let _ = print(line);
    }

    fn display(&self, bundle: Bundle) {
        if let Err(error) = shown(&bundle) {
            to_stderr(&format!("error: {error}"));
        }
    }

    fn input(&self, prompt: &str) -> Result<String> {
        input(prompt, &self.progress)
    }
}
