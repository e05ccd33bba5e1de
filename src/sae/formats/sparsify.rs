//! sparsify: `layers.3/cfg.json` and `sae.safetensors`; the folder's name is the hook point.
//! See `sparsify/sparse_coder.py`.

use super::Found;
use super::place::CheckpointFiles;
use crate::error::{Error, Result};
use crate::hooks::usual_point;
use crate::sae::parts::{Matrix, Parts};
use serde_json::{Value, json};

pub(super) fn open(place: &CheckpointFiles) -> Result<Found> {
    let (path, said) = place.object("cfg.json")?;
    let (_, checkpoint) = place.checkpoint("sae.safetensors")?;
    let flag = |name: &str| said.get(name).and_then(Value::as_bool).unwrap_or(false);
    if let Some(other) = said.get("activation").and_then(Value::as_str).filter(|name| *name != "topk") {
        return Err(Error::malformed(&path, format!("`activation`: expected topk, got {other}"))
            .with_hint("SAEs with another activation function are not supported"));
    }
    // The folder is named after a module. With several random seeds, each seed has a folder inside that one.
    let name = place.full_name();
    let mut parts = name.rsplit(['/', '\\']);
    let mut module = parts.next();
    let mut above = place.parent();
    let is_seed = |name: &str| name.strip_prefix("seed").is_some_and(|seed| seed.parse::<u64>().is_ok());
    if module.is_some_and(is_seed) {
        module = parts.next();
        above = above.parent();
    }
    let module = module.filter(|module| usual_point(module).is_some());
    // The run's configuration: model, dataset, side of the module.
    let (_, run) = above.object_if_any("config.json", &path)?;
    let mode = run.get("hook_mode").and_then(Value::as_str).unwrap_or("output");
    let transcode = flag("transcode") || mode == "transcode";
    let has_skip = checkpoint.shape("W_skip").is_some();
    let architecture = match (transcode, flag("signed"), has_skip) {
        (false, false, false) => "topk",
        // Early versions could keep the sign and select by magnitude.
        (false, true, false) => "abstopk",
        (true, false, false) => "topk_transcoder",
        (true, false, true) => "topk_skip_transcoder",
        _ => {
            return Err(Error::malformed(
                &path,
                "`signed`, `transcode` and `skip_connection`: this combination is not supported",
            )
            .with_hint("only transcoders can have a skip, and only SAEs can be signed"));
        }
    };
    let input = module.map(|module| format!("{module}.input"));
    let output = module.map(|module| format!("{module}.output"));
    let (hook_in, hook_out) = match mode {
        _ if transcode => (input, output),
        "input" => (input, None),
        _ => (output, None),
    };
    let cfg = json!({
        "architecture": architecture,
        "k": said.get("k"),
        "hook_name": hook_in,
        "hook_name_out": hook_out,
        "model_name": run.get("model"),
        "dataset_path": run.get("dataset"),
        "context_size": run.get("ctx_len"),
    });
    let parts = Parts {
        b_enc: checkpoint.shape("encoder.bias").map(|_| "encoder.bias".to_owned()),
        w_skip: has_skip.then(|| Matrix::transposed("W_skip")),
        // W_dec is stored as [d_sae, d_out], as needed. SAELens' reader transposes it, which is wrong.
        ..Parts::new(Matrix::transposed("encoder.weight"), Matrix::plain("W_dec"), "encoder.bias", "b_dec")
    };
    place.translated("sparsify", &path, cfg, checkpoint, parts)
}
