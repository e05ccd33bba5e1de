//! Reads an SAE's configuration from SAELens' keys: a `cfg.json`, or another layout translated to the same keys.
//!
//! There are three generations of `cfg.json`: early 2024 (`hook_point`, no `architecture`), versions 3 to 5
//! (`hook_name`, `activation_fn_str`), and version 6 (keys about the model are below `metadata`). Each key is read
//! under all its names. Missing keys get the defaults of SAELens' `handle_pre_6_0_config`.

use crate::error::{Error, Result};
use crate::hooks::hook_name_of;
use crate::sae::architecture::{ActivationRule, Architecture, OutputHook};
use crate::sae::config::{ActivationNormalization, SaeConfig};
use serde_json::{Map, Value};
use std::path::Path;

/// Returns the configuration that `values` describe; `path` is the file that they come from. `dtype` is left empty.
pub(super) fn config(
    sae_id: &str,
    layout: &'static str,
    path: &Path,
    values: &Map<String, Value>,
) -> Result<SaeConfig> {
    let cfg = Cfg { path, values };
    let (d_in, d_sae) = (cfg.size("d_in")?, cfg.size("d_sae")?);
    let architecture = architecture(&cfg, d_sae)?;
    if let Some(k) = architecture.rule.k().filter(|k| *k > d_sae) {
        let message = format!("expected at most d_sae = {d_sae} active features per token, got k = {k}");
        return Err(Error::malformed(path, message));
    }
    let is_transcoder = architecture.output != OutputHook::Same;
    let hook = |names: &[&str]| {
        let name = cfg.text(names)?;
        Ok::<_, Error>(name.map(|name| hook_name_of(name).unwrap_or_else(|| name.to_owned())))
    };
    let hook_name = hook(&["hook_name", "hook_point"])?;
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
    // Since version 6 a missing key means false. Before, the model may have been processed without a record of it.
    let says_how = kwargs.is_some() || cfg.values.contains_key("metadata");
    let config = SaeConfig {
        sae_id: sae_id.to_owned(),
        layout,
        d_out: cfg.count(&["d_out"])?.filter(|_| is_transcoder).unwrap_or(d_in),
        dtype: String::new(),
        hook_name_out: hook(&["hook_name_out"])?,
        hook_head_index: cfg.read(&["hook_head_index", "hook_point_head_index"], "a whole number", index)?,
        apply_b_dec_to_input: cfg.flag("apply_b_dec_to_input")?.unwrap_or(!is_transcoder),
        normalize_activations: normalization(&cfg)?,
        norm_scaling_factor: cfg.read(&["norm_scaling_factor"], "a number", Value::as_f64)?,
        fold_decoder_norm: cfg.flag("fold_decoder_norm")?.unwrap_or(false),
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
        ..SaeConfig::new(architecture, d_in, d_sae)
    };
    if is_transcoder && config.apply_b_dec_to_input {
        return Err(cfg.wrong(&["apply_b_dec_to_input"], "false, for a transcoder"));
    }
    let factor = cfg.read(&["activation_normalization_factor"], "a number", Value::as_f64)?;
    let rescales = config.normalize_activations == ActivationNormalization::ConstantScalarRescale;
    let factor = factor.filter(|_| rescales).or(rescales.then_some(1.0));
    if factor.is_some_and(|factor| !factor.is_finite() || factor <= 0.0) {
        return Err(cfg.wrong(&["activation_normalization_factor"], "a number above 0"));
    }
    Ok(SaeConfig { activation_normalization_factor: factor, ..config })
}

