//! The configuration of a model, with TransformerLens' names.

use crate::error::{Error, Result};
use crate::hooks::{HookPoint, HookPoints, Space, TokenBatch};
use serde::Serialize;

/// The sizes and architecture choices of a model. A family file reads them from the checkpoint's `config.json`; the
/// decoder depends on nothing else.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ModelConfig {
    /// The name that the model was loaded by.
    pub model_name: String,
    /// The checkpoint's architecture, such as "GPT2LMHeadModel".
    pub original_architecture: String,
    /// The width of the residual stream.
    pub d_model: usize,
    /// The number of blocks.
    pub n_layers: usize,
    /// The number of attention heads.
    pub n_heads: usize,
    /// The number of heads of keys and values, a divisor of `n_heads`; several heads of queries may share one.
    pub n_key_value_heads: usize,
    /// The width of one head.
    pub d_head: usize,
    /// The width of the MLP.
    pub d_mlp: usize,
    /// The number of token embeddings.
    pub d_vocab: usize,
    /// The longest sequence, in tokens.
    pub n_ctx: usize,
    /// The MLP's activation function.
    pub act_fn: ActivationFunction,
    /// Whether the MLP multiplies its activations by a second projection of its input.
    pub gated_mlp: bool,
    /// How the norms normalize.
    pub normalization_type: NormKind,
    /// The small number that norms add to the variance.
    pub eps: f64,
    /// Whether attention and MLP read a norm of the residual stream. False only in OLMo 2.
    pub use_pre_norm: bool,
    /// Whether the outputs of attention and MLP are normalized before they are added to the residual stream.
    pub use_post_norm: bool,
    /// Whether queries and keys are normalized before they are rotated.
    pub use_qk_norm: bool,
    /// Whether attention and MLP read the same residual stream, rather than one after the other.
    pub parallel_attn_mlp: bool,
    /// The factor of token embeddings.
    pub embed_scale: f64,
    /// How positions are encoded.
    #[serde(flatten)]
    pub positional_embedding: PositionalEmbedding,
    /// The divisor of attention scores.
    pub attn_scale: f64,
    /// Whether attention scores are also divided by the number of the block, counted from 1.
    pub scale_attn_by_inverse_layer_idx: bool,
    /// The cap `c` of attention scores, `c · tanh(score / c)`.
    pub attn_scores_soft_cap: Option<f64>,
    /// The cap `c` of logits, `c · tanh(logit / c)`.
    pub output_logits_soft_cap: Option<f64>,
    /// Which keys the queries of each block see, `[n_layers]`.
    pub attn_types: Vec<AttentionType>,
    /// The number of keys that a query of a local block sees, its own included.
    pub window_size: Option<usize>,
    /// The largest absolute value of the elements of queries, keys and values: larger ones are clipped.
    pub clip_qkv: Option<f64>,
    /// Whether a beginning-of-sequence token is prepended to text by default.
    pub default_prepend_bos: bool,
    /// Whether the unembedding is the embedding. If the checkpoint has another unembedding nevertheless, that is used,
    /// as in transformers 5.
    pub tie_word_embeddings: bool,
    /// Whether the checkpoint has an unembedding. Reward and embedding models do not, and give no logits.
    pub has_unembed: bool,
}

impl ModelConfig {
    /// The sizes that every family has, with the most common choices for the rest: RMS norms, a gated MLP, learned
    /// positions. A family sets what differs, and what is unknown here: `d_mlp`, `d_vocab`, `n_ctx`.
    pub(super) fn new(
        name: &str,
        architecture: &str,
        d_model: usize,
        n_layers: usize,
        n_heads: usize,
        d_head: usize,
    ) -> Self {
        ModelConfig {
            model_name: name.to_owned(),
            original_architecture: architecture.to_owned(),
            d_model,
            n_layers,
            n_heads,
            n_key_value_heads: n_heads,
            d_head,
            d_mlp: 0,
            d_vocab: 0,
            n_ctx: 0,
            act_fn: ActivationFunction::Silu,
            gated_mlp: true,
            normalization_type: NormKind::Rms,
            eps: 1e-6,
            use_pre_norm: true,
            use_post_norm: false,
            use_qk_norm: false,
            parallel_attn_mlp: false,
            embed_scale: 1.0,
            positional_embedding: PositionalEmbedding::Standard,
            attn_scale: (d_head as f64).sqrt(),
            scale_attn_by_inverse_layer_idx: false,
            attn_scores_soft_cap: None,
            output_logits_soft_cap: None,
            attn_types: vec![AttentionType::Global; n_layers],
            window_size: None,
            clip_qkv: None,
            default_prepend_bos: true,
            tie_word_embeddings: false,
            has_unembed: true,
        }
    }

