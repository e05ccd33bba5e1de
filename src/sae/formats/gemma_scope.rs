//! Gemma Scope: `layer_20/width_16k/average_l0_71/params.npz`; the repository's name gives the hook point. Its
//! transcoders have the same files.

use super::Found;
use super::place::CheckpointFiles;
use crate::error::Result;
use crate::sae::parts::{Matrix, Parts, Threshold};
use serde_json::json;

pub(super) fn open(place: &CheckpointFiles) -> Result<Found> {
    let file = if place.file.is_empty() { "params.npz" } else { &place.file };
    let (path, checkpoint) = place.checkpoint(file)?;
    // Tensor names vary in case.
    let named = |name: &str| {
        let found = checkpoint.names().find(|known| known.eq_ignore_ascii_case(name));
        found.unwrap_or(name).to_owned()
    };
    let w_enc = Matrix::plain(named("W_enc"));
    let [d_in, _] = w_enc.sizes(&checkpoint, &path)?;

    let name = place.full_name();
    let parts: Vec<_> = name.split(['/', '\\']).collect();
    // Parent folders can have any name, so the last match counts.
    let at = parts.iter().rposition(|part| part.contains("gemma-scope-"));
    let (repository, below) = at.map_or(("", &parts[..0]), |at| (parts[at], &parts[at + 1..]));
    let says = |word: &str| repository.split('-').any(|part| part == word);
    let is_embedding = below.contains(&"embedding");
    let is_transcoder =
        says("transcoders") || place.hints.conversion.as_deref() == Some("gemma_2_transcoder");
    let site = |site: &str| place.number_after("layer_").map(|layer| format!("blocks.{layer}.{site}"));
    let hook_name = match () {
        _ if is_transcoder => site("ln2.hook_normalized"),
        _ if is_embedding => Some("hook_embed".to_owned()),
        _ if says("res") => site("hook_resid_post"),
        _ if says("mlp") => site("hook_mlp_out"),
        _ if says("att") => site("attn.hook_z"),
        _ => None,
    };
    // The first match counts: "gemma-scope-2b-it-…" also contains "2b".
    let models = ["27b-it", "27b", "9b-it", "9b", "2b-it", "2b"];
    let model = models.into_iter().find(|model| repository.contains(&format!("gemma-scope-{model}")));
    let cfg = json!({
        "architecture": if is_transcoder { "jumprelu_transcoder" } else { "jumprelu" },
        "hook_name": hook_name,
        "hook_name_out": site("hook_mlp_out").filter(|_| is_transcoder),
        "model_name": model.map(|model| format!("gemma-2-{model}")),
        "apply_b_dec_to_input": false,
        "context_size": 1024,
        "dataset_path": "monology/pile-uncopyrighted",
    });
    let parts = Parts {
        threshold: Some(Threshold::PerFeature(named("threshold"))),
        // Trained on `hook_embed` before Gemma multiplies it by sqrt(d_model).
        input_scale: if is_embedding { 1.0 / (d_in as f64).sqrt() } else { 1.0 },
        ..Parts::new(w_enc, Matrix::plain(named("W_dec")), named("b_enc"), named("b_dec"))
    };
    place.translated("gemma_scope", &path, cfg, checkpoint, parts)
}
