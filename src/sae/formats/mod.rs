//! Checkpoint layouts. Each file reads one: where the weights are, and what the SAE expects of its input.
//!
//! The layout is detected from the files. Each layout translates its configuration to SAELens' keys, so that there is
//! one way from those to an [`SaeConfig`].

mod cfg;
mod deepseek;
mod dictionary_learning;
mod gemma_scope;
mod gemma_scope_2;
mod goodfire;
mod hook_z;
mod llama_scope;
mod mntss;
mod mwhanna;
mod openai;
mod place;
mod qwen_scope;
mod saelens;
mod sniff;
mod sparsify;
mod temporal;

pub(super) use saelens::{parts as saelens_parts, write as write_saelens};

use super::config::SaeConfig;
use super::parts::Parts;
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::repo::Repo;
use place::CheckpointFiles;
use serde_json::{Map, Value};
use std::path::PathBuf;

/// An opened SAE; its weights are not read yet.
pub(super) struct Found {
    pub(super) config: SaeConfig,
    pub(super) checkpoint: Checkpoint,
    pub(super) parts: Parts,
    /// The commit that the files belong to, if known.
    pub(super) revision: Option<String>,
    /// The files that the SAE was loaded from.
    pub(super) files: Vec<PathBuf>,
    /// What a user of this SAE should know.
    pub(super) notes: Vec<String>,
}

/// What is known about an SAE besides its files.
#[derive(Debug, Clone, Default)]
pub(super) struct Hints {
    /// SAELens' name of the loader, or saescope's name of the layout.
    pub(super) conversion: Option<String>,
    /// Values that replace those of the configuration in the files, under SAELens' keys.
    pub(super) overrides: Map<String, Value>,
    /// The factor of an `expected_average_only_in` SAE.
    pub(super) norm_scaling_factor: Option<f64>,
    /// The hook point that the SAE reads, if its files do not say.
    pub(super) hook_name: Option<String>,
    /// The model that the SAE was trained on, if its files do not say.
    pub(super) model_name: Option<String>,
}

/// Opens the SAE at a place.
type Open = fn(&CheckpointFiles) -> Result<Found>;

/// Every layout: saescope's name, SAELens' name of the loader, and the function that opens it.
const LAYOUTS: [(&str, &str, Open); 16] = [
    ("saelens", "sae_lens", saelens::open),
    ("gemma_scope", "gemma_2", gemma_scope::open),
    ("gemma_scope_transcoder", "gemma_2_transcoder", gemma_scope::open),
    ("gemma_scope_2", "gemma_3", gemma_scope_2::open),
    ("dictionary_learning", "dictionary_learning_1", dictionary_learning::open),
    ("sparsify", "sparsify", sparsify::open),
    ("llama_scope", "llama_scope", llama_scope::open),
    ("llama_scope_r1_distill", "llama_scope_r1_distill", llama_scope::open_r1_distill),
    ("goodfire", "goodfire", goodfire::open),
    ("deepseek", "deepseek_r1", deepseek::open),
    ("openai", "openai", openai::open),
    ("qwen_scope", "qwen_scope", qwen_scope::open),
    ("hook_z", "connor_rob_hook_z", hook_z::open),
    ("mwhanna", "mwhanna_transcoder", mwhanna::open),
    ("mntss", "mntss_clt_layer_transcoder", mntss::open),
    ("temporal", "temporal", temporal::open),
];

/// Opens the SAE in a folder or file of a repository; `path` is "" for the repository itself.
pub(super) fn open(repo: &Repo, path: &str, hints: &Hints, progress: &Progress) -> Result<Found> {
    let place = CheckpointFiles::new(repo, path, hints, progress)?;
    let Some(conversion) = &hints.conversion else {
        let (place, open) = sniff::sniff(&place)?;
        return open(&place);
    };
    let (_, _, open) = layout(conversion)?;
    open(&place)
}

/// Opens an embedded SAE.
pub(super) fn open_demo(sae_id: Option<&str>, conversion: Option<&str>) -> Result<Found> {
    if let Some(conversion) = conversion {
        let (ours, ..) = layout(conversion)?;
        if *ours != "saelens" {
            let expected = "`sae_lens`, as the demo is in SAELens' layout";
            let error = Error::invalid("the conversion of `demo`", expected, format!("`{conversion}`"));
            return Err(error.with_hint("leave `conversion` out"));
        }
    }
    saelens::open_demo(sae_id)
}

