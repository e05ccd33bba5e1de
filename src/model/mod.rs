//! A language model with TransformerLens' hook points: from text to tokens to activations.
//!
//! Activations are those of the unprocessed checkpoint, as Hugging Face computes them. There is one decoder, driven by
//! [`ModelConfig`]; a family of models is a file that translates names.

mod block;
mod cache;
mod config;
mod decoder;
mod embedding;
mod families;
mod generate;
mod next;
mod ops;
mod rotary;
mod source;
mod tokenizer;
mod weights;

pub use cache::KeyValueCache;
pub use config::{
    ActivationFunction, AttentionType, ModelConfig, NormKind, PositionalEmbedding, RopeScaling, Rotary,
};
pub use embedding::{EmbeddingStats, PrincipalComponents};
pub use generate::GenerateOptions;
pub(crate) use next::{log_sum_exp, next_tokens};
pub use tokenizer::{Encoding, SpecialTokens, TokenOptions, Tokenizer, TokenizerHints, char_offsets};

/// The input of a model.
pub use crate::aliases::{nearest_models, resolve_model};
pub use crate::compute::{Compute, Dtype};
pub use crate::hooks::TokenBatch;

use crate::checkpoint::Checkpoint;
use crate::demo;
use crate::error::{Error, Result};
use crate::files;
use crate::hooks::{ActivationCache, Edits, HookName, HookPoint};
use crate::memory;
use crate::progress::{Progress, ProgressEvent};
use crate::repo::check_no_revision;
use candle_core::{DType, Device, Tensor};
use embedding::Embedding;
use families::HfConfig;
use rotary::AngleTables;
use saescope_options::options;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use weights::Weights;

/// A language model. Clones share the weights, which are read on first use and never changed.
#[derive(Clone)]
pub struct Model {
    inner: Arc<Inner>,
}

struct Inner {
    cfg: ModelConfig,
    revision: Option<String>,
    tokenizer: Option<Tokenizer>,
    weights: Weights,
    files: Vec<PathBuf>,
    embedding: Embedding,
    angles: AngleTables,
}

options! {
    /// Options for loading a model.
    pub struct ModelOptions {
        /// The branch, tag or commit of the model's repository on the hub. Default: `main`.
        pub revision: Option<String> = None,
        /// The type in which weights are held and blocks compute. "auto": weights as the checkpoint stores them, computation
        /// in f32; "f32": weights widened, with the same results; "bf16": the weights and inputs of the blocks' linear layers
        /// rounded to bf16, as PyTorch does in bfloat16, and the rest in f32 (on NVIDIA GPUs, attention is rounded too, and the
        /// SAE to TF32); "tf32": weights and inputs rounded to 10 bits of mantissa, on NVIDIA GPUs only. Default: "auto".
        pub dtype: Dtype = Dtype::Auto,
        /// Where the model runs: "cpu", "cuda" or "cuda:N" for an NVIDIA GPU, "metal" for an Apple GPU, or "auto" for a GPU if
        /// there is one. Default: the environment variable `SAESCOPE_DEVICE`, or else "cpu".
        pub device: Option<String> = None,
    }
}

impl Model {
    /// Loads a model with default options; see [`Model::load_with`].
    ///
    /// # Errors
    /// As [`Model::load_with`].
    pub fn load(name: &str) -> Result<Self> {
        Self::load_with(name, &ModelOptions::default(), &Progress::default())
    }

