//! Runs that fail or are interrupted: the errors, and no files left.

use super::{demo, documents, path, run};
use crate::util::fixture;
use saescope::extract::ExtractOptions;
use saescope::sae::SaeOptions;
use saescope::{Dataset, Model, Progress, ProgressEvent, Sae, create_feature_dataset};
use std::path::Path;

/// The message and hint of a run that must fail. The old output must survive, and no other file may appear.
fn failure(documents: &str, change: impl FnOnce(&mut ExtractOptions)) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.jsonl");
    std::fs::write(&output, "what was there").unwrap();
    let mut options = ExtractOptions {
        dataset_path: documents.to_owned(),
        output_path: output.to_string_lossy().into_owned(),
        ..Default::default()
    };
    change(&mut options);
    let (model, sae) = demo();
    let error = run(&model, &sae, &options).unwrap_err();
    assert_eq!(std::fs::read_to_string(&output).unwrap(), "what was there");
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        1,
        "there is another file beside the output"
    );
    (error.to_string(), error.hint().unwrap_or_default())
}

#[test]
fn a_failed_run_says_why_and_leaves_no_file() {
    for (name, expected) in [
        ("bad_line.jsonl", "line 13"),
        ("truncated.jsonl.gz", "truncated.jsonl.gz"),
        ("zstd_garbage.jsonl.zst", "zstd_garbage.jsonl.zst"),
        ("no_text_column.jsonl", "unknown column `text`"),
        ("not_parquet.parquet", "not_parquet.parquet"),
        ("text_is_number.jsonl", "number"),
        ("invalid_utf8.jsonl", "UTF-8"),
        ("lone_surrogate.jsonl", "surrogate"),
        ("empty.jsonl", "expected documents with tokens, got none"),
    ] {
        let (error, hint) = failure(&fixture(&format!("datasets/broken/{name}")), |_| ());
        assert!(error.contains(expected), "{name}: {error}");
        assert!(!hint.is_empty(), "{name}: {error}: no hint");
    }
    let fails = |expected: &str, change: fn(&mut ExtractOptions)| {
        let (error, _) = failure("demo", change);
        assert!(error.contains(expected), "{error}");
    };
    fails("`batch_size`: expected at least 1, got 0", |o| o.batch_size = 0);
    fails("`max_examples`: expected at least 1, got 0", |o| o.max_examples = Some(0));
    fails("`activation_threshold`: expected 0 or more, got -1", |o| o.activation_threshold = -1.0);
    fails("`context_size`: expected at most the model's n_ctx = 256, got 300", |o| {
        o.context_size = Some(300)
    });
    fails("expected at least 2: a BOS and a token, got 1", |o| o.context_size = Some(1));
    fails("`output_path`: expected a path, got none", |o| o.output_path.clear());
    fails("`dataset_path`: expected a path, got none", |o| o.dataset_path.clear());
    fails("unknown column `body`", |o| {
        (o.text_column, o.dataset_path) = ("body".into(), fixture("datasets/plain/docs.jsonl"));
    });
    let (error, hint) = failure("demo", |o| o.output_path = "no/such/folder/out.jsonl".to_owned());
    assert!(error.contains("cannot create `no/such/folder/out.jsonl`"), "{error}");
    assert!(hint.contains("`no/such/folder` does not exist"), "{hint}");
}

#[test]
fn an_output_never_overwrites_an_input_or_a_device() {
    let (model, sae) = demo();
    let file = documents(&["a boat"]);
    let at = |output: &str| ExtractOptions {
        dataset_path: path(&file),
        output_path: output.to_owned(),
        ..Default::default()
    };
    let error = run(&model, &sae, &at(&path(&file))).unwrap_err().to_string();
    assert!(error.contains("got an input of the run"), "{error}");
    assert!(std::fs::read_to_string(file.path()).unwrap().contains("a boat"));
    let folder = tempfile::tempdir().unwrap();
    let error = run(&model, &sae, &at(&folder.path().to_string_lossy())).unwrap_err().to_string();
    assert!(error.contains("got a folder, pipe or device"), "{error}");
    #[cfg(unix)]
    {
        let error = run(&model, &sae, &at("/dev/null")).unwrap_err().to_string();
        assert!(error.contains("got a folder, pipe or device"), "{error}");
        let (real, link) = (folder.path().join("real.jsonl"), folder.path().join("link.jsonl"));
        std::fs::write(&real, "old").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        run(&model, &sae, &at(&link.to_string_lossy())).unwrap();
        assert!(link.is_symlink() && std::fs::read_to_string(&real).unwrap().contains("a boat"));
    }
}

