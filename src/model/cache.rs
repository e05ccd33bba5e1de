//! Keys and values of tokens that a model has already read, for sequences that grow and branch.

use super::config::ModelConfig;
use crate::error::{Error, Result};
use crate::linalg::with_f32s;
use candle_core::{DType, Device, Tensor};
use std::ops::Range;

/// Keys and values of the tokens that a model has already read. Each token knows its parent, the token before it, so
/// that several sequences may continue after the same token and share everything up to it.
#[derive(Debug, Default)]
pub struct KeyValueCache {
    /// Keys and values of each block, `[len, n_key_value_heads · d_head]`; keys are rotated. Rows after `len` may
    /// remain from a pass that ended early.
    blocks: Vec<[Store; 2]>,
    /// `n_key_value_heads · d_head`.
    width: usize,
    /// The parent of each token; `None` for the first of a sequence.
    parents: Vec<Option<usize>>,
    /// The position of each token in its sequence.
    positions: Vec<u32>,
}

/// Rows of keys or values.
#[derive(Debug)]
pub(super) enum Store {
    /// On the CPU.
    Host(Vec<f32>),
    /// On a GPU, `[capacity, width]`, with room for more rows.
    Device(Tensor),
}

impl Store {
    /// The rows of a store on the CPU; none of one on a GPU.
    pub(super) fn host(&self) -> &[f32] {
        match self {
            Store::Host(rows) => rows,
            Store::Device(_) => &[],
        }
    }

    /// The rows as `[rows, width]`, a copy of those on the CPU.
    pub(super) fn tensor(&self, width: usize) -> candle_core::Result<Tensor> {
        match self {
            Store::Host(rows) => Tensor::from_slice(rows, (rows.len() / width, width), &Device::Cpu),
            Store::Device(rows) => Ok(rows.clone()),
        }
    }

    /// Appends rows `[n, width]` to the first `len` rows.
    fn add(&mut self, len: usize, new: &Tensor) -> Result<()> {
        let (n, width) = new.dims2()?;
        match self {
            Store::Host(rows) if new.device().is_cpu() => {
                rows.truncate(len * width);
                with_f32s(new, |new| rows.extend_from_slice(new))?;
            }
            Store::Host(_) if len == 0 => *self = Store::Device(new.copy()?),
            Store::Device(rows) if rows.device().same_device(new.device()) => {
                let capacity = rows.dim(0)?;
                if capacity < len + n {
                    let room = ((len + n).max(2 * capacity), width);
                    let larger = Tensor::zeros(room, DType::F32, rows.device())?;
                    larger.slice_set(&rows.narrow(0, 0, len)?, 0, 0)?;
                    *rows = larger;
                }
                rows.slice_set(new, 0, len)?;
            }
            _ => return Err(filled_by_another()),
        }
        Ok(())
    }
}

fn filled_by_another() -> Error {
    Error::mismatch("the key-value cache was filled by another model", "start with an empty cache")
}

impl Default for Store {
    fn default() -> Self {
        Store::Host(Vec::new())
    }
}

impl KeyValueCache {
    /// The number of tokens that have been read.
    pub fn len(&self) -> usize {
        self.parents.len()
    }

    /// Whether nothing has been read yet.
    pub fn is_empty(&self) -> bool {
        self.parents.is_empty()
    }

    /// Forgets all tokens but the first `len`.
    pub fn truncate(&mut self, len: usize) {
        self.parents.truncate(len);
        self.positions.truncate(len);
    }

    /// The memory for one token of this model, in bytes.
    pub fn bytes_per_token(cfg: &ModelConfig) -> usize {
        2 * cfg.n_layers * cfg.n_key_value_heads * cfg.d_head * size_of::<f32>()
    }

    /// The position of a token that continues after `parent`; 0 for `None`.
    ///
    /// # Errors
    /// `parent` is not in the cache.
    pub(super) fn next_position(&self, parent: Option<usize>) -> Result<u32> {
        let Some(token) = parent else { return Ok(0) };
        let position = self.positions.get(token).map(|position| position + 1);
        position.ok_or_else(|| {
            Error::invalid(
                "the token to continue after",
                format!("one of the {} tokens in the cache, counted from 0", self.len()),
                token,
            )
        })
    }

    /// Prepares the cache for a pass of this model.
    ///
    /// # Errors
    /// The cache belongs to another model.
    pub(super) fn begin(&mut self, cfg: &ModelConfig) -> Result<()> {
        let width = cfg.n_key_value_heads * cfg.d_head;
        if self.is_empty() {
            self.width = width;
            self.blocks = (0..cfg.n_layers).map(|_| Default::default()).collect();
        }
        if (self.width, self.blocks.len()) != (width, cfg.n_layers) {
            return Err(filled_by_another());
        }
        Ok(())
    }

    /// Adds a block's keys and values of the new tokens, `[n, n_key_value_heads, d_head]` each.
    pub(super) fn add(&mut self, layer: usize, k: &Tensor, v: &Tensor) -> Result<()> {
        let len = self.len();
        for (store, new) in self.blocks[layer].iter_mut().zip([k, v]) {
            store.add(len, &new.contiguous()?.flatten_from(1)?)?;
        }
        Ok(())
    }

    /// Records the tokens of a pass, after every block has added its keys and values.
    pub(super) fn finish(&mut self, ranges: &[Range<usize>], parents: &[Option<usize>], positions: &[u32]) {
        let past = self.len();
        for (sequence, parent) in ranges.iter().zip(parents) {
            let inside = sequence.clone().skip(1).map(|token| Some(past + token - 1));
            self.parents.extend(std::iter::once(*parent).chain(inside).take(sequence.len()));
        }
        self.positions.extend_from_slice(positions);
    }

    /// The tokens from the beginning of a sequence up to `token`, in order.
    pub(super) fn path_to(&self, token: Option<usize>) -> Vec<u32> {
        let mut path: Vec<u32> =
            std::iter::successors(token, |token| self.parents[*token]).map(|token| token as u32).collect();
        path.reverse();
        path
    }

    /// All keys and values of a block, including those of the current pass.
    pub(super) fn block(&self, layer: usize) -> &[Store; 2] {
        &self.blocks[layer]
    }

    /// A block's keys and values of the tokens on a path, `[path, n_key_value_heads, d_head]` each.
    pub(super) fn gather(&self, layer: usize, path: &[u32], d_head: usize) -> Result<[Tensor; 2]> {
        let rows = |store: &Store| -> Result<Tensor> {
            let rows = match store {
                Store::Host(all) => {
                    let row = |token: &u32| &all[*token as usize * self.width..][..self.width];
                    let rows: Vec<f32> = path.iter().flat_map(row).copied().collect();
                    Tensor::from_vec(rows, (path.len(), self.width), &Device::Cpu)?
                }
                Store::Device(all) => all.index_select(&Tensor::new(path, all.device())?, 0)?,
            };
            Ok(rows.reshape((path.len(), self.width / d_head, d_head))?)
        };
        let [keys, values] = self.block(layer);
        Ok([rows(keys)?, rows(values)?])
    }
}
