//! SAELens' own layout: a folder with `cfg.json` and `sae_weights.safetensors`. See [`super::cfg`].

use super::place::{CheckpointFiles, object, values};
use super::{Found, Hints};
use crate::checkpoint::Checkpoint;
use crate::demo;
use crate::error::{Error, Result};
use crate::files;
use crate::progress::Progress;
use crate::repo::Repo;
use crate::sae::architecture::{ActivationRule, OutputHook};
use crate::sae::config::{ActivationNormalization, SaeConfig};
use crate::sae::parts::{Matrix, Parts, Threshold};
use crate::sae::weights::SaeWeights;
use crate::tensors::save_safetensors;
use serde_json::{Map, Value, json};
use std::path::Path;

const CFG: &str = "cfg.json";
const WEIGHTS: &str = "sae_weights.safetensors";
/// The file beside a training run's checkpoint with the factor of the activations.
const SCALER: &str = "activation_scaler.json";

/// Opens a folder in this layout.
pub(super) fn open(place: &CheckpointFiles) -> Result<Found> {
    let (path, mut values) = place.object(CFG)?;
    let (_, checkpoint) = place.checkpoint(WEIGHTS)?;
    // In the middle of a training run, the factor of the activations is not folded into the weights yet.
    let (_, scaler) = place.object_if_any(SCALER, &path)?;
    if let Some(factor) = scaler.get("scaling_factor").filter(|factor| !factor.is_null()) {
        values.entry("norm_scaling_factor").or_insert_with(|| factor.clone());
    }
    read(place, &path, values, checkpoint)
}

/// Opens an embedded SAE.
pub(super) fn open_demo(sae_id: Option<&str>) -> Result<Found> {
    let wanted = sae_id.unwrap_or(demo::SAES[0].sae_id);
    let sae = demo::SAES.iter().find(|sae| sae.sae_id == wanted).ok_or_else(|| {
        Error::unknown("SAE id", wanted, demo::SAES.iter().map(|sae| sae.sae_id)).with_place("`demo`")
    })?;
    let checkpoint = Checkpoint::embedded("demo/sae_weights.safetensors", sae.weights)?;
    let (repo, hints, progress) = (Repo::local("demo"), Hints::default(), Progress::default());
    let folder = sae.sae_id.to_owned();
    let place =
        CheckpointFiles { repo: &repo, folder, file: String::new(), hints: &hints, progress: &progress };
    let path = Path::new("demo/cfg.json");
    read(&place, path, object(path, sae.cfg)?, checkpoint)
}

fn read(
    place: &CheckpointFiles,
    path: &Path,
    mut values: Map<String, Value>,
    checkpoint: Checkpoint,
) -> Result<Found> {
    check_scaling_factor(path, &checkpoint)?;
    let batch_topk = batch_topk(&mut values, &checkpoint)?;
    let config = place.config("saelens", path, values)?;
    let mut parts = parts(&config);
    let has = |name: &str| checkpoint.shape(name).is_some();
    if !has("threshold") && has("log_threshold") {
        parts.threshold = parts.threshold.map(|_| Threshold::Log("log_threshold".to_owned()));
    }
    let mut found = place.found(config, checkpoint, parts);
    if let Some((threshold, times_norm)) = batch_topk {
        found.parts.threshold = Some(Threshold::Shared(threshold));
        found.parts.threshold_times_norm = times_norm;
        found.notes.push(
            "this is a checkpoint from a training run; it is loaded as the jumprelu SAE that SAELens saves at the end"
                .to_owned(),
        );
    }
    Ok(found)
}

/// Returns the threshold of a batchtopk SAE that is still in training, and whether it applies to rescaled
/// pre-activations; changes `values` to the jumprelu SAE that it becomes. See
/// `process_state_dict_for_saving_inference` in SAELens.
fn batch_topk(values: &mut Map<String, Value>, checkpoint: &Checkpoint) -> Result<Option<(f64, bool)>> {
    let architecture = values.get("architecture").and_then(Value::as_str).unwrap_or_default();
    if !matches!(architecture, "batchtopk" | "matryoshka_batchtopk") {
        return Ok(None);
    }
    let Some(threshold) = checkpoint.scalar("topk_threshold")? else { return Ok(None) };
    // Pre-activations are multiplied by the norm of their decoder row, which the final SAE folds into its encoder.
    let rescales = values.get("rescale_acts_by_decoder_norm").and_then(Value::as_bool).unwrap_or(true);
    values.insert("architecture".to_owned(), Value::from("jumprelu"));
    values.insert("fold_decoder_norm".to_owned(), Value::from(rescales));
    Ok(Some((threshold, rescales)))
}

