//! The weights of a model, read from its checkpoint when they are first used.

mod layers;
mod names;

pub(super) use names::{BlockNames, LinearNames, NormNames, WeightNames};

use super::config::{ModelConfig, NormKind, PositionalEmbedding};
use crate::checkpoint::{Checkpoint, Lazy};
use crate::compute::Compute;
use crate::error::{Error, Result};
use crate::linalg::with_all_f32s;
use crate::linear::Linear;
use candle_core::{DType, Device, Tensor, WithDType};
use half::{bf16, f16};

/// Runs code for the Rust type `$T` of a [`DType`] in which weights are held.
macro_rules! held {
    ($dtype:expr, |$T:ident| $code:expr) => {
        match $dtype {
            DType::BF16 => {
                type $T = bf16;
                $code
            }
            DType::F16 => {
                type $T = f16;
                $code
            }
            _ => {
                type $T = f32;
                $code
            }
        }
    };
}

use held;

/// A norm's weights, `[d]` each for rows of `d` elements.
pub(super) struct Norm {
    pub(super) weight: Tensor,
    /// `None` for an RMS norm, which only divides.
    pub(super) bias: Option<Tensor>,
}

/// The weights of one block.
pub(super) struct Block {
    pub(super) ln1: Option<Norm>,
    /// The weights of queries, keys and values, side by side.
    pub(super) qkv: Linear,
    pub(super) q_norm: Option<Norm>,
    pub(super) k_norm: Option<Norm>,
    pub(super) attn_out: Linear,
    pub(super) ln1_post: Option<Norm>,
    pub(super) ln2: Option<Norm>,
    /// For a gated MLP, both projections side by side.
    pub(super) mlp_in: Linear,
    pub(super) mlp_out: Linear,
    pub(super) ln2_post: Option<Norm>,
}

/// All weights of a model on its device, each read when a pass first needs it.
pub(super) struct Weights {
    checkpoint: Checkpoint,
    names: WeightNames,
    cfg: ModelConfig,
    compute: Compute,
    embed: Table,
    pos_embed: Table,
    blocks: Vec<Lazy<Block>>,
    ln_final: Lazy<Norm>,
    unembed_from: Unembed,
    unembed_table: Table,
    unembed: Lazy<Linear>,
}

/// A matrix with a row for each token or position.
#[derive(Default)]
struct Table {
    on_host: Lazy<Tensor>,
    /// The same on the model's device; a copy of its own on a GPU.
    on_device: Lazy<Tensor>,
}

/// Where the unembedding comes from.
enum Unembed {
    /// The checkpoint has a tensor for it.
    Own,
    /// It is the embedding.
    Embed,
    /// It is the embedding by the config, but the checkpoint has a tensor, which transformers 5 uses.
    Both,
    /// The checkpoint has no unembedding.
    Missing,
}

impl Weights {
    /// Checks that a checkpoint has every weight of the model in the right shape, without reading any.
    pub(super) fn new(
        checkpoint: Checkpoint,
        mut names: WeightNames,
        cfg: &ModelConfig,
        compute: Compute,
    ) -> Result<Self> {
        debug_assert_eq!(
            names.pos_embed.is_some(),
            cfg.positional_embedding == PositionalEmbedding::Standard
        );
        let [embed, unembed] = [&names.embed, &names.unembed].map(|name| checkpoint.shape(name).is_some());
        let unembed_from = match (cfg.tie_word_embeddings, embed, unembed) {
            (true, false, true) => {
                // The file stores the shared tensor under the other name.
                names.embed = names.unembed.clone();
                Unembed::Embed
            }
            (true, _, false) => Unembed::Embed,
            (true, true, true) => Unembed::Both,
            (false, _, true) => Unembed::Own,
            (false, _, false) => Unembed::Missing,
        };
        let weights = Weights {
            checkpoint,
            unembed_from,
            cfg: cfg.clone(),
            compute,
            embed: Table::default(),
            pos_embed: Table::default(),
            blocks: names.blocks.iter().map(|_| Lazy::default()).collect(),
            ln_final: Lazy::default(),
            unembed_table: Table::default(),
            unembed: Lazy::default(),
            names,
        };
        weights.check()?;
        Ok(weights)
    }

    pub(super) fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    pub(super) fn compute(&self) -> &Compute {
        &self.compute
    }

    /// The widths of all heads' queries, keys and values.
    fn d_attn(&self) -> [usize; 3] {
        let ModelConfig { n_heads, n_key_value_heads, d_head, .. } = self.cfg;
        [n_heads, n_key_value_heads, n_key_value_heads].map(|heads| heads * d_head)
    }

    /// The token embeddings `[d_vocab, d_model]`, on the model's device.
    pub(super) fn embed(&self) -> Result<&Tensor> {
        self.on_device(&self.embed, || self.embed_rows(), || self.matrix(&self.names.embed, self.cfg.d_vocab))
    }

    /// The token embeddings `[d_vocab, d_model]`, on the host.
    pub(super) fn embed_rows(&self) -> Result<&Tensor> {
        self.embed.on_host.get(|| self.matrix(&self.names.embed, self.cfg.d_vocab))
    }

