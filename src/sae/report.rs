//! The report on a loaded SAE: its configuration, the preprocessing of its input, and warnings.

use super::Sae;
use super::config::{ActivationNormalization, Architecture};
use crate::hooks::HookPoint;
use serde::Serialize;

/// The report on a loaded SAE, as plain data.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SaeCard {
    /// The name that the SAE was loaded by.
    pub sae_id: String,
    /// The layout of the checkpoint: "saelens", "gemma_scope", …
    pub layout: String,
    /// How pre-activations become feature activations, by SAELens' name.
    pub architecture: String,
    /// The maximum number of active features per token, if there is one.
    pub k: Option<usize>,
    /// The width of the activation that the SAE reads.
    pub d_in: usize,
    /// The number of features.
    pub d_sae: usize,
    /// The width of the output.
    pub d_out: usize,
    /// The type of the weights on disk.
    pub dtype: String,
    /// The hook point that the SAE reads.
    pub hook_name: Option<String>,
    /// The hook point whose activation a transcoder predicts.
    pub hook_name_out: Option<String>,
    /// The preprocessing of the raw activation before it is encoded: descriptions in the order of application.
    pub preprocessing: Vec<String>,
    /// The factor folded into the weights, if any.
    pub norm_scaling_factor: Option<f64>,
    /// Whether the norms of the decoder's rows are folded into the encoder.
    pub fold_decoder_norm: bool,
    /// The model that the SAE was trained on.
    pub model_name: Option<String>,
    /// The length of the training contexts, BOS included.
    pub context_size: Option<usize>,
    /// Whether the training contexts begin with a BOS token.
    pub prepend_bos: bool,
    /// The files that hold the weights.
    pub files: Vec<String>,
    /// The commit that the files belong to, if known.
    pub revision: Option<String>,
    /// The mean number of active features per token, as the authors measured it.
    pub published_l0: Option<f64>,
    /// What the user should know before trusting the results.
    pub warnings: Vec<String>,
}

impl Sae {
    /// Returns the report that `print(sae)` shows.
    pub fn report(&self) -> SaeCard {
        let cfg = self.cfg();
        SaeCard {
            sae_id: cfg.sae_id.clone(),
            layout: cfg.layout.to_owned(),
            architecture: cfg.architecture.name().to_owned(),
            k: cfg.architecture.k(),
            d_in: cfg.d_in,
            d_sae: cfg.d_sae,
            d_out: cfg.d_out,
            dtype: cfg.dtype.clone(),
            hook_name: cfg.hook_name.clone(),
            hook_name_out: cfg.hook_name_out.clone(),
            preprocessing: self.preprocessing(),
            norm_scaling_factor: cfg.norm_scaling_factor,
            fold_decoder_norm: cfg.fold_decoder_norm,
            model_name: cfg.model_name.clone(),
            context_size: cfg.context_size,
            prepend_bos: cfg.prepend_bos,
            files: self.weight_files().map(|path| path.display().to_string()).collect(),
            revision: self.revision().map(str::to_owned),
            published_l0: cfg.published_l0,
            warnings: self.warnings(),
        }
    }

    /// Returns warnings about what the checkpoint leaves open, for the user to decide: the results depend on it.
    pub fn warnings(&self) -> Vec<String> {
        let cfg = self.cfg();
        let mut warnings = self.notes().to_vec();
        let normalized = cfg.normalize_activations == ActivationNormalization::LayerNorm;
        if cfg.center_writing_weights.is_none() && self.reads_residual() && !normalized {
            warnings.push(format!(
                "the SAE `{}` does not say whether it reads a centered residual stream; the stream is not centered. SAEs \
                 of early 2024 on GPT-2, such as gpt2-small-res-jb, need center_writing_weights: true",
                cfg.sae_id
            ));
        }
        let at_values = self.point().is_some_and(|point| matches!(point, HookPoint::Z | HookPoint::V));
        if cfg.center_writing_weights.is_none() && at_values && !cfg.fold_value_biases {
            warnings.push(format!(
                "the SAE `{}` does not say whether it reads values without their bias; the bias is kept. SAEs that were \
                 trained on a model with TransformerLens' default processing need fold_value_biases: true and fold_ln: \
                 true",
                cfg.sae_id
            ));
        }
        if cfg.normalize_activations == ActivationNormalization::ExpectedAverageOnlyIn
            && cfg.norm_scaling_factor.is_none()
        {
            warnings.push(format!(
                "the SAE `{}` was trained on scaled activations but does not say by which factor; activations are not \
                 scaled. Set norm_scaling_factor if you know it",
                cfg.sae_id
            ));
        }
        warnings
    }

