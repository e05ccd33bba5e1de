//! dictionary_learning: `config.json` and `ae.pt`, a state dict of one of its classes.
//! See `dictionary_learning/dictionary.py`.

use super::Found;
use super::place::CheckpointFiles;
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::hooks::{HookName, HookPoint, usual_point};
use crate::sae::parts::{Matrix, Parts, Threshold};
use serde_json::{Map, Value, json};
use std::path::Path;

/// The classes, and the architecture of each.
const CLASSES: [(&str, &str); 7] = [
    ("AutoEncoder", "standard"),
    ("AutoEncoderNew", "standard"),
    ("GatedAutoEncoder", "gated"),
    ("JumpReluAutoEncoder", "jumprelu"),
    ("AutoEncoderTopK", "topk"),
    ("BatchTopKSAE", "jumprelu"),
    ("MatryoshkaBatchTopKSAE", "jumprelu"),
];

pub(super) fn open(place: &CheckpointFiles) -> Result<Found> {
    let (path, said) = place.object("config.json")?;
    let (weights, checkpoint) = place.checkpoint("ae.pt")?;
    let nested = |name: &str| said.get(name).and_then(Value::as_object).cloned().unwrap_or_default();
    let (trainer, buffer): (Map<_, _>, Map<_, _>) = (nested("trainer"), nested("buffer"));
    let text = |name: &str| trainer.get(name).and_then(Value::as_str);
    let class = text("dict_class").or_else(|| class_of(text("trainer_class"), &checkpoint));
    let class = class.unwrap_or_default();
    let Some((_, architecture)) = CLASSES.into_iter().find(|(known, _)| *known == class) else {
        let error = Error::unknown("dictionary class", class, CLASSES.map(|(known, _)| known));
        return Err(error.with_place(format!("`{}`", path.display())));
    };
    let w_enc = stored_as("W_enc", "encoder.weight", &checkpoint);
    let [d_in, d_sae] = w_enc.sizes(&checkpoint, &weights)?;
    let k = match trainer.get("k").and_then(Value::as_u64) {
        None => checkpoint.scalar("k")?.map(|k| k as u64),
        k => k,
    };
    let size = |key: &str, in_weights: usize| trainer.get(key).cloned().unwrap_or(Value::from(in_weights));
    let cfg = json!({
        "architecture": architecture,
        "d_in": size("activation_dim", d_in),
        "d_sae": size("dict_size", d_sae),
        "k": k,
        "hook_name": hook(&path, place, &trainer, &buffer)?,
        "model_name": text("lm_name"),
        "apply_b_dec_to_input": !matches!(class, "AutoEncoderNew" | "JumpReluAutoEncoder"),
        // As its `from_pretrained` does by default.
        "fold_decoder_norm": class == "AutoEncoder",
        "context_size": buffer.get("ctx_len"),
        "dataset_path": "monology/pile-uncopyrighted",
    });
    let parts = parts(architecture, w_enc, &checkpoint)?;
    place.translated("dictionary_learning", &path, cfg, checkpoint, parts)
}

/// Infers the class of a dictionary whose `config.json` does not name it from the trainer, or from the tensors. `None`
/// if these leave it open.
fn class_of(trainer: Option<&str>, checkpoint: &Checkpoint) -> Option<&'static str> {
    let trainer = trainer.unwrap_or_default();
    let has = |name: &str| checkpoint.shape(name).is_some() || checkpoint.value(name).is_some();
    let has_threshold = has("threshold");
    Some(match () {
        _ if has("group_sizes") || has("active_groups") => "MatryoshkaBatchTopKSAE",
        _ if has("r_mag") => "GatedAutoEncoder",
        _ if has("W_enc") && has_threshold => "JumpReluAutoEncoder",
        _ if !has("encoder.weight") => return None,
        _ if has("bias") => "AutoEncoder",
        _ if has("decoder.bias") => "AutoEncoderNew",
        // `BatchTopKSAE` and `AutoEncoderTopK` have the same tensors.
        _ if trainer.contains("BatchTopK") => "BatchTopKSAE",
        _ if trainer.contains("TopK") || !has_threshold => "AutoEncoderTopK",
        _ => return None,
    })
}

/// Returns the hook point: of the submodule in the config, else of the folder's name, else of the layer.
fn hook(
    path: &Path,
    place: &CheckpointFiles,
    trainer: &Map<String, Value>,
    buffer: &Map<String, Value>,
) -> Result<Option<String>> {
    let known = |name: &str| usual_point(name).is_some();
    let submodule = trainer.get("submodule_name").and_then(Value::as_str).filter(|name| known(name));
    let full_name = place.full_name();
    // The first dictionaries are in folders such as `pythia-70m-deduped/mlp_out_layer3`.
    let folder = full_name.rsplit(['/', '\\']).find(|part| part.contains("_layer") && known(part));
    let layer = trainer.get("layer").and_then(Value::as_u64).map(|layer| format!("layers.{layer}"));
    let name = submodule.or(folder).map(str::to_owned).or(layer);
    match buffer.get("io").and_then(Value::as_str).unwrap_or("out") {
        "out" => Ok(name),
        // The input of a module, from the name of the module or of its output.
        "in" => Ok(name.map(|name| match name.parse::<HookName>() {
            Ok(output) if name.contains("_layer") => {
                let module = match output.point() {
                    HookPoint::MlpPreNormOut => ".mlp",
                    HookPoint::AttnPreNormOut => ".attn",
                    _ => "",
                };
                format!("layers.{}{module}.input", output.layer().unwrap_or_default())
            }
            _ => format!("{name}.input"),
        })),
        other => Err(Error::malformed(path, format!("`io`: expected in or out, got {other}")).with_hint(
            "a dictionary that reads one activation and writes another is not supported in this layout",
        )),
    }
}

/// Returns where a matrix is: a tensor of its own, or else the weight of a linear layer.
fn stored_as(own: &str, linear: &str, checkpoint: &Checkpoint) -> Matrix {
    match checkpoint.shape(own) {
        Some(_) => Matrix::plain(own),
        None => Matrix::transposed(linear),
    }
}

fn parts(architecture: &str, w_enc: Matrix, checkpoint: &Checkpoint) -> Result<Parts> {
    let has = |name: &str| checkpoint.shape(name).is_some();
    let b_dec = ["b_dec", "bias", "decoder_bias", "decoder.bias"].into_iter().find(|name| has(name));
    let b_enc = if has("b_enc") { "b_enc" } else { "encoder.bias" };
    let threshold = match architecture {
        "jumprelu" => Some(match checkpoint.scalar("threshold")? {
            Some(same) => Threshold::Shared(same),
            None => Threshold::PerFeature("threshold".to_owned()),
        }),
        _ => None,
    };
    let is_gated = architecture == "gated";
    Ok(Parts {
        threshold,
        magnitude: is_gated.then(|| ["r_mag", "mag_bias"].map(str::to_owned)),
        ..Parts::new(
            w_enc,
            stored_as("W_dec", "decoder.weight", checkpoint),
            if is_gated { "gate_bias" } else { b_enc },
            b_dec.unwrap_or("b_dec"),
        )
    })
}
