//! What an SAE is, what is done to the activation that it is given, and what its checkpoint leaves open.

use super::Sae;
use super::config::{Architecture, Normalization};
use crate::hooks::HookPoint;
use serde::Serialize;

/// What was loaded, as plain data.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LoadReport {
    /// What the SAE was loaded as.
    pub sae_id: String,
    /// The layout of its checkpoint: "saelens", "gemma_scope", …
    pub layout: String,
    /// How pre-activations become feature activations, SAELens' name.
    pub architecture: String,
    /// The most features that can be active at a token, where that is bounded.
    pub k: Option<usize>,
    /// The width of the activation that it reads.
    pub d_in: usize,
    /// The number of features.
    pub d_sae: usize,
    /// The width of what it writes.
    pub d_out: usize,
    /// The type of its numbers on disk.
    pub dtype: String,
    /// The hook point that it reads.
    pub hook_name: Option<String>,
    /// The hook point that a transcoder stands for the output of.
    pub hook_name_out: Option<String>,
    /// What is done to the raw activation before it is encoded, in words and in this order.
    pub at_the_tap: Vec<String>,
    /// The factor that is folded into the weights, if there is one.
    pub norm_scaling_factor: Option<f64>,
    /// Whether the norms of the decoder's rows are folded into the encoder.
    pub fold_decoder_norm: bool,
    /// The model that it was trained on.
    pub model_name: Option<String>,
    /// The length of the contexts that it was trained on.
    pub context_size: Option<usize>,
    /// Whether these began with a BOS token.
    pub prepend_bos: bool,
    /// The files that the weights come from.
    pub files: Vec<String>,
    /// The commit that they are of, where that is known.
    pub revision: Option<String>,
    /// The mean number of active features at a token, as its authors measured it.
    pub published_l0: Option<f64>,
    /// What the user should know before believing the numbers.
    pub warnings: Vec<String>,
}

impl Sae {
    /// What was loaded and how it is used; `print(sae)` shows it.
    pub fn report(&self) -> LoadReport {
        let cfg = self.cfg();
        LoadReport {
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
            at_the_tap: self.at_the_tap(),
            norm_scaling_factor: cfg.norm_scaling_factor,
            fold_decoder_norm: cfg.fold_decoder_norm,
            model_name: cfg.model_name.clone(),
            context_size: cfg.context_size,
            prepend_bos: cfg.prepend_bos,
            files: self.weight_files().map(|path| path.display().to_string()).collect(),
            revision: self.revision().map(str::to_owned),
            published_l0: cfg.published_l0,
            warnings: self.doubts(),
        }
    }

    /// What the checkpoint leaves open and the numbers depend on, for the user to decide.
    pub fn doubts(&self) -> Vec<String> {
        let cfg = self.cfg();
        let mut doubts = self.notes().to_vec();
        let normalized = cfg.normalize_activations == Normalization::LayerNorm;
        if cfg.center_writing_weights.is_none() && self.reads_residual() && !normalized {
            doubts.push(format!(
                "the SAE `{}` does not say whether it reads a centred residual stream; it is given the stream as it is. \
                 SAEs of early 2024 on GPT-2, such as gpt2-small-res-jb, want center_writing_weights: true",
                cfg.sae_id
            ));
        }
        let at_values = self.point().is_some_and(|point| matches!(point, HookPoint::Z | HookPoint::V));
        if cfg.center_writing_weights.is_none() && at_values && !cfg.fold_value_biases {
            doubts.push(format!(
                "the SAE `{}` does not say whether it reads values without their bias; it is given them with it. SAEs \
                 that were trained on a model as TransformerLens processes it by default want fold_value_biases: true \
                 and fold_ln: true",
                cfg.sae_id
            ));
        }
        if cfg.normalize_activations == Normalization::ExpectedAverageOnlyIn
            && cfg.norm_scaling_factor.is_none()
        {
            doubts.push(format!(
                "the SAE `{}` was trained on scaled activations and does not say by how much; it is given them as they \
                 are. Set norm_scaling_factor if you know it",
                cfg.sae_id
            ));
        }
        doubts
    }

    /// What is done to the raw activation before it is encoded, in words.
    fn at_the_tap(&self) -> Vec<String> {
        let cfg = self.cfg();
        let mut steps = Vec::new();
        let mut step = |wanted: bool, text: &str| {
            if wanted {
                steps.push(text.to_owned());
            }
        };
        step(self.reads_centred(), "minus its mean (centred)");
        step(cfg.fold_value_biases, "minus the value bias");
        step(cfg.reshape_hook_z && cfg.hook_head_index.is_none(), "heads joined");
        let scale = self.layout_scale();
        step(scale != 1.0, &format!("times {scale} (folded into the weights)"));
        match (cfg.normalize_activations, cfg.norm_scaling_factor) {
            (Normalization::None, _) => {}
            (Normalization::ConstantNormRescale, _) => step(true, "norm set to sqrt(d_in)"),
            (Normalization::LayerNorm, _) => step(true, "layer norm"),
            (Normalization::ConstantScalarRescale, _) => {
                step(true, &format!("times {}", cfg.activation_normalization_factor.unwrap_or(1.0)));
            }
            (Normalization::ExpectedAverageOnlyIn, Some(factor)) => {
                step(true, &format!("times {factor} (folded into the weights)"));
            }
            (Normalization::ExpectedAverageOnlyIn, None) => {
                step(true, "nothing for expected_average_only_in: no norm_scaling_factor is known");
            }
        }
        step(cfg.apply_b_dec_to_input, "minus b_dec");
        if steps.is_empty() {
            steps.push("as it is".to_owned());
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
        write!(f, "\n  at the tap: {}", report.at_the_tap.join(", "))?;
        if report.fold_decoder_norm {
            write!(f, "\n  activations: times the norm of their decoder row (fold_decoder_norm)")?;
        }
        if let Architecture::Temporal { .. } = cfg.architecture {
            write!(f, "\n  activations: what is new at a token; its features depend on those before it")?;
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
