//! The weights of a model, read from its checkpoint when they are first used.

use super::config::{ModelConfig, NormKind, PositionalEmbedding};
use crate::checkpoint::{Checkpoint, Held, Lazy, zeros};
use crate::compute::Dtype;
use crate::error::{Error, Result};
use crate::linalg::with_all_f32s;
use crate::linear::Linear;
use candle_core::{DType, Device, Tensor, WithDType};
use half::{bf16, f16};
use saescope_kernels::{Matrix, Packed};

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

/// The names of a model's weights in its checkpoint.
pub(super) struct WeightNames {
    pub(super) embed: String,
    /// `None` for a model with rotary embeddings.
    pub(super) pos_embed: Option<String>,
    pub(super) blocks: Vec<BlockNames>,
    pub(super) ln_final: NormNames,
    /// The name of the unembedding, if the checkpoint stores one.
    pub(super) unembed: String,
    pub(super) unembed_bias: Option<String>,
}

/// The names of the weights of one block.
pub(super) struct BlockNames {
    pub(super) ln1: Option<NormNames>,
    /// Queries, keys and values, or one layer of all queries, then all keys, then all values.
    pub(super) qkv: Vec<LinearNames>,
    /// Whether the one layer is sorted by head: the query, key and value of each.
    pub(super) qkv_by_head: bool,
    pub(super) q_norm: Option<NormNames>,
    pub(super) k_norm: Option<NormNames>,
    pub(super) attn_out: LinearNames,
    pub(super) ln1_post: Option<NormNames>,
    pub(super) ln2: Option<NormNames>,
    /// For a gated MLP, first the input of the activation function, then the factor of its output.
    pub(super) mlp_in: Vec<LinearNames>,
    pub(super) mlp_out: LinearNames,
    pub(super) ln2_post: Option<NormNames>,
}

/// The names of a norm's weights.
#[derive(Default)]
pub(super) struct NormNames {
    /// `None` for ones.
    pub(super) weight: Option<String>,
    /// `None` for zeros.
    pub(super) bias: Option<String>,
    /// Whether the stored weight is the actual one minus 1.
    pub(super) minus_one: bool,
}

/// The names of a linear layer's weights.
pub(super) struct LinearNames {
    pub(super) weight: String,
    pub(super) bias: Option<String>,
    /// Whether the matrix is stored as `[in, out]`, not as torch's `[out, in]`.
    pub(super) in_first: bool,
}

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

/// All weights of a model, each read when a pass first needs it.
pub(super) struct Weights {
    checkpoint: Checkpoint,
    names: WeightNames,
    cfg: ModelConfig,
    dtype: Dtype,
    embed: Lazy<Tensor>,
    pos_embed: Lazy<Tensor>,
    blocks: Vec<Lazy<Block>>,
    ln_final: Lazy<Norm>,
    unembed_from: Unembed,
    unembed: Lazy<Unembedding>,
}

/// The unembedding.
struct Unembedding {
    /// `[d_vocab, d_model]`, as stored.
    table: Tensor,
    /// `[d_model, d_vocab]`; its bias is the one of the logits.
    linear: Linear,
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
        dtype: Dtype,
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
            dtype,
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

    pub(super) fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// The widths of all heads' queries, keys and values.
    fn d_attn(&self) -> [usize; 3] {
        let ModelConfig { n_heads, n_key_value_heads, d_head, .. } = self.cfg;
        [n_heads, n_key_value_heads, n_key_value_heads].map(|heads| heads * d_head)
    }

    /// The token embeddings `[d_vocab, d_model]`.
    pub(super) fn embed(&self) -> Result<&Tensor> {
        self.embed.get(|| self.matrix(&self.names.embed, self.cfg.d_vocab))
    }

    /// The position embeddings `[n_ctx, d_model]`; `None` for a model with rotary embeddings.
    pub(super) fn pos_embed(&self) -> Result<Option<&Tensor>> {
        let name = self.names.pos_embed.as_ref();
        name.map(|name| self.pos_embed.get(|| self.matrix(name, self.cfg.n_ctx))).transpose()
    }

    /// The unembedding, `[d_model, d_vocab]`; its bias is the one of the logits.
    ///
    /// # Errors
    /// As [`Weights::unembed_name`].
    pub(super) fn unembed(&self) -> Result<&Linear> {
        Ok(&self.unembedding()?.linear)
    }

    /// The transposed unembedding, `[d_vocab, d_model]`, in the type in which it is held.
    ///
    /// # Errors
    /// As [`Weights::unembed_name`].
    pub(super) fn unembed_rows(&self) -> Result<&Tensor> {
        Ok(&self.unembedding()?.table)
    }

    fn unembedding(&self) -> Result<&Unembedding> {
        let name = self.unembed_name()?;
        self.unembed.get(|| {
            let own = || self.matrix(name, self.cfg.d_vocab);
            let table = match self.unembed_from {
                Unembed::Embed => self.embed()?.clone(),
                Unembed::Own | Unembed::Missing => own()?,
                Unembed::Both => {
                    // torch's files hold the same table under both names: it is kept once.
                    let (embed, own) = (self.embed()?, own()?);
                    if is_same(embed, &own)? { embed.clone() } else { own }
                }
            };
            let bias = self.names.unembed_bias.as_ref();
            let bias = bias.map(|name| self.vector(name, self.cfg.d_vocab)).transpose()?;
            Ok(Unembedding { linear: Linear::new(table.t()?, bias), table })
        })
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
        held!(self.dtype.held(&self.stored(name)), |T| tensor(
            self.checkpoint.read::<T>(name, &shape)?,
            shape
        ))
    }

