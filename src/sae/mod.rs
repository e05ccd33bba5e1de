//! Sparse autoencoders: activations to features and back.
//!
//! An [`Sae`] takes the raw activation of its hook, as the unprocessed model computes it. Any preprocessing that the
//! SAE expects (a centered residual stream, a normalization, a factor) is applied here, as its configuration says.

mod config;
mod encode;
mod features;
mod formats;
mod locate;
mod pursuit;
mod report;
mod temporal;
mod weights;

pub use config::{ActivationNormalization, Architecture, SaeConfig};
pub use features::{FeatureAct, FeatureActs};
pub use report::SaeCard;

use crate::error::{Error, Result};
use crate::files;
use crate::hooks::{HookName, HookPoint, HookPoints, usual_point};
use crate::large;
use crate::linalg::with_f32s;
use crate::linear::rows_times;
use crate::progress::Progress;
use candle_core::{Device, Tensor};
use encode::Prepared;
use pursuit::Pursuit;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use weights::Weights;

/// Overrides for what an SAE's checkpoint says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SaeOptions {
    /// The branch, tag or commit of the SAE's repository on the hub. Default: `main`.
    pub revision: Option<String>,
    /// The list of releases to look the name up in, such as a newer `pretrained_saes.yaml` of SAELens. Default: the
    /// embedded list.
    pub registry: Option<String>,
    /// The hook point that the SAE reads, by TransformerLens' name or another library's (`model.layers.5.output`).
    /// Default: as in the checkpoint.
    pub hook_name: Option<String>,
    /// The hook point whose activation a transcoder predicts. Default: as in the checkpoint.
    pub hook_name_out: Option<String>,
    /// The checkpoint's layout: SAELens' name of the loader ("gemma_2", "dictionary_learning_1", …) or saescope's name
    /// of the layout. Default: detected from the files.
    pub conversion: Option<String>,
    /// Whether to fold the norms of the decoder's rows into the encoder, as Neuronpedia does: an activation is then the
    /// norm of what the feature adds to the output. Default: as the layout's own project does, which for most is no.
    pub fold_decoder_norm: Option<bool>,
    /// The factor of an `expected_average_only_in` SAE: `sqrt(d_in)` over the mean norm of its training activations.
    /// Default: as in the checkpoint; without one, activations are not scaled.
    pub norm_scaling_factor: Option<f64>,
    /// Whether the SAE reads the residual stream minus its mean. Default: as in the checkpoint.
    pub center_writing_weights: Option<bool>,
    /// Whether the SAE reads `hook_z` and `hook_v` minus the value bias. Default: as in the checkpoint.
    pub fold_value_biases: Option<bool>,
    /// Whether the norm's bias counts as part of the value bias. Default: as in the checkpoint.
    pub fold_ln: Option<bool>,
}

/// A sparse autoencoder. Clones share the weights, which are read on first use and never change.
#[derive(Clone)]
pub struct Sae {
    inner: Arc<Inner>,
}

struct Inner {
    cfg: SaeConfig,
    /// The parsed `hook_name`; `None` if it is missing, unknown or depends on the model.
    hook: Option<HookName>,
    weights: Weights,
    revision: Option<String>,
    files: Vec<PathBuf>,
    notes: Vec<String>,
}

/// The weights of one feature of an SAE.
#[derive(Debug, Clone)]
pub struct Feature {
    /// The feature's index, from 0.
    pub index: usize,
    /// The direction that the feature reads, a column of `W_enc`: `[d_in]`.
    pub encoder: Tensor,
    /// The direction that the feature writes, a row of `W_dec`: `[d_out]`.
    pub decoder: Tensor,
}

impl Sae {
    /// Loads an SAE. `name` is "demo" for the embedded SAE; a local folder or file in a layout in which SAEs are
    /// published; a release of SAELens (`gpt2-small-res-jb`), with the id `sae_id` (`blocks.8.hook_resid_pre`); or a
    /// repository on the hub, with the folder or file `sae_id` in it. With a local folder `name`, `sae_id` is the SAE's
    /// folder or file in it.
    ///
    /// Layouts: SAELens, Gemma Scope, Gemma Scope 2, dictionary_learning, sparsify, Llama Scope, OpenAI, Qwen Scope,
    /// Goodfire, circuit-tracer's transcoders and others. The layout is detected from the files.
    ///
    /// # Errors
    /// An unknown folder, release or id; a hub that cannot be reached or requires a token; an unsupported layout or
    /// architecture; a file that is missing, truncated or contradicts another.
    pub fn load(name: &str, sae_id: Option<&str>, options: &SaeOptions) -> Result<Self> {
        Sae::load_with(name, sae_id, options, &Progress::default())
    }

