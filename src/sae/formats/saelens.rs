//! SAELens' own layout: a folder with `cfg.json` and `sae_weights.safetensors`.
//!
//! There are three generations of `cfg.json`: of early 2024 (`hook_point`, no `architecture`), of versions 3 to 5
//! (`hook_name`, `activation_fn_str`), and of version 6 (what concerns the model is below `metadata`). Each key is read
//! under all its names, with the defaults that SAELens' `handle_pre_6_0_config` gives to what is not there.

use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::files;
use crate::sae::config::{Architecture, Normalization, SaeConfig};
use crate::sae::weights::SaeNames;
use serde_json::{Map, Value};
use std::path::Path;

/// The file that says that a folder has this layout.
pub(super) const CFG: &str = "cfg.json";

/// Opens a folder of this layout.
pub(super) fn open_folder(folder: &Path) -> Result<(SaeConfig, Checkpoint, SaeNames)> {
    let path = folder.join(CFG);
    let bytes = files::read(&path)?;
    let checkpoint = Checkpoint::open(&[folder.join("sae_weights.safetensors")])?;
    read(&folder.to_string_lossy(), &path, &bytes, checkpoint)
}

/// Reads the contents of a `cfg.json`; `path` stands for it in messages.
pub(super) fn read(
    sae_id: &str,
    path: &Path,
    bytes: &[u8],
    checkpoint: Checkpoint,
) -> Result<(SaeConfig, Checkpoint, SaeNames)> {
    let values = match serde_json::from_slice(bytes) {
        Ok(Value::Object(values)) => values,
        Ok(_) => return Err(Error::malformed(path, "expected a JSON object")),
        Err(e) => return Err(Error::malformed(path, format!("not JSON: {e}"))),
    };
    let cfg = Cfg { path, values };
    check_scaling_factor(&cfg, &checkpoint)?;

    let architecture = architecture(&cfg)?;
    let hook_name = cfg.text(&["hook_name", "hook_point"])?.map(str::to_owned);
    let at_hook_z = hook_name.as_deref().is_some_and(|name| name.contains("hook_z"));
    let kwargs = cfg.read(&["model_from_pretrained_kwargs"], "an object", Value::as_object)?;
    let trained_on = |key: &str| match kwargs.and_then(|kwargs| kwargs.get(key)) {
        None | Some(Value::Null) => Ok(false),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(other) => {
            let message =
                format!("`model_from_pretrained_kwargs`: `{key}`: expected true or false, got {other}");
            Err(Error::malformed(path, message))
        }
    };
    // Since version 6 what is not there is false; before, the model could have been processed and nobody wrote it down.
    let says_how = kwargs.is_some() || cfg.values.contains_key("metadata");
    let config = SaeConfig {
        sae_id: sae_id.to_owned(),
        architecture,
        d_in: cfg.size("d_in")?,
        d_sae: cfg.size("d_sae")?,
        dtype: checkpoint.dtype("W_enc").unwrap_or_default(),
        hook_head_index: cfg.read(&["hook_head_index", "hook_point_head_index"], "a whole number", index)?,
        apply_b_dec_to_input: cfg.flag("apply_b_dec_to_input")?.unwrap_or(true),
        normalize_activations: normalization(&cfg)?,
        norm_scaling_factor: cfg.read(&["norm_scaling_factor"], "a number", Value::as_f64)?,
        reshape_hook_z: match cfg.text(&["reshape_activations"])? {
            Some(reshape) => reshape == "hook_z",
            None => at_hook_z,
        },
        center_writing_weights: says_how.then(|| trained_on("center_writing_weights")).transpose()?,
        fold_value_biases: trained_on("fold_value_biases")?,
        fold_ln: trained_on("fold_ln")?,
        prepend_bos: cfg.flag("prepend_bos")?.unwrap_or(true),
        context_size: cfg.count(&["context_size"])?,
        model_name: cfg.text(&["model_name"])?.map(str::to_owned),
        dataset_path: cfg.text(&["dataset_path"])?.map(str::to_owned),
        hook_name,
    };
    let names = SaeNames {
        w_enc: "W_enc",
        w_dec: "W_dec",
        b_dec: "b_dec",
        b_enc: if architecture == Architecture::Gated { "b_gate" } else { "b_enc" },
        threshold: "threshold",
        b_mag: "b_mag",
        r_mag: "r_mag",
    };
    Ok((config, checkpoint, names))
}

