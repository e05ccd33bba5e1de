//! The attention SAEs of Kissane, Krzyzanowski and others on GPT-2 small: `<name>.pt` and `<name>_cfg.json`.
//!
//! They were trained on a model with TransformerLens' default processing, where `hook_z` has no value bias.

use super::Found;
use super::place::CheckpointFiles;
use crate::error::Result;
use crate::sae::parts::{Matrix, Parts};
use serde_json::json;

/// Returns the name of the configuration beside a file in this layout.
pub(super) fn config_name(file: &str) -> String {
    format!("{}_cfg.json", file.strip_suffix(".pt").unwrap_or(file))
}

pub(super) fn open(place: &CheckpointFiles) -> Result<Found> {
    let (path, said) = place.object(&config_name(&place.file))?;
    let (_, checkpoint) = place.checkpoint(&place.file)?;
    let cfg = json!({
        "d_in": said.get("act_size"),
        "d_sae": said.get("dict_size"),
        "hook_name": said.get("act_name"),
        "model_name": said.get("model_name"),
        "context_size": 128,
        "dataset_path": "Skylion007/openwebtext",
        "model_from_pretrained_kwargs": {
            "center_writing_weights": true,
            "fold_ln": true,
            "fold_value_biases": true,
        },
    });
    let parts = Parts::new(Matrix::plain("W_enc"), Matrix::plain("W_dec"), "b_enc", "b_dec");
    place.translated("hook_z", &path, cfg, checkpoint, parts)
}
