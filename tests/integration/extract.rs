//! Feature datasets, compared with TransformerLens and SAELens, and across batch sizes and numbers of threads.

mod consumers;
mod errors;

use crate::util::{fixture, tests_path};
use saescope::extract::{ExtractOptions, ExtractSummary, LongDocuments, Packing};
use saescope::sae::SaeOptions;
use saescope::{
    Dataset, FeatureRecord, Model, Progress, ProgressEvent, Result, Sae, create_feature_dataset, read_records,
};
use std::collections::BTreeMap;

fn demo() -> (Model, Sae) {
    (Model::load("demo").unwrap(), Sae::load("demo").unwrap())
}

fn run(model: &Model, sae: &Sae, options: &ExtractOptions) -> Result<ExtractSummary> {
    create_feature_dataset(model, sae, None, options, &Progress::default())
}

/// The records of a run over `documents` (a path), with the demo model and SAE.
fn records(documents: &str, change: impl FnOnce(&mut ExtractOptions)) -> Vec<FeatureRecord> {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.jsonl");
    let mut options = ExtractOptions {
        dataset_path: documents.to_owned(),
        output_path: output.to_string_lossy().into_owned(),
        activation_threshold: 0.1,
        ..Default::default()
    };
    change(&mut options);
    let (model, sae) = demo();
    run(&model, &sae, &options).unwrap();
    read_records(&output).unwrap().collect::<Result<_>>().unwrap()
}

/// A file of documents, one JSON line each.
fn documents(texts: &[&str]) -> tempfile::NamedTempFile {
    let file = tempfile::Builder::new().suffix(".jsonl").tempfile().unwrap();
    let lines: String =
        texts.iter().map(|text| serde_json::json!({ "text": text }).to_string() + "\n").collect();
    std::fs::write(file.path(), lines).unwrap();
    file
}

fn path(file: &tempfile::NamedTempFile) -> String {
    file.path().to_string_lossy().into_owned()
}

/// Fails unless the records agree, values within 1e-4; a feature within 1e-4 of the threshold may be missing.
fn assert_same(got: &[FeatureRecord], expected: &[FeatureRecord], threshold: f32) {
    assert_eq!(got.len(), expected.len());
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert_eq!(got.text, expected.text, "record {i}");
        assert_eq!(got.tokens, expected.tokens, "record {i}");
        assert_eq!(got.offsets, expected.offsets, "record {i}");
        for pos in 0..got.tokens.len() {
            let features = |r: &FeatureRecord| -> BTreeMap<u32, f32> {
                r.active_features[pos].iter().copied().zip(r.activations[pos].iter().copied()).collect()
            };
            let (got, expected) = (features(got), features(expected));
            for (feature, value) in &got {
                match expected.get(feature) {
                    Some(reference) => assert!(
                        (value - reference).abs() <= 1e-4,
                        "record {i}, token {pos}, feature {feature}: expected {reference}, got {value}"
                    ),
                    None => assert!(
                        (value - threshold).abs() <= 1e-4,
                        "record {i}, token {pos}, feature {feature}"
                    ),
                }
            }
            for (feature, value) in expected.iter().filter(|(feature, _)| !got.contains_key(feature)) {
                assert!(
                    (value - threshold).abs() <= 1e-4,
                    "record {i}, token {pos}: feature {feature} is missing"
                );
            }
        }
    }
}

fn golden(name: &str) -> Vec<FeatureRecord> {
    read_records(&tests_path("golden").join(name)).unwrap().collect::<Result<_>>().unwrap()
}

#[test]
fn the_demo_matches_transformer_lens_and_sae_lens() {
    assert_same(&records("demo", |_| ()), &golden("records.jsonl"), 0.1);
}

