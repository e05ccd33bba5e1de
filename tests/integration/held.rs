//! Weights that are held in bf16 and f16 compute what the same weights widened to f32 do, to the last bit.

use crate::families::FAMILIES;
use crate::util::{expected, fixture, tokens_of};
use candle_core::{DType, Device, Tensor};
use saescope::hooks::TokenBatch;
use saescope::interpret::{TokenListOptions, TreeOptions, VectorOptions};
use saescope::model::{Dtype, GenerateOptions, ModelOptions};
use saescope::{Model, Progress, Sae, definition_tree, feature_vector, logit_lens, token_list};
use std::path::Path;

fn run() -> Progress {
    Progress::default()
}

fn load(folder: &str, dtype: Dtype) -> Model {
    Model::load_with(folder, &ModelOptions { dtype, ..Default::default() }, &run()).unwrap()
}

/// Copies a model whose weights are converted to `dtype`.
fn converted(family: &str, dtype: DType, folder: &Path) {
    let source = fixture(&format!("models/{family}"));
    for entry in std::fs::read_dir(&source).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name == "model.safetensors" {
            let tensors = candle_core::safetensors::load(&path, &Device::Cpu).unwrap();
            let tensors: std::collections::HashMap<_, _> =
                tensors.into_iter().map(|(name, x)| (name, x.to_dtype(dtype).unwrap())).collect();
            candle_core::safetensors::save(&tensors, folder.join(name)).unwrap();
        } else if path.extension().is_some_and(|e| e == "json") {
            std::fs::copy(&path, folder.join(name)).unwrap();
        }
    }
}

fn assert_same(what: &str, a: &Tensor, b: &Tensor) {
    assert_eq!((a.dims(), a.dtype()), (b.dims(), DType::F32), "{what}");
    let bits = |x: &Tensor| {
        x.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect::<Vec<_>>()
    };
    assert!(bits(a) == bits(b), "{what} differs");
}

#[test]
fn every_family_computes_the_same_whatever_its_weights_are_held_in() {
    for family in FAMILIES {
        for dtype in [DType::BF16, DType::F16] {
            let folder = tempfile::tempdir().unwrap();
            converted(family, dtype, folder.path());
            let [held, wide] = [Dtype::Auto, Dtype::F32].map(|d| load(folder.path().to_str().unwrap(), d));
            let ids = &expected(&format!("models/{family}/expected.safetensors"))["input_ids"];
            let tokens = tokens_of(ids, 0);
            for n in [1, tokens.len()] {
                let what = |name: &str| format!("{family}, {dtype:?}, {n} tokens: {name}");
                let logits = |model: &Model| model.logits(&tokens[..n], &run()).unwrap();
                assert_same(&what("logits"), &logits(&held), &logits(&wide));
                let cache = |model: &Model| model.run_with_cache(&tokens[..n], &["*"], &run()).unwrap();
                let (a, b) = (cache(&held), cache(&wide));
                for (name, activation) in b.iter() {
                    let name = name.to_string();
                    assert_same(&what(&name), a.get(&name).unwrap(), activation);
                }
            }
            assert_same("W_E", &held.W_E().unwrap(), &wide.W_E().unwrap());
            assert_same("W_U", &held.W_U().unwrap(), &wide.W_U().unwrap());
        }
    }
}

#[test]
fn the_demo_gives_the_same_held_in_f16_and_in_f32() {
    let [held, wide] = [Dtype::Auto, Dtype::F32].map(|dtype| load("demo", dtype));
    let tokens = held.to_tokens("The old mill has no wheel.", None).unwrap();
    let options = GenerateOptions { max_new_tokens: 30, seed: 3, ..Default::default() };
    let generate = |model: &Model| model.generate(&tokens, &options, &mut (), &run()).unwrap();
    assert_eq!(generate(&held), generate(&wide));

    let batch = || {
        let mut batch = TokenBatch::default();
        (1..=7).for_each(|n| batch.push(&tokens[..n]));
        batch
    };
    let forward = |model: &Model| model.forward(&batch(), None, &mut (), &run()).unwrap();
    assert_same("a batch", &forward(&held), &forward(&wide));

    let sae = Sae::load(("demo", "blocks.0.hook_resid_pre")).unwrap();
    let components = VectorOptions { pca_weights: vec![0.3, -0.2], ..Default::default() };
    for options in [VectorOptions::default(), components] {
        let vector = |model: &Model| feature_vector(model, &sae, 624, &options).unwrap();
        let (a, b) = (vector(&held), vector(&wide));
        assert_eq!(a, b);
        let trees = |model: &Model| {
            let options = TreeOptions { cutoff: 1e-3, null_directions: Some(2), ..Default::default() };
            definition_tree(model, &a, &options, &run()).unwrap()
        };
        assert_eq!(trees(&held), trees(&wide));
        let tokens = |model: &Model| token_list(model, &a, &TokenListOptions::default()).unwrap();
        assert_eq!(tokens(&held), tokens(&wide));
        let lens = |model: &Model| logit_lens(model, &a, &Default::default()).unwrap();
        assert_eq!(lens(&held), lens(&wide));
    }
}
