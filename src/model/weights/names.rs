//! The names of weights in checkpoints.

/// The names of a model's weights in its checkpoint.
pub(in crate::model) struct WeightNames {
    pub(in crate::model) embed: String,
    /// `None` for a model with rotary embeddings.
    pub(in crate::model) pos_embed: Option<String>,
    pub(in crate::model) blocks: Vec<BlockNames>,
    pub(in crate::model) ln_final: NormNames,
    /// The name of the unembedding, if the checkpoint stores one.
    pub(in crate::model) unembed: String,
    pub(in crate::model) unembed_bias: Option<String>,
}

/// The names of the weights of one block.
pub(in crate::model) struct BlockNames {
    pub(in crate::model) ln1: Option<NormNames>,
    /// Queries, keys and values, or one layer of all queries, then all keys, then all values.
    pub(in crate::model) qkv: Vec<LinearNames>,
    /// Whether the one layer is sorted by head: the query, key and value of each.
    pub(in crate::model) qkv_by_head: bool,
    pub(in crate::model) q_norm: Option<NormNames>,
    pub(in crate::model) k_norm: Option<NormNames>,
    pub(in crate::model) attn_out: LinearNames,
    pub(in crate::model) ln1_post: Option<NormNames>,
    pub(in crate::model) ln2: Option<NormNames>,
    /// For a gated MLP, first the input of the activation function, then the factor of its output.
    pub(in crate::model) mlp_in: Vec<LinearNames>,
    pub(in crate::model) mlp_out: LinearNames,
    pub(in crate::model) ln2_post: Option<NormNames>,
}

/// The names of a norm's weights.
#[derive(Default)]
pub(in crate::model) struct NormNames {
    /// `None` for ones.
    pub(in crate::model) weight: Option<String>,
    /// `None` for zeros.
    pub(in crate::model) bias: Option<String>,
    /// Whether the stored weight is the actual one minus 1.
    pub(in crate::model) minus_one: bool,
}

/// The names of a linear layer's weights.
pub(in crate::model) struct LinearNames {
    pub(in crate::model) weight: String,
    pub(in crate::model) bias: Option<String>,
    /// Whether the matrix is stored as `[in, out]`, not as torch's `[out, in]`.
    pub(in crate::model) in_first: bool,
}