    /// The number of f32 that a pass keeps at a time for each token: the residual stream with what is added to it, the inner
    /// layer of the MLP before and after its activation function, queries, keys and values, before and after the rotation.
    pub(crate) fn floats_per_token(&self) -> usize {
        let inner = if self.gated_mlp { 3 * self.d_mlp } else { 2 * self.d_mlp };
        4 * self.d_model + inner + 2 * (self.n_heads + 2 * self.n_key_value_heads) * self.d_head
    }

    /// The factor of the attention scores in block `layer`.
    pub fn attn_factor(&self, layer: usize) -> f32 {
        let by_layer = if self.scale_attn_by_inverse_layer_idx { (layer + 1) as f64 } else { 1.0 };
        (1.0 / (self.attn_scale * by_layer)) as f32
    }

    /// The number of keys that a query of block `layer` sees; `None` if it is not limited.
    pub fn window(&self, layer: usize) -> Option<usize> {
        self.window_size.filter(|_| self.attn_types.get(layer) == Some(&AttentionType::Local))
    }

    /// The number of multiply-add weights of one block, for counting FLOPs.
    pub fn block_weights(&self) -> usize {
        let attention = 2 * (self.n_heads + self.n_key_value_heads) * self.d_head;
        let mlp = if self.gated_mlp { 3 } else { 2 } * self.d_mlp;
        self.d_model * (attention + mlp)
    }

    /// The width of the vectors of a space, all heads together, with its name: `("d_model", 768)`.
    pub fn width(&self, space: Space) -> (&'static str, usize) {
        match space {
            Space::Residual | Space::ResidualPart | Space::Normalized => ("d_model", self.d_model),
            Space::Heads => ("n_heads · d_head", self.n_heads * self.d_head),
            Space::KeyValueHeads => ("n_key_value_heads · d_head", self.n_key_value_heads * self.d_head),
            Space::Mlp => ("d_mlp", self.d_mlp),
            Space::Scale => ("one number", 1),
            Space::NoFeatures => ("no features", 0),
        }
    }

    /// The hook points of this model.
    pub fn hook_points(&self) -> HookPoints {
        use HookPoint::*;
        let is_rotary = matches!(self.positional_embedding, PositionalEmbedding::Rotary(_));
        let qk_norm = &[QNormScale, QNormNormalized, QNormed, KNormScale, KNormNormalized, KNormed];
        let post_norm = &[
            AttnPreNormOut,
            Ln1PostScale,
            Ln1PostNormalized,
            MlpPreNormOut,
            Ln2PostScale,
            Ln2PostNormalized,
        ];
        let parts: [(bool, &[HookPoint]); 9] = [
            (!is_rotary, &[PosEmbed]),
            (self.n_heads == self.n_key_value_heads, &[AttnIn]),
            (is_rotary, &[RotQ, RotK]),
            (self.use_qk_norm, qk_norm),
            (self.use_pre_norm, &[Ln1In, Ln1Scale, Ln1Normalized, Ln2Scale, Ln2Normalized]),
            (self.use_post_norm, post_norm),
            (self.gated_mlp, &[MlpPreLinear]),
            (!self.parallel_attn_mlp, &[ResidMid]),
            (self.has_unembed, &[UnembedOut]),
        ];
        let absent = parts.into_iter().filter(|(has, _)| !has).flat_map(|(_, points)| points).copied();
        HookPoints::new(self.n_layers, absent)
    }

