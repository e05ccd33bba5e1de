//! A language model that can be watched: text to tokens to activations, with TransformerLens' hook points.
//!
//! Numbers are those of the unprocessed checkpoint, as Hugging Face computes them. There is one decoder, driven by
//! [`ModelConfig`]; a family of models is a file that translates names.

mod activation;
mod attention;
mod batch;
mod block;
mod cache;
mod config;
mod decoder;
mod embedding;
mod families;
mod generate;
mod next;
mod ops;
mod paths;
mod rotary;
mod source;
mod tokenizer;
mod weights;

pub use batch::TokenBatch;
pub use cache::KeyValueCache;
pub use config::{
    Activation, AttentionType, ModelConfig, NormalizationType, PositionalEmbedding, RopeScaling, Rotary,
};
pub use embedding::{EmbeddingStats, PrincipalComponents};
pub use generate::GenerateOptions;
pub use next::{log_sum_exp, next_tokens};
pub use tokenizer::{Encoding, SpecialTokens, Tokenizer, TokenizerHints, char_offsets};

use crate::checkpoint::Checkpoint;
use crate::demo;
use crate::error::{Error, Result};
use crate::files;
use crate::hooks::{ActivationCache, Edits, HookName, HookPoint, Hooks};
use crate::linalg::with_floats;
use crate::progress::{Progress, Report};
use candle_core::{DType, Device, Tensor};
use embedding::Embedding;
use families::HfConfig;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use weights::Weights;

/// A language model. Clones share the weights, which are read when they are first used and never changed.
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
}

/// What to load of a model.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelOptions {
    /// The branch, tag or commit of its repository on the hub. Default: `main`.
    pub revision: Option<String>,
}

impl Model {
    /// Loads a model as [`Model::load_with`] does, with default options.
    ///
    /// # Errors
    /// As [`Model::load_with`].
    pub fn load(name: &str) -> Result<Self> {
        Self::load_with(name, &ModelOptions::default(), &Progress::default())
    }

    /// Loads a model: "demo" for the one in this program; a local folder in the Hugging Face layout (`config.json`,
    /// `model.safetensors` or its shards, `tokenizer.json`); one of TransformerLens' names ("gpt2-small", in any case),
    /// or a repository on the hub ("google/gemma-2-2b"), whose files are downloaded once.
    ///
    /// Headers and shapes are checked here; the weights of a part are read when a pass first needs it.
    ///
    /// # Errors
    /// No such folder or name; a hub that cannot be reached or asks for a token; a model type that is not supported; a
    /// file that is missing, cut short or contradicts another.
    pub fn load_with(name: &str, options: &ModelOptions, progress: &Progress) -> Result<Self> {
        let revision = options.revision.as_deref();
        if name == "demo" {
            return match revision {
                None => Self::demo(),
                Some(revision) => Err(Error::invalid("the revision of `demo`", "none", revision)),
            };
        }
        let repo = source::repo_of(name, revision, progress)?;
        if !repo.has("config.json", progress)? {
            let error = Error::mismatch(
                format!("`{}` is no model: it has no config.json", repo.name()),
                "a model in the Hugging Face layout has config.json, model.safetensors and tokenizer.json",
            );
            return Err(repo.lacking("config.json", error, progress));
        }
        let path = repo.file("config.json", progress)?;
        let config = files::read(&path)?;
        let config = HfConfig::parse(&path, &config)?;
        let open = || {
            let tokenizer = Tokenizer::from_repo(&repo, config.tokenizer_hints(), progress)?;
            if tokenizer.is_none() && repo.is_partial() {
                let error = Error::mismatch("it has no tokenizer.json", "give token ids instead of text");
                let why = repo.lacking("tokenizer.json", error, progress);
                progress.report(Report::Warning(format!("{why}: the model reads token ids only")));
            }
            let checkpoint = Checkpoint::open(&source::weight_files(&repo, progress)?)?;
            Ok((tokenizer, checkpoint, repo.files()))
        };
        Self::new(name, repo.revision(), &config, open)
    }

    fn demo() -> Result<Self> {
        let config = HfConfig::parse(Path::new("demo/config.json"), demo::MODEL_CONFIG)?;
        let open = || {
            let (tokenizer, settings) = (demo::TOKENIZER, demo::TOKENIZER_CONFIG);
            let hints = config.tokenizer_hints();
            let tokenizer = Tokenizer::from_bytes("demo/tokenizer.json", tokenizer, settings, hints)?;
            let checkpoint = Checkpoint::embedded("demo/model.safetensors", demo::MODEL_WEIGHTS)?;
            Ok((Some(tokenizer), checkpoint, Vec::new()))
        };
        Self::new("demo", None, &config, open)
    }

