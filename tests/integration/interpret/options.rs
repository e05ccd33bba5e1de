//! The options of a tree, compared with full passes with edits.

use super::depth_first::{Edit, FullPass, replace, times};
use super::errors::failure;
use super::trees::{assert_equal, assert_same, early_feature, text_model};
use candle_core::Tensor;
use saescope::interpret::{
    DefinitionTree, FeatureVector, Injection, PROMPTS, Scales, Steer, TreeNode, TreeOptions, VectorOptions,
    scale_scores,
};
use saescope::script::Session;
use saescope::{Model, Progress, definition_tree, feature_vector, scale_sweep};

pub fn options() -> TreeOptions {
    TreeOptions { cutoff: 4e-3, max_depth: 8, stop: Some(vec!["\"".to_owned()]), ..Default::default() }
}

#[track_caller]
fn grow(model: &Model, vector: &FeatureVector, options: &TreeOptions) -> DefinitionTree {
    let tree = definition_tree(model, vector, options, &Progress::default()).unwrap();
    assert!(tree.len() > 5, "{} nodes are too few for this test", tree.len());
    tree
}

fn values(x: &Tensor) -> Vec<f64> {
    x.to_vec1::<f32>().unwrap().into_iter().map(f64::from).collect()
}

/// The log-probabilities of a row of logits.
fn log_probs(logits: &Tensor) -> Vec<f64> {
    let logits = values(logits);
    let total = logits.iter().map(|x| x.exp()).sum::<f64>().ln();
    logits.into_iter().map(|x| x - total).collect()
}

fn norm(x: &[f32]) -> f64 {
    x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt()
}

fn add(x: &mut [f32], y: &[f32], factor: f64) {
    x.iter_mut().zip(y).for_each(|(x, y)| *x = (f64::from(*x) + factor * f64::from(*y)) as f32);
}

#[track_caller]
fn close(what: &str, got: f64, expected: f64, tolerance: f64) {
    let difference = (got - expected).abs();
    assert!(difference <= tolerance * expected.abs().max(1.0), "{what}: expected {expected}, got {got}");
}

/// Collects every node with the token ids on its path from the root.
fn nodes<'a>(node: &'a TreeNode, path: &[u32], all: &mut Vec<(Vec<u32>, &'a TreeNode)>) {
    for child in &node.children {
        let path = [path, &[child.token_id.unwrap()]].concat();
        all.push((path.clone(), child));
        nodes(child, &path, all);
    }
}

fn all_nodes(tree: &DefinitionTree) -> Vec<(Vec<u32>, &TreeNode)> {
    let mut all = Vec::new();
    nodes(&tree.root, &[], &mut all);
    all
}

#[test]
fn the_null_is_the_mean_over_the_centroid_and_random_directions() {
    let (model, vector) = early_feature(624);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("random.npy");
    let script = format!("save_tensors(randn([2, 192], 5), {file:?})");
    Session::new(Progress::default(), |_| ()).eval(&script).unwrap();
    let random = saescope::tensors::load_npy(&file).unwrap().to_vec2::<f32>().unwrap();
    let centroid = model.embedding_stats().unwrap().centroid.clone();
    let mut null = vec![centroid.clone()];
    for direction in random {
        let mut at = centroid.clone();
        add(&mut at, &direction, vector.params.scale / norm(&direction));
        null.push(at);
    }
    for n in [0, 2] {
        let options = TreeOptions { null_directions: Some(n), seed: 5, ..options() };
        let tree = grow(&model, &vector, &options);
        assert_eq!(tree.root.null_log_prob, Some(0.0));
        let edits: Vec<_> = null[..=n].iter().cloned().map(replace).collect();
        let passes: Vec<_> = edits
            .iter()
            .map(|edit| FullPass::new(&model, PROMPTS[0].1, 0).with("hook_embed", edit))
            .collect();
        for (path, node) in all_nodes(&tree).into_iter().step_by(3) {
            // The logits of one pass give the probability of each token of the path.
            let probability = |passes: &FullPass| {
                let logits = passes.logits(&path);
                let first = logits.dim(0).unwrap() - path.len() - 1;
                let of =
                    |(i, token): (usize, &u32)| log_probs(&logits.get(first + i).unwrap())[*token as usize];
                path.iter().enumerate().map(of).sum::<f64>().exp()
            };
            let mean = passes.iter().map(probability).sum::<f64>() / (n + 1) as f64;
            close("null", node.null_log_prob.unwrap(), mean.ln(), 1e-4);
            close("ratio", node.log_ratio().unwrap(), node.cumulative_prob.ln() - mean.ln(), 1e-4);
        }
        // The comparison does not change the tree.
        let plain = grow(&model, &vector, &TreeOptions { null_directions: None, ..options });
        assert_same("", &tree.root, &plain.root, 1e-12);
        assert_eq!(plain.root.children[0].null_log_prob, None);
    }
}