    /// The position embeddings `[n_ctx, d_model]`, on the model's device; `None` for a model with rotary embeddings.
    pub(super) fn pos_embed(&self) -> Result<Option<&Tensor>> {
        let Some(name) = &self.names.pos_embed else { return Ok(None) };
        let read = || self.matrix(name, self.cfg.n_ctx);
        self.on_device(&self.pos_embed, || self.pos_embed.on_host.get(read), read).map(Some)
    }

    /// The unembedding, `[d_model, d_vocab]`, on the model's device; its bias is the one of the logits.
    ///
    /// # Errors
    /// As [`Weights::unembed_name`].
    pub(super) fn unembed(&self) -> Result<&Linear> {
        let name = self.unembed_name()?;
        self.unembed.get(|| {
            let table = match self.unembed_from {
                Unembed::Embed => self.embed()?,
                Unembed::Both if self.unembed_rows()?.id() == self.embed_rows()?.id() => self.embed()?,
                _ => self.on_device(
                    &self.unembed_table,
                    || self.unembed_rows(),
                    || self.matrix(name, self.cfg.d_vocab),
                )?,
            };
            let bias = self.names.unembed_bias.as_ref();
            let bias = bias.map(|name| self.vector(name, self.cfg.d_vocab)).transpose()?;
            Ok(Linear::new(table.t()?, bias))
        })
    }

    /// The transposed unembedding, `[d_vocab, d_model]`, on the host, in the type in which it is held.
    ///
    /// # Errors
    /// As [`Weights::unembed_name`].
    pub(super) fn unembed_rows(&self) -> Result<&Tensor> {
        let name = self.unembed_name()?;
        self.unembed_table.on_host.get(|| {
            let own = || self.matrix(name, self.cfg.d_vocab);
            Ok(match self.unembed_from {
                Unembed::Embed => self.embed_rows()?.clone(),
                Unembed::Own | Unembed::Missing => own()?,
                Unembed::Both => {
                    // torch's files hold the same table under both names: it is kept once.
                    let (embed, own) = (self.embed_rows()?, own()?);
                    if is_same(embed, &own)? { embed.clone() } else { own }
                }
            })
        })
    }

