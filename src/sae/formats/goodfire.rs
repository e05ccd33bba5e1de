//! Goodfire: one `Llama-3.1-8B-Instruct-SAE-l19.pth`, a state dict with `encoder_linear` and `decoder_linear`.

use super::Found;
use super::deepseek::linear_sae;
use super::place::CheckpointFiles;
use crate::error::Result;
use serde_json::json;

pub(super) fn open(place: &CheckpointFiles) -> Result<Found> {
    // The file's name consists of the model and the layer.
    let named = place.file.split_once("-SAE-l");
    let layer = place.number_after("-SAE-l");
    let model = named.map(|(model, _)| match model.starts_with("Llama-") {
        true => format!("meta-llama/{model}"),
        false => model.to_owned(),
    });
    let cfg = json!({
        "hook_name": layer.map(|layer| format!("blocks.{layer}.hook_resid_post")),
        "model_name": model,
        "apply_b_dec_to_input": false,
        "dataset_path": "lmsys/lmsys-chat-1m",
    });
    linear_sae(place, "goodfire", ["encoder_linear", "decoder_linear"], cfg)
}
