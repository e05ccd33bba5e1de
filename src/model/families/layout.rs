//! The names of a family's weights in a checkpoint, as a table.

use crate::checkpoint::Checkpoint;
use crate::model::config::{ModelConfig, NormKind};
use crate::model::weights::{BlockNames, LinearNames, NormNames, WeightNames};

/// The names of a family's weights, without `.weight` and `.bias`: those of a block after `{blocks}.0.`, all but the
/// unembedding after a prefix.
pub(in crate::model) struct Layout {
    /// Classes with a head add a prefix to the names of the bare transformer. The first prefix under which the checkpoint
    /// has a block 0, otherwise the first.
    pub(super) prefixes: &'static [&'static str],
    pub(super) embed: &'static str,
    /// `None` for a model with rotary embeddings.
    pub(super) pos_embed: Option<&'static str>,
    pub(super) blocks: &'static str,
    /// The norms before and after attention, then before and after the MLP.
    pub(super) norms: [Option<&'static str>; 4],
    /// Whether the stored weights of norms are the actual ones minus 1.
    pub(super) minus_one: bool,
    /// Whether norms have no weights.
    pub(super) weightless: bool,
    /// Queries, keys and values, or one matrix of all three.
    pub(super) qkv: &'static [&'static str],
    /// Whether the one matrix is in order of heads: the query, key and value of each.
    pub(super) qkv_by_head: bool,
    /// The norms of queries and keys, if the model has them.
    pub(super) qk_norms: [&'static str; 2],
    pub(super) attn_out: &'static str,
    /// For a gated MLP, first the input of the activation function, then the factor of its output.
    pub(super) mlp_in: &'static [&'static str],
    pub(super) mlp_out: &'static str,
    /// Whether matrices are stored as `[in, out]`, always with a bias. Otherwise a bias is used if the checkpoint has one.
    pub(super) conv1d: bool,
    pub(super) ln_final: &'static str,
    pub(super) unembed: &'static str,
    pub(super) unembed_bias: bool,
}

impl Layout {
    /// The names of the weights of one model.
    pub(in crate::model) fn names(&self, checkpoint: &Checkpoint, cfg: &ModelConfig) -> WeightNames {
        let has_block = |prefix: &&&str| {
            let first = format!("{prefix}{}.0.", self.blocks);
            checkpoint.names().any(|name| name.starts_with(&first))
        };
        let prefix = self.prefixes.iter().find(has_block).unwrap_or(&self.prefixes[0]);
        let norm = |name: String| match self.weightless {
            true => NormNames::default(),
            false => NormNames {
                bias: (cfg.normalization_type == NormKind::LayerNorm).then(|| format!("{name}.bias")),
                weight: Some(format!("{name}.weight")),
                minus_one: self.minus_one,
            },
        };
        let block = |i: usize| {
            let inside = |name: &str| format!("{prefix}{}.{i}.{name}", self.blocks);
            let linear = |name: &&str| {
                let bias = Some(inside(name) + ".bias");
                let bias = bias.filter(|bias| self.conv1d || checkpoint.shape(bias).is_some());
                LinearNames { weight: inside(name) + ".weight", bias, in_first: self.conv1d }
            };
            let [ln1, ln1_post, ln2, ln2_post] = self.norms.map(|name| Some(norm(inside(name?))));
            let [q_norm, k_norm] = self.qk_norms.map(|name| cfg.use_qk_norm.then(|| norm(inside(name))));
            BlockNames {
                ln1,
                qkv: self.qkv.iter().map(linear).collect(),
                qkv_by_head: self.qkv_by_head,
                q_norm,
                k_norm,
                attn_out: linear(&self.attn_out),
                ln1_post,
                ln2,
                mlp_in: self.mlp_in.iter().map(linear).collect(),
                mlp_out: linear(&self.mlp_out),
                ln2_post,
            }
        };
        WeightNames {
            embed: format!("{prefix}{}.weight", self.embed),
            pos_embed: self.pos_embed.map(|name| format!("{prefix}{name}.weight")),
            blocks: (0..cfg.n_layers).map(block).collect(),
            ln_final: norm(format!("{prefix}{}", self.ln_final)),
            unembed: format!("{}.weight", self.unembed),
            unembed_bias: self.unembed_bias.then(|| format!("{}.bias", self.unembed)),
        }
    }
}
