//! Definition trees: against the reference's, against depth-first search, and what their options do.

use crate::families::FAMILIES;
use crate::util::{fixture, tests_path};
use saescope::{
    Edits, FeatureVector, FeatureWeights, HookName, HookPoint, Model, PROMPTS, Progress, Sae, SaeOptions,
    TreeNode, TreeOptions, VectorOptions, definition_tree, feature_vector, ghost_token, grow_trees,
};
use serde_json::Value;
use std::path::Path;

fn run() -> Progress {
    Progress::default()
}

/// What the reference was called with, and the tree that it made.
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
        let whole = |key: &str| params[key].as_u64().unwrap() as usize;
        Reference {
            feature: whole("feature"),
            vector: VectorOptions {
                weights: FeatureWeights { encoder: number("encoder"), decoder: number("decoder") },
                pca_weights: serde_json::from_value(params["pca"].clone()).unwrap(),
                use_token_centroid: !params["no_centroid"].as_bool().unwrap(),
                scale: Some(number("scale")),
                renormalize: false,
            },
            tree: TreeOptions {
                prompt: params["prompt"].as_str().unwrap().to_owned(),
                top_k: whole("top_k"),
                cutoff: number("cutoff"),
                max_depth: whole("max_depth"),
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
        // The default scale is the reference's too.
        let default = VectorOptions { scale: None, ..self.vector.clone() };
        let scale = feature_vector(model, sae, self.feature, &default).unwrap().params.scale;
        assert!((scale / model.embedding_stats().unwrap().mean_distance - 1.0).abs() < 1e-12);
    }
}

/// Fails unless two trees have the same nodes in the same order with nearly the same probabilities.
#[track_caller]
fn assert_same(path: &str, got: &TreeNode, expected: &TreeNode, relative: f64) {
    // Of an id that its tokenizer has not, the reference makes what its class of tokenizers would add there.
    let text = if got.token.starts_with("<id ") { &got.token } else { &expected.token };
    assert_eq!((&got.token, got.token_id), (text, expected.token_id), "behind {path:?}");
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
        "behind {path:?}: {:?} rather than {:?}",
        tokens(got),
        tokens(expected)
    );
    for (got, expected) in got.children.iter().zip(&expected.children) {
        assert_same(&path, got, expected, relative);
    }
}

/// Fails unless two trees are equal to the last bit, without printing either.
#[track_caller]
fn assert_equal(path: &str, got: &TreeNode, expected: &TreeNode) {
    let own = |node: &TreeNode| {
        (node.token_id, node.prob, node.cumulative_prob, node.null_log_prob, node.children.len())
    };
    assert_eq!(own(got), own(expected), "at {path:?}");
    for (got, expected) in got.children.iter().zip(&expected.children) {
        assert_equal(&format!("{path}{}", got.token), got, expected);
    }
}

/// The reference's algorithm: one whole pass over prompt and definition for each node.
struct DepthFirst<'a> {
    model: &'a Model,
    vector: &'a FeatureVector,
    before: Vec<u32>,
    after: Vec<u32>,
    options: &'a TreeOptions,
}

impl DepthFirst<'_> {
    fn expand(&self, definition: &[u32], cumulative_prob: f64) -> Vec<TreeNode> {
        if definition.len() >= self.options.max_depth {
            return Vec::new();
        }
        let tokens = [&self.before, &[0][..], &self.after, definition].concat();
        let edits = Edits::new().with(HookName::global(HookPoint::Embed), |embed| {
            let ghost = candle_core::Tensor::new(self.vector.vector.as_slice(), embed.device())?;
            let ghost = (ghost * self.model.cfg().embed_scale)?.unsqueeze(0)?;
            let (at, n) = (self.before.len(), embed.dim(0)?);
            Ok(candle_core::Tensor::cat(
                &[embed.narrow(0, 0, at)?, ghost, embed.narrow(0, at + 1, n - at - 1)?],
                0,
            )?)
        });
        let logits = self.model.run_with_hooks(&tokens, edits, &run()).unwrap();
        let last = logits.get(tokens.len() - 1).unwrap();
        let p = saescope::softmax(&last, 0).unwrap().to_vec1::<f32>().unwrap();
        let mut children = Vec::new();
        for (id, prob) in saescope::top_k(&p, self.options.top_k) {
            let (id, prob) = (id as u32, f64::from(prob));
            if cumulative_prob * prob < self.options.cutoff {
                continue;
            }
            let token = self.model.tokenizer().unwrap().text_of(id).unwrap();
            let stops = self.options.stop.as_ref().unwrap();
            let ends =
                self.model.tokenizer().unwrap().is_special(id) || stops.iter().any(|s| token.contains(s));
            let definition = [definition, &[id]].concat();
            let cumulative_prob = cumulative_prob * prob;
            let children_of = if ends { Vec::new() } else { self.expand(&definition, cumulative_prob) };
            children.push(TreeNode {
                token,
                token_id: Some(id),
                prob,
                cumulative_prob,
                null_log_prob: None,
                children: children_of,
            });
        }
        children
    }
}

