//! The forward pass: a transformer decoder whose every activation can be read and changed.
//!
//! Tokens are embedded, go through the blocks (`block.rs`), and come out as `logits = unembed(ln_final(resid_post))`.
//! Operators are fused if no hook wants an activation between them. Shapes: `n` is the number of tokens of the batch.

use super::Model;
use super::cache::KeyValueCache;
use super::config::ModelConfig;
use super::ops::{self, Paths, Span};
use super::rotary::Angles;
use super::weights::{Norm, Weights};
use crate::error::{Error, Result};
use crate::hooks::{HookName, HookPoint, Hooks, Site, TokenBatch};
use crate::linalg::with_f32s;
use crate::progress::Progress;
use candle_core::{D, DType, Device, Tensor};
use rayon::prelude::*;
use saescope_kernels::Precision;
use std::ops::Range;

/// Why a pass ended before its last operator.
pub(super) enum Halt {
    /// The last point was reached.
    Done,
    Failed(Error),
}

impl<E: Into<Error>> From<E> for Halt {
    fn from(error: E) -> Self {
        Halt::Failed(error.into())
    }
}

impl Model {
    /// Runs a batch of sequences to the end, whatever the hooks' `last` is. Returns the logits `[tokens, d_vocab]`, on the
    /// model's device. With a `cache`, the batch is one sequence that continues after the last token of the cache.
    ///
    /// # Errors
    /// Unknown token ids, a sequence longer than the context, any error of a hook, a checkpoint without an unembedding, and
    /// [`Error::Interrupted`].
    pub fn forward(
        &self,
        batch: &TokenBatch,
        cache: Option<&mut KeyValueCache>,
        hooks: &mut dyn Hooks,
        progress: &Progress,
    ) -> Result<Tensor> {
        let parents = last_token(batch, cache.as_deref())?;
        self.inner.weights.unembed_name()?;
        let mut pass = Pass::new(self, batch, &parents, cache, hooks, None, progress)?;
        pass.logits(&self.inner.weights).map_err(failed)
    }

    /// Runs a batch of sequences as [`Model::forward`] does, but only until the hooks' `last`: what comes after that point is
    /// neither computed nor read from the checkpoint. If `last` is `None`, it runs to the end. A `cache` gets the tokens if
    /// all blocks have run.
    ///
    /// # Errors
    /// As [`Model::forward`]; a checkpoint needs no unembedding if the pass stops before it.
    pub fn run_until(
        &self,
        batch: &TokenBatch,
        cache: Option<&mut KeyValueCache>,
        hooks: &mut dyn Hooks,
        progress: &Progress,
    ) -> Result<()> {
        let parents = last_token(batch, cache.as_deref())?;
        let last = hooks.last();
        if last.is_none() {
            self.inner.weights.unembed_name()?;
        }
        let mut pass = Pass::new(self, batch, &parents, cache, hooks, last, progress)?;
        match pass.logits(&self.inner.weights) {
            Ok(_) | Err(Halt::Done) => Ok(()),
            Err(Halt::Failed(error)) => Err(error),
        }
    }

    /// [`Model::forward`] of a sequence over a cache, for the logits of its last token alone, `[d_vocab]`, on the CPU. Those of
    /// others are computed only if a hook wants what is after the last block.
    pub(super) fn next_logits(
        &self,
        tokens: &[u32],
        cache: &mut KeyValueCache,
        hooks: &mut dyn Hooks,
        progress: &Progress,
    ) -> Result<Tensor> {
        use HookPoint::{LnFinalNormalized, LnFinalScale, UnembedIn, UnembedOut};
        let batch = TokenBatch::single(tokens);
        let parents = last_token(&batch, Some(cache))?;
        let weights = &self.inner.weights;
        weights.unembed_name()?;
        let after = [LnFinalScale, LnFinalNormalized, UnembedIn, UnembedOut].map(HookName::global);
        let wants_all = after.iter().any(|name| hooks.wants(name));
        let mut pass = Pass::new(self, &batch, &parents, Some(cache), hooks, None, progress)?;
        let mut resid = pass.read(weights).map_err(failed)?;
        if !wants_all {
            resid = resid.narrow(0, tokens.len() - 1, 1)?;
        }
        let logits = pass.unembed(weights, &resid).map_err(failed)?;
        Ok(logits.get(logits.dim(0)? - 1)?.to_device(&Device::Cpu)?)
    }

