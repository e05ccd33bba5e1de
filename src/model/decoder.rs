//! The forward pass: a transformer decoder whose every activation can be read and changed.
//!
//! Tokens are embedded, go through the blocks (`block.rs`), and come out as `logits = unembed(ln_final(resid_post))`.
//! Where nobody asks for what lies between two operators, they are one. Shapes: `n` is the number of tokens of the
//! whole batch.

use super::attention::Span;
use super::batch::TokenBatch;
use super::config::ModelConfig;
use super::ops;
use super::rotary::Angles;
use super::weights::{Norm, Weights};
use crate::error::{Error, Result};
use crate::hooks::{HookName, HookPoint, Hooks};
use crate::progress::Progress;
use candle_core::{D, Device, Tensor};

/// Keys and values of the tokens that a model has already read, for a sequence that grows.
#[derive(Debug, Clone, Default)]
pub struct KeyValueCache {
    /// Per block, `[past, n_key_value_heads, d_head]` each; keys are rotated.
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
pub(super) enum Halt {
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
    let positions: Vec<u32> = batch.sequences().flat_map(|s| past as u32..(past + s.len()) as u32).collect();
    let angles = Angles::new(&cfg.positional_embedding, &positions)?;
    let mut pass = Pass { cfg, batch, past, positions, angles, cache, hooks, last, progress };
    match pass.run(weights) {
        Ok(logits) => Ok(Some(logits)),
        Err(Halt::Done) => Ok(None),
        Err(Halt::Failed(error)) => Err(error),
    }
}

/// One pass under way.
pub(super) struct Pass<'a> {
    pub(super) cfg: &'a ModelConfig,
    batch: &'a TokenBatch,
    past: usize,
    /// Of each token in its sequence.
    positions: Vec<u32>,
    pub(super) angles: Option<Angles>,
    cache: Option<&'a mut KeyValueCache>,
    pub(super) hooks: &'a mut dyn Hooks,
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
        let tokens = Tensor::new(self.batch.tokens(), &Device::Cpu)?;
        let mut embed = weights.embed()?.index_select(&tokens, 0)?; // [n, d_model]
        if self.cfg.embed_scale != 1.0 {
            embed = (embed * self.cfg.embed_scale)?;
        }
        let embed = self.at_global(HookPoint::Embed, embed)?;
        let Some(pos_embed) = weights.pos_embed()? else { return Ok(embed) };
        let positions = Tensor::new(self.positions.as_slice(), &Device::Cpu)?;
        let pos_embed = pos_embed.index_select(&positions, 0)?; // [n, d_model]
        let pos_embed = self.at_global(HookPoint::PosEmbed, pos_embed)?;
        if self.hooks.wants(&HookName::global(HookPoint::Embed)) {
            return Ok((embed + pos_embed)?);
        }
        ops::add_in_place(&embed, &pos_embed)?;
        Ok(embed)
    }

    fn unembed(&mut self, weights: &Weights, resid: &Tensor) -> Result<Tensor, Halt> {
        let names = [HookPoint::LnFinalScale, HookPoint::LnFinalNormalized].map(HookName::global);
        let x = self.norm(names, weights.ln_final()?, resid)?; // [n, d_model]
        let x = self.at_global(HookPoint::UnembedIn, x)?;
        let mut logits = x.matmul(&weights.unembed()?.t()?)?; // [n, d_vocab]
        if let Some(bias) = weights.unembed_bias()? {
            ops::add_bias_in_place(&logits, bias)?;
        }
        if let Some(cap) = self.cfg.output_logits_soft_cap {
            logits = ((logits / cap)?.tanh()? * cap)?;
        }
        self.at_global(HookPoint::UnembedOut, logits)
    }

    /// A norm over the last dimension, with hooks on the scale and on what it gives before its weight.
    pub(super) fn norm(&mut self, names: [HookName; 2], norm: &Norm, x: &Tensor) -> Result<Tensor, Halt> {
        let eps = self.cfg.eps;
        if !names.iter().any(|name| self.hooks.wants(name)) {
            return Ok(match &norm.bias {
                Some(bias) => ops::layer_norm(x, &norm.weight, bias, eps)?,
                None => ops::rms_norm(x, &norm.weight, eps)?,
            });
        }
        let [scale_name, normalized_name] = names;
        let centred = match norm.bias {
            Some(_) => x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?,
            None => x.clone(),
        };
        let scale = (centred.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?; // [..., 1]
        let scale = self.at_name(scale_name, scale)?;
        let normalized = self.at_name(normalized_name, centred.broadcast_div(&scale)?)?; // [..., d]
        let scaled = normalized.broadcast_mul(&norm.weight)?;
        Ok(match &norm.bias {
            Some(bias) => scaled.broadcast_add(bias)?,
            None => scaled,
        })
    }

    /// Keys and values with those of the cache in front, and the cache with them behind.
    pub(super) fn remember(&mut self, layer: usize, k: Tensor, v: Tensor) -> Result<(Tensor, Tensor)> {
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

    pub(super) fn spans(&self) -> Vec<Span> {
        let past = self.past;
        self.batch.sequences().map(|s| Span { queries: s.clone(), keys: s.start..s.end + past }).collect()
    }

    /// Attention scores and patterns are matrices of one sequence.
    pub(super) fn one_sequence(&self, layer: usize) -> Result<()> {
        match self.batch.sequences().len() {
            1 => Ok(()),
            n => Err(Error::invalid(
                format!("`{}`", HookName::in_block(layer, HookPoint::Pattern)),
                "a batch of one sequence",
                n,
            )),
        }
    }

    pub(super) fn wants(&self, layer: usize, point: HookPoint) -> bool {
        self.hooks.wants(&HookName::in_block(layer, point))
    }

    pub(super) fn at(&mut self, layer: usize, point: HookPoint, activation: Tensor) -> Result<Tensor, Halt> {
        self.at_name(HookName::in_block(layer, point), activation)
    }

    fn at_global(&mut self, point: HookPoint, activation: Tensor) -> Result<Tensor, Halt> {
        self.at_name(HookName::global(point), activation)
    }

    pub(super) fn at_name(&mut self, name: HookName, mut activation: Tensor) -> Result<Tensor, Halt> {
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
