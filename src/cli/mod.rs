//! The command line: parses arguments, runs commands, prints results. The only code that prints or exits.

mod interrupts;
mod output;
mod progress;
mod terminal;

mod engine;
mod kernel;
mod notebook;
mod question;
mod repl;

mod extract;
mod flags;
mod saes;
mod source;
mod tokens;
mod tree;

pub use kernel::serve as serve_kernel;

use crate::display::{self, Shown, save};
use crate::error::{Error, Result};
use crate::files;
use crate::model::Model;
use crate::progress::Progress;
use crate::sae::Sae;
use crate::script::Session;
use clap::{CommandFactory, Parser, Subcommand};
use interrupts::Interrupts;
use output::Output;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use terminal::{print, show};

/// The arguments of the program.
#[derive(Parser)]
#[command(name = "saescope", version, about, disable_help_subcommand = true)]
#[command(after_help = "`saescope help` lists the script functions, `saescope help NAME` describes one.")]
struct Arguments {
    /// Without a command, the prompt starts
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Start the prompt, which evaluates statements from a terminal or a pipe
    Repl,
    /// Install or start the Jupyter kernel
    Kernel(kernel::KernelArguments),
    /// Prepare Rust notebooks (evcxr)
    Notebook(notebook::NotebookArguments),
    /// Run a script
    Run {
        /// The script, a .rhai file
        file: PathBuf,
        /// The script's arguments, available as the array ARGS
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
    /// List the tokens nearest to a feature
    Tokens(Box<tokens::TokensArguments>),
    /// List published SAEs
    Saes(saes::SaesArguments),
    /// Describe script functions and commands
    Help {
        /// A script function or a command
        name: Option<String>,
    },
}

/// Runs the command line, prints errors and returns the exit code.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match with_deep_stack(arguments.command.unwrap_or(Command::Repl)) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of the output has closed it, as in `saescope … | head`.
        Err(Error::File { source, .. }) if source.kind() == std::io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(error) => {
            terminal::report(&error);
            if error.is_interrupted() { ExitCode::from(interrupts::INTERRUPTED) } else { ExitCode::FAILURE }
        }
    }
}

/// Runs a command on a thread with a stack for the deeply nested values that scripts can build.
fn with_deep_stack(command: Command) -> Result<()> {
    let interrupts = Interrupts::handled(progress::with_bar())?;
    let thread =
        std::thread::Builder::new().stack_size(engine::STACK).spawn(move || run(command, &interrupts));
    let thread = thread.map_err(Error::failed("start a thread"))?;
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn run(command: Command, interrupts: &Interrupts) -> Result<()> {
    let progress = interrupts.progress();
    match command {
        Command::Repl => repl::run(interrupts),
        Command::Kernel(arguments) => {
            // A message ends a kernel, or a signal that it handles itself.
            interrupts.only_cancel();
            arguments.run(progress)?.map_or(Ok(()), |text| print(&text))
        }
        Command::Notebook(arguments) => print(&arguments.run()?),
        Command::Run { file, arguments } => {
            let (mut session, output) = session(progress);
            let value = session.run_file(&file, &arguments);
            output.result(value).map(|_| ())
        }
        Command::Eval { expression } => {
            let (mut session, output) = session(progress);
            let value = session.eval(&expression);
            output.result(value)?.map_or(Ok(()), |value| show(&value))
        }
        Command::Extract(arguments) => print(&arguments.run(progress)?.to_string()),
        Command::Tree(arguments) => print(&arguments.run(progress)?),
        Command::Tokens(arguments) => print(&arguments.run(progress)?),
        Command::Saes(arguments) => print(&arguments.run()?),
        Command::Help { name: None } => print(&terminal::cut(&session(progress).0.help().list())),
        Command::Help { name: Some(name) } => match Arguments::command().find_subcommand_mut(&name) {
            Some(command) => {
                let name = format!("saescope {name}");
                print(&command.clone().bin_name(name).render_long_help().to_string())
            }
            None => print(&terminal::help(&session(progress).0.help().get(&name)?)),
        },
    }
}

/// A session that prints to standard output, and its output.
fn session(progress: &Progress) -> (Session, Output) {
    let output = Output::new(progress);
    (Session::with_host(progress.clone(), output.clone()), output)
}

/// Checks before the run that an output has a known extension, is writable and overwrites no input.
fn check_destination(output: Option<&Path>, model: &Model, sae: &Sae) -> Result<()> {
    let Some(output) = output else { return Ok(()) };
    files::check_distinct(&[output.to_owned()], model.files().chain(sae.files()))?;
    files::AtomicFile::create(output).map(drop)?;
    display::check_extension(output)
}

/// Writes a value to a file and returns a line that says so. Without a file, returns the value's text.
fn shown<T: Shown + std::fmt::Display>(value: &T, output: Option<&Path>) -> Result<String> {
    match output {
        None => Ok(value.to_string()),
        Some(path) => save(value, path).map(|()| format!("output    {}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }
}
