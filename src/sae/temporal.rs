//! Temporal SAEs: attention over the earlier tokens of a sequence predicts a part of each activation; only the rest is
//! encoded.
//!
//! ```text
//! z = relu(λ · r · W_enc),  p = relu(attention from z to z one token earlier),  D = p · W_dec
//! r −= ⟨D, r⟩ / (‖D‖ + ε)² · D       in each layer, starting with r = sae_in;  λ = 1 / (4 · d_in)
//! acts = relu(λ · r · W_enc), only the k largest if kval_topk is set
//! ```
//! See SAELens' `saes/temporal_sae.py`.

use super::weights::{Attention, Weights};
use crate::error::{Error, Result};
use crate::linalg::softmax;
use crate::progress::Progress;
use candle_core::{D, Device, Tensor};
use std::ops::Range;

const EPS: f64 = 1e-6;
/// The number of query tokens at a time: only their scores are in memory.
const BLOCK: usize = 256;

/// Returns λ, by which inputs are multiplied before they are encoded.
pub(super) fn lambda(weights: &Weights) -> f64 {
    1.0 / (4.0 * weights.cfg.d_in as f64)
}

/// Returns the unpredicted part of each token of `[pos, d_in]`, which holds concatenated sequences.
pub(super) fn novel(
    sae_in: &Tensor,
    sequences: &[Range<usize>],
    n_heads: usize,
    weights: &Weights,
    progress: &Progress,
) -> Result<Tensor> {
    let mut parts = Vec::new();
    for sequence in sequences {
        let mut residual = sae_in.narrow(0, sequence.start, sequence.len())?;
        for layer in weights.attention()? {
            progress.check()?;
            residual = step(&residual, layer, n_heads, weights)?;
        }
        parts.push(residual);
    }
    Ok(Tensor::cat(&parts, 0)?)
}

/// Subtracts one layer's prediction from a sequence, `[pos, d_in]`.
fn step(residual: &Tensor, layer: &Attention, n_heads: usize, weights: &Weights) -> Result<Tensor> {
    let z = (residual * lambda(weights))?.matmul(&weights.encoder()?.w_enc)?.relu()?; // [pos, d_sae]
    let n = z.dim(0)?;
    let before = z.narrow(0, 0, n - 1)?.pad_with_zeros(0, 1, 0)?;
    let heads = |x: Tensor| {
        let width = x.dim(1)? / n_heads;
        x.reshape((n, n_heads, width))?.transpose(0, 1)?.contiguous()
    };
    let q = heads(layer.q_target.forward(&z)?)?; // [n_heads, pos, d_head]
    let k = heads(layer.k_ctx.forward(&before)?)?;
    let v = heads(layer.v_ctx.forward(&before)?)?;
    let mut mixed = Vec::new();
    for start in (0..n).step_by(BLOCK) {
        let (end, rows) = ((start + BLOCK).min(n), BLOCK.min(n - start));
        let visible = |x: &Tensor| x.narrow(1, 0, end)?.contiguous();
        let scores = q.narrow(1, start, rows)?.contiguous()?.matmul(&visible(&k)?.t()?)?;
        let scores = (scores / (q.dim(2)? as f64).sqrt())?.broadcast_add(&causal_mask(start, end)?)?;
        mixed.push(softmax(&scores, 2)?.matmul(&visible(&v)?)?);
    }
    let mixed = Tensor::cat(&mixed, 1)?.transpose(0, 1)?.contiguous()?.reshape((n, weights.cfg.d_sae))?;
    let predicted = layer.c_proj.forward(&mixed)?.relu()?.matmul(weights.w_dec()?)?; // [pos, d_in]
    let norm = (predicted.sqr()?.sum_keepdim(D::Minus1)?.sqrt()? + EPS)?;
    let share = (&predicted * residual)?.sum_keepdim(D::Minus1)?.div(&norm.sqr()?)?;
    Ok((residual - predicted.broadcast_mul(&share)?)?)
}

/// Returns the mask of tokens `start..end` over tokens `0..end`: 0 where a token may look, −∞ at later ones.
fn causal_mask(start: usize, end: usize) -> Result<Tensor> {
    let row = |i: usize| (0..end).map(move |j| if j <= i { 0f32 } else { f32::NEG_INFINITY });
    let mask: Vec<f32> = (start..end).flat_map(row).collect();
    Ok(Tensor::from_vec(mask, (end - start, end), &Device::Cpu)?)
}

/// Checks that the sequences follow each other without gaps and cover all `n` tokens.
pub(super) fn check_sequences(sequences: &[Range<usize>], n: usize) -> Result<()> {
    let starts = std::iter::once(0).chain(sequences.iter().map(|sequence| sequence.end));
    let follow = sequences.iter().zip(starts).all(|(s, start)| s.start == start && !s.is_empty());
    if follow && sequences.last().map_or(0, |last| last.end) == n {
        return Ok(());
    }
    Err(Error::mismatch(
        format!("the sequences do not cover the {n} tokens without gaps"),
        "give the ranges of the batch that the activations come from",
    ))
}
