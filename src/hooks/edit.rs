//! Hooks that change activations.

use super::{HookName, Hooks, Site};
use crate::error::{Error, Result};
use candle_core::Tensor;

/// A change to one activation: takes it and returns one of the same shape.
type Edit<'a> = Box<dyn FnMut(Tensor) -> Result<Tensor> + 'a>;

/// Changes to activations at named points; several at one point run in the order in which they were added.
#[derive(Default)]
pub struct Edits<'a> {
    edits: Vec<(HookName, Edit<'a>)>,
}

impl<'a> Edits<'a> {
    /// No changes yet.
    pub fn new() -> Self {
        Edits::default()
    }

    /// Adds a change at `name`.
    ///
    /// ```
    /// use saescope::hooks::{Edits, HookPoint};
    /// use saescope::HookName;
    ///
    /// let zero_the_mlp = Edits::new().with(HookName::in_block(3, HookPoint::MlpOut), |out| Ok(out.zeros_like()?));
    /// ```
    #[must_use]
    pub fn with(mut self, name: HookName, edit: impl FnMut(Tensor) -> Result<Tensor> + 'a) -> Self {
        self.edits.push((name, Box::new(edit)));
        self
    }

    /// The names of the changed points.
    pub fn names(&self) -> impl Iterator<Item = HookName> {
        self.edits.iter().map(|(name, _)| *name)
    }
}

impl Hooks for Edits<'_> {
    fn wants(&self, name: &HookName) -> bool {
        self.edits.iter().any(|(n, _)| n == name)
    }

    fn on(&mut self, site: &Site, mut activation: Tensor) -> Result<Tensor> {
        let name = site.name;
        let dtype = activation.dtype();
        for (_, edit) in self.edits.iter_mut().filter(|(n, _)| *n == name) {
            let expected = activation.dims().to_vec();
            activation = edit(activation)?;
            let got = activation.dims();
            if got != expected {
                return Err(Error::mismatch(
                    format!("the edit at `{name}` must keep the shape: expected {expected:?}, got {got:?}"),
                    "return the complete activation, with your changes in it",
                ));
            }
            activation = activation.to_dtype(dtype)?.contiguous()?;
        }
        Ok(activation)
    }

    fn last(&self) -> Option<HookName> {
        None
    }
}

impl std::fmt::Debug for Edits<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}