#[test]
fn the_demo_sae_at_block_0_matches_too() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.jsonl");
    let sae = Sae::load(("demo", "blocks.0.hook_resid_pre")).unwrap();
    let options = ExtractOptions {
        dataset_path: "demo".to_owned(),
        output_path: output.to_string_lossy().into_owned(),
        activation_threshold: 0.1,
        ..Default::default()
    };
    let summary = run(&Model::load("demo").unwrap(), &sae, &options).unwrap();
    let got: Vec<_> = read_records(&output).unwrap().collect::<Result<_>>().unwrap();
    assert_same(&got, &golden("records_blocks.0.jsonl"), 0.1);
    assert_eq!(summary.records, got.len() as u64);
    assert_eq!(summary.tokens, got.iter().map(|r| r.tokens.len() as u64).sum::<u64>());
}

#[test]
fn neither_batch_size_nor_threads_change_the_result() {
    let expected = records("demo", |_| ());
    for batch_size in [1, 3, 1000] {
        assert!(records("demo", |o| o.batch_size = batch_size) == expected, "batch_size {batch_size}");
    }
    for threads in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert!(pool.install(|| records("demo", |_| ())) == expected, "{threads} threads");
    }
}

/// A folder with a temporal SAE with random weights and `d_in` 32.
fn temporal_sae() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let cfg = serde_json::json!({
        "architecture": "temporal", "d_in": 32, "d_sae": 64, "n_heads": 2, "bottleneck_factor": 4, "kval_topk": 6,
        "apply_b_dec_to_input": true,
        "metadata": { "hook_name": "blocks.1.hook_resid_pre", "prepend_bos": true, "context_size": 24 },
    });
    std::fs::write(folder.path().join("cfg.json"), cfg.to_string()).unwrap();
    let mut seed = 0u32;
    let mut random = |shape: &[usize]| {
        let values = (0..shape.iter().product()).map(|_| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            seed as f32 / u32::MAX as f32 - 0.5
        });
        candle_core::Tensor::from_vec(values.collect(), shape, &candle_core::Device::Cpu).unwrap()
    };
    let mut weights = std::collections::HashMap::new();
    weights.insert("W_dec".to_owned(), random(&[64, 32]));
    weights.insert("b_dec".to_owned(), random(&[32]));
    for (name, rows) in [("k_ctx", 16), ("q_target", 16), ("v_ctx", 64), ("c_proj", 64)] {
        weights.insert(format!("attn_layers.0.{name}.weight"), random(&[rows, 64]));
        weights.insert(format!("attn_layers.0.{name}.bias"), random(&[rows]));
    }
    candle_core::safetensors::save(&weights, folder.path().join("sae_weights.safetensors")).unwrap();
    folder
}

#[test]
fn a_temporal_sae_does_not_see_other_documents() {
    let model = Model::load(&fixture("models/gpt2_text")).unwrap();
    let folder = temporal_sae();
    let sae = Sae::load(&folder.path().to_string_lossy()).unwrap();
    let run = |batch_size| {
        let output = folder.path().join("out.jsonl");
        let options = ExtractOptions {
            dataset_path: "demo".to_owned(),
            output_path: output.to_string_lossy().into_owned(),
            max_examples: Some(12),
            batch_size,
            ..Default::default()
        };
        let summary = run(&model, &sae, &options).unwrap();
        assert!(summary.mean_l0 > 1.0, "{summary}");
        read_records(&output).unwrap().collect::<Result<Vec<_>>>().unwrap()
    };
    let alone = run(1);
    assert!(alone.len() > 12);
    for batch_size in [2, 1000] {
        assert!(run(batch_size) == alone, "batch_size {batch_size}");
    }
}

#[test]
fn batches_of_one_token_give_the_same_records() {
    let file = documents(&["a", "the", "of", "a"]);
    let run =
        |batch_size| records(&path(&file), |o| (o.batch_size, o.prepend_bos) = (batch_size, Some(false)));
    let together = run(64);
    assert!(together.iter().all(|record| record.tokens.len() == 1));
    assert!(run(1) == together);
}

