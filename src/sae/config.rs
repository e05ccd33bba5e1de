//! What an SAE is and what it expects of the model, in SAELens' names.

use serde::Serialize;

/// The sizes and choices of an SAE, whatever its checkpoint's layout.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct SaeConfig {
    /// What the SAE was loaded as.
    pub sae_id: String,
    /// The layout of its checkpoint: "saelens", "gemma_scope", "sparsify", …
    pub layout: &'static str,
    /// How pre-activations become feature activations.
    #[serde(flatten)]
    pub architecture: Architecture,
    /// The width of the activation that it reads.
    pub d_in: usize,
    /// The number of features.
    pub d_sae: usize,
    /// The width of what it writes: `d_in` but for a transcoder.
    pub d_out: usize,
    /// The type of its numbers on disk.
    pub dtype: String,
    /// The hook point that it reads, if the checkpoint says so.
    pub hook_name: Option<String>,
    /// The hook point that a transcoder stands for the output of, if the checkpoint says so.
    pub hook_name_out: Option<String>,
    /// The one attention head that it reads at its hook, if it does not read all.
    pub hook_head_index: Option<usize>,
    /// Whether the decoder's bias is taken off the (normalised) input.
    pub apply_b_dec_to_input: bool,
    /// What is done to the activation first.
    pub normalize_activations: Normalization,
    /// The factor folded into the weights of an `expected_average_only_in` SAE, if one is known.
    pub norm_scaling_factor: Option<f64>,
    /// The factor of a `constant_scalar_rescale` SAE.
    pub activation_normalization_factor: Option<f64>,
    /// Whether the norms of the decoder's rows are folded into the encoder: activations are then what they add to the
    /// output, and decoder rows have length 1.
    pub fold_decoder_norm: bool,
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
    /// The mean number of active features at a token, as its authors measured it; of an SAE of the registry.
    pub published_l0: Option<f64>,
    /// Its page on Neuronpedia, of an SAE of the registry.
    pub neuronpedia_id: Option<String>,
}

/// How pre-activations become feature activations, and what the output is.
///
/// A transcoder stands for a part of the model: it reads what goes into an MLP and writes what comes out. One with a skip
/// adds a linear map of its input to that.
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
    /// The positive ones among the `k` largest.
    #[serde(rename = "topk")]
    TopK {
        /// How many.
        k: usize,
        /// Whether pre-activations count by what they add to the output: times the norm of their decoder row, which
        /// decoding divides out again.
        rescale_acts_by_decoder_norm: bool,
    },
    /// The `k` of largest magnitude, with their signs: activations may be negative.
    #[serde(rename = "abstopk")]
    AbsTopK {
        /// How many.
        k: usize,
        /// As of [`Architecture::TopK`].
        rescale_acts_by_decoder_norm: bool,
    },
    /// One feature after the other: the one whose decoder row goes best with what is left, which is then taken off.
    MatchingPursuit {
        /// A rest whose norm is below this is left alone; 0 for none.
        residual_threshold: f64,
        /// The most steps; `d_in` if not given.
        max_iterations: Option<usize>,
        /// Whether to stop at a feature that was taken before.
        stop_on_duplicate_support: bool,
    },
    /// What attention over the earlier tokens of the sequence does not predict: features of what is new at a token.
    Temporal {
        /// The attention heads.
        n_heads: usize,
        /// The attention layers, each predicting what the ones before left.
        n_attn_layers: usize,
        /// How many times narrower queries and keys are than `d_sae`.
        bottleneck_factor: usize,
        /// How many features are kept at most, the largest.
        kval_topk: Option<usize>,
        /// Whether the encoder is the decoder, transposed.
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
        /// How many.
        k: usize,
    },
    /// A top-k transcoder with a skip.
    #[serde(rename = "topk_skip_transcoder")]
    TopKSkipTranscoder {
        /// How many.
        k: usize,
    },
}

impl Architecture {
    /// The names of all, SAELens' where it has one.
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

    /// SAELens' name.
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

    /// Whether it writes at another place than it reads.
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

    /// The most features that can be active at a token, where that is bounded.
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

    /// Whether activations count by the norm of their decoder row.
    pub fn rescales(&self) -> bool {
        matches!(
            self,
            Architecture::TopK { rescale_acts_by_decoder_norm: true, .. }
                | Architecture::AbsTopK { rescale_acts_by_decoder_norm: true, .. }
        )
    }

    /// Whether folding the decoder's norms leaves the active features and the output as they are.
    pub fn can_fold_decoder_norm(&self) -> bool {
        let is_other = matches!(self, Architecture::MatchingPursuit { .. } | Architecture::Temporal { .. });
        !is_other && (self.k().is_none() || self.rescales())
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
    /// Activations are multiplied by a factor, and the output divided by it.
    ConstantScalarRescale,
}

impl Normalization {
    /// Every one with SAELens' name for it.
    pub const NAMES: [(&'static str, Normalization); 5] = [
        ("none", Normalization::None),
        ("expected_average_only_in", Normalization::ExpectedAverageOnlyIn),
        ("constant_norm_rescale", Normalization::ConstantNormRescale),
        ("layer_norm", Normalization::LayerNorm),
        ("constant_scalar_rescale", Normalization::ConstantScalarRescale),
    ];

    /// SAELens' name.
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, n)| *n == self).map_or("none", |(name, _)| name)
    }
}