    fn vector(&self, name: &str, len: usize) -> Result<Tensor> {
        Ok(Tensor::from_vec(self.checkpoint.read::<f32>(name, &[len])?, len, &Device::Cpu)?)
    }

    fn norm(&self, names: &NormNames, width: usize) -> Result<Norm> {
        let ones = || Ok(Tensor::from_vec(vec![1f32; width], width, &Device::Cpu)?);
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

    /// Reads layers with the same input as one, side by side; they may be stored as one. `by_head`: whether this one has a query,
    /// a key and a value of each head in turn, which are sorted.
    fn linear(&self, names: &[LinearNames], d_in: usize, widths: &[usize], by_head: bool) -> Result<Linear> {
        let d_out = widths.iter().sum::<usize>();
        let widths = if names.len() == 1 { &[d_out] } else { widths };
        let bias_of = |(names, width): (&LinearNames, &usize)| match &names.bias {
            Some(name) => self.checkpoint.read(name, &[*width]),
            None => Ok(vec![0f32; *width]),
        };
        let has_bias = names.iter().any(|names| names.bias.is_some());
        let bias = has_bias.then(|| {
            let parts: Vec<_> = names.iter().zip(widths).map(bias_of).collect::<Result<_>>()?;
            Ok::<_, Error>(Tensor::from_vec(parts.concat(), d_out, &Device::Cpu)?)
        });
        let d_head = self.cfg.d_head;
        let sort = |x: Tensor| {
            if !by_head {
                return Ok(x);
            }
            let by_head = x.reshape((x.elem_count() / d_out, d_out / (3 * d_head), 3, d_head))?;
            by_head.transpose(1, 2)?.contiguous()?.reshape(x.shape())
        };
        let bias = bias.transpose()?.map(sort).transpose()?;
        let in_bf16 = self.dtype == Dtype::Bf16;
        Ok(match self.held_in_block(names) {
            DType::BF16 => Linear::packed(self.packed::<bf16>(names, d_in, widths, by_head)?, bias, in_bf16),
            DType::F16 => Linear::packed(self.packed::<f16>(names, d_in, widths, by_head)?, bias, false),
            _ => Linear::new(sort(self.side_by_side(names, d_in, widths)?)?, bias),
        })
    }

    /// The weights of layers with the same input in f32, `[d_in, Σ widths]`.
    fn side_by_side(&self, names: &[LinearNames], d_in: usize, widths: &[usize]) -> Result<Tensor> {
        let d_out = widths.iter().sum::<usize>();
        if let [LinearNames { weight, in_first: true, .. }] = names {
            return tensor(self.checkpoint.read::<f32>(weight, &[d_in, d_out])?, [d_in, d_out]);
        }
        let mut weight = zeros::<f32>(d_in * d_out)?;
        let mut start = 0;
        for (names, width) in names.iter().zip(widths) {
            if names.in_first {
                let part = self.checkpoint.read::<f32>(&names.weight, &[d_in, *width])?;
                for (row, part) in weight.chunks_exact_mut(d_out).zip(part.chunks_exact(*width)) {
                    row[start..start + width].copy_from_slice(part);
                }
            } else {
                self.checkpoint.read_transposed_into(&names.weight, [*width, d_in], &mut weight, start)?;
            }
            start += width;
        }
        tensor(weight, [d_in, d_out])
    }

    /// The weights of layers with the same input, packed side by side; `by_head` as for [`Weights::linear`].
    fn packed<T: Held>(
        &self,
        names: &[LinearNames],
        d_in: usize,
        widths: &[usize],
        by_head: bool,
    ) -> Result<Packed> {
        let parts = names.iter().zip(widths).map(|(names, width)| {
            let stored = if names.in_first { [d_in, *width] } else { [*width, d_in] };
            self.checkpoint.read::<T>(&names.weight, &stored)
        });
        let parts: Vec<Vec<T>> = parts.collect::<Result<_>>()?;
        let d_head = self.cfg.d_head;
        let parts = parts.iter().zip(names).zip(widths).flat_map(|((values, names), width)| {
            let steps = if names.in_first { [*width, 1] } else { [1, d_in] };
            let columns = move |start: usize, n| Matrix::new(&values[start * steps[1]..], [d_in, n], steps);
            if !by_head {
                return vec![columns(0, *width)];
            }
            let heads = width / (3 * d_head);
            let starts = (0..3).flat_map(|part| (0..heads).map(move |head| (3 * head + part) * d_head));
            starts.map(|start| columns(start, d_head)).collect()
        });
        let packed = parts.collect::<Option<Vec<_>>>().and_then(|parts| Packed::new(&parts));
        packed.ok_or_else(|| {
            Error::mismatch(
                format!(
                    "there is not enough memory for {d_in} times {} weights",
                    widths.iter().sum::<usize>()
                ),
                "close other programs, or use a smaller model",
            )
        })
    }

    /// The type in which the weights of layers are held that are parts of one.
    fn held_in_block(&self, names: &[LinearNames]) -> DType {
        let mut held = names.iter().map(|names| self.dtype.held_in_block(&self.stored(&names.weight)));
        let first = held.next().unwrap_or(DType::F32);
        if held.all(|held| held == first) { first } else { DType::F32 }
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
