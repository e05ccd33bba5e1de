//! Trees of many features: the contents of the file, also after runs that were stopped and resumed.

use super::trees::{assert_equal, demo};
use crate::util::{fixture, noise};
use saescope::{
    DefinitionTree, Error, FeatureWeights, Model, Progress, Report, Result, Sae, SaeOptions, Scales, Steer,
    TreeNode, TreeOptions, TreesOptions, TreesSummary, VectorOptions, definition_tree, definition_trees,
    feature_vector, read_trees, scale_sweep,
};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const FEATURES: [usize; 5] = [624, 3, 700, 1663, 9];

struct Run {
    model: Model,
    sae: Sae,
    folder: TempDir,
    options: TreesOptions,
}

impl Run {
    fn new() -> Self {
        let (model, sae) = demo("blocks.0.hook_resid_pre");
        let folder = tempfile::tempdir().unwrap();
        let options = TreesOptions {
            output_path: folder.path().join("trees.jsonl").to_string_lossy().into_owned(),
            batch_size: 2,
            tree: TreeOptions { cutoff: 1e-2, max_depth: 6, ..Default::default() },
            ..Default::default()
        };
        Run { model, sae, folder, options }
    }

    fn with(&self, change: impl FnOnce(&mut TreesOptions)) -> TreesOptions {
        let mut options = self.options.clone();
        change(&mut options);
        options
    }

    fn grow(&self, features: &[usize], options: &TreesOptions) -> Result<TreesSummary> {
        definition_trees(&self.model, &self.sae, features, options, &Progress::default())
    }

    /// Starts a run and cancels it after its first batch.
    fn stop_after_a_batch(&self, features: &[usize], options: &TreesOptions) {
        let progress = Progress::default();
        let flag = progress.clone();
        let progress = progress.reporting_to(move |report| {
            if matches!(report, Report::Grown { .. }) {
                flag.cancel();
            }
        });
        let stopped = definition_trees(&self.model, &self.sae, features, options, &progress);
        assert!(matches!(stopped, Err(Error::Interrupted)), "{stopped:?}");
    }

    fn path(&self) -> PathBuf {
        PathBuf::from(&self.options.output_path)
    }

    fn partial(&self) -> PathBuf {
        PathBuf::from(format!("{}.partial", self.options.output_path))
    }

    fn text(&self) -> String {
        std::fs::read_to_string(self.path()).unwrap()
    }

    fn failure<T: std::fmt::Debug>(&self, result: Result<T>) -> String {
        let error = result.unwrap_err();
        let text = format!("{error}\nhint: {}", error.hint().unwrap_or_default()).trim_end().to_owned();
        text.replace(&fixture(""), "").replace(&*self.folder.path().to_string_lossy(), "FOLDER")
    }
}

fn trees(path: &Path) -> Vec<DefinitionTree> {
    read_trees(path).unwrap().collect::<Result<_>>().unwrap()
}

fn features(path: &Path) -> Vec<usize> {
    trees(path).iter().map(|tree| tree.params.vector.feature.unwrap()).collect()
}

