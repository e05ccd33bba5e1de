//! SAEs in every layout against the formulas of the projects that define them.

mod errors;
mod made;

use crate::util::{assert_close, expected, fixture};
use candle_core::Tensor;
use saescope::sae::{ActivationRule, OutputHook, SaeOptions};
use saescope::{Progress, Sae};

/// Compares activations, active features and output of an SAE with the expected values in `folder`.
#[track_caller]
fn check_as(name: &str, sae_id: Option<&str>, folder: &str, options: &SaeOptions) -> Sae {
    let sae = Sae::load_with((&fixture(name), sae_id), options, &Progress::default())
        .unwrap_or_else(|e| panic!("{name}: {e}"));
    let expected = expected(&format!("{folder}/expected.safetensors"));
    let squeezed = |name: &str| match expected[name].dims() {
        [1, _, _] => expected[name].squeeze(0).unwrap(),
        _ => expected[name].clone(),
    };
    let (x, reference) = (squeezed("x"), squeezed("feature_acts"));
    let features = sae.encode(&x).unwrap();
    assert_close(name, &features.to_tensor().unwrap(), &reference, 1e-5, 1e-5);
    for (pos, row) in reference.to_vec2::<f32>().unwrap().iter().enumerate() {
        let active: Vec<u32> = (0..row.len() as u32).filter(|i| row[*i as usize] != 0.0).collect();
        assert_eq!(features.at(pos).0, active, "{name}: active features of token {pos}");
    }
    assert_close(name, &sae.forward(&x).unwrap(), &squeezed("sae_out"), 1e-5, 1e-5);
    assert!(features.l0() > 0.0, "{name}: nothing is active");
    assert!(sae.to_string().lines().count() <= 12, "{sae}");
    sae
}

#[track_caller]
fn check(folder: &str) -> Sae {
    check_as(folder, None, folder, &SaeOptions::default())
}

/// Fails unless the SAE has this architecture, layout and hook.
#[track_caller]
fn assert_is(sae: &Sae, architecture: &str, layout: &str, hook: Option<&str>) {
    let cfg = sae.cfg();
    let found = (cfg.architecture.name(), cfg.layout, cfg.hook_name.as_deref());
    assert_eq!(found, (architecture, layout, hook), "{}", cfg.sae_id);
}

#[test]
fn saelens_architectures_match_saelens() {
    for name in [
        "abstopk",
        "matching_pursuit",
        "temporal",
        "transcoder",
        "skip_transcoder",
        "jumprelu_transcoder",
        "jumprelu_skip_transcoder",
    ] {
        let sae = check(&format!("saes/native/{name}"));
        assert_is(&sae, name, "saelens", Some("blocks.1.hook_resid_pre"));
    }
}

#[test]
fn saelens_variants_match_saelens() {
    let sae = check("saes/native_more/skip_transcoder_between_widths");
    assert_eq!((sae.cfg().d_in, sae.cfg().d_out), (16, 12));
    assert_eq!(sae.cfg().hook_name_out.as_deref(), Some("blocks.1.hook_mlp_out"));
    assert_eq!(sae.feature(3).unwrap().decoder.dims(), [12]);
    let one = expected("saes/native_more/skip_transcoder_between_widths/expected.safetensors")["x"].get(2);
    assert_eq!(sae.forward(&one.unwrap()).unwrap().dims(), [12]);

    let sae = check("saes/native_more/temporal_untied");
    assert_eq!(sae.cfg().activation_normalization_factor, Some(0.7));
    // More tokens than attention handles at a time.
    check("saes/native_more/temporal_long");
    check("saes/native_more/matching_pursuit_by_residual");

    // The expected values are SAELens' after `fold_W_dec_norm()`.
    let fold = SaeOptions { fold_decoder_norm: Some(true), ..Default::default() };
    for name in ["gated_folded", "jumprelu_folded", "abstopk_rescaled_folded"] {
        let folder = format!("saes/native_more/{name}");
        check_as(&folder, None, &folder, &fold);
    }
}