    /// Checks that the model can read a batch: known token ids, and sequences that fit after `past(i)` earlier tokens each.
    ///
    /// # Errors
    /// No tokens; an id outside the vocabulary; a sequence longer than the context.
    pub(super) fn check(&self, batch: &TokenBatch, past: impl Fn(usize) -> usize) -> Result<()> {
        if batch.is_empty() {
            return Err(Error::invalid("the input", "at least one token", "none")
                .with_hint("the text is empty; with `prepend_bos: true` it would be only a BOS token"));
        }
        let mut tokens = batch.tokens().iter().enumerate();
        if let Some((pos, token)) = tokens.find(|(_, t)| **t as usize >= self.d_vocab) {
            return Err(Error::invalid(
                format!("the token at position {pos}"),
                format!("an id below d_vocab = {}", self.d_vocab),
                token,
            )
            .with_hint("the tokens, or the tokenizer next to the weights, belong to another model"));
        }
        let longest = batch.sequences().enumerate().map(|(i, s)| s.len() + past(i)).max();
        if let Some(longest) = longest.filter(|n| *n > self.n_ctx) {
            return Err(Error::invalid(
                "the input",
                format!("at most n_ctx = {} tokens", self.n_ctx),
                longest,
            )
            .with_hint("shorten the text, or run it in several pieces"));
        }
        Ok(())
    }
}

/// How a norm normalizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum NormKind {
    /// Mean and variance: `(x − mean) / sqrt(var + eps) · weight + bias`.
    #[serde(rename = "LN")]
    LayerNorm,
    /// Only the root mean square: `x / sqrt(mean(x²) + eps) · weight`.
    #[serde(rename = "RMS")]
    Rms,
}

/// Which keys the queries of a block see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AttentionType {
    /// All keys that are not later than the query.
    Global,
    /// Only keys that are at most `window_size − 1` positions earlier.
    Local,
}

/// How positions are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(tag = "positional_embedding_type", rename_all = "lowercase")]
pub enum PositionalEmbedding {
    /// A learned embedding of the position is added to the token embedding.
    Standard,
    /// Queries and keys are rotated by angles that grow with the position.
    Rotary(Rotary),
}

/// The parameters of rotary embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rotary {
    /// The number of a head's first dimensions that are rotated. An odd number determines the wavelengths as it is, but
    /// one more dimension is rotated.
    pub rotary_dim: usize,
    /// The base of the wavelengths.
    pub rotary_base: f64,
    /// The base in local blocks, if it differs; scaling then does not apply to them.
    pub rotary_base_local: Option<f64>,
    /// How wavelengths are stretched for contexts longer than those of the first training.
    #[serde(rename = "rope_scaling")]
    pub scaling: Option<RopeScaling>,
}

/// How rotary wavelengths are stretched.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(tag = "rope_type", rename_all = "lowercase")]
pub enum RopeScaling {
    /// All by the same factor.
    Linear {
        /// The factor of all wavelengths.
        factor: f64,
    },
    /// Llama 3.1's: long ones by a factor, short ones not at all, and smoothly in between.
    Llama3 {
        /// The factor of long wavelengths.
        factor: f64,
        /// Wavelengths above the old context divided by this are long.
        low_freq_factor: f64,
        /// Wavelengths below the old context divided by this are short.
        high_freq_factor: f64,
        /// The old context: the number of tokens of the first training.
        original_max_position_embeddings: f64,
    },
}

/// An MLP's activation function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ActivationFunction {
    /// GELU with the tanh approximation: Hugging Face's `gelu_new`, `gelu_fast` and `gelu_pytorch_tanh`.
    GeluNew,
    /// GELU with the error function.
    Gelu,
    /// `max(x, 0)`.
    Relu,
    /// `x · sigmoid(x)`.
    Silu,
}

impl ActivationFunction {
    /// Returns the function that Hugging Face calls `name`, or `None` if it is unknown.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" => ActivationFunction::GeluNew,
            "gelu" => ActivationFunction::Gelu,
            "relu" => ActivationFunction::Relu,
            "silu" | "swish" => ActivationFunction::Silu,
            _ => return None,
        })
    }

    /// The names that [`ActivationFunction::from_name`] knows.
    pub const NAMES: [&str; 7] =
        ["gelu_new", "gelu_fast", "gelu_pytorch_tanh", "gelu", "relu", "silu", "swish"];
}
