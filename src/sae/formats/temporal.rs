//! Temporal SAEs as published: `layer_12/temporal/conf.yaml` and `latest_ckpt.safetensors`.

use super::Found;
use super::place::CheckpointFiles;
use crate::error::{Error, Result};
use crate::sae::parts::{Matrix, Parts};
use serde_json::{Value, json};

pub(super) fn open(place: &CheckpointFiles) -> Result<Found> {
    let (path, said) = place.object("conf.yaml")?;
    let (_, checkpoint) = place.checkpoint("latest_ckpt.safetensors")?;
    let sae = |name: &str| said.get("sae").and_then(|sae| sae.get(name));
    let d_in = said.get("llm").and_then(|llm| llm.get("dimin")).and_then(Value::as_u64);
    let factor = sae("exp_factor").and_then(Value::as_f64);
    let (Some(d_in), Some(factor)) = (d_in, factor) else {
        return Err(Error::malformed(&path, "`llm.dimin` and `sae.exp_factor`: expected numbers")
            .with_hint("this is not the conf.yaml of a temporal SAE"));
    };
    let tied = sae("tied_weights").and_then(Value::as_bool).unwrap_or(true);
    let layer = place.number_after("layer_");
    let cfg = json!({
        "architecture": "temporal",
        "d_in": d_in,
        "d_sae": (d_in as f64 * factor) as u64,
        "hook_name": layer.map(|layer| format!("blocks.{layer}.hook_resid_post")),
        "n_heads": sae("n_heads"),
        "n_attn_layers": sae("n_attn_layers"),
        "bottleneck_factor": sae("bottleneck_factor"),
        "sae_diff_type": sae("sae_diff_type"),
        "kval_topk": sae("kval_topk"),
        "tied_weights": tied,
        "normalize_activations": "constant_scalar_rescale",
        "activation_normalization_factor": sae("scaling_factor"),
    });
    let w_enc = (!tied).then(|| Matrix::plain("E"));
    let parts = Parts { w_enc, ..Parts::tied(Matrix::plain("D"), "b") };
    place.translated("temporal", &path, cfg, checkpoint, parts)
}
