//! The command line: what is typed, who does it, and what is printed. The only code that prints or exits.

mod extract;
mod progress;

use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::script::Session;
use clap::{CommandFactory, Parser, Subcommand};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

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
        expression: String,
    },
    /// Write the active features of every token of a dataset to a JSONL file
    Extract(extract::ExtractArguments),
    /// Tell what the functions of scripts do
    Help {
        /// A function, or a command
        name: Option<String>,
    },
}

/// Does what the command line says; prints errors; the exit code.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = interruptible().and_then(|progress| run(arguments.command, &progress));
    match result {
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

fn run(command: Command, progress: &Progress) -> Result<()> {
    match command {
        Command::Run { file, arguments } => {
            session(progress).run_file(&file, &arguments)?;
            Ok(())
        }
        Command::Eval { expression } => match session(progress).eval(&expression)? {
            Some(value) => print(&value),
            None => Ok(()),
        },
        Command::Extract(arguments) => print(&arguments.run(progress)?.to_string()),
        Command::Help { name: None } => print(&session(progress).help().list()),
        Command::Help { name: Some(name) } => match Arguments::command().find_subcommand_mut(&name) {
            Some(command) => {
                let name = format!("saescope {name}");
                print(&command.clone().bin_name(name).render_long_help().to_string())
            }
            None => print(&session(progress).help().get(&name)?),
        },
    }
}

fn session(progress: &Progress) -> Session {
    // A script goes on when nobody reads what it prints.
    Session::new(progress.clone(), |line| drop(print(line)))
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

/// A line to the standard output.
fn print(line: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{line}")
        .map_err(Error::file("write", std::path::Path::new("standard output")))
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