/// Returns where the weights of an SAE are among tensors with SAELens' names.
pub(in crate::sae) fn parts(cfg: &SaeConfig) -> Parts {
    let rule = cfg.architecture.rule;
    let b_enc = match rule {
        ActivationRule::Gated => Some("b_gate"),
        ActivationRule::MatchingPursuit { .. } | ActivationRule::Temporal { .. } => None,
        _ => Some("b_enc"),
    };
    let has_skip = cfg.architecture.output == OutputHook::Other { skip: true };
    Parts {
        w_enc: (!rule.is_tied()).then(|| Matrix::plain("W_enc")),
        b_enc: b_enc.map(str::to_owned),
        threshold: (rule == ActivationRule::JumpRelu).then(|| Threshold::PerFeature("threshold".to_owned())),
        magnitude: (rule == ActivationRule::Gated).then(|| ["r_mag", "b_mag"].map(str::to_owned)),
        w_skip: has_skip.then(|| Matrix::transposed("W_skip")),
        ..Parts::tied(Matrix::plain("W_dec"), "b_dec")
    }
}

/// Refuses the feature scaling of versions up to 5, which SAELens dropped, unless all factors are 1.
fn check_scaling_factor(path: &Path, checkpoint: &Checkpoint) -> Result<()> {
    let Some(shape) = checkpoint.shape("scaling_factor") else { return Ok(()) };
    let factors = checkpoint.read::<f32>("scaling_factor", shape)?;
    if factors.iter().all(|f| *f == 1.0) {
        return Ok(());
    }
    Err(Error::malformed(path, "finetuned scaling factors are not supported")
        .with_hint("fold them into W_dec and save the SAE again"))
}

/// Writes an SAE of which nothing remains to be scaled or folded, as SAELens' `save_model` does. A folder with a
/// `cfg.json` has its weights.
pub(in crate::sae) fn write(cfg: &SaeConfig, weights: SaeWeights, folder: &Path) -> Result<()> {
    let path = folder.join(CFG);
    let mut text = serde_json::to_vec_pretty(&cfg_values(cfg)?)
        .map_err(Error::failed("write the cfg.json of an SAE"))?;
    text.push(b'\n');
    std::fs::create_dir_all(folder).map_err(Error::file("create", folder))?;
    save_safetensors(weights.named(), &folder.join(WEIGHTS))?;
    files::write_atomic(&path, &text)
}

/// Returns the contents of `cfg.json`: the keys of SAELens' `SAEConfig.to_dict`.
fn cfg_values(cfg: &SaeConfig) -> Result<Map<String, Value>> {
    let (rule, output) = (cfg.architecture.rule, cfg.architecture.output);
    let unsupported = |what: &str| {
        Error::mismatch(
            format!("SAELens has no {what}, so the SAE `{}` cannot be saved in its layout", cfg.sae_id),
            "SAELens has standard and jumprelu transcoders; constant_scalar_rescale is for temporal SAEs",
        )
    };
    let is_topk = matches!(rule, ActivationRule::TopK { .. } | ActivationRule::AbsTopK { .. });
    if is_topk && output != OutputHook::Same {
        return Err(unsupported(cfg.architecture.name()));
    }
    let is_temporal = matches!(rule, ActivationRule::Temporal { .. });
    if cfg.normalize_activations == ActivationNormalization::ConstantScalarRescale && !is_temporal {
        return Err(unsupported(&format!("{} SAE with constant_scalar_rescale", cfg.architecture.name())));
    }
    let kwargs = [
        ("center_writing_weights", cfg.center_writing_weights == Some(true)),
        ("fold_value_biases", cfg.fold_value_biases),
        ("fold_ln", cfg.fold_ln),
    ];
    let kwargs = kwargs.into_iter().filter(|(_, flag)| *flag);
    let kwargs: Map<_, _> = kwargs.map(|(key, flag)| (key.to_owned(), Value::from(flag))).collect();
    let mut all = values(json!({
        "d_in": cfg.d_in,
        "d_sae": cfg.d_sae,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": cfg.apply_b_dec_to_input,
        "normalize_activations": cfg.normalize_activations.name(),
        "reshape_activations": if cfg.reshape_hook_z { "hook_z" } else { "none" },
        "metadata": {
            // The first version with this layout; without it, SAELens expects an older one.
            "sae_lens_version": "6.0.0",
            "sae_lens_training_version": null,
            "model_name": cfg.model_name,
            "hook_name": cfg.hook_name,
            "hook_name_out": cfg.hook_name_out,
            "hook_head_index": cfg.hook_head_index,
            "model_from_pretrained_kwargs": kwargs,
            "prepend_bos": cfg.prepend_bos,
            "context_size": cfg.context_size,
            "dataset_path": cfg.dataset_path,
            "neuronpedia_id": cfg.neuronpedia_id,
        },
    }));
    let rule_values =
        serde_json::to_value(cfg.architecture).map_err(Error::failed("write an architecture as JSON"))?;
    all.extend(values(rule_values));
    if output != OutputHook::Same {
        all.insert("d_out".to_owned(), Value::from(cfg.d_out));
    }
    if is_temporal {
        let kind = if rule.k().is_some() { "topk" } else { "relu" };
        let factor = cfg.activation_normalization_factor.unwrap_or(1.0);
        all.extend(values(json!({ "sae_diff_type": kind, "activation_normalization_factor": factor })));
    }
    Ok(all)
}
