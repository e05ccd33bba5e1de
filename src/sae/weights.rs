//! The weights of an SAE: as plain tensors, and as it uses them, scaled and folded. Each is read on first use: encoding
//! reads `W_dec` only if it must.

use super::architecture::{ActivationRule, OutputHook};
use super::config::SaeConfig;
use super::parts::{Parts, Tensors, Threshold, finite};
use crate::checkpoint::Lazy;
use crate::error::{Error, Result};
use crate::linalg::with_f32s;
use crate::linear::Linear;
use crate::threads::in_runs;
use candle_core::{DType, Device, Tensor};
use std::collections::BTreeMap;

/// The minimum norm of a decoder row, as in SAELens.
const MIN_NORM: f32 = 1e-8;

/// The weights of an SAE as plain tensors, with SAELens' names and layout. Weights that its architecture does not use are
/// `None`.
#[derive(Debug, Clone)]
#[expect(non_snake_case, reason = "the names in SAELens")]
pub struct SaeWeights {
    /// The encoder, `[d_in, d_sae]`. `None` for `matching_pursuit` and tied temporal SAEs, which transpose the decoder.
    pub W_enc: Option<Tensor>,
    /// The decoder, `[d_sae, d_out]`.
    pub W_dec: Tensor,
    /// The bias of the pre-activations, `[d_sae]`. `None` for gated, `matching_pursuit` and temporal SAEs.
    pub b_enc: Option<Tensor>,
    /// The bias of the output, `[d_out]`.
    pub b_dec: Tensor,
    /// The value that a pre-activation must be above, `[d_sae]`. JumpReLU only.
    pub threshold: Option<Tensor>,
    /// The bias of the gate, `[d_sae]`. Gated SAEs only.
    pub b_gate: Option<Tensor>,
    /// The logarithm of the magnitude's factor, `[d_sae]`. Gated SAEs only.
    pub r_mag: Option<Tensor>,
    /// The bias of the magnitude, `[d_sae]`. Gated SAEs only.
    pub b_mag: Option<Tensor>,
    /// The linear map of the input that is added to the output, `[d_out, d_in]`. Transcoders with a skip only.
    pub W_skip: Option<Tensor>,
    /// The attention's tensors by name (`attn_layers.0.k_ctx.weight`). Temporal SAEs only.
    pub attn_layers: BTreeMap<String, Tensor>,
}

#[expect(non_snake_case, reason = "the names in SAELens")]
impl SaeWeights {
    /// Returns the weights of a standard or top-k SAE or transcoder.
    pub fn new(W_enc: Tensor, W_dec: Tensor, b_enc: Tensor, b_dec: Tensor) -> Self {
        SaeWeights {
            W_enc: Some(W_enc),
            W_dec,
            b_enc: Some(b_enc),
            b_dec,
            threshold: None,
            b_gate: None,
            r_mag: None,
            b_mag: None,
            W_skip: None,
            attn_layers: BTreeMap::new(),
        }
    }

    /// Returns the tensors by name.
    pub(super) fn named(self) -> BTreeMap<String, Tensor> {
        let named = [
            ("W_enc", self.W_enc),
            ("W_dec", Some(self.W_dec)),
            ("b_enc", self.b_enc),
            ("b_dec", Some(self.b_dec)),
            ("threshold", self.threshold),
            ("b_gate", self.b_gate),
            ("r_mag", self.r_mag),
            ("b_mag", self.b_mag),
            ("W_skip", self.W_skip),
        ];
        let named = named.into_iter().filter_map(|(name, tensor)| Some((name.to_owned(), tensor?)));
        self.attn_layers.into_iter().chain(named).collect()
    }

    /// Copies the tensors to memory of their own, in f32: training may later change the original ones.
    pub(super) fn copied(self) -> Result<Tensors> {
        let copy = |(name, tensor): (String, Tensor)| {
            let values = tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
            let copy = Tensor::from_vec(finite(&name, values)?, tensor.dims(), &Device::Cpu)?;
            Ok((name, copy))
        };
        Ok(Tensors::Memory(self.named().into_iter().map(copy).collect::<Result<_>>()?))
    }
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

/// An SAE's configuration and all its weights.
pub(super) struct Weights {
    pub(super) cfg: SaeConfig,
    pub(super) tensors: Tensors,
    pub(super) parts: Parts,
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
    /// Checks that every weight is there in the right shape, without reading any.
    pub(super) fn new(tensors: Tensors, parts: Parts, cfg: SaeConfig) -> Result<Self> {
        let mut shapes = parts.shapes(&cfg);
        shapes.extend(attention_shapes(&cfg));
        tensors.check(&shapes, cfg.architecture.name())?;
        Ok(Weights {
            scale: (parts.input_scale * cfg.norm_scaling_factor.unwrap_or(1.0)) as f32,
            cfg,
            tensors,
            parts,
            encoder: Lazy::default(),
            b_dec: Lazy::default(),
            decoder: Lazy::default(),
            w_skip: Lazy::default(),
            attention: Lazy::default(),
        })
    }