#[test]
fn published_temporal_saes_load() {
    let folder = "saes/temporal/layer_12/temporal";
    let sae = check_as("saes/temporal", Some("layer_12/temporal"), folder, &SaeOptions::default());
    assert_is(&sae, "temporal", "temporal", Some("blocks.12.hook_resid_post"));
    assert_eq!(sae.cfg().architecture.rule.k(), Some(5));
}

#[test]
fn gemma_scope_takes_its_hook_from_the_repository_name() {
    for kept in ["stored", "deflated"] {
        let folder = format!("saes/gemma_scope_{kept}");
        let id = "layer_1/width_16k/average_l0_71";
        let sae = check_as(&folder, Some(id), &format!("{folder}/{id}"), &SaeOptions::default());
        // The site is part of the repository's name, which this folder lacks.
        assert_is(&sae, "jumprelu", "gemma_scope", None);
        let error = sae.hook().unwrap_err();
        assert!(error.hint().unwrap().contains("`hook_name`"), "{error}");
    }
    let options = SaeOptions { hook_name: Some("model.layers.1.output".to_owned()), ..Default::default() };
    let folder = "saes/gemma_scope_stored/layer_1/width_16k/average_l0_71";
    let sae = check_as(&format!("{folder}/params.npz"), None, folder, &options);
    assert_eq!(sae.hook().unwrap().to_string(), "blocks.1.hook_resid_post");

    // The same file in folders named like the repositories.
    let root = tempfile::tempdir().unwrap();
    // The names of folders further up are ignored.
    let root = root.path().join("embedding/layer_5_study/my-gemma-scope");
    for (repository, path, hook, model) in [
        ("gemma-scope-2b-pt-res", "layer_20/w", "blocks.20.hook_resid_post", "gemma-2-2b"),
        ("gemma-scope-9b-it-res", "layer_9/w", "blocks.9.hook_resid_post", "gemma-2-9b-it"),
        ("gemma-scope-27b-pt-mlp", "layer_5/w", "blocks.5.hook_mlp_out", "gemma-2-27b"),
        ("gemma-scope-2b-pt-att", "layer_0/w", "blocks.0.attn.hook_z", "gemma-2-2b"),
        ("gemma-scope-2b-pt-res", "embedding/w", "hook_embed", "gemma-2-2b"),
        ("gemma-scope-2b-pt-transcoders", "layer_3/w", "blocks.3.ln2.hook_normalized", "gemma-2-2b"),
    ] {
        let folder = root.join(repository).join(path);
        std::fs::create_dir_all(&folder).unwrap();
        let npz = fixture("saes/gemma_scope_stored/layer_1/width_16k/average_l0_71/params.npz");
        std::fs::copy(npz, folder.join("params.npz")).unwrap();
        let name = root.join(repository).to_string_lossy().into_owned();
        let full_path = folder.to_string_lossy().into_owned();
        for (name, id) in [(&name, Some(path)), (&full_path, None)] {
            let sae = Sae::load((name, id)).unwrap();
            let cfg = sae.cfg();
            assert_eq!((cfg.hook_name.as_deref(), cfg.model_name.as_deref()), (Some(hook), Some(model)));
            assert_eq!(cfg.architecture.output != OutputHook::Same, repository.ends_with("transcoders"));
        }
    }
}

#[test]
fn gemma_scope_at_the_embedding_loads() {
    let folder = "saes/gemma-scope-2b-pt-res/embedding/width_4k/average_l0_6";
    let id = Some("embedding/width_4k/average_l0_6");
    let sae = check_as("saes/gemma-scope-2b-pt-res", id, folder, &SaeOptions::default());
    assert_is(&sae, "jumprelu", "gemma_scope", Some("hook_embed"));
    assert!(sae.to_string().contains("times 0.25 (folded"), "{sae}");
}