#[test]
fn settings_missing_from_an_sae_are_warnings() {
    let folder = fixture("saes/saelens_legacy/blocks.1.hook_resid_pre");
    let warnings =
        |options: &SaeOptions| Sae::load_with(&folder, options, &Progress::default()).unwrap().warnings();
    assert!(warnings(&SaeOptions::default())[0].contains("center_writing_weights: true"));
    assert!(warnings(&SaeOptions { center_writing_weights: Some(false), ..Default::default() }).is_empty());
    let folder = fixture("saes/saelens_norm_factor/gemma_2b_blocks.12.hook_resid_post_16384");
    let warnings = Sae::load(&folder).unwrap().warnings();
    assert!(warnings.iter().any(|warning| warning.contains("norm_scaling_factor")), "{warnings:?}");
    assert!(demo().1.warnings().is_empty());
}

#[test]
fn long_documents_are_split_or_truncated() {
    let text = "The sea was calm, naïve and grey. 東京 🙂 ".repeat(12);
    let file = documents(&[&text, "short"]);
    let split = records(&path(&file), |o| o.context_size = Some(16));
    let (model, _) = demo();
    let ids = model.to_tokens(&text, Some(false)).unwrap();
    let n = ids.len().div_ceil(15);
    assert_eq!(split.len(), n + 1);
    let rejoined: Vec<u32> = split[..n].iter().flat_map(|r| r.tokens[1..].to_vec()).collect();
    assert_eq!(rejoined, ids);
    for (i, record) in split.iter().enumerate() {
        assert_eq!((record.tokens[0], record.offsets[0]), (0, 0));
        assert!(record.tokens.len() == 16 || i + 1 >= n, "record {i} is not full");
        let characters = record.text.chars().count();
        assert!(record.offsets.is_sorted() && record.offsets.iter().all(|o| *o < characters));
        // The offset is where the token's text starts, for every token of complete characters.
        for (pos, token) in record.tokens.iter().enumerate().skip(1) {
            let piece = model.to_string(&[*token]).unwrap();
            if !piece.contains('\u{fffd}') {
                let rest: String = record.text.chars().skip(record.offsets[pos]).collect();
                assert!(rest.starts_with(&piece), "{rest:?} does not begin with {piece:?}");
            }
        }
    }
    assert!(text.starts_with(&split[0].text) && text.ends_with(&split[n - 1].text));
    let cut =
        records(&path(&file), |o| (o.context_size, o.long_documents) = (Some(16), LongDocuments::Truncate));
    assert_eq!(cut.len(), 2);
    assert!(cut[0] == split[0] && cut[1] == split[n]);
    let bare = records(&path(&file), |o| (o.context_size, o.prepend_bos) = (Some(16), Some(false)));
    assert_eq!(bare[0].tokens, ids[..16]);
}

#[test]
fn concatenated_documents_fill_contexts() {
    let texts = ["one two three", "", "naïve 🙂 four five six seven", "eight nine ten eleven twelve"];
    let file = documents(&texts);
    let packed = records(&path(&file), |o| (o.context_size, o.packing) = (Some(6), Packing::Concatenate));
    let (model, _) = demo();
    let ids: Vec<u32> = texts.iter().flat_map(|text| model.to_tokens(text, Some(false)).unwrap()).collect();
    assert_eq!(packed.len(), ids.len() / 5);
    for (record, ids) in packed.iter().zip(ids.chunks_exact(5)) {
        assert_eq!(record.tokens[0], 0);
        assert_eq!(record.tokens[1..], *ids);
        for (pos, token) in record.tokens.iter().enumerate().skip(1) {
            let piece = model.to_string(&[*token]).unwrap();
            let rest: String = record.text.chars().skip(record.offsets[pos]).collect();
            assert!(piece.contains('\u{fffd}') || rest.starts_with(&piece), "{rest:?} {piece:?}");
        }
    }
}

