//! Sparse autoencoders: activations to features and back.
//!
//! An [`Sae`] takes the raw activation of its hook, as the unprocessed model gives it: what it expects beyond that
//! (a centred residual stream, a normalisation, a factor) is applied here, from its configuration.

mod config;
mod encode;
mod features;
mod formats;
mod weights;

pub use config::{Architecture, Normalization, SaeConfig};
pub use features::{FeatureActivation, Features};

use crate::error::{Error, Result};
use crate::hooks::{HookName, HookPoint};
use crate::progress::Progress;
use candle_core::{Device, Tensor};
use encode::{Prepared, with_floats};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;
use weights::Weights;

/// What to believe about an SAE rather than its checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SaeOptions {
    /// The hook that it reads. Default: as the checkpoint says.
    pub hook_name: Option<String>,
    /// The factor of an `expected_average_only_in` SAE, `sqrt(d_in)` over the mean norm of its activations. Default:
    /// as the checkpoint says; without one the activations are taken as they are.
    pub norm_scaling_factor: Option<f64>,
    /// Whether it reads the residual stream less its mean. Default: as the checkpoint says.
    pub center_writing_weights: Option<bool>,
    /// Whether it reads `hook_z` and `hook_v` less the value bias. Default: as the checkpoint says.
    pub fold_value_biases: Option<bool>,
    /// Whether the norm's bias counts as part of the value bias. Default: as the checkpoint says.
    pub fold_ln: Option<bool>,
}

/// A sparse autoencoder. Clones share the weights, which are read when they are first used and never changed.
#[derive(Clone)]
pub struct Sae {
    inner: Arc<Inner>,
}

struct Inner {
    cfg: SaeConfig,
    hook: Option<HookName>,
    weights: Weights,
}

/// One feature of an SAE, by its weights.
#[derive(Debug, Clone)]
pub struct Feature {
    /// Its index.
    pub index: usize,
    /// The direction that it reads, a column of `W_enc`: `[d_in]`.
    pub encoder: Tensor,
    /// The direction that it writes, a row of `W_dec`: `[d_in]`.
    pub decoder: Tensor,
}

impl Sae {
    /// Loads an SAE: "demo" for the one in this program, or a local folder in SAELens' layout (`cfg.json` and
    /// `sae_weights.safetensors`). With a `sae_id`, `name` is the folder in which the SAE's folder lies.
    ///
    /// # Errors
    /// No such folder or id; an architecture that is not supported; a file that is missing, cut short or contradicts
    /// another.
    pub fn load(name: &str, sae_id: Option<&str>, options: &SaeOptions) -> Result<Self> {
        let (mut cfg, checkpoint, names) = formats::open(name, sae_id)?;
        if let Some(hook_name) = &options.hook_name {
            cfg.hook_name = Some(hook_name.clone());
        }
        let is_scaled = cfg.normalize_activations == Normalization::ExpectedAverageOnlyIn;
        if options.norm_scaling_factor.is_some() && !is_scaled {
            return Err(Error::mismatch(
                format!(
                    "`norm_scaling_factor` is for SAEs with normalize_activations = expected_average_only_in, this \
                     one has {}",
                    cfg.normalize_activations.name()
                ),
                "leave it out",
            ));
        }
        cfg.norm_scaling_factor =
            options.norm_scaling_factor.or(cfg.norm_scaling_factor).filter(|_| is_scaled);
        if let Some(factor) = cfg.norm_scaling_factor.filter(|factor| !(factor.is_finite() && *factor > 0.0))
        {
            return Err(Error::invalid("`norm_scaling_factor`", "a number above 0", factor));
        }
        cfg.center_writing_weights = options.center_writing_weights.or(cfg.center_writing_weights);
        cfg.fold_value_biases = options.fold_value_biases.unwrap_or(cfg.fold_value_biases);
        cfg.fold_ln = options.fold_ln.unwrap_or(cfg.fold_ln);
        let hook = cfg.hook_name.as_deref().map(str::parse).transpose()?;
        let weights = Weights::new(checkpoint, names, &cfg)?;
        Ok(Sae { inner: Arc::new(Inner { cfg, hook, weights }) })
    }

