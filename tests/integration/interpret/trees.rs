//! Definition trees, compared with the reference implementation and with depth-first search.

use super::characters;
use super::depth_first::depth_first;
use crate::families::FAMILIES;
use crate::util::{fixture, tests_path};
use saescope::interpret::{FeatureVector, FeatureWeights, PROMPTS, TreeNode, TreeOptions, VectorOptions};
use saescope::{Model, Progress, Sae, definition_tree, definition_trees, feature_vector, ghost_token};
use serde_json::Value;
use std::path::Path;

fn run() -> Progress {
    Progress::default()
}

/// The arguments of the reference implementation, and its tree.
struct Reference {
    feature: usize,
    vector: VectorOptions,
    tree: TreeOptions,
    root: TreeNode,
}

impl Reference {
    fn read(path: &Path) -> Self {
        let json: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let params = &json["params"];
        let number = |key: &str| params[key].as_f64().unwrap();
        assert_eq!(params["stop"], "");
        let integer = |key: &str| params[key].as_u64().unwrap() as usize;
        Reference {
            feature: integer("feature"),
            vector: VectorOptions {
                weights: FeatureWeights { encoder: number("encoder"), decoder: number("decoder") },
                pca_weights: serde_json::from_value(params["pca"].clone()).unwrap(),
                use_token_centroid: !params["no_centroid"].as_bool().unwrap(),
                scale: Some(number("scale")),
                renormalize: false,
            },
            tree: TreeOptions {
                prompt: params["prompt"].as_str().unwrap().to_owned(),
                top_k: integer("top_k"),
                cutoff: number("cutoff"),
                max_depth: integer("max_depth"),
                stop: Some(Vec::new()),
                ..Default::default()
            },
            root: serde_json::from_value(json["root"].clone()).unwrap(),
        }
    }

    fn check(&self, model: &Model, sae: &Sae) {
        let vector = feature_vector(model, sae, self.feature, &self.vector).unwrap();
        let tree = definition_tree(model, &vector, &self.tree, &run()).unwrap();
        assert_same("", &tree.root, &self.root, 1e-4);
        // The default scale equals the reference's.
        let default = VectorOptions { scale: None, ..self.vector.clone() };
        let scale = feature_vector(model, sae, self.feature, &default).unwrap().params.scale;
        assert!((scale / model.embedding_stats().unwrap().mean_distance - 1.0).abs() < 1e-12);
    }
}

/// Fails unless two trees have the same nodes in the same order with nearly the same probabilities.
#[track_caller]
pub fn assert_same(path: &str, got: &TreeNode, expected: &TreeNode, relative: f64) {
    // For an id that the tokenizer lacks, the reference shows the token that its tokenizer class would add there.
    let text = if got.token.starts_with("<id ") { &got.token } else { &expected.token };
    assert_eq!((&got.token, got.token_id), (text, expected.token_id), "after {path:?}");
    for (got, expected) in [(got.prob, expected.prob), (got.cumulative_prob, expected.cumulative_prob)] {
        assert!((got / expected - 1.0).abs() < relative, "{path:?}: {got} rather than {expected}");
    }
    let tokens = |node: &TreeNode| {
        node.children
            .iter()
            .map(|c| (c.token.clone(), c.token_id, c.cumulative_prob as f32))
            .collect::<Vec<_>>()
    };
    let path = format!("{path}{}", got.token);
    let ids = |node: &TreeNode| node.children.iter().map(|c| c.token_id).collect::<Vec<_>>();
    assert!(
        ids(got) == ids(expected),
        "after {path:?}: {:?} rather than {:?}",
        tokens(got),
        tokens(expected)
    );
    for (got, expected) in got.children.iter().zip(&expected.children) {
        assert_same(&path, got, expected, relative);
    }
}

/// Fails unless two trees are equal to the last bit, without printing either.
#[track_caller]
pub fn assert_equal(path: &str, got: &TreeNode, expected: &TreeNode) {
    let own = |node: &TreeNode| {
        (node.token_id, node.prob, node.cumulative_prob, node.null_log_prob, node.children.len())
    };
    assert_eq!(own(got), own(expected), "at {path:?}");
    for (got, expected) in got.children.iter().zip(&expected.children) {
        assert_equal(&format!("{path}{}", got.token), got, expected);
    }
}

