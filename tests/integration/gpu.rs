//! Models and SAEs on an NVIDIA GPU compute what they do on the CPU. `tests/cuda/build` makes a driver that needs no GPU.

use crate::families::FAMILIES;
use crate::util::{expected, fixture, noise, tokens_of, with_default_signals};
use candle_core::{Device, Tensor};
use saescope::extract::ExtractOptions;
use saescope::hooks::{Edits, HookPoint, TokenBatch};
use saescope::interpret::{TokenListOptions, TreeOptions, VectorOptions};
use saescope::model::{Dtype, GenerateOptions, KeyValueCache, ModelOptions};
use saescope::sae::{FeatureActs, SaeOptions};
use saescope::{
    HookName, Model, Progress, Sae, create_feature_dataset, definition_tree, feature_acts, feature_vector,
    read_records, token_list,
};
use saescope_kernels::has_bf16;

fn run() -> Progress {
    Progress::default()
}

fn load_on(name: &str, device: &str, dtype: Dtype) -> Model {
    let options = ModelOptions { device: Some(device.to_owned()), dtype, ..Default::default() };
    let hint = "these tests need a GPU, or SAESCOPE_CUDA_LIBS=$(tests/cuda/build FOLDER)";
    Model::load_with(name, &options, &run()).unwrap_or_else(|error| panic!("{error}\n{hint}"))
}

/// The model on the GPU and on the CPU.
fn both(name: &str, dtype: Dtype) -> [Model; 2] {
    [load_on(name, "cuda", dtype), load_on(name, "cpu", Dtype::F32)]
}

/// The largest difference of two tensors on the CPU, relative to the largest element of the second.
#[track_caller]
fn distance(what: &str, a: &Tensor, b: &Tensor) -> f32 {
    assert_eq!(a.dims(), b.dims(), "{what}");
    assert!(a.device().is_cpu(), "{what} is not on the CPU");
    let values = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let (a, b) = (values(a), values(b));
    let size = b.iter().filter(|x| x.is_finite()).fold(0f32, |most, x| most.max(x.abs()));
    let differences = a.iter().zip(&b).map(|(a, b)| if a == b { 0.0 } else { (a - b).abs() });
    differences.fold(0f32, |most, x| if x > most || x.is_nan() { x } else { most }) / size.max(1e-30)
}

#[test]
fn every_family_computes_on_the_gpu_what_it_does_on_the_cpu() {
    for family in FAMILIES {
        let folder = fixture(&format!("models/{family}"));
        let tokens = tokens_of(&expected(&format!("models/{family}/expected.safetensors"))["input_ids"], 0);
        for (dtype, most) in
            [(Dtype::Auto, 2e-5), (Dtype::F32, 2e-5), (Dtype::Tf32, 2e-2), (Dtype::Bf16, 0.15)]
        {
            let [model, reference] = both(&folder, dtype);
            let is_exact = matches!(dtype, Dtype::Auto | Dtype::F32);
            for n in [1, tokens.len()] {
                let what = format!("{family}, {dtype:?}, {n} tokens");
                let logits = |model: &Model| model.logits(&tokens[..n], &run()).unwrap();
                let got = distance(&what, &logits(&model), &logits(&reference));
                assert!(got <= most, "{what}: logits differ by {got}");
                assert!(n == 1 || is_exact || got > 1e-6, "{what}: is it rounded at all?");
                if !is_exact {
                    continue;
                }
                let cache = |model: &Model| model.run_with_cache(&tokens[..n], &["*"], &run()).unwrap();
                let cached = cache(&model);
                for (name, activation) in cache(&reference).iter() {
                    let name = name.to_string();
                    let got = distance(&name, cached.get(&name).unwrap(), activation);
                    assert!(got <= most, "{what}: {name} differs by {got}");
                }
            }
        }
    }
}

