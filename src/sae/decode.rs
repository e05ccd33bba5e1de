//! Decoding: sparse features in, activations out.

use super::config::SaeConfig;
use super::features::FeatureActs;
use super::weights::Weights;
use crate::error::{Error, Result};
use crate::large;
use crate::linalg::with_f32s;
use candle_core::{Device, Tensor};
use rayon::prelude::*;

/// Returns the sum of the active features' decoder rows, weighted by their activations, plus the bias: `[pos, d_out]`.
pub(super) fn decode(features: &FeatureActs, weights: &Weights) -> Result<Tensor> {
    let SaeConfig { d_out, d_sae, architecture, apply_b_dec_to_input, .. } = weights.cfg;
    if features.d_sae() != d_sae {
        return Err(Error::mismatch(
            format!("decode: expected features with d_sae = {d_sae}, got {}", features.d_sae()),
            "decode with the SAE that encoded them",
        ));
    }
    let norms = architecture.rule.rescales().then(|| weights.decoder_norms()).transpose()?;
    // A tied SAE adds the bias only if it subtracts it from its input.
    let adds_bias = !architecture.rule.is_tied() || apply_b_dec_to_input;
    let b_dec = if adds_bias { weights.b_dec()? } else { &vec![0.0; d_out] };
    large::check("the decoded features", &[features.len(), d_out])?;
    let mut out = vec![0f32; features.len() * d_out];
    with_f32s(weights.w_dec()?, |w_dec| {
        out.par_chunks_exact_mut(d_out).enumerate().for_each(|(pos, out)| {
            out.copy_from_slice(b_dec);
            let (indices, values) = features.at(pos);
            for (index, value) in indices.iter().zip(values) {
                let index = *index as usize;
                let value = value / norms.map_or(1.0, |norms| norms[index]);
                let row = &w_dec[index * d_out..(index + 1) * d_out];
                out.iter_mut().zip(row).for_each(|(out, w)| *out += value * w);
            }
        });
    })?;
    Ok(Tensor::from_vec(out, (features.len(), d_out), &Device::Cpu)?)
}