    /// What the config says comes first: it decides whether the other files are worth opening.
    fn new(
        name: &str,
        revision: Option<&str>,
        config: &HfConfig,
        open: impl FnOnce() -> Result<(Option<Tokenizer>, Checkpoint, Vec<PathBuf>)>,
    ) -> Result<Self> {
        let (family, cfg) = families::read(config, name)?;
        let (tokenizer, checkpoint, files) = open()?;
        if let Some(size) = tokenizer.as_ref().map(Tokenizer::vocab_size).filter(|n| *n > cfg.d_vocab) {
            return Err(Error::mismatch(
                format!(
                    "the tokenizer of `{name}` does not fit: it has {size} tokens, the model's d_vocab is {}",
                    cfg.d_vocab
                ),
                "put the model's own tokenizer.json beside its weights",
            ));
        }
        if cfg.n_layers > checkpoint.names().count() {
            return Err(Error::mismatch(
                format!("`{name}` has {} layers by its config, and fewer tensors", cfg.n_layers),
                "the config.json belongs to another checkpoint",
            ));
        }
        let names = (family.weights)(&checkpoint, &cfg);
        let weights = Weights::new(checkpoint, names, &cfg)?;
        let cfg = ModelConfig { has_unembed: weights.has_unembed(), ..cfg };
        let revision = revision.map(str::to_owned);
        let embedding = Embedding::default();
        Ok(Model { inner: Arc::new(Inner { cfg, revision, tokenizer, weights, files, embedding }) })
    }

    /// The model's sizes and choices.
    pub fn cfg(&self) -> &ModelConfig {
        &self.inner.cfg
    }

    /// The commit of its repository on the hub, if it comes from there.
    pub fn revision(&self) -> Option<&str> {
        self.inner.revision.as_deref()
    }