#[test]
fn sequences_that_grow_and_branch_are_those_of_the_cpu() {
    for family in ["gpt2_text", "gemma2", "llama3_rope"] {
        let folder = fixture(&format!("models/{family}"));
        let all = both(&folder, Dtype::F32).map(|model| {
            let mut cache = KeyValueCache::default();
            let mut logits = Vec::new();
            // Two sequences; two that continue after tokens of them; a long one after one of these, which the cache must grow for.
            let steps = [
                vec![(vec![1, 5, 6, 7], None), (vec![1, 9], None)],
                vec![(vec![3], Some(2)), (vec![4, 2], Some(5))],
                vec![(vec![8; 10], Some(8))],
            ];
            for step in steps {
                let mut batch = TokenBatch::default();
                step.iter().for_each(|(tokens, _)| batch.push(tokens));
                let parents: Vec<Option<usize>> = step.into_iter().map(|(_, parent)| parent).collect();
                let resid = model.forward_from(&batch, &parents, &mut cache, &mut (), &run()).unwrap();
                let rows = model.map_logits(&resid, &run(), |_, logits| logits.to_vec()).unwrap();
                logits.extend(rows.into_iter().flatten());
            }
            Tensor::new(logits, &Device::Cpu).unwrap()
        });
        let got = distance(family, &all[0], &all[1]);
        assert!(got < 2e-5, "{family}: {got}");
    }
}

#[test]
fn generation_trees_and_lists_are_those_of_the_cpu() {
    let sae = Sae::load(("demo", "blocks.0.hook_resid_pre")).unwrap();
    let [(a, tree_a, list_a), (b, tree_b, list_b)] = both("demo", Dtype::Auto).map(|model| {
        let tokens = model.to_tokens("The old mill has", None).unwrap();
        let options = GenerateOptions { max_new_tokens: 12, temperature: 0.0, ..Default::default() };
        let generated = model.generate(&tokens, &options, &mut (), &run()).unwrap();
        let vector = feature_vector(&model, &sae, 624, &VectorOptions::default()).unwrap();
        let options = TreeOptions { cutoff: 2e-2, ..Default::default() };
        let tree = definition_tree(&model, &vector, &options, &run()).unwrap();
        (generated, tree, token_list(&model, &vector, &TokenListOptions::default()).unwrap())
    });
    assert_eq!(a, b);
    assert_eq!(list_a, list_b);
    let (a, b) = (tree_a.definitions(), tree_b.definitions());
    assert!(a.len() > 1 && a.len() == b.len(), "{} and {} definitions", a.len(), b.len());
    for (a, b) in a.iter().zip(&b) {
        assert_eq!(a.text, b.text);
        assert!((a.cumulative_prob / b.cumulative_prob - 1.0).abs() < 1e-3, "{}", a.text);
    }
}

#[test]
fn hooks_get_activations_of_the_gpu_and_may_return_others() {
    let [model, reference] = both("demo", Dtype::Auto);
    let tokens = model.to_tokens("a small boat", None).unwrap();
    let hook = HookName::in_block(2, HookPoint::MlpOut);
    let edited = |model: &Model, to: &Device| {
        let on_gpu = !model.compute().device.is_cpu();
        let edit = |out: Tensor| {
            assert_eq!(out.device().is_cuda(), on_gpu);
            Ok((out * 0.5)?.to_device(to)?)
        };
        model.run_with_hooks(&tokens, Edits::new().with(hook, edit), &run()).unwrap()
    };
    let expected = edited(&reference, &Device::Cpu);
    for to in [&Device::Cpu, &model.compute().device] {
        assert!(distance("logits", &edited(&model, to), &expected) < 2e-5);
    }
    assert!(distance("logits", &reference.logits(&tokens, &run()).unwrap(), &expected) > 1e-2);
}

/// Checks that two encodings have the same features with nearly the same activations, but at most `others` more.
#[track_caller]
fn assert_same_features(what: &str, a: &FeatureActs, b: &FeatureActs, others: usize) {
    assert_eq!(a.len(), b.len(), "{what}");
    let (mut common, mut different) = (0, 0);
    for pos in 0..a.len() {
        let ((a_features, a_values), (b_features, b_values)) = (a.at(pos), b.at(pos));
        for (feature, value) in a_features.iter().zip(a_values) {
            match b_features.binary_search(feature) {
                Ok(at) => {
                    common += 1;
                    let expected = b_values[at];
                    let near = 1e-4 * expected.abs().max(1.0);
                    assert!((value - expected).abs() <= near, "{what}, token {pos}: {value} and {expected}");
                }
                Err(_) => different += 1,
            }
        }
        different += b_features.iter().filter(|feature| !a_features.contains(feature)).count();
    }
    assert!(different <= others, "{what}: {different} features differ, {common} are common");
    assert!(common > 0, "{what}: nothing is active");
}

