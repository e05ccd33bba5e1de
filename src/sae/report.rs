//! The report on a loaded SAE: its configuration, the preprocessing of its input, and warnings.

use super::Sae;
use super::architecture::{ActivationRule, OutputHook};
use super::config::{ActivationNormalization, SaeConfig};
use crate::hooks::HookPoint;
use serde::ser::{Serialize, SerializeMap, Serializer};

/// The report on an SAE, as plain data. Serialized as one flat object.
#[derive(Debug, Clone, PartialEq)]
pub struct SaeCard {
    /// The SAE's configuration.
    pub cfg: SaeConfig,
    /// The preprocessing of the raw activation before it is encoded: descriptions in the order of application.
    pub preprocessing: Vec<String>,
    /// The files that hold the weights; none for an SAE made of weights in memory.
    pub files: Vec<String>,
    /// The commit that the files belong to, if known.
    pub revision: Option<String>,
    /// What the user should know before trusting the results.
    pub warnings: Vec<String>,
}

impl Serialize for SaeCard {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let cfg = &self.cfg;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("sae_id", &cfg.sae_id)?;
        map.serialize_entry("layout", cfg.layout)?;
        map.serialize_entry("architecture", cfg.architecture.name())?;
        map.serialize_entry("k", &cfg.architecture.rule.k())?;
        map.serialize_entry("d_in", &cfg.d_in)?;
        map.serialize_entry("d_sae", &cfg.d_sae)?;
        map.serialize_entry("d_out", &cfg.d_out)?;
        map.serialize_entry("dtype", &cfg.dtype)?;
        map.serialize_entry("hook_name", &cfg.hook_name)?;
        map.serialize_entry("hook_name_out", &cfg.hook_name_out)?;
        map.serialize_entry("preprocessing", &self.preprocessing)?;
        map.serialize_entry("norm_scaling_factor", &cfg.norm_scaling_factor)?;
        map.serialize_entry("fold_decoder_norm", &cfg.fold_decoder_norm)?;
        map.serialize_entry("model_name", &cfg.model_name)?;
        map.serialize_entry("context_size", &cfg.context_size)?;
        map.serialize_entry("prepend_bos", &cfg.prepend_bos)?;
        map.serialize_entry("files", &self.files)?;
        map.serialize_entry("revision", &self.revision)?;
        map.serialize_entry("published_l0", &cfg.published_l0)?;
        map.serialize_entry("warnings", &self.warnings)?;
        map.end()
    }
}

impl Sae {
    /// Returns the report that `print(sae)` shows.
    pub fn report(&self) -> SaeCard {
        SaeCard {
            cfg: self.cfg().clone(),
            preprocessing: self.preprocessing(),
            files: self.weight_files().map(|path| path.display().to_string()).collect(),
            revision: self.revision().map(str::to_owned),
            warnings: self.warnings(),
        }
    }

    /// Returns warnings about what the checkpoint leaves open, for the user to decide: the results depend on it.
    pub fn warnings(&self) -> Vec<String> {
        let cfg = self.cfg();
        let mut warnings = self.inner.notes.clone();
        let mut warn = |text: &str| warnings.push(format!("the SAE `{}` {text}", cfg.sae_id));
        let normalized = cfg.normalize_activations == ActivationNormalization::LayerNorm;
        if cfg.center_writing_weights.is_none() && self.reads_residual() && !normalized {
            warn(
                "does not say whether it reads a centered residual stream; the stream is not centered. SAEs of early \
                 2024 on GPT-2, such as gpt2-small-res-jb, need center_writing_weights: true",
            );
        }
        let at_values = self.point().is_some_and(|point| matches!(point, HookPoint::Z | HookPoint::V));
        if cfg.center_writing_weights.is_none() && at_values && !cfg.fold_value_biases {
            warn(
                "does not say whether it reads values without their bias; the bias is kept. SAEs that were trained on a \
                 model with TransformerLens' default processing need fold_value_biases: true and fold_ln: true",
            );
        }
        if cfg.normalize_activations == ActivationNormalization::ExpectedAverageOnlyIn
            && cfg.norm_scaling_factor.is_none()
        {
            warn(
                "was trained on scaled activations but does not say by which factor; activations are not scaled. Set \
                 norm_scaling_factor if you know it",
            );
        }
        warnings
    }

