//! sparsify: `layers.3/cfg.json` and `sae.safetensors`; the folder's name is the hook point.
//! From `sparsify/sparse_coder.py`.

use super::Found;
use super::place::{Place, sizes, values};
use crate::error::{Error, Result};
use crate::hooks::hook_name_of;
use crate::sae::weights::{Matrix, Parts};
use serde_json::{Map, Value, json};

pub(super) fn open(place: &Place) -> Result<Found> {
    let (path, said) = place.object("cfg.json")?;
    let weights = place.local("sae.safetensors")?;
    let checkpoint = place.checkpoint("sae.safetensors")?;
    let flag = |name: &str| said.get(name).and_then(Value::as_bool).unwrap_or(false);
    if let Some(other) = said.get("activation").and_then(Value::as_str).filter(|name| *name != "topk") {
        return Err(Error::malformed(&path, format!("`activation`: expected topk, got {other}"))
            .with_hint("SAEs with another activation function are not read"));
    }
    let (transcode, has_skip) = (flag("transcode"), checkpoint.shape("W_skip").is_some());
    let architecture = match (transcode, flag("signed"), has_skip) {
        (false, false, false) => "topk",
        // Early versions could keep the sign: the largest by magnitude.
        (false, true, false) => "abstopk",
        (true, false, false) => "topk_transcoder",
        (true, false, true) => "topk_skip_transcoder",
        _ => {
            return Err(Error::malformed(
                &path,
                "`signed`, `transcode` and `skip_connection` in this combination",
            )
            .with_hint("a skip is read of transcoders, and signs are read of SAEs"));
        }
    };
    // Of the run: which model, which data.
    let above = place.parent();
    let run = if above.has("config.json")? { above.object("config.json")?.1 } else { Map::new() };
    let folder = place.whole_name();
    let hook_name = folder.rsplit(['/', '\\']).next().and_then(hook_name_of);
    // A transcoder watches a module: what goes into it, and what comes out.
    let (hook_in, hook_out) = match (hook_name, transcode) {
        (Some(name), true) => {
            let before = name.replace(".hook_mlp_out", ".mlp.hook_in");
            let before = before.replace(".hook_resid_post", ".hook_resid_pre");
            (Some(before).filter(|before| *before != name), Some(name))
        }
        (name, _) => (name, None),
    };
    let [d_sae, d_in] = sizes(&checkpoint, "encoder.weight", &weights)?;
    let [_, d_out] = sizes(&checkpoint, "W_dec", &weights)?;
    let cfg = json!({
        "architecture": architecture,
        "d_in": d_in,
        "d_sae": d_sae,
        "d_out": d_out,
        "k": said.get("k"),
        "hook_name": hook_in,
        "hook_name_out": hook_out,
        "model_name": run.get("model"),
        "dataset_path": run.get("dataset"),
        "context_size": run.get("ctx_len"),
        "apply_b_dec_to_input": !transcode,
        "prepend_bos": true,
        "model_from_pretrained_kwargs": {},
    });
    let config = place.config("sparsify", &path, values(cfg))?;
    let parts = Parts {
        w_enc: Some(Matrix::transposed("encoder.weight")),
        // [d_sae, d_out], as it is used: SAELens' reader turns it round, which is wrong.
        w_dec: Matrix::plain("W_dec"),
        b_enc: checkpoint.shape("encoder.bias").map(|_| "encoder.bias".to_owned()),
        b_dec: "b_dec".to_owned(),
        threshold: None,
        magnitude: None,
        w_skip: has_skip.then(|| Matrix::transposed("W_skip")),
        scale: 1.0,
    };
    Ok(place.found(config, checkpoint, parts))
}