#[test]
fn each_line_is_the_tree_of_its_feature_at_any_batch_size() {
    let run = Run::new();
    let summary = run.grow(&FEATURES, &run.options).unwrap();
    let text = run.text();
    let grown = trees(&run.path());
    assert_eq!((summary.trees, summary.kept), (5, 0));
    assert_eq!(summary.nodes, grown.iter().map(|tree| tree.len() as u64).sum::<u64>());
    assert!(grown.iter().any(|tree| tree.depth() > 2), "the trees are too small for this test");
    for (tree, feature) in grown.iter().zip(FEATURES) {
        let vector = feature_vector(&run.model, &run.sae, feature, &VectorOptions::default()).unwrap();
        let mut alone =
            definition_tree(&run.model, &vector, &run.options.tree, &Progress::default()).unwrap();
        alone.params.fingerprints.clone_from(&tree.params.fingerprints);
        assert!(alone.params.fingerprints.is_some());
        assert_equal("alone", &tree.root, &alone.root);
        assert_eq!(*tree, alone);
    }
    for batch_size in [1, 5] {
        run.grow(&FEATURES, &run.with(|o| (o.batch_size, o.resume) = (batch_size, false))).unwrap();
        assert!(run.text() == text, "batches of {batch_size}");
    }
    // A different batch size does not start a new file.
    let summary = run.grow(&FEATURES, &run.with(|o| o.batch_size = 32)).unwrap();
    assert_eq!((summary.trees, summary.kept), (0, 5));
    assert!(run.text() == text);
}

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
    assert!(definition_trees(&run.model, &run.sae, &FEATURES, &run.options, &progress).is_err());
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
        let sae = Sae::load(&folder.to_string_lossy(), None, sae).unwrap();
        definition_trees(&model, &sae, &[0, 1], &options, &Progress::default())
    };
    grow("demo", &SaeOptions::default()).unwrap();
    let text = std::fs::read_to_string(&options.output_path).unwrap();
    let refused = |result: Result<TreesSummary>| {
        let error = run.failure(result);
        assert!(error.contains("of another model or SAE, or of these with other weights"), "{error}");
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
    let sae = Sae::load(&renamed.to_string_lossy(), None, &SaeOptions::default()).unwrap();
    let summary = definition_trees(&run.model, &sae, &[0, 1], &options, &Progress::default()).unwrap();
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
    let changes: [&dyn Fn(&mut TreesOptions); 12] = [
        &|o| o.tree.cutoff = 2e-2,
        &|o| o.tree.prompt = "meaning".to_owned(),
        &|o| o.tree.stop = Some(vec![]),
        &|o| o.tree.prepend_bos = Some(!run.model.cfg().default_prepend_bos),
        &|o| o.tree.steer = Some(steer.clone()),
        &|o| o.tree.inject_at = Some("blocks.1.hook_resid_pre".to_owned()),
        &|o| o.tree.inject = saescope::Injection::Add,
        &|o| o.tree.placeholder = Some("a".to_owned()),
        &|o| o.tree.null_directions = Some(1),
        &|o| o.vector.scale = Some(1.0),
        &|o| o.vector.weights = FeatureWeights { encoder: 0.0, decoder: 1.0 },
        &|o| o.scales = Some(Scales::These(vec![1.0, 2.0])),
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
        if matches!(report, Report::Grown { .. }) {
            sender.send(second.failure(second.grow(&[1], &second.options))).unwrap();
        }
    });
    definition_trees(&run.model, &run.sae, &FEATURES, &run.options, &progress).unwrap();
    insta::assert_snapshot!(refusals.recv().unwrap(), @r#"
    another run is writing `FOLDER/trees.jsonl`
    hint: wait for it, or choose another output
    "#);
    assert_eq!(features(&run.path()), FEATURES);
}

#[test]
fn each_feature_is_grown_at_its_best_scale() {
    let run = Run::new();
    let these = Scales::These(vec![2.0, 1.0, 4.0]);
    for scales in [Scales::Auto, these] {
        let options = run.with(|o| (o.scales, o.resume) = (Some(scales.clone()), false));
        run.grow(&[624, 700], &options).unwrap();
        for tree in trees(&run.path()) {
            let feature = tree.params.vector.feature.unwrap();
            let vector = feature_vector(&run.model, &run.sae, feature, &VectorOptions::default()).unwrap();
            let sweep =
                scale_sweep(&run.model, &vector, &scales, &options.tree, &Progress::default()).unwrap();
            assert_eq!(tree.params.vector.scale, sweep.best().params.vector.scale);
            assert_equal("best", &tree.root, &sweep.best().root);
            assert_eq!(tree.params.scales.as_ref(), Some(&scales));
        }
        let again = run.grow(&[624, 700, 3], &TreesOptions { resume: true, ..options.clone() }).unwrap();
        assert_eq!((again.trees, again.kept), (1, 2));
    }
    for other in [None, Some(Scales::These(vec![2.0, 1.0])), Some(Scales::Auto)] {
        assert!(matches!(run.grow(&[3], &run.with(|o| o.scales = other)), Err(Error::Mismatch { .. })));
    }
}

