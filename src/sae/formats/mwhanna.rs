//! Transcoder sets in circuit-tracer's layout, such as mwhanna's: `layer_5.safetensors` for each layer and one
//! `config.yaml`, which may be missing. See `circuit_tracer/transcoder/single_layer_transcoder.py`.

use super::Found;
use super::place::{CheckpointFiles, number_after};
use crate::error::Result;
use crate::sae::parts::{Matrix, Parts, Threshold};
use serde_json::{Value, json};

/// The thresholds, `[d_sae]`; JumpReLU transcoders only.
const THRESHOLD: &str = "activation_function.threshold";

pub(super) fn open(place: &CheckpointFiles) -> Result<Found> {
    let (path, checkpoint) = place.checkpoint(&place.file)?;
    let (cfg_path, said) = place.object_if_any("config.yaml", &path)?;
    let text = |name: &str| said.get(name).and_then(Value::as_str);
    let has = |name: &str| checkpoint.shape(name).is_some();
    let layer = number_after(&place.file, "layer_");
    let site =
        |said: Option<&str>, default: &str| Some(format!("blocks.{}.{}", layer?, said.unwrap_or(default)));
    let architecture = match (has(THRESHOLD), has("W_skip")) {
        (false, false) => "transcoder",
        (false, true) => "skip_transcoder",
        (true, false) => "jumprelu_transcoder",
        (true, true) => "jumprelu_skip_transcoder",
    };
    let cfg = json!({
        "architecture": architecture,
        "hook_name": site(text("feature_input_hook"), "mlp.hook_in"),
        "hook_name_out": site(text("feature_output_hook"), "hook_mlp_out"),
        "model_name": text("model_name"),
        "dataset_path": "monology/pile-uncopyrighted",
    });
    let parts = Parts {
        threshold: has(THRESHOLD).then(|| Threshold::PerFeature(THRESHOLD.to_owned())),
        w_skip: has("W_skip").then(|| Matrix::transposed("W_skip")),
        ..Parts::new(Matrix::transposed("W_enc"), Matrix::plain("W_dec"), "b_enc", "b_dec")
    };
    place.translated("mwhanna", &cfg_path, cfg, checkpoint, parts)
}