pub fn text_model(name: &str) -> (Model, Sae) {
    let folder = fixture(&format!("models/{name}"));
    let sae = Sae::load(&format!("{folder}/sae")).unwrap();
    (Model::load(&folder).unwrap(), sae)
}

pub fn demo(sae_id: &str) -> (Model, Sae) {
    (Model::load("demo").unwrap(), Sae::load(("demo", sae_id)).unwrap())
}

pub fn early_feature(index: usize) -> (Model, FeatureVector) {
    let (model, sae) = demo("blocks.0.hook_resid_pre");
    let vector = feature_vector(&model, &sae, index, &VectorOptions::default()).unwrap();
    (model, vector)
}

#[test]
fn trees_agree_with_the_reference() {
    for name in ["gpt2_text", "gemma_text"] {
        let (model, sae) = text_model(name);
        for tree in ["tree_encoder", "tree_decoder_pca", "tree_no_centroid"] {
            let path = fixture(&format!("models/{name}/{tree}.json"));
            Reference::read(Path::new(&path)).check(&model, &sae);
        }
    }
    for (sae_id, tree) in [
        ("blocks.0.hook_resid_pre", "tree_encoder_624"),
        ("blocks.4.hook_resid_pre", "tree_decoder_700"),
        ("blocks.0.hook_resid_pre", "tree_mixed_687"),
    ] {
        let (model, sae) = demo(sae_id);
        Reference::read(&tests_path(&format!("golden/{tree}.json"))).check(&model, &sae);
    }
}

/// A family's fixture with a tokenizer of single characters.
fn with_characters(family: &str, folder: &Path) -> Model {
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(fixture(&format!("models/{family}/{file}")), folder.join(file)).unwrap();
    }
    characters::write_tokenizer(folder);
    Model::load(&folder.to_string_lossy()).unwrap()
}

#[test]
fn trees_equal_depth_first_search_in_every_family() {
    for family in FAMILIES {
        let folder = tempfile::tempdir().unwrap();
        let model = with_characters(family, folder.path());
        let direction = crate::util::noise(&[model.cfg().d_model], 7);
        let vector = ghost_token(&model, &direction, &VectorOptions::default()).unwrap();
        let options = TreeOptions {
            prompt: "To \"{}\" is to \"".to_owned(),
            top_k: 6,
            cutoff: 1.3e-4,
            max_depth: 12,
            stop: Some(vec!["\"".to_owned()]),
            ..Default::default()
        };
        let tree = definition_tree(&model, &vector, &options, &run()).unwrap();
        assert!(tree.len() > 30, "{family}: {} nodes", tree.len());
        assert_same(family, &tree.root, &depth_first(&model, &vector, &options), 2e-4);
    }
}

#[test]
fn trees_equal_depth_first_search_with_the_demo_model() {
    let (model, vector) = early_feature(624);
    let stop = Some(vec!["\"".to_owned()]);
    let options = TreeOptions { prompt: PROMPTS[0].1.to_owned(), cutoff: 2e-3, stop, ..Default::default() };
    let tree = definition_tree(&model, &vector, &options, &run()).unwrap();
    assert_same("", &tree.root, &depth_first(&model, &vector, &options), 1e-4);
}

/// The memory limit and the other trees of a batch change only the speed.
#[test]
fn trees_do_not_depend_on_batch_and_memory() {
    let (model, sae) = demo("blocks.4.hook_resid_pre");
    let vectors: Vec<_> = [700, 3, 1663]
        .into_iter()
        .map(|feature| feature_vector(&model, &sae, feature, &VectorOptions::default()).unwrap())
        .collect();
    let options = TreeOptions { cutoff: 1e-3, null_directions: Some(1), ..Default::default() };
    let together = definition_trees(&model, &vectors, &options, &run()).unwrap();
    let little = TreeOptions { max_memory: 1, ..options.clone() };
    for (vector, tree) in vectors.iter().zip(&together) {
        assert_equal("alone", &definition_tree(&model, vector, &options, &run()).unwrap().root, &tree.root);
        assert_equal(
            "alone, little",
            &definition_tree(&model, vector, &little, &run()).unwrap().root,
            &tree.root,
        );
    }
    for (little, tree) in definition_trees(&model, &vectors, &little, &run()).unwrap().iter().zip(&together) {
        assert_equal("little", &little.root, &tree.root);
    }
}
