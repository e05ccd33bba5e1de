//! SAEs made of weights in memory, and written to a folder.

use crate::util::{expected, fixture, noise};
use candle_core::{DType, Device, Tensor, Var};
use saescope::sae::{
    ActivationNormalization, ActivationRule, Architecture, OutputHook, SaeConfig, SaeOptions, SaeWeights,
};
use saescope::tensors::load_safetensors;
use saescope::{Progress, Sae};
use std::path::Path;

/// Every fixture in SAELens' layout.
fn native() -> Vec<String> {
    let folders = ["native", "native_more"].map(|folder| fixture(&format!("saes/{folder}")));
    let folders = folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let mut names: Vec<_> =
        folders.map(|entry| entry.unwrap().path().to_string_lossy().into_owned()).collect();
    names.sort();
    assert!(names.len() > 20);
    names
}

/// The options with which the fixture was made.
fn options(name: &str) -> SaeOptions {
    SaeOptions { fold_decoder_norm: name.ends_with("_folded").then_some(true), ..Default::default() }
}

fn weights_of(folder: &str) -> SaeWeights {
    let mut tensors = load_safetensors(&Path::new(folder).join("sae_weights.safetensors")).unwrap();
    let mut take = |name: &str| tensors.remove(name);
    SaeWeights {
        W_enc: take("W_enc"),
        W_dec: take("W_dec").unwrap(),
        b_enc: take("b_enc"),
        b_dec: take("b_dec").unwrap(),
        threshold: take("threshold"),
        b_gate: take("b_gate"),
        r_mag: take("r_mag"),
        b_mag: take("b_mag"),
        W_skip: take("W_skip"),
        attn_layers: tensors,
    }
}

fn bits(tensor: &Tensor) -> (Vec<usize>, Vec<u32>) {
    let values = tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
    (tensor.dims().to_vec(), values.into_iter().map(f32::to_bits).collect())
}

/// Fails unless both SAEs give the same for `x`, to the last bit.
#[track_caller]
fn assert_same(what: &str, one: &Sae, other: &Sae, x: &Tensor) {
    let (features, others) = (one.encode(x).unwrap(), other.encode(x).unwrap());
    assert_eq!(features, others, "{what}");
    assert!(features.l0() > 0.0, "{what}");
    for (name, [a, b]) in [
        ("decode", [one.decode(&features), other.decode(&features)]),
        ("forward", [one.forward(x), other.forward(x)]),
        ("W_enc", [one.W_enc(), other.W_enc()]),
        ("W_dec", [one.W_dec(), other.W_dec()]),
        ("b_enc", [one.b_enc(), other.b_enc()]),
        ("b_dec", [one.b_dec(), other.b_dec()]),
        ("a feature's encoder", [one.feature(3), other.feature(3)].map(|f| f.map(|f| f.encoder))),
        ("a feature's decoder", [one.feature(3), other.feature(3)].map(|f| f.map(|f| f.decoder))),
    ] {
        assert_eq!(bits(&a.unwrap()), bits(&b.unwrap()), "{what}: {name}");
    }
}

fn x_of(folder: &str) -> Tensor {
    let x = expected(&format!("{folder}/expected.safetensors"))["x"].clone();
    if x.rank() == 3 && x.dims()[0] == 1 { x.squeeze(0).unwrap() } else { x }
}

#[test]
fn weights_in_memory_make_the_sae_that_their_file_has() {
    for folder in native() {
        let loaded = Sae::load_with(&folder, &options(&folder), &Progress::default()).unwrap();
        let made = Sae::from_weights(loaded.cfg().clone(), weights_of(&folder)).unwrap();
        assert_same(&folder, &made, &loaded, &x_of(&folder));
        assert_eq!(made.cfg(), loaded.cfg());
        assert_eq!(made.report().preprocessing, loaded.report().preprocessing);
        let (text, report) = (made.to_string().replace(" in memory", " on disk"), loaded.report());
        assert_eq!(text.replace("from: memory", &format!("from: {}", report.files[0])), loaded.to_string());
    }
}

