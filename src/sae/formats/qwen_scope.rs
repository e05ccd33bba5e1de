//! Qwen Scope: `layer0.sae.pt` and one `config.json` for all layers.

use super::Found;
use super::place::{CheckpointFiles, number_after};
use crate::error::Result;
use crate::sae::parts::{Matrix, Parts};
use serde_json::{Value, json};

pub(super) fn open(place: &CheckpointFiles) -> Result<Found> {
    let (path, checkpoint) = place.checkpoint(&place.file)?;
    let (cfg_path, said) = place.object_if_any("config.json", &path)?;
    // Repositories are named `SAE-Res-Qwen3-1.7B-Base-W32K-L0_50`.
    let k = said.get("k").and_then(Value::as_u64).or(place.number_after("-L0_").map(|k| k as u64));
    let name = place.full_name();
    let in_name = name.split_once("SAE-Res-").and_then(|(_, rest)| rest.split_once("-W"));
    let model = said.get("base_model").and_then(Value::as_str).map(str::to_owned);
    let layer = number_after(&place.file, "layer");
    let cfg = json!({
        "architecture": "topk",
        "k": k,
        "hook_name": layer.map(|layer| format!("blocks.{layer}.hook_resid_post")),
        "model_name": model.or_else(|| in_name.map(|(model, _)| format!("Qwen/{model}"))),
        "apply_b_dec_to_input": false,
        "context_size": 1024,
    });
    let parts = Parts::new(Matrix::transposed("W_enc"), Matrix::transposed("W_dec"), "b_enc", "b_dec");
    place.translated("qwen_scope", &cfg_path, cfg, checkpoint, parts)
}
