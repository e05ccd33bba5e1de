//! `dtype: "bf16"`: the weights and inputs of the blocks' linear layers are rounded to bf16, and nothing else is.

use crate::families::FAMILIES;
use crate::util::{expected, fixture, tokens_of};
use candle_core::{DType, Device, Tensor};
use saescope::hooks::{ActivationCache, TokenBatch};
use saescope::model::{Dtype, ModelOptions};
use saescope::{Model, Progress};
use saescope_kernels::has_bf16;

fn load(folder: &str, dtype: Dtype) -> Model {
    let options = ModelOptions { dtype, ..Default::default() };
    Model::load_with(folder, &options, &Progress::default()).unwrap()
}

fn cache(model: &Model, tokens: &[u32], points: &[&str]) -> ActivationCache {
    model.run_with_cache(tokens, points, &Progress::default()).unwrap()
}

fn distance(a: &Tensor, b: &Tensor) -> f32 {
    (a - b).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap().to_scalar().unwrap()
}

fn tokens(family: &str) -> Vec<u32> {
    tokens_of(&expected(&format!("models/{family}/expected.safetensors"))["input_ids"], 0)
}

#[test]
fn inputs_and_weights_of_linear_layers_are_rounded() {
    let folder = fixture("models/gpt2");
    let stored = candle_core::safetensors::load(format!("{folder}/model.safetensors"), &Device::Cpu).unwrap();
    let find = |end: &str| {
        let (_, tensor) = stored.iter().find(|(name, _)| name.ends_with(end)).unwrap();
        tensor.to_dtype(DType::F64).unwrap()
    };
    let rounded = |x: &Tensor| {
        let x = x.to_dtype(DType::F32).unwrap();
        let x = if has_bf16() { x.to_dtype(DType::BF16).unwrap() } else { x };
        x.to_dtype(DType::F32).unwrap().to_dtype(DType::F64).unwrap()
    };
    let points =
        ["blocks.1.mlp.hook_in", "blocks.1.mlp.hook_pre", "blocks.1.mlp.hook_post", "blocks.1.hook_mlp_out"];
    let cache = cache(&load(&folder, Dtype::Bf16), &tokens("gpt2"), &points);
    let [x, pre, post, out] = points.map(|point| cache.get(point).unwrap().clone());
    for (x, y, name) in [(x, pre, "c_fc"), (post, out, "c_proj")] {
        let [weight, bias] = ["weight", "bias"].map(|part| find(&format!("h.1.mlp.{name}.{part}")));
        let times = |x: &Tensor, weight: &Tensor| {
            let y = x.matmul(weight).unwrap().broadcast_add(&bias).unwrap();
            y.to_dtype(DType::F32).unwrap()
        };
        let exact = times(&x.to_dtype(DType::F64).unwrap(), &weight);
        assert!(distance(&times(&rounded(&x), &rounded(&weight)), &y) < 1e-5, "{name}");
        // The test could tell whether they are rounded.
        assert!(!has_bf16() || distance(&exact, &y) > 1e-4, "{name}: {}", distance(&exact, &y));
    }
}

#[test]
fn every_family_computes_in_bf16_nearly_what_it_does_in_f32() {
    for family in FAMILIES {
        let folder = fixture(&format!("models/{family}"));
        let [rough, exact] = [Dtype::Bf16, Dtype::F32].map(|dtype| load(&folder, dtype));
        let tokens = tokens(family);
        let logits = |model: &Model, n: usize| model.logits(&tokens[..n], &Progress::default()).unwrap();
        let (a, b) = (logits(&rough, tokens.len()), logits(&exact, tokens.len()));
        let size = distance(&b, &b.zeros_like().unwrap());
        let got = distance(&a, &b) / size;
        let expected = if has_bf16() { 1e-5..0.1 } else { 0.0..1e-9 };
        assert!(expected.contains(&got), "{family}: {got}");
        // A token does not depend on how many follow it.
        for n in [1, 3] {
            assert_eq!(
                distance(&logits(&rough, n), &a.narrow(0, 0, n).unwrap()),
                0.0,
                "{family}, {n} tokens"
            );
        }
        let mut batch = TokenBatch::default();
        [2, tokens.len(), 5].iter().for_each(|n| batch.push(&tokens[..*n]));
        let together = rough.forward(&batch, None, &mut (), &Progress::default()).unwrap();
        let own = together.narrow(0, 2, tokens.len()).unwrap();
        assert_eq!(distance(&own, &a), 0.0, "{family}, in a batch");
    }
}

#[test]
fn a_model_says_what_it_computes_in() {
    let [rough, exact] = [Dtype::Bf16, Dtype::F32].map(|dtype| load("demo", dtype));
    let fingerprint = |model: &Model| model.fingerprint(&Progress::default()).unwrap();
    assert_eq!(fingerprint(&rough) == fingerprint(&exact), !has_bf16());
    assert_eq!(format!("{rough}").contains("computed in bf16"), has_bf16());
    assert_eq!(rough.dtype() == Dtype::Bf16, has_bf16());
    assert!(!format!("{exact}").contains("bf16"));
    assert_eq!(fingerprint(&exact), fingerprint(&load("demo", Dtype::Auto)));
}

#[test]
fn reading_the_inputs_and_results_of_single_heads_changes_nothing() {
    for family in ["gpt2", "gemma2", "llama"] {
        let model = load(&fixture(&format!("models/{family}")), Dtype::Bf16);
        let tokens = tokens(family);
        let last = format!("blocks.{}.hook_resid_post", model.cfg().n_layers - 1);
        let plain = cache(&model, &tokens, &[&last]);
        let by_head = cache(&model, &tokens, &[&last, "blocks.*.attn.hook_result", "blocks.*.hook_q_input"]);
        let got = distance(plain.get(&last).unwrap(), by_head.get(&last).unwrap());
        assert!(got < 1e-3 && got.is_finite(), "{family}: {got}");
    }
}
