//! What a model is made of, in TransformerLens' names.

use serde::Serialize;

/// The sizes and choices of a model. A family file reads them from the checkpoint's `config.json`; the decoder is
/// driven by nothing else.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ModelConfig {
    /// What the model was loaded as.
    pub model_name: String,
    /// The checkpoint's architecture, such as "GPT2LMHeadModel".
    pub original_architecture: String,
    /// The width of the residual stream.
    pub d_model: usize,
    /// The number of blocks.
    pub n_layers: usize,
    /// The number of attention heads.
    pub n_heads: usize,
    /// The width of one head.
    pub d_head: usize,
    /// The width of the MLP.
    pub d_mlp: usize,
    /// The number of tokens that the embedding knows.
    pub d_vocab: usize,
    /// The longest sequence, in tokens.
    pub n_ctx: usize,
    /// The MLP's activation function.
    pub act_fn: Activation,
    /// What the norms add to the variance.
    pub eps: f64,
    /// Whether attention scores are divided by the square root of `d_head`.
    pub use_attn_scale: bool,
    /// Whether attention scores are also divided by the number of the block, counted from 1.
    pub scale_attn_by_inverse_layer_idx: bool,
    /// Whether text gets a beginning-of-sequence token in front unless something else is asked for.
    pub default_prepend_bos: bool,
    /// Whether the unembedding is the embedding.
    pub tie_word_embeddings: bool,
}

impl ModelConfig {
    /// What the attention scores of block `layer` are multiplied with.
    pub fn attn_scale(&self, layer: usize) -> f32 {
        let mut scale = 1.0;
        if self.use_attn_scale {
            scale /= (self.d_head as f32).sqrt();
        }
        if self.scale_attn_by_inverse_layer_idx {
            scale /= (layer + 1) as f32;
        }
        scale
    }

    /// The number of multiply-add weights of one block, for counting FLOPs.
    pub fn block_weights(&self) -> usize {
        self.d_model * (4 * self.n_heads * self.d_head + 2 * self.d_mlp)
    }
}

/// An MLP's activation function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// GELU by the tanh approximation: Hugging Face's `gelu_new`, `gelu_fast` and `gelu_pytorch_tanh`.
    GeluNew,
    /// GELU by the error function.
    Gelu,
    /// The positive part.
    Relu,
    /// x · sigmoid(x).
    Silu,
}

impl Activation {
    /// The function that Hugging Face calls `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "gelu_new" | "gelu_fast" | "gelu_pytorch_tanh" => Activation::GeluNew,
            "gelu" => Activation::Gelu,
            "relu" => Activation::Relu,
            "silu" | "swish" => Activation::Silu,
            _ => return None,
        })
    }

    /// The names that [`Activation::from_name`] knows.
    pub const NAMES: [&str; 7] =
        ["gelu_new", "gelu_fast", "gelu_pytorch_tanh", "gelu", "relu", "silu", "swish"];
}
