//! Gemma Scope 2: `resid_post/layer_12_width_16k_l0_small/params.safetensors` with a `config.json` that may be missing.

use super::Found;
use super::place::CheckpointFiles;
use crate::error::{Error, Result};
use crate::hooks::usual_point;
use crate::sae::parts::{Matrix, Parts, Threshold};
use serde_json::{Value, json};
use std::path::Path;

pub(super) fn open(place: &CheckpointFiles) -> Result<Found> {
    let folder = place.path();
    if let Some(kind) =
        folder.split('/').find(|part| part.starts_with("clt") || part.starts_with("crosscoder"))
    {
        return Err(several_layers_error(Path::new(&place.full_name()), kind));
    }
    let (path, checkpoint) = place.checkpoint("params.safetensors")?;
    let (cfg_path, said) = place.object_if_any("config.json", &path)?;
    let text = |name: &str| said.get(name).and_then(Value::as_str);
    let kind = text("type").unwrap_or(if place.name_contains("transcoder") { "transcoder" } else { "sae" });
    if !matches!(kind, "sae" | "transcoder") {
        return Err(several_layers_error(&cfg_path, kind));
    }
    if let Some(other) = text("architecture").filter(|name| *name != "jump_relu") {
        return Err(Error::malformed(&cfg_path, format!("`architecture`: expected jump_relu, got {other}")));
    }
    let is_transcoder = kind == "transcoder";
    let has_skip = is_transcoder && checkpoint.shape("affine_skip_connection").is_some();
    let in_path = |site: &str| place.number_after("layer_").map(|layer| format!("blocks.{layer}.{site}"));
    let by_path = || match () {
        _ if is_transcoder => in_path("mlp.hook_in"),
        _ if place.name_contains("resid_post") => in_path("hook_resid_post"),
        _ if place.name_contains("attn_out") => in_path("attn.hook_z"),
        _ if place.name_contains("mlp_out") => in_path("hook_mlp_out"),
        _ => None,
    };
    let hook = |name: &str| text(name).filter(|hook| usual_point(hook).is_some()).map(str::to_owned);
    let hook_name = hook("hf_hook_point_in").or_else(by_path);
    let hook_name_out = hook("hf_hook_point_out").or_else(|| in_path("hook_mlp_out"));
    let cfg = json!({
        "architecture": match (is_transcoder, has_skip) {
            (false, _) => "jumprelu",
            (true, false) => "jumprelu_transcoder",
            (true, true) => "jumprelu_skip_transcoder",
        },
        "hook_name": hook_name,
        "hook_name_out": hook_name_out.filter(|_| is_transcoder),
        "model_name": text("model_name").map(model_name),
        "apply_b_dec_to_input": false,
        "context_size": 1024,
        "dataset_path": "monology/pile-uncopyrighted",
    });
    let parts = Parts {
        threshold: Some(Threshold::PerFeature("threshold".to_owned())),
        // [d_in, d_out], used as `x · affine`.
        w_skip: has_skip.then(|| Matrix::plain("affine_skip_connection")),
        ..Parts::new(Matrix::plain("w_enc"), Matrix::plain("w_dec"), "b_enc", "b_dec")
    };
    place.translated("gemma_scope_2", &cfg_path, cfg, checkpoint, parts)
}

fn several_layers_error(path: &Path, kind: &str) -> Error {
    Error::malformed(path, format!("a `{kind}` reads or writes several layers at once"))
        .with_hint("only SAEs and transcoders of one layer are supported")
}

/// Returns the hub's name of a model: the configs omit the owner and write `v3`, and the smallest has no `-pt`.
fn model_name(said: &str) -> String {
    let mut name = said.replace("-v3", "-3");
    if !name.contains("google") {
        name = format!("google/{name}");
    }
    if name.contains("270m") { name.replace("-pt", "") } else { name }
}
