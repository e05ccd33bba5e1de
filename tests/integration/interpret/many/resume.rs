//! Runs that find a file: resuming, extending and merging it, or leaving it unchanged.

use super::{FEATURES, Run, features, trees};
use crate::util::noise;
use saescope::interpret::{FeatureWeights, Scales, Steer, TreesSummary, WriteTreesOptions};
use saescope::sae::SaeOptions;
use saescope::{Error, Model, Progress, ProgressEvent, Result, Sae, write_definition_trees};
use std::path::Path;

#[test]
fn a_stopped_run_resumes() {
    let run = Run::new();
    run.grow(&FEATURES, &run.options).unwrap();
    let text = run.text();
    std::fs::remove_file(run.path()).unwrap();

    run.stop_after_a_batch(&FEATURES, &run.options);
    assert!(!run.path().exists());
    assert_eq!(features(&run.partial()), FEATURES[..2]);
    // The partial file may be cut anywhere.
    let left = std::fs::read(run.partial()).unwrap();
    let first_line = left.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for cut in [left.len(), left.len() - 1, left.len() - 40, first_line + 1, first_line, 7] {
        std::fs::write(run.partial(), &left[..cut]).unwrap();
        let summary = run.grow(&FEATURES, &run.options).unwrap();
        let kept = left[..cut].iter().filter(|byte| **byte == b'\n').count() as u64;
        assert_eq!((summary.trees, summary.kept), (5 - kept, kept), "{cut} bytes left");
        assert!(run.text() == text, "{cut} bytes left");
        assert!(!run.partial().exists());
        std::fs::remove_file(run.path()).unwrap();
    }
    // A run that is canceled before its first tree leaves no file.
    let progress = Progress::default();
    progress.cancel();
    assert!(write_definition_trees(&run.model, &run.sae, &FEATURES, &run.options, &progress).is_err());
    assert_eq!(std::fs::read_dir(run.folder.path()).unwrap().count(), 0);
}

#[test]
fn a_finished_file_can_be_extended() {
    let run = Run::new();
    run.grow(&[624, 3, 624, 3], &run.options).unwrap();
    assert_eq!(features(&run.path()), [624, 3]);
    let before = run.text();
    let summary = run.grow(&[9, 3, 700, 9], &run.options).unwrap();
    assert_eq!((summary.trees, summary.kept), (2, 1));
    assert_eq!(features(&run.path()), [624, 3, 9, 700]);
    assert!(run.text().starts_with(&before));

    // A stopped run leaves the finished file unchanged, and the next run completes the partial file beside it.
    let before = run.text();
    run.stop_after_a_batch(&[1, 2, 4, 5], &run.options);
    assert!(run.text() == before);
    let summary = run.grow(&[1, 2, 4, 5], &run.options).unwrap();
    assert_eq!((summary.trees, summary.kept), (2, 2));
    assert_eq!(features(&run.path()), [624, 3, 9, 700, 1, 2, 4, 5]);

    run.grow(&[3], &run.with(|o| o.resume = false)).unwrap();
    assert_eq!(features(&run.path()), [3]);
    // The partial file of another run does not prevent a fresh start.
    run.stop_after_a_batch(&[1, 2, 4, 5], &run.options);
    run.grow(&[9], &run.with(|o| o.resume = false)).unwrap();
    assert_eq!(features(&run.path()), [9]);
}