    /// Continues each sequence after `parents[i]`, a token of `cache`, or starts it if that is `None`. Returns the
    /// final residual stream at the last token of each sequence, `[sequences, d_model]`, on the model's device, whatever the
    /// hooks' `last` is.
    /// Sequences may share a parent, which is how a tree grows. [`Model::map_logits`] turns the streams into logits; hooks
    /// of the final norm and the unembedding are not called.
    ///
    /// # Errors
    /// As [`Model::forward`], but no unembedding is needed; a parent that is not in the cache.
    pub fn forward_from(
        &self,
        batch: &TokenBatch,
        parents: &[Option<usize>],
        cache: &mut KeyValueCache,
        hooks: &mut dyn Hooks,
        progress: &Progress,
    ) -> Result<Tensor> {
        let last = |sequence: Range<usize>| sequence.last().and_then(|token| u32::try_from(token).ok());
        let last: Option<Vec<u32>> = batch.sequences().map(last).collect();
        let last = last.ok_or_else(|| Error::invalid("a sequence", "at least one token", "none"))?;
        let mut pass = Pass::new(self, batch, parents, Some(cache), hooks, None, progress)?;
        let resid = pass.read(&self.inner.weights).map_err(failed)?;
        if last.len() == batch.len() {
            return Ok(resid);
        }
        Ok(resid.index_select(&Tensor::new(last, resid.device())?, 0)?)
    }

    /// Calls `look` on all threads with the row and the logits `[d_vocab]` of each final residual stream in `resid`
    /// `[n, d_model]`, and returns the results in row order. Only some megabytes of logits are in memory at a time.
    ///
    /// # Errors
    /// `resid` has another shape, and [`Error::Interrupted`].
    pub fn map_logits<T: Send>(
        &self,
        resid: &Tensor,
        progress: &Progress,
        look: impl Fn(usize, &[f32]) -> T + Sync,
    ) -> Result<Vec<T>> {
        const BYTES: usize = 1 << 24;
        const ROWS: usize = 32;
        let step = (BYTES / size_of::<f32>() / self.cfg().d_vocab).max(ROWS);
        let n = resid.dim(0)?;
        let mut all = Vec::with_capacity(n);
        for first in (0..n).step_by(step) {
            progress.check()?;
            let rows = resid.narrow(0, first, step.min(n - first))?;
            let logits = logits(&self.inner.weights, self.cfg(), &rows)?; // [rows, d_vocab]
            let logits = logits.to_device(&Device::Cpu)?;
            with_f32s(&logits, |logits| {
                let rows = logits.par_chunks_exact(self.cfg().d_vocab).enumerate();
                all.par_extend(rows.map(|(row, logits)| look(first + row, logits)));
            })?;
        }
        Ok(all)
    }
}

/// The last token of a cache, which the one sequence of a batch continues after; a batch without a cache begins all sequences.
///
/// # Errors
/// There is a cache, and not one sequence.
fn last_token(batch: &TokenBatch, cache: Option<&KeyValueCache>) -> Result<Vec<Option<usize>>> {
    let n = batch.sequences().len();
    if cache.is_some() && n != 1 {
        return Err(Error::invalid("a pass with a key-value cache", "one sequence", n));
    }
    Ok(vec![cache.and_then(|cache| cache.len().checked_sub(1)); n])
}

/// The error of a pass that has no last point.
fn failed(halt: Halt) -> Error {
    match halt {
        Halt::Failed(error) => error,
        Halt::Done => Error::internal("a pass without a last point has stopped"),
    }
}

/// The logits `[n, d_vocab]` of final residual streams `[n, d_model]`.
pub(super) fn logits(weights: &Weights, cfg: &ModelConfig, resid: &Tensor) -> Result<Tensor> {
    capped(cfg, weights.unembed()?.forward(&plain_norm(weights.ln_final()?, resid, cfg.eps, DType::F32)?)?)
}

/// Applies the model's soft cap to logits, if it has one.
fn capped(cfg: &ModelConfig, logits: Tensor) -> Result<Tensor> {
    match cfg.output_logits_soft_cap {
        Some(cap) => Ok(((logits / cap)?.tanh()? * cap)?),
        None => Ok(logits),
    }
}

/// A norm over the last dimension, without hooks, to be read in a type.
pub(super) fn plain_norm(norm: &Norm, x: &Tensor, eps: f64, dtype: DType) -> candle_core::Result<Tensor> {
    match &norm.bias {
        Some(bias) => ops::layer_norm(x, &norm.weight, bias, eps, dtype),
        None => ops::rms_norm(x, &norm.weight, eps, dtype),
    }
}

/// The state of one forward pass.
pub(super) struct Pass<'a> {
    pub(super) cfg: &'a ModelConfig,
    pub(super) precision: Precision,
    /// The type in which products of blocks read their input.
    product_dtype: DType,
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
    /// The point after which the pass stops; `None` if it runs to the end.
    last: Option<HookName>,
    progress: &'a Progress,
}