    /// Like [`Sae::load`], with a cancel flag.
    ///
    /// # Errors
    /// The errors of [`Sae::load`], and [`Error::Interrupted`].
    pub fn load_with(
        name: &str,
        sae_id: Option<&str>,
        options: &SaeOptions,
        progress: &Progress,
    ) -> Result<Self> {
        let found = locate::open(name, sae_id, options, progress)?;
        let cfg = options.over(found.config)?;
        let weights = Weights::new(found.checkpoint, found.parts, &cfg)?;
        // An unknown name, or one that depends on the model, is an error only where the hook is needed.
        let hook = cfg.hook_name.as_deref().and_then(|name| name.parse().ok());
        let (revision, notes) = (found.revision, found.notes);
        let files = found.files.into_iter().chain(options.registry.as_ref().map(PathBuf::from)).collect();
        Ok(Sae { inner: Arc::new(Inner { cfg, hook, weights, revision, files, notes }) })
    }

    /// Returns the SAE's configuration.
    pub fn cfg(&self) -> &SaeConfig {
        &self.inner.cfg
    }

    /// Returns the hook point that the SAE reads.
    ///
    /// # Errors
    /// The checkpoint does not name a hook, or names one that is unknown or that depends on the model: see
    /// [`Sae::hook_in`].
    pub fn hook(&self) -> Result<HookName> {
        match self.inner.hook {
            Some(hook) => Ok(hook),
            None => self.hook_name()?.parse(),
        }
    }

    /// Returns the hook point that the SAE reads in a model with these points.
    ///
    /// # Errors
    /// The checkpoint does not name a hook, or names one that is unknown or that the model does not have.
    pub fn hook_in(&self, points: &HookPoints) -> Result<HookName> {
        points.find(self.hook_name()?)
    }

    fn hook_name(&self) -> Result<&str> {
        self.cfg().hook_name.as_deref().ok_or_else(|| {
            Error::mismatch(
                format!("the SAE `{}` does not say which hook it reads", self.cfg().sae_id),
                "load it with the option `hook_name`",
            )
        })
    }

    /// Returns the files that hold the weights.
    pub fn weight_files(&self) -> impl Iterator<Item = &Path> {
        self.inner.weights.checkpoint().paths()
    }