    /// Loads a model. `name` is "demo" for the built-in one, a local folder in the Hugging Face layout (`config.json`,
    /// `model.safetensors` or its shards, `tokenizer.json`), a TransformerLens name ("gpt2-small", in any case), or a
    /// repository on the hub ("google/gemma-2-2b"), whose files are downloaded once.
    ///
    /// Headers and shapes are checked here; weights are read when a pass first needs them.
    ///
    /// # Errors
    /// No such folder or name; a hub that cannot be reached or requires a token; an unsupported model type; a file that
    /// is missing, truncated or contradicts another.
    pub fn load_with(name: &str, options: &ModelOptions, progress: &Progress) -> Result<Self> {
        let revision = options.revision.as_deref();
        let compute = Compute::new(options.device.as_deref(), options.dtype, progress)?;
        if name == "demo" {
            check_no_revision(name, "model", revision)?;
            return Self::demo(compute);
        }
        let repo = source::repo_of(name, revision, progress)?;
        if !repo.has("config.json", progress)? {
            let error = Error::mismatch(
                format!("`{}` is not a model: it has no config.json", repo.name()),
                "a model in the Hugging Face layout has config.json, model.safetensors and tokenizer.json",
            );
            return Err(repo.missing_file_error("config.json", error, progress));
        }
        let path = repo.file("config.json", progress)?;
        let config = files::read(&path)?;
        let config = HfConfig::parse(&path, &config)?;
        let open = || {
            let tokenizer = Tokenizer::from_repo(&repo, config.tokenizer_hints(), progress)?;
            if tokenizer.is_none() && repo.is_partial() {
                let error = Error::mismatch("it has no tokenizer.json", "give token ids instead of text");
                let why = repo.missing_file_error("tokenizer.json", error, progress);
                progress.report(ProgressEvent::Warning(format!("{why}: the model reads only token ids")));
            }
            let checkpoint = Checkpoint::open(&source::weight_files(&repo, progress)?)?;
            Ok((tokenizer, checkpoint, repo.files()))
        };
        Self::new(name, repo.revision(), &config, compute, open)
    }

    fn demo(compute: Compute) -> Result<Self> {
        let config = HfConfig::parse(Path::new("demo/config.json"), demo::MODEL_CONFIG)?;
        let open = || {
            let (tokenizer, settings) = (demo::TOKENIZER, demo::TOKENIZER_CONFIG);
            let hints = config.tokenizer_hints();
            let tokenizer = Tokenizer::from_bytes("demo/tokenizer.json", tokenizer, settings, hints)?;
            let checkpoint = Checkpoint::embedded("demo/model.safetensors", demo::MODEL_WEIGHTS)?;
            Ok((Some(tokenizer), checkpoint, Vec::new()))
        };
        Self::new("demo", None, &config, compute, open)
    }

    /// Reads the config first: it decides whether the other files are worth opening.
    fn new(
        name: &str,
        revision: Option<&str>,
        config: &HfConfig,
        compute: Compute,
        open: impl FnOnce() -> Result<(Option<Tokenizer>, Checkpoint, Vec<PathBuf>)>,
    ) -> Result<Self> {
        let (family, cfg) = families::read(config, name)?;
        let (tokenizer, checkpoint, files) = open()?;
        if let Some(size) = tokenizer.as_ref().map(Tokenizer::vocab_size).filter(|n| *n > cfg.d_vocab) {
            return Err(Error::mismatch(
                format!(
                    "the tokenizer of `{name}` does not fit: it has {size} tokens, but the model's d_vocab is {}",
                    cfg.d_vocab
                ),
                "put the model's own tokenizer.json next to its weights",
            ));
        }
        if cfg.n_layers > checkpoint.names().count() {
            return Err(Error::mismatch(
                format!("`{name}` has {} layers in its config, but fewer tensors", cfg.n_layers),
                "the config.json belongs to another checkpoint: use the one of these weights",
            ));
        }
        let names = family.layout.names(&checkpoint, &cfg);
        let weights = Weights::new(checkpoint, names, &cfg, compute)?;
        let cfg = ModelConfig { has_unembed: weights.has_unembed(), ..cfg };
        let revision = revision.map(str::to_owned);
        let (embedding, angles) = (Embedding::default(), AngleTables::default());
        Ok(Model { inner: Arc::new(Inner { cfg, revision, tokenizer, weights, files, embedding, angles }) })
    }

    /// The model's sizes and architecture choices.
    pub fn cfg(&self) -> &ModelConfig {
        &self.inner.cfg
    }

    /// The commit of the model's repository on the hub; `None` for a local model.
    pub fn revision(&self) -> Option<&str> {
        self.inner.revision.as_deref()
    }

