//! The input of a forward pass: sequences of token ids, end to end.

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
}
