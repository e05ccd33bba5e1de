//! `saescope notebook setup`: builds the dependencies of Rust notebooks, so that the first cell does not take minutes.
//!
//! It runs the same build as evcxr 0.22 when a cell names the library: the same crate in the same folder with the same
//! flags (evcxr's module.rs and eval_context.rs), so that evcxr finds everything built.

use super::terminal::to_stderr;
use crate::error::{Error, Result};
use clap::{Args, Subcommand};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// The flags of `saescope notebook`.
#[derive(Args)]
pub(super) struct NotebookArguments {
    #[command(subcommand)]
    command: NotebookCommand,
}

#[derive(Subcommand)]
enum NotebookCommand {
    /// Build the dependencies of a folder's Rust notebooks; takes minutes, once
    Setup {
        /// The folder that contains evcxr.toml
        #[arg(default_value = "notebooks")]
        folder: PathBuf,
    },
}

impl NotebookArguments {
    /// Runs the command and returns the text to print.
    pub(super) fn run(&self) -> Result<String> {
        let NotebookCommand::Setup { folder } = &self.command;
        setup(folder)
    }
}

/// The manifest of evcxr's crate after a cell has named the library. Its source does not matter, only its dependency.
const CRATE: &str = r#"[package]
name = "ctx"
version = "1.0.0"
edition = "2024"

[lib]
crate-type = ["cdylib"]

[dependencies]
saescope = { path = "../evcxr", package = "saescope-evcxr" }
"#;

fn setup(folder: &Path) -> Result<String> {
    if !folder.join("evcxr.toml").is_file() || !folder.join("evcxr").is_dir() {
        let got = format!("`{}`", folder.display());
        return Err(Error::invalid("the folder", "one with `evcxr.toml` and the crate `evcxr`", got)
            .with_hint(
                "use the folder `notebooks` of saescope's source: saescope notebook setup PATH/notebooks",
            ));
    }
    let start = Instant::now();
    // Use the versions that the program itself was built with.
    let lock = folder.join("../Cargo.lock");
    if lock.is_file() {
        std::fs::copy(&lock, folder.join("Cargo.lock")).map_err(Error::file("copy", &lock))?;
    }
    let build = folder.join("build");
    std::fs::create_dir_all(build.join("src")).map_err(Error::file("create", &build))?;
    crate::files::write_atomic(&build.join("Cargo.toml"), CRATE.as_bytes())?;
    crate::files::write_atomic(&build.join("src").join("lib.rs"), b"")?;
    let host = host()?;
    level_cells(&build.join("target").join(&host))?;
    let (mut cargo, flags) = if is_there("mold") {
        let mut mold = Command::new("mold");
        mold.args(["-run", "cargo"]);
        (mold, "-Cprefer-dynamic")
    } else if is_there("lld") {
        (Command::new("cargo"), "-Cprefer-dynamic -Clink-arg=-fuse-ld=lld")
    } else {
        (Command::new("cargo"), "-Cprefer-dynamic")
    };
    cargo.args(["build", "--target", &host]).current_dir(&build).env("RUSTFLAGS", flags);
    cargo.env("CARGO_TARGET_DIR", "target").env("CARGO_BUILD_BUILD_DIR", "target");
    let status = cargo.status().map_err(Error::file("run", Path::new("cargo")))?;
    if !status.success() {
        return Err(Error::failed("build the dependencies")(format!("cargo: {status}, see above")));
    }
    if !is_there("evcxr_jupyter") {
        to_stderr(
            "note: evcxr_jupyter is not installed yet: cargo install --locked evcxr_jupyter && evcxr_jupyter --install",
        );
    }
    let (folder, seconds) = (folder.display(), start.elapsed().as_secs_f64());
    Ok(format!("ready     {folder}, in {seconds:.0} s\nnext      jupyter lab {folder}/04_rust_evcxr.ipynb"))
}

/// Moves `debug/deps`, which rustc writes a cell to, to the depth of `debug`, which evcxr loads the cell from.
///
/// A cell finds Rust's standard library by a path relative to the folder that rustc writes the cell to. One level up,
/// this path leads nowhere if the toolchain and the notebooks are in the same home folder.
#[cfg(unix)]
fn level_cells(target: &Path) -> Result<()> {
    let (link, folder) = (target.join("debug").join("deps"), target.join("deps"));
    // Keep what evcxr built before the setup: later builds would be the same.
    if link.is_dir() && !link.is_symlink() {
        if folder.is_dir() {
            std::fs::remove_dir_all(&folder).map_err(Error::file("remove", &folder))?;
        }
        std::fs::rename(&link, &folder).map_err(Error::file("move", &link))?;
    }
    std::fs::create_dir_all(target.join("debug")).map_err(Error::file("create", target))?;
    std::fs::create_dir_all(&folder).map_err(Error::file("create", &folder))?;
    if link.is_symlink() {
        return Ok(());
    }
    std::os::unix::fs::symlink("../deps", &link).map_err(Error::file("create", &link))
}

/// On other systems evcxr tells the loader where the libraries are.
#[cfg(not(unix))]
fn level_cells(_target: &Path) -> Result<()> {
    Ok(())
}

/// The default target of rustc.
fn host() -> Result<String> {
    let missing = |e: std::io::Error| {
        Error::failed("run `rustc`")(e).with_hint("install Rust, with rustc and cargo: https://rustup.rs")
    };
    let output = Command::new("rustc").arg("-vV").output().map_err(missing)?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: ")).map(str::to_owned);
    host.ok_or_else(|| Error::invalid("`rustc -vV`", "a line `host: …`", "none"))
}

/// Whether a program is in a folder of PATH.
fn is_there(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|folder| folder.join(program).is_file())
}
