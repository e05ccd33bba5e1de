//! dictionary_learning: `config.json` and `ae.pt`, a state dict of one of its classes.
//! From `dictionary_learning/dictionary.py`.

use super::Found;
use super::place::{Place, values};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::hooks::hook_name_of;
use crate::sae::weights::{Matrix, Parts, Threshold};
use serde_json::{Map, Value, json};

const CLASSES: [&str; 7] = [
    "AutoEncoder",
    "AutoEncoderNew",
    "GatedAutoEncoder",
    "JumpReluAutoEncoder",
    "AutoEncoderTopK",
    "BatchTopKSAE",
    "MatryoshkaBatchTopKSAE",
];

pub(super) fn open(place: &Place) -> Result<Found> {
    let (path, said) = place.object("config.json")?;
    let checkpoint = place.checkpoint("ae.pt")?;
    let nested = |name: &str| said.get(name).and_then(Value::as_object).cloned().unwrap_or_default();
    let (trainer, buffer): (Map<_, _>, Map<_, _>) = (nested("trainer"), nested("buffer"));
    let text = |name: &str| trainer.get(name).and_then(Value::as_str);
    let class = text("dict_class").unwrap_or_default();
    if !CLASSES.contains(&class) {
        return Err(Error::Unknown {
            kind: "dictionary class",
            name: class.to_owned(),
            place: format!("`{}`", path.display()),
            known: CLASSES.map(str::to_owned).to_vec(),
        });
    }
    let by_layer = || {
        let layer = trainer.get("layer").and_then(Value::as_u64)?;
        Some(format!("blocks.{layer}.hook_resid_post"))
    };
    let k = match trainer.get("k").and_then(Value::as_u64) {
        None => checkpoint.scalar("k")?.map(|k| k as u64),
        k => k,
    };
    let cfg = json!({
        "architecture": match class {
            "GatedAutoEncoder" => "gated",
            "AutoEncoderTopK" => "topk",
            "JumpReluAutoEncoder" | "BatchTopKSAE" | "MatryoshkaBatchTopKSAE" => "jumprelu",
            _ => "standard",
        },
        "d_in": trainer.get("activation_dim"),
        "d_sae": trainer.get("dict_size"),
        "k": k,
        "hook_name": text("submodule_name").and_then(hook_name_of).or_else(by_layer),
        "model_name": text("lm_name"),
        "apply_b_dec_to_input": !matches!(class, "AutoEncoderNew" | "JumpReluAutoEncoder"),
        // What its `from_pretrained` does unasked.
        "fold_decoder_norm": class == "AutoEncoder",
        "prepend_bos": true,
        "context_size": buffer.get("ctx_len"),
        "dataset_path": "monology/pile-uncopyrighted",
        "model_from_pretrained_kwargs": {},
    });
    let config = place.config("dictionary_learning", &path, values(cfg))?;
    let parts = parts(class, &checkpoint)?;
    Ok(place.found(config, checkpoint, parts))
}

fn parts(class: &str, checkpoint: &Checkpoint) -> Result<Parts> {
    let has = |name: &str| checkpoint.shape(name).is_some();
    let either = |plain: &str, linear: &str| match has(plain) {
        true => Matrix::plain(plain),
        false => Matrix::transposed(linear),
    };
    let b_dec = ["b_dec", "bias", "decoder_bias", "decoder.bias"].into_iter().find(|name| has(name));
    let b_enc = if has("b_enc") { "b_enc" } else { "encoder.bias" };
    let threshold = match class {
        "JumpReluAutoEncoder" | "BatchTopKSAE" | "MatryoshkaBatchTopKSAE" => {
            Some(match checkpoint.scalar("threshold")? {
                Some(same) => Threshold::same(same),
                None => Threshold::each("threshold"),
            })
        }
        _ => None,
    };
    let is_gated = class == "GatedAutoEncoder";
    Ok(Parts {
        threshold,
        magnitude: is_gated.then(|| ["r_mag", "mag_bias"].map(str::to_owned)),
        ..Parts::new(
            either("W_enc", "encoder.weight"),
            either("W_dec", "decoder.weight"),
            if is_gated { "gate_bias" } else { b_enc },
            b_dec.unwrap_or("b_dec"),
        )
    })
}