fn architecture(cfg: &Cfg) -> Result<Architecture> {
    const KNOWN: [&str; 4] = ["standard", "gated", "jumprelu", "topk"];
    let activation = cfg.text(&["activation_fn", "activation_fn_str"])?.unwrap_or("relu");
    let name = cfg.text(&["architecture"])?.unwrap_or("standard");
    let unknown = |kind, name: &str, known: &[&str]| Error::Unknown {
        kind,
        name: name.to_owned(),
        place: format!("`{}`", cfg.path.display()),
        known: known.iter().map(|k| (*k).to_owned()).collect(),
    };
    match (name, activation) {
        ("standard", "topk") | ("topk", _) => {
            let k = cfg.get(&["k"]).or_else(|| cfg.get(&["activation_fn_kwargs"])?.get("k"));
            let k = k.and_then(index).filter(|k| *k > 0);
            Ok(Architecture::TopK {
                k: k.ok_or_else(|| cfg.wrong(&["k"], "a positive whole number"))?,
                rescale_acts_by_decoder_norm: cfg.flag("rescale_acts_by_decoder_norm")?.unwrap_or(false),
            })
        }
        ("standard", "relu") => Ok(Architecture::Standard),
        ("standard", other) => Err(unknown("activation function", other, &["relu", "topk"])),
        ("gated", _) => Ok(Architecture::Gated),
        ("jumprelu", _) => Ok(Architecture::JumpRelu),
        (other, _) => Err(unknown("SAE architecture", other, &KNOWN)),
    }
}

fn normalization(cfg: &Cfg) -> Result<Normalization> {
    match cfg.get(&["normalize_activations"]) {
        None | Some(Value::Bool(false)) => Ok(Normalization::None),
        Some(Value::Bool(true)) => Ok(Normalization::ExpectedAverageOnlyIn),
        Some(value) => {
            let name = value.as_str().ok_or_else(|| cfg.wrong(&["normalize_activations"], "a text"))?;
            let found = Normalization::NAMES.iter().find(|(known, _)| *known == name);
            found.map(|(_, normalization)| *normalization).ok_or_else(|| Error::Unknown {
                kind: "normalization",
                name: name.to_owned(),
                place: format!("`{}`", cfg.path.display()),
                known: Normalization::NAMES.iter().map(|(known, _)| (*known).to_owned()).collect(),
            })
        }
    }
}

/// Versions up to 5 could scale features after training; SAELens gave that up, and so it is here unless it does nothing.
fn check_scaling_factor(cfg: &Cfg, checkpoint: &Checkpoint) -> Result<()> {
    let Some(shape) = checkpoint.shape("scaling_factor") else { return Ok(()) };
    let factors = checkpoint.read("scaling_factor", shape)?;
    if factors.iter().all(|f| *f == 1.0) {
        return Ok(());
    }
    Err(Error::malformed(cfg.path, "finetuned scaling factors are not supported")
        .with_hint("fold them into W_dec and save the SAE again"))
}

/// A `cfg.json` with its `metadata` in reach.
struct Cfg<'a> {
    path: &'a Path,
    values: Map<String, Value>,
}

impl Cfg<'_> {
    /// The value under the first of these names that has one, at the top or below `metadata`.
    fn get(&self, names: &[&str]) -> Option<&Value> {
        let metadata = self.values.get("metadata");
        names
            .iter()
            .find_map(|name| self.values.get(*name).or_else(|| metadata?.get(name)).filter(|v| !v.is_null()))
    }

    /// The value under one of these names as `read` reads it, if there is one.
    fn read<'v, T>(
        &'v self,
        names: &[&str],
        expected: &str,
        read: impl FnOnce(&'v Value) -> Option<T>,
    ) -> Result<Option<T>> {
        let value = self.get(names).map(|value| read(value).ok_or_else(|| self.wrong(names, expected)));
        value.transpose()
    }

    fn text(&self, names: &[&str]) -> Result<Option<&str>> {
        self.read(names, "a text", Value::as_str)
    }

    fn flag(&self, name: &str) -> Result<Option<bool>> {
        self.read(&[name], "true or false", Value::as_bool)
    }

    /// A positive whole number.
    fn count(&self, names: &[&str]) -> Result<Option<usize>> {
        self.read(names, "a positive whole number", |value| index(value).filter(|n| *n > 0))
    }

    fn size(&self, name: &str) -> Result<usize> {
        self.count(&[name])?.ok_or_else(|| self.wrong(&[name], "a positive whole number"))
    }

    fn wrong(&self, names: &[&str], expected: &str) -> Error {
        let name = names.iter().find(|name| self.get(&[name]).is_some()).or(names.first());
        let got = self.get(names).map_or_else(|| "nothing".to_owned(), Value::to_string);
        let name = name.copied().unwrap_or_default();
        Error::malformed(self.path, format!("`{name}`: expected {expected}, got {got}"))
            .with_hint("this is not the cfg.json of a SAELens SAE")
    }
}

fn index(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|n| usize::try_from(n).ok())
}
