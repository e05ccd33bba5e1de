//! The weights of a model, read from its checkpoint when they are first used.

use super::config::ModelConfig;
use crate::checkpoint::{Checkpoint, Lazy};
use crate::error::Result;
use candle_core::{Device, Tensor};

/// Where in a checkpoint the weights of a model are.
pub(super) struct WeightNames {
    pub(super) embed: String,
    pub(super) pos_embed: String,
    pub(super) blocks: Vec<BlockNames>,
    pub(super) ln_final: NormNames,
    /// `None` where the embedding serves as the unembedding too.
    pub(super) unembed: Option<String>,
}

/// Where the weights of one block are.
pub(super) struct BlockNames {
    pub(super) ln1: NormNames,
    /// Queries, keys and values, one below the other.
    pub(super) qkv: LinearNames,
    pub(super) attn_out: LinearNames,
    pub(super) ln2: NormNames,
    pub(super) mlp_in: LinearNames,
    pub(super) mlp_out: LinearNames,
}

/// Where a norm's weights are.
pub(super) struct NormNames {
    pub(super) weight: String,
    pub(super) bias: String,
}

/// Where a linear layer's weights are.
pub(super) struct LinearNames {
    pub(super) weight: String,
    pub(super) bias: String,
    /// Whether the matrix is stored as `[in, out]`.
    pub(super) in_first: bool,
}

/// A norm's weights, both `[d_model]`.
pub(super) struct Norm {
    pub(super) weight: Tensor,
    pub(super) bias: Tensor,
}

/// A linear layer: `weight` `[in, out]`, the layout in which `x · weight` is fastest, and `bias` `[out]`.
pub(super) struct Linear {
    pub(super) weight: Tensor,
    pub(super) bias: Tensor,
}

/// The weights of one block.
pub(super) struct Block {
    pub(super) ln1: Norm,
    pub(super) qkv: Linear,
    pub(super) attn_out: Linear,
    pub(super) ln2: Norm,
    pub(super) mlp_in: Linear,
    pub(super) mlp_out: Linear,
}

/// All weights of a model; a part that no pass needs is never read.
pub(super) struct Weights {
    checkpoint: Checkpoint,
    names: WeightNames,
    sizes: Sizes,
    embed: Lazy<Tensor>,
    pos_embed: Lazy<Tensor>,
    blocks: Vec<Lazy<Block>>,
    ln_final: Lazy<Norm>,
    unembed: Lazy<Tensor>,
}

struct Sizes {
    d_model: usize,
    d_attn: usize,
    d_mlp: usize,
    d_vocab: usize,
    n_ctx: usize,
}

impl Weights {
    /// Checks that a checkpoint has every weight of such a model, in the right shape, without reading any.
    pub(super) fn new(checkpoint: Checkpoint, names: WeightNames, cfg: &ModelConfig) -> Result<Self> {
        let sizes = Sizes {
            d_model: cfg.d_model,
            d_attn: cfg.n_heads * cfg.d_head,
            d_mlp: cfg.d_mlp,
            d_vocab: cfg.d_vocab,
            n_ctx: cfg.n_ctx,
        };
        let weights = Weights {
            checkpoint,
            sizes,
            embed: Lazy::default(),
            pos_embed: Lazy::default(),
            blocks: names.blocks.iter().map(|_| Lazy::default()).collect(),
            ln_final: Lazy::default(),
            unembed: Lazy::default(),
            names,
        };
        weights.check()?;
        Ok(weights)
    }

    pub(super) fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The token embeddings `[d_vocab, d_model]`.
    pub(super) fn embed(&self) -> Result<&Tensor> {
        self.embed.get(|| self.matrix(&self.names.embed, self.sizes.d_vocab))
    }

    /// The position embeddings `[n_ctx, d_model]`.
    pub(super) fn pos_embed(&self) -> Result<&Tensor> {
        self.pos_embed.get(|| self.matrix(&self.names.pos_embed, self.sizes.n_ctx))
    }

