//! Where a hook is called: the point, and what each row of its activation stands for.

use super::{HookName, TokenBatch};

/// A hook point in one pass, and the sequences that the pass reads.
///
/// The rows of an activation are the tokens of the batch, `[tokens, …]`. Only `hook_attn_scores` and `hook_pattern` have
/// heads first, `[n_heads, query_pos, key_pos]`; they exist for batches of one sequence.
#[derive(Debug, Clone, Copy)]
pub struct Site<'a> {
    /// The name of the point.
    pub name: HookName,
    /// The tokens of this pass, by sequence.
    pub batch: &'a TokenBatch,
    /// The position of each token in its sequence, `[tokens]`, counted from the sequence's beginning in the key-value cache.
    pub positions: &'a [u32],
    /// The token of the key-value cache that each sequence continues after, `[sequences]`; `None` for a sequence that
    /// begins in this pass.
    pub parents: &'a [Option<usize>],
}

/// What one row of an activation stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SiteRow {
    /// The sequence in the batch, counted from 0.
    pub sequence: usize,
    /// The position in the sequence, counted from 0.
    pub position: usize,
    /// The token's id.
    pub token: u32,
}

impl Site<'_> {
    /// What each row stands for, in the order of the rows.
    pub fn rows(&self) -> impl Iterator<Item = SiteRow> {
        let sequences = self.batch.sequences().enumerate();
        let sequences = sequences.flat_map(|(sequence, rows)| rows.map(move |_| sequence));
        let tokens = self.batch.tokens().iter().zip(self.positions);
        sequences.zip(tokens).map(|(sequence, (token, position))| SiteRow {
            sequence,
            position: *position as usize,
            token: *token,
        })
    }
}