/// A run that finds a finished file and the partial file of a fresh start merges them, and loses no finished tree.
#[test]
fn resuming_merges_the_finished_and_the_partial_file() {
    let run = Run::new();
    run.grow(&[624, 3, 9], &run.options).unwrap();
    let finished = run.text();
    // Feature 3 is in both files.
    run.stop_after_a_batch(&[700, 3, 1663, 1], &run.with(|o| o.resume = false));
    assert!(run.text() == finished);
    assert_eq!(features(&run.partial()), [700, 3]);
    let summary = run.grow(&[1], &run.options).unwrap();
    assert_eq!((summary.trees, summary.kept), (1, 0));
    assert_eq!(features(&run.path()), [700, 3, 624, 9, 1]);
    assert!(finished.lines().all(|line| run.text().contains(line)));

    // If the two were grown with different options, both are kept.
    let finished = run.text();
    run.stop_after_a_batch(&[2, 4, 5, 6], &run.with(|o| (o.resume, o.tree.top_k) = (false, 2)));
    let left = std::fs::read(run.partial()).unwrap();
    insta::assert_snapshot!(run.failure(run.grow(&[1], &run.options)), @r#"
    `FOLDER/trees.jsonl.partial` has trees that were grown with other options
    hint: remove it to resume from `FOLDER/trees.jsonl`, or choose another `output_path`
    "#);
    insta::assert_snapshot!(run.failure(run.grow(&[1], &run.with(|o| o.tree.top_k = 2))), @r#"
    `FOLDER/trees.jsonl` has trees that were grown with other options
    hint: move it away to resume with `FOLDER/trees.jsonl.partial`, or choose another `output_path`
    "#);
    assert!(run.text() == finished && std::fs::read(run.partial()).unwrap() == left);
    // The hint's advice works.
    std::fs::rename(run.path(), run.folder.path().join("old.jsonl")).unwrap();
    run.grow(&[2, 4, 5], &run.with(|o| o.tree.top_k = 2)).unwrap();
    assert_eq!(features(&run.path()), [2, 4, 5]);
}

/// SAEs are compared by their weights, not by their names.
#[test]
fn a_run_does_not_mix_trees_of_different_weights() {
    let run = Run::new();
    let folder = run.folder.path().join("sae");
    let save = |seed: u64, b_dec: f64| {
        let tensor = |name: &str, shape: &[usize], seed| (name.to_owned(), noise(shape, seed));
        let tensors = [
            tensor("W_enc", &[192, 8], seed),
            tensor("W_dec", &[8, 192], seed + 1),
            tensor("b_enc", &[8], 9),
            ("b_dec".to_owned(), (noise(&[192], 9) + b_dec).unwrap()),
        ];
        std::fs::create_dir_all(&folder).unwrap();
        let tensors = std::collections::HashMap::from(tensors);
        candle_core::safetensors::save(&tensors, folder.join("sae_weights.safetensors")).unwrap();
    };
    let cfg = r#"{"architecture":"standard","d_in":192,"d_sae":8,"dtype":"float32",
        "hook_name":"blocks.0.hook_resid_pre","normalize_activations":"none","apply_b_dec_to_input":true}"#;
    save(1, 0.0);
    std::fs::write(folder.join("cfg.json"), cfg).unwrap();
    let options =
        run.with(|o| o.output_path = run.folder.path().join("t.jsonl").to_string_lossy().into_owned());
    let grow = |model: &str, sae: &SaeOptions| {
        let model = Model::load(model).unwrap();
        let sae = Sae::load_with(&folder.to_string_lossy(), sae, &Progress::default()).unwrap();
        write_definition_trees(&model, &sae, &[0, 1], &options, &Progress::default())
    };
    grow("demo", &SaeOptions::default()).unwrap();
    let text = std::fs::read_to_string(&options.output_path).unwrap();
    let refused = |result: Result<TreesSummary>| {
        let error = run.failure(result);
        assert!(error.contains("of another model or SAE, or of the same ones with other weights"), "{error}");
        assert!(std::fs::read_to_string(&options.output_path).unwrap() == text);
    };
    // Other weights, another bias, other options.
    save(3, 0.0);
    refused(grow("demo", &SaeOptions::default()));
    save(1, 1e-3);
    refused(grow("demo", &SaeOptions::default()));
    save(1, 0.0);
    let summary = grow("demo", &SaeOptions::default()).unwrap();
    assert_eq!((summary.trees, summary.kept), (0, 2));
    refused(grow("demo", &SaeOptions { fold_decoder_norm: Some(true), ..Default::default() }));
    // The same SAE under another name is accepted.
    let renamed = run.folder.path().join("renamed");
    std::fs::rename(&folder, &renamed).unwrap();
    let sae = Sae::load(&renamed.to_string_lossy()).unwrap();
    let summary = write_definition_trees(&run.model, &sae, &[0, 1], &options, &Progress::default()).unwrap();
    assert_eq!((summary.trees, summary.kept), (0, 2));
    std::fs::rename(&renamed, &folder).unwrap();
    // A finished file without its last line break, with and without a partial file beside it.
    let second = text.find('\n').unwrap() + 1;
    for left in [None, Some(&text[..second]), Some(&text[second..])] {
        std::fs::write(&options.output_path, text.trim_end()).unwrap();
        if let Some(left) = left {
            std::fs::write(format!("{}.partial", options.output_path), left).unwrap();
        }
        assert_eq!(grow("demo", &SaeOptions::default()).unwrap().kept, 2);
        let mut kept = features(Path::new(&options.output_path));
        kept.sort();
        assert_eq!(kept, [0, 1]);
    }
    std::fs::write(&options.output_path, &text).unwrap();
    // A file without fingerprints.
    let silent: Vec<String> = trees(Path::new(&options.output_path))
        .into_iter()
        .map(|mut tree| {
            tree.params.fingerprints = None;
            serde_json::to_string(&tree).unwrap() + "\n"
        })
        .collect();
    std::fs::write(&options.output_path, silent.concat()).unwrap();
    let error = run.failure(grow("demo", &SaeOptions::default()));
    assert!(error.contains("do not say which weights"), "{error}");
}

/// A change to any file of a model changes its fingerprint.
#[test]
fn a_fingerprint_depends_on_every_file_of_the_model() {
    let folder = tempfile::tempdir().unwrap();
    let assets = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo/model");
    let copy = |name: &str| std::fs::copy(assets.join(name), folder.path().join(name)).map(drop).unwrap();
    let names = ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"];
    names.iter().for_each(|name| copy(name));
    let fingerprint = || {
        let model = Model::load(&folder.path().to_string_lossy()).unwrap();
        model.fingerprint(&Progress::default()).unwrap()
    };
    let first = fingerprint();
    assert!(first == fingerprint() && first.len() == 64);
    for (name, from, to) in [
        ("config.json", "\"layer_norm_epsilon\": 1e-05", "\"layer_norm_epsilon\": 1e-04"),
        ("tokenizer.json", "\"fuse_unk\": false", "\"fuse_unk\": true"),
    ] {
        let text = std::fs::read_to_string(assets.join(name)).unwrap();
        let changed = text.replace(from, to);
        assert!(text != changed, "{name}");
        std::fs::write(folder.path().join(name), changed).unwrap();
        assert!(fingerprint() != first, "{name}");
        copy(name);
    }
    let path = folder.path().join("model.safetensors");
    let mut weights = std::fs::read(&path).unwrap();
    *weights.last_mut().unwrap() ^= 1;
    std::fs::write(&path, weights).unwrap();
    assert!(fingerprint() != first);
    copy("model.safetensors");
    assert!(fingerprint() == first);
    let progress = Progress::default();
    progress.cancel();
    assert!(Model::load("demo").unwrap().fingerprint(&progress).unwrap_err().is_interrupted());
}

#[test]
fn a_file_grown_with_other_options_is_left_unchanged() {
    let run = Run::new();
    run.grow(&[624, 3], &run.options).unwrap();
    let text = run.text();
    insta::assert_snapshot!(run.failure(run.grow(&[624], &run.with(|o| o.tree.top_k = 2))), @r#"
    `FOLDER/trees.jsonl` has trees that were grown with other options
    hint: choose another `output_path`, or start over with `resume: false`
    "#);
    let steer = Steer { hook: "blocks.1.hook_resid_pre".to_owned(), coefficient: 1.0, direction: None };
    let changes: [&dyn Fn(&mut WriteTreesOptions); 12] = [
        &|o| o.tree.cutoff = 2e-2,
        &|o| o.tree.prompt = "meaning".to_owned(),
        &|o| o.tree.stop = Some(vec![]),
        &|o| o.tree.prepend_bos = Some(!run.model.cfg().default_prepend_bos),
        &|o| o.tree.steer = Some(steer.clone()),
        &|o| o.tree.inject_at = Some("blocks.1.hook_resid_pre".to_owned()),
        &|o| o.tree.inject = saescope::interpret::Injection::Add,
        &|o| o.tree.placeholder = Some("a".to_owned()),
        &|o| o.tree.null_directions = Some(1),
        &|o| o.vector.scale = Some(1.0),
        &|o| o.vector.weights = FeatureWeights { encoder: 0.0, decoder: 1.0 },
        &|o| o.scales = Some(Scales::Given(vec![1.0, 2.0])),
    ];
    for (i, change) in changes.into_iter().enumerate() {
        let refused = run.grow(&[624], &run.with(change));
        assert!(matches!(refused, Err(Error::Mismatch { .. })), "change {i}: {refused:?}");
        assert!(run.text() == text, "change {i}");
        assert!(!run.partial().exists(), "change {i}");
    }
    // The partial file of another run is kept too.
    run.stop_after_a_batch(&[1, 2, 4, 5], &run.options);
    let left = std::fs::read(run.partial()).unwrap();
    assert!(run.grow(&[624], &run.with(|o| o.tree.top_k = 2)).is_err());
    assert!(run.grow(&[624], &run.with(|o| o.tree.top_k = 0)).is_err());
    assert!(run.grow(&[624], &run.with(|o| (o.resume, o.tree.cutoff) = (false, 0.0))).is_err());
    assert!(std::fs::read(run.partial()).unwrap() == left);
    assert!(run.text() == text);
}

#[test]
fn a_file_of_another_program_is_left_unchanged() {
    let run = Run::new();
    for text in ["{\"a\": 1}\n", "{\"a\": 1}", "my diary\n", "my diary", "\u{0}\u{0}\u{0}"] {
        std::fs::write(run.path(), text).unwrap();
        let refused = run.failure(run.grow(&[624], &run.options));
        assert!(refused.contains("line 1") && refused.contains("resume: false"), "{text:?}: {refused}");
        assert_eq!(run.text(), text);
        assert!(!run.partial().exists());
    }
    // An editor may have removed the last line break from our own file.
    std::fs::remove_file(run.path()).unwrap();
    run.grow(&[624, 3], &run.options).unwrap();
    let text = run.text();
    std::fs::write(run.path(), text.trim_end()).unwrap();
    run.grow(&[624, 3], &run.options).unwrap();
    assert!(run.text() == text);
}

#[test]
fn two_runs_cannot_write_the_same_file() {
    let run = Run::new();
    let run = std::sync::Arc::new(run);
    let (sender, refusals) = std::sync::mpsc::channel();
    let second = run.clone();
    let progress = Progress::default().reporting_to(move |report| {
        if matches!(report, ProgressEvent::Advanced { fraction: Some(_), .. }) {
            sender.send(second.failure(second.grow(&[1], &second.options))).unwrap();
        }
    });
    write_definition_trees(&run.model, &run.sae, &FEATURES, &run.options, &progress).unwrap();
    insta::assert_snapshot!(refusals.recv().unwrap(), @r#"
    another run is writing `FOLDER/trees.jsonl`
    hint: wait for it, or choose another output
    "#);
    assert_eq!(features(&run.path()), FEATURES);
}
