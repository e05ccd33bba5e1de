//! OpenAI's SAEs for GPT-2 small: `resid_post_mlp_v5_32k/autoencoders/8.pt`, a state dict with `pre_bias` and
//! `latent_bias`. See `openai/sparse_autoencoder`.

use super::Found;
use super::place::CheckpointFiles;
use crate::error::{Error, Result};
use crate::sae::parts::{Matrix, Parts};
use serde_json::{Value, json};

/// OpenAI's names of hook points in a block, and TransformerLens'.
const LOCATIONS: [(&str, &str); 5] = [
    ("mlp_post_act", "mlp.hook_post"),
    ("resid_delta_attn", "hook_attn_out"),
    ("resid_delta_mlp", "hook_mlp_out"),
    ("resid_post_attn", "hook_resid_mid"),
    ("resid_post_mlp", "hook_resid_post"),
];

pub(super) fn open(place: &CheckpointFiles) -> Result<Found> {
    let (path, checkpoint) = place.checkpoint(&place.file)?;
    let state = checkpoint.value("activation_state_dict");
    let is_topk = match checkpoint.value("activation").and_then(Value::as_str) {
        Some("TopK") => true,
        Some("ReLU") | None => false,
        Some(other) => {
            return Err(Error::malformed(&path, format!("`activation`: expected TopK or ReLU, got {other}")));
        }
    };
    let after = state.and_then(|state| state.get("postact_fn")?.as_str());
    if let Some(other) = after.filter(|name| is_topk && *name != "ReLU") {
        return Err(Error::malformed(&path, format!("`postact_fn`: expected ReLU, got {other}")));
    }
    let location = LOCATIONS.into_iter().find(|(name, _)| place.name_contains(name));
    let layer = place.file.split('.').next().and_then(|number| number.parse::<usize>().ok());
    let hook_name = location.zip(layer).map(|((_, site), layer)| format!("blocks.{layer}.{site}"));
    let cfg = json!({
        "architecture": if is_topk { "topk" } else { "standard" },
        "k": state.and_then(|state| state.get("k")),
        "hook_name": hook_name,
        "model_name": "gpt2-small",
        "normalize_activations": if is_topk { "layer_norm" } else { "none" },
        "prepend_bos": false,
        "context_size": 64,
        "model_from_pretrained_kwargs": { "center_writing_weights": false },
    });
    let parts = Parts::new(
        Matrix::transposed("encoder.weight"),
        Matrix::transposed("decoder.weight"),
        "latent_bias",
        "pre_bias",
    );
    place.translated("openai", &path, cfg, checkpoint, parts)
}
