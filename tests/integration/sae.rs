//! SAEs, compared with SAELens.

use crate::util::{assert_close, expected, fixture};
use candle_core::Tensor;
use saescope::sae::SaeOptions;
use saescope::{Model, Progress, Sae};

/// Compares activations, active features and reconstruction of an SAE with its fixture.
fn check(folder: &str, options: &SaeOptions) {
    let sae = Sae::load_with(&fixture(folder), options, &Progress::default()).unwrap();
    for screen in [false, true] {
        check_sae(&format!("{folder}, screen: {screen}"), folder, &sae.with_screen(screen));
    }
}

fn check_sae(what: &str, folder: &str, sae: &Sae) {
    let expected = expected(&format!("{folder}/expected.safetensors"));
    let features = sae.encode(&expected["x"]).unwrap();
    assert_close(what, &features.to_tensor().unwrap(), &expected["feature_acts"], 1e-5, 1e-5);
    let reference = expected["feature_acts"].to_vec2::<f32>().unwrap();
    for (pos, row) in reference.iter().enumerate() {
        let active: Vec<u32> = (0..row.len() as u32).filter(|i| row[*i as usize] != 0.0).collect();
        assert_eq!(features.at(pos).0, active, "{what}: active features of token {pos}");
    }
    let out = sae.forward(&expected["x"]).unwrap();
    assert_close(what, &out, &expected["sae_out"], 1e-5, 1e-5);
    assert!(features.l0() > 0.0, "{what}: nothing is active");
}

#[test]
fn architectures_and_normalizations_match_saelens() {
    for name in [
        "standard",
        "standard_no_pre_bias",
        "standard_layer_norm",
        "standard_constant_norm_rescale",
        "standard_hook_z",
        "gated",
        "jumprelu",
        "topk",
        "topk_rescaled",
    ] {
        check(&format!("saes/native/{name}"), &SaeOptions::default());
    }
}

#[test]
fn all_generations_of_saelens_configs_load() {
    check("saes/saelens_legacy/blocks.1.hook_resid_pre", &SaeOptions::default());
    check("saes/saelens_v5_topk/v5_32k_layer_1.pt", &SaeOptions::default());
    let factor = SaeOptions { norm_scaling_factor: Some(0.21381938399317255), ..Default::default() };
    check("saes/saelens_norm_factor/gemma_2b_blocks.12.hook_resid_post_16384", &factor);
}

#[test]
fn a_threshold_keeps_the_activations_above_it() {
    for name in ["standard", "gated", "jumprelu", "topk"] {
        let folder = format!("saes/native/{name}");
        let sae = Sae::load(&fixture(&folder)).unwrap();
        let x = &expected(&format!("{folder}/expected.safetensors"))["x"];
        let all = sae.encode(x).unwrap();
        let median = all.top(usize::MAX)[all.top(usize::MAX).len() / 2].value;
        let above = sae.encode_above(x, median, &Progress::default()).unwrap();
        for pos in 0..all.len() {
            let (indices, values) = all.at(pos);
            let kept: Vec<_> = indices.iter().zip(values).filter(|(_, v)| **v > median).collect();
            let (indices, values) = above.at(pos);
            assert_eq!(kept, indices.iter().zip(values).collect::<Vec<_>>(), "{name}, token {pos}");
        }
        assert!(above.l0() > 0.0 && above.l0() < all.l0(), "{name}");
    }
}

#[test]
fn centering_is_part_of_encoding_and_idempotent() {
    let options = SaeOptions { center_writing_weights: Some(true), ..Default::default() };
    let folder = fixture("saes/saelens_legacy/blocks.1.hook_resid_pre");
    let (centering, plain) =
        (Sae::load_with(&folder, &options, &Progress::default()).unwrap(), Sae::load(&folder).unwrap());
    let x = &expected("saes/saelens_legacy/blocks.1.hook_resid_pre/expected.safetensors")["x"];
    let centered = x.broadcast_sub(&x.mean_keepdim(1).unwrap()).unwrap();
    let reference = plain.encode(&centered).unwrap().to_tensor().unwrap();
    for input in [x, &centered, &(x + 100.0).unwrap()] {
        let got = centering.encode(input).unwrap().to_tensor().unwrap();
        assert_close("centered", &got, &reference, 1e-4, 1e-5);
    }
}

/// A folder with a fixture's weights and a changed config.
fn changed(name: &str, from: &str, to: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let source = |file: &str| fixture(&format!("saes/native/{name}/{file}"));
    let cfg = std::fs::read_to_string(source("cfg.json")).unwrap();
    assert!(cfg.contains(from), "{cfg}");
    std::fs::write(folder.path().join("cfg.json"), cfg.replacen(from, to, 1)).unwrap();
    std::fs::copy(source("sae_weights.safetensors"), folder.path().join("sae_weights.safetensors")).unwrap();
    folder
}

