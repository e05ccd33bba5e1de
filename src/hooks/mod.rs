//! Hooks: reading and changing activations at named points of a forward pass.
//!
//! A pass calls one [`Hooks`] with every activation that it wants. Nothing is registered on a model: hooks
//! live exactly as long as the call. The names and shapes are TransformerLens' ([`HookPoint`]), without the batch axis.

mod batch;
mod cache;
mod edit;
mod name;
mod points;
mod site;
mod space;
mod spelling;

pub use batch::TokenBatch;
pub use cache::ActivationCache;
pub use edit::Edits;
pub use name::{HookName, HookPoint};
pub use points::HookPoints;
pub use site::{Site, SiteRow};
pub use space::Space;
pub use spelling::hook_name_of;
pub(crate) use spelling::usual_point;

use crate::error::Result;
use candle_core::Tensor;

/// What a forward pass does at its hook points.
///
/// A hook gets the activation as the model computes it: contiguous, on the model's device and in its compute type (today
/// f32 on the CPU). It returns one of the same shape, device and type; one that it only reads, it returns as it is.
/// [`ActivationCache`] keeps f32 on the host, whatever the model computes in.
///
/// A pair of hooks is a hook, so that one pass can change activations and keep them: the first is called first, and the
/// second sees what the first returned.
///
/// ```
/// # fn main() -> saescope::Result<()> {
/// use saescope::hooks::{ActivationCache, Edits, HookPoint, TokenBatch};
/// use saescope::{HookName, Model, Progress};
///
/// let model = Model::load("demo")?;
/// let batch = TokenBatch::single(&model.to_tokens("a small boat", None)?);
/// let mlp_out = HookName::in_block(3, HookPoint::MlpOut);
/// let resid_post = HookName::in_block(3, HookPoint::ResidPost);
/// let without_mlp = Edits::new().with(mlp_out, |out| Ok(out.zeros_like()?));
/// let mut cache = ActivationCache::new(vec![resid_post]);
/// let logits = model.forward(&batch, None, &mut (without_mlp, &mut cache), &Progress::default())?;
/// assert_eq!(cache.get("blocks.3.hook_resid_post")?.dims(), [batch.len(), model.cfg().d_model]);
/// # Ok(())
/// # }
/// ```
pub trait Hooks {
    /// Whether the activation at `name` is wanted. A pass may skip work whose results are unused, such as attention
    /// patterns, and fuse the operators between two points.
    fn wants(&self, name: &HookName) -> bool;

    /// Receives the activation at a wanted point and returns the one that the pass continues with.
    ///
    /// # Errors
    /// Any error that it returns ends the pass.
    fn on(&mut self, site: &Site, activation: Tensor) -> Result<Tensor>;

    /// The deepest wanted point, after which [`Model::run_until`](crate::Model::run_until) stops; `None` if it must run to
    /// the end.
    fn last(&self) -> Option<HookName>;
}

/// No hooks: nothing is read or changed.
impl Hooks for () {
    fn wants(&self, _: &HookName) -> bool {
        false
    }

    fn on(&mut self, _: &Site, activation: Tensor) -> Result<Tensor> {
        Ok(activation)
    }

    fn last(&self) -> Option<HookName> {
        None
    }
}

/// Hooks that are used elsewhere after the pass.
impl<H: Hooks + ?Sized> Hooks for &mut H {
    fn wants(&self, name: &HookName) -> bool {
        (**self).wants(name)
    }

    fn on(&mut self, site: &Site, activation: Tensor) -> Result<Tensor> {
        (**self).on(site, activation)
    }

    fn last(&self) -> Option<HookName> {
        (**self).last()
    }
}

/// Both hooks, one after the other.
impl<A: Hooks, B: Hooks> Hooks for (A, B) {
    fn wants(&self, name: &HookName) -> bool {
        self.0.wants(name) || self.1.wants(name)
    }

    fn on(&mut self, site: &Site, mut activation: Tensor) -> Result<Tensor> {
        if self.0.wants(&site.name) {
            activation = self.0.on(site, activation)?;
        }
        if self.1.wants(&site.name) {
            activation = self.1.on(site, activation.contiguous()?)?;
        }
        Ok(activation)
    }

    fn last(&self) -> Option<HookName> {
        Some(self.0.last()?.max(self.1.last()?))
    }
}
