//! The weights of an SAE, read from its checkpoint on first use: encoding reads `W_dec` only if it must.

use super::config::{Architecture, SaeConfig};
use crate::checkpoint::{Checkpoint, Lazy};
use crate::error::{Error, Result};
use crate::linear::Linear;
use candle_core::{Device, Tensor};
use rayon::prelude::*;

/// The minimum norm of a decoder row, as in SAELens.
const MIN_NORM: f32 = 1e-8;

/// Where the weights of an SAE are in a checkpoint, and how they are stored.
#[derive(Debug)]
pub(super) struct Parts {
    /// `[d_in, d_sae]`; `None` if the encoder is the transposed decoder.
    pub(super) w_enc: Option<Matrix>,
    /// `[d_sae, d_out]`.
    pub(super) w_dec: Matrix,
    /// The bias of the pre-activations, `[d_sae]`: `b_enc`, or `b_gate` of a gated SAE. `None` means 0.
    pub(super) b_enc: Option<String>,
    /// `[d_out]`.
    pub(super) b_dec: String,
    /// JumpReLU only.
    pub(super) threshold: Option<Threshold>,
    /// `r_mag` and `b_mag`, `[d_sae]` each. Gated SAEs only.
    pub(super) magnitude: Option<[String; 2]>,
    /// `[d_in, d_out]`. Transcoders with a skip only.
    pub(super) w_skip: Option<Matrix>,
    /// The factor from activations to the scale of the weights; outputs are divided by it.
    pub(super) scale: f64,
}

impl Parts {
    /// The parts of an SAE with only encoder, decoder and their biases.
    pub(super) fn new(
        w_enc: Matrix,
        w_dec: Matrix,
        b_enc: impl Into<String>,
        b_dec: impl Into<String>,
    ) -> Self {
        Parts {
            w_enc: Some(w_enc),
            w_dec,
            b_enc: Some(b_enc.into()),
            b_dec: b_dec.into(),
            threshold: None,
            magnitude: None,
            w_skip: None,
            scale: 1.0,
        }
    }
}

/// A matrix in a checkpoint.
#[derive(Debug)]
pub(super) struct Matrix {
    pub(super) name: String,
    pub(super) stored: Stored,
}

/// How a matrix `[rows, columns]` is stored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Stored {
    /// As `[rows, columns]`.
    AsIs,
    /// As `[columns, rows]`.
    Transposed,
    /// As `[rows, n, columns]`, summed over `n` when it is read.
    InLayers(usize),
}

/// How the thresholds of a JumpReLU SAE are stored.
#[derive(Debug)]
pub(super) struct Threshold {
    pub(super) kept: StoredThreshold,
    /// Whether the threshold applies to the pre-activation times the norm of its decoder row.
    pub(super) times_decoder_norm: bool,
}

#[derive(Debug)]
pub(super) enum StoredThreshold {
    /// A tensor `[d_sae]`.
    PerFeature(String),
    /// A tensor `[d_sae]` of logarithms.
    Log(String),
    /// One value for all features.
    Shared(f64),
}

impl Matrix {
    pub(super) fn plain(name: impl Into<String>) -> Self {
        Matrix { name: name.into(), stored: Stored::AsIs }
    }

    pub(super) fn transposed(name: impl Into<String>) -> Self {
        Matrix { name: name.into(), stored: Stored::Transposed }
    }

    fn require(&self, checkpoint: &Checkpoint, [rows, columns]: [usize; 2]) -> Result<()> {
        match self.stored {
            Stored::AsIs => checkpoint.require(&self.name, &[rows, columns]),
            Stored::Transposed => checkpoint.require(&self.name, &[columns, rows]),
            Stored::InLayers(n) => checkpoint.require(&self.name, &[rows, n, columns]),
        }
    }

    fn read(&self, checkpoint: &Checkpoint, [rows, columns]: [usize; 2]) -> Result<Vec<f32>> {
        let values = match self.stored {
            Stored::AsIs => checkpoint.read(&self.name, &[rows, columns])?,
            Stored::Transposed => checkpoint.read_transposed(&self.name, [columns, rows])?,
            Stored::InLayers(n) => {
                let layers = checkpoint.read(&self.name, &[rows, n, columns])?;
                let rows = layers.chunks_exact((n * columns).max(1));
                rows.flat_map(|row| (0..columns).map(|c| row.iter().skip(c).step_by(columns).sum())).collect()
            }
        };
        finite(&self.name, values)
    }
}

