//! Counts the active features of a run.

use super::consumer::Consumer;
use super::windows::Context;
use crate::error::Result;
use crate::sae::FeatureActs;

/// Counts active features at tokens other than the BOS.
pub(crate) struct CountFeatures;

/// The active features of a run.
pub(crate) struct FeatureCounts {
    tokens: u64,
    active: u64,
    /// Whether each feature was active, `[d_sae]`.
    seen: Vec<bool>,
}

impl FeatureCounts {
    pub(crate) fn new(d_sae: usize) -> Self {
        FeatureCounts { tokens: 0, active: 0, seen: vec![false; d_sae] }
    }

    /// The mean number of active features per token.
    pub(crate) fn mean_l0(&self) -> f64 {
        self.active as f64 / self.tokens.max(1) as f64
    }

    /// The number of features that were active at least once.
    pub(crate) fn features_seen(&self) -> u64 {
        self.seen.iter().filter(|seen| **seen).count() as u64
    }
}

impl Consumer for CountFeatures {
    /// The number of tokens, and their active features.
    type Part = (u64, Vec<u32>);
    type State = FeatureCounts;

    fn reduce(&self, contexts: &[Context], acts: &FeatureActs) -> Result<Self::Part> {
        let rows = || contexts.iter().flat_map(Context::rows_after_bos);
        Ok((rows().count() as u64, rows().flat_map(|row| acts.at(row).0).copied().collect()))
    }

    fn fold(&self, counts: &mut FeatureCounts, (tokens, active): Self::Part) -> Result<()> {
        counts.tokens += tokens;
        counts.active += active.len() as u64;
        active.iter().for_each(|feature| counts.seen[*feature as usize] = true);
        Ok(())
    }
}