#[test]
fn a_saved_sae_loads_as_the_same() {
    let scaled = SaeOptions { norm_scaling_factor: Some(0.21381938399317255), ..Default::default() };
    let native = native().into_iter().map(|folder| (folder.clone(), folder.clone(), options(&folder)));
    let others = [
        ("saelens_legacy/blocks.1.hook_resid_pre", ""),
        ("saelens_v5_topk/v5_32k_layer_1.pt", ""),
        ("saelens_norm_factor/gemma_2b_blocks.12.hook_resid_post_16384", ""),
        ("gemma-scope-2b-pt-res/embedding/width_4k/average_l0_6", ""),
        ("gemma_scope_2/transcoder/layer_1_width_16k_l0_small_affine", ""),
        ("dictionary_learning/autoencoder", ""),
        ("dictionary_learning/gated", ""),
        ("dictionary_learning/batch_topk", ""),
        ("llama_scope/Llama3_1-8B-Base-L1R-8x", ""),
        ("openai_more/resid_post_mlp/autoencoders", "/8.pt"),
        ("temporal/layer_12/temporal", ""),
        ("training/batchtopk", ""),
        ("training/batchtopk_scaled", ""),
    ];
    let others = others.map(|(folder, file)| {
        let options = if folder.contains("norm_factor") { scaled.clone() } else { SaeOptions::default() };
        let folder = fixture(&format!("saes/{folder}"));
        (format!("{folder}{file}"), folder, options)
    });
    let scratch = tempfile::tempdir().unwrap();
    for (i, (name, folder, options)) in native.chain(others).enumerate() {
        let loaded = Sae::load_with(&name, &options, &Progress::default()).unwrap();
        let target = scratch.path().join(format!("saes/{i}"));
        loaded.save(&target).unwrap();
        let saved = Sae::load(&target.to_string_lossy()).unwrap();
        assert_same(&name, &saved, &loaded, &x_of(&folder));
        let (cfg, weights) = loaded.to_weights().unwrap();
        assert_same(&name, &Sae::from_weights(cfg.clone(), weights).unwrap(), &loaded, &x_of(&folder));
        let mut kept = saved.cfg().clone();
        // Not written: the name, and that an early checkpoint leaves centering open.
        kept.sae_id.clone_from(&cfg.sae_id);
        kept.center_writing_weights = cfg.center_writing_weights.and(kept.center_writing_weights);
        assert_eq!(kept, cfg, "{name}");
        // Saving over its own files changes nothing.
        saved.save(&target).unwrap();
        assert_same(&name, &saved, &loaded, &x_of(&folder));
    }
}

#[test]
fn what_saelens_does_not_have_is_not_saved() {
    let folder = tempfile::tempdir().unwrap();
    let save = |sae: &Sae| sae.save(&folder.path().join("sae")).unwrap_err().to_string();
    let transcoder = Sae::load(&fixture("saes/sparsify_more/layers.2.mlp")).unwrap();
    assert!(save(&transcoder).contains("SAELens has no topk_"), "{}", save(&transcoder));
    let mut cfg = SaeConfig::new(Architecture::named("standard").unwrap(), 4, 8);
    cfg.normalize_activations = ActivationNormalization::ConstantScalarRescale;
    cfg.activation_normalization_factor = Some(0.5);
    let sae = Sae::from_weights(cfg, small()).unwrap();
    assert!(save(&sae).contains("no standard SAE with constant_scalar_rescale"), "{}", save(&sae));
    assert!(!folder.path().join("sae").exists());
}

/// Weights with `d_in = 4` and `d_sae = 8`.
fn small() -> SaeWeights {
    SaeWeights::new(noise(&[4, 8], 1), noise(&[8, 4], 2), noise(&[8], 3), noise(&[4], 4))
}