    /// Returns all files that the SAE was loaded from.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.inner.files.iter().map(PathBuf::as_path)
    }

    /// Returns a hash of the configuration and the weights, in hexadecimal. Names do not count: two SAEs with the same
    /// fingerprint compute the same. Reads all weights.
    ///
    /// # Errors
    /// A file that cannot be read; [`Error::Interrupted`].
    pub fn fingerprint(&self, progress: &Progress) -> Result<String> {
        let weights = self.inner.weights.checkpoint().sha256(progress)?;
        let cfg = SaeConfig {
            sae_id: String::new(),
            model_name: None,
            dataset_path: None,
            published_l0: None,
            neuronpedia_id: None,
            ..self.cfg().clone()
        };
        let cfg = serde_json::to_vec(&cfg).map_err(Error::failed("write the SAE's configuration as JSON"))?;
        Ok(files::sha256(&[&cfg, weights.as_bytes()]))
    }

    /// Returns the commit that the files belong to, if known.
    pub fn revision(&self) -> Option<&str> {
        self.inner.revision.as_deref()
    }

    /// Returns the encoder `[d_in, d_sae]`.
    ///
    /// # Errors
    /// A file that cannot be read.
    #[expect(non_snake_case, reason = "the name in SAELens")]
    pub fn W_enc(&self) -> Result<Tensor> {
        Ok(self.inner.weights.encoder(self.cfg())?.w_enc.clone())
    }

    /// Returns the decoder `[d_sae, d_out]`.
    ///
    /// # Errors
    /// A file that cannot be read.
    #[expect(non_snake_case, reason = "the name in SAELens")]
    pub fn W_dec(&self) -> Result<Tensor> {
        Ok(self.inner.weights.w_dec(self.cfg())?.clone())
    }

    /// Returns the encoder's bias `[d_sae]`; for a gated SAE, the gate's bias.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn b_enc(&self) -> Result<Tensor> {
        Ok(Tensor::new(self.inner.weights.encoder(self.cfg())?.b_enc.as_slice(), &Device::Cpu)?)
    }

    /// Returns the decoder's bias `[d_out]`.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn b_dec(&self) -> Result<Tensor> {
        Ok(Tensor::new(self.inner.weights.b_dec(self.cfg())?, &Device::Cpu)?)
    }

    /// Returns the weights of one feature.
    ///
    /// # Errors
    /// `feature` is out of range; a file that cannot be read.
    pub fn feature(&self, feature: usize) -> Result<Feature> {
        self.check_feature(feature)?;
        let w_enc = &self.inner.weights.encoder(self.cfg())?.w_enc;
        let encoder = w_enc.narrow(1, feature, 1)?.squeeze(1)?.contiguous()?;
        let decoder = self.inner.weights.w_dec(self.cfg())?.get(feature)?;
        Ok(Feature { index: feature, encoder, decoder })
    }

    /// Checks that `feature` is below `d_sae`.
    ///
    /// # Errors
    /// `feature` is out of range.
    pub(crate) fn check_feature(&self, feature: usize) -> Result<()> {
        features::check_feature(feature, self.cfg().d_sae)
    }

    /// Returns the active features of each token of `x`, the raw activation at the SAE's hook: `[pos, d_in]`, for a
    /// hook with heads `[pos, n_heads, d_head]`, or one vector `[d_in]`.
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
    /// A wrong shape; values that are not finite; a file that cannot be read.
    pub fn encode(&self, x: &Tensor) -> Result<FeatureActs> {
        self.encode_above(x, 0.0, &Progress::default())
    }

    /// Like [`Sae::encode`], but keeps only features with `|activation| > threshold`. (Only `abstopk` SAEs have
    /// negative activations.)
    ///
    /// # Errors
    /// The errors of [`Sae::encode`], and [`Error::Interrupted`].
    pub fn encode_above(&self, x: &Tensor, threshold: f32, progress: &Progress) -> Result<FeatureActs> {
        self.encode_sequences(x, &[], threshold, progress)
    }

    /// Like [`Sae::encode_above`], for several concatenated sequences, given by their ranges; without any, all tokens
    /// are one sequence. Only temporal SAEs depend on it: they encode what a token adds to those before it.
    ///
    /// # Errors
    /// The errors of [`Sae::encode_above`]; ranges that do not match the tokens.
    pub fn encode_sequences(
        &self,
        x: &Tensor,
        sequences: &[Range<usize>],
        threshold: f32,
        progress: &Progress,
    ) -> Result<FeatureActs> {
        Ok(self.encode_prepared(&self.prepare(x)?, sequences, threshold, progress)?.0)
    }

    /// Returns the features and, for a temporal SAE, the predicted part that is not encoded, `[pos, d_in]`.
    fn encode_prepared(
        &self,
        Prepared { sae_in, .. }: &Prepared,
        sequences: &[Range<usize>],
        threshold: f32,
        progress: &Progress,
    ) -> Result<(FeatureActs, Option<Tensor>)> {
        let (cfg, weights) = (self.cfg(), &self.inner.weights);
        match cfg.architecture {
            Architecture::Temporal { n_heads, .. } => {
                let all = 0..sae_in.dim(0)?;
                let sequences = if sequences.is_empty() { std::slice::from_ref(&all) } else { sequences };
                check_sequences(sequences, sae_in.dim(0)?)?;
                let novel = temporal::novel(sae_in, sequences, cfg, n_heads, weights, progress)?;
                let scaled = (&novel * temporal::lambda(cfg))?;
                let features = encode::encode(&scaled, cfg, weights, threshold, progress)?;
                Ok((features, Some((sae_in - novel)?)))
            }
            Architecture::MatchingPursuit {
                residual_threshold,
                max_iterations,
                stop_on_duplicate_support,
            } => {
                let pursuit = Pursuit { residual_threshold, max_iterations, stop_on_duplicate_support };
                Ok((pursuit::encode(sae_in, cfg, weights, &pursuit, threshold, progress)?, None))
            }
            _ => Ok((encode::encode(sae_in, cfg, weights, threshold, progress)?, None)),
        }
    }

    /// Decodes features to `[pos, d_out]`, without undoing the normalization: the sum of the active features' decoder
    /// rows, weighted by their activations, plus the bias. A skip or a temporal SAE's prediction is not included.
    ///
    /// # Errors
    /// Features of another SAE; a file that cannot be read.
    pub fn decode(&self, features: &FeatureActs) -> Result<Tensor> {
        let SaeConfig { d_out, d_sae, architecture, .. } = *self.cfg();
        if features.d_sae() != d_sae {
            return Err(Error::mismatch(
                format!("decode: expected features with d_sae = {d_sae}, got {}", features.d_sae()),
                "decode with the SAE that encoded them",
            ));
        }
        let weights = &self.inner.weights;
        let norms = architecture.rescales().then(|| weights.decoder_norms(self.cfg())).transpose()?;
        // A tied SAE adds the bias only if it subtracts it from its input.
        let adds_bias = match architecture {
            Architecture::MatchingPursuit { .. } | Architecture::Temporal { tied_weights: true, .. } => {
                self.cfg().apply_b_dec_to_input
            }
            _ => true,
        };
        let b_dec = if adds_bias { weights.b_dec(self.cfg())? } else { &vec![0.0; d_out] };
        large::check("the decoded features", &[features.len(), d_out])?;
        let mut out = vec![0f32; features.len() * d_out];
        with_f32s(weights.w_dec(self.cfg())?, |w_dec| {
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

    /// Returns the SAE's reconstruction of `x`, in the shape of `x`: encodes, decodes and undoes the normalization. `x`
    /// is one sequence. An SAE that reads a centered residual stream reconstructs the centered one. A transcoder
    /// returns its prediction for the output hook, `[pos, d_out]`, skip included.
    ///
    /// # Errors
    /// The errors of [`Sae::encode`].
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(self.encode_and_reconstruct(x, &Progress::default())?.1)
    }

    /// Returns the results of both [`Sae::encode`] and [`Sae::forward`].
    pub(crate) fn encode_and_reconstruct(
        &self,
        x: &Tensor,
        progress: &Progress,
    ) -> Result<(FeatureActs, Tensor)> {
        let prepared = self.prepare(x)?;
        let (features, predicted) = self.encode_prepared(&prepared, &[], 0.0, progress)?;
        let mut out = self.decode(&features)?; // [pos, d_out]
        if let Some(predicted) = predicted {
            out = (out + predicted)?;
        }
        if let Some(w_skip) = self.inner.weights.w_skip(self.cfg())? {
            out = (out + rows_times(&prepared.x, w_skip)?)?;
        }
        let is_transcoder = self.cfg().architecture.is_transcoder();
        if !prepared.undo.is_empty() && !is_transcoder {
            let n = prepared.undo.len();
            let (factors, shifts): (Vec<f32>, Vec<f32>) = prepared.undo.into_iter().unzip();
            let column = |values| Tensor::from_vec(values, (n, 1), &Device::Cpu);
            out = out.broadcast_mul(&column(factors)?)?.broadcast_add(&column(shifts)?)?;
        }
        if x.rank() == 1 {
            return Ok((features, out.squeeze(0)?));
        }
        // One head of several, or a transcoder's output, does not have the shape of `x`.
        let same = out.elem_count() == x.elem_count() && !is_transcoder;
        Ok((features, if same { out.reshape(x.dims())? } else { out }))
    }

    /// Returns the part of an activation that the SAE reads and, unless it is a transcoder, reconstructs: one head of
    /// several, minus its mean if the SAE reads a centered stream. `[pos, d_in]`.
    ///
    /// # Errors
    /// A wrong shape; values that are not finite.
    pub(crate) fn reads(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.prepare(x)?.x;
        Ok(if self.reads_centered() { x.broadcast_sub(&x.mean_keepdim(1)?)? } else { x })
    }

    /// Whether the mean is subtracted from the input.
    pub(crate) fn reads_centered(&self) -> bool {
        self.cfg().center_writing_weights == Some(true) && self.reads_residual()
    }

    fn reads_residual(&self) -> bool {
        self.point().is_some_and(HookPoint::is_residual)
    }

    fn point(&self) -> Option<HookPoint> {
        self.cfg().hook_name.as_deref().and_then(usual_point)
    }

    fn notes(&self) -> &[String] {
        &self.inner.notes
    }

    /// The factor by which the layout scales activations, without `norm_scaling_factor`.
    fn layout_scale(&self) -> f64 {
        self.inner.weights.layout_scale()
    }

    /// Checks the shape of `x` and turns it into the encoder's input, `[pos, d_in]`.
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
        encode::prepare(&rows, cfg, self.reads_centered(), &self.inner.weights)
    }
}