    /// The SAE's sizes and choices.
    pub fn cfg(&self) -> &SaeConfig {
        &self.inner.cfg
    }

    /// The hook point that it reads.
    ///
    /// # Errors
    /// The checkpoint does not say.
    pub fn hook(&self) -> Result<HookName> {
        self.inner.hook.ok_or_else(|| {
            Error::mismatch(
                format!("the SAE `{}` does not say which hook it reads", self.cfg().sae_id),
                "load it with the option `hook_name`",
            )
        })
    }

    /// The files that the weights come from.
    pub fn weight_files(&self) -> impl Iterator<Item = &Path> {
        self.inner.weights.checkpoint().paths()
    }

    /// The encoder `[d_in, d_sae]`.
    ///
    /// # Errors
    /// A file that cannot be read.
    #[expect(non_snake_case, reason = "the field's name")]
    pub fn W_enc(&self) -> Result<Tensor> {
        Ok(self.inner.weights.encoder(self.cfg())?.w_enc.clone())
    }

    /// The decoder `[d_sae, d_in]`.
    ///
    /// # Errors
    /// A file that cannot be read.
    #[expect(non_snake_case, reason = "the field's name")]
    pub fn W_dec(&self) -> Result<Tensor> {
        Ok(self.inner.weights.w_dec(self.cfg())?.clone())
    }