    /// A table on the model's device. On the CPU that is the one on the host; a GPU gets what `read` reads.
    fn on_device<'a>(
        &self,
        table: &'a Table,
        on_host: impl Fn() -> Result<&'a Tensor>,
        read: impl Fn() -> Result<Tensor>,
    ) -> Result<&'a Tensor> {
        if self.compute.device.is_cpu() {
            return on_host();
        }
        table.on_device.get(|| self.moved(read()?))
    }

    /// A tensor on the model's device.
    fn moved(&self, tensor: Tensor) -> Result<Tensor> {
        Ok(tensor.to_device(&self.compute.device)?)
    }

    /// Whether the model has an unembedding, and therefore logits.
    pub(super) fn has_unembed(&self) -> bool {
        self.unembed_name().is_ok()
    }

    /// The name of the unembedding in the checkpoint.
    ///
    /// # Errors
    /// The checkpoint has no unembedding.
    pub(super) fn unembed_name(&self) -> Result<&str> {
        match self.unembed_from {
            Unembed::Missing => Err(Error::mismatch(
                format!("there are no logits: the checkpoint has no unembedding, `{}`", self.names.unembed),
                "activations can be read up to `ln_final.hook_normalized`; for logits, load the language model that this \
                 one was made from",
            )),
            Unembed::Embed => Ok(&self.names.embed),
            Unembed::Own | Unembed::Both => Ok(&self.names.unembed),
        }
    }

    pub(super) fn ln_final(&self) -> Result<&Norm> {
        self.ln_final.get(|| self.norm(&self.names.ln_final, self.cfg.d_model))
    }

    pub(super) fn block(&self, layer: usize) -> Result<&Block> {
        self.blocks[layer].get(|| {
            let names = &self.names.blocks[layer];
            let ModelConfig { d_model, d_mlp, .. } = self.cfg;
            let d_attn = self.d_attn();
            let norm =
                |names: &Option<NormNames>| names.as_ref().map(|names| self.norm(names, d_model)).transpose();
            let qk_norm = |names: &Option<NormNames>, width: usize| {
                let norm = names.as_ref().map(|names| self.norm(names, self.qk_norm_width(names, width)));
                norm.transpose()
            };
            let one = |names: &LinearNames, [d_in, d_out]: [usize; 2]| {
                self.linear(std::slice::from_ref(names), d_in, &[d_out], false)
            };
            Ok(Block {
                ln1: norm(&names.ln1)?,
                qkv: self.linear(&names.qkv, d_model, &d_attn, names.qkv_by_head)?,
                q_norm: qk_norm(&names.q_norm, d_attn[0])?,
                k_norm: qk_norm(&names.k_norm, d_attn[1])?,
                attn_out: one(&names.attn_out, [d_attn[0], d_model])?,
                ln1_post: norm(&names.ln1_post)?,
                ln2: norm(&names.ln2)?,
                mlp_in: self.linear(&names.mlp_in, d_model, &vec![d_mlp; names.mlp_in.len()], false)?,
                mlp_out: one(&names.mlp_out, [d_mlp, d_model])?,
                ln2_post: norm(&names.ln2_post)?,
            })
        })
    }

    fn check(&self) -> Result<()> {
        let ModelConfig { d_model, d_mlp, d_vocab, n_ctx, .. } = self.cfg;
        let d_attn = self.d_attn();
        self.checkpoint.require(&self.names.embed, &[d_vocab, d_model])?;
        if let Some(name) = &self.names.pos_embed {
            self.checkpoint.require(name, &[n_ctx, d_model])?;
        }
        if let Ok(name) = self.unembed_name() {
            self.checkpoint.require(name, &[d_vocab, d_model])?;
            if let Some(name) = &self.names.unembed_bias {
                self.checkpoint.require(name, &[d_vocab])?;
            }
        }
        self.check_norm(&self.names.ln_final, d_model)?;
        for names in &self.names.blocks {
            for norm in [&names.ln1, &names.ln1_post, &names.ln2, &names.ln2_post].into_iter().flatten() {
                self.check_norm(norm, d_model)?;
            }
            for (norm, width) in [(&names.q_norm, d_attn[0]), (&names.k_norm, d_attn[1])] {
                if let Some(norm) = norm {
                    self.check_norm(norm, self.qk_norm_width(norm, width))?;
                }
            }
            match &names.qkv[..] {
                [all] => self.check_linear(all, [d_model, d_attn.iter().sum()])?,
                parts => {
                    for (part, width) in parts.iter().zip(d_attn) {
                        self.check_linear(part, [d_model, width])?;
                    }
                }
            }
            self.check_linear(&names.attn_out, [d_attn[0], d_model])?;
            for part in &names.mlp_in {
                self.check_linear(part, [d_model, d_mlp])?;
            }
            self.check_linear(&names.mlp_out, [d_mlp, d_model])?;
        }
        Ok(())
    }

    fn check_norm(&self, names: &NormNames, width: usize) -> Result<()> {
        for name in names.weight.iter().chain(&names.bias) {
            self.checkpoint.require(name, &[width])?;
        }
        Ok(())
    }

    fn check_linear(&self, names: &LinearNames, [d_in, d_out]: [usize; 2]) -> Result<()> {
        let stored = if names.in_first { [d_in, d_out] } else { [d_out, d_in] };
        self.checkpoint.require(&names.weight, &stored)?;
        names.bias.as_ref().map_or(Ok(()), |bias| self.checkpoint.require(bias, &[d_out]))
    }

    /// The width of a norm of queries or keys: one head, or all heads together in OLMo 2.
    fn qk_norm_width(&self, names: &NormNames, all_heads: usize) -> usize {
        let shape = names.weight.as_ref().and_then(|name| self.checkpoint.shape(name));
        if shape == Some(&[all_heads]) { all_heads } else { self.cfg.d_head }
    }

    fn matrix(&self, name: &str, rows: usize) -> Result<Tensor> {
        let shape = [rows, self.cfg.d_model];
        held!(self.compute.dtype.held(&self.stored(name)), |T| tensor(
            self.checkpoint.read::<T>(name, &shape)?,
            shape
        ))
    }

    fn vector(&self, name: &str, len: usize) -> Result<Tensor> {
        self.moved(Tensor::from_vec(self.checkpoint.read::<f32>(name, &[len])?, len, &Device::Cpu)?)
    }

    fn norm(&self, names: &NormNames, width: usize) -> Result<Norm> {
        let ones = || Ok(Tensor::ones(width, DType::F32, &self.compute.device)?);
        let mut weight = names.weight.as_ref().map_or_else(ones, |name| self.vector(name, width))?;
        if names.minus_one {
            weight = (weight + 1.0)?;
        }
        let bias = (self.cfg.normalization_type == NormKind::LayerNorm).then(|| match &names.bias {
            Some(name) => self.vector(name, width),
            None => Ok(weight.zeros_like()?),
        });
        Ok(Norm { weight, bias: bias.transpose()? })
    }

    /// The type in which the checkpoint stores a tensor.
    fn stored(&self, name: &str) -> String {
        self.checkpoint.dtype(name).unwrap_or_default()
    }
}

fn tensor<T: WithDType>(values: Vec<T>, shape: [usize; 2]) -> Result<Tensor> {
    Ok(Tensor::from_vec(values, &shape, &Device::Cpu)?)
}

/// Whether two matrices of the same shape have the same elements.
fn is_same(a: &Tensor, b: &Tensor) -> Result<bool> {
    const BAND: usize = 1024;
    let n = a.dim(0)?;
    for first in (0..n).step_by(BAND) {
        let band =
            |x: &Tensor| Ok::<_, Error>(x.narrow(0, first, BAND.min(n - first))?.to_dtype(DType::F32)?);
        if !with_all_f32s([&band(a)?, &band(b)?], |[a, b]| a == b)? {
            return Ok(false);
        }
    }
    Ok(true)
}
