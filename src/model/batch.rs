//! The input of a forward pass: sequences of token ids, end to end.

use super::config::ModelConfig;
use crate::error::{Error, Result};
use std::ops::Range;

/// The token ids of several sequences, one after the other, without padding. Activations are `[tokens, …]`; positions
/// and attention start again with each sequence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenBatch {
    tokens: Vec<u32>,
    ends: Vec<usize>,
}

impl TokenBatch {
    /// A batch of one sequence.
    pub fn single(tokens: &[u32]) -> Self {
        let mut batch = TokenBatch::default();
        batch.push(tokens);
        batch
    }

    /// Adds a sequence.
    pub fn push(&mut self, tokens: &[u32]) {
        self.tokens.extend_from_slice(tokens);
        self.ends.push(self.tokens.len());
    }

    /// All token ids.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The number of tokens.
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether there are no tokens.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The range of each sequence in [`TokenBatch::tokens`].
    pub fn sequences(&self) -> impl ExactSizeIterator<Item = Range<usize>> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| start..*end).collect::<Vec<_>>().into_iter()
    }

    /// Checks that a model can read this: known token ids, and sequences that fit after `past(i)` earlier tokens each.
    ///
    /// # Errors
    /// No tokens; an id outside the vocabulary; a sequence longer than the context.
    pub(super) fn check(&self, cfg: &ModelConfig, past: impl Fn(usize) -> usize) -> Result<()> {
        if self.is_empty() {
            return Err(Error::invalid("the input", "at least one token", "none")
                .with_hint("the text is empty; with `prepend_bos: true` it would be only a BOS token"));
        }
        if let Some((pos, token)) = self.tokens.iter().enumerate().find(|(_, t)| **t as usize >= cfg.d_vocab)
        {
            return Err(Error::invalid(
                format!("the token at position {pos}"),
                format!("an id below d_vocab = {}", cfg.d_vocab),
                token,
            )
            .with_hint("the tokens, or the tokenizer next to the weights, belong to another model"));
        }
        let longest = self.sequences().enumerate().map(|(i, s)| s.len() + past(i)).max();
        if let Some(longest) = longest.filter(|n| *n > cfg.n_ctx) {
            return Err(Error::invalid(
                "the input",
                format!("at most n_ctx = {} tokens", cfg.n_ctx),
                longest,
            )
            .with_hint("shorten the text, or run it in several pieces"));
        }
        Ok(())
    }
}