#[test]
fn dataset_options_for_an_open_dataset_are_an_error() {
    let (model, sae) = demo();
    let dataset = Dataset::open("demo").unwrap();
    let options =
        ExtractOptions { text_column: "body".into(), output_path: "x.jsonl".into(), ..Default::default() };
    let error =
        create_feature_dataset(&model, &sae, Some(&dataset), &options, &Progress::default()).unwrap_err();
    assert!(error.to_string().contains("a dataset that is already open"), "{error}");
}

#[test]
fn an_interrupt_stops_the_run_and_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.jsonl");
    let options = ExtractOptions {
        dataset_path: "demo".to_owned(),
        output_path: output.to_string_lossy().into_owned(),
        batch_size: 1,
        ..Default::default()
    };
    let (model, sae) = demo();
    let progress = Progress::default();
    let inner = progress.clone();
    let progress = progress.reporting_to(move |report| {
        if matches!(report, ProgressEvent::Advanced { counts, .. } if counts[0] == ("documents", 5)) {
            inner.cancel();
        }
    });
    let error = create_feature_dataset(&model, &sae, None, &options, &progress).unwrap_err();
    assert!(error.is_interrupted(), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn an_sae_of_the_wrong_size_is_an_error_with_both_sizes() {
    let (model, _) = demo();
    let sae = Sae::load(&fixture("saes/native/standard")).unwrap();
    let options =
        ExtractOptions { dataset_path: "demo".into(), output_path: "x.jsonl".into(), ..Default::default() };
    let error = run(&model, &sae, &options).unwrap_err();
    assert!(error.to_string().contains("reads d_in = 16 dimensions at `blocks.1.hook_resid_pre`"), "{error}");
    assert!(error.to_string().contains("has d_model = 192 there"), "{error}");
    assert!(error.hint().unwrap().contains("trained on `gpt2-small`"));
    let deep = SaeOptions { hook_name: Some("blocks.6.hook_resid_pre".to_owned()), ..Default::default() };
    let sae = Sae::load_with("demo", &deep, &Progress::default()).unwrap();
    let error = run(&model, &sae, &options).unwrap_err();
    assert!(error.to_string().contains("a block from 0 to 5, got 6"), "{error}");
    assert!(!Path::new("x.jsonl").exists());
}

/// A NaN among the weights is reported with the first document that meets it.
#[test]
fn non_finite_activations_are_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let device = candle_core::Device::Cpu;
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo/model");
    for name in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(assets.join(name), folder.path().join(name)).unwrap();
    }
    let mut weights = candle_core::safetensors::load(assets.join("model.safetensors"), &device).unwrap();
    let (model, sae) = demo();
    let bad = model.to_tokens(" dogs", Some(false)).unwrap()[0] as usize;
    let embed = &weights["transformer.wte.weight"];
    let mut rows = embed.to_dtype(candle_core::DType::F32).unwrap().to_vec2::<f32>().unwrap();
    rows[bad][3] = f32::NAN;
    let rows = candle_core::Tensor::new(rows, &device).unwrap();
    weights.insert("transformer.wte.weight".to_owned(), rows);
    candle_core::safetensors::save(&weights, folder.path().join("model.safetensors")).unwrap();
    let model = Model::load(&folder.path().to_string_lossy()).unwrap();
    let file = documents(&["a boat", "two dogs", "three cats"]);
    let output_path = folder.path().join("out.jsonl").to_string_lossy().into_owned();
    let options = ExtractOptions { dataset_path: path(&file), output_path, ..Default::default() };
    let error = run(&model, &sae, &options).unwrap_err().to_string();
    assert!(error.contains("document 1: the activation at `blocks.4.hook_resid_pre`"), "{error}");
    assert!(!folder.path().join("out.jsonl").exists());
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_a_clear_error() {
    // A limit on the file size of the child process simulates a full disk.
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.jsonl");
    let command = format!(
        "ulimit -f 64; exec '{}' extract --model demo --sae demo --dataset demo --output '{}'",
        env!("CARGO_BIN_EXE_saescope"),
        output.display()
    );
    let result = std::process::Command::new("sh").arg("-c").arg(command).output().unwrap();
    let stderr = String::from_utf8_lossy(&result.stderr);
    assert_eq!(result.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("error: cannot write `"), "{stderr}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "a file is left");
}