    /// The tokenizer.
    ///
    /// # Errors
    /// The model's folder has none; such a model reads token ids.
    pub fn tokenizer(&self) -> Result<&Tokenizer> {
        self.inner.tokenizer.as_ref().ok_or_else(|| {
            Error::mismatch(
                format!("the model `{}` has no tokenizer", self.cfg().model_name),
                "put its tokenizer.json beside the weights, or give token ids instead of text",
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

    /// A hash of its configuration, its weights and its tokenizer, in hexadecimal, whatever it is called: two models with
    /// the same fingerprint compute the same. Reads all weights.
    ///
    /// # Errors
    /// A file that cannot be read; [`Error::Interrupted`].
    pub fn fingerprint(&self, progress: &Progress) -> Result<String> {
        let weights = self.inner.weights.checkpoint().sha256(progress)?;
        let tokenizer = self.inner.tokenizer.as_ref().map(Tokenizer::to_bytes).transpose()?;
        let cfg = serde_json::to_vec(&ModelConfig { model_name: String::new(), ..self.cfg().clone() });
        let cfg = cfg.map_err(|e| Error::invalid("the model's cfg", "JSON", e))?;
        Ok(files::sha256(&[&cfg, weights.as_bytes(), &tokenizer.unwrap_or_default()]))
    }

    /// The token ids of a text, after a beginning-of-sequence token if `prepend_bos` says so (default: the model's
    /// `default_prepend_bos`). A text that begins with this token already, as chat templates write it, gets no second one.
    ///
    /// # Errors
    /// A model without tokenizer, or whose tokenizer knows no such token.
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

    /// The id of the beginning-of-sequence token. A tokenizer without one begins with its end-of-sequence token, as in
    /// TransformerLens; [`Tokenizer::bos_from`] tells where the token is named.
    ///
    /// # Errors
    /// A model without tokenizer, or whose tokenizer knows neither.
    pub fn bos(&self) -> Result<u32> {
        self.tokenizer()?.special().bos.ok_or_else(|| {
            Error::mismatch(
                format!("the tokenizer of `{}` knows no beginning-of-sequence token", self.cfg().model_name),
                "use `prepend_bos: false`",
            )
        })
    }

    /// The text that tokens stand for.
    ///
    /// # Errors
    /// A model without tokenizer.
    pub fn to_string(&self, tokens: &[u32]) -> Result<String> {
        self.tokenizer()?.decode(tokens)
    }

    /// The text of each token by itself; part of a character becomes U+FFFD.
    ///
    /// # Errors
    /// A model without tokenizer.
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
        Ok(self.inner.weights.embed()?.clone())
    }

    /// The unembedding `[d_model, d_vocab]`.
    ///
    /// # Errors
    /// A checkpoint without one; a file that cannot be read.
    #[expect(non_snake_case, reason = "the field's name")]
    pub fn W_U(&self) -> Result<Tensor> {
        Ok(self.inner.weights.unembed()?.t()?)
    }

    /// The gain of the final norm, `[d_model]`: what a normalized activation is multiplied with before the unembedding.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn ln_final_weight(&self) -> Result<Tensor> {
        Ok(self.inner.weights.ln_final()?.weight.clone())
    }

    /// What the token embeddings have in common. Computed when it is first asked for.
    ///
    /// # Errors
    /// A file that cannot be read; embeddings that are not finite.
    pub fn embedding_stats(&self) -> Result<&EmbeddingStats> {
        self.inner.embedding.stats(&self.inner.weights, self.cfg())
    }

    /// The principal components of the token embeddings about their centroid. Computed when they are first asked for,
    /// which takes seconds with a large vocabulary.
    ///
    /// # Errors
    /// As [`Model::embedding_stats`].
    pub fn principal_components(&self) -> Result<&PrincipalComponents> {
        self.inner.embedding.components(&self.inner.weights, self.cfg())
    }

    /// What TransformerLens' `fold_value_biases` takes from `hook_v` (`[n_key_value_heads, d_head]`) or `hook_z`
    /// (`[n_heads, d_head]`) of a block: the bias of the values, and with `fold_ln` also what the norm's bias adds to
    /// them, for that is folded into the value bias first. Attention weights sum to one, so a constant in v is the same
    /// constant in z.
    ///
    /// # Errors
    /// Another hook, a block beyond the last; a file that cannot be read.
    pub fn value_bias(&self, hook: &HookName, fold_ln: bool) -> Result<Tensor> {
        let cfg = self.cfg();
        cfg.hook_points().check(hook)?;
        let queries = match hook.point() {
            HookPoint::V => 1,
            HookPoint::Z => cfg.n_heads / cfg.n_key_value_heads,
            _ => return Err(Error::invalid("the hook of a value bias", "a hook_v or hook_z", hook)),
        };
        let (n_groups, width) = (cfg.n_key_value_heads, cfg.n_key_value_heads * cfg.d_head);
        let start = (cfg.n_heads + n_groups) * cfg.d_head;
        let block = self.inner.weights.block(hook.layer().unwrap_or_default())?;
        let mut bias = match &block.qkv.bias {
            Some(bias) => bias.narrow(0, start, width)?, // [n_key_value_heads · d_head]
            None => Tensor::zeros(width, DType::F32, &Device::Cpu)?,
        };
        if let (true, Some(ln_bias)) = (fold_ln, block.ln1.as_ref().and_then(|ln| ln.bias.as_ref())) {
            let w_v = block.qkv.weight.narrow(1, start, width)?; // [d_model, n_key_value_heads · d_head]
            bias = (bias + ln_bias.unsqueeze(0)?.matmul(&w_v.contiguous()?)?.squeeze(0)?)?;
        }
        let bias = bias.reshape((n_groups, 1, cfg.d_head))?;
        let by_head = bias.expand((n_groups, queries, cfg.d_head))?;
        Ok(by_head.contiguous()?.reshape((n_groups * queries, cfg.d_head))?)
    }

    /// One forward pass over a batch of sequences: the logits `[tokens, d_vocab]`, or nothing where the hooks let the
    /// pass stop before them. With a `cache`, the batch is one sequence that goes on where the cache ends.
    ///
    /// # Errors
    /// Tokens that the model does not know, a sequence longer than the context, whatever a hook returns, a checkpoint
    /// without an unembedding where the hooks let the pass reach it, and [`Error::Interrupted`].
    pub fn forward(
        &self,
        batch: &TokenBatch,
        cache: Option<&mut KeyValueCache>,
        hooks: &mut dyn Hooks,
        progress: &Progress,
    ) -> Result<Option<Tensor>> {
        decoder::forward(&self.inner.weights, self.cfg(), batch, cache, hooks, progress)
    }

    /// One forward pass over sequences each of which goes on `behind` a token of the cache, or begins: the residual stream
    /// behind the last block at the last token of each, `[sequences, d_model]`, or nothing where the hooks let the pass
    /// stop before that. Sequences may go on behind the same token, which is how a tree grows. [`Model::map_logits`]
    /// turns the streams into logits; hooks of the final norm and the unembedding are not called.
    ///
    /// # Errors
    /// As [`Model::forward`]; a token that the cache has not.
    pub fn read_on(
        &self,
        batch: &TokenBatch,
        behind: &[Option<usize>],
        cache: &mut KeyValueCache,
        hooks: &mut dyn Hooks,
        progress: &Progress,
    ) -> Result<Option<Tensor>> {
        decoder::read_on(&self.inner.weights, self.cfg(), batch, behind, cache, hooks, progress)
    }

    /// Calls `look` with the row and the logits `[d_vocab]` of each residual stream behind the last block, `resid`
    /// `[n, d_model]`, on all threads, and gives what it returns. Never are more than some megabytes of logits in
    /// memory.
    ///
    /// # Errors
    /// Another shape, and [`Error::Interrupted`].
    pub fn map_logits<T: Send>(
        &self,
        resid: &Tensor,
        progress: &Progress,
        look: impl Fn(usize, &[f32]) -> T + Sync,
    ) -> Result<Vec<T>> {
        const BYTES: usize = 1 << 24;
        const ROWS: usize = 32;
        let step = (BYTES / size_of::<f32>() / self.cfg().d_vocab).max(ROWS);
        let n = resid.dim(0)?;
        let mut all = Vec::with_capacity(n);
        for first in (0..n).step_by(step) {
            progress.check()?;
            let mut rows = resid.narrow(0, first, step.min(n - first))?;
            if rows.dim(0)? == 1 {
                // One row alone takes another way through a matmul, with another rounding: it gets company.
                rows = rows.repeat((2, 1))?;
            }
            let logits = decoder::logits(&self.inner.weights, self.cfg(), &rows)?; // [rows, d_vocab]
            with_floats(&logits, |logits| {
                let rows = logits.par_chunks_exact(self.cfg().d_vocab).take(n - first).enumerate();
                all.par_extend(rows.map(|(row, logits)| look(first + row, logits)));
            })?;
        }
        Ok(all)
    }

    /// The logits of a sequence, `[pos, d_vocab]`.
    ///
    /// # Errors
    /// As [`Model::forward`].
    pub fn logits(&self, tokens: &[u32], progress: &Progress) -> Result<Tensor> {
        self.logits_of(tokens, &mut (), progress)
    }

    /// The activations of a sequence at hook points that are named, or fit a pattern in which `*` stands for anything.
    /// Nothing beyond the deepest is computed.
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
    /// A name that is no hook of this model, and as [`Model::forward`].
    pub fn run_with_cache<S: AsRef<str>>(
        &self,
        tokens: &[u32],
        names: &[S],
        progress: &Progress,
    ) -> Result<ActivationCache> {
        let mut cache = ActivationCache::of(self.cfg().hook_points(), names)?;
        self.forward(&TokenBatch::single(tokens), None, &mut cache, progress)?;
        Ok(cache)
    }

    /// The logits of a sequence `[pos, d_vocab]` when activations are changed on the way.
    ///
    /// # Errors
    /// A hook that this model has not, whatever an edit returns, and as [`Model::forward`].
    pub fn run_with_hooks(&self, tokens: &[u32], mut edits: Edits, progress: &Progress) -> Result<Tensor> {
        let points = self.cfg().hook_points();
        for name in edits.names() {
            points.check(&name)?;
        }
        self.logits_of(tokens, &mut edits, progress)
    }

    fn logits_of(&self, tokens: &[u32], hooks: &mut dyn Hooks, progress: &Progress) -> Result<Tensor> {
        let logits = self.forward(&TokenBatch::single(tokens), None, hooks, progress)?;
        logits.ok_or_else(|| {
            Error::invalid("a pass for logits", "hooks that let it finish", "one that stops it")
        })
    }
}

impl std::fmt::Display for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let cfg = self.cfg();
        write!(
            f,
            "Model {} ({}): {} layers, d_model {}, {} heads, d_mlp {}, d_vocab {}, n_ctx {}{}{}",
            cfg.model_name,
            cfg.original_architecture,
            cfg.n_layers,
            cfg.d_model,
            cfg.n_heads,
            cfg.d_mlp,
            cfg.d_vocab,
            cfg.n_ctx,
            if self.inner.tokenizer.is_some() { "" } else { ", no tokenizer" },
            if cfg.has_unembed { "" } else { ", no unembedding" },
        )?;
        match self.inner.tokenizer.as_ref().map(|tokenizer| (tokenizer, tokenizer.special().bos)) {
            Some((tokenizer, Some(id))) => {
                let token = tokenizer.text_of(id).map_err(|_| std::fmt::Error)?;
                write!(f, "\n  BOS: `{token}`, id {id} (from {})", tokenizer.bos_from())
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