    /// The unembedding `[d_vocab, d_model]`.
    pub(super) fn unembed(&self) -> Result<&Tensor> {
        match &self.names.unembed {
            None => self.embed(),
            Some(name) => self.unembed.get(|| self.matrix(name, self.sizes.d_vocab)),
        }
    }

    pub(super) fn ln_final(&self) -> Result<&Norm> {
        self.ln_final.get(|| self.norm(&self.names.ln_final))
    }

    pub(super) fn block(&self, layer: usize) -> Result<&Block> {
        self.blocks[layer].get(|| {
            let names = &self.names.blocks[layer];
            let [qkv, attn_out, mlp_in, mlp_out] = self.linear_shapes();
            Ok(Block {
                ln1: self.norm(&names.ln1)?,
                qkv: self.linear(&names.qkv, qkv)?,
                attn_out: self.linear(&names.attn_out, attn_out)?,
                ln2: self.norm(&names.ln2)?,
                mlp_in: self.linear(&names.mlp_in, mlp_in)?,
                mlp_out: self.linear(&names.mlp_out, mlp_out)?,
            })
        })
    }

    /// `[in, out]` of a block's linear layers, in order.
    fn linear_shapes(&self) -> [[usize; 2]; 4] {
        let Sizes { d_model, d_attn, d_mlp, .. } = self.sizes;
        [[d_model, 3 * d_attn], [d_attn, d_model], [d_model, d_mlp], [d_mlp, d_model]]
    }

    fn check(&self) -> Result<()> {
        let Sizes { d_model, d_vocab, n_ctx, .. } = self.sizes;
        let check_norm = |names: &NormNames| {
            self.checkpoint.require(&names.weight, &[d_model])?;
            self.checkpoint.require(&names.bias, &[d_model])
        };
        self.checkpoint.require(&self.names.embed, &[d_vocab, d_model])?;
        self.checkpoint.require(&self.names.pos_embed, &[n_ctx, d_model])?;
        if let Some(unembed) = &self.names.unembed {
            self.checkpoint.require(unembed, &[d_vocab, d_model])?;
        }
        check_norm(&self.names.ln_final)?;
        for names in &self.names.blocks {
            check_norm(&names.ln1)?;
            check_norm(&names.ln2)?;
            let linears = [&names.qkv, &names.attn_out, &names.mlp_in, &names.mlp_out];
            for (names, [d_in, d_out]) in linears.into_iter().zip(self.linear_shapes()) {
                let stored = if names.in_first { [d_in, d_out] } else { [d_out, d_in] };
                self.checkpoint.require(&names.weight, &stored)?;
                self.checkpoint.require(&names.bias, &[d_out])?;
            }
        }
        Ok(())
    }

    fn matrix(&self, name: &str, rows: usize) -> Result<Tensor> {
        let shape = [rows, self.sizes.d_model];
        Ok(Tensor::from_vec(self.checkpoint.read(name, &shape)?, &shape, &Device::Cpu)?)
    }

    fn vector(&self, name: &str, len: usize) -> Result<Tensor> {
        Ok(Tensor::from_vec(self.checkpoint.read(name, &[len])?, len, &Device::Cpu)?)
    }

    fn norm(&self, names: &NormNames) -> Result<Norm> {
        let d_model = self.sizes.d_model;
        Ok(Norm { weight: self.vector(&names.weight, d_model)?, bias: self.vector(&names.bias, d_model)? })
    }

    fn linear(&self, names: &LinearNames, [d_in, d_out]: [usize; 2]) -> Result<Linear> {
        let weight = if names.in_first {
            self.checkpoint.read(&names.weight, &[d_in, d_out])?
        } else {
            self.checkpoint.read_transposed(&names.weight, [d_out, d_in])?
        };
        let weight = Tensor::from_vec(weight, (d_in, d_out), &Device::Cpu)?;
        Ok(Linear { weight, bias: self.vector(&names.bias, d_out)? })
    }
}