    /// The encoder's bias `[d_sae]`; of a gated SAE, the gate's.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn b_enc(&self) -> Result<Tensor> {
        Ok(Tensor::new(self.inner.weights.encoder(self.cfg())?.b_enc.as_slice(), &Device::Cpu)?)
    }

    /// The decoder's bias `[d_in]`.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn b_dec(&self) -> Result<Tensor> {
        Ok(Tensor::new(self.inner.weights.b_dec(self.cfg())?, &Device::Cpu)?)
    }

    /// One feature.
    ///
    /// # Errors
    /// An index out of range; a file that cannot be read.
    pub fn feature(&self, index: usize) -> Result<Feature> {
        features::check_feature(index, self.cfg().d_sae)?;
        let w_enc = &self.inner.weights.encoder(self.cfg())?.w_enc;
        let encoder = w_enc.narrow(1, index, 1)?.squeeze(1)?.contiguous()?;
        let decoder = self.inner.weights.w_dec(self.cfg())?.get(index)?;
        Ok(Feature { index, encoder, decoder })
    }

    /// The active features of each token of `x`, the raw activation at the SAE's hook: `[pos, d_in]`, for a hook with
    /// heads `[pos, n_heads, d_head]`, or one vector `[d_in]`.
    ///
    /// ```
    /// # fn main() -> saescope::Result<()> {
    /// use saescope::{Model, Progress, Sae, SaeOptions};
    ///
    /// let (model, sae) = (Model::load("demo")?, Sae::load("demo", None, &SaeOptions::default())?);
    /// let hook = sae.hook()?.to_string();
    /// let tokens = model.to_tokens("a small boat", None)?;
    /// let cache = model.run_with_cache(&tokens, &[&hook], &Progress::default())?;
    /// let features = sae.encode(cache.get(&hook)?)?;
    /// assert_eq!(features.len(), tokens.len());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Another shape; numbers that are not finite; a file that cannot be read.
    pub fn encode(&self, x: &Tensor) -> Result<Features> {
        self.encode_above(x, 0.0, &Progress::default())
    }

    /// As [`Sae::encode`], keeping only features whose activation is above `threshold`.
    ///
    /// # Errors
    /// As [`Sae::encode`], and [`Error::Interrupted`].
    pub fn encode_above(&self, x: &Tensor, threshold: f32, progress: &Progress) -> Result<Features> {
        encode::encode(&self.prepare(x)?, self.cfg(), &self.inner.weights, threshold, progress)
    }

    /// What features stand for, `[pos, d_in]`, before any normalisation is undone: the decoder rows of the active
    /// features, weighted by their activations, and the bias.
    ///
    /// # Errors
    /// Features of another SAE; a file that cannot be read.
    pub fn decode(&self, features: &Features) -> Result<Tensor> {
        let SaeConfig { d_in, d_sae, .. } = *self.cfg();
        if features.d_sae() != d_sae {
            return Err(Error::mismatch(
                format!("decode: expected features of {d_sae}, got {}", features.d_sae()),
                "decode with the SAE that encoded",
            ));
        }
        let weights = &self.inner.weights;
        let norms = match self.cfg().architecture {
            Architecture::TopK { rescale_acts_by_decoder_norm: true, .. } => {
                Some(weights.decoder_norms(self.cfg())?)
            }
            _ => None,
        };
        let b_dec = weights.b_dec(self.cfg())?;
        let mut out = vec![0f32; features.len() * d_in];
        with_floats(weights.w_dec(self.cfg())?, |w_dec| {
            out.par_chunks_exact_mut(d_in).enumerate().for_each(|(pos, out)| {
                out.copy_from_slice(b_dec);
                let (indices, values) = features.at(pos);
                for (index, value) in indices.iter().zip(values) {
                    let index = *index as usize;
                    let value = value / norms.map_or(1.0, |norms| norms[index]);
                    let row = &w_dec[index * d_in..(index + 1) * d_in];
                    out.iter_mut().zip(row).for_each(|(out, w)| *out += value * w);
                }
            });
        })?;
        Ok(Tensor::from_vec(out, (features.len(), d_in), &Device::Cpu)?)
    }

    /// The SAE's reconstruction of `x`, in the shape of `x`: encodes, decodes and undoes the normalisation. Of an SAE
    /// that reads a centred residual stream, this is centred.
    ///
    /// # Errors
    /// As [`Sae::encode`].
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        let prepared = self.prepare(x)?;
        let features = encode::encode(&prepared, self.cfg(), &self.inner.weights, 0.0, &Progress::default())?;
        let mut out = self.decode(&features)?; // [pos, d_in]
        if !prepared.undo.is_empty() {
            let n = prepared.undo.len();
            let (factors, shifts): (Vec<f32>, Vec<f32>) = prepared.undo.into_iter().unzip();
            let column = |numbers| Tensor::from_vec(numbers, (n, 1), &Device::Cpu);
            out = out.broadcast_mul(&column(factors)?)?.broadcast_add(&column(shifts)?)?;
        }
        // Of one head of several, there is no shape of `x` to give back.
        if out.elem_count() == x.elem_count() { Ok(out.reshape(x.dims())?) } else { Ok(out) }
    }

    /// Whether the mean is taken off what it reads.
    fn reads_centred(&self) -> bool {
        self.cfg().center_writing_weights == Some(true) && self.reads_residual()
    }

    fn reads_residual(&self) -> bool {
        self.inner.hook.is_some_and(|hook| hook.point().is_residual())
    }

    /// What the checkpoint leaves open and the numbers depend on, for the user to decide.
    pub fn doubts(&self) -> Vec<String> {
        let cfg = self.cfg();
        let mut doubts = Vec::new();
        let normalized = cfg.normalize_activations == Normalization::LayerNorm;
        if cfg.center_writing_weights.is_none() && self.reads_residual() && !normalized {
            doubts.push(format!(
                "the SAE `{}` does not say whether it reads a centred residual stream; it is given the stream as it is. \
                 SAEs of early 2024 on GPT-2, such as gpt2-small-res-jb, want center_writing_weights: true",
                cfg.sae_id
            ));
        }
        let at_values =
            self.inner.hook.is_some_and(|hook| matches!(hook.point(), HookPoint::Z | HookPoint::V));
        if cfg.center_writing_weights.is_none() && at_values && !cfg.fold_value_biases {
            doubts.push(format!(
                "the SAE `{}` does not say whether it reads values without their bias; it is given them with it. SAEs \
                 that were trained on a model as TransformerLens processes it by default want fold_value_biases: true \
                 and fold_ln: true",
                cfg.sae_id
            ));
        }
        if cfg.normalize_activations == Normalization::ExpectedAverageOnlyIn
            && cfg.norm_scaling_factor.is_none()
        {
            doubts.push(format!(
                "the SAE `{}` was trained on scaled activations and does not say by how much; it is given them as they \
                 are. Set norm_scaling_factor if you know it",
                cfg.sae_id
            ));
        }
        doubts
    }

    /// Checks the shape of `x` and makes it `[pos, d_in]` as the encoder wants it.
    fn prepare(&self, x: &Tensor) -> Result<Prepared> {
        let cfg = self.cfg();
        let rows = match *x.dims() {
            [d_in] if d_in == cfg.d_in => x.unsqueeze(0)?,
            [_, d_in] if d_in == cfg.d_in => x.clone(),
            [n, heads, d_head] if heads * d_head == cfg.d_in && cfg.hook_head_index.is_none() => {
                x.reshape((n, cfg.d_in))?
            }
            [_, heads, d_head]
                if d_head == cfg.d_in && cfg.hook_head_index.is_some_and(|head| head < heads) =>
            {
                x.narrow(1, cfg.hook_head_index.unwrap_or(0), 1)?.squeeze(1)?
            }
            _ => {
                let hook = cfg.hook_name.as_deref().unwrap_or("its hook");
                return Err(Error::mismatch(
                    format!(
                        "the SAE `{}` reads [pos, d_in = {}] at `{hook}`, got {:?}",
                        cfg.sae_id,
                        cfg.d_in,
                        x.dims()
                    ),
                    "give it the activation of its own hook, from the model that it was trained on",
                ));
            }
        };
        encode::prepare(&rows, cfg, self.reads_centred(), &self.inner.weights)
    }
}

