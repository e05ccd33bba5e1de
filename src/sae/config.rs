//! What an SAE is and what it expects of the model, in SAELens' names.

use serde::Serialize;

/// The sizes and choices of an SAE, whatever its checkpoint's layout.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SaeConfig {
    /// What the SAE was loaded as.
    pub sae_id: String,
    /// How pre-activations become feature activations.
    #[serde(flatten)]
    pub architecture: Architecture,
    /// The width of the activation that it reads.
    pub d_in: usize,
    /// The number of features.
    pub d_sae: usize,
    /// The type of its numbers on disk.
    pub dtype: String,
    /// The hook point that it reads, if the checkpoint says so.
    pub hook_name: Option<String>,
    /// The one attention head that it reads at its hook, if it does not read all.
    pub hook_head_index: Option<usize>,
    /// Whether the decoder's bias is taken off the (normalised) input.
    pub apply_b_dec_to_input: bool,
    /// What is done to the activation first.
    pub normalize_activations: Normalization,
    /// The factor folded into the weights of an `expected_average_only_in` SAE, if one is known.
    pub norm_scaling_factor: Option<f64>,
    /// Whether `[n_heads, d_head]` is read as one vector, as at `hook_z`.
    pub reshape_hook_z: bool,
    /// Whether it was trained on a model whose writing weights were centred: it then reads the residual stream less its
    /// mean over `d_model`, which is the same thing for a LayerNorm model. `None` where the checkpoint does not say, as
    /// those of 2024 do not; activations are then taken as they are.
    pub center_writing_weights: Option<bool>,
    /// Whether it was trained on a model whose value biases were folded away: it then reads `hook_z` and `hook_v` less
    /// the value bias.
    pub fold_value_biases: bool,
    /// Whether the norms were folded into the weights as well, which puts the norm's bias into the value bias.
    pub fold_ln: bool,
    /// Whether it was trained on contexts that begin with a BOS token.
    pub prepend_bos: bool,
    /// The length of the contexts that it was trained on, BOS included.
    pub context_size: Option<usize>,
    /// The model that it was trained on.
    pub model_name: Option<String>,
    /// The dataset that it was trained on.
    pub dataset_path: Option<String>,
}

/// How pre-activations become feature activations.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(tag = "architecture", rename_all = "lowercase")]
pub enum Architecture {
    /// `relu(x · W_enc + b_enc)`.
    Standard,
    /// `1[x · W_enc + b_gate > 0] · relu(x · W_enc · exp(r_mag) + b_mag)`.
    Gated,
    /// `relu(h) · 1[h > threshold]` of `h = x · W_enc + b_enc`.
    JumpRelu,
    /// The positive ones among the `k` largest.
    TopK {
        /// How many.
        k: usize,
        /// Whether pre-activations count by what they add to the output: times the norm of their decoder row, which
        /// decoding divides out again.
        rescale_acts_by_decoder_norm: bool,
    },
}

impl Architecture {
    /// SAELens' name.
    pub fn name(&self) -> &'static str {
        match self {
            Architecture::Standard => "standard",
            Architecture::Gated => "gated",
            Architecture::JumpRelu => "jumprelu",
            Architecture::TopK { .. } => "topk",
        }
    }
}

/// SAELens' `normalize_activations`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Normalization {
    /// Nothing.
    None,
    /// Activations were scaled to a mean norm of `sqrt(d_in)` in training; the factor is folded into the weights.
    ExpectedAverageOnlyIn,
    /// Each activation is scaled to a norm of `sqrt(d_in)`, and the output back.
    ConstantNormRescale,
    /// Each activation is centred and divided by its standard deviation, and the output scaled and shifted back.
    LayerNorm,
}

impl Normalization {
    /// Every one with SAELens' name for it.
    pub const NAMES: [(&'static str, Normalization); 4] = [
        ("none", Normalization::None),
        ("expected_average_only_in", Normalization::ExpectedAverageOnlyIn),
        ("constant_norm_rescale", Normalization::ConstantNormRescale),
        ("layer_norm", Normalization::LayerNorm),
    ];

    /// SAELens' name.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, n)| *n == self).map_or("none", |(name, _)| name)
    }
}