fn load(folder: &tempfile::TempDir) -> saescope::Result<Sae> {
    Sae::load(&folder.path().to_string_lossy())
}

#[test]
fn an_sae_reads_one_head_or_all_of_them() {
    let x = &expected("saes/native/standard/expected.safetensors")["x"];
    let head = changed("standard", "\"hook_name\"", "\"hook_head_index\": 1, \"hook_name\"");
    let sae = load(&head).unwrap();
    let heads = Tensor::stack(&[&(x * 3.0).unwrap(), x, &(x - 1.0).unwrap()], 1).unwrap(); // [pos, 3, 16]
    let plain = Sae::load(&fixture("saes/native/standard")).unwrap();
    assert_eq!(sae.encode(&heads).unwrap(), plain.encode(x).unwrap());
    assert_eq!(sae.forward(&heads).unwrap().dims(), x.dims());
    let joined = x.reshape((11, 2, 8)).unwrap();
    assert_eq!(plain.encode(&joined).unwrap(), plain.encode(x).unwrap());
    assert_eq!(plain.forward(&joined).unwrap().dims(), joined.dims());
}

#[test]
fn a_norm_factor_applies_only_with_its_normalization() {
    let x = &expected("saes/native/standard/expected.safetensors")["x"];
    let stray = changed("standard", "\"architecture\"", "\"norm_scaling_factor\": 0.2, \"architecture\"");
    let plain = Sae::load(&fixture("saes/native/standard")).unwrap();
    assert_eq!(load(&stray).unwrap().encode(x).unwrap(), plain.encode(x).unwrap());
    let zero = changed(
        "standard",
        "\"normalize_activations\": \"none\"",
        "\"norm_scaling_factor\": 0, \"normalize_activations\": \"expected_average_only_in\"",
    );
    assert!(load(&zero).unwrap_err().to_string().contains("expected a number above 0, got 0"));
}

#[test]
fn non_finite_values_are_errors_not_inactive_features() {
    let sae = Sae::load(&fixture("saes/native/standard_constant_norm_rescale"));
    let zeros = Tensor::zeros((2, 16), candle_core::DType::F32, &candle_core::Device::Cpu).unwrap();
    let error = sae.unwrap().encode(&zeros).unwrap_err().to_string();
    assert!(error.contains("the normalized activation"), "{error}");
    let folder = changed("standard", "{", "{");
    let file = folder.path().join("sae_weights.safetensors");
    let mut weights = candle_core::safetensors::load(&file, &candle_core::Device::Cpu).unwrap();
    let b_enc = vec![f32::NAN; 48];
    weights.insert("b_enc".to_owned(), Tensor::new(b_enc, &candle_core::Device::Cpu).unwrap());
    candle_core::safetensors::save(&weights, &file).unwrap();
    let error = load(&folder).unwrap().encode(&zeros).unwrap_err().to_string();
    assert!(error.contains("`b_enc` of the SAE contains NaN"), "{error}");
}

#[test]
fn features_have_weights_and_sparse_activations_equal_dense_ones() {
    let folder = fixture("saes/native/standard");
    let sae = Sae::load(&folder).unwrap();
    let feature = sae.feature(7).unwrap();
    let column = sae.W_enc().unwrap().contiguous().unwrap().narrow(1, 7, 1).unwrap().squeeze(1).unwrap();
    assert_close("encoder", &feature.encoder, &column, 0.0, 0.0);
    assert_close("decoder", &feature.decoder, &sae.W_dec().unwrap().get(7).unwrap(), 0.0, 0.0);

    let x = &expected("saes/native/standard/expected.safetensors")["x"];
    let features = sae.encode(x).unwrap();
    let dense = features.to_tensor().unwrap().to_vec2::<f32>().unwrap();
    let of: Vec<f32> = features.of(3).unwrap();
    assert_eq!(of, dense.iter().map(|row| row[3]).collect::<Vec<_>>());
    let top = features.top(1)[0];
    let largest = dense.iter().flatten().copied().fold(0.0, f32::max);
    assert_eq!((top.value, dense[top.pos][top.feature]), (largest, largest));
    let one = sae.encode(&x.get(2).unwrap()).unwrap();
    assert_eq!(one.at(0).0, features.at(2).0);
    let row = features.to_tensor().unwrap().narrow(0, 2, 1).unwrap();
    assert_close("one vector", &one.to_tensor().unwrap(), &row, 1e-5, 1e-5);
}

