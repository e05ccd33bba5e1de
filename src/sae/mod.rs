//! Sparse autoencoders: activations to features and back.
//!
//! An [`Sae`] takes the raw activation of its hook, as the unprocessed model computes it. Any preprocessing that the
//! SAE expects (a centered residual stream, a normalization, a factor) is applied here, as its configuration says.

mod architecture;
mod config;
mod decode;
mod encode;
mod encoding;
mod features;
mod formats;
#[cfg(feature = "cuda")]
mod gpu;
mod locate;
mod options;
mod parts;
mod pursuit;
mod report;
mod rule;
mod screen;
mod temporal;
mod weights;

pub use architecture::{ActivationRule, Architecture, OutputHook};
pub use config::{ActivationNormalization, SaeConfig};
pub use features::{Feature, FeatureAct, FeatureActs};
pub use options::{SaeName, SaeOptions};
pub use report::SaeCard;
pub use weights::SaeWeights;

use crate::checkpoint::Lazy;
use crate::compute::NO_BF16;
use crate::error::{Error, Result};
use crate::files;
use crate::hooks::{HookName, HookPoint, HookPoints, hook_name_of, usual_point};
use crate::linear::rows_times;
use crate::progress::{Progress, ProgressEvent};
use candle_core::{Device, Tensor};
use encode::Prepared;
use parts::Tensors;
use pursuit::Pursuit;
use saescope_kernels::{Precision, has_bf16};
use screen::Screen;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use weights::Weights;

/// A sparse autoencoder. Clones share the weights, which are read on first use and never change.
#[derive(Clone)]
pub struct Sae {
    inner: Arc<Inner>,
    /// Whether to encode with a screen; `None` if the model decides.
    screen: Option<bool>,
    /// What pre-activations are computed in on a GPU.
    precision: Precision,
}

struct Inner {
    /// The parsed `hook_name`; `None` if it is missing, unknown or depends on the model.
    hook: Option<HookName>,
    weights: Weights,
    screen: Lazy<Screen>,
    /// `W_enc` on the GPU where activations were first encoded.
    on_gpu: Lazy<Tensor>,
    /// The largest number of active features of a token that was encoded on a GPU.
    room: AtomicUsize,
    revision: Option<String>,
    files: Vec<PathBuf>,
    notes: Vec<String>,
}

impl Inner {
    fn new(weights: Weights) -> Self {
        // An unknown name, or one that depends on the model, is an error only where the hook is needed.
        let hook = weights.cfg.hook_name.as_deref().and_then(|name| name.parse().ok());
        let (screen, on_gpu) = (Lazy::default(), Lazy::default());
        Inner {
            hook,
            weights,
            screen,
            on_gpu,
            room: AtomicUsize::new(0),
            revision: None,
            files: Vec::new(),
            notes: Vec::new(),
        }
    }
}

