//! Compiles the CUDA kernels to PTX, which the driver compiles for its GPU when they are first used.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=cuda");
    println!("cargo::rerun-if-env-changed=NVCC");
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return;
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let nvcc = env::var_os("NVCC").unwrap_or_else(|| "nvcc".into());
    for entry in std::fs::read_dir("cuda").expect("the folder of kernels") {
        let source = entry.expect("the folder of kernels").path();
        if source.extension().is_some_and(|extension| extension == "cu") {
            compile(&nvcc, &source, &out);
        }
    }
}

/// Every GPU since the A100 runs the PTX of compute_80. Without fast math, because the CPU is the reference.
fn compile(nvcc: &std::ffi::OsStr, source: &Path, out: &Path) {
    let ptx = out.join(source.file_name().expect("a file")).with_extension("ptx");
    let mut command = Command::new(nvcc);
    command.args(["-ptx", "-arch=compute_80", "-O3", "-std=c++17"]).arg(source).arg("-o").arg(ptx);
    let done = command.status();
    let Ok(done) = done else {
        panic!("`{}` does not start: run `eval \"$(bash scripts/setup-cuda.sh)\"` first", nvcc.display());
    };
    assert!(done.success(), "nvcc failed on {}", source.display());
}
