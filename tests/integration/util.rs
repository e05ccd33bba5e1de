//! Helpers that all tests share.

use candle_core::{DType, Device, Tensor};
use std::collections::HashMap;
use std::path::PathBuf;

/// A path below `tests/`.
pub fn tests_path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// A path below `tests/fixtures/`, as a string.
pub fn fixture(name: &str) -> String {
    tests_path("fixtures").join(name).to_string_lossy().into_owned()
}

/// A command with the default signal handlers, even if the tests themselves were started with some signals ignored, as
/// by `nohup` or in the background.
#[cfg(unix)]
pub fn with_default_signals(program: &str) -> std::process::Command {
    let mut command = std::process::Command::new(if cfg!(target_os = "linux") { "env" } else { program });
    if cfg!(target_os = "linux") {
        command.args(["--default-signal", program]);
    }
    command
}

/// The tensors of a fixture.
pub fn expected(name: &str) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(fixture(name), &Device::Cpu).unwrap()
}

/// Row `i` of a batch of token ids.
pub fn tokens_of(input_ids: &Tensor, i: usize) -> Vec<u32> {
    input_ids.get(i).unwrap().to_dtype(DType::U32).unwrap().to_vec1().unwrap()
}

/// Fails unless every element is within `absolute` or, relatively, within `relative` of the expected one.
#[track_caller]
pub fn assert_close(what: &str, got: &Tensor, expected: &Tensor, absolute: f32, relative: f32) {
    assert_eq!(got.dims(), expected.dims(), "{what}: shape");
    let values =
        |t: &Tensor| t.flatten_all().unwrap().to_dtype(DType::F32).unwrap().to_vec1::<f32>().unwrap();
    for (i, (got, expected)) in values(got).into_iter().zip(values(expected)).enumerate() {
        let difference = (got - expected).abs();
        let fits = got == expected || difference <= absolute || difference <= relative * expected.abs();
        assert!(fits, "{what}: element {i}: expected {expected}, got {got}");
    }
}

/// A tensor of pseudorandom values between -1 and 1, the same in every run.
pub fn noise(shape: &[usize], seed: u64) -> Tensor {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let values = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f32 / (1u64 << 30) as f32 - 1.0
    });
    let values: Vec<f32> = values.take(shape.iter().product()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// Moves the files of a script into a folder: every string that is a file name with one of the extensions below.
pub fn in_folder(script: &str, folder: &std::path::Path) -> String {
    const EXTENSIONS: [&str; 8] = ["jsonl", "json", "svg", "png", "html", "csv", "npy", "safetensors"];
    let moved = |string: &str| {
        let is_file = string.rsplit_once('.').is_some_and(|(_, extension)| EXTENSIONS.contains(&extension));
        let is_name = string.chars().all(|c| c.is_ascii_alphanumeric() || "._".contains(c));
        if is_file && is_name {
            folder.join(string).to_string_lossy().replace('\\', "/")
        } else {
            string.to_owned()
        }
    };
    script.split('"').map(moved).collect::<Vec<_>>().join("\"")
}
