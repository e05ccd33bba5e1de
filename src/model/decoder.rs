//! The forward pass: a pre-norm transformer decoder whose every activation can be read and changed.
//!
//! `resid_mid = resid_pre + attn(ln1(resid_pre))`, `resid_post = resid_mid + mlp(ln2(resid_mid))`,
//! `logits = unembed(ln_final(resid_post))`. Where nobody asks for what lies between two operators, they are one.
//! Shapes: `n` is the number of tokens of the whole batch.

use super::attention::{self, Span};
use super::batch::TokenBatch;
use super::config::{Activation, ModelConfig};
use super::ops;
use super::weights::{Block, Linear, Norm, Weights};
use crate::error::{Error, Result};
use crate::hooks::{HookName, HookPoint, Hooks};
use crate::progress::Progress;
use candle_core::{D, Device, Tensor};

/// Keys and values of the tokens that a model has already read, for a sequence that grows.
#[derive(Debug, Clone, Default)]
pub struct KeyValueCache {
    /// Per block, `[past, n_heads, d_head]` each.
    blocks: Vec<Option<(Tensor, Tensor)>>,
    len: usize,
}

impl KeyValueCache {
    /// The number of tokens that have been read.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing has been read yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// Why a pass ended before its last operator.
enum Halt {
    /// Its deepest hook is done.
    Done,
    Failed(Error),
}

impl<E: Into<Error>> From<E> for Halt {
    fn from(error: E) -> Self {
        Halt::Failed(error.into())
    }
}

/// Runs a batch; the logits `[n, d_vocab]`, or nothing if the pass could stop at its deepest hook.
pub(super) fn forward(
    weights: &Weights,
    cfg: &ModelConfig,
    batch: &TokenBatch,
    cache: Option<&mut KeyValueCache>,
    hooks: &mut dyn Hooks,
    progress: &Progress,
) -> Result<Option<Tensor>> {
    let past = cache.as_ref().map_or(0, |cache| cache.len);
    batch.check(cfg, past)?;
    if cache.is_some() && batch.sequences().len() != 1 {
        return Err(Error::invalid("a pass with a key-value cache", "one sequence", batch.sequences().len()));
    }
    let last = hooks.last();
    let mut pass = Pass { cfg, batch, past, cache, hooks, last, progress };
    match pass.run(weights) {
        Ok(logits) => Ok(Some(logits)),
        Err(Halt::Done) => Ok(None),
        Err(Halt::Failed(error)) => Err(error),
    }
}

/// One pass under way.
struct Pass<'a> {
    cfg: &'a ModelConfig,
    batch: &'a TokenBatch,
    past: usize,
    cache: Option<&'a mut KeyValueCache>,
    hooks: &'a mut dyn Hooks,
    last: Option<HookName>,
    progress: &'a Progress,
}