#[test]
fn a_run_first_checks_its_features_options_and_output() {
    let run = Run::new();
    let in_folder = |name: &str| run.folder.path().join(name).to_string_lossy().into_owned();
    std::fs::create_dir(run.folder.path().join("folder")).unwrap();
    let failed = |features: &[usize], change: &dyn Fn(&mut TreesOptions)| {
        run.failure(run.grow(features, &run.with(change)))
    };
    let errors = [
        failed(&[0, 2048], &|_| ()),
        failed(&[], &|_| ()),
        failed(&[0], &|o| o.batch_size = 0),
        failed(&[0], &|o| o.output_path.clear()),
        failed(&[0], &|o| o.output_path = in_folder("folder")),
        failed(&[0], &|o| o.output_path = in_folder("nowhere/trees.jsonl")),
        failed(&[0], &|o| o.tree.cutoff = 0.0),
        failed(&[0], &|o| o.scales = Some(Scales::These(vec![]))),
        failed(&[0], &|o| o.scales = Some(Scales::These(vec![f64::INFINITY]))),
    ];
    insta::assert_snapshot!(errors.join("\n\n"), @r#"
    the feature index: expected 0 to 2047 (d_sae = 2048), got 2048
    hint: features are counted from 0

    the features: expected at least one, got none
    hint:

    `batch_size`: expected at least 1, got 0
    hint:

    `output_path`: expected the name of a file, got none
    hint:

    the output `FOLDER/folder`: expected a new or existing file, got a folder, pipe or device
    hint:

    cannot create `FOLDER/nowhere/trees.jsonl.partial`: No such file or directory (os error 2)
    hint: the folder `FOLDER/nowhere` does not exist: create it first

    `cutoff`: expected a probability above 0 and at most 1, got 0
    hint: less likely nodes are left out; the default is 5e-5, and without a cutoff the tree would not end

    `scale`: expected at least one number, got an empty list
    hint:

    `scale`: expected finite numbers, got inf
    hint:
    "#);
    let left: Vec<_> =
        std::fs::read_dir(run.folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["folder"]);
    let other = Sae::load(&fixture("models/gpt2_text/sae"), None, &SaeOptions::default()).unwrap();
    let refused = definition_trees(&run.model, &other, &[0], &run.options, &Progress::default());
    assert!(matches!(refused, Err(Error::Mismatch { .. })), "{refused:?}");
}

#[test]
fn trees_survive_a_round_trip_through_the_file() {
    let run = Run::new();
    let options = run.with(|o| {
        o.vector.weights = FeatureWeights { encoder: 0.3, decoder: -0.7 };
        o.vector.pca_weights = vec![0.1, -1.0 / 3.0];
        o.tree.cutoff = 0.011;
        o.tree.null_directions = Some(1);
        let direction = run.model.embedding_stats().unwrap().centroid.clone();
        let hook = "blocks.2.hook_resid_post".to_owned();
        o.tree.steer = Some(Steer { hook, coefficient: 0.1 + 0.2, direction: Some(direction) });
    });
    run.grow(&[624, 687], &options).unwrap();
    for tree in trees(&run.path()) {
        let feature = tree.params.vector.feature.unwrap();
        let vector = feature_vector(&run.model, &run.sae, feature, &options.vector).unwrap();
        let mut grown = definition_tree(&run.model, &vector, &options.tree, &Progress::default()).unwrap();
        grown.params.fingerprints.clone_from(&tree.params.fingerprints);
        assert!(tree == grown, "feature {feature}");
        for tree in [grown.clone(), grown.trim(0.1), grown.contrast().unwrap()] {
            let json = serde_json::to_string_pretty(&tree).unwrap();
            assert!(serde_json::from_str::<DefinitionTree>(&json).unwrap() == tree);
        }
    }
    assert_eq!(run.grow(&[624, 687], &options).unwrap().kept, 2);
}

#[test]
fn errors_name_the_broken_line() {
    let run = Run::new();
    run.grow(&[624, 3], &run.options).unwrap();
    let text = run.text();
    let read = |text: &str| {
        std::fs::write(run.path(), text).unwrap();
        let lines: Vec<_> = read_trees(&run.path()).unwrap().collect();
        let intact = lines.iter().filter(|line| line.is_ok()).count();
        (intact, run.failure(lines.into_iter().collect::<Result<Vec<_>>>()))
    };
    let (first, _) = text.split_once('\n').unwrap();
    let errors = [
        read(&format!("{first}\n{{\"a\": 1}}\n{first}\n")),
        read(&text[..text.len() - 20]),
        read(&format!("{first}\n\n")),
    ];
    let errors = errors.map(|(intact, error)| format!("{intact} trees, then {error}"));
    insta::assert_snapshot!(errors.join("\n\n"), @r#"
    1 trees, then `FOLDER/trees.jsonl`, line 2: not a definition tree: missing field `params` at line 1 column 8
    hint:

    1 trees, then `FOLDER/trees.jsonl`, line 2: not a definition tree: EOF while parsing an object at line 1 column 1544
    hint:

    1 trees, then `FOLDER/trees.jsonl`, line 2: not a definition tree: EOF while parsing a value at line 1 column 0
    hint:
    "#);
    // Nesting deeper than any tree is refused before the stack overflows.
    let (params, _) = first.split_once("\"root\":").unwrap();
    let node = r#"{"token":"","token_id":1,"prob":1,"cumulative_prob":1,"children":["#;
    let (intact, error) = read(&format!("{params}\"root\":{}", node.repeat(100_000)));
    assert!(intact == 0 && error.contains("recursion limit"), "{error}");
    assert!(run.failure(read_trees(&run.folder.path().join("nowhere"))).contains("cannot read"));
    // A tree of the maximum depth can be read.
    let mut tree: DefinitionTree = serde_json::from_str(first).unwrap();
    let node = TreeNode { children: Vec::new(), ..tree.root.children[0].clone() };
    tree.root = node.clone();
    for _ in 0..60 {
        tree.root = TreeNode { children: vec![tree.root], ..node.clone() };
    }
    assert_eq!(tree.depth(), 60);
    std::fs::write(run.path(), serde_json::to_string(&tree).unwrap()).unwrap();
    assert!(trees(&run.path()) == [tree]);
}
