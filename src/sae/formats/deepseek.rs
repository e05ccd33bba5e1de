//! qresearch's SAE for DeepSeek-R1-Distill-Llama-8B, and other SAEs of two linear layers: a state dict with `encoder`
//! and `decoder`.

use super::Found;
use super::place::{CheckpointFiles, number_after};
use crate::error::Result;
use crate::sae::parts::{Matrix, Parts};
use serde_json::{Value, json};

pub(super) fn open(place: &CheckpointFiles) -> Result<Found> {
    let is_deepseek = place.name_contains("DeepSeek-R1-Distill-Llama-8B");
    let layer = number_after(&place.file, "-l").or_else(|| number_after(&place.file, "_l"));
    let layer = layer.or_else(|| number_after(&place.file, "l")).filter(|_| is_deepseek);
    let cfg = json!({
        "hook_name": layer.map(|layer| format!("blocks.{layer}.hook_resid_post")),
        "model_name": is_deepseek.then_some("deepseek-ai/DeepSeek-R1-Distill-Llama-8B"),
        "apply_b_dec_to_input": false,
        "context_size": 1024,
        "dataset_path": is_deepseek.then_some("lmsys/lmsys-chat-1m"),
    });
    linear_sae(place, "deepseek", ["encoder", "decoder"], cfg)
}

/// Opens a standard SAE of two linear layers with these names.
pub(super) fn linear_sae(
    place: &CheckpointFiles,
    layout: &'static str,
    [encoder, decoder]: [&str; 2],
    cfg: Value,
) -> Result<Found> {
    let (path, checkpoint) = place.checkpoint(&place.file)?;
    let parts = Parts::new(
        Matrix::transposed(format!("{encoder}.weight")),
        Matrix::transposed(format!("{decoder}.weight")),
        format!("{encoder}.bias"),
        format!("{decoder}.bias"),
    );
    place.translated(layout, &path, cfg, checkpoint, parts)
}
