//! The command line: what is typed, who does it, and what is printed. The only code that prints or exits.

mod extract;
mod progress;
mod saes;
mod source;
mod tokens;
mod tree;
mod vector;

use crate::display::{Shown, save};
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::script::Session;
use clap::{CommandFactory, Parser, Subcommand};
use std::cell::RefCell;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;

/// The exit code of a program that was interrupted: 128 and the number of SIGINT.
const INTERRUPTED: u8 = 130;

/// What is typed.
#[derive(Parser)]
#[command(name = "saescope", version, about, disable_help_subcommand = true)]
#[command(
    after_help = "`saescope help` lists the functions of scripts, `saescope help NAME` tells more of one."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a script
    Run {
        /// The script, a .rhai file
        file: PathBuf,
        /// Its arguments, which it sees as the array ARGS
        #[arg(last = true)]
        arguments: Vec<String>,
    },
    /// Evaluate an expression and print its value
    Eval {
        /// The expression, or several statements
        #[arg(allow_hyphen_values = true)]
        expression: String,
    },
    /// Write the active features of every token of a dataset to a JSONL file
    Extract(Box<extract::ExtractArguments>),
    /// Ask the model what a feature means: its definition tree
    Tree(Box<tree::TreeArguments>),
    /// List the tokens that a feature lies near to
    Tokens(Box<tokens::TokensArguments>),
    /// List the SAEs that others have published
    Saes(saes::SaesArguments),
    /// Tell what the functions of scripts do
    Help {
        /// A function, or a command
        name: Option<String>,
    },
}

/// Does what the command line says; prints errors; the exit code.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match with_deep_stack(arguments.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is_interrupted() => {
            to_stderr("interrupted");
            ExitCode::from(INTERRUPTED)
        }
        // Whoever read our output has had enough, as in `saescope … | head`.
        Err(Error::File { source, .. }) if source.kind() == std::io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            to_stderr(&format!("error: {error}"));
            if let Some(excerpt) = error.excerpt() {
                to_stderr(excerpt);
            }
            if let Some(hint) = error.hint() {
                to_stderr(&format!("hint: {hint}"));
            }
            ExitCode::FAILURE
        }
    }
}

/// Runs a command on a thread with room for values that are nested deeply, which scripts can build.
fn with_deep_stack(command: Command) -> Result<()> {
    const STACK: usize = 1 << 29;
    let progress = interruptible()?;
    let thread = std::thread::Builder::new().stack_size(STACK).spawn(move || run(command, &progress));
    let thread = thread.map_err(|e| Error::invalid("the program", "a thread to run on", e))?;
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn run(command: Command, progress: &Progress) -> Result<()> {
    match command {
        Command::Run { file, arguments } => {
            let (mut session, lost) = session(progress);
            session.run_file(&file, &arguments)?;
            lost.take().map_or(Ok(()), Err)
        }
        Command::Eval { expression } => {
            let (mut session, lost) = session(progress);
            if let Some(value) = session.eval(&expression)? {
                print(&value.text)?;
            }
            lost.take().map_or(Ok(()), Err)
        }
        Command::Extract(arguments) => print(&arguments.run(progress)?.to_string()),
        Command::Tree(arguments) => print(&arguments.run(progress)?),
        Command::Tokens(arguments) => print(&arguments.run(progress)?),
        Command::Saes(arguments) => print(&arguments.run()?),
        Command::Help { name: None } => print(&session(progress).0.help().list()),
        Command::Help { name: Some(name) } => match Arguments::command().find_subcommand_mut(&name) {
            Some(command) => {
                let name = format!("saescope {name}");
                print(&command.clone().bin_name(name).render_long_help().to_string())
            }
            None => print(&session(progress).0.help().get(&name)?),
        },
    }
}

/// A session that prints to the standard output, and the error of the first line that could not be printed: a script
/// goes on when nobody reads what it prints.
fn session(progress: &Progress) -> (Session, Rc<RefCell<Option<Error>>>) {
    let lost = Rc::new(RefCell::new(None));
    let sink = lost.clone();
    let session = Session::new(progress.clone(), move |line| {
        if let Err(error) = print(line) {
            sink.borrow_mut().get_or_insert(error);
        }
    });
    (session, lost)
}

/// A progress that Ctrl-C cancels, as do the end of the terminal and a polite kill, shown as a bar. A second Ctrl-C ends
/// the program at once.
fn interruptible() -> Result<Progress> {
    let progress = progress::with_bar();
    let handler = progress.clone();
    let set = ctrlc::set_handler(move || {
        if handler.is_cancelled() {
            std::process::exit(i32::from(INTERRUPTED));
        }
        handler.cancel();
    });
    set.map_err(|e| Error::invalid("Ctrl-C", "a signal that can be handled", e))?;
    Ok(progress)
}

/// Writes a value to a file and says so, or gives its text.
fn shown<T: Shown + std::fmt::Display>(value: &T, output: Option<&Path>) -> Result<String> {
    match output {
        None => Ok(value.to_string()),
        Some(path) => save(value, path).map(|()| format!("output    {}", path.display())),
    }
}

/// A line to the standard output.
fn print(line: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{line}").map_err(Error::file("write", Path::new("standard output")))
}

/// A line to the standard error; where that is closed there is nobody to tell.
fn to_stderr(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
