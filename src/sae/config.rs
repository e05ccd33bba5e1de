//! The configuration of an SAE: what it is and what it expects of the model, with SAELens' names.

use super::architecture::{ActivationRule, Architecture, OutputHook};
use crate::error::{Error, Result};
use serde::Serialize;

/// The configuration of an SAE, independent of its checkpoint's layout.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SaeConfig {
    /// The name that the SAE was loaded by.
    pub sae_id: String,
    /// The layout of the checkpoint: "saelens", "gemma_scope", "sparsify", …
    pub layout: &'static str,
    /// How pre-activations become feature activations, and which activation the output stands for.
    #[serde(flatten)]
    pub architecture: Architecture,
    /// The width of the activation that the SAE reads.
    pub d_in: usize,
    /// The number of features.
    pub d_sae: usize,
    /// The width of the output: `d_in`, except for transcoders.
    pub d_out: usize,
    /// The type of the weights on disk.
    pub dtype: String,
    /// The hook point that the SAE reads, if the checkpoint says so.
    pub hook_name: Option<String>,
    /// The hook point whose activation a transcoder predicts, if the checkpoint says so.
    pub hook_name_out: Option<String>,
    /// The attention head that the SAE reads at its hook; `None` for all heads.
    pub hook_head_index: Option<usize>,
    /// Whether the decoder's bias is subtracted from the (normalized) input.
    pub apply_b_dec_to_input: bool,
    /// How the activation is normalized before it is encoded.
    pub normalize_activations: ActivationNormalization,
    /// The factor folded into the weights of an `expected_average_only_in` SAE, if known.
    pub norm_scaling_factor: Option<f64>,
    /// The factor of a `constant_scalar_rescale` SAE.
    pub activation_normalization_factor: Option<f64>,
    /// Whether the norms of the decoder's rows are folded into the encoder: decoder rows then have norm 1, and an
    /// activation is the norm of what the feature adds to the output.
    pub fold_decoder_norm: bool,
    /// Whether `[n_heads, d_head]` is read as one vector, as at `hook_z`.
    pub reshape_hook_z: bool,
    /// Whether the SAE was trained on a model with centered writing weights: it then reads the residual stream minus
    /// its mean over `d_model`, which is equivalent for a LayerNorm model. `None` if the checkpoint does not say, as
    /// those of 2024 do not; activations are then not centered.
    pub center_writing_weights: Option<bool>,
    /// Whether the SAE was trained on a model whose value biases were folded away: it then reads `hook_z` and `hook_v`
    /// minus the value bias.
    pub fold_value_biases: bool,
    /// Whether the norms were folded into the weights as well: the norm's bias is then part of the value bias.
    pub fold_ln: bool,
    /// Whether the training contexts begin with a BOS token.
    pub prepend_bos: bool,
    /// The length of the training contexts, BOS included.
    pub context_size: Option<usize>,
    /// The model that the SAE was trained on.
    pub model_name: Option<String>,
    /// The dataset that the SAE was trained on.
    pub dataset_path: Option<String>,
    /// The mean number of active features per token, as the authors measured it. Registry SAEs only.
    pub published_l0: Option<f64>,
    /// The SAE's page on Neuronpedia. Registry SAEs only.
    pub neuronpedia_id: Option<String>,
}

impl SaeConfig {
    /// The maximum number of attention layers of a temporal SAE.
    pub(super) const MAX_LAYERS: usize = 64;

    /// Returns the configuration of an SAE with SAELens' defaults: `d_out = d_in`, f32, no normalization, nothing
    /// folded; `apply_b_dec_to_input` unless it is a transcoder; raw activations (`center_writing_weights:
    /// Some(false)`) of contexts of unknown length that begin with a BOS token. Hook, model and dataset are not known;
    /// `sae_id` is "unnamed".
    pub fn new(architecture: Architecture, d_in: usize, d_sae: usize) -> Self {
        SaeConfig {
            sae_id: "unnamed".to_owned(),
            layout: "saelens",
            architecture,
            d_in,
            d_sae,
            d_out: d_in,
            dtype: "f32".to_owned(),
            hook_name: None,
            hook_name_out: None,
            hook_head_index: None,
            apply_b_dec_to_input: architecture.output == OutputHook::Same,
            normalize_activations: ActivationNormalization::None,
            norm_scaling_factor: None,
            activation_normalization_factor: None,
            fold_decoder_norm: false,
            reshape_hook_z: false,
            center_writing_weights: Some(false),
            fold_value_biases: false,
            fold_ln: false,
            prepend_bos: true,
            context_size: None,
            model_name: None,
            dataset_path: None,
            published_l0: None,
            neuronpedia_id: None,
        }
    }

