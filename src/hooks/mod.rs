//! What happens at named points of a forward pass: reading activations and changing them.
//!
//! A pass is given one [`Hooks`] and offers it every activation that it wants. Nothing is registered on a model: hooks
//! live exactly as long as the call. The names and shapes are TransformerLens' ([`HookPoint`]), without the batch axis.

mod cache;
mod edit;
mod name;
mod points;
mod spelling;

pub use cache::ActivationCache;
pub use edit::Edits;
pub use name::{HookName, HookPoint};
pub use points::HookPoints;
pub use spelling::hook_name_of;
pub(crate) use spelling::usual_point;

use crate::error::Result;
use candle_core::Tensor;

/// What a forward pass does at its hook points.
pub trait Hooks {
    /// Whether the activation at `name` is asked for. A pass may skip work whose results nobody asks for, such as
    /// attention patterns, and fuse what lies between two points.
    fn wants(&self, name: &HookName) -> bool;

    /// Receives the activation at a wanted point and returns the one that the pass goes on with.
    ///
    /// # Errors
    /// Whatever it returns ends the pass.
    fn on(&mut self, name: &HookName, activation: Tensor) -> Result<Tensor>;

    /// The deepest point that is asked for, if the pass may stop behind it; nothing beyond is then computed.
    fn last(&self) -> Option<HookName>;
}

/// No hooks: the plain pass.
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
