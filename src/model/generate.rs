//! Text generation: sampling token by token over a key-value cache.

use super::{KeyValueCache, Model, TokenBatch};
use crate::error::{Error, Result};
use crate::hooks::Hooks;
use crate::progress::Progress;
use candle_transformers::generation::{LogitsProcessor, Sampling};
use saescope_options::options;

options! {
    /// Options for sampling. The sampling itself is done by candle-transformers.
    pub struct GenerateOptions {
        /// The maximum number of new tokens. Default: 40.
        pub max_new_tokens: usize = 40,
        /// The divisor of the logits: higher is more adventurous, 0 always takes the likeliest token. Default: 0.8.
        pub temperature: f64 = 0.8,
        /// The number of likeliest tokens to sample from; 0 for all. Default: 0.
        pub top_k: usize = 0,
        /// Samples from the smallest set of likeliest tokens with this total probability; 1 for all. Default: 1.0.
        pub top_p: f64 = 1.0,
        /// The random seed: the same seed gives the same text. Default: 0.
        pub seed: u64 = 0,
        /// Whether to stop after the end-of-text token. Default: true.
        pub stop_at_eos: bool = true,
        /// Whether to prepend a beginning-of-sequence token. Default: the model's `default_prepend_bos`.
        pub prepend_bos: Option<bool> = None,
    }
}

impl GenerateOptions {
    fn sampling(&self) -> Result<Sampling> {
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return Err(Error::invalid("`temperature`", "a finite number, 0 or more", self.temperature));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err(Error::invalid("`top_p`", "a number above 0 and at most 1", self.top_p));
        }
        let temperature = self.temperature;
        Ok(match (temperature < 1e-7, self.top_k, self.top_p < 1.0) {
            (true, _, _) | (_, 1, _) => Sampling::ArgMax,
            (_, 0, false) => Sampling::All { temperature },
            (_, 0, true) => Sampling::TopP { p: self.top_p, temperature },
            (_, k, false) => Sampling::TopK { k, temperature },
            (_, k, true) => Sampling::TopKThenTopP { k, p: self.top_p, temperature },
        })
    }
}

impl Model {
    /// Continues `tokens` and returns only the new tokens. Each step reads one token over a key-value cache, so that
    /// hooks see the prompt `[pos, …]` first and then one position at a time, `[1, …]`.
    ///
    /// Stops at the end of the model's context, after `max_new_tokens`, or after the end-of-text token.
    ///
    /// ```
    /// # fn main() -> saescope::Result<()> {
    /// use saescope::prelude::*;
    ///
    /// let model = Model::load("demo")?;
    /// let tokens = model.to_tokens("a small boat", None)?;
    /// let options = GenerateOptions { max_new_tokens: 5, temperature: 0.0, ..Default::default() };
    /// let new = model.generate(&tokens, &options, &mut (), &Progress::default())?;
    /// println!("{}", model.to_string(&new)?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Options out of range, and as [`Model::forward`].
    pub fn generate(
        &self,
        tokens: &[u32],
        options: &GenerateOptions,
        hooks: &mut dyn Hooks,
        progress: &Progress,
    ) -> Result<Vec<u32>> {
        let prompt = TokenBatch::single(tokens);
        self.cfg().check(&prompt, |_| 0)?;
        self.cfg().check(&prompt, |_| 1).map_err(|error| {
            error.with_hint("generation needs room for a token after the prompt: shorten it")
        })?;
        let mut sampler = LogitsProcessor::from_sampling(options.seed, options.sampling()?);
        let end = self.tokenizer().ok().and_then(|t| t.special().eos).filter(|_| options.stop_at_eos);
        let mut cache = KeyValueCache::default();
        let mut next = tokens.to_vec();
        let mut new = Vec::new();
        while new.len() < options.max_new_tokens && tokens.len() + new.len() < self.cfg().n_ctx {
            let last = self.next_logits(&next, &mut cache, hooks, progress)?; // [d_vocab]
            // Hooks may forbid tokens with -inf, but not all of them.
            if !last.max(0)?.to_scalar::<f32>()?.is_finite() || last.sum_all()?.to_scalar::<f32>()?.is_nan() {
                let at = tokens.len() + new.len();
                return Err(Error::NotFinite {
                    message: format!("the logits at position {at} are not finite"),
                });
            }
            let token = sampler.sample(&last)?;
            new.push(token);
            if Some(token) == end {
                break;
            }
            next = vec![token];
        }
        Ok(new)
    }
}
