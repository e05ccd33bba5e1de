//! SAEs that cannot be loaded: damaged files, wrong layouts and impossible configs.

use super::assert_is;
use crate::util::{expected, fixture};
use saescope::sae::SaeOptions;
use saescope::{Progress, Sae};

#[test]
fn a_damaged_torch_checkpoint_never_panics() {
    let folder = tempfile::tempdir().unwrap();
    let source =
        |file: &str| std::fs::read(fixture(&format!("saes/dictionary_learning/gated/{file}"))).unwrap();
    std::fs::write(folder.path().join("config.json"), source("config.json")).unwrap();
    let x = &expected("saes/dictionary_learning/gated/expected.safetensors")["x"];
    let intact = source("ae.pt");
    let (mut loaded, mut failed) = (0, 0);
    for i in 0..300 {
        let mut damaged = intact.clone();
        let at = i * 7919 % damaged.len();
        damaged[at] ^= 1 << (i % 8);
        std::fs::write(folder.path().join("ae.pt"), damaged).unwrap();
        let sae = Sae::load(&folder.path().to_string_lossy());
        match sae.and_then(|sae| sae.forward(x)) {
            Ok(_) => loaded += 1,
            Err(_) => failed += 1,
        }
    }
    assert!(loaded > 0 && failed > 0, "{loaded} {failed}");
}

#[test]
fn the_conversion_option_overrides_the_detected_layout() {
    let with =
        |conversion: &str| SaeOptions { conversion: Some(conversion.to_owned()), ..Default::default() };
    let folder = "saes/gemma_scope_stored/layer_1/width_16k/average_l0_71";
    let sae = Sae::load_with(&fixture(folder), &with("gemma_2_transcoder"), &Progress::default()).unwrap();
    assert_is(&sae, "jumprelu_transcoder", "gemma_scope", Some("blocks.1.ln2.hook_normalized"));
    let error = Sae::load_with(&fixture(folder), &with("gemma_4"), &Progress::default()).unwrap_err();
    assert!(error.to_string().contains("unknown conversion `gemma_4`"), "{error}");
    let error = Sae::load_with(&fixture(folder), &with("sparsify"), &Progress::default()).unwrap_err();
    assert!(error.to_string().contains("no file `cfg.json`"), "{error}");
}

#[test]
fn a_path_without_an_sae_lists_what_was_expected_and_found() {
    let load = |name: &str| Sae::load(&fixture(name)).unwrap_err();
    let error = load("saes/dictionary_learning");
    assert!(error.to_string().contains("a folder of SAEs (6)"), "{error}");
    assert!(error.hint().unwrap().contains("`autoencoder`, `batch_topk`"), "{error}");
    let error = load("saes/llama_scope");
    assert!(error.hint().unwrap().contains("`Llama3_1-8B-Base-L1R-8x`"), "{error}");
    let error = load("datasets/plain");
    assert!(error.hint().unwrap().contains("`params.npz`"), "{error} {:?}", error.hint());
    let error = Sae::load((&fixture("saes/qwen_scope"), "layer2.sae.pt"));
    let error = error.unwrap_err();
    assert!(error.hint().unwrap().contains("did you mean `layer1.sae.pt`?"), "{error}");
    let error = load("saes/native/standard/expected.safetensors");
    assert!(error.to_string().contains("it contains `feature_acts`, `sae_out`, `x`"), "{error}");
}

#[test]
fn impossible_config_values_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, from: &str, to: &str| {
        let source = |file: &str| fixture(&format!("saes/native/{name}/{file}"));
        let cfg = std::fs::read_to_string(source("cfg.json")).unwrap();
        assert!(cfg.contains(from), "{cfg}");
        std::fs::write(folder.path().join("cfg.json"), cfg.replacen(from, to, 1)).unwrap();
        let weights = folder.path().join("sae_weights.safetensors");
        std::fs::copy(source("sae_weights.safetensors"), weights).unwrap();
        let loaded = Sae::load(&folder.path().to_string_lossy());
        loaded.unwrap_err().to_string()
    };
    for (name, from, to, message) in [
        ("temporal", "\"n_attn_layers\": 1", "\"n_attn_layers\": 1000000000000", "at most 64"),
        ("temporal", "\"n_heads\": 4", "\"n_heads\": 5", "a divisor of `d_sae`"),
        ("temporal", "\"n_attn_layers\": 1", "\"n_attn_layers\": 2", "unknown tensor `attn_layers.1"),
        (
            "temporal",
            "\"sae_diff_type\": \"topk\"",
            "\"sae_diff_type\": \"x\"",
            "unknown kind of temporal SAE `x`",
        ),
        (
            "transcoder",
            "\"apply_b_dec_to_input\": false",
            "\"apply_b_dec_to_input\": true",
            "false, for a transcoder",
        ),
        ("transcoder", "\"d_out\": 16", "\"d_out\": 12", "expected shape [48, 12], got [48, 16]"),
        ("abstopk", "\"k\": 5", "\"k\": -5", "`k`: expected a positive whole number, got -5"),
        (
            "matching_pursuit",
            "\"residual_threshold\": 0.01",
            "\"residual_threshold\": []",
            "expected a number, got []",
        ),
    ] {
        let error = write(name, from, to);
        assert!(error.contains(message), "{error}");
    }
    let options = SaeOptions { norm_scaling_factor: Some(0.5), ..Default::default() };
    let error = Sae::load_with(&fixture("saes/native/temporal"), &options, &Progress::default()).unwrap_err();
    assert!(error.to_string().contains("`norm_scaling_factor` is for SAEs with"), "{error}");
    let options = SaeOptions { hook_name: Some("blocks.1.hook_oddity".to_owned()), ..Default::default() };
    let error = Sae::load_with(&fixture("saes/native/standard"), &options, &Progress::default()).unwrap_err();
    assert!(error.to_string().contains("unknown hook `blocks.1.hook_oddity`"), "{error}");
}