#[test]
fn the_summary_and_the_metadata_describe_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("out.jsonl");
    let file = documents(&["a boat", "", "two dogs", "never read"]);
    let options = ExtractOptions {
        dataset_path: path(&file),
        output_path: output.to_string_lossy().into_owned(),
        max_examples: Some(3),
        activation_threshold: 0.1,
        ..Default::default()
    };
    let (model, sae) = demo();
    let reports = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = reports.clone();
    let progress = Progress::default().reporting_to(move |report| seen.lock().unwrap().push(report));
    let summary = create_feature_dataset(&model, &sae, None, &options, &progress).unwrap();
    assert_eq!((summary.documents, summary.documents_skipped, summary.records), (3, 1, 2));
    let reports = reports.lock().unwrap();
    assert!(
        matches!(reports.first(), Some(ProgressEvent::Started { .. }))
            && reports.last() == Some(&ProgressEvent::Finished)
    );
    let last = reports.iter().rev().nth(1).unwrap();
    let counts = vec![("documents", 3), ("tokens", summary.tokens)];
    assert_eq!(*last, ProgressEvent::Advanced { fraction: Some(1.0), counts });

    let meta = std::fs::read_to_string(folder.path().join("out.jsonl.meta.json")).unwrap();
    let meta: serde_json::Value = serde_json::from_str(&meta).unwrap();
    assert_eq!(meta["hook"], "blocks.4.hook_resid_pre");
    assert_eq!(meta["counts"]["documents_skipped"], 1);
    assert_eq!(meta["options"]["activation_threshold"], 0.1);
    assert_eq!(meta["options"]["context_size"], 256);
    assert_eq!(meta["options"]["prepend_bos"], true);
    assert_eq!(meta["sae"]["cfg"]["architecture"], "jumprelu");
    assert_eq!(meta["sha256"], summary.sha256.as_str());
    let written = std::fs::read(&output).unwrap();
    use sha2::Digest;
    let hash: String = sha2::Sha256::digest(&written).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hash, summary.sha256);
    let total: usize = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(total, 2, "there is another file beside the output");
    let records: Vec<_> = read_records(&output).unwrap().collect::<Result<_>>().unwrap();
    let active: usize = records.iter().flat_map(|r| r.active_features.iter().skip(1)).map(Vec::len).sum();
    let after_bos = summary.tokens - summary.records;
    assert!((summary.mean_l0 - active as f64 / after_bos as f64).abs() < 1e-12);
}

#[test]
fn a_dataset_value_can_replace_the_path() {
    let folder = tempfile::tempdir().unwrap();
    let output_path = folder.path().join("out.jsonl").to_string_lossy().into_owned();
    let dataset = Dataset::open(&fixture("datasets/csv/docs.csv")).unwrap();
    let options = ExtractOptions { output_path, max_examples: Some(4), ..Default::default() };
    let (model, sae) = demo();
    let summary =
        create_feature_dataset(&model, &sae, Some(&dataset), &options, &Progress::default()).unwrap();
    assert_eq!(summary.documents, 4);
}

#[test]
fn the_split_is_recorded_in_the_metadata() {
    let folder = tempfile::tempdir().unwrap();
    let output_path = folder.path().join("out.jsonl").to_string_lossy().into_owned();
    let options = ExtractOptions {
        dataset_path: fixture("datasets/hub/configs"),
        config: Some("prose".to_owned()),
        output_path: output_path.clone(),
        ..Default::default()
    };
    let (model, sae) = demo();
    assert_eq!(run(&model, &sae, &options).unwrap().documents, 12);
    let meta = std::fs::read(format!("{output_path}.meta.json")).unwrap();
    let meta: serde_json::Value = serde_json::from_slice(&meta).unwrap();
    let dataset = &meta["dataset"];
    assert_eq!((&dataset["config"], &dataset["split"]), (&"prose".into(), &"train".into()));
    assert!(dataset["revision"].is_null());
    assert_eq!(meta["options"]["split"], "train");

    let dataset = Dataset::open("demo").unwrap();
    let options = ExtractOptions { output_path, split: Some("train".to_owned()), ..Default::default() };
    let error =
        create_feature_dataset(&model, &sae, Some(&dataset), &options, &Progress::default()).unwrap_err();
    assert!(error.to_string().contains("`split`"), "{error}");
}

#[test]
fn every_format_gives_the_same_records() {
    let expected = records(&fixture("datasets/plain/docs.jsonl"), |_| ());
    for name in ["gzip/docs.jsonl.gz", "zstd_frames/docs.jsonl.zst", "json_array/docs.json", "parquet_zstd"] {
        assert!(records(&fixture(&format!("datasets/{name}")), |_| ()) == expected, "{name}");
    }
}