fn architecture(cfg: &Cfg, d_sae: usize) -> Result<Architecture> {
    let activation = cfg.text(&["activation_fn", "activation_fn_str"])?.unwrap_or("relu");
    let name = cfg.text(&["architecture"])?.unwrap_or("standard");
    let name = match (name, activation) {
        ("standard", "topk") => "topk",
        ("standard", other) if other != "relu" => {
            return Err(cfg.unknown("activation function", other, &["relu", "topk"]));
        }
        (name, _) => name,
    };
    let Some(mut architecture) = Architecture::named(name) else {
        return Err(cfg.unknown("SAE architecture", name, &Architecture::NAMES.map(|(name, ..)| name)));
    };
    match &mut architecture.rule {
        ActivationRule::Standard | ActivationRule::Gated | ActivationRule::JumpRelu => {}
        ActivationRule::TopK { k, rescale_acts_by_decoder_norm: rescales }
        | ActivationRule::AbsTopK { k, rescale_acts_by_decoder_norm: rescales } => {
            let said = cfg.get(&["k"]).or_else(|| cfg.get(&["activation_fn_kwargs"])?.get("k"));
            let said = said.and_then(index).filter(|k| *k > 0);
            *k = said.ok_or_else(|| cfg.wrong(&["k"], "a positive whole number"))?;
            *rescales = cfg.flag("rescale_acts_by_decoder_norm")?.unwrap_or(*rescales);
        }
        ActivationRule::MatchingPursuit {
            residual_threshold,
            max_iterations,
            stop_on_duplicate_support: stop,
        } => {
            let threshold = cfg.read(&["residual_threshold"], "a number", Value::as_f64)?;
            *residual_threshold = threshold.unwrap_or(*residual_threshold);
            *stop = cfg.flag("stop_on_duplicate_support")?.unwrap_or(*stop);
            *max_iterations = cfg.count(&["max_iterations"])?;
        }
        ActivationRule::Temporal { n_heads, n_attn_layers, bottleneck_factor, kval_topk, tied_weights } => {
            *n_heads = cfg.count(&["n_heads"])?.unwrap_or(*n_heads);
            *bottleneck_factor = cfg.count(&["bottleneck_factor"])?.unwrap_or(*bottleneck_factor);
            *n_attn_layers = cfg.count(&["n_attn_layers"])?.unwrap_or(*n_attn_layers);
            if *n_attn_layers > SaeConfig::MAX_LAYERS {
                return Err(cfg.wrong(&["n_attn_layers"], "at most 64"));
            }
            if n_heads.checked_mul(*bottleneck_factor).is_none_or(|parts| !d_sae.is_multiple_of(parts)) {
                let expected = "`n_heads * bottleneck_factor` to be a divisor of `d_sae`";
                return Err(cfg.wrong(&["n_heads"], expected));
            }
            let is_topk = match cfg.text(&["sae_diff_type"])?.unwrap_or("topk") {
                "topk" => true,
                "relu" => false,
                other => return Err(cfg.unknown("kind of temporal SAE", other, &["topk", "relu"])),
            };
            *kval_topk = cfg.count(&["kval_topk"])?.filter(|_| is_topk);
            *tied_weights = cfg.flag("tied_weights")?.unwrap_or(*tied_weights);
        }
    }
    Ok(architecture)
}

fn normalization(cfg: &Cfg) -> Result<ActivationNormalization> {
    match cfg.get(&["normalize_activations"]) {
        None | Some(Value::Bool(false)) => Ok(ActivationNormalization::None),
        Some(Value::Bool(true)) => Ok(ActivationNormalization::ExpectedAverageOnlyIn),
        Some(value) => {
            let name = value.as_str().ok_or_else(|| cfg.wrong(&["normalize_activations"], "a string"))?;
            let all = ActivationNormalization::NAMES;
            let found = all.into_iter().find(|(known, _)| *known == name);
            let unknown = || cfg.unknown("normalization", name, &all.map(|(known, _)| known));
            found.map(|(_, normalization)| normalization).ok_or_else(unknown)
        }
    }
}

/// A `cfg.json`; keys are also looked up below `metadata`.
struct Cfg<'a> {
    path: &'a Path,
    values: &'a Map<String, Value>,
}

impl Cfg<'_> {
    /// Returns the value of the first of these names that has one, at the top level or below `metadata`.
    fn get(&self, names: &[&str]) -> Option<&Value> {
        let metadata = self.values.get("metadata");
        names
            .iter()
            .find_map(|name| self.values.get(*name).or_else(|| metadata?.get(name)).filter(|v| !v.is_null()))
    }

    /// Reads the value under one of these names with `read`, if there is one.
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
        self.read(names, "a string", Value::as_str)
    }

    fn flag(&self, name: &str) -> Result<Option<bool>> {
        self.read(&[name], "true or false", Value::as_bool)
    }

    /// Reads a positive whole number.
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
            .with_hint("this is not the configuration of an SAE")
    }

    fn unknown(&self, kind: &'static str, name: &str, known: &[&str]) -> Error {
        Error::unknown(kind, name, known.iter().copied()).with_place(format!("`{}`", self.path.display()))
    }
}

fn index(value: &Value) -> Option<usize> {
    value.as_u64().and_then(|n| usize::try_from(n).ok())
}