fn depth_first(model: &Model, vector: &FeatureVector, options: &TreeOptions) -> TreeNode {
    let (before, after) = options.prompt.split_once("{}").unwrap();
    let ids = |text: &str| model.to_tokens(text, Some(false)).unwrap();
    let bos = model.cfg().default_prepend_bos.then(|| model.bos().unwrap());
    let before = bos.into_iter().chain(ids(before)).collect();
    let search = DepthFirst { model, vector, before, after: ids(after), options };
    let children = search.expand(&[], 1.0);
    TreeNode {
        token: String::new(),
        token_id: None,
        prob: 1.0,
        cumulative_prob: 1.0,
        null_log_prob: None,
        children,
    }
}

fn text_model(name: &str) -> (Model, Sae) {
    let folder = fixture(&format!("models/{name}"));
    let sae = Sae::load(&format!("{folder}/sae"), None, &SaeOptions::default()).unwrap();
    (Model::load(&folder).unwrap(), sae)
}

fn demo(sae_id: &str) -> (Model, Sae) {
    (Model::load("demo").unwrap(), Sae::load("demo", Some(sae_id), &SaeOptions::default()).unwrap())
}

fn early_feature(index: usize) -> (Model, FeatureVector) {
    let (model, sae) = demo("blocks.0.hook_resid_pre");
    let vector = feature_vector(&model, &sae, index, &VectorOptions::default()).unwrap();
    (model, vector)
}

#[test]
fn agree_with_the_reference() {
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

/// A family's fixture with a tokenizer of single characters beside it.
fn with_characters(family: &str, folder: &Path) -> Model {
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(fixture(&format!("models/{family}/{file}")), folder.join(file)).unwrap();
    }
    let characters = (' '..='~').chain(['\n']).enumerate();
    let vocab: serde_json::Map<_, _> = characters.map(|(i, c)| (c.to_string(), Value::from(i + 4))).collect();
    let tokenizer = serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "pre_tokenizer": null,
        "post_processor": null, "decoder": {"type": "Fuse"},
        "added_tokens": [{"id": 1, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": false, "special": true}],
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": []},
    });
    std::fs::write(folder.join("tokenizer.json"), tokenizer.to_string()).unwrap();
    std::fs::write(folder.join("tokenizer_config.json"), r#"{"bos_token": "<s>"}"#).unwrap();
    Model::load(&folder.to_string_lossy()).unwrap()
}

#[test]
fn equal_depth_first_search_in_every_family() {
    for family in FAMILIES.into_iter().chain(["olmo2"]) {
        let folder = tempfile::tempdir().unwrap();
        let model = with_characters(family, folder.path());
        let direction = crate::util::noise(&[model.cfg().d_model], 7);
        let vector = ghost_token(&model, &direction, &VectorOptions::default()).unwrap();
        let options = TreeOptions {
            prompt: "To \"{}\" is to \"".to_owned(),
            top_k: 6,
            cutoff: 1.3e-5,
            max_depth: 12,
            stop: Some(vec!["\"".to_owned()]),
            ..Default::default()
        };
        let tree = definition_tree(&model, &vector, &options, &run()).unwrap();
        assert!(tree.len() > 100, "{family}: {} nodes", tree.len());
        assert_same(family, &tree.root, &depth_first(&model, &vector, &options), 2e-4);
    }
}

#[test]
fn equal_depth_first_search_with_the_demo_model() {
    let (model, vector) = early_feature(624);
    let stop = Some(vec!["\"".to_owned()]);
    let options = TreeOptions { prompt: PROMPTS[0].1.to_owned(), cutoff: 2e-3, stop, ..Default::default() };
    let tree = definition_tree(&model, &vector, &options, &run()).unwrap();
    assert_same("", &tree.root, &depth_first(&model, &vector, &options), 1e-4);
}

/// Memory, company and threads change the speed alone.
#[test]
fn do_not_depend_on_what_they_grow_with() {
    let (model, sae) = demo("blocks.4.hook_resid_pre");
    let vectors: Vec<_> = [700, 3, 1663]
        .into_iter()
        .map(|feature| feature_vector(&model, &sae, feature, &VectorOptions::default()).unwrap())
        .collect();
    let options = TreeOptions { cutoff: 1e-3, null_directions: Some(1), ..Default::default() };
    let together = grow_trees(&model, &vectors, &options, &run()).unwrap();
    let little = TreeOptions { max_memory: 1, ..options.clone() };
    for (vector, tree) in vectors.iter().zip(&together) {
        assert_equal("alone", &definition_tree(&model, vector, &options, &run()).unwrap().root, &tree.root);
        assert_equal(
            "alone, little",
            &definition_tree(&model, vector, &little, &run()).unwrap().root,
            &tree.root,
        );
    }
    for (little, tree) in grow_trees(&model, &vectors, &little, &run()).unwrap().iter().zip(&together) {
        assert_equal("little", &little.root, &tree.root);
    }
}
