//! The Jupyter kernel: a session behind five sockets. The protocol is
//! <https://jupyter-client.readthedocs.io/en/stable/messaging.html>.
//!
//! The sockets are served on the main thread, the session works on its own: a call that runs for minutes can be
//! interrupted, and its progress seen, all the while.

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
    /// Tell Jupyter about this kernel
    Install(install::InstallArguments),
    /// Serve one notebook: Jupyter calls this
    Start {
        /// The file with the addresses and the key, which Jupyter writes
        #[arg(short = 'f', long)]
        connection_file: PathBuf,
    },
}

impl KernelArguments {
    /// Does what was asked; what is to be printed, if something is.
    pub(super) fn run(&self, progress: &Progress) -> Result<Option<String>> {
        match &self.command {
            KernelCommand::Install(arguments) => arguments.run().map(Some),
            KernelCommand::Start { connection_file } => serve(connection_file, progress).map(|()| None),
        }
    }
}

/// Serves one notebook at the addresses of a connection file, until it is shut down: `saescope kernel start`. An interrupt
/// cancels `progress`.
///
/// # Errors
/// A connection file that is refused; addresses that cannot be listened at.
pub fn serve(connection_file: &Path, progress: &Progress) -> Result<()> {
    server::run(&connection::read(connection_file)?, progress)
}