#[test]
fn gemma_scope_2_loads() {
    let sae = check("saes/gemma_scope_2/resid_post/layer_1_width_16k_l0_small");
    assert_is(&sae, "jumprelu", "gemma_scope_2", Some("blocks.1.hook_resid_post"));
    let sae = check("saes/gemma_scope_2/transcoder/layer_1_width_16k_l0_small_affine");
    assert_is(&sae, "jumprelu_skip_transcoder", "gemma_scope_2", Some("blocks.1.mlp.hook_in"));
    assert_eq!(sae.cfg().hook_name_out.as_deref(), Some("blocks.1.hook_mlp_out"));
    assert_eq!(sae.cfg().model_name.as_deref(), Some("google/gemma-3-270m"));
}

/// The published `config.yaml` names the output by a module's hook.
#[test]
fn a_transcoder_set_names_its_hooks() {
    let folder = tempfile::tempdir().unwrap();
    let file = "layer_1.safetensors";
    std::fs::copy(fixture("saes/mwhanna_transcoder").to_owned() + "/" + file, folder.path().join(file))
        .unwrap();
    let config = "model_name: \"Qwen/Qwen3-4B\"\nmodel_kind: \"transcoder_set\"\nfeature_input_hook: \"mlp.hook_in\"\n\
                  feature_output_hook: \"mlp.hook_out\"\nscan: \"qwen3-4b\"\n";
    std::fs::write(folder.path().join("config.yaml"), config).unwrap();
    let sae = Sae::load((&folder.path().to_string_lossy(), file)).unwrap();
    assert_eq!(sae.cfg().hook_name.as_deref(), Some("blocks.1.mlp.hook_in"));
    assert_eq!(sae.cfg().hook_name_out.as_deref(), Some("blocks.1.mlp.hook_out"));
}

#[test]
fn dictionary_learning_loads() {
    for (name, architecture) in [
        ("autoencoder", "standard"),
        ("gated", "gated"),
        ("jumprelu", "jumprelu"),
        ("topk", "topk"),
        ("batch_topk", "jumprelu"),
        ("matryoshka_batch_topk", "jumprelu"),
    ] {
        let sae = check(&format!("saes/dictionary_learning/{name}"));
        assert_is(&sae, architecture, "dictionary_learning", Some("blocks.1.hook_resid_post"));
        assert_eq!(sae.cfg().fold_decoder_norm, name == "autoencoder");
    }
    let sae = check("saes/dictionary_learning_more/new");
    assert_is(&sae, "standard", "dictionary_learning", Some("blocks.1.mlp.hook_out"));
}

/// A config without a class gets the class that its tensors imply, if that is unambiguous.
#[test]
fn dictionary_learning_infers_a_missing_class() {
    let copy = |name: &str, from: &str, trainer: Option<&str>| {
        let folder = tempfile::tempdir().unwrap();
        for file in ["ae.pt", "expected.safetensors"] {
            std::fs::copy(fixture(&format!("saes/{from}/{file}")), folder.path().join(file)).unwrap();
        }
        let config = std::fs::read(fixture(&format!("saes/{from}/config.json"))).unwrap();
        let mut config: serde_json::Value = serde_json::from_slice(&config).unwrap();
        let trainer_config = config["trainer"].as_object_mut().unwrap();
        assert!(trainer_config.remove("dict_class").is_some(), "{name}");
        trainer_config.remove("trainer_class");
        trainer_config.extend(trainer.map(|class| ("trainer_class".to_owned(), class.into())));
        std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        folder
    };
    for (from, trainer, architecture) in [
        ("dictionary_learning/autoencoder", None, "standard"),
        ("dictionary_learning/autoencoder", Some("StandardTrainer"), "standard"),
        ("dictionary_learning_more/new", Some("StandardTrainerAprilUpdate"), "standard"),
        ("dictionary_learning/gated", None, "gated"),
        ("dictionary_learning/jumprelu", None, "jumprelu"),
        ("dictionary_learning/topk", Some("TopKTrainer"), "topk"),
        ("dictionary_learning/batch_topk", Some("BatchTopKTrainer"), "jumprelu"),
        ("dictionary_learning/matryoshka_batch_topk", None, "jumprelu"),
    ] {
        let folder = copy(from, from, trainer);
        let name = folder.path().to_string_lossy().into_owned();
        let sae = check_as(&name, None, &name, &SaeOptions::default());
        assert_eq!(sae.cfg().architecture.name(), architecture, "{from}");
        assert_eq!(sae.cfg().fold_decoder_norm, from.ends_with("autoencoder"), "{from}");
    }
    // Two classes share these tensors, and nothing decides between them.
    let folder = copy("two", "dictionary_learning/batch_topk", None);
    let error = Sae::load(&folder.path().to_string_lossy()).err().unwrap();
    assert!(error.to_string().contains("unknown dictionary class"), "{error}");
    assert!(error.hint().unwrap().contains("`BatchTopKSAE`"), "{error}");
}

