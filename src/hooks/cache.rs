//! Hooks that keep activations.

use super::{HookName, HookPoints, Hooks};
use crate::error::{Error, Result};
use candle_core::Tensor;
use std::collections::BTreeMap;
use std::path::Path;

/// The activations of one pass at the points that were asked for, by name, in the order of the pass.
#[derive(Debug, Clone)]
pub struct ActivationCache {
    wanted: Vec<HookName>,
    /// The points of the model, for names that mean different points in different models.
    points: Option<HookPoints>,
    activations: BTreeMap<HookName, Tensor>,
}

impl ActivationCache {
    /// An empty cache that wants these points.
    pub fn new(wanted: Vec<HookName>) -> Self {
        ActivationCache { wanted, points: None, activations: BTreeMap::new() }
    }

    /// An empty cache that wants the points of a model that these names and patterns mean; see [`HookPoints::select`].
    ///
    /// # Errors
    /// As [`HookPoints::select`].
    pub fn of<S: AsRef<str>>(points: HookPoints, patterns: &[S]) -> Result<Self> {
        let wanted = points.select(patterns)?;
        Ok(ActivationCache { points: Some(points), ..ActivationCache::new(wanted) })
    }

    /// The activation at `name`, TransformerLens' or another library's name for a point.
    ///
    /// # Errors
    /// A point that was not asked for; the hint lists those that were.
    pub fn get(&self, name: &str) -> Result<&Tensor> {
        let point = match &self.points {
            Some(points) => points.find(name),
            None => name.parse(),
        };
        let found = point.ok().and_then(|point: HookName| self.activations.get(&point));
        found.ok_or_else(|| Error::Unknown {
            kind: "activation",
            name: name.to_owned(),
            place: "this cache".to_owned(),
            known: self.names().map(|n| n.to_string()).collect(),
        })
    }

    /// The names of what is kept, in the order of the pass.
    pub fn names(&self) -> impl Iterator<Item = HookName> {
        self.activations.keys().copied()
    }

    /// Names and activations, in the order of the pass.
    pub fn iter(&self) -> impl Iterator<Item = (HookName, &Tensor)> {
        self.activations.iter().map(|(name, activation)| (*name, activation))
    }

    /// Takes one activation out of the cache.
    pub fn take(&mut self, name: &HookName) -> Option<Tensor> {
        self.activations.remove(name)
    }

    /// Writes all activations to a safetensors file, each under its name.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let tensors = self.iter().map(|(name, tensor)| (name.to_string(), tensor.clone()));
        crate::tensors::save_safetensors(tensors, path)
    }
}

impl Hooks for ActivationCache {
    fn wants(&self, name: &HookName) -> bool {
        self.wanted.contains(name)
    }

    fn on(&mut self, name: &HookName, activation: Tensor) -> Result<Tensor> {
        self.activations.insert(*name, activation.clone());
        Ok(activation)
    }

    fn last(&self) -> Option<HookName> {
        self.wanted.iter().max().copied()
    }
}

impl std::fmt::Display for ActivationCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ActivationCache, {} activations", self.activations.len())?;
        for (name, tensor) in self.iter() {
            write!(f, "\n  {name} {:?}", tensor.dims())?;
        }
        Ok(())
    }
}