/// The layout with this name, saescope's or SAELens'.
fn layout(conversion: &str) -> Result<&'static (&'static str, &'static str, Open)> {
    let layout = LAYOUTS.iter().find(|(ours, saelens, _)| conversion == *ours || conversion == *saelens);
    layout.ok_or_else(|| Error::unknown("conversion", conversion, LAYOUTS.map(|(_, saelens, _)| saelens)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sae::architecture::OutputHook;
    use crate::sae::config::ActivationNormalization;
    use serde_json::json;

    fn open_with(folder: &str, path: &str, hints: &Hints) -> Result<Found> {
        let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/saes");
        open(&Repo::local(fixtures.join(folder)), path, hints, &Progress::default())
    }

    #[test]
    fn hints_add_to_the_configuration_in_the_files() {
        let overrides = json!({
            "model_from_pretrained_kwargs": { "center_writing_weights": true },
            "normalize_activations": "constant_norm_rescale",
            "dataset_path": "another",
        });
        let hints = Hints { overrides: place::values(overrides), ..Hints::default() };
        let found = open_with("saelens_legacy", "blocks.1.hook_resid_pre", &hints).unwrap();
        assert_eq!(found.config.center_writing_weights, Some(true));
        assert_eq!(found.config.normalize_activations, ActivationNormalization::ConstantNormRescale);
        assert_eq!(found.config.dataset_path.as_deref(), Some("another"));
        assert_eq!(found.config.model_name.as_deref(), Some("gpt2-small"));

        let hints = Hints { norm_scaling_factor: Some(0.2), ..Hints::default() };
        let folder = "gemma_2b_blocks.12.hook_resid_post_16384";
        let found = open_with("saelens_norm_factor", folder, &hints).unwrap();
        assert_eq!(found.config.norm_scaling_factor, Some(0.2));

        let hints = Hints {
            conversion: Some("gemma_2".to_owned()),
            hook_name: Some("blocks.1.hook_mlp_out".to_owned()),
            model_name: Some("gemma-2-2b".to_owned()),
            ..Hints::default()
        };
        let found = open_with("gemma_scope_stored", "layer_1/width_16k/average_l0_71", &hints).unwrap();
        assert_eq!(found.config.hook_name.as_deref(), Some("blocks.1.hook_mlp_out"));
        assert_eq!(found.config.model_name.as_deref(), Some("gemma-2-2b"));
        let found = open_with("gemma-scope-2b-pt-res", "embedding/width_4k/average_l0_6", &hints).unwrap();
        assert_eq!(found.config.hook_name.as_deref(), Some("hook_embed"));
    }

    #[test]
    fn each_conversion_reads_its_layout() {
        for (conversion, folder, path) in [
            ("sae_lens", "native", "standard"),
            ("sae_lens", "saelens_v5_topk", "v5_32k_layer_1.pt"),
            ("gemma_2", "gemma_scope_deflated", "layer_1/width_16k/average_l0_71"),
            ("gemma_2_transcoder", "gemma_scope_stored", "layer_1/width_16k/average_l0_71"),
            ("gemma_3", "gemma_scope_2", "resid_post/layer_1_width_16k_l0_small"),
            ("dictionary_learning_1", "dictionary_learning", "topk"),
            ("sparsify", "sparsify", "layers.1"),
            ("llama_scope", "llama_scope", "Llama3_1-8B-Base-L1R-8x"),
            ("llama_scope_r1_distill", "llama_scope_r1_distill", "L15R"),
            ("goodfire", "goodfire", "Llama-3.1-8B-Instruct-SAE-l19.pth"),
            ("deepseek_r1", "deepseek", "DeepSeek-R1-Distill-Llama-8B-SAE-l19.pt"),
            ("openai", "openai", "1.pt"),
            ("qwen_scope", "qwen_scope", "layer1.sae.pt"),
            ("mwhanna_transcoder", "mwhanna_transcoder", "layer_1.safetensors"),
            ("mntss_clt_layer_transcoder", "circuit_tracer/clt", "1"),
            ("temporal", "temporal", "layer_12/temporal"),
        ] {
            let named = Hints { conversion: Some(conversion.to_owned()), ..Hints::default() };
            let named = open_with(folder, path, &named).map(|found| found.config);
            let sniffed = open_with(folder, path, &Hints::default()).map(|found| found.config);
            match (named, sniffed) {
                // The files of a transcoder and of an SAE are the same.
                (Ok(named), Ok(_)) if conversion == "gemma_2_transcoder" => {
                    assert_ne!(named.architecture.output, OutputHook::Same);
                }
                (Ok(named), Ok(sniffed)) => assert_eq!(named, sniffed),
                (named, sniffed) => panic!("{conversion}: {named:?} {sniffed:?}"),
            }
        }
    }

    #[test]
    fn a_missing_file_is_an_error_not_a_panic() {
        for (_, conversion, _) in LAYOUTS {
            let hints = Hints { conversion: Some(conversion.to_owned()), ..Hints::default() };
            for path in ["", "nothing", "standard", "standard/expected.safetensors", "standard/cfg.json"] {
                let opened = open_with("native", path, &hints);
                assert!(conversion == "sae_lens" && path.starts_with("standard") || opened.is_err());
            }
        }
        let hints = Hints { conversion: Some("gemma_3".to_owned()), ..Hints::default() };
        let error = open_with("gemma_scope_2", "clt/layer_1_width_16k", &hints).err().unwrap();
        assert!(error.to_string().contains("several layers at once"), "{error}");
    }
}