/// A batchtopk checkpoint of a training run loads as the jumprelu SAE that SAELens saves at the end of the run.
#[test]
fn training_checkpoints_load_as_jumprelu() {
    for (name, rescales, factor) in [
        ("batchtopk", true, None),
        ("batchtopk_plain", false, None),
        ("batchtopk_scaled", true, Some(0.37)),
        ("matryoshka", true, None),
    ] {
        let sae = check(&format!("saes/training/{name}"));
        assert_is(&sae, "jumprelu", "saelens", Some("blocks.1.hook_resid_post"));
        assert_eq!(
            (sae.cfg().fold_decoder_norm, sae.cfg().norm_scaling_factor),
            (rescales, factor),
            "{name}"
        );
        let warnings = sae.report().warnings;
        assert!(warnings.iter().any(|warning| warning.contains("from a training run")), "{warnings:?}");
    }
}

#[test]
fn sparsify_loads() {
    let sae = check("saes/sparsify/layers.1");
    assert_is(&sae, "topk", "sparsify", Some("blocks.1.hook_resid_post"));
    // The run's config is in the parent of the SAE's folder.
    let folder = "saes/sparsify_more/layers.2.mlp";
    let sae = check_as("saes/sparsify_more", Some("layers.2.mlp"), folder, &SaeOptions::default());
    assert_is(&sae, "topk_skip_transcoder", "sparsify", Some("blocks.2.mlp.hook_in"));
    assert_eq!(sae.cfg().hook_name_out.as_deref(), Some("blocks.2.mlp.hook_out"));
    assert_eq!(sae.cfg().model_name.as_deref(), Some("HuggingFaceTB/SmolLM2-135M"));
    assert_eq!(sae.cfg().context_size, Some(2048));
    let sae = check("saes/sparsify_more/h.5");
    assert_is(&sae, "abstopk", "sparsify", Some("blocks.5.hook_resid_post"));
}

#[test]
fn llama_scope_loads() {
    let sae = check("saes/llama_scope/Llama3_1-8B-Base-L1R-8x");
    assert_is(&sae, "jumprelu", "llama_scope", Some("blocks.1.hook_resid_post"));
    assert_eq!(sae.cfg().norm_scaling_factor, Some(4.0 / 7.5));
    assert_eq!(sae.cfg().dtype, "bf16");
    for layer in ["L15R", "L16R"] {
        let sae = check(&format!("saes/llama_scope_r1_distill/{layer}"));
        assert_is(&sae, "jumprelu", "llama_scope_r1_distill", Some("blocks.15.hook_resid_post"));
    }
}

