//! Rotary embeddings: pairs of dimensions of a query or key are rotated by an angle that grows with its position.
//!
//! Dimension `i` of the first half is paired with dimension `i` of the second and rotated by `position · inv_freq[i]`,
//! as in Hugging Face's checkpoints. Angles are products in f32, as in transformers.

use super::config::{PositionalEmbedding, RopeScaling, Rotary};
use super::ops;
use candle_core::{Device, Result, Tensor};

/// The sines and cosines for the tokens of one pass.
pub(super) struct Angles {
    global: [Tensor; 2],
    local: Option<[Tensor; 2]>,
}

impl Angles {
    /// The angles of tokens at `positions`; `None` for a model without rotary embeddings.
    pub(super) fn new(embedding: &PositionalEmbedding, positions: &[u32]) -> Result<Option<Self>> {
        let PositionalEmbedding::Rotary(rotary) = embedding else { return Ok(None) };
        let local = rotary.rotary_base_local.map(|base| {
            tables(&inverse_frequencies(&Rotary { rotary_base: base, scaling: None, ..*rotary }), positions)
        });
        let global = tables(&inverse_frequencies(rotary), positions)?;
        Ok(Some(Angles { global, local: local.transpose()? }))
    }

    /// Rotates `x` `[n, heads, d_head]`, whose rows may be slices of wider rows, for a global or a local block.
    pub(super) fn rotate(&self, x: &Tensor, is_local: bool) -> Result<Tensor> {
        let [cos, sin] = self.local.as_ref().filter(|_| is_local).unwrap_or(&self.global);
        ops::rotate(x, cos, sin)
    }
}

/// The cosines and sines, `[n, ceil(rotary_dim / 2)]` each.
fn tables(inv_freq: &[f32], positions: &[u32]) -> Result<[Tensor; 2]> {
    let angles = positions.iter().flat_map(|p| inv_freq.iter().map(move |f| f64::from(*p as f32 * f)));
    let (cos, sin): (Vec<f32>, Vec<f32>) = angles.map(|a| (a.cos() as f32, a.sin() as f32)).unzip();
    let shape = (positions.len(), inv_freq.len());
    Ok([Tensor::from_vec(cos, shape, &Device::Cpu)?, Tensor::from_vec(sin, shape, &Device::Cpu)?])
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
