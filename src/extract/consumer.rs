//! Consumers: what is computed from the feature activations of a dataset.

use super::windows::Context;
use crate::error::Result;
use crate::sae::FeatureActs;

/// Computes something from the feature activations of a dataset, in one pass of [`visit_feature_acts`]: the file of a
/// feature dataset, counts, statistics. A pair of consumers is a consumer, so that several share a pass.
///
/// The pass runs in batches. Each becomes a part on one of several threads, and the parts are folded into the state on
/// the thread of the caller, in the order of the documents. A batch ends between two contexts, not between two documents: the
/// contexts of one document may be in two parts. The consumer itself is what both steps know, such as
/// options; it does not change, so a part cannot depend on what was folded before it.
///
/// The batches depend on `batch_size`; the final state must not. The order of additions changes a sum of floats, so
/// `reduce` may add them up within a context only, and `fold` adds the sums of the contexts.
///
/// [`visit_feature_acts`]: crate::visit_feature_acts
pub trait Consumer: Sync {
    /// What is kept of a batch. Several are in memory at a time.
    type Part: Send;
    /// What the parts are folded into.
    type State;

    /// Reduces a batch to a part. `acts` has a row for each token, at [`Context::rows`].
    ///
    /// # Errors
    /// Any error; it ends the pass.
    fn reduce(&self, contexts: &[Context], acts: &FeatureActs) -> Result<Self::Part>;

    /// Adds the part of the next batch to the state.
    ///
    /// # Errors
    /// Any error; it ends the pass.
    fn fold(&self, state: &mut Self::State, part: Self::Part) -> Result<()>;
}

impl<A: Consumer, B: Consumer> Consumer for (A, B) {
    type Part = (A::Part, B::Part);
    type State = (A::State, B::State);

    fn reduce(&self, contexts: &[Context], acts: &FeatureActs) -> Result<Self::Part> {
        Ok((self.0.reduce(contexts, acts)?, self.1.reduce(contexts, acts)?))
    }

    fn fold(&self, state: &mut Self::State, part: Self::Part) -> Result<()> {
        self.0.fold(&mut state.0, part.0)?;
        self.1.fold(&mut state.1, part.1)
    }
}