    /// Describes the preprocessing of the raw activation before it is encoded.
    fn preprocessing(&self) -> Vec<String> {
        let cfg = self.cfg();
        let mut steps = Vec::new();
        let mut step = |wanted: bool, text: &str| steps.extend(wanted.then(|| text.to_owned()));
        step(self.reads_centered(), "minus its mean (centered)");
        step(cfg.fold_value_biases, "minus the value bias");
        step(cfg.reshape_hook_z && cfg.hook_head_index.is_none(), "heads joined");
        let scale = self.inner.weights.parts.input_scale;
        let folded = |factor: f64| format!("times {factor} (folded into the weights)");
        step(scale != 1.0, &folded(scale));
        match (cfg.normalize_activations, cfg.norm_scaling_factor) {
            (ActivationNormalization::None, _) => {}
            (ActivationNormalization::ConstantNormRescale, _) => step(true, "norm set to sqrt(d_in)"),
            (ActivationNormalization::LayerNorm, _) => step(true, "layer norm"),
            (ActivationNormalization::ConstantScalarRescale, _) => {
                step(true, &format!("times {}", cfg.activation_normalization_factor.unwrap_or(1.0)));
            }
            (ActivationNormalization::ExpectedAverageOnlyIn, Some(factor)) => step(true, &folded(factor)),
            (ActivationNormalization::ExpectedAverageOnlyIn, None) => {
                step(true, "no scaling for expected_average_only_in: norm_scaling_factor is not known");
            }
        }
        step(cfg.apply_b_dec_to_input, "minus b_dec");
        if steps.is_empty() {
            steps.push("unchanged".to_owned());
        }
        steps
    }
}

impl std::fmt::Display for Sae {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (cfg, report) = (self.cfg(), self.report());
        let is_transcoder = cfg.architecture.output != OutputHook::Same;
        write!(f, "SAE {}: {}", cfg.sae_id, cfg.architecture.name())?;
        if let Some(k) = cfg.architecture.rule.k() {
            let rescaled = if cfg.architecture.rule.rescales() { ", rescaled by decoder norm" } else { "" };
            write!(f, " (k = {k}{rescaled})")?;
        }
        write!(f, ", d_in {}, d_sae {}", cfg.d_in, cfg.d_sae)?;
        if is_transcoder {
            write!(f, ", d_out {}", cfg.d_out)?;
        }
        let is_stored = !report.files.is_empty();
        write!(f, ", {} {}", cfg.dtype, if is_stored { "on disk" } else { "in memory" })?;
        write!(f, "\n  hook: {}", cfg.hook_name.as_deref().unwrap_or("not known"))?;
        if let Some(head) = cfg.hook_head_index {
            write!(f, ", head {head}")?;
        }
        if is_transcoder {
            write!(f, ", writes {}", cfg.hook_name_out.as_deref().unwrap_or("not known"))?;
        }
        write!(f, "\n  input: {}", report.preprocessing.join(", "))?;
        if cfg.fold_decoder_norm {
            write!(f, "\n  activations: times the norm of their decoder row (fold_decoder_norm)")?;
        }
        if let ActivationRule::Temporal { .. } = cfg.architecture.rule {
            write!(f, "\n  activations: what is new at a token, given the tokens before it")?;
        }
        write!(f, "\n  trained on: {}", cfg.model_name.as_deref().unwrap_or("an unnamed model"))?;
        let context = cfg.context_size.map_or_else(|| "unknown".to_owned(), |n| n.to_string());
        write!(f, ", context {context}, {}", if cfg.prepend_bos { "with BOS" } else { "without BOS" })?;
        if let Some(l0) = cfg.published_l0 {
            write!(f, ", published L0 {l0}")?;
        }
        let files = if is_stored { report.files.join(", ") } else { "memory".to_owned() };
        write!(f, "\n  from: {files} ({} layout", cfg.layout)?;
        match &report.revision {
            Some(revision) => write!(f, ", revision {revision})")?,
            None => write!(f, ")")?,
        }
        report.warnings.iter().try_for_each(|warning| write!(f, "\n  note: {warning}"))
    }
}
