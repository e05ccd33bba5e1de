//! The Jupyter kernel: a session that is served over five sockets. The protocol:
//! <https://jupyter-client.readthedocs.io/en/stable/messaging.html>.
//!
//! The sockets are served on the main thread and the session has its own, so that a call that takes minutes can be
//! interrupted and shows its progress.

mod cell;
mod connection;
mod control;
#[cfg(unix)]
mod gate;
mod history;
mod install;
mod media;
mod notebook;
mod progress;
mod server;
mod shell;
mod wire;

use crate::error::Result;
use crate::progress::Progress;
use clap::{Args, Subcommand};
use std::path::{Path, PathBuf};

/// The flags of `saescope kernel`.
#[derive(Args)]
pub(super) struct KernelArguments {
    #[command(subcommand)]
    command: KernelCommand,
}

#[derive(Subcommand)]
enum KernelCommand {
    /// Install the kernel into Jupyter
    Install(install::InstallArguments),
    /// Serve one notebook; Jupyter runs this
    Start {
        /// The connection file, with addresses and key, that Jupyter writes
        #[arg(short = 'f', long)]
        connection_file: PathBuf,
    },
}

impl KernelArguments {
    /// Runs the command and returns the text to print, if any.
    pub(super) fn run(&self, progress: &Progress) -> Result<Option<String>> {
        match &self.command {
            KernelCommand::Install(arguments) => arguments.run().map(Some),
            KernelCommand::Start { connection_file } => serve(connection_file, progress).map(|()| None),
        }
    }
}

/// Serves one notebook at the addresses of a connection file, until it is shut down: `saescope kernel start`. An
/// interrupt cancels `progress`.
///
/// # Errors
/// The connection file is refused, or the kernel cannot listen on its addresses.
pub fn serve(connection_file: &Path, progress: &Progress) -> Result<()> {
    server::run(&connection::read(connection_file)?, progress)
}
