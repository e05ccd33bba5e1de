//! The forward pass: a transformer decoder whose every activation can be read and changed.
//!
//! Tokens are embedded, go through the blocks (`block.rs`), and come out as `logits = unembed(ln_final(resid_post))`.
//! Operators are fused if no hook wants an activation between them. Shapes: `n` is the number of tokens of the batch.

use super::attention::Span;
use super::batch::TokenBatch;
use super::cache::KeyValueCache;
use super::config::ModelConfig;
use super::ops;
use super::paths::Paths;
use super::rotary::Angles;
use super::weights::{Norm, Weights};
use crate::error::{Error, Result};
use crate::hooks::{HookName, HookPoint, Hooks};
use crate::progress::Progress;
use candle_core::{D, Device, Tensor};
use std::ops::Range;

/// Why a pass ended before its last operator.
pub(super) enum Halt {
    /// The deepest wanted point was reached.
    Done,
    Failed(Error),
}

impl<E: Into<Error>> From<E> for Halt {
    fn from(error: E) -> Self {
        Halt::Failed(error.into())
    }
}

/// Runs a batch. Returns the logits `[n, d_vocab]`, or `None` if the pass could stop after its deepest hook.
pub(super) fn forward(
    weights: &Weights,
    cfg: &ModelConfig,
    batch: &TokenBatch,
    cache: Option<&mut KeyValueCache>,
    hooks: &mut dyn Hooks,
    progress: &Progress,
) -> Result<Option<Tensor>> {
    if cache.is_some() && batch.sequences().len() != 1 {
        return Err(Error::invalid("a pass with a key-value cache", "one sequence", batch.sequences().len()));
    }
    if hooks.last().is_none() {
        weights.unembed_name()?;
    }
    let parents = vec![cache.as_ref().and_then(|cache| cache.len().checked_sub(1)); batch.sequences().len()];
    let mut pass = Pass::new(cfg, batch, &parents, cache, hooks, progress)?;
    ended(pass.read(weights).and_then(|resid| pass.unembed(weights, &resid)))
}

/// Continues each sequence after `parents[i]`, a token of `cache`, or starts it if that is `None`. Returns the final
/// residual stream at the last token of each, `[sequences, d_model]`, or `None` if the pass could stop earlier.
pub(super) fn forward_from(
    weights: &Weights,
    cfg: &ModelConfig,
    batch: &TokenBatch,
    parents: &[Option<usize>],
    cache: &mut KeyValueCache,
    hooks: &mut dyn Hooks,
    progress: &Progress,
) -> Result<Option<Tensor>> {
    let last = |sequence: Range<usize>| sequence.last().and_then(|token| u32::try_from(token).ok());
    let last: Option<Vec<u32>> = batch.sequences().map(last).collect();
    let last = last.ok_or_else(|| Error::invalid("a sequence", "at least one token", "none"))?;
    let mut pass = Pass::new(cfg, batch, parents, Some(cache), hooks, progress)?;
    match ended(pass.read(weights))? {
        Some(resid) if last.len() < batch.len() => {
            Ok(Some(resid.index_select(&Tensor::new(last, &Device::Cpu)?, 0)?))
        }
        resid => Ok(resid),
    }
}

/// The logits `[n, d_vocab]` of final residual streams `[n, d_model]`.
pub(super) fn logits(weights: &Weights, cfg: &ModelConfig, resid: &Tensor) -> Result<Tensor> {
    capped(cfg, unembedded(weights, &plain_norm(weights.ln_final()?, resid, cfg.eps)?)?)
}

/// The output of the unembedding, `[n, d_vocab]`, for its input `[n, d_model]`.
fn unembedded(weights: &Weights, x: &Tensor) -> Result<Tensor> {
    let logits = x.matmul(&weights.unembed()?.t()?)?;
    if let Some(bias) = weights.unembed_bias()? {
        ops::add_bias_in_place(&logits, bias)?;
    }
    Ok(logits)
}

/// Applies the model's soft cap to logits, if it has one.
fn capped(cfg: &ModelConfig, logits: Tensor) -> Result<Tensor> {
    match cfg.output_logits_soft_cap {
        Some(cap) => Ok(((logits / cap)?.tanh()? * cap)?),
        None => Ok(logits),
    }
}

/// A norm over the last dimension, without hooks.
pub(super) fn plain_norm(norm: &Norm, x: &Tensor, eps: f64) -> candle_core::Result<Tensor> {
    match &norm.bias {
        Some(bias) => ops::layer_norm(x, &norm.weight, bias, eps),
        None => ops::rms_norm(x, &norm.weight, eps),
    }
}