impl<'a> Pass<'a> {
    fn new(
        model: &'a Model,
        batch: &'a TokenBatch,
        parents: &'a [Option<usize>],
        mut cache: Option<&'a mut KeyValueCache>,
        hooks: &'a mut dyn Hooks,
        last: Option<HookName>,
        progress: &'a Progress,
    ) -> Result<Self> {
        let (cfg, compute) = (model.cfg(), model.compute());
        compute.bind()?;
        if parents.len() != batch.sequences().len() {
            return Err(Error::invalid("the parents", "one (or `None`) for each sequence", parents.len()));
        }
        let starts = match &cache {
            Some(cache) => parents.iter().map(|token| cache.next_position(*token)).collect::<Result<_>>()?,
            None => vec![0; parents.len()],
        };
        cfg.check(batch, |sequence| starts[sequence] as usize)?;
        if let Some(cache) = &mut cache {
            cache.begin(cfg)?;
        }
        let sequences = || batch.sequences().zip(&starts);
        let positions: Vec<u32> = sequences().flat_map(|(s, start)| *start..start + s.len() as u32).collect();
        let tables = &model.inner.angles;
        let angles = tables.at(&cfg.positional_embedding, &positions, &compute.device)?;
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
        let precision = compute.dtype.precision();
        let rounds = compute.device.is_cuda() && precision == Precision::Bf16;
        let product_dtype = if rounds { DType::BF16 } else { DType::F32 };
        Ok(Pass {
            cfg,
            precision,
            product_dtype,
            batch,
            parents,
            positions,
            angles,
            cache,
            paths,
            hooks,
            last,
            progress,
        })
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
        let device = &weights.compute().device;
        let tokens = Tensor::new(self.batch.tokens(), device)?;
        let mut embed = weights.embed()?.index_select(&tokens, 0)?.to_dtype(DType::F32)?; // [n, d_model]
        if self.cfg.embed_scale != 1.0 {
            embed = (embed * self.cfg.embed_scale)?;
        }
        let embed = self.at_global(HookPoint::Embed, embed)?;
        let Some(pos_embed) = weights.pos_embed()? else { return Ok(embed) };
        let positions = Tensor::new(self.positions.as_slice(), device)?;
        let pos_embed = pos_embed.index_select(&positions, 0)?.to_dtype(DType::F32)?; // [n, d_model]
        let pos_embed = self.at_global(HookPoint::PosEmbed, pos_embed)?;
        if self.hooks.wants(&HookName::global(HookPoint::Embed)) {
            return Ok((embed + pos_embed)?);
        }
        Ok(ops::add(embed, &pos_embed)?)
    }

    /// Runs all blocks and the unembedding, and returns the logits, `[n, d_vocab]`.
    fn logits(&mut self, weights: &Weights) -> Result<Tensor, Halt> {
        let resid = self.read(weights)?;
        self.unembed(weights, &resid)
    }

    /// The logits of final residual streams, with the hooks after the last block.
    fn unembed(&mut self, weights: &Weights, resid: &Tensor) -> Result<Tensor, Halt> {
        let names = [HookPoint::LnFinalScale, HookPoint::LnFinalNormalized].map(HookName::global);
        let x = self.norm(names, weights.ln_final()?, resid, DType::F32)?; // [n, d_model]
        let x = self.at_global(HookPoint::UnembedIn, x)?;
        let logits = weights.unembed()?.forward(&x)?; // [n, d_vocab]
        let logits = self.at_global(HookPoint::UnembedOut, logits)?;
        Ok(capped(self.cfg, logits)?)
    }

    /// A norm over the last dimension, to be read in `dtype`, with hooks on the scale and on the output before the weight.
    pub(super) fn norm(
        &mut self,
        names: [HookName; 2],
        norm: &Norm,
        x: &Tensor,
        dtype: DType,
    ) -> Result<Tensor, Halt> {
        let eps = self.cfg.eps;
        if !names.iter().any(|name| self.hooks.wants(name)) {
            return Ok(plain_norm(norm, x, eps, dtype)?);
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

    /// The type in which the input of a product is read if it is the activation at `point`: f32 if a hook wants it.
    pub(super) fn dtype_at(&self, layer: usize, point: HookPoint) -> DType {
        if self.wants(layer, point) { DType::F32 } else { self.product_dtype }
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
            let site = Site { name, batch: self.batch, positions: &self.positions, parents: self.parents };
            let device = activation.device().clone();
            activation = self.hooks.on(&site, activation.contiguous()?)?.to_device(&device)?.contiguous()?;
        }
        match self.last {
            Some(last) if name >= last => Err(Halt::Done),
            _ => Ok(activation),
        }
    }
}