    /// The model's tokenizer.
    ///
    /// # Errors
    /// The model has no tokenizer; it reads only token ids.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        self.inner.tokenizer.as_ref().ok_or_else(|| {
            Error::mismatch(
                format!("the model `{}` has no tokenizer", self.cfg().model_name),
                "put its tokenizer.json next to the weights, or give token ids instead of text",
            )
        })
    }

    /// The files that the weights come from.
    pub fn weight_files(&self) -> impl Iterator<Item = &Path> {
        self.inner.weights.checkpoint().paths()
    }

    /// All files that the model was read from.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.inner.files.iter().map(PathBuf::as_path)
    }

    /// A hexadecimal hash of the configuration without the model's name, the weights, the tokenizer and what is computed in: two
    /// models with the same fingerprint compute the same. Reads all weights.
    ///
    /// # Errors
    /// A file that cannot be read; [`Error::Interrupted`].
    pub fn fingerprint(&self, progress: &Progress) -> Result<String> {
        let weights = self.inner.weights.checkpoint().sha256(progress)?;
        let tokenizer = self.inner.tokenizer.as_ref().map(Tokenizer::to_bytes).transpose()?;
        let cfg = serde_json::to_vec(&ModelConfig { model_name: String::new(), ..self.cfg().clone() });
        let cfg = cfg.map_err(Error::failed("serialize the model's cfg"))?;
        let tokenizer = tokenizer.unwrap_or_default();
        let mut parts = vec![&*cfg, weights.as_bytes(), &tokenizer];
        let computed_in = self.compute().in_words();
        parts.extend(computed_in.as_ref().map(String::as_bytes));
        Ok(files::sha256(&parts))
    }

    /// Returns the token ids of a text, after a beginning-of-sequence token if `prepend_bos` is true (default: the
    /// model's `default_prepend_bos`). Text that already begins with it, as in chat templates, gets no second one.
    ///
    /// ```
    /// # fn main() -> saescope::Result<()> {
    /// let model = saescope::Model::load("demo")?;
    /// let tokens = model.to_tokens("a small boat", None)?;
    /// assert_eq!(model.to_str_tokens(&tokens)?, ["<|endoftext|>", "a", " small", " boat"]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// The model has no tokenizer, or its tokenizer has no such token.
    pub fn to_tokens(&self, text: &str, prepend_bos: Option<bool>) -> Result<Vec<u32>> {
        let mut ids = self.tokenizer()?.encode(text)?.ids;
        if prepend_bos.unwrap_or(self.cfg().default_prepend_bos) {
            let bos = self.bos()?;
            if ids.first() != Some(&bos) {
                ids.insert(0, bos);
            }
        }
        Ok(ids)
    }

    /// The id of the beginning-of-sequence token. A tokenizer without one uses its end-of-sequence token, as in
    /// TransformerLens; [`Tokenizer::bos_source`] says where the token is named.
    ///
    /// # Errors
    /// The model has no tokenizer, or its tokenizer has neither token.
    pub fn bos(&self) -> Result<u32> {
        self.tokenizer()?.special().bos.ok_or_else(|| {
            Error::mismatch(
                format!("the tokenizer of `{}` has no beginning-of-sequence token", self.cfg().model_name),
                "use `prepend_bos: false`",
            )
        })
    }

    /// Decodes tokens to text.
    ///
    /// # Errors
    /// The model has no tokenizer.
    pub fn to_string(&self, tokens: &[u32]) -> Result<String> {
        self.tokenizer()?.decode(tokens)
    }

    /// Decodes each token by itself; part of a character becomes U+FFFD.
    ///
    /// # Errors
    /// The model has no tokenizer.
    pub fn to_str_tokens(&self, tokens: &[u32]) -> Result<Vec<String>> {
        let tokenizer = self.tokenizer()?;
        tokens.iter().map(|token| tokenizer.decode(std::slice::from_ref(token))).collect()
    }

    /// The token embeddings `[d_vocab, d_model]`.
    ///
    /// # Errors
    /// A file that cannot be read.
    #[expect(non_snake_case, reason = "the field's name")]
    pub fn W_E(&self) -> Result<Tensor> {
        widened(self.embed_rows()?)
    }

    /// The unembedding `[d_model, d_vocab]`.
    ///
    /// # Errors
    /// A checkpoint without an unembedding; a file that cannot be read.
    #[expect(non_snake_case, reason = "the field's name")]
    pub fn W_U(&self) -> Result<Tensor> {
        widened(&self.inner.weights.unembed_rows()?.t()?)
    }

    /// The token embeddings `[d_vocab, d_model]`, in the type in which they are held.
    pub(crate) fn embed_rows(&self) -> Result<&Tensor> {
        self.inner.weights.embed_rows()
    }

    /// The transposed unembedding `[d_vocab, d_model]`, in the type in which it is held.
    pub(crate) fn unembed_rows(&self) -> Result<Tensor> {
        Ok(self.inner.weights.unembed_rows()?.clone())
    }

    /// Returns the type in which weights are held and blocks compute: that of the options, unless the device cannot compute in it.
    pub fn dtype(&self) -> Dtype {
        self.compute().dtype
    }

    /// Returns where the model's weights are, and what it computes in.
    pub fn compute(&self) -> &Compute {
        self.inner.weights.compute()
    }

    /// The gain of the final norm, `[d_model]`: what a normalized activation is multiplied by before the unembedding.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn ln_final_weight(&self) -> Result<Tensor> {
        Ok(self.inner.weights.ln_final()?.weight.to_device(&Device::Cpu)?)
    }

    /// Statistics of the token embeddings. Computed on first use.
    ///
    /// # Errors
    /// A file that cannot be read; embeddings that are not finite.
    pub fn embedding_stats(&self) -> Result<&EmbeddingStats> {
        self.inner.embedding.stats(&self.inner.weights, self.cfg())
    }

    /// The principal components of the token embeddings about their centroid. Computed on first use, which takes
    /// seconds with a large vocabulary.
    ///
    /// # Errors
    /// As [`Model::embedding_stats`].
    pub fn principal_components(&self) -> Result<&PrincipalComponents> {
        self.inner.embedding.components(&self.inner.weights, self.cfg())
    }

    /// What TransformerLens' `fold_value_biases` subtracts from `hook_v` (`[n_key_value_heads, d_head]`) or `hook_z`
    /// (`[n_heads, d_head]`) of a block: the bias of the values and, with `fold_ln`, what the norm's bias adds to them,
    /// since that is folded into the value bias first. Attention weights sum to one, so a constant in v is the same
    /// constant in z.
    ///
    /// # Errors
    /// The hook is not a `hook_v` or `hook_z` of this model; a file that cannot be read.
    pub fn value_bias(&self, hook: &HookName, fold_ln: bool) -> Result<Tensor> {
        let cfg = self.cfg();
        cfg.hook_points().check(hook)?;
        let queries = match hook.point() {
            HookPoint::V => 1,
            HookPoint::Z => cfg.n_heads / cfg.n_key_value_heads,
            _ => return Err(Error::invalid("the hook for a value bias", "a `hook_v` or `hook_z`", hook)),
        };
        let (n_groups, width) = (cfg.n_key_value_heads, cfg.n_key_value_heads * cfg.d_head);
        let start = (cfg.n_heads + n_groups) * cfg.d_head;
        let block = self.inner.weights.block(hook.layer().unwrap_or_default())?;
        let mut bias = match &block.qkv.bias {
            Some(bias) => bias.narrow(0, start, width)?, // [n_key_value_heads · d_head]
            None => Tensor::zeros(width, DType::F32, &self.compute().device)?,
        };
        if let (true, Some(ln_bias)) = (fold_ln, block.ln1.as_ref().and_then(|ln| ln.bias.as_ref())) {
            let w_v = block.qkv.columns(start..start + width)?; // [d_model, n_key_value_heads · d_head]
            bias = (bias + ln_bias.unsqueeze(0)?.matmul(&w_v.contiguous()?)?.squeeze(0)?)?;
        }
        let bias = bias.reshape((n_groups, 1, cfg.d_head))?;
        let by_head = bias.expand((n_groups, queries, cfg.d_head))?;
        Ok(by_head.contiguous()?.reshape((n_groups * queries, cfg.d_head))?.to_device(&Device::Cpu)?)
    }

    /// Returns the logits of a sequence, `[pos, d_vocab]`.
    ///
    /// ```
    /// # fn main() -> saescope::Result<()> {
    /// use saescope::{Model, Progress};
    ///
    /// let model = Model::load("demo")?;
    /// let tokens = model.to_tokens("a small boat", None)?;
    /// let logits = model.logits(&tokens, &Progress::default())?;
    /// assert_eq!(logits.dims(), [tokens.len(), model.cfg().d_vocab]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Model::forward`].
    pub fn logits(&self, tokens: &[u32], progress: &Progress) -> Result<Tensor> {
        Ok(self.forward(&TokenBatch::single(tokens), None, &mut (), progress)?.to_device(&Device::Cpu)?)
    }

    /// Returns the activations of a sequence at the hook points with these names; a `*` matches any characters. Nothing
    /// after the deepest point is computed.
    ///
    /// ```
    /// # fn main() -> saescope::Result<()> {
    /// use saescope::{Model, Progress};
    ///
    /// let model = Model::load("demo")?;
    /// let tokens = model.to_tokens("a small boat", None)?;
    /// let cache = model.run_with_cache(&tokens, &["blocks.*.hook_resid_pre"], &Progress::default())?;
    /// assert_eq!(cache.get("blocks.5.hook_resid_pre")?.dims(), [tokens.len(), model.cfg().d_model]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// A name that is not a hook of this model, and as [`Model::forward`].
    pub fn run_with_cache<S: AsRef<str>>(
        &self,
        tokens: &[u32],
        names: &[S],
        progress: &Progress,
    ) -> Result<ActivationCache> {
        let mut cache = ActivationCache::of(self.cfg().hook_points(), names)?;
        self.run_until(&TokenBatch::single(tokens), None, &mut cache, progress)?;
        Ok(cache)
    }

    /// Returns the logits of a sequence, `[pos, d_vocab]`, with changed activations.
    ///
    /// ```
    /// # fn main() -> saescope::Result<()> {
    /// use saescope::prelude::*;
    ///
    /// let model = Model::load("demo")?;
    /// let tokens = model.to_tokens("a small boat", None)?;
    /// let zero = Edits::new().with(HookName::in_block(3, HookPoint::MlpOut), |out| Ok(out.zeros_like()?));
    /// let logits = model.run_with_hooks(&tokens, zero, &Progress::default())?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// A hook that this model does not have, any error of an edit, and as [`Model::forward`].
    pub fn run_with_hooks(&self, tokens: &[u32], mut edits: Edits, progress: &Progress) -> Result<Tensor> {
        let points = self.cfg().hook_points();
        for name in edits.names() {
            points.check(&name)?;
        }
        Ok(self.forward(&TokenBatch::single(tokens), None, &mut edits, progress)?.to_device(&Device::Cpu)?)
    }
}