impl Threshold {
    pub(super) fn each(name: impl Into<String>) -> Self {
        Threshold { kept: StoredThreshold::PerFeature(name.into()), times_decoder_norm: false }
    }

    pub(super) fn same(value: f64) -> Self {
        Threshold { kept: StoredThreshold::Shared(value), times_decoder_norm: false }
    }
}

/// Refuses weights that are not finite: a feature with NaN would never be active, without any message.
fn finite(name: &str, values: Vec<f32>) -> Result<Vec<f32>> {
    if values.iter().all(|x| x.is_finite()) {
        return Ok(values);
    }
    Err(Error::NotFinite { message: format!("`{name}` of the SAE contains NaN or infinity") })
}

/// The weights that encoding needs.
pub(super) struct Encoder {
    /// `[d_in, d_sae]`, the layout in which `x · W_enc` is fastest.
    pub(super) w_enc: Tensor,
    /// `[d_sae]`.
    pub(super) b_enc: Vec<f32>,
    /// `[d_sae]`. JumpReLU only.
    pub(super) threshold: Option<Vec<f32>>,
    /// `exp(r_mag)` and `b_mag`, `[d_sae]` each. Gated SAEs only.
    pub(super) magnitude: Option<(Vec<f32>, Vec<f32>)>,
}

/// One attention layer of a temporal SAE: keys and queries `[d_sae / bottleneck, d_sae]`, values and output
/// `[d_sae, d_sae]`, each with its bias.
pub(super) struct Attention {
    pub(super) k_ctx: Linear,
    pub(super) q_target: Linear,
    pub(super) v_ctx: Linear,
    pub(super) c_proj: Linear,
}

/// All weights of an SAE.
pub(super) struct Weights {
    checkpoint: Checkpoint,
    parts: Parts,
    /// The product of the layout's scale and `norm_scaling_factor`.
    scale: f32,
    encoder: Lazy<Encoder>,
    b_dec: Lazy<Vec<f32>>,
    decoder: Lazy<Decoder>,
    w_skip: Lazy<Tensor>,
    attention: Lazy<Vec<Attention>>,
}

/// The decoder, scaled and folded.
struct Decoder {
    /// `[d_sae, d_out]`.
    w_dec: Tensor,
    /// The norms of its rows, `[d_sae]`.
    norms: Vec<f32>,
    /// The norms that its rows were divided by, if `fold_decoder_norm`.
    folded: Option<Vec<f32>>,
}

impl Weights {
    /// Checks that the checkpoint has every weight in the right shape, without reading any.
    pub(super) fn new(checkpoint: Checkpoint, parts: Parts, cfg: &SaeConfig) -> Result<Self> {
        let SaeConfig { d_in, d_sae, d_out, .. } = *cfg;
        if let Some(w_enc) = &parts.w_enc {
            w_enc.require(&checkpoint, [d_in, d_sae])?;
        }
        parts.w_dec.require(&checkpoint, [d_sae, d_out])?;
        checkpoint.require(&parts.b_dec, &[d_out])?;
        let of_features = parts.b_enc.iter().chain(parts.magnitude.iter().flatten());
        let thresholds = parts.threshold.iter().filter_map(|threshold| match &threshold.kept {
            StoredThreshold::PerFeature(name) | StoredThreshold::Log(name) => Some(name),
            StoredThreshold::Shared(_) => None,
        });
        for name in of_features.chain(thresholds) {
            checkpoint.require(name, &[d_sae])?;
        }
        if let Some(w_skip) = &parts.w_skip {
            w_skip.require(&checkpoint, [d_in, d_out])?;
        }
        for (layer, name, [rows, columns]) in linear_layers(cfg) {
            checkpoint.require(&linear_name(layer, name, "weight"), &[rows, columns])?;
            checkpoint.require(&linear_name(layer, name, "bias"), &[rows])?;
        }
        Ok(Weights {
            scale: (parts.scale * cfg.norm_scaling_factor.unwrap_or(1.0)) as f32,
            checkpoint,
            parts,
            encoder: Lazy::default(),
            b_dec: Lazy::default(),
            decoder: Lazy::default(),
            w_skip: Lazy::default(),
            attention: Lazy::default(),
        })
    }

