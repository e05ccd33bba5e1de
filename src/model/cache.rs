//! Keys and values of tokens that a model has already read, for sequences that grow and branch.

use super::config::ModelConfig;
use crate::error::{Error, Result};
use crate::linalg::with_floats;
use candle_core::{Device, Tensor};
use std::ops::Range;

/// Keys and values of the tokens that a model has already read. Each token knows the one before it, so that several
/// sequences may go on behind one token and share all that lies before.
#[derive(Debug, Clone, Default)]
pub struct KeyValueCache {
    /// Keys and values of each block, `[len, n_key_value_heads · d_head]`; keys are rotated. Behind `len` there may be
    /// what a pass that ended early has left.
    blocks: Vec<[Vec<f32>; 2]>,
    /// `n_key_value_heads · d_head`.
    width: usize,
    /// Of each token, the one that it comes behind.
    before: Vec<Option<usize>>,
    /// Of each token, its position in its sequence.
    positions: Vec<u32>,
}

impl KeyValueCache {
    /// The number of tokens that have been read.
    pub fn len(&self) -> usize {
        self.before.len()
    }

    /// Whether nothing has been read yet.
    pub fn is_empty(&self) -> bool {
        self.before.is_empty()
    }

    /// Forgets all tokens but the first `len`.
    pub fn truncate(&mut self, len: usize) {
        self.before.truncate(len);
        self.positions.truncate(len);
    }

    /// The bytes that a token takes with such a model.
    pub fn bytes_per_token(cfg: &ModelConfig) -> usize {
        2 * cfg.n_layers * cfg.n_key_value_heads * cfg.d_head * size_of::<f32>()
    }

    /// Where a sequence that goes on behind a token is.
    ///
    /// # Errors
    /// A token that has not been read.
    pub(super) fn next_position(&self, behind: Option<usize>) -> Result<u32> {
        let Some(token) = behind else { return Ok(0) };
        let position = self.positions.get(token).map(|position| position + 1);
        position.ok_or_else(|| {
            Error::invalid(
                "the token to go on behind",
                format!("one of {} that were read", self.len()),
                token,
            )
        })
    }

    /// Makes room for a pass of such a model.
    ///
    /// # Errors
    /// A cache of another model.
    pub(super) fn begin(&mut self, cfg: &ModelConfig) -> Result<()> {
        let width = cfg.n_key_value_heads * cfg.d_head;
        if self.is_empty() {
            self.width = width;
            self.blocks.resize(cfg.n_layers, Default::default());
        }
        if (self.width, self.blocks.len()) != (width, cfg.n_layers) {
            return Err(Error::mismatch(
                "the key-value cache has been filled by another model",
                "begin with an empty one",
            ));
        }
        let rows = self.len() * self.width;
        self.blocks.iter_mut().flatten().for_each(|numbers| numbers.truncate(rows));
        Ok(())
    }

    /// Adds what one block has of the new tokens, `[n, n_key_value_heads, d_head]` each.
    pub(super) fn add(&mut self, layer: usize, k: &Tensor, v: &Tensor) -> Result<()> {
        for (numbers, new) in self.blocks[layer].iter_mut().zip([k, v]) {
            with_floats(&new.contiguous()?, |new| numbers.extend_from_slice(new))?;
        }
        Ok(())
    }

    /// Counts the tokens of a pass, now that every block has added its own.
    pub(super) fn finish(&mut self, sequences: &[Range<usize>], behind: &[Option<usize>], positions: &[u32]) {
        let past = self.len();
        for (sequence, behind) in sequences.iter().zip(behind) {
            let inside = sequence.clone().skip(1).map(|token| Some(past + token - 1));
            self.before.extend(std::iter::once(*behind).chain(inside).take(sequence.len()));
        }
        self.positions.extend_from_slice(positions);
    }

    /// The tokens from the beginning of a sequence to this one, in their order.
    pub(super) fn path_to(&self, token: Option<usize>) -> Vec<u32> {
        let mut path: Vec<u32> =
            std::iter::successors(token, |token| self.before[*token]).map(|token| token as u32).collect();
        path.reverse();
        path
    }

    /// All keys and values of a block, those of the pass under way included.
    pub(super) fn block(&self, layer: usize) -> [&[f32]; 2] {
        let [keys, values] = &self.blocks[layer];
        [keys, values]
    }

    /// Keys and values of some tokens in a block, `[path, n_key_value_heads, d_head]` each.
    pub(super) fn gather(&self, layer: usize, path: &[u32], d_head: usize) -> Result<[Tensor; 2]> {
        let rows = |numbers: &[f32]| -> Result<Tensor> {
            let row = |token: &u32| &numbers[*token as usize * self.width..][..self.width];
            let rows: Vec<f32> = path.iter().flat_map(row).copied().collect();
            Ok(Tensor::from_vec(rows, (path.len(), self.width / d_head, d_head), &Device::Cpu)?)
        };
        let [keys, values] = self.block(layer);
        Ok([rows(keys)?, rows(values)?])
    }
}