/// A weight in f32, a copy of it if it is held in another type.
fn widened(weight: &Tensor) -> Result<Tensor> {
    if weight.dtype() != DType::F32 {
        memory::check("a copy of the weights in f32", (weight.elem_count() * size_of::<f32>()) as u64)?;
    }
    Ok(weight.to_dtype(DType::F32)?)
}

impl std::fmt::Display for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ModelConfig { model_name, original_architecture, d_model, n_layers, n_heads, .. } = self.cfg();
        let ModelConfig { d_mlp, d_vocab, n_ctx, has_unembed, .. } = self.cfg();
        let tokenizer = if self.inner.tokenizer.is_some() { "" } else { ", no tokenizer" };
        let unembed = if *has_unembed { "" } else { ", no unembedding" };
        let computed_in = self.compute().in_words().map(|words| format!(", computed in {words}"));
        let computed_in = computed_in.unwrap_or_default();
        write!(f, "Model {model_name} ({original_architecture}): {n_layers} layers, d_model {d_model}, ")?;
        write!(
            f,
            "{n_heads} heads, d_mlp {d_mlp}, d_vocab {d_vocab}, n_ctx {n_ctx}{tokenizer}{unembed}{computed_in}"
        )?;
        match self.inner.tokenizer.as_ref().map(|tokenizer| (tokenizer, tokenizer.special().bos)) {
            Some((tokenizer, Some(id))) => {
                let token = tokenizer.token_text(id).map_err(|_| std::fmt::Error)?;
                write!(f, "\n  BOS: `{token}`, id {id} (from {})", tokenizer.bos_source())
            }
            Some((_, None)) => write!(f, "\n  BOS: unknown"),
            None => Ok(()),
        }
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Model").field("cfg", self.cfg()).finish_non_exhaustive()
    }
}
