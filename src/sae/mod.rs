//! Sparse autoencoders: activations to features and back.
//!
//! An [`Sae`] takes the raw activation of its hook, as the unprocessed model gives it: what it expects beyond that
//! (a centred residual stream, a normalisation, a factor) is applied here, from its configuration.

mod config;
mod encode;
mod features;
mod formats;
mod locate;
mod pursuit;
mod report;
mod temporal;
mod weights;

pub use config::{Architecture, Normalization, SaeConfig};
pub use features::{FeatureActivation, Features};
pub use report::LoadReport;

use crate::error::{Error, Result};
use crate::files;
use crate::hooks::{HookName, HookPoint, HookPoints, usual_point};
use crate::large;
use crate::linalg::with_floats;
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

/// What to believe about an SAE rather than its checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SaeOptions {
    /// The branch, tag or commit of its repository on the hub. Default: `main`.
    pub revision: Option<String>,
    /// A list of releases to look the name up in, a newer `pretrained_saes.yaml` of SAELens. Default: the list in this
    /// program.
    pub registry: Option<String>,
    /// The hook that it reads, in TransformerLens' words or those of another library (`model.layers.5.output`).
    /// Default: as the checkpoint says.
    pub hook_name: Option<String>,
    /// The hook that a transcoder stands for the output of. Default: as the checkpoint says.
    pub hook_name_out: Option<String>,
    /// The layout of the checkpoint, by SAELens' name for the way to read it ("gemma_2", "dictionary_learning_1", …) or
    /// by ours. Default: told by the files.
    pub conversion: Option<String>,
    /// Whether the norms of the decoder's rows are folded into the encoder, as Neuronpedia does: activations are then
    /// what they add to the output. Default: as the layout's own project does, which for most is no.
    pub fold_decoder_norm: Option<bool>,
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
    /// The hook that it reads, where that is one that models here have.
    hook: Option<HookName>,
    weights: Weights,
    revision: Option<String>,
    files: Vec<PathBuf>,
    notes: Vec<String>,
}

/// One feature of an SAE, by its weights.
#[derive(Debug, Clone)]
pub struct Feature {
    /// Its index.
    pub index: usize,
    /// The direction that it reads, a column of `W_enc`: `[d_in]`.
    pub encoder: Tensor,
    /// The direction that it writes, a row of `W_dec`: `[d_out]`.
    pub decoder: Tensor,
}

impl Sae {
    /// Loads an SAE: "demo" for the one in this program; a local folder or file in one of the layouts in which SAEs are
    /// published; a release and an id that SAELens knows (`gpt2-small-res-jb`, `blocks.8.hook_resid_pre`); or a repository
    /// on the hub and the folder or file in it. With a `sae_id`, a local `name` is the folder in which the SAE's folder or
    /// file lies.
    ///
    /// The layouts: SAELens', Gemma Scope, Gemma Scope 2, dictionary_learning, sparsify, Llama Scope, OpenAI, Qwen Scope,
    /// Goodfire, circuit-tracer's transcoders and others; which it is, the files tell.
    ///
    /// # Errors
    /// No such folder, release or id; a hub that cannot be reached or asks for a token; a layout or an architecture that is not supported; a file that is missing, cut short or
    /// contradicts another.
    pub fn load(name: &str, sae_id: Option<&str>, options: &SaeOptions) -> Result<Self> {
        Sae::load_with(name, sae_id, options, &Progress::default())
    }

    /// As [`Sae::load`], under a cancel flag.
    ///
    /// # Errors
    /// As [`Sae::load`], and [`Error::Interrupted`].
    pub fn load_with(
        name: &str,
        sae_id: Option<&str>,
        options: &SaeOptions,
        progress: &Progress,
    ) -> Result<Self> {
        let found = locate::open(name, sae_id, options, progress)?;
        let cfg = options.over(found.config)?;
        let weights = Weights::new(found.checkpoint, found.parts, &cfg)?;
        // A name that no model here has, or that means a point only with a model, is an error only for who needs it.
        let hook = cfg.hook_name.as_deref().and_then(|name| name.parse().ok());
        let (revision, notes) = (found.revision, found.notes);
        let files = found.files.into_iter().chain(options.registry.as_ref().map(PathBuf::from)).collect();
        Ok(Sae { inner: Arc::new(Inner { cfg, hook, weights, revision, files, notes }) })
    }

    /// The SAE's sizes and choices.
    pub fn cfg(&self) -> &SaeConfig {
        &self.inner.cfg
    }