fn best_ratio(node: &TreeNode) -> f64 {
    node.children.iter().map(best_ratio).fold(node.log_ratio().unwrap(), f64::max)
}

#[test]
fn a_tree_is_measured_contrasted_trimmed_and_queried() {
    let (model, vector) = early_feature(624);
    let far = TreeOptions { cutoff: 5e-4, max_depth: 25, null_directions: Some(0), ..options() };
    let tree = grow(&model, &vector, &far);
    let all = all_nodes(&tree);
    assert_eq!((tree.len(), tree.is_empty()), (all.len(), false));
    assert_eq!(tree.depth(), all.iter().map(|(path, _)| path.len()).max().unwrap());

    let contrast = tree.contrast().unwrap();
    let mut kept: Vec<_> = all_nodes(&contrast);
    for (_, node) in kept.iter().chain([&(Vec::new(), &contrast.root)]) {
        assert!(node.children.is_sorted_by(|a, b| best_ratio(a) >= best_ratio(b)), "after {:?}", node.token);
    }
    assert_ne!(contrast.root, tree.root, "nothing to reorder");
    let without_children = |(path, node): &(Vec<u32>, &TreeNode)| {
        (path.clone(), node.token.clone(), node.prob, node.cumulative_prob, node.null_log_prob)
    };
    let mut before = all.clone();
    kept.sort_by(|a, b| a.0.cmp(&b.0));
    before.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(kept.iter().map(without_children).eq(before.iter().map(without_children)));

    let cutoff = 2e-2;
    let trimmed = tree.trim(cutoff);
    let expected = all.iter().filter(|(_, node)| node.cumulative_prob >= cutoff);
    assert!(all_nodes(&trimmed).iter().map(without_children).eq(expected.map(without_children)));
    assert_eq!((trimmed.params.trimmed, tree.params.trimmed), (Some(cutoff), None));
    assert_eq!(trimmed.trim(1e-3), trimmed);
    assert!(tree.trim(1.0).is_empty() && tree.trim(1.0).depth() == 0);

    let definitions = tree.definitions();
    let mut leaves: Vec<_> = all.iter().filter(|(_, node)| node.children.is_empty()).collect();
    let is_finished = |leaf: &TreeNode| leaf.token.contains('"');
    leaves.sort_by(|(_, a), (_, b)| {
        is_finished(b).cmp(&is_finished(a)).then(b.cumulative_prob.total_cmp(&a.cumulative_prob))
    });
    assert_eq!(definitions.len(), leaves.len());
    for (definition, (path, leaf)) in definitions.iter().zip(&leaves) {
        let text: String =
            path.iter().map(|id| model.tokenizer().unwrap().token_text(*id).unwrap()).collect::<String>();
        assert_eq!(definition.text, text.split('"').next().unwrap().trim());
        assert_eq!(definition.cumulative_prob, leaf.cumulative_prob);
        assert_eq!(definition.log_ratio, leaf.log_ratio());
        assert_eq!(definition.finished, is_finished(leaf));
    }
    assert!(leaves.iter().any(|(_, leaf)| leaf.token.contains('"')), "no definition is finished");

    assert_eq!(tree.probability(""), 1.0);
    assert_eq!(tree.probability("no such thing"), 0.0);
    for child in &tree.root.children {
        let longer = |other: &&TreeNode| other.token.starts_with(&child.token);
        let sum: f64 = tree.root.children.iter().filter(longer).map(|other| other.cumulative_prob).sum();
        assert!(tree.probability(&child.token) >= sum * (1.0 - 1e-12));
        for grandchild in &child.children {
            let text = format!("{}{}", child.token, grandchild.token);
            assert!(tree.probability(&text) >= grandchild.cumulative_prob * (1.0 - 1e-12));
        }
    }

    let plain = grow(&model, &vector, &options());
    insta::assert_snapshot!(failure(plain.contrast()), @r#"
    the tree was not compared with random directions
    hint: grow it with the option `null_directions`, such as `null_directions: 8`
    "#);
}

#[test]
fn steering_adds_a_direction_after_the_bos() {
    let (model, vector) = early_feature(624);
    let decoder = vector.decoder.clone().unwrap();
    close("the decoder's length", norm(&decoder), 1.0, 1e-6);
    let given: Vec<f32> = (0..192).map(|i| ((i * 37 % 19) as f32 - 9.0) / 40.0).collect();
    let unsteered = grow(&model, &vector, &options());
    for (direction, coefficient) in [(None, 3.0), (Some(given), -2.0)] {
        let hook = "blocks.2.hook_resid_post".to_owned();
        let steer = Some(Steer { hook: hook.clone(), coefficient, direction: direction.clone() });
        let options = TreeOptions { steer, ..options() };
        let tree = grow(&model, &vector, &options);
        assert_ne!(tree.root, unsteered.root);
        let direction = direction.unwrap_or(decoder.clone());
        let embedding = replace(vector.vector.clone());
        let steer: Edit = &|pos, _, x| {
            if pos > 0 || !model.cfg().default_prepend_bos {
                add(x, &direction, coefficient);
            }
        };
        let passes = FullPass::new(&model, PROMPTS[0].1, 0).with("hook_embed", &embedding).with(&hook, steer);
        assert_same("steered", &tree.root, &passes.tree(&options), 2e-4);
    }
}

#[test]
fn a_vector_is_injected_where_and_how_the_options_say() {
    let (model, vector) = early_feature(624);
    let centroid = model.embedding_stats().unwrap().centroid.clone();
    let background = replace(centroid.clone());
    let reach = times(&vector.direction, vector.params.scale);
    let unit = times(&vector.direction, 1.0 / norm(&vector.direction));
    let edits: [(Injection, Edit); 3] = [
        (Injection::Replace, &replace(vector.vector.clone())),
        (Injection::Add, &|_, is_ghost, x| add(x, &reach, if is_ghost { 1.0 } else { 0.0 })),
        (Injection::NormMatched, &|_, is_ghost, x| add(x, &unit, if is_ghost { norm(x) } else { 0.0 })),
    ];
    let placeholder = model.to_tokens(" house", Some(false)).unwrap();
    assert_eq!(placeholder.len(), 1);
    let hook = "blocks.2.hook_resid_pre";
    for (inject, edit) in edits {
        let options = TreeOptions { inject_at: Some(hook.to_owned()), inject, ..options() };
        let tree = grow(&model, &vector, &options);
        let passes = FullPass::new(&model, PROMPTS[0].1, 0).with("hook_embed", &background).with(hook, edit);
        assert_same("injected", &tree.root, &passes.tree(&options), 2e-4);
        assert_eq!(tree.params.inject, Some(inject));

        let options = TreeOptions { placeholder: Some(" house".to_owned()), ..options };
        let tree = grow(&model, &vector, &options);
        let passes = FullPass::new(&model, PROMPTS[0].1, placeholder[0]).with(hook, edit);
        assert_same("with a placeholder", &tree.root, &passes.tree(&options), 2e-4);

        // Injected at the embedding of the placeholder, then at the centroid.
        let options = TreeOptions { inject_at: None, ..options };
        let tree = grow(&model, &vector, &options);
        let passes = FullPass::new(&model, PROMPTS[0].1, placeholder[0]).with("hook_embed", edit);
        assert_same("on a placeholder", &tree.root, &passes.tree(&options), 2e-4);
        let by_name = TreeOptions { inject_at: Some("hook_embed".to_owned()), ..options.clone() };
        assert_equal("by name", &grow(&model, &vector, &by_name).root, &tree.root);
        let options = TreeOptions { placeholder: None, ..options };
        let tree = grow(&model, &vector, &options);
        if inject == Injection::Add {
            assert_same(
                "the same",
                &tree.root,
                &grow(&model, &vector, &super::options::options()).root,
                1e-4,
            );
        }
        assert_eq!(tree.params.inject, (inject != Injection::Replace).then_some(inject));
    }
}

#[test]
fn every_ghost_token_of_every_prompt_is_replaced() {
    let (model, vector) = early_feature(624);
    let embedding = replace(vector.vector.clone());
    for (name, text) in PROMPTS {
        let options = TreeOptions { prompt: name.to_owned(), max_depth: 5, ..options() };
        let tree = definition_tree(&model, &vector, &options, &Progress::default()).unwrap();
        assert!(!tree.is_empty(), "{name}");
        let passes = FullPass::new(&model, text, 0).with("hook_embed", &embedding);
        assert_same(name, &tree.root, &passes.tree(&options), 2e-4);
        assert_eq!(tree.params.prompt, text);
        let default = TreeOptions { stop: None, ..options };
        let stop = if text.ends_with('"') { "\"" } else { "\n" };
        let tree = definition_tree(&model, &vector, &default, &Progress::default()).unwrap();
        assert_eq!(tree.params.stop, [stop]);
    }
}

/// Vectors are in the units of the embedding table, which some models scale up when they read it.
#[test]
fn the_embedding_scale_applies_to_the_vector() {
    let (model, sae) = text_model("gemma_text");
    let scale = model.cfg().embed_scale;
    assert!(scale > 2.0);
    let vector = feature_vector(&model, &sae, 3, &VectorOptions::default()).unwrap();
    let options = TreeOptions { prompt: "The {} is \"".to_owned(), cutoff: 1e-3, max_depth: 3, ..options() };
    let centroid = &model.embedding_stats().unwrap().centroid;
    let (embedding, background) = (replace(times(&vector.vector, scale)), replace(times(centroid, scale)));
    let passes = FullPass::new(&model, &options.prompt, 0);
    let tree = grow(&model, &vector, &options);
    assert_same("", &tree.root, &passes.with("hook_embed", &embedding).tree(&options), 2e-4);
    let added = TreeOptions { inject: Injection::Add, ..options.clone() };
    assert_same("added", &grow(&model, &vector, &added).root, &tree.root, 2e-4);
    // At other hooks the vector is not scaled.
    let hook = "blocks.1.hook_resid_pre";
    let (passes, edit) = (FullPass::new(&model, &options.prompt, 0), replace(vector.vector.clone()));
    let options = TreeOptions { inject_at: Some(hook.to_owned()), ..options };
    let tree = grow(&model, &vector, &options);
    let expected = passes.with("hook_embed", &background).with(hook, &edit).tree(&options);
    assert_same("later", &tree.root, &expected, 2e-4);
}

#[test]
fn scale_sweeps_match_their_definition() {
    let (model, vector) = early_feature(624);
    let options = TreeOptions { cutoff: 1e-2, ..options() };
    let scales = [3.0, 0.5, 1.5];
    let run = Progress::default();
    let sweep = scale_sweep(&model, &vector, &Scales::Given(scales.to_vec()), &options, &run).unwrap();
    assert_eq!(sweep.scores.iter().map(|s| s.scale).collect::<Vec<_>>(), [0.5, 1.5, 3.0]);

    let probed = format!("blocks.{}.hook_resid_pre", (8.0 * model.cfg().n_layers as f64 / 9.0).round());
    let at = |scale: f64| {
        let embedding = replace(vector.at_scale(scale).vector);
        let seen = std::cell::RefCell::new(Vec::new());
        let look: Edit = &|_, _, x| *seen.borrow_mut() = x.to_vec();
        let passes =
            FullPass::new(&model, PROMPTS[0].1, 0).with("hook_embed", &embedding).with(&probed, look);
        let log_probs = log_probs(&passes.next(&[]));
        let stream = seen.borrow().clone();
        let dot: f64 = stream.iter().zip(&vector.direction).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        (dot / norm(&stream) / norm(&vector.direction), log_probs)
    };
    let (cosine, log_mean) = at(0.0);
    let mut naive = Vec::new();
    for score in &sweep.scores {
        let (similar, log_probs) = at(score.scale);
        let cross: f64 = log_probs.iter().zip(&log_mean).map(|(p, m)| -p.exp() * m).sum();
        close("self-similarity", score.self_similarity, similar - cosine, 1e-5);
        close("cross-entropy", score.cross_entropy, cross, 1e-4);
        naive.push((similar - cosine, cross));
    }
    let min_max = |x: f64, of: &dyn Fn(&(f64, f64)) -> f64| {
        let all = || naive.iter().map(of);
        let (least, most) = (all().fold(f64::INFINITY, f64::min), all().fold(f64::NEG_INFINITY, f64::max));
        (x - least) / (most - least)
    };
    for (score, (similar, cross)) in sweep.scores.iter().zip(&naive) {
        let composite = 0.4 * min_max(*similar, &|x| x.0) - 0.6 * min_max(*cross, &|x| x.1);
        close("composite", score.composite, composite, 1e-3);
    }
    let best = sweep.scores.iter().map(|s| s.composite).fold(f64::NEG_INFINITY, f64::max);
    assert_eq!(sweep.scores[sweep.best].composite, best);
    assert_eq!(sweep.trees.len(), 3);
    for (tree, score) in sweep.trees.iter().zip(&sweep.scores) {
        let alone = definition_tree(&model, &vector.at_scale(score.scale), &options, &run).unwrap();
        assert!(*tree == alone, "scale {}", score.scale);
    }

    for inject_at in [None, Some("hook_embed"), Some("blocks.2.hook_resid_pre")] {
        let options = TreeOptions { inject_at: inject_at.map(str::to_owned), ..options.clone() };
        let auto = scale_sweep(&model, &vector, &Scales::Auto, &options, &run).unwrap();
        assert_eq!((auto.scores.len(), auto.trees.len()), (24, 3));
        let (first, last) = (auto.scores[0].scale, auto.scores[23].scale);
        close("the range", last / first, 16.0, 1e-9);
        if inject_at != Some("blocks.2.hook_resid_pre") {
            close("the least", first, model.embedding_stats().unwrap().mean_distance / 4.0, 1e-9);
        }
        assert!(auto.scores.is_sorted_by(|a, b| a.scale < b.scale));
        let mut by_score = auto.scores.clone();
        by_score.sort_by(|a, b| b.composite.total_cmp(&a.composite));
        assert_eq!(auto.best().params.vector.scale, by_score[0].scale);
        let mut shown: Vec<_> = by_score[..3].iter().map(|s| s.scale).collect();
        shown.sort_by(f64::total_cmp);
        assert_eq!(auto.trees.iter().map(|t| t.params.vector.scale).collect::<Vec<_>>(), shown);
    }
}

#[test]
fn scale_sweeps_reject_bad_scales_and_options() {
    let (model, vector) = early_feature(624);
    let failed = |scales: &[f64], options: &TreeOptions| {
        let scales = Scales::Given(scales.to_vec());
        failure(scale_scores(&model, &vector, &scales, options, &Progress::default()))
    };
    let matched = TreeOptions { inject: Injection::NormMatched, ..options() };
    let nowhere = TreeOptions { inject_at: Some("blocks.*.hook_resid_pre".to_owned()), ..options() };
    let long = TreeOptions { prompt: "a house ".repeat(300) + "{}", ..options() };
    let errors = [
        failed(&[], &options()),
        failed(&[1.0, f64::NAN], &options()),
        failed(&[1.0, 1e300], &options()),
        failed(&[1.0], &matched),
        failed(&[1.0], &nowhere),
        failed(&[1.0], &long),
        failed(&[1.0], &TreeOptions { top_k: 0, ..options() }),
        failure(scale_scores(&model, &vector, &Scales::Auto, &nowhere, &Progress::default())),
    ];
    insta::assert_snapshot!(errors.join("\n\n"), @r#"
    `scale`: expected at least one number, got an empty list
    hint:

    `scale`: expected finite numbers, got NaN
    hint:

    the vector: expected finite values, got NaN or infinity
    hint: make it again; a scale may have been too large

    scales make no difference to the injection "norm_matched"
    hint: leave out the scales, or inject with "replace" or "add"

    `inject_at`: expected one hook of the residual stream, got `blocks.*.hook_resid_pre`
    hint: such as "blocks.2.hook_resid_pre"; `hook_attn_out` and `hook_mlp_out` also work

    the prompt: expected at most n_ctx = 256 tokens, the model's context, got 603
    hint: shorten the prompt

    `top_k`: expected at least 1, got 0
    hint:

    `inject_at`: expected one hook of the residual stream, got `blocks.*.hook_resid_pre`
    hint: such as "blocks.2.hook_resid_pre"; `hook_attn_out` and `hook_mlp_out` also work
    "#);
    assert!(serde_json::from_str::<Scales>("\"usual\"").is_err());
    for scales in [Scales::Auto, Scales::Given(vec![0.1, 2.0])] {
        let json = serde_json::to_string(&scales).unwrap();
        assert_eq!(serde_json::from_str::<Scales>(&json).unwrap(), scales);
    }
}