#[test]
fn invalid_names_inputs_and_configs_are_errors() {
    let load = |name: &str| Sae::load(name);
    let error = load("no-such-sae").unwrap_err();
    assert!(error.to_string().contains("unknown SAE `no-such-sae`"), "{error}");
    let error = Sae::load((&fixture("saes/native"), "standart")).unwrap_err();
    assert!(error.hint().unwrap().contains("did you mean `standard`?"), "{error} {:?}", error.hint());
    let error = Sae::load(("demo", "blocks.3.hook_resid_pre")).unwrap_err();
    assert!(error.hint().unwrap().contains("blocks.4.hook_resid_pre"), "{error}");
    let error = load(&fixture("saes/native")).unwrap_err();
    assert!(error.to_string().contains("a folder of SAEs (16)"), "{error}");
    assert!(error.hint().unwrap().contains("`gated`, `jumprelu`"), "{error} {:?}", error.hint());

    let sae = load("demo").unwrap();
    assert!(sae.feature(2048).unwrap_err().to_string().contains("0 to 2047 (d_sae = 2048), got 2048"));
    let wrong = Tensor::zeros((3, 768), candle_core::DType::F32, &candle_core::Device::Cpu).unwrap();
    let error = sae.encode(&wrong).unwrap_err().to_string();
    assert!(error.contains("reads [pos, d_in = 192]") && error.contains("got [3, 768]"), "{error}");
    let mut nan = vec![0f32; 2 * 192];
    nan[200] = f32::NAN;
    let nan = Tensor::from_vec(nan, (2, 192), &candle_core::Device::Cpu).unwrap();
    let error = sae.encode(&nan).unwrap_err().to_string();
    assert!(error.contains("token 1, dimension 8, is NaN"), "{error}");
    let canceled = Progress::default();
    canceled.cancel();
    let zeros = nan.zeros_like().unwrap();
    assert!(sae.encode_above(&zeros, 0.0, &canceled).unwrap_err().is_interrupted());

    let folder = tempfile::tempdir().unwrap();
    let name = folder.path().to_string_lossy().into_owned();
    let weights = std::fs::read(fixture("saes/native/topk/sae_weights.safetensors")).unwrap();
    std::fs::write(folder.path().join("sae_weights.safetensors"), &weights).unwrap();
    let cfg = std::fs::read_to_string(fixture("saes/native/topk/cfg.json")).unwrap();
    let with = |from: &str, to: &str| {
        assert!(cfg.contains(from));
        std::fs::write(folder.path().join("cfg.json"), cfg.replace(from, to)).unwrap();
        load(&name).unwrap_err().to_string()
    };
    assert!(with("\"k\": 5", "\"k\": 0").contains("`k`: expected a positive whole number, got 0"));
    assert!(with("\"topk\"", "\"crosscoder\"").contains("unknown SAE architecture `crosscoder`"));
    assert!(with("\"none\", \"reshape", "\"rms\", \"reshape").contains("unknown normalization `rms`"));
    assert!(with("\"d_sae\": 48", "\"d_sae\": 64").contains("expected shape [16, 64], got [16, 48]"));
    assert!(with("\"d_in\": 16", "\"d_in\": 1e99").contains("`d_in`: expected a positive whole number"));
    let boolean = with("\"apply_b_dec_to_input\": true", "\"apply_b_dec_to_input\": 0");
    assert!(boolean.contains("expected true or false, got 0"), "{boolean}");
    let context = with("\"context_size\": 64", "\"context_size\": -1");
    assert!(context.contains("expected a positive whole number, got -1"), "{context}");
    assert!(with("\"topk\"", "0").contains("`architecture`: expected a string, got 0"));
    // An unknown hook is an error only when it is needed.
    std::fs::write(folder.path().join("cfg.json"), cfg.replace("hook_resid_pre", "hook_residual")).unwrap();
    assert!(load(&name).unwrap().hook().unwrap_err().to_string().contains("unknown hook"));
    std::fs::write(folder.path().join("cfg.json"), &cfg).unwrap();
    std::fs::write(folder.path().join("sae_weights.safetensors"), &weights[..weights.len() - 1]).unwrap();
    assert!(load(&name).unwrap_err().to_string().contains("not a complete safetensors file"));
}

#[test]
fn the_demo_saes_load_and_describe_themselves() {
    let sae = Sae::load("demo").unwrap();
    let text = sae.to_string();
    assert!(text.contains("jumprelu, d_in 192, d_sae 2048, f16 on disk"), "{text}");
    assert!(text.contains("hook: blocks.4.hook_resid_pre"), "{text}");
    assert_eq!(Model::load("demo").unwrap().cfg().d_model, sae.cfg().d_in);
    assert_eq!(Sae::load(("demo", "blocks.0.hook_resid_pre")).unwrap().cfg().d_sae, 2048);
}