#[test]
fn saes_encode_on_the_gpu_what_they_do_on_the_cpu() {
    let gpu = saescope::device::open(Some("cuda")).unwrap();
    let mut count = 0;
    for entry in std::fs::read_dir(fixture("saes/native")).unwrap() {
        let folder = entry.unwrap().path();
        let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let sae = Sae::load(folder.to_str().unwrap()).unwrap();
        let x = &expected(&format!("saes/native/{name}/expected.safetensors"))["x"];
        let x = if name == "temporal" { &x.get(0).unwrap() } else { x };
        for threshold in [0.0, 0.01] {
            let encode = |x: &Tensor| sae.encode_above(x, threshold, &run()).unwrap();
            let (a, b) = (encode(&x.to_device(&gpu).unwrap()), encode(x));
            assert_same_features(&format!("{name} above {threshold}"), &a, &b, 0);
        }
        let rebuilt = |x: &Tensor| sae.forward(x).unwrap();
        assert!(distance(&name, &rebuilt(&x.to_device(&gpu).unwrap()), &rebuilt(x)) < 1e-6);
        count += 1;
    }
    assert!(count > 10, "{count}");
    // More features than there is room for at first, in several chunks of tokens.
    let sae = Sae::load("demo").unwrap();
    let wide = (noise(&[4100, sae.cfg().d_in], 3) * 40.0).unwrap();
    let (a, b) = (sae.encode(&wide.to_device(&gpu).unwrap()).unwrap(), sae.encode(&wide).unwrap());
    assert!((0..a.len()).any(|pos| a.at(pos).0.len() > 256));
    assert_same_features("many features", &a, &b, 40);
}

#[test]
fn activations_that_are_not_finite_are_named() {
    let gpu = saescope::device::open(Some("cuda")).unwrap();
    let sae = Sae::load("demo").unwrap();
    let d_in = sae.cfg().d_in;
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut x = vec![0.1; 3 * d_in];
        x[2 * d_in + 5] = bad;
        let x = Tensor::from_vec(x, (3, d_in), &gpu).unwrap();
        let error = sae.encode(&x).unwrap_err().to_string();
        assert!(error.contains("token 2, dimension 5, is NaN or infinite"), "{error}");
    }
}

#[test]
fn a_feature_dataset_of_the_gpu_is_that_of_the_cpu() {
    // All in a few passes, and a pass for each document, in which the workers take turns.
    check_dataset(64);
    check_dataset(1);
}

