//! What makes the tests short.

use candle_core::{DType, Device, Tensor};
use std::collections::HashMap;
use std::path::PathBuf;

/// A path below `tests/`.
pub fn tests_path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests").join(name)
}

/// A path below `tests/fixtures/`, as text.
pub fn fixture(name: &str) -> String {
    tests_path("fixtures").join(name).to_string_lossy().into_owned()
}

/// A program with the signals as they are by default, also where the tests were started with some of them ignored, as
/// `nohup` and background jobs are.
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

/// Fails unless every number is within `absolute` or, relatively, within `relative` of what is expected.
#[track_caller]
pub fn assert_close(what: &str, got: &Tensor, expected: &Tensor, absolute: f32, relative: f32) {
    assert_eq!(got.dims(), expected.dims(), "{what}: shape");
    let numbers =
        |t: &Tensor| t.flatten_all().unwrap().to_dtype(DType::F32).unwrap().to_vec1::<f32>().unwrap();
    for (i, (got, expected)) in numbers(got).into_iter().zip(numbers(expected)).enumerate() {
        let difference = (got - expected).abs();
        let fits = got == expected || difference <= absolute || difference <= relative * expected.abs();
        assert!(fits, "{what}: number {i}: expected {expected}, got {got}");
    }
}

/// Numbers between −1 and 1 without pattern, the same in every run.
pub fn noise(shape: &[usize], seed: u64) -> Tensor {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let numbers = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f32 / (1u64 << 30) as f32 - 1.0
    });
    let numbers: Vec<f32> = numbers.take(shape.iter().product()).collect();
    Tensor::from_vec(numbers, shape, &Device::Cpu).unwrap()
}

/// A script with the files that it writes or reads moved into a folder: texts that are a name and an ending.
pub fn in_folder(script: &str, folder: &std::path::Path) -> String {
    const ENDINGS: [&str; 8] = ["jsonl", "json", "svg", "png", "html", "csv", "npy", "safetensors"];
    let moved = |text: &str| {
        let is_file = text.rsplit_once('.').is_some_and(|(_, ending)| ENDINGS.contains(&ending));
        let is_name = text.chars().all(|c| c.is_ascii_alphanumeric() || "._".contains(c));
        if is_file && is_name {
            folder.join(text).to_string_lossy().replace('\\', "/")
        } else {
            text.to_owned()
        }
    };
    script.split('"').map(moved).collect::<Vec<_>>().join("\"")
}