#[test]
fn single_file_layouts_load() {
    let sae = check_as(
        "saes/goodfire/Llama-3.1-8B-Instruct-SAE-l19.pth",
        None,
        "saes/goodfire",
        &SaeOptions::default(),
    );
    assert_is(&sae, "standard", "goodfire", Some("blocks.19.hook_resid_post"));
    assert_eq!(sae.cfg().model_name.as_deref(), Some("meta-llama/Llama-3.1-8B-Instruct"));
    // By its folder, in which it is the only SAE.
    assert_is(&check("saes/goodfire"), "standard", "goodfire", Some("blocks.19.hook_resid_post"));

    let sae = check("saes/openai");
    assert_is(&sae, "topk", "openai", None);
    assert_eq!(sae.cfg().architecture.rule.k(), Some(6));

    let sae = check_as("saes/qwen_scope", Some("layer1.sae.pt"), "saes/qwen_scope", &SaeOptions::default());
    assert_is(&sae, "topk", "qwen_scope", Some("blocks.1.hook_resid_post"));

    let sae = check("saes/hook_z_kk");
    assert_is(&sae, "standard", "hook_z", Some("blocks.1.attn.hook_z"));
    assert!(sae.cfg().fold_value_biases && sae.cfg().fold_ln);

    let sae = check("saes/mwhanna_transcoder");
    assert_is(&sae, "transcoder", "mwhanna", Some("blocks.1.mlp.hook_in"));
    assert_eq!(sae.cfg().model_name.as_deref(), Some("Qwen/Qwen3-0.6B"));

    let folder = "saes/openai_more/resid_post_mlp/autoencoders";
    let sae = check_as(&format!("{folder}/8.pt"), None, folder, &SaeOptions::default());
    assert_is(&sae, "standard", "openai", Some("blocks.8.hook_resid_post"));

    let sae = check("saes/deepseek");
    assert_is(&sae, "standard", "deepseek", Some("blocks.19.hook_resid_post"));

    let sae = check("saes/circuit_tracer/skip");
    assert_is(&sae, "jumprelu_skip_transcoder", "mwhanna", Some("blocks.3.mlp.hook_in"));
}

#[test]
fn a_layer_of_a_cross_layer_transcoder_loads() {
    let folder = "saes/circuit_tracer/clt";
    for (name, id) in [(folder, Some("1")), ("saes/circuit_tracer", Some("clt/1")), (folder, None)] {
        let sae = check_as(name, id, folder, &SaeOptions::default());
        assert_is(&sae, "transcoder", "mntss", Some("blocks.1.hook_resid_mid"));
        assert!(sae.warnings()[0].contains("its decoders for 3 layers summed"), "{sae}");
    }
}

#[test]
fn folding_the_decoder_norm_scales_features_but_not_the_output() {
    let fold = SaeOptions { fold_decoder_norm: Some(true), ..Default::default() };
    for name in ["standard", "gated", "jumprelu", "topk_rescaled", "transcoder", "jumprelu_skip_transcoder"] {
        let name = fixture(&format!("saes/native/{name}"));
        let plain = Sae::load(&name).unwrap();
        let folded = Sae::load_with(&name, &fold, &Progress::default()).unwrap();
        let x = &expected(&format!("{name}/expected.safetensors"))["x"];
        let norms = plain.W_dec().unwrap().sqr().unwrap().sum(1).unwrap().sqrt().unwrap();
        let mut reference = plain.encode(x).unwrap().to_tensor().unwrap();
        if !plain.cfg().architecture.rule.rescales() {
            reference = reference.broadcast_mul(&norms).unwrap();
        }
        assert_close(&name, &folded.encode(x).unwrap().to_tensor().unwrap(), &reference, 1e-5, 1e-5);
        assert_close(&name, &folded.forward(x).unwrap(), &plain.forward(x).unwrap(), 1e-5, 1e-5);
        assert!(folded.cfg().fold_decoder_norm && folded.to_string().contains("fold_decoder_norm"));
    }
    for name in ["topk", "abstopk", "matching_pursuit", "temporal"] {
        let error = Sae::load_with(&fixture(&format!("saes/native/{name}")), &fold, &Progress::default())
            .unwrap_err();
        assert!(error.to_string().contains("would change which features"), "{error}");
    }
}