    pub(super) fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The factor by which the layout scales activations, without `norm_scaling_factor`.
    pub(super) fn layout_scale(&self) -> f64 {
        self.parts.scale
    }

    pub(super) fn encoder(&self, cfg: &SaeConfig) -> Result<&Encoder> {
        self.encoder.get(|| {
            let SaeConfig { d_in, d_sae, .. } = *cfg;
            // The norms to fold in: feature `i` is then `folded[i]` times as active.
            let folded = if cfg.fold_decoder_norm { self.decoder(cfg)?.folded.as_deref() } else { None };
            let fold = |mut values: Vec<f32>| {
                values.iter_mut().zip(folded.unwrap_or_default()).for_each(|(x, norm)| *x *= norm);
                values
            };
            let vector = |name: &str| finite(name, self.checkpoint.read(name, &[d_sae])?);
            let w_enc = match &self.parts.w_enc {
                // Copied, so that a row of the product does not depend on the number of rows.
                None => self.w_dec(cfg)?.t()?.contiguous()?,
                Some(matrix) => {
                    let mut w_enc = matrix.read(&self.checkpoint, [d_in, d_sae])?;
                    if self.scale != 1.0 || folded.is_some() {
                        w_enc.par_chunks_exact_mut(d_sae).for_each(|row| {
                            row.iter_mut().for_each(|w| *w *= self.scale);
                            row.iter_mut().zip(folded.unwrap_or_default()).for_each(|(w, norm)| *w *= norm);
                        });
                    }
                    Tensor::from_vec(w_enc, (d_in, d_sae), &Device::Cpu)?
                }
            };
            let b_enc = match &self.parts.b_enc {
                Some(name) => fold(vector(name)?),
                None => vec![0.0; d_sae],
            };
            let threshold = self.parts.threshold.as_ref().map(|threshold| {
                let mut values = match &threshold.kept {
                    StoredThreshold::PerFeature(name) => vector(name)?,
                    StoredThreshold::Log(name) => vector(name)?.into_iter().map(f32::exp).collect(),
                    StoredThreshold::Shared(value) => vec![*value as f32; d_sae],
                };
                if threshold.times_decoder_norm {
                    // The decoder has been divided by the scale: its norms in the checkpoint are `norm * scale`.
                    let norms = folded.unwrap_or(&self.decoder(cfg)?.norms);
                    values.iter_mut().zip(norms).for_each(|(t, norm)| *t /= norm * self.scale);
                }
                Ok::<_, Error>(fold(values))
            });
            let magnitude = self.parts.magnitude.as_ref().map(|[r_mag, b_mag]| {
                let factors = vector(r_mag)?.into_iter().map(f32::exp).collect();
                Ok::<_, Error>((factors, fold(vector(b_mag)?)))
            });
            Ok(Encoder { w_enc, b_enc, threshold: threshold.transpose()?, magnitude: magnitude.transpose()? })
        })
    }

    /// Returns the decoder's bias `[d_out]`.
    pub(super) fn b_dec(&self, cfg: &SaeConfig) -> Result<&[f32]> {
        let b_dec = self.b_dec.get(|| {
            let name = &self.parts.b_dec;
            let b_dec = finite(name, self.checkpoint.read(name, &[cfg.d_out])?)?;
            Ok(b_dec.into_iter().map(|b| b / self.scale).collect())
        });
        b_dec.map(Vec::as_slice)
    }

    /// Returns the decoder `[d_sae, d_out]`.
    pub(super) fn w_dec(&self, cfg: &SaeConfig) -> Result<&Tensor> {
        self.decoder(cfg).map(|decoder| &decoder.w_dec)
    }