impl std::fmt::Debug for Sae {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sae").field("cfg", self.cfg()).finish_non_exhaustive()
    }
}

impl SaeOptions {
    /// Applies these options to a configuration.
    fn over(&self, mut cfg: SaeConfig) -> Result<SaeConfig> {
        let translated = |name: &Option<String>| {
            let parse = |name: &String| match name.parse::<HookName>() {
                Ok(hook) => Ok(hook.to_string()),
                Err(_) if usual_point(name).is_some() => Ok(name.clone()),
                Err(error) => Err(error),
            };
            name.as_ref().map(parse).transpose()
        };
        cfg.hook_name = translated(&self.hook_name)?.or(cfg.hook_name);
        cfg.hook_name_out = translated(&self.hook_name_out)?.or(cfg.hook_name_out);
        let is_scaled = cfg.normalize_activations == ActivationNormalization::ExpectedAverageOnlyIn;
        if self.norm_scaling_factor.is_some() && !is_scaled {
            return Err(Error::mismatch(
                format!(
                    "`norm_scaling_factor` is for SAEs with normalize_activations = expected_average_only_in, this \
                     one has {}",
                    cfg.normalize_activations.name()
                ),
                "leave it out",
            ));
        }
        cfg.norm_scaling_factor = self.norm_scaling_factor.or(cfg.norm_scaling_factor).filter(|_| is_scaled);
        if let Some(factor) = cfg.norm_scaling_factor.filter(|factor| !(factor.is_finite() && *factor > 0.0))
        {
            return Err(Error::invalid("`norm_scaling_factor`", "a number above 0", factor));
        }
        let architecture = cfg.architecture;
        if let (Some(_), Architecture::MatchingPursuit { .. } | Architecture::Temporal { .. }) =
            (cfg.norm_scaling_factor, architecture)
        {
            return Err(Error::mismatch(
                format!("`norm_scaling_factor` cannot be folded into a {} SAE", architecture.name()),
                "its encoder is its decoder, transposed: scale the activations before you encode them",
            ));
        }
        cfg.fold_decoder_norm = self.fold_decoder_norm.unwrap_or(cfg.fold_decoder_norm);
        if cfg.fold_decoder_norm && !architecture.can_fold_decoder_norm() {
            return Err(Error::mismatch(
                format!(
                    "`fold_decoder_norm` would change which features of this {} SAE are active",
                    architecture.name()
                ),
                "leave it out; it is for SAEs whose features do not compete",
            ));
        }
        cfg.center_writing_weights = self.center_writing_weights.or(cfg.center_writing_weights);
        cfg.fold_value_biases = self.fold_value_biases.unwrap_or(cfg.fold_value_biases);
        cfg.fold_ln = self.fold_ln.unwrap_or(cfg.fold_ln);
        Ok(cfg)
    }
}

/// Checks that the sequences follow each other without gaps and cover all `n` tokens.
fn check_sequences(sequences: &[Range<usize>], n: usize) -> Result<()> {
    let mut end = 0;
    for sequence in sequences {
        if sequence.start != end || sequence.is_empty() {
            end = usize::MAX;
            break;
        }
        end = sequence.end;
    }
    if end == n {
        return Ok(());
    }
    Err(Error::mismatch(
        format!("the sequences do not cover the {n} tokens without gaps"),
        "give the ranges of the batch that the activations come from",
    ))
}
