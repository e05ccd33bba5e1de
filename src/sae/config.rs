//! The configuration of an SAE: what it is and what it expects of the model, with SAELens' names.

use serde::Serialize;

/// The configuration of an SAE, independent of its checkpoint's layout.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SaeConfig {
    /// The name that the SAE was loaded by.
    pub sae_id: String,
    /// The layout of the checkpoint: "saelens", "gemma_scope", "sparsify", …
    pub layout: &'static str,
    /// How pre-activations become feature activations.
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

/// How pre-activations become feature activations, and what the output is.
///
/// A transcoder replaces a part of the model: it reads the input of an MLP and predicts the output. A skip adds a
/// linear map of the transcoder's input to that.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(tag = "architecture", rename_all = "snake_case")]
pub enum Architecture {
    /// `relu(x · W_enc + b_enc)`.
    Standard,
    /// `1[x · W_enc + b_gate > 0] · relu(x · W_enc · exp(r_mag) + b_mag)`.
    Gated,
    /// `relu(h) · 1[h > threshold]` of `h = x · W_enc + b_enc`.
    #[serde(rename = "jumprelu")]
    JumpRelu,
    /// The positive ones among the `k` largest pre-activations.
    #[serde(rename = "topk")]
    TopK {
        /// The number of features kept per token.
        k: usize,
        /// Whether pre-activations are multiplied by the norm of their decoder row before the selection; decoding
        /// divides by it again.
        rescale_acts_by_decoder_norm: bool,
    },
    /// The `k` pre-activations of largest magnitude, with their signs: activations may be negative.
    #[serde(rename = "abstopk")]
    AbsTopK {
        /// The number of features kept per token.
        k: usize,
        /// See [`Architecture::TopK`].
        rescale_acts_by_decoder_norm: bool,
    },
    /// One feature at a time: the one whose decoder row fits the residual best, which is then subtracted from it.
    MatchingPursuit {
        /// Stops when the norm of the residual is below this; 0 for no limit.
        residual_threshold: f64,
        /// The maximum number of steps; `d_in` if not given.
        max_iterations: Option<usize>,
        /// Whether to stop when a feature is selected again.
        stop_on_duplicate_support: bool,
    },
    /// Features of the part of a token that attention over the earlier tokens of the sequence does not predict.
    Temporal {
        /// The number of attention heads.
        n_heads: usize,
        /// The number of attention layers; each predicts from what the ones before left.
        n_attn_layers: usize,
        /// The factor by which queries and keys are narrower than `d_sae`.
        bottleneck_factor: usize,
        /// The maximum number of features kept per token, the largest; `None` for no limit.
        kval_topk: Option<usize>,
        /// Whether the encoder is the transposed decoder.
        tied_weights: bool,
    },
    /// A standard transcoder.
    Transcoder,
    /// A standard transcoder with a skip.
    SkipTranscoder,
    /// A JumpReLU transcoder.
    #[serde(rename = "jumprelu_transcoder")]
    JumpReluTranscoder,
    /// A JumpReLU transcoder with a skip.
    #[serde(rename = "jumprelu_skip_transcoder")]
    JumpReluSkipTranscoder,
    /// A top-k transcoder.
    #[serde(rename = "topk_transcoder")]
    TopKTranscoder {
        /// The number of features kept per token.
        k: usize,
    },
    /// A top-k transcoder with a skip.
    #[serde(rename = "topk_skip_transcoder")]
    TopKSkipTranscoder {
        /// The number of features kept per token.
        k: usize,
    },
}

impl Architecture {
    /// The names of all architectures, SAELens' if it has one.
    pub const NAMES: [&'static str; 13] = [
        "standard",
        "gated",
        "jumprelu",
        "topk",
        "abstopk",
        "matching_pursuit",
        "temporal",
        "transcoder",
        "skip_transcoder",
        "jumprelu_transcoder",
        "jumprelu_skip_transcoder",
        "topk_transcoder",
        "topk_skip_transcoder",
    ];

    /// Returns SAELens' name.
    pub fn name(&self) -> &'static str {
        match self {
            Architecture::Standard => "standard",
            Architecture::Gated => "gated",
            Architecture::JumpRelu => "jumprelu",
            Architecture::TopK { .. } => "topk",
            Architecture::AbsTopK { .. } => "abstopk",
            Architecture::MatchingPursuit { .. } => "matching_pursuit",
            Architecture::Temporal { .. } => "temporal",
            Architecture::Transcoder => "transcoder",
            Architecture::SkipTranscoder => "skip_transcoder",
            Architecture::JumpReluTranscoder => "jumprelu_transcoder",
            Architecture::JumpReluSkipTranscoder => "jumprelu_skip_transcoder",
            Architecture::TopKTranscoder { .. } => "topk_transcoder",
            Architecture::TopKSkipTranscoder { .. } => "topk_skip_transcoder",
        }
    }

    /// Whether the output hook differs from the input hook.
    pub fn is_transcoder(&self) -> bool {
        use Architecture::{JumpReluTranscoder, TopKTranscoder, Transcoder};
        self.has_skip() || matches!(self, Transcoder | JumpReluTranscoder | TopKTranscoder { .. })
    }

    /// Whether a linear map of the input is added to the output.
    pub fn has_skip(&self) -> bool {
        use Architecture::{JumpReluSkipTranscoder, SkipTranscoder, TopKSkipTranscoder};
        matches!(self, SkipTranscoder | JumpReluSkipTranscoder | TopKSkipTranscoder { .. })
    }

    /// Whether each feature has a threshold.
    pub fn has_threshold(&self) -> bool {
        use Architecture::{JumpRelu, JumpReluSkipTranscoder, JumpReluTranscoder};
        matches!(self, JumpRelu | JumpReluTranscoder | JumpReluSkipTranscoder)
    }

    /// The maximum number of active features per token, if there is one.
    pub fn k(&self) -> Option<usize> {
        match *self {
            Architecture::TopK { k, .. }
            | Architecture::AbsTopK { k, .. }
            | Architecture::TopKTranscoder { k }
            | Architecture::TopKSkipTranscoder { k } => Some(k),
            Architecture::Temporal { kval_topk, .. } => kval_topk,
            _ => None,
        }
    }

    /// Whether pre-activations are multiplied by the norm of their decoder row.
    pub fn rescales(&self) -> bool {
        matches!(
            self,
            Architecture::TopK { rescale_acts_by_decoder_norm: true, .. }
                | Architecture::AbsTopK { rescale_acts_by_decoder_norm: true, .. }
        )
    }

    /// Whether folding the decoder's norms keeps the active features and the output unchanged.
    pub fn can_fold_decoder_norm(&self) -> bool {
        let is_other = matches!(self, Architecture::MatchingPursuit { .. } | Architecture::Temporal { .. });
        !is_other && (self.k().is_none() || self.rescales())
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
