//! Hooks: reading and changing activations at named points of a forward pass.
//!
//! A pass calls one [`Hooks`] with every activation that it wants. Nothing is registered on a model: hooks
//! live exactly as long as the call. The names and shapes are TransformerLens' ([`HookPoint`]), without the batch axis.

mod cache;
mod edit;
mod name;
mod points;
mod space;
mod spelling;

pub use cache::ActivationCache;
pub use edit::Edits;
pub use name::{HookName, HookPoint};
pub use points::HookPoints;
pub use space::Space;
pub use spelling::hook_name_of;
pub(crate) use spelling::usual_point;

use crate::error::Result;
use candle_core::Tensor;

/// What a forward pass does at its hook points.
pub trait Hooks {
    /// Whether the activation at `name` is wanted. A pass may skip work whose results are unused, such as attention
    /// patterns, and fuse the operators between two points.
    fn wants(&self, name: &HookName) -> bool;

    /// Receives the activation at a wanted point and returns the one that the pass continues with.
    ///
    /// # Errors
    /// Any error that it returns ends the pass.
    fn on(&mut self, name: &HookName, activation: Tensor) -> Result<Tensor>;

    /// The deepest wanted point, if the pass may stop after it; `None` if the pass must run to the end.
    fn last(&self) -> Option<HookName>;
}

/// No hooks: nothing is read or changed.
impl Hooks for () {
    fn wants(&self, _: &HookName) -> bool {
        false
    }

    fn on(&mut self, _: &HookName, activation: Tensor) -> Result<Tensor> {
        Ok(activation)
    }

    fn last(&self) -> Option<HookName> {
        None
    }
}
