//! The weights of an SAE, read from its checkpoint when they are first used: encoding never reads `W_dec`.

use super::config::{Architecture, SaeConfig};
use crate::checkpoint::{Checkpoint, Lazy};
use crate::error::{Error, Result};
use candle_core::{Device, Tensor};
use rayon::prelude::*;

/// Where in a checkpoint the weights of an SAE are. Matrices are stored as `W_enc` `[d_in, d_sae]` and `W_dec`
/// `[d_sae, d_in]`.
#[derive(Debug)]
pub(super) struct SaeNames {
    pub(super) w_enc: &'static str,
    pub(super) w_dec: &'static str,
    pub(super) b_dec: &'static str,
    /// The bias of the pre-activations: `b_enc`, for a gated SAE `b_gate`.
    pub(super) b_enc: &'static str,
    pub(super) threshold: &'static str,
    pub(super) b_mag: &'static str,
    pub(super) r_mag: &'static str,
}

/// What encoding needs.
pub(super) struct Encoder {
    /// `[d_in, d_sae]`, the layout in which `x · W_enc` is fastest.
    pub(super) w_enc: Tensor,
    /// `[d_sae]`.
    pub(super) b_enc: Vec<f32>,
    /// `[d_sae]`, of a JumpReLU SAE.
    pub(super) threshold: Option<Vec<f32>>,
    /// `exp(r_mag)` and `b_mag`, `[d_sae]` each, of a gated SAE.
    pub(super) magnitude: Option<(Vec<f32>, Vec<f32>)>,
}

/// All weights of an SAE.
pub(super) struct Weights {
    checkpoint: Checkpoint,
    names: SaeNames,
    scale: f32,
    encoder: Lazy<Encoder>,
    b_dec: Lazy<Vec<f32>>,
    w_dec: Lazy<Tensor>,
    decoder_norms: Lazy<Vec<f32>>,
}

impl Weights {
    /// Checks that a checkpoint has every weight of such an SAE, in the right shape, without reading any.
    pub(super) fn new(checkpoint: Checkpoint, names: SaeNames, cfg: &SaeConfig) -> Result<Self> {
        let SaeConfig { d_in, d_sae, .. } = *cfg;
        checkpoint.require(names.w_enc, &[d_in, d_sae])?;
        checkpoint.require(names.w_dec, &[d_sae, d_in])?;
        checkpoint.require(names.b_dec, &[d_in])?;
        checkpoint.require(names.b_enc, &[d_sae])?;
        match cfg.architecture {
            Architecture::JumpRelu => checkpoint.require(names.threshold, &[d_sae])?,
            Architecture::Gated => {
                checkpoint.require(names.b_mag, &[d_sae])?;
                checkpoint.require(names.r_mag, &[d_sae])?;
            }
            Architecture::Standard | Architecture::TopK { .. } => {}
        }
        Ok(Weights {
            checkpoint,
            names,
            scale: cfg.norm_scaling_factor.unwrap_or(1.0) as f32,
            encoder: Lazy::default(),
            b_dec: Lazy::default(),
            w_dec: Lazy::default(),
            decoder_norms: Lazy::default(),
        })
    }

    pub(super) fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    pub(super) fn encoder(&self, cfg: &SaeConfig) -> Result<&Encoder> {
        self.encoder.get(|| {
            let SaeConfig { d_in, d_sae, .. } = *cfg;
            let read = |name: &str, shape: &[usize]| {
                let numbers = self.checkpoint.read(name, shape)?;
                // With NaN in its weights a feature would never be active, and nobody would know why.
                match numbers.par_iter().all(|x| x.is_finite()) {
                    true => Ok(numbers),
                    false => Err(Error::NotFinite {
                        message: format!("`{name}` of the SAE has NaN or infinity in it"),
                    }),
                }
            };
            let vector = |name: &str| read(name, &[d_sae]);
            let mut w_enc = read(self.names.w_enc, &[d_in, d_sae])?;
            if self.scale != 1.0 {
                w_enc.iter_mut().for_each(|w| *w *= self.scale);
            }
            let threshold =
                (cfg.architecture == Architecture::JumpRelu).then(|| vector(self.names.threshold));
            let magnitude = (cfg.architecture == Architecture::Gated).then(|| {
                let r_mag = vector(self.names.r_mag)?;
                Ok::<_, Error>((r_mag.into_iter().map(f32::exp).collect(), vector(self.names.b_mag)?))
            });
            Ok(Encoder {
                w_enc: Tensor::from_vec(w_enc, (d_in, d_sae), &Device::Cpu)?,
                b_enc: vector(self.names.b_enc)?,
                threshold: threshold.transpose()?,
                magnitude: magnitude.transpose()?,
            })
        })
    }

    /// The decoder's bias `[d_in]`.
    pub(super) fn b_dec(&self, cfg: &SaeConfig) -> Result<&[f32]> {
        let b_dec = self.b_dec.get(|| {
            let b_dec = self.checkpoint.read(self.names.b_dec, &[cfg.d_in])?;
            Ok(b_dec.into_iter().map(|b| b / self.scale).collect())
        });
        b_dec.map(Vec::as_slice)
    }

    /// The decoder `[d_sae, d_in]`.
    pub(super) fn w_dec(&self, cfg: &SaeConfig) -> Result<&Tensor> {
        self.w_dec.get(|| {
            let mut w_dec = self.checkpoint.read(self.names.w_dec, &[cfg.d_sae, cfg.d_in])?;
            if self.scale != 1.0 {
                w_dec.iter_mut().for_each(|w| *w /= self.scale);
            }
            Ok(Tensor::from_vec(w_dec, (cfg.d_sae, cfg.d_in), &Device::Cpu)?)
        })
    }

    /// The norm of each decoder row, `[d_sae]`.
    pub(super) fn decoder_norms(&self, cfg: &SaeConfig) -> Result<&[f32]> {
        let norms = self.decoder_norms.get(|| {
            let norms = self.w_dec(cfg)?.sqr()?.sum(1)?.sqrt()?;
            Ok(norms.to_vec1::<f32>()?)
        });
        norms.map(Vec::as_slice)
    }
}