impl std::fmt::Display for Sae {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let cfg = self.cfg();
        write!(f, "SAE {}: {}", cfg.sae_id, cfg.architecture.name())?;
        if let Architecture::TopK { k, rescale_acts_by_decoder_norm } = cfg.architecture {
            let rescaled = if rescale_acts_by_decoder_norm { ", rescaled by decoder norm" } else { "" };
            write!(f, " (k = {k}{rescaled})")?;
        }
        write!(f, ", d_in {}, d_sae {}, {} on disk", cfg.d_in, cfg.d_sae, cfg.dtype)?;
        write!(f, "\n  hook: {}", cfg.hook_name.as_deref().unwrap_or("not known"))?;
        if let Some(head) = cfg.hook_head_index {
            write!(f, ", head {head}")?;
        }
        write!(f, "\n  at the tap: {}", self.at_the_tap().join(", "))?;
        write!(f, "\n  trained on: {}", cfg.model_name.as_deref().unwrap_or("an unnamed model"))?;
        let context = cfg.context_size.map_or_else(|| "unknown".to_owned(), |n| n.to_string());
        write!(f, ", context {context}, {}", if cfg.prepend_bos { "with BOS" } else { "without BOS" })?;
        self.doubts().iter().try_for_each(|doubt| write!(f, "\n  note: {doubt}"))
    }
}

impl Sae {
    /// What is done to the raw activation before it is encoded, in words.
    fn at_the_tap(&self) -> Vec<String> {
        let cfg = self.cfg();
        let mut steps = Vec::new();
        let mut step = |wanted: bool, text: &str| {
            if wanted {
                steps.push(text.to_owned());
            }
        };
        step(self.reads_centred(), "minus its mean (centred)");
        step(cfg.fold_value_biases, "minus the value bias");
        step(cfg.reshape_hook_z && cfg.hook_head_index.is_none(), "heads joined");
        step(cfg.normalize_activations == Normalization::ConstantNormRescale, "norm set to sqrt(d_in)");
        step(cfg.normalize_activations == Normalization::LayerNorm, "layer norm");
        if cfg.normalize_activations == Normalization::ExpectedAverageOnlyIn {
            match cfg.norm_scaling_factor {
                Some(factor) => step(true, &format!("times {factor} (folded into the weights)")),
                None => step(true, "nothing for expected_average_only_in: no norm_scaling_factor is known"),
            }
        }
        step(cfg.apply_b_dec_to_input, "minus b_dec");
        if steps.is_empty() {
            steps.push("as it is".to_owned());
        }
        steps
    }
}

impl std::fmt::Debug for Sae {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sae").field("cfg", self.cfg()).finish_non_exhaustive()
    }
}
