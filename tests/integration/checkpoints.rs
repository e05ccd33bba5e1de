//! Checkpoints that leave tensors out or store them under other names: reward and embedding models, bare transformers,
//! and tied weights under one of their names.

use crate::families::FAMILIES;
use crate::util::{assert_close, expected, fixture, noise, tokens_of};
use candle_core::Tensor;
use saescope::model::GenerateOptions;
use saescope::{Model, Progress};
use std::collections::HashMap;

type Tensors = HashMap<String, Tensor>;

const HEADS: [&str; 2] = ["lm_head.weight", "embed_out.weight"];
const EMBEDDINGS: [&str; 3] =
    ["model.embed_tokens.weight", "transformer.wte.weight", "gpt_neox.embed_in.weight"];

fn run() -> Progress {
    Progress::default()
}

fn tied(family: &str) -> bool {
    let config = std::fs::read(fixture(&format!("models/{family}/config.json"))).unwrap();
    let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    config["tie_word_embeddings"].as_bool().unwrap()
}

/// A fixture with changed tensors and, if `tie` is given, a changed `tie_word_embeddings`.
fn changed(family: &str, tie: Option<bool>, change: impl FnOnce(&mut Tensors)) -> Model {
    let folder = tempfile::tempdir().unwrap();
    let config = std::fs::read(fixture(&format!("models/{family}/config.json"))).unwrap();
    let mut config: serde_json::Value = serde_json::from_slice(&config).unwrap();
    if let Some(tie) = tie {
        config["tie_word_embeddings"] = tie.into();
    }
    std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
    let mut tensors = expected(&format!("models/{family}/model.safetensors"));
    change(&mut tensors);
    candle_core::safetensors::save(&tensors, folder.path().join("model.safetensors")).unwrap();
    let model = Model::load(&folder.path().to_string_lossy()).unwrap();
    // Weights are read on first use: use them now, while the folder exists.
    let _ = model.W_U();
    let all = model.run_with_cache(&[1], &["*hook_resid_post", "ln_final.hook_normalized"], &run());
    all.unwrap();
    model
}

fn without_a_head(tensors: &mut Tensors) {
    let before = tensors.len();
    tensors.retain(|name, _| !HEADS.contains(&name.as_str()) && name != "lm_head.bias");
    assert!(tensors.len() < before);
}

/// As transformers saves a model without a head: the names of its tensors have no prefix.
fn bare(tensors: &mut Tensors) {
    without_a_head(tensors);
    let bare = |name: &str| {
        let rest =
            ["model.", "transformer.", "gpt_neox."].iter().find_map(|prefix| name.strip_prefix(prefix));
        rest.unwrap_or_else(|| panic!("{name}")).to_owned()
    };
    *tensors = tensors.drain().map(|(name, tensor)| (bare(&name), tensor)).collect();
}

/// `score` is what transformers calls the head of a reward model.
fn reward(tensors: &mut Tensors) {
    without_a_head(tensors);
    tensors.insert("score.weight".to_owned(), noise(&[1, 4], 3));
}

#[test]
fn without_an_unembedding_there_are_activations_but_no_logits() {
    let untied = FAMILIES.into_iter().filter(|family| !tied(family));
    for family in untied {
        for change in [bare, reward] {
            let model = changed(family, None, change);
            let expected = expected(&format!("models/{family}/expected.safetensors"));
            let tokens = tokens_of(&expected["input_ids"], 0);
            let names: Vec<&String> = expected.keys().filter(|name| name.contains("hook_")).collect();
            let cache = model.run_with_cache(&tokens, &names, &run()).unwrap();
            for name in names {
                let reference = expected[name].get(0).unwrap();
                assert_close(&format!("{family} {name}"), cache.get(name).unwrap(), &reference, 2e-4, 2e-4);
            }

            assert!(!model.cfg().has_unembed);
            assert!(format!("{model}").contains(", no unembedding"), "{model}");
            let every = model.run_with_cache(&tokens, &["*"], &run()).unwrap();
            assert!(every.get("unembed.hook_in").is_ok() && every.get("unembed.hook_out").is_err());
            let options = GenerateOptions::default();
            let errors = [
                model.logits(&tokens, &run()).unwrap_err(),
                model.run_with_hooks(&tokens, saescope::hooks::Edits::new(), &run()).unwrap_err(),
                model.W_U().unwrap_err(),
                model.generate(&tokens, &options, &mut (), &run()).unwrap_err(),
                model.map_logits(every.get("hook_embed").unwrap(), &run(), |_, _| ()).unwrap_err(),
            ];
            for error in errors.map(|error| error.to_string()) {
                assert!(
                    error.contains("there are no logits: the checkpoint has no unembedding, `"),
                    "{error}"
                );
            }
        }
    }
}

/// Tied weights need no tensor of their own: a reward model's unembedding is its embedding.
#[test]
fn tied_weights_load_under_either_name() {
    let tokens = [3, 1, 4, 1, 5];
    for family in FAMILIES.into_iter().filter(|family| tied(family)) {
        let reference =
            Model::load(&fixture(&format!("models/{family}"))).unwrap().logits(&tokens, &run()).unwrap();
        let as_head = |tensors: &mut Tensors, keep: bool| {
            let name = EMBEDDINGS.iter().find(|name| tensors.contains_key(**name)).unwrap();
            let embedding = tensors[*name].clone();
            if !keep {
                tensors.remove(*name);
            }
            tensors.insert("lm_head.weight".to_owned(), embedding);
        };
        for (what, model) in [
            (
                "reward",
                changed(family, None, |tensors| {
                    drop(tensors.insert("score.weight".to_owned(), noise(&[1, 4], 3)))
                }),
            ),
            ("both", changed(family, None, |tensors| as_head(tensors, true))),
            ("the head's", changed(family, None, |tensors| as_head(tensors, false))),
        ] {
            let logits = model.logits(&tokens, &run()).unwrap();
            assert_close(&format!("{family}, {what}"), &logits, &reference, 0.0, 0.0);
        }
    }
}

/// transformers 5 does not tie weights that a checkpoint stores as two different tensors, whatever its config says.
#[test]
fn tensors_that_differ_are_not_tied() {
    let tokens = [3, 1, 4, 1, 5];
    for family in FAMILIES.into_iter().filter(|family| !tied(family) && *family != "phi") {
        let reference =
            Model::load(&fixture(&format!("models/{family}"))).unwrap().logits(&tokens, &run()).unwrap();
        let model = changed(family, Some(true), |_| ());
        assert_close(family, &model.logits(&tokens, &run()).unwrap(), &reference, 0.0, 0.0);
    }
}

/// A damaged head is not treated as a missing one.
#[test]
fn a_head_of_another_shape_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::copy(fixture("models/llama/config.json"), folder.path().join("config.json")).unwrap();
    let mut tensors = expected("models/llama/model.safetensors");
    tensors.insert("lm_head.weight".to_owned(), noise(&[3, 4], 1));
    candle_core::safetensors::save(&tensors, folder.path().join("model.safetensors")).unwrap();
    let error = Model::load(&folder.path().to_string_lossy()).unwrap_err().to_string();
    assert!(error.contains("`lm_head.weight`"), "{error}");
}