    /// Returns the configuration of an SAE whose weights are scaled and folded already, as SAELens' layout has them.
    pub(super) fn without_folding(mut self) -> Self {
        if self.norm_scaling_factor.take().is_some() {
            self.normalize_activations = ActivationNormalization::None;
        }
        // The rows of a folded decoder have norm 1.
        if std::mem::take(&mut self.fold_decoder_norm)
            && let ActivationRule::TopK { rescale_acts_by_decoder_norm: rescales, .. }
            | ActivationRule::AbsTopK { rescale_acts_by_decoder_norm: rescales, .. } =
                &mut self.architecture.rule
        {
            *rescales = false;
        }
        SaeConfig { layout: "saelens", dtype: "f32".to_owned(), ..self }
    }

    /// Checks that the values fit each other, as they do where a file was read.
    pub(super) fn check(&self) -> Result<()> {
        let SaeConfig { architecture: Architecture { rule, output }, d_in, d_sae, d_out, .. } = *self;
        let name = self.architecture.name();
        let positive = |what: &str, expected: &str, factor: Option<f64>| match factor {
            Some(factor) if !(factor.is_finite() && factor > 0.0) => {
                Err(Error::invalid(what, expected, factor))
            }
            _ => Ok(()),
        };
        if Architecture::named(name).is_none() {
            let known = Architecture::NAMES.map(|(name, ..)| name).join(", ");
            let got = format!("{:?}", self.architecture);
            return Err(Error::invalid("the architecture of an SAE", known, got));
        }
        for (size, n) in [("d_in", d_in), ("d_sae", d_sae), ("d_out", d_out)] {
            positive(&format!("`{size}`"), "a positive whole number", Some(n as f64))?;
        }
        if let Some(k) = rule.k().filter(|k| !(1..=d_sae).contains(k)) {
            return Err(Error::invalid("`k`", format!("1 to d_sae = {d_sae}"), k));
        }
        if output == OutputHook::Same && d_out != d_in {
            return Err(Error::invalid(format!("`d_out` of a {name} SAE"), format!("d_in = {d_in}"), d_out));
        }
        if output != OutputHook::Same && self.apply_b_dec_to_input {
            return Err(Error::invalid("`apply_b_dec_to_input`", "false, for a transcoder", true));
        }
        if let ActivationRule::Temporal { n_heads, n_attn_layers, bottleneck_factor, .. } = rule {
            let parts = n_heads.checked_mul(bottleneck_factor).filter(|parts| *parts > 0);
            if parts.is_none_or(|parts| !d_sae.is_multiple_of(parts)) {
                let got = format!("{n_heads} * {bottleneck_factor}");
                let expected = format!("a divisor of d_sae = {d_sae}");
                return Err(Error::invalid("`n_heads * bottleneck_factor`", expected, got));
            }
            if n_attn_layers > Self::MAX_LAYERS {
                return Err(Error::invalid("`n_attn_layers`", "at most 64", n_attn_layers));
            }
        }
        let factor = self.activation_normalization_factor;
        positive("`activation_normalization_factor`", "a number above 0", factor)
    }
}

/// SAELens' `normalize_activations`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ActivationNormalization {
    /// No normalization.
    None,
    /// Activations were scaled to a mean norm of `sqrt(d_in)` in training; the factor is folded into the weights.
    ExpectedAverageOnlyIn,
    /// Each activation is scaled to a norm of `sqrt(d_in)`, and the output back.
    ConstantNormRescale,
    /// Each activation is centered and divided by its standard deviation, and the output scaled and shifted back.
    LayerNorm,
    /// Activations are multiplied by a factor, and the output divided by it.
    ConstantScalarRescale,
}

impl ActivationNormalization {
    /// Every normalization with SAELens' name for it.
    pub const NAMES: [(&'static str, ActivationNormalization); 5] = [
        ("none", ActivationNormalization::None),
        ("expected_average_only_in", ActivationNormalization::ExpectedAverageOnlyIn),
        ("constant_norm_rescale", ActivationNormalization::ConstantNormRescale),
        ("layer_norm", ActivationNormalization::LayerNorm),
        ("constant_scalar_rescale", ActivationNormalization::ConstantScalarRescale),
    ];

    /// Returns SAELens' name.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, n)| *n == self).map_or("none", |(name, _)| name)
    }
}
