//! One layer of a cross-layer transcoder, such as mntss': `W_enc_5.safetensors` and `W_dec_5.safetensors`, with one
//! `config.yaml` for all layers.

use super::Found;
use super::place::{CheckpointFiles, number_after};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::sae::parts::{Matrix, Parts, Stored, Threshold};
use serde_json::{Value, json};

pub(super) fn open(place: &CheckpointFiles) -> Result<Found> {
    let layer = match place.file.is_empty() {
        false => number_after(&place.file, "W_enc_").map(|layer| (place.clone(), layer)),
        // Without a file, the layer's number is the last part of the path.
        true => place.folder.rsplit('/').next().and_then(|n| n.parse().ok()).map(|n| (place.parent(), n)),
    };
    let Some((place, layer)) = layer else {
        return Err(Error::mismatch(
            format!("`{}` is not a layer of a cross-layer transcoder", place.full_name()),
            "give the number of the layer as the id, such as \"5\"",
        ));
    };
    let place = &place.with_file(format!("W_enc_{layer}.safetensors"));
    let path = place.local(&place.file)?;
    let decoder = place.local(&format!("W_dec_{layer}.safetensors"))?;
    let checkpoint = Checkpoint::open(&[path.clone(), decoder.clone()])?;
    let (cfg_path, said) = place.object_if_any("config.yaml", &path)?;
    let text = |name: &str| said.get(name).and_then(Value::as_str);
    let named = |name: &str| format!("{name}_{layer}");
    let w_enc = Matrix::transposed(named("W_enc"));
    let [d_in, d_sae] = w_enc.sizes(&checkpoint, &path)?;
    let (n_layers, d_out) = match checkpoint.shape(&named("W_dec")) {
        Some([_, n_layers, d_out]) => (*n_layers, *d_out),
        other => {
            let message = format!("tensor `W_dec_{layer}`: expected [d_sae, layers, d_out], got {other:?}");
            return Err(Error::malformed(&decoder, message));
        }
    };
    let has_threshold = checkpoint.shape(&named("threshold")).is_some();
    let site = |said: Option<&str>, default: &str| format!("blocks.{layer}.{}", said.unwrap_or(default));
    let cfg = json!({
        "architecture": if has_threshold { "jumprelu_transcoder" } else { "transcoder" },
        "d_in": d_in,
        "d_sae": d_sae,
        "d_out": d_out,
        "hook_name": site(text("feature_input_hook"), "hook_resid_mid"),
        "hook_name_out": site(text("feature_output_hook"), "hook_mlp_out"),
        "model_name": text("model_name"),
    });
    let parts = Parts {
        threshold: has_threshold.then(|| Threshold::PerFeature(named("threshold"))),
        ..Parts::new(
            w_enc,
            Matrix { name: named("W_dec"), stored: Stored::InLayers(n_layers) },
            named("b_enc"),
            named("b_dec"),
        )
    };
    let mut found = place.translated("mntss", &cfg_path, cfg, checkpoint, parts)?;
    found.notes.push(format!(
        "this is layer {layer} of a cross-layer transcoder, with its decoders for {n_layers} layers summed: its features \
         are right, but its output is not that of any one layer"
    ));
    Ok(found)
}