    pub(super) fn encoder(&self) -> Result<&Encoder> {
        self.encoder.get(|| {
            let SaeConfig { d_in, d_sae, .. } = self.cfg;
            // The norms to fold in: feature `i` is then `folded[i]` times as active.
            let folded = if self.cfg.fold_decoder_norm { self.decoder()?.folded.as_deref() } else { None };
            let fold = |mut values: Vec<f32>| {
                values.iter_mut().zip(folded.unwrap_or_default()).for_each(|(x, norm)| *x *= norm);
                values
            };
            let vector = |name: &str| self.tensors.vector(name, &[d_sae]);
            let is_changed = self.scale != 1.0 || folded.is_some();
            let w_enc = match &self.parts.w_enc {
                // Copied, so that a row of the product does not depend on the number of rows.
                None => self.w_dec()?.t()?.contiguous()?,
                Some(matrix) => match self.tensors.shared(matrix).filter(|_| !is_changed) {
                    Some(w_enc) => w_enc,
                    None => {
                        let mut w_enc = matrix.read(&self.tensors, [d_in, d_sae])?;
                        if is_changed {
                            let scale = |row: &mut [f32]| {
                                row.iter_mut().for_each(|w| *w *= self.scale);
                                row.iter_mut().zip(folded.unwrap_or_default()).for_each(|(w, n)| *w *= n);
                            };
                            in_runs(w_enc.chunks_exact_mut(d_sae), |rows| rows.into_iter().for_each(scale));
                        }
                        Tensor::from_vec(w_enc, (d_in, d_sae), &Device::Cpu)?
                    }
                },
            };
            let b_enc = match &self.parts.b_enc {
                Some(name) => fold(vector(name)?),
                None => vec![0.0; d_sae],
            };
            let threshold = self.parts.threshold.as_ref().map(|threshold| {
                let mut values = match threshold {
                    Threshold::PerFeature(name) => vector(name)?,
                    Threshold::Log(name) => vector(name)?.into_iter().map(f32::exp).collect(),
                    Threshold::Shared(value) => vec![*value as f32; d_sae],
                };
                if self.parts.threshold_times_norm {
                    // The decoder has been divided by the scale: its norms in the checkpoint are `norm * scale`.
                    let norms = folded.unwrap_or(&self.decoder()?.norms);
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
    pub(super) fn b_dec(&self) -> Result<&[f32]> {
        let b_dec = self.b_dec.get(|| {
            let name = &self.parts.b_dec;
            let b_dec = self.tensors.vector(name, &[self.cfg.d_out])?;
            Ok(b_dec.into_iter().map(|b| b / self.scale).collect())
        });
        b_dec.map(Vec::as_slice)
    }

    /// Returns the decoder `[d_sae, d_out]`.
    pub(super) fn w_dec(&self) -> Result<&Tensor> {
        self.decoder().map(|decoder| &decoder.w_dec)
    }

    /// Returns the norm of each decoder row, `[d_sae]`.
    pub(super) fn decoder_norms(&self) -> Result<&[f32]> {
        self.decoder().map(|decoder| decoder.norms.as_slice())
    }

    fn decoder(&self) -> Result<&Decoder> {
        self.decoder.get(|| {
            let SaeConfig { d_sae, d_out, .. } = self.cfg;
            let norm = |row: &[f32]| row.iter().map(|w| w * w).sum::<f32>().sqrt();
            let is_changed = self.scale != 1.0 || self.cfg.fold_decoder_norm;
            if let Some(w_dec) = self.tensors.shared(&self.parts.w_dec).filter(|_| !is_changed) {
                let norms = with_f32s(&w_dec, |w_dec| {
                    in_runs(w_dec.chunks_exact(d_out), |rows| {
                        rows.into_iter().map(norm).collect::<Vec<f32>>()
                    })
                })?;
                return Ok(Decoder { w_dec, norms: norms.concat(), folded: None });
            }
            let mut w_dec = self.parts.w_dec.read(&self.tensors, [d_sae, d_out])?;
            let change = |row: &mut [f32]| {
                if self.scale != 1.0 {
                    row.iter_mut().for_each(|w| *w /= self.scale);
                }
                let norm = norm(row);
                if !self.cfg.fold_decoder_norm {
                    return norm;
                }
                row.iter_mut().for_each(|w| *w /= norm.max(MIN_NORM));
                norm.max(MIN_NORM)
            };
            let rows = w_dec.chunks_exact_mut(d_out);
            let norms = in_runs(rows, |rows| rows.into_iter().map(change).collect::<Vec<f32>>()).concat();
            let w_dec = Tensor::from_vec(w_dec, (d_sae, d_out), &Device::Cpu)?;
            Ok(match self.cfg.fold_decoder_norm {
                true => Decoder { w_dec, norms: vec![1.0; d_sae], folded: Some(norms) },
                false => Decoder { w_dec, norms, folded: None },
            })
        })
    }

    /// Returns the skip `[d_in, d_out]`, if there is one.
    pub(super) fn w_skip(&self) -> Result<Option<&Tensor>> {
        let SaeConfig { d_in, d_out, .. } = self.cfg;
        let has_skip = self.cfg.architecture.output == OutputHook::Other { skip: true };
        let Some(matrix) = self.parts.w_skip.as_ref().filter(|_| has_skip) else {
            return Ok(None);
        };
        let read = || matrix.read(&self.tensors, [d_in, d_out]);
        self.w_skip.get(|| Ok(Tensor::from_vec(read()?, (d_in, d_out), &Device::Cpu)?)).map(Some)
    }

    fn tensor(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        Ok(Tensor::from_vec(self.tensors.vector(name, shape)?, shape, &Device::Cpu)?)
    }

    /// Returns all weights as they are used: scaled and folded.
    pub(super) fn plain(&self) -> Result<SaeWeights> {
        let d_sae = self.cfg.d_sae;
        let vector = |values: &[f32]| Tensor::new(values, &Device::Cpu);
        let encoder = self.encoder()?;
        let bias = Some(vector(&encoder.b_enc)?);
        let (b_enc, b_gate) = match self.cfg.architecture.rule {
            ActivationRule::Gated => (None, bias),
            ActivationRule::MatchingPursuit { .. } | ActivationRule::Temporal { .. } => (None, None),
            _ => (bias, None),
        };
        let r_mag =
            self.parts.magnitude.as_ref().map(|[r_mag, _]| self.tensor(r_mag, &[d_sae])).transpose()?;
        let b_mag = encoder.magnitude.as_ref().map(|(_, b_mag)| vector(b_mag)).transpose()?;
        let attention = attention_shapes(&self.cfg).into_iter();
        let attention = attention.map(|(name, shape)| Ok((name.clone(), self.tensor(&name, &shape)?)));
        Ok(SaeWeights {
            W_enc: (!self.cfg.architecture.rule.is_tied()).then(|| encoder.w_enc.clone()),
            W_dec: self.w_dec()?.clone(),
            b_enc,
            b_dec: vector(self.b_dec()?)?,
            threshold: encoder.threshold.as_deref().map(vector).transpose()?,
            b_gate,
            r_mag,
            b_mag,
            W_skip: self.w_skip()?.map(|w_skip| w_skip.t()?.contiguous()).transpose()?,
            attn_layers: attention.collect::<Result<_>>()?,
        })
    }

    /// Returns the attention layers of a temporal SAE.
    pub(super) fn attention(&self) -> Result<&[Attention]> {
        let layers = self.attention.get(|| {
            let tensors =
                attention_shapes(&self.cfg).into_iter().map(|(name, shape)| self.tensor(&name, &shape));
            let tensors = tensors.collect::<Result<Vec<_>>>()?;
            let linear =
                |[weight, bias]: &[Tensor; 2]| Ok::<_, Error>(Linear::new(weight.t()?, Some(bias.clone())));
            let layers = tensors.as_chunks::<2>().0.as_chunks::<4>().0.iter().map(|[k, q, v, out]| {
                let (k_ctx, q_target, v_ctx, c_proj) = (linear(k)?, linear(q)?, linear(v)?, linear(out)?);
                Ok(Attention { k_ctx, q_target, v_ctx, c_proj })
            });
            layers.collect()
        });
        layers.map(Vec::as_slice)
    }
}

/// Returns the tensors of a temporal SAE's attention with their shapes: per layer four linear maps, each a weight and a
/// bias.
fn attention_shapes(cfg: &SaeConfig) -> Vec<(String, Vec<usize>)> {
    let ActivationRule::Temporal { n_attn_layers, bottleneck_factor, .. } = cfg.architecture.rule else {
        return Vec::new();
    };
    let (wide, narrow) = (cfg.d_sae, cfg.d_sae / bottleneck_factor.max(1));
    let linears = [("k_ctx", narrow), ("q_target", narrow), ("v_ctx", wide), ("c_proj", wide)];
    let linears = (0..n_attn_layers).flat_map(|layer| linears.map(|(name, rows)| (layer, name, rows)));
    let tensors = linears.flat_map(|(layer, name, rows)| {
        let name = |part: &str| format!("attn_layers.{layer}.{name}.{part}");
        [(name("weight"), vec![rows, wide]), (name("bias"), vec![rows])]
    });
    tensors.collect()
}
