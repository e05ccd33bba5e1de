//! Llama Scope: `hyperparams.json` and `checkpoints/final.safetensors`. Its successors, the SAEs of the R1-Distill
//! model, have `config.json` and `sae_weights.safetensors`.
//!
//! Weights and thresholds belong to activations scaled to a mean norm of `sqrt(d_model)`. The threshold is compared
//! with the pre-activation of the scaled input, as in the project's own code.

use super::Found;
use super::place::CheckpointFiles;
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::hooks::usual_point;
use crate::sae::parts::{Matrix, Parts, Threshold};
use serde_json::{Map, Value, json};
use std::path::Path;

pub(super) fn open(place: &CheckpointFiles) -> Result<Found> {
    let (path, said) = place.object("hyperparams.json")?;
    let (_, checkpoint) = place.checkpoint("checkpoints/final.safetensors")?;
    let threshold = said.get("jump_relu_threshold").and_then(Value::as_f64).ok_or_else(|| {
        Error::malformed(&path, "`jump_relu_threshold`: expected a number")
            .with_hint("this is not the hyperparams.json of a Llama Scope SAE")
    })?;
    read(place, "llama_scope", &path, &said, checkpoint, Threshold::Shared(threshold))
}

pub(super) fn open_r1_distill(place: &CheckpointFiles) -> Result<Found> {
    let (path, said) = place.object("config.json")?;
    let (_, checkpoint) = place.checkpoint("sae_weights.safetensors")?;
    let threshold = Threshold::Log("log_jumprelu_threshold".to_owned());
    read(place, "llama_scope_r1_distill", &path, &said, checkpoint, threshold)
}

fn read(
    place: &CheckpointFiles,
    layout: &'static str,
    path: &Path,
    said: &Map<String, Value>,
    checkpoint: Checkpoint,
    threshold: Threshold,
) -> Result<Found> {
    let w_enc = Matrix::transposed("encoder.weight");
    let [d_in, _] = w_enc.sizes(&checkpoint, path)?;
    let text = |name: &str| said.get(name).and_then(Value::as_str);
    let flag = |name: &str| said.get(name).and_then(Value::as_bool).unwrap_or(false);
    let mean_norm = said.get("dataset_average_activation_norm").and_then(|norms| norms.get("in")?.as_f64());
    let factor = mean_norm.map(|norm| (d_in as f64).sqrt() / norm);
    // With "inference" the factor is in the weights already.
    let is_scaled = text("norm_activation") != Some("inference");
    let model = if place.name_contains("Llama-Scope-R1") {
        Some("deepseek-ai/DeepSeek-R1-Distill-Llama-8B")
    } else {
        place.name_contains("Llama3_1").then_some("meta-llama/Llama-3.1-8B")
    };
    let cfg = json!({
        "architecture": "jumprelu",
        "hook_name": text("hook_point_in").filter(|hook| usual_point(hook).is_some()),
        "model_name": model,
        "apply_b_dec_to_input": flag("apply_decoder_bias_to_pre_encoder"),
        "normalize_activations": if is_scaled { "expected_average_only_in" } else { "none" },
        "norm_scaling_factor": factor,
        "context_size": 1024,
        "dataset_path": "cerebras/SlimPajama-627B",
    });
    let parts = Parts {
        threshold: Some(threshold),
        threshold_times_norm: flag("sparsity_include_decoder_norm"),
        ..Parts::new(w_enc, Matrix::transposed("decoder.weight"), "encoder.bias", "decoder.bias")
    };
    let mut found = place.translated(layout, path, cfg, checkpoint, parts)?;
    if factor.is_some() && is_scaled && layout == "llama_scope" {
        let text = "its threshold is compared with the pre-activation of the scaled input, as in its authors' program; \
                    SAELens multiplies the threshold by the norm factor, so its features differ a little";
        found.notes.push(text.to_owned());
    }
    Ok(found)
}