/// The result of a pass, or `None` if it ended early.
fn ended(result: Result<Tensor, Halt>) -> Result<Option<Tensor>> {
    match result {
        Ok(tensor) => Ok(Some(tensor)),
        Err(Halt::Done) => Ok(None),
        Err(Halt::Failed(error)) => Err(error),
    }
}

/// The state of one forward pass.
pub(super) struct Pass<'a> {
    pub(super) cfg: &'a ModelConfig,
    batch: &'a TokenBatch,
    /// The cached token that each sequence continues after.
    parents: &'a [Option<usize>],
    /// The position of each token in its sequence.
    positions: Vec<u32>,
    pub(super) angles: Option<Angles>,
    pub(super) cache: Option<&'a mut KeyValueCache>,
    /// The cached tokens that each token sees, if any token has a past.
    pub(super) paths: Option<Paths>,
    pub(super) hooks: &'a mut dyn Hooks,
    last: Option<HookName>,
    progress: &'a Progress,
}

impl<'a> Pass<'a> {
    fn new(
        cfg: &'a ModelConfig,
        batch: &'a TokenBatch,
        parents: &'a [Option<usize>],
        mut cache: Option<&'a mut KeyValueCache>,
        hooks: &'a mut dyn Hooks,
        progress: &'a Progress,
    ) -> Result<Self> {
        if parents.len() != batch.sequences().len() {
            return Err(Error::invalid("the parents", "one (or `None`) for each sequence", parents.len()));
        }
        let starts = match &cache {
            Some(cache) => parents.iter().map(|token| cache.next_position(*token)).collect::<Result<_>>()?,
            None => vec![0; parents.len()],
        };
        batch.check(cfg, |sequence| starts[sequence] as usize)?;
        if let Some(cache) = &mut cache {
            cache.begin(cfg)?;
        }
        let sequences = || batch.sequences().zip(&starts);
        let positions: Vec<u32> = sequences().flat_map(|(s, start)| *start..start + s.len() as u32).collect();
        let angles = Angles::new(&cfg.positional_embedding, &positions)?;
        let paths = cache.as_ref().filter(|_| parents.iter().any(Option::is_some)).map(|cache| {
            let mut paths = Paths::default();
            for (sequence, parent) in batch.sequences().zip(parents) {
                let past = cache.path_to(*parent);
                let new = sequence.map(|token| (cache.len() + token) as u32).collect::<Vec<_>>();
                for seen in 1..=new.len() {
                    paths.push(past.iter().chain(&new[..seen]).copied());
                }
            }
            paths
        });
        let last = hooks.last();
        Ok(Pass { cfg, batch, parents, positions, angles, cache, paths, hooks, last, progress })
    }

    /// Runs all blocks and returns the final residual stream, `[n, d_model]`.
    fn read(&mut self, weights: &Weights) -> Result<Tensor, Halt> {
        let mut resid = self.embed(weights)?; // [n, d_model]
        for layer in 0..self.cfg.n_layers {
            resid = self.at(layer, HookPoint::ResidPre, resid)?;
            resid = self.block(layer, weights.block(layer)?, resid)?; // [n, d_model]
        }
        if let Some(cache) = &mut self.cache {
            cache.finish(&self.batch.sequences().collect::<Vec<_>>(), self.parents, &self.positions);
        }
        Ok(resid)
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
        let logits = unembedded(weights, &x)?; // [n, d_vocab]
        let logits = self.at_global(HookPoint::UnembedOut, logits)?;
        Ok(capped(self.cfg, logits)?)
    }

    /// A norm over the last dimension, with hooks on the scale and on the output before the weight.
    pub(super) fn norm(&mut self, names: [HookName; 2], norm: &Norm, x: &Tensor) -> Result<Tensor, Halt> {
        let eps = self.cfg.eps;
        if !names.iter().any(|name| self.hooks.wants(name)) {
            return Ok(plain_norm(norm, x, eps)?);
        }
        let [scale_name, normalized_name] = names;
        let centered = match norm.bias {
            Some(_) => x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?,
            None => x.clone(),
        };
        let scale = (centered.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?; // [..., 1]
        let scale = self.at_name(scale_name, scale)?;
        let normalized = self.at_name(normalized_name, centered.broadcast_div(&scale)?)?; // [..., d]
        let scaled = normalized.broadcast_mul(&norm.weight)?;
        Ok(match &norm.bias {
            Some(bias) => scaled.broadcast_add(bias)?,
            None => scaled,
        })
    }

    /// The queries and keys of each sequence of this pass.
    pub(super) fn spans(&self) -> Vec<Span> {
        self.batch.sequences().map(|s| Span { queries: s.clone(), keys: s }).collect()
    }

    /// Checks that the batch is one sequence: attention scores and patterns are matrices of one sequence.
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
