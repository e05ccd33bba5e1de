//! Rotary embeddings: pairs of dimensions of a query or key are rotated by an angle that grows with its position.
//!
//! Dimension `i` of the first half is paired with dimension `i` of the second and rotated by `position · inv_freq[i]`,
//! as in Hugging Face's checkpoints. Angles are products in f32, as in transformers.

use super::config::{PositionalEmbedding, RopeScaling, Rotary};
use super::ops;
use candle_core::{Device, Result, Tensor};
use std::sync::{Mutex, PoisonError};

/// The sines and cosines for the tokens of one pass.
pub(super) struct Angles {
    global: [Tensor; 2],
    local: Option<[Tensor; 2]>,
}

impl Angles {
    /// Rotates `x` `[n, heads, d_head]`, whose rows may be slices of wider rows, for a global or a local block.
    pub(super) fn rotate(&self, x: &Tensor, is_local: bool) -> Result<Tensor> {
        let [cos, sin] = self.local.as_ref().filter(|_| is_local).unwrap_or(&self.global);
        ops::rotate(x, cos, sin)
    }
}

/// The sines and cosines of a model's positions on its device, up to at least the largest position so far.
#[derive(Default)]
pub(super) struct AngleTables {
    global: Table,
    local: Table,
}

impl AngleTables {
    /// The angles of tokens at `positions`; `None` for a model without rotary embeddings.
    pub(super) fn at(
        &self,
        embedding: &PositionalEmbedding,
        positions: &[u32],
        device: &Device,
    ) -> Result<Option<Angles>> {
        let PositionalEmbedding::Rotary(rotary) = embedding else { return Ok(None) };
        let count = positions.iter().max().map_or(0, |last| *last as usize + 1);
        let positions = Tensor::new(positions, device)?;
        let local = rotary.rotary_base_local.map(|base| {
            let rotary = Rotary { rotary_base: base, scaling: None, ..*rotary };
            self.local.at(&rotary, &positions, count)
        });
        Ok(Some(Angles { global: self.global.at(rotary, &positions, count)?, local: local.transpose()? }))
    }
}

/// The cosines and sines of the first positions, `[positions, ceil(rotary_dim / 2)]` each.
#[derive(Default)]
struct Table(Mutex<Option<[Tensor; 2]>>);

impl Table {
    /// The rows of `positions`, which are below `count`.
    fn at(&self, rotary: &Rotary, positions: &Tensor, count: usize) -> Result<[Tensor; 2]> {
        const LEAST: usize = 256;
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = match &*table {
            Some(rows) if rows[0].dim(0)? >= count => rows.clone(),
            _ => {
                let n = count.next_power_of_two().max(LEAST);
                table.insert(rows_of(&inverse_frequencies(rotary), n, positions.device())?).clone()
            }
        };
        drop(table);
        let [cos, sin] = rows;
        Ok([cos.index_select(positions, 0)?, sin.index_select(positions, 0)?])
    }
}

/// The cosines and sines of the first `n` positions.
fn rows_of(inv_freq: &[f32], n: usize, device: &Device) -> Result<[Tensor; 2]> {
    let angles = (0..n).flat_map(|p| inv_freq.iter().map(move |f| f64::from(p as f32 * f)));
    let (cos, sin): (Vec<f32>, Vec<f32>) = angles.map(|a| (a.cos() as f32, a.sin() as f32)).unzip();
    let shape = (n, inv_freq.len());
    Ok([Tensor::from_vec(cos, shape, device)?, Tensor::from_vec(sin, shape, device)?])
}

/// The radians per position of each pair of dimensions, scaled as in transformers' `modeling_rope_utils.py`.
pub(super) fn inverse_frequencies(rotary: &Rotary) -> Vec<f32> {
    let d = rotary.rotary_dim as f32;
    let unscaled = (0..rotary.rotary_dim.div_ceil(2))
        .map(|i| 1.0 / (rotary.rotary_base as f32).powf((2 * i) as f32 / d));
    let scale = |f: f32| match rotary.scaling {
        None => f,
        Some(RopeScaling::Linear { factor }) => f / factor as f32,
        Some(RopeScaling::Llama3 {
            factor,
            low_freq_factor,
            high_freq_factor,
            original_max_position_embeddings: old_context,
        }) => {
            let f = f64::from(f);
            let wavelength = 2.0 * std::f64::consts::PI / f;
            if wavelength < old_context / high_freq_factor {
                f as f32
            } else if wavelength > old_context / low_freq_factor {
                (f / factor) as f32
            } else {
                let smooth =
                    (old_context / wavelength - low_freq_factor) / (high_freq_factor - low_freq_factor);
                ((1.0 - smooth) * f / factor + smooth * f) as f32
            }
        }
    };
    unscaled.map(scale).collect()
}