    /// The hook point that it reads.
    ///
    /// # Errors
    /// The checkpoint does not say, or names a point that is not known, or one that depends on the model, for which there
    /// is [`Sae::hook_in`].
    pub fn hook(&self) -> Result<HookName> {
        match self.inner.hook {
            Some(hook) => Ok(hook),
            None => self.hook_name()?.parse(),
        }
    }

    /// The hook point that it reads in a model with these points.
    ///
    /// # Errors
    /// The checkpoint does not say, or names a point that is not known or that the model does not have.
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

    /// The files that the weights come from.
    pub fn weight_files(&self) -> impl Iterator<Item = &Path> {
        self.inner.weights.checkpoint().paths()
    }

    /// All files that it was read from.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.inner.files.iter().map(PathBuf::as_path)
    }

    /// A hash of its configuration and its weights, in hexadecimal, whatever it is called: two SAEs with the same fingerprint
    /// compute the same. Reads all weights.
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
        let cfg = serde_json::to_vec(&cfg).map_err(|e| Error::invalid("the SAE's cfg", "JSON", e))?;
        Ok(files::sha256(&[&cfg, weights.as_bytes()]))
    }

    /// The commit that the files are of, where that is known.
    pub fn revision(&self) -> Option<&str> {
        self.inner.revision.as_deref()
    }

    /// The encoder `[d_in, d_sae]`.
    ///
    /// # Errors
    /// A file that cannot be read.
    #[expect(non_snake_case, reason = "the field's name")]
    pub fn W_enc(&self) -> Result<Tensor> {
        Ok(self.inner.weights.encoder(self.cfg())?.w_enc.clone())
    }

    /// The decoder `[d_sae, d_out]`.
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

    /// The decoder's bias `[d_out]`.
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
        self.check_feature(index)?;
        let w_enc = &self.inner.weights.encoder(self.cfg())?.w_enc;
        let encoder = w_enc.narrow(1, index, 1)?.squeeze(1)?.contiguous()?;
        let decoder = self.inner.weights.w_dec(self.cfg())?.get(index)?;
        Ok(Feature { index, encoder, decoder })
    }

    /// Checks that there is such a feature.
    ///
    /// # Errors
    /// An index out of range.
    pub(crate) fn check_feature(&self, index: usize) -> Result<()> {
        features::check_feature(index, self.cfg().d_sae)
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

    /// As [`Sae::encode`], keeping only features whose activation is further from 0 than `threshold`. (Only `abstopk` SAEs
    /// have negative activations.)
    ///
    /// # Errors
    /// As [`Sae::encode`], and [`Error::Interrupted`].
    pub fn encode_above(&self, x: &Tensor, threshold: f32, progress: &Progress) -> Result<Features> {
        self.encode_sequences(x, &[], threshold, progress)
    }

    /// As [`Sae::encode_above`], for tokens of several sequences end to end, given by their ranges; without any, all tokens
    /// are one sequence. It matters to temporal SAEs, to which a token means what it adds to those before it.
    ///
    /// # Errors
    /// As [`Sae::encode_above`]; ranges that are not those of the tokens.
    pub fn encode_sequences(
        &self,
        x: &Tensor,
        sequences: &[Range<usize>],
        threshold: f32,
        progress: &Progress,
    ) -> Result<Features> {
        Ok(self.encode_prepared(&self.prepare(x)?, sequences, threshold, progress)?.0)
    }

    /// The features, and of a temporal SAE what it predicts and does not encode, `[pos, d_in]`.
    fn encode_prepared(
        &self,
        Prepared { sae_in, .. }: &Prepared,
        sequences: &[Range<usize>],
        threshold: f32,
        progress: &Progress,
    ) -> Result<(Features, Option<Tensor>)> {
        let (cfg, weights) = (self.cfg(), &self.inner.weights);
        match cfg.architecture {
            Architecture::Temporal { n_heads, .. } => {
                let whole = 0..sae_in.dim(0)?;
                let sequences = if sequences.is_empty() { std::slice::from_ref(&whole) } else { sequences };
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

    /// What features stand for, `[pos, d_out]`, before any normalisation is undone: the decoder rows of the active
    /// features, weighted by their activations, and the bias. What a skip or a prediction adds is not in it.
    ///
    /// # Errors
    /// Features of another SAE; a file that cannot be read.
    pub fn decode(&self, features: &Features) -> Result<Tensor> {
        let SaeConfig { d_out, d_sae, architecture, .. } = *self.cfg();
        if features.d_sae() != d_sae {
            return Err(Error::mismatch(
                format!("decode: expected features of {d_sae}, got {}", features.d_sae()),
                "decode with the SAE that encoded",
            ));
        }
        let weights = &self.inner.weights;
        let norms = architecture.rescales().then(|| weights.decoder_norms(self.cfg())).transpose()?;
        // Of a tied SAE that did not take the bias off, it is not added either.
        let adds_bias = match architecture {
            Architecture::MatchingPursuit { .. } | Architecture::Temporal { tied_weights: true, .. } => {
                self.cfg().apply_b_dec_to_input
            }
            _ => true,
        };
        let b_dec = if adds_bias { weights.b_dec(self.cfg())? } else { &vec![0.0; d_out] };
        large::check("what the features stand for", &[features.len(), d_out])?;
        let mut out = vec![0f32; features.len() * d_out];
        with_floats(weights.w_dec(self.cfg())?, |w_dec| {
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

    /// The SAE's reconstruction of `x`, in the shape of `x`: encodes, decodes and undoes the normalisation; `x` is one
    /// sequence. Of an SAE that reads a centred residual stream, this is centred. Of a transcoder it is what stands for its
    /// output hook, `[pos, d_out]`, skip included.
    ///
    /// # Errors
    /// As [`Sae::encode`].
    pub fn forward(&self, x: &Tensor) -> Result<Tensor> {
        Ok(self.encode_and_reconstruct(x, &Progress::default())?.1)
    }

    /// What [`Sae::encode`] and [`Sae::forward`] give, at once.
    pub(crate) fn encode_and_reconstruct(
        &self,
        x: &Tensor,
        progress: &Progress,
    ) -> Result<(Features, Tensor)> {
        let prepared = self.prepare(x)?;
        let (features, predicted) = self.encode_prepared(&prepared, &[], 0.0, progress)?;
        let mut out = self.decode(&features)?; // [pos, d_out]
        if let Some(predicted) = predicted {
            out = (out + predicted)?;
        }
        if let Some(w_skip) = self.inner.weights.w_skip(self.cfg())? {
            out = (out + prepared.x.matmul(w_skip)?)?;
        }
        let is_transcoder = self.cfg().architecture.is_transcoder();
        if !prepared.undo.is_empty() && !is_transcoder {
            let n = prepared.undo.len();
            let (factors, shifts): (Vec<f32>, Vec<f32>) = prepared.undo.into_iter().unzip();
            let column = |numbers| Tensor::from_vec(numbers, (n, 1), &Device::Cpu);
            out = out.broadcast_mul(&column(factors)?)?.broadcast_add(&column(shifts)?)?;
        }
        if x.rank() == 1 {
            return Ok((features, out.squeeze(0)?));
        }
        // Of one head of several, and of a transcoder, there is no shape of `x` to give back.
        let same = out.elem_count() == x.elem_count() && !is_transcoder;
        Ok((features, if same { out.reshape(x.dims())? } else { out }))
    }

    /// The part of an activation that the SAE reads and, but for a transcoder, [`Sae::forward`] gives back: one head of
    /// several, less its mean where it reads a centred stream. `[pos, d_in]`.
    ///
    /// # Errors
    /// Another shape; numbers that are not finite.
    pub(crate) fn reads(&self, x: &Tensor) -> Result<Tensor> {
        let x = self.prepare(x)?.x;
        Ok(if self.reads_centred() { x.broadcast_sub(&x.mean_keepdim(1)?)? } else { x })
    }

    /// Whether the mean is taken off what it reads.
    pub(crate) fn reads_centred(&self) -> bool {
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

    /// What the layout scales activations by, apart from any norm factor.
    fn layout_scale(&self) -> f64 {
        self.inner.weights.layout_scale()
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

impl std::fmt::Debug for Sae {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sae").field("cfg", self.cfg()).finish_non_exhaustive()
    }
}

impl SaeOptions {
    /// A configuration with these options in place of what it says.
    fn over(&self, mut cfg: SaeConfig) -> Result<SaeConfig> {
        let translated = |name: &Option<String>| {
            let told = |name: &String| match name.parse::<HookName>() {
                Ok(hook) => Ok(hook.to_string()),
                Err(_) if usual_point(name).is_some() => Ok(name.clone()),
                Err(error) => Err(error),
            };
            name.as_ref().map(told).transpose()
        };
        cfg.hook_name = translated(&self.hook_name)?.or(cfg.hook_name);
        cfg.hook_name_out = translated(&self.hook_name_out)?.or(cfg.hook_name_out);
        let is_scaled = cfg.normalize_activations == Normalization::ExpectedAverageOnlyIn;
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
                "its encoder is its decoder: scale the activations before they are encoded",
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

/// Checks that sequences lie end to end and are all of `n` tokens.
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
        format!("the sequences are not those of {n} tokens, end to end"),
        "give the ranges of the batch that the activations are of",
    ))
}
