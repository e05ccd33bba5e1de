//! Hooks that keep activations: [`ActivationCache`].

use super::{HookName, HookPoints, Hooks, Site};
use crate::error::{Error, Result};
use candle_core::{DType, Device, Tensor};
use std::collections::BTreeMap;
use std::path::Path;

/// The activations of one pass at the requested points, in f32 and on the CPU, by name, in the order of the pass.
#[derive(Debug, Clone)]
pub struct ActivationCache {
    wanted: Vec<HookName>,
    /// The points of the model, for names that mean different points in different models.
    points: Option<HookPoints>,
    activations: BTreeMap<HookName, Tensor>,
    /// Whether they stay on the model's device.
    stay: bool,
}

impl ActivationCache {
    /// An empty cache for these points.
    pub fn new(wanted: Vec<HookName>) -> Self {
        ActivationCache { wanted, points: None, activations: BTreeMap::new(), stay: false }
    }

    /// The cache, whose activations stay on the model's device.
    pub(crate) fn on_device(self) -> Self {
        ActivationCache { stay: true, ..self }
    }

    /// An empty cache for the points of a model that names and patterns select; see [`HookPoints::select`].
    ///
    /// # Errors
    /// As [`HookPoints::select`].
    pub fn of<S: AsRef<str>>(points: HookPoints, patterns: &[S]) -> Result<Self> {
        let wanted = points.select(patterns)?;
        Ok(ActivationCache { points: Some(points), ..ActivationCache::new(wanted) })
    }

    /// Returns the activation at `name`, TransformerLens' or another library's name of a point.
    ///
    /// # Errors
    /// The point was not requested; the hint lists the points that were.
    pub fn get(&self, name: &str) -> Result<&Tensor> {
        let point = match &self.points {
            Some(points) => points.find(name),
            None => name.parse(),
        };
        let found = point.ok().and_then(|point: HookName| self.activations.get(&point));
        found.ok_or_else(|| {
            Error::unknown("activation", name, self.names().map(|n| n.to_string())).with_place("this cache")
        })
    }

    /// The names of the kept activations, in the order of the pass.
    pub fn names(&self) -> impl Iterator<Item = HookName> {
        self.activations.keys().copied()
    }

    /// Names and activations, in the order of the pass.
    pub fn iter(&self) -> impl Iterator<Item = (HookName, &Tensor)> {
        self.activations.iter().map(|(name, activation)| (*name, activation))
    }

    /// Removes an activation from the cache and returns it.
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

    fn on(&mut self, site: &Site, activation: Tensor) -> Result<Tensor> {
        let kept = if self.stay { activation.clone() } else { activation.to_device(&Device::Cpu)? };
        self.activations.insert(site.name, kept.to_dtype(DType::F32)?);
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
