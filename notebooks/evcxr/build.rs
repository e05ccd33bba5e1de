//! Puts a copy of Rust's standard library beside the cells.
//!
//! A cell links to it as a shared object, by a path relative to the folder that rustc wrote the cell to. evcxr loads the cell
//! from the folder above, from where that path leads to nothing if the toolchain and this folder are both in somebody's home.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let target = variable("TARGET");
    let arguments = [OsString::from("--print=target-libdir"), "--target".into(), target];
    let output = Command::new(variable("RUSTC")).args(arguments).output().expect("rustc runs");
    let libraries = String::from_utf8(output.stdout).expect("a path in UTF-8");

    // OUT_DIR is …/debug/build/…, cells are in …/debug.
    let out = PathBuf::from(variable("OUT_DIR"));
    let build = out.ancestors().find(|path| path.ends_with("build")).expect("OUT_DIR lies in a folder `build`");
    let cells = build.parent().expect("a folder above `build`");

    for entry in Path::new(libraries.trim()).read_dir().expect("a folder of libraries").flatten() {
        let name = entry.file_name();
        let library = name.to_string_lossy();
        if library.starts_with("libstd-") && (library.ends_with(".so") || library.ends_with(".dylib")) {
            std::fs::copy(entry.path(), cells.join(&name)).expect("the standard library is copied");
        }
    }
}

/// A variable that cargo sets.
fn variable(name: &str) -> OsString {
    std::env::var_os(name).unwrap_or_else(|| panic!("cargo sets {name}"))
}