fn check_dataset(batch_size: usize) {
    // A screen is only for the CPU.
    let options = SaeOptions { screen: Some(true), ..Default::default() };
    let sae = Sae::load_with("demo", &options, &run()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let [a, b] = both("demo", Dtype::F32).map(|model| {
        let device = if model.compute().device.is_cpu() { "cpu" } else { "gpu" };
        let path = folder.path().join(format!("{device}.jsonl"));
        let options = ExtractOptions {
            dataset_path: "demo".to_owned(),
            output_path: path.to_str().unwrap().to_owned(),
            max_examples: Some(25),
            batch_size,
            ..Default::default()
        };
        create_feature_dataset(&model, &sae, None, &options, &run()).unwrap();
        let meta = std::fs::read_to_string(format!("{}.meta.json", path.display())).unwrap();
        assert_eq!(meta.contains("\"computed_in\": \"f32 on cuda\""), device == "gpu");
        assert_eq!(meta.contains("\"screen\": true"), device == "cpu" && has_bf16());
        read_records(&path).unwrap().map(Result::unwrap).collect::<Vec<_>>()
    });
    assert_eq!(a.len(), 25);
    let (mut common, mut different) = (0, 0);
    for (a, b) in a.iter().zip(&b) {
        assert_eq!((&a.text, &a.tokens, &a.offsets), (&b.text, &b.tokens, &b.offsets));
        for (a, b) in a.active_features.iter().zip(&b.active_features) {
            let shared = a.iter().filter(|feature| b.contains(feature)).count();
            common += shared;
            different += a.len() + b.len() - 2 * shared;
        }
    }
    assert!(common > 5000 && different <= common / 5000, "{different} features differ of {common}");
}

#[test]
fn features_in_lower_precision_are_nearly_those_of_f32() {
    let sae = Sae::load("demo").unwrap();
    let text = "The old mill has no wheel, and the river that once turned it is dry.";
    let acts = |model: &Model| {
        let batch = TokenBatch::single(&model.to_tokens(text, None).unwrap());
        feature_acts(model, &sae, &batch, 0.0, &run()).unwrap()
    };
    let exact = acts(&load_on("demo", "cpu", Dtype::F32));
    let total: usize = (0..exact.len()).map(|pos| exact.at(pos).0.len()).sum();
    for (dtype, share) in [(Dtype::Tf32, 0.02), (Dtype::Bf16, 0.1)] {
        let rough = acts(&load_on("demo", "cuda", dtype));
        let shared = |pos: usize| {
            let (a, b) = (rough.at(pos).0, exact.at(pos).0);
            a.iter().filter(|feature| b.contains(feature)).count()
        };
        let common: usize = (0..exact.len()).map(shared).sum();
        let got = 1.0 - common as f64 / total as f64;
        assert!(got <= share, "{dtype:?}: {got} of the features differ");
    }
}

/// What the program prints as an error with these variables.
fn told(script: &str, variables: &[(&str, &str)]) -> String {
    let mut command = with_default_signals(env!("CARGO_BIN_EXE_saescope"));
    command.args(["eval", script]).env_remove("SAESCOPE_DEVICE");
    command.envs(variables.iter().copied());
    let output = command.output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{script}: {stderr}");
    stderr
}

#[test]
fn what_is_missing_is_said_in_one_sentence() {
    let load = "load_model(\"demo\", #{ device: \"cuda\" })";
    let nowhere = [("SAESCOPE_CUDA_LIBS", "/nowhere"), ("LD_LIBRARY_PATH", "")];
    // A machine with a driver finds it also without the variable.
    if !std::path::Path::new("/dev/nvidiactl").exists() {
        let error = told(load, &nowhere);
        assert!(error.contains("error: there is no NVIDIA driver: libcuda.so.1 was not found"), "{error}");
        assert!(error.contains("or use `device: \"cpu\"`"), "{error}");
    }
    let error = told("load_model(\"demo\", #{ device: \"cuda:99\" })", &[]);
    assert!(error.contains("got `cuda:99`"), "{error}");
}

/// What only the driver that runs on the CPU can play.
#[test]
fn a_full_gpu_and_none_at_all_are_errors_that_say_what_to_do() {
    if std::path::Path::new("/dev/nvidiactl").exists() {
        return eprintln!("SKIPPED: a real GPU is not full on demand");
    }
    let load = "load_model(\"demo\", #{ device: \"cuda\" })";
    let error = told(&format!("{load}.logits(\"a\")"), &[("SAESCOPE_FAKE_GPU_MEMORY", "3000000")]);
    assert!(error.contains("error: the memory of the GPU is full"), "{error}");
    assert!(error.contains("`dtype: \"bf16\"`") && error.contains("`batch_size`"), "{error}");
    let none = [("SAESCOPE_FAKE_GPU_COUNT", "0")];
    let error = told(load, &none);
    assert!(error.contains("error: there is no NVIDIA GPU"), "{error}");
    let automatic = "let m = load_model(\"demo\", #{ device: \"auto\" }); m.logits(\"a\"); throw `${m}`";
    let error = told(automatic, &none);
    assert!(error.contains("Model demo") && !error.contains("cuda"), "{error}");
    let error = told(automatic, &[]);
    assert!(error.contains("computed in f32 on cuda"), "{error}");
}