impl Pass<'_> {
    fn run(&mut self, weights: &Weights) -> Result<Tensor, Halt> {
        let mut resid = self.embed(weights)?; // [n, d_model]
        for layer in 0..self.cfg.n_layers {
            resid = self.at(layer, HookPoint::ResidPre, resid)?;
            resid = self.block(layer, weights.block(layer)?, resid)?; // [n, d_model]
        }
        let logits = self.unembed(weights, &resid)?; // [n, d_vocab]
        if let Some(cache) = &mut self.cache {
            cache.len += self.batch.len();
        }
        Ok(logits)
    }

    fn embed(&mut self, weights: &Weights) -> Result<Tensor, Halt> {
        let device = Device::Cpu;
        let tokens = Tensor::new(self.batch.tokens(), &device)?;
        let embed = weights.embed()?.index_select(&tokens, 0)?; // [n, d_model]
        let embed = self.at_global(HookPoint::Embed, embed)?;
        let positions = self.batch.sequences().flat_map(|s| self.past as u32..(self.past + s.len()) as u32);
        let positions = Tensor::from_iter(positions, &device)?;
        let pos_embed = weights.pos_embed()?.index_select(&positions, 0)?; // [n, d_model]
        let pos_embed = self.at_global(HookPoint::PosEmbed, pos_embed)?;
        if self.hooks.wants(&HookName::global(HookPoint::Embed)) {
            return Ok((embed + pos_embed)?);
        }
        ops::add_in_place(&embed, &pos_embed)?;
        Ok(embed)
    }

    fn block(&mut self, layer: usize, block: &Block, resid_pre: Tensor) -> Result<Tensor, Halt> {
        let resid_mid = self.attention(layer, block, &resid_pre)?; // [n, d_model]
        drop(resid_pre);
        let resid_mid = self.at(layer, HookPoint::ResidMid, resid_mid)?;
        let mlp_in = self.at(layer, HookPoint::MlpIn, resid_mid.clone())?;
        let resid_post = self.mlp(layer, block, &mlp_in, &resid_mid)?; // [n, d_model]
        self.at(layer, HookPoint::ResidPost, resid_post)
    }

    /// `resid_pre` plus what attention adds to it, `[n, d_model]`.
    fn attention(&mut self, layer: usize, block: &Block, resid_pre: &Tensor) -> Result<Tensor, Halt> {
        use HookPoint::{AttnIn, AttnScores, KInput, Pattern, QInput, VInput};
        let per_head = [AttnIn, QInput, KInput, VInput];
        let [q, k, v] = if per_head.iter().any(|point| self.wants(layer, *point)) {
            self.qkv_per_head(layer, block, resid_pre)?
        } else {
            let x = self.norm(ln1_names(layer), &block.ln1, resid_pre)?; // [n, d_model]
            self.qkv(&block.qkv, &x)?
        };
        let q = self.at(layer, HookPoint::Q, q)?; // [n, n_heads, d_head]
        let k = self.at(layer, HookPoint::K, k)?; // [n, n_heads, d_head]
        let v = self.at(layer, HookPoint::V, v)?; // [n, n_heads, d_head]
        let (k, v) = self.remember(layer, k, v)?; // [past + n, n_heads, d_head]
        let scale = self.cfg.attn_scale(layer);
        let z = if self.wants(layer, AttnScores) || self.wants(layer, Pattern) {
            self.one_sequence(layer)?;
            let scores = attention::attention_scores(&q, &k, scale)?; // [n_heads, query_pos, key_pos]
            let scores = self.at(layer, AttnScores, scores)?;
            let pattern = crate::linalg::softmax(&scores, 2)?;
            let pattern = self.at(layer, Pattern, pattern)?;
            attention::mix_values(&pattern, &v)?
        } else {
            attention::attention(&q, &k, &v, &self.spans(), scale)?
        };
        let z = self.at(layer, HookPoint::Z, z)?; // [n, n_heads, d_head]
        self.attn_out(layer, &block.attn_out, &z, resid_pre)
    }

    fn qkv(&self, qkv: &Linear, x: &Tensor) -> Result<[Tensor; 3]> {
        let ModelConfig { n_heads, d_head, .. } = *self.cfg;
        let all = linear(qkv, x)?.reshape((x.dim(0)?, 3 * n_heads, d_head))?; // [n, 3 · n_heads, d_head]
        let part = |i: usize| all.narrow(1, i * n_heads, n_heads);
        Ok([part(0)?, part(1)?, part(2)?])
    }

    /// Queries, keys and values when what each head reads can be changed (`hook_attn_in`, `hook_q_input`, …).
    fn qkv_per_head(&mut self, layer: usize, block: &Block, resid_pre: &Tensor) -> Result<[Tensor; 3], Halt> {
        let ModelConfig { n_heads, d_head, d_model, .. } = *self.cfg;
        let n = resid_pre.dim(0)?;
        let attn_in = resid_pre.unsqueeze(1)?.expand((n, n_heads, d_model))?.contiguous()?;
        let attn_in = self.at(layer, HookPoint::AttnIn, attn_in)?; // [n, n_heads, d_model]
        let q_in = self.at(layer, HookPoint::QInput, attn_in.clone())?;
        let k_in = self.at(layer, HookPoint::KInput, attn_in.clone())?;
        let v_in = self.at(layer, HookPoint::VInput, attn_in)?;
        let mut part = |i: usize, x: Tensor| {
            let x = self.norm(ln1_names(layer), &block.ln1, &x)?; // [n, n_heads, d_model]
            let (start, len) = (i * n_heads * d_head, n_heads * d_head);
            let weight = block.qkv.weight.narrow(1, start, len)?.reshape((d_model, n_heads, d_head))?;
            let weight = weight.transpose(0, 1)?.contiguous()?; // [n_heads, d_model, d_head]
            let bias = block.qkv.bias.narrow(0, start, len)?.reshape((n_heads, d_head))?;
            let part = x.transpose(0, 1)?.contiguous()?.matmul(&weight)?; // [n_heads, n, d_head]
            Ok::<_, Halt>(part.transpose(0, 1)?.contiguous()?.broadcast_add(&bias)?) // [n, n_heads, d_head]
        };
        Ok([part(0, q_in)?, part(1, k_in)?, part(2, v_in)?])
    }

    /// `resid_pre + z · W_O + b_O`, `[n, d_model]`.
    fn attn_out(
        &mut self,
        layer: usize,
        w_o: &Linear,
        z: &Tensor,
        resid_pre: &Tensor,
    ) -> Result<Tensor, Halt> {
        let ModelConfig { n_heads, d_head, d_model, .. } = *self.cfg;
        let flat = z.reshape((z.dim(0)?, n_heads * d_head))?; // [n, n_heads · d_head]
        let out = if self.wants(layer, HookPoint::Result) {
            let by_head = w_o.weight.reshape((n_heads, d_head, d_model))?;
            let result = z.transpose(0, 1)?.contiguous()?.matmul(&by_head)?; // [n_heads, n, d_model]
            let result = result.transpose(0, 1)?.contiguous()?;
            let result = self.at(layer, HookPoint::Result, result)?; // [n, n_heads, d_model]
            result.sum(1)?
        } else {
            multiply(w_o, &flat)?
        };
        self.add_to_residual(layer, HookPoint::AttnOut, out, &w_o.bias, resid_pre)
    }

    /// `resid_mid` plus what the MLP adds to it, `[n, d_model]`.
    fn mlp(
        &mut self,
        layer: usize,
        block: &Block,
        mlp_in: &Tensor,
        resid_mid: &Tensor,
    ) -> Result<Tensor, Halt> {
        let names =
            [HookPoint::Ln2Scale, HookPoint::Ln2Normalized].map(|point| HookName::in_block(layer, point));
        let x = self.norm(names, &block.ln2, mlp_in)?; // [n, d_model]
        let pre = multiply(&block.mlp_in, &x)?; // [n, d_mlp], without its bias
        let post = if self.cfg.act_fn == Activation::GeluNew && !self.wants(layer, HookPoint::MlpPre) {
            ops::bias_gelu_in_place(&pre, &block.mlp_in.bias)?;
            pre
        } else {
            ops::add_bias_in_place(&pre, &block.mlp_in.bias)?;
            let pre = self.at(layer, HookPoint::MlpPre, pre)?;
            match self.cfg.act_fn {
                Activation::GeluNew => pre.gelu()?,
                Activation::Gelu => pre.gelu_erf()?,
                Activation::Relu => pre.relu()?,
                Activation::Silu => pre.silu()?,
            }
        };
        let post = self.at(layer, HookPoint::MlpPost, post)?; // [n, d_mlp]
        let out = multiply(&block.mlp_out, &post)?; // [n, d_model], without its bias
        self.add_to_residual(layer, HookPoint::MlpOut, out, &block.mlp_out.bias, resid_mid)
    }

    /// `residual + (out + bias)`, with a hook on `out + bias`.
    fn add_to_residual(
        &mut self,
        layer: usize,
        point: HookPoint,
        out: Tensor,
        bias: &Tensor,
        residual: &Tensor,
    ) -> Result<Tensor, Halt> {
        if self.wants(layer, point) {
            ops::add_bias_in_place(&out, bias)?;
            let out = self.at(layer, point, out)?;
            Ok((residual + out)?)
        } else {
            ops::add_bias_residual_in_place(&out, bias, residual)?;
            Ok(out)
        }
    }

    fn unembed(&mut self, weights: &Weights, resid: &Tensor) -> Result<Tensor, Halt> {
        let names = [HookPoint::LnFinalScale, HookPoint::LnFinalNormalized].map(HookName::global);
        let x = self.norm(names, weights.ln_final()?, resid)?; // [n, d_model]
        let x = self.at_global(HookPoint::UnembedIn, x)?;
        let logits = x.matmul(&weights.unembed()?.t()?)?; // [n, d_vocab]
        self.at_global(HookPoint::UnembedOut, logits)
    }

    /// `(x − mean) / scale · weight + bias`, with hooks on the scale and on what it gives.
    fn norm(&mut self, names: [HookName; 2], norm: &Norm, x: &Tensor) -> Result<Tensor, Halt> {
        if !names.iter().any(|name| self.hooks.wants(name)) {
            return Ok(ops::layer_norm(x, &norm.weight, &norm.bias, self.cfg.eps)?);
        }
        let [scale_name, normalized_name] = names;
        let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
        let scale = (centred.sqr()?.mean_keepdim(D::Minus1)? + self.cfg.eps)?.sqrt()?; // [..., 1]
        let scale = self.at_name(scale_name, scale)?;
        let normalized = self.at_name(normalized_name, centred.broadcast_div(&scale)?)?; // [..., d_model]
        Ok(normalized.broadcast_mul(&norm.weight)?.broadcast_add(&norm.bias)?)
    }

    /// Keys and values with those of the cache in front, and the cache with them behind.
    fn remember(&mut self, layer: usize, k: Tensor, v: Tensor) -> Result<(Tensor, Tensor)> {
        let Some(cache) = &mut self.cache else { return Ok((k, v)) };
        cache.blocks.resize(self.cfg.n_layers, None);
        let both = match &cache.blocks[layer] {
            // A pass that ended early has left its own behind what counts.
            Some((past_k, past_v)) if self.past > 0 => {
                let (past_k, past_v) = (past_k.narrow(0, 0, self.past)?, past_v.narrow(0, 0, self.past)?);
                (Tensor::cat(&[&past_k, &k], 0)?, Tensor::cat(&[&past_v, &v], 0)?)
            }
            _ => (k.contiguous()?, v.contiguous()?),
        };
        cache.blocks[layer] = Some(both.clone());
        Ok(both)
    }

    fn spans(&self) -> Vec<Span> {
        let past = self.past;
        self.batch.sequences().map(|s| Span { queries: s.clone(), keys: s.start..s.end + past }).collect()
    }

    /// Attention scores and patterns are matrices of one sequence.
    fn one_sequence(&self, layer: usize) -> Result<()> {
        match self.batch.sequences().len() {
            1 => Ok(()),
            n => Err(Error::invalid(
                format!("`{}`", HookName::in_block(layer, HookPoint::Pattern)),
                "a batch of one sequence",
                n,
            )),
        }
    }

    fn wants(&self, layer: usize, point: HookPoint) -> bool {
        self.hooks.wants(&HookName::in_block(layer, point))
    }

    fn at(&mut self, layer: usize, point: HookPoint, activation: Tensor) -> Result<Tensor, Halt> {
        self.at_name(HookName::in_block(layer, point), activation)
    }

    fn at_global(&mut self, point: HookPoint, activation: Tensor) -> Result<Tensor, Halt> {
        self.at_name(HookName::global(point), activation)
    }

    fn at_name(&mut self, name: HookName, mut activation: Tensor) -> Result<Tensor, Halt> {
        self.progress.check()?;
        if self.hooks.wants(&name) {
            activation = self.hooks.on(&name, activation.contiguous()?)?;
        }
        match self.last {
            Some(last) if name >= last => Err(Halt::Done),
            _ => Ok(activation),
        }
    }
}

fn ln1_names(layer: usize) -> [HookName; 2] {
    [HookPoint::Ln1Scale, HookPoint::Ln1Normalized].map(|point| HookName::in_block(layer, point))
}

/// `x · weight`: `[n, in]` → `[n, out]`.
fn multiply(layer: &Linear, x: &Tensor) -> Result<Tensor> {
    Ok(x.matmul(&layer.weight)?)
}

/// `x · weight + bias`: `[n, in]` → `[n, out]`.
fn linear(layer: &Linear, x: &Tensor) -> Result<Tensor> {
    let y = multiply(layer, x)?;
    ops::add_bias_in_place(&y, &layer.bias)?;
    Ok(y)
}