    /// Describes the preprocessing of the raw activation before it is encoded.
    fn preprocessing(&self) -> Vec<String> {
        let cfg = self.cfg();
        let mut steps = Vec::new();
        let mut step = |wanted: bool, text: &str| {
            if wanted {
                steps.push(text.to_owned());
            }
        };
        step(self.reads_centered(), "minus its mean (centered)");
        step(cfg.fold_value_biases, "minus the value bias");
        step(cfg.reshape_hook_z && cfg.hook_head_index.is_none(), "heads joined");
        let scale = self.layout_scale();
        step(scale != 1.0, &format!("times {scale} (folded into the weights)"));
        match (cfg.normalize_activations, cfg.norm_scaling_factor) {
            (ActivationNormalization::None, _) => {}
            (ActivationNormalization::ConstantNormRescale, _) => step(true, "norm set to sqrt(d_in)"),
            (ActivationNormalization::LayerNorm, _) => step(true, "layer norm"),
            (ActivationNormalization::ConstantScalarRescale, _) => {
                step(true, &format!("times {}", cfg.activation_normalization_factor.unwrap_or(1.0)));
            }
            (ActivationNormalization::ExpectedAverageOnlyIn, Some(factor)) => {
                step(true, &format!("times {factor} (folded into the weights)"));
            }
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
        write!(f, "SAE {}: {}", report.sae_id, report.architecture)?;
        if let Some(k) = report.k {
            let rescaled = if cfg.architecture.rescales() { ", rescaled by decoder norm" } else { "" };
            write!(f, " (k = {k}{rescaled})")?;
        }
        write!(f, ", d_in {}, d_sae {}", report.d_in, report.d_sae)?;
        if cfg.architecture.is_transcoder() {
            write!(f, ", d_out {}", report.d_out)?;
        }
        write!(f, ", {} on disk", report.dtype)?;
        write!(f, "\n  hook: {}", report.hook_name.as_deref().unwrap_or("not known"))?;
        if let Some(head) = cfg.hook_head_index {
            write!(f, ", head {head}")?;
        }
        if cfg.architecture.is_transcoder() {
            write!(f, ", writes {}", report.hook_name_out.as_deref().unwrap_or("not known"))?;
        }
        write!(f, "\n  input: {}", report.preprocessing.join(", "))?;
        if report.fold_decoder_norm {
            write!(f, "\n  activations: times the norm of their decoder row (fold_decoder_norm)")?;
        }
        if let Architecture::Temporal { .. } = cfg.architecture {
            write!(f, "\n  activations: what is new at a token, given the tokens before it")?;
        }
        write!(f, "\n  trained on: {}", report.model_name.as_deref().unwrap_or("an unnamed model"))?;
        let context = report.context_size.map_or_else(|| "unknown".to_owned(), |n| n.to_string());
        write!(f, ", context {context}, {}", if report.prepend_bos { "with BOS" } else { "without BOS" })?;
        if let Some(l0) = report.published_l0 {
            write!(f, ", published L0 {l0}")?;
        }
        write!(f, "\n  from: {} ({} layout", report.files.join(", "), report.layout)?;
        match &report.revision {
            Some(revision) => write!(f, ", revision {revision})")?,
            None => write!(f, ")")?,
        }
        report.warnings.iter().try_for_each(|warning| write!(f, "\n  note: {warning}"))
    }
}