    /// Returns the norm of each decoder row, `[d_sae]`.
    pub(super) fn decoder_norms(&self, cfg: &SaeConfig) -> Result<&[f32]> {
        self.decoder(cfg).map(|decoder| decoder.norms.as_slice())
    }

    fn decoder(&self, cfg: &SaeConfig) -> Result<&Decoder> {
        self.decoder.get(|| {
            let SaeConfig { d_sae, d_out, .. } = *cfg;
            let mut w_dec = self.parts.w_dec.read(&self.checkpoint, [d_sae, d_out])?;
            let rows = w_dec.par_chunks_exact_mut(d_out);
            let norms: Vec<f32> = rows
                .map(|row| {
                    if self.scale != 1.0 {
                        row.iter_mut().for_each(|w| *w /= self.scale);
                    }
                    let norm = row.iter().map(|w| w * w).sum::<f32>().sqrt();
                    if !cfg.fold_decoder_norm {
                        return norm;
                    }
                    row.iter_mut().for_each(|w| *w /= norm.max(MIN_NORM));
                    norm.max(MIN_NORM)
                })
                .collect();
            let w_dec = Tensor::from_vec(w_dec, (d_sae, d_out), &Device::Cpu)?;
            Ok(match cfg.fold_decoder_norm {
                true => Decoder { w_dec, norms: vec![1.0; d_sae], folded: Some(norms) },
                false => Decoder { w_dec, norms, folded: None },
            })
        })
    }

    /// Returns the skip `[d_in, d_out]`, if there is one.
    pub(super) fn w_skip(&self, cfg: &SaeConfig) -> Result<Option<&Tensor>> {
        let SaeConfig { d_in, d_out, .. } = *cfg;
        let Some(matrix) = self.parts.w_skip.as_ref().filter(|_| cfg.architecture.has_skip()) else {
            return Ok(None);
        };
        let read = || matrix.read(&self.checkpoint, [d_in, d_out]);
        self.w_skip.get(|| Ok(Tensor::from_vec(read()?, (d_in, d_out), &Device::Cpu)?)).map(Some)
    }

    /// Returns the attention layers of a temporal SAE.
    pub(super) fn attention(&self, cfg: &SaeConfig) -> Result<&[Attention]> {
        let linear = |layer: usize, name: &str, [rows, columns]: [usize; 2]| {
            let read = |part: &str, shape: &[usize]| {
                let name = linear_name(layer, name, part);
                let values = finite(&name, self.checkpoint.read(&name, shape)?)?;
                Ok::<_, Error>(Tensor::from_vec(values, shape, &Device::Cpu)?)
            };
            Linear::from_out_in(&read("weight", &[rows, columns])?, Some(read("bias", &[rows])?))
        };
        let layers = self.attention.get(|| {
            let linears =
                linear_layers(cfg).into_iter().map(|(layer, name, shape)| linear(layer, name, shape));
            let mut linears = linears.collect::<Result<Vec<_>>>()?.into_iter();
            let mut layers = Vec::new();
            while let (Some(k_ctx), Some(q_target), Some(v_ctx), Some(c_proj)) =
                (linears.next(), linears.next(), linears.next(), linears.next())
            {
                layers.push(Attention { k_ctx, q_target, v_ctx, c_proj });
            }
            Ok(layers)
        });
        layers.map(Vec::as_slice)
    }
}

/// Returns the linear maps of a temporal SAE's attention, four per layer, with their shapes.
fn linear_layers(cfg: &SaeConfig) -> Vec<(usize, &'static str, [usize; 2])> {
    let Architecture::Temporal { n_attn_layers, bottleneck_factor, .. } = cfg.architecture else {
        return Vec::new();
    };
    let (wide, narrow) = (cfg.d_sae, cfg.d_sae / bottleneck_factor.max(1));
    let of_layer = move |layer| {
        [("k_ctx", narrow), ("q_target", narrow), ("v_ctx", wide), ("c_proj", wide)]
            .map(|(name, rows)| (layer, name, [rows, wide]))
    };
    (0..n_attn_layers).flat_map(of_layer).collect()
}

fn linear_name(layer: usize, name: &str, part: &str) -> String {
    format!("attn_layers.{layer}.{name}.{part}")
}
