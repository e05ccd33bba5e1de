//! SAELens' own layout: a folder with `cfg.json` and `sae_weights.safetensors`. See [`super::cfg`].

use super::place::{CheckpointFiles, object};
use super::{Found, Hints};
use crate::checkpoint::Checkpoint;
use crate::demo;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::repo::Repo;
use crate::sae::config::{Architecture, SaeConfig};
use crate::sae::weights::{Matrix, Parts, StoredThreshold, Threshold};
use serde_json::{Map, Value};
use std::path::Path;

/// The file beside a training run's checkpoint with the factor of the activations.
const SCALER: &str = "activation_scaler.json";

/// Opens a folder in this layout.
pub(super) fn open(place: &CheckpointFiles) -> Result<Found> {
    let (path, mut values) = place.object("cfg.json")?;
    let checkpoint = place.checkpoint("sae_weights.safetensors")?;
    // In the middle of a training run, the factor of the activations is not folded into the weights yet.
    if place.has(SCALER)?
        && let Some(factor) = place.object(SCALER)?.1.get("scaling_factor").filter(|factor| !factor.is_null())
    {
        values.entry("norm_scaling_factor").or_insert_with(|| factor.clone());
    }
    read(place, &path, values, checkpoint)
}

/// Opens an embedded SAE.
pub(super) fn open_demo(sae_id: Option<&str>) -> Result<Found> {
    let wanted = sae_id.unwrap_or(demo::SAES[0].sae_id);
    let sae = demo::SAES.iter().find(|sae| sae.sae_id == wanted).ok_or_else(|| Error::Unknown {
        kind: "SAE id",
        name: wanted.to_owned(),
        place: "`demo`".to_owned(),
        known: demo::SAES.iter().map(|sae| sae.sae_id.to_owned()).collect(),
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
    let mut parts = parts(&config, &checkpoint);
    let is_batch_topk = batch_topk.is_some();
    parts.threshold = batch_topk.or(parts.threshold);
    let mut found = place.found(config, checkpoint, parts);
    if is_batch_topk {
        found.notes.push(
            "this is a checkpoint from a training run; it is loaded as the jumprelu SAE that SAELens saves at the end"
                .to_owned(),
        );
    }
    Ok(found)
}

/// Returns the threshold of a batchtopk SAE that is still in training, and changes `values` to the jumprelu SAE that it
/// becomes; see `process_state_dict_for_saving_inference` in SAELens.
fn batch_topk(values: &mut Map<String, Value>, checkpoint: &Checkpoint) -> Result<Option<Threshold>> {
    let architecture = values.get("architecture").and_then(Value::as_str).unwrap_or_default();
    if !matches!(architecture, "batchtopk" | "matryoshka_batchtopk") {
        return Ok(None);
    }
    let Some(threshold) = checkpoint.scalar("topk_threshold")? else { return Ok(None) };
    // Pre-activations are multiplied by the norm of their decoder row, which the final SAE folds into its encoder.
    let rescales = values.get("rescale_acts_by_decoder_norm").and_then(Value::as_bool).unwrap_or(true);
    values.insert("architecture".to_owned(), Value::from("jumprelu"));
    values.insert("fold_decoder_norm".to_owned(), Value::from(rescales));
    Ok(Some(Threshold { kept: StoredThreshold::Shared(threshold), times_decoder_norm: rescales }))
}

fn parts(cfg: &SaeConfig, checkpoint: &Checkpoint) -> Parts {
    let is_tied = matches!(
        cfg.architecture,
        Architecture::MatchingPursuit { .. } | Architecture::Temporal { tied_weights: true, .. }
    );
    let b_enc = match cfg.architecture {
        Architecture::Gated => Some("b_gate"),
        Architecture::MatchingPursuit { .. } | Architecture::Temporal { .. } => None,
        _ => Some("b_enc"),
    };
    let threshold = match checkpoint.shape("log_threshold") {
        Some(_) if checkpoint.shape("threshold").is_none() => {
            Threshold { kept: StoredThreshold::Log("log_threshold".to_owned()), times_decoder_norm: false }
        }
        _ => Threshold::each("threshold"),
    };
    let is_gated = cfg.architecture == Architecture::Gated;
    Parts {
        w_enc: (!is_tied).then(|| Matrix::plain("W_enc")),
        w_dec: Matrix::plain("W_dec"),
        b_enc: b_enc.map(str::to_owned),
        b_dec: "b_dec".to_owned(),
        threshold: cfg.architecture.has_threshold().then_some(threshold),
        magnitude: is_gated.then(|| ["r_mag", "b_mag"].map(str::to_owned)),
        w_skip: cfg.architecture.has_skip().then(|| Matrix::transposed("W_skip")),
        scale: 1.0,
    }
}

/// Refuses the feature scaling of versions up to 5, which SAELens dropped, unless all factors are 1.
fn check_scaling_factor(path: &Path, checkpoint: &Checkpoint) -> Result<()> {
    let Some(shape) = checkpoint.shape("scaling_factor") else { return Ok(()) };
    let factors = checkpoint.read("scaling_factor", shape)?;
    if factors.iter().all(|f| *f == 1.0) {
        return Ok(());
    }
    Err(Error::malformed(path, "finetuned scaling factors are not supported")
        .with_hint("fold them into W_dec and save the SAE again"))
}