#[test]
fn a_report_describes_the_loaded_sae() {
    let sae = check("saes/llama_scope/Llama3_1-8B-Base-L1R-8x");
    let report = sae.report();
    assert_is(&sae, "jumprelu", "llama_scope", sae.cfg().hook_name.as_deref());
    assert_eq!((report.cfg.d_in, report.cfg.d_sae, report.cfg.d_out), (16, 48, 16));
    let factor = 4.0 / 7.5;
    assert_eq!(report.preprocessing, [format!("times {factor} (folded into the weights)")]);
    assert!(report.files[0].ends_with("checkpoints/final.safetensors"), "{:?}", report.files);
    assert!(report.revision.is_none());
    assert!(report.warnings.len() == 1 && report.warnings[0].contains("its threshold is compared with"));
    let text = sae.to_string();
    assert!(text.contains("llama_scope layout") && text.contains("bf16 on disk"), "{text}");

    let sae = check("saes/hook_z_kk");
    assert_eq!(sae.report().preprocessing, ["minus the value bias", "heads joined", "minus b_dec"]);
    let sae = check("saes/saelens_legacy/blocks.1.hook_resid_pre");
    assert!(sae.report().warnings[0].contains("center_writing_weights"), "{sae}");
}

#[test]
fn thresholds_and_top_use_absolute_values() {
    let sae = Sae::load(&fixture("saes/native/abstopk")).unwrap();
    let x = &expected("saes/native/abstopk/expected.safetensors")["x"];
    let all = sae.encode(x).unwrap();
    let middle = all.top(usize::MAX)[all.top(usize::MAX).len() / 2].value.abs();
    let above = sae.encode_above(x, middle, &Progress::default()).unwrap();
    let (mut negative, mut dropped) = (0, 0);
    for pos in 0..all.len() {
        let (indices, values) = all.at(pos);
        let kept: Vec<_> = indices.iter().zip(values).filter(|(_, v)| v.abs() > middle).collect();
        negative += kept.iter().filter(|(_, v)| **v < 0.0).count();
        dropped += indices.len() - kept.len();
        let (indices, values) = above.at(pos);
        assert_eq!(kept, indices.iter().zip(values).collect::<Vec<_>>(), "token {pos}");
    }
    assert!(negative > 0 && dropped > 0);
    let top = all.top(3);
    assert!(top[0].value.abs() >= top[1].value.abs() && top[1].value.abs() >= top[2].value.abs());
}

#[test]
fn a_temporal_sae_encodes_each_sequence_separately() {
    let sae = Sae::load(&fixture("saes/native/temporal")).unwrap();
    assert!(matches!(sae.cfg().architecture.rule, ActivationRule::Temporal { n_heads: 4, .. }));
    let x = expected("saes/native/temporal/expected.safetensors")["x"].squeeze(0).unwrap();
    let two = Tensor::cat(&[&x, &x.narrow(0, 3, 5).unwrap()], 0).unwrap();
    let progress = Progress::default();
    let both = sae.encode_sequences(&two, &[0..11, 11..16], 0.0, &progress).unwrap().to_tensor().unwrap();
    let first = sae.encode(&x).unwrap().to_tensor().unwrap();
    let second = sae.encode(&x.narrow(0, 3, 5).unwrap()).unwrap().to_tensor().unwrap();
    assert_close("first", &both.narrow(0, 0, 11).unwrap(), &first, 1e-6, 1e-6);
    assert_close("second", &both.narrow(0, 11, 5).unwrap(), &second, 1e-6, 1e-6);
    let error = sae.encode_sequences(&two, &[0..11, 12..16], 0.0, &progress).unwrap_err();
    assert!(error.to_string().contains("do not cover the 16 tokens"), "{error}");
}