impl Sae {
    /// Loads an SAE: "demo" for the embedded one; a local folder or file in a layout in which SAEs are published; a
    /// release of SAELens and an id in it; or a repository on the hub. Where a name leads to several SAEs, give the id as
    /// well: `("gpt2-small-res-jb", "blocks.8.hook_resid_pre")`, or the path of one in the folder or repository.
    ///
    /// ```
    /// # fn main() -> saescope::Result<()> {
    /// use saescope::Sae;
    ///
    /// let sae = Sae::load("demo")?;
    /// let early = Sae::load(("demo", "blocks.0.hook_resid_pre"))?;
    /// assert_eq!(sae.cfg().d_sae, early.cfg().d_sae);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Layouts: SAELens, Gemma Scope, Gemma Scope 2, dictionary_learning, sparsify, Llama Scope, OpenAI, Qwen Scope,
    /// Goodfire, circuit-tracer's transcoders and others. The layout is detected from the files.
    ///
    /// # Errors
    /// An unknown folder, release or id; a hub that cannot be reached or requires a token; an unsupported layout or
    /// architecture; a file that is missing, truncated or contradicts another.
    pub fn load<'a>(name: impl Into<SaeName<'a>>) -> Result<Self> {
        Sae::load_with(name, &SaeOptions::default(), &Progress::default())
    }

    /// Like [`Sae::load`], with options, and a progress that reports downloads and can cancel them.
    ///
    /// # Errors
    /// The errors of [`Sae::load`], and [`Error::Interrupted`].
    pub fn load_with<'a>(
        name: impl Into<SaeName<'a>>,
        options: &SaeOptions,
        progress: &Progress,
    ) -> Result<Self> {
        let SaeName { name, id } = name.into();
        let found = locate::open(name, id, options, progress)?;
        let cfg = options.over(found.config)?;
        let weights = Weights::new(Tensors::Stored(found.checkpoint), found.parts, cfg)?;
        let files = found.files.into_iter().chain(options.registry.as_ref().map(PathBuf::from)).collect();
        let (revision, notes) = (found.revision, found.notes);
        let inner = Inner { revision, files, notes, ..Inner::new(weights) };
        if options.screen == Some(true) && !has_bf16() {
            progress.report(ProgressEvent::Warning(format!("`screen` has no effect: {NO_BF16}")));
        }
        Ok(Sae { inner: Arc::new(inner), screen: options.screen, precision: Precision::F32 })
    }

    /// Makes an SAE of weights in memory, which are copied as f32. As with a checkpoint, `norm_scaling_factor` and
    /// `fold_decoder_norm` of the configuration are applied to them.
    ///
    /// # Errors
    /// Values of `cfg` that do not fit each other; a tensor that the architecture does not have, that is missing, that
    /// has another shape, or whose elements are not all finite.
    pub fn from_weights(mut cfg: SaeConfig, weights: SaeWeights) -> Result<Self> {
        cfg.check()?;
        let translated = |name: String| hook_name_of(&name).unwrap_or(name);
        cfg.hook_name = cfg.hook_name.map(translated);
        cfg.hook_name_out = cfg.hook_name_out.map(translated);
        cfg.dtype = "f32".to_owned();
        let norm_scaling_factor = cfg.norm_scaling_factor;
        let cfg = SaeOptions { norm_scaling_factor, ..SaeOptions::default() }.over(cfg)?;
        let weights = Weights::new(weights.copied()?, formats::saelens_parts(&cfg), cfg)?;
        Ok(Sae { inner: Arc::new(Inner::new(weights)), screen: None, precision: Precision::F32 })
    }

    /// Returns the weights as they are used, scaled and folded, and the configuration of an SAE that has them and
    /// computes the same: [`Sae::from_weights`] makes it. Reads all weights.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn to_weights(&self) -> Result<(SaeConfig, SaeWeights)> {
        let weights = self.inner.weights.plain()?;
        Ok((self.cfg().clone().without_folding(), weights))
    }

    /// Writes the SAE to a folder in SAELens' layout: `cfg.json` and, in f32, `sae_weights.safetensors`. The folder is
    /// created if it does not exist; each file is written completely or not at all.
    ///
    /// ```
    /// # fn main() -> saescope::Result<()> {
    /// use saescope::Sae;
    ///
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let folder = folder.path();
    /// Sae::load("demo")?.save(folder)?;
    /// let saved = Sae::load(folder.to_str().unwrap())?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// An architecture that SAELens does not have; a file that cannot be read or written.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let (cfg, weights) = self.to_weights()?;
        formats::write_saelens(&cfg, weights, folder)
    }

    /// Returns the SAE's configuration.
    pub fn cfg(&self) -> &SaeConfig {
        &self.inner.weights.cfg
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

    /// Returns the files that hold the weights; none for an SAE made of weights in memory.
    pub fn weight_files(&self) -> impl Iterator<Item = &Path> {
        self.inner.weights.tensors.paths()
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
        let weights = self.inner.weights.tensors.sha256(progress)?;
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
        Ok(self.inner.weights.encoder()?.w_enc.clone())
    }

    /// Returns the decoder `[d_sae, d_out]`.
    ///
    /// # Errors
    /// A file that cannot be read.
    #[expect(non_snake_case, reason = "the name in SAELens")]
    pub fn W_dec(&self) -> Result<Tensor> {
        Ok(self.inner.weights.w_dec()?.clone())
    }

    /// Returns the encoder's bias `[d_sae]`; for a gated SAE, the gate's bias.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn b_enc(&self) -> Result<Tensor> {
        Ok(Tensor::new(self.inner.weights.encoder()?.b_enc.as_slice(), &Device::Cpu)?)
    }

    /// Returns the decoder's bias `[d_out]`.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn b_dec(&self) -> Result<Tensor> {
        Ok(Tensor::new(self.inner.weights.b_dec()?, &Device::Cpu)?)
    }

    /// Returns the weights of one feature.
    ///
    /// # Errors
    /// `feature` is out of range; a file that cannot be read.
    pub fn feature(&self, feature: usize) -> Result<Feature> {
        self.check_feature(feature)?;
        let w_enc = &self.inner.weights.encoder()?.w_enc;
        let encoder = w_enc.narrow(1, feature, 1)?.squeeze(1)?.contiguous()?;
        let decoder = self.inner.weights.w_dec()?.get(feature)?;
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
    /// use saescope::{Model, Progress, Sae};
    ///
    /// let (model, sae) = (Model::load("demo")?, Sae::load("demo")?);
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
        let x = if self.encodes_on(x.device()) { x } else { &x.to_device(&Device::Cpu)? };
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
        let weights = &self.inner.weights;
        let encoding = || self.encoding(sae_in.device());
        match self.cfg().architecture.rule {
            ActivationRule::Temporal { n_heads, .. } => {
                let all = 0..sae_in.dim(0)?;
                let sequences = if sequences.is_empty() { std::slice::from_ref(&all) } else { sequences };
                temporal::check_sequences(sequences, sae_in.dim(0)?)?;
                let novel = temporal::novel(sae_in, sequences, n_heads, weights, progress)?;
                let scaled = (&novel * temporal::lambda(weights))?;
                let features = encode::encode(&scaled, weights, &encoding()?, threshold, progress)?;
                Ok((features, Some((sae_in - novel)?)))
            }
            ActivationRule::MatchingPursuit {
                residual_threshold,
                max_iterations,
                stop_on_duplicate_support,
            } => {
                let pursuit = Pursuit { residual_threshold, max_iterations, stop_on_duplicate_support };
                Ok((pursuit::encode(sae_in, weights, &pursuit, threshold, progress)?, None))
            }
            _ => Ok((encode::encode(sae_in, weights, &encoding()?, threshold, progress)?, None)),
        }
    }

    /// Decodes features to `[pos, d_out]`, without undoing the normalization: the sum of the active features' decoder
    /// rows, weighted by their activations, plus the bias. A skip or a temporal SAE's prediction is not included.
    ///
    /// ```
    /// # fn main() -> saescope::Result<()> {
    /// use saescope::Sae;
    /// use saescope::candle_core::{DType, Device, Tensor};
    ///
    /// let sae = Sae::load("demo")?;
    /// let x = Tensor::ones((3, sae.cfg().d_in), DType::F32, &Device::Cpu)?;
    /// let features = sae.encode(&x)?;
    /// assert_eq!(sae.decode(&features)?.dims(), x.dims());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Features of another SAE; a file that cannot be read.
    pub fn decode(&self, features: &FeatureActs) -> Result<Tensor> {
        decode::decode(features, &self.inner.weights)
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
        let prepared = self.prepare(&x.to_device(&Device::Cpu)?)?;
        let (features, predicted) = self.encode_prepared(&prepared, &[], 0.0, progress)?;
        let mut out = self.decode(&features)?; // [pos, d_out]
        if let Some(predicted) = predicted {
            out = (out + predicted)?;
        }
        if let Some(w_skip) = self.inner.weights.w_skip()? {
            out = (out + rows_times(&prepared.x, w_skip)?)?;
        }
        let is_transcoder = self.cfg().architecture.output != OutputHook::Same;
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
        let x = self.prepare(&x.to_device(&Device::Cpu)?)?.x;
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

    /// Checks the shape of `x` and turns it into the encoder's input, `[pos, d_in]`.
    fn prepare(&self, x: &Tensor) -> Result<Prepared> {
        let rows = encode::rows(x, self.cfg())?;
        encode::prepare(&rows, self.reads_centered(), &self.inner.weights)
    }
}

impl std::fmt::Debug for Sae {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sae").field("cfg", self.cfg()).finish_non_exhaustive()
    }
}
