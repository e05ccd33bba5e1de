//! Trees of many features: the contents of the file, also after runs that were stopped and resumed.

mod resume;

use super::trees::{assert_equal, demo};
use crate::util::fixture;
use saescope::interpret::{
    DefinitionTree, FeatureWeights, Scales, Steer, TreeNode, TreeOptions, TreesSummary, VectorOptions,
    WriteTreesOptions,
};
use saescope::{
    Error, Model, Progress, ProgressEvent, Result, Sae, definition_tree, feature_vector, read_trees,
    scale_sweep, write_definition_trees,
};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const FEATURES: [usize; 5] = [624, 3, 700, 1663, 9];

struct Run {
    model: Model,
    sae: Sae,
    folder: TempDir,
    options: WriteTreesOptions,
}

impl Run {
    fn new() -> Self {
        let (model, sae) = demo("blocks.0.hook_resid_pre");
        let folder = tempfile::tempdir().unwrap();
        let options = WriteTreesOptions {
            output_path: folder.path().join("trees.jsonl").to_string_lossy().into_owned(),
            batch_size: 2,
            tree: TreeOptions { cutoff: 1e-2, max_depth: 6, ..Default::default() },
            ..Default::default()
        };
        Run { model, sae, folder, options }
    }

    fn with(&self, change: impl FnOnce(&mut WriteTreesOptions)) -> WriteTreesOptions {
        let mut options = self.options.clone();
        change(&mut options);
        options
    }

    fn grow(&self, features: &[usize], options: &WriteTreesOptions) -> Result<TreesSummary> {
        write_definition_trees(&self.model, &self.sae, features, options, &Progress::default())
    }

    /// Starts a run and cancels it after its first batch.
    fn stop_after_a_batch(&self, features: &[usize], options: &WriteTreesOptions) {
        let progress = Progress::default();
        let flag = progress.clone();
        let progress = progress.reporting_to(move |report| {
            if matches!(report, ProgressEvent::Advanced { fraction: Some(_), .. }) {
                flag.cancel();
            }
        });
        let stopped = write_definition_trees(&self.model, &self.sae, features, options, &progress);
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
fn each_feature_is_grown_at_its_best_scale() {
    let run = Run::new();
    let these = Scales::Given(vec![2.0, 1.0, 4.0]);
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
        let again = run.grow(&[624, 700, 3], &WriteTreesOptions { resume: true, ..options.clone() }).unwrap();
        assert_eq!((again.trees, again.kept), (1, 2));
    }
    for other in [None, Some(Scales::Given(vec![2.0, 1.0])), Some(Scales::Auto)] {
        assert!(matches!(run.grow(&[3], &run.with(|o| o.scales = other)), Err(Error::Mismatch { .. })));
    }
}

#[test]
fn a_run_first_checks_its_features_options_and_output() {
    let run = Run::new();
    let in_folder = |name: &str| run.folder.path().join(name).to_string_lossy().into_owned();
    std::fs::create_dir(run.folder.path().join("folder")).unwrap();
    let failed = |features: &[usize], change: &dyn Fn(&mut WriteTreesOptions)| {
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
        failed(&[0], &|o| o.scales = Some(Scales::Given(vec![]))),
        failed(&[0], &|o| o.scales = Some(Scales::Given(vec![f64::INFINITY]))),
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
    let other = Sae::load(&fixture("models/gpt2_text/sae")).unwrap();
    let refused = write_definition_trees(&run.model, &other, &[0], &run.options, &Progress::default());
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