#[test]
fn an_sae_in_memory_has_its_own_weights_and_a_fingerprint() {
    let cfg = SaeConfig::new(Architecture::named("standard").unwrap(), 4, 8);
    let progress = Progress::default();
    let w_enc = Var::from_tensor(&noise(&[4, 8], 1)).unwrap();
    let weights = SaeWeights { W_enc: Some(w_enc.as_tensor().clone()), ..small() };
    let sae = Sae::from_weights(cfg.clone(), weights).unwrap();
    w_enc.set(&Tensor::zeros((4, 8), DType::F32, &Device::Cpu).unwrap()).unwrap();
    assert_same(
        "a changed variable",
        &sae,
        &Sae::from_weights(cfg.clone(), small()).unwrap(),
        &noise(&[5, 4], 9),
    );

    let fingerprint =
        |weights| Sae::from_weights(cfg.clone(), weights).unwrap().fingerprint(&progress).unwrap();
    assert_eq!(sae.fingerprint(&progress).unwrap(), fingerprint(small()));
    assert_ne!(fingerprint(small()), fingerprint(SaeWeights { b_dec: noise(&[4], 5), ..small() }));
    assert_eq!((sae.files().count(), sae.weight_files().count(), sae.revision()), (0, 0, None));
    let text = "SAE unnamed: standard, d_in 4, d_sae 8, f32 in memory\n  hook: not known\n  input: minus b_dec\n  trained \
                on: an unnamed model, context unknown, with BOS\n  from: memory (saelens layout)";
    assert_eq!(sae.to_string(), text);
}

#[test]
fn what_does_not_fit_is_explained() {
    let standard = || SaeConfig::new(Architecture::named("standard").unwrap(), 4, 8);
    let jump = || SaeConfig::new(Architecture::named("jumprelu").unwrap(), 4, 8);
    let error =
        |cfg: SaeConfig, weights: SaeWeights| Sae::from_weights(cfg, weights).unwrap_err().to_string();
    for (cfg, weights, message) in [
        (
            standard(),
            SaeWeights { W_enc: Some(noise(&[8, 4], 1)), ..small() },
            "the tensor `W_enc` of a standard SAE: expected shape [4, 8], got [8, 4]",
        ),
        (
            standard(),
            SaeWeights { b_enc: None, ..small() },
            "the tensor `b_enc` of a standard SAE: expected shape [8], got none",
        ),
        (jump(), small(), "the tensor `threshold` of a jumprelu SAE: expected shape [8], got none"),
        (
            standard(),
            SaeWeights { threshold: Some(noise(&[8], 1)), ..small() },
            "the tensors of a standard SAE: expected only W_enc, W_dec, b_dec, b_enc, got also `threshold` of shape [8]",
        ),
    ] {
        assert_eq!(error(cfg, weights), message);
    }
    let nan = (noise(&[8], 3) * f64::NAN).unwrap();
    let message = error(standard(), SaeWeights { b_enc: Some(nan), ..small() });
    assert_eq!(message, "`b_enc` of the SAE contains NaN or infinity");

    let topk = |k| ActivationRule::TopK { k, rescale_acts_by_decoder_norm: false };
    let with = |rule, output| SaeConfig::new(Architecture { rule, output }, 4, 8);
    let gated = with(ActivationRule::Gated, OutputHook::Other { skip: false });
    assert!(error(gated, small()).starts_with("the architecture of an SAE: expected standard, gated,"));
    let changed = |change: &dyn Fn(&mut SaeConfig)| {
        let mut cfg = standard();
        change(&mut cfg);
        error(cfg, small())
    };
    assert_eq!(error(with(topk(9), OutputHook::Same), small()), "`k`: expected 1 to d_sae = 8, got 9");
    assert_eq!(changed(&|cfg| cfg.d_sae = 0), "`d_sae`: expected a positive whole number, got 0");
    assert_eq!(changed(&|cfg| cfg.d_out = 5), "`d_out` of a standard SAE: expected d_in = 4, got 5");
    assert!(changed(&|cfg| cfg.norm_scaling_factor = Some(2.0)).contains("expected_average_only_in"));
}
