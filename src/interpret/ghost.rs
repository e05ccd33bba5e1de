//! Ghost tokens in a forward pass: where a vector is injected, and what steering adds.

use super::prompt::Prompt;
use super::tree::{Injection, TreeOptions};
use super::vector::FeatureVector;
use crate::error::{Error, Result};
use crate::hooks::{HookName, HookPoint, Hooks, Site, SiteRow, Space};
use crate::linalg::row_norm;
use crate::model::Model;
use candle_core::{DType, Tensor};

/// The ghost token of one prompt.
#[derive(Debug, Clone)]
pub(super) struct Ghost {
    /// What replaces an activation, `[d_model]`.
    pub(super) vector: Vec<f32>,
    /// `scale · direction`, `[d_model]`.
    pub(super) scaled_direction: Vec<f32>,
    /// What is added to the residual stream when steering, `[d_model]`.
    pub(super) steer: Option<Vec<f32>>,
}

/// Several ghosts, each in its own copy of a prompt, and how they are injected.
#[derive(Debug)]
pub(super) struct Ghosts<'a> {
    ghosts: Vec<Ghost>,
    prompt: &'a Prompt,
    inject_at: HookName,
    inject: Injection,
    embed_scale: f32,
    /// The embedding at the ghost's positions before the injection, `[d_model]`. `None` with a placeholder token.
    background: Option<Vec<f32>>,
    steer_at: Option<HookName>,
}

impl Ghost {
    /// The ghost of a vector, with the steering of the options.
    pub(super) fn new(vector: &FeatureVector, options: &TreeOptions) -> Self {
        let scale = vector.params.scale as f32;
        let steer = options.steer.as_ref().map(|steer| {
            let own = || vector.decoder.clone().unwrap_or_else(|| unit(&vector.direction));
            let direction = steer.direction.clone().unwrap_or_else(own);
            direction.iter().map(|x| x * steer.coefficient as f32).collect()
        });
        Ghost {
            vector: vector.vector.clone(),
            scaled_direction: vector.direction.iter().map(|x| x * scale).collect(),
            steer,
        }
    }
}

impl<'a> Ghosts<'a> {
    /// Ghosts that are injected into a model as the options say.
    ///
    /// # Errors
    /// A hook of the options is not one of the model's residual stream; the direction of `steer` is not `[d_model]`.
    pub(super) fn new(
        model: &Model,
        prompt: &'a Prompt,
        options: &TreeOptions,
        ghosts: Vec<Ghost>,
        centroid: &[f32],
    ) -> Result<Self> {
        let d_model = model.cfg().d_model;
        let given = options.steer.as_ref().and_then(|steer| steer.direction.as_ref());
        if let Some(direction) = given.filter(|direction| direction.len() != d_model) {
            let expected = format!("d_model = {d_model} values");
            return Err(Error::invalid("the direction of `steer`", expected, direction.len()));
        }
        let inject_at = match &options.inject_at {
            None => HookName::global(HookPoint::Embed),
            Some(name) => stream_hook(model, "`inject_at`", name)?,
        };
        let steer_at =
            options.steer.as_ref().map(|steer| stream_hook(model, "`steer`", &steer.hook)).transpose()?;
        Ok(Ghosts {
            ghosts,
            prompt,
            inject_at,
            inject: options.inject,
            embed_scale: model.cfg().embed_scale as f32,
            background: options.placeholder.is_none().then(|| centroid.to_vec()),
            steer_at,
        })
    }

    /// The number of ghosts.
    pub(super) fn len(&self) -> usize {
        self.ghosts.len()
    }

    /// The token ids of the prompt.
    pub(super) fn prompt(&self) -> &[u32] {
        &self.prompt.tokens
    }

    /// The hooks for a pass over the prompt of every ghost, a sequence each.
    pub(super) fn prompt_hooks(&self) -> impl Hooks {
        PassHooks { ghosts: self, ghost_of: (0..self.ghosts.len()).collect(), injects: true }
    }

    /// The hooks for a pass over tokens after the prompts, where `ghosts[i]` is the ghost of sequence `i`.
    pub(super) fn continuation_hooks(&self, ghosts: Vec<usize>) -> impl Hooks {
        PassHooks { ghosts: self, ghost_of: ghosts, injects: false }
    }
}

/// Finds a hook of the residual stream, or of what attention or an MLP adds to it.
pub(super) fn stream_hook(model: &Model, option: &str, name: &str) -> Result<HookName> {
    let names = model.cfg().hook_points().select(&[name])?;
    match names[..] {
        [hook] if hook.point().space() == Space::Residual => Ok(hook),
        _ => Err(Error::invalid(option, "one hook of the residual stream", format!("`{name}`"))
            .with_hint("such as \"blocks.2.hook_resid_pre\"; `hook_attn_out` and `hook_mlp_out` also work")),
    }
}

/// Scales a vector to unit length; a zero vector stays zero.
pub(super) fn unit(x: &[f32]) -> Vec<f32> {
    let norm = row_norm(x);
    x.iter().map(|x| if norm > 0.0 { (f64::from(*x) / norm) as f32 } else { 0.0 }).collect()
}

/// The hooks of one pass.
struct PassHooks<'a> {
    ghosts: &'a Ghosts<'a>,
    /// The ghost of each sequence.
    ghost_of: Vec<usize>,
    /// Whether the pass reads the prompts, with the ghosts' positions.
    injects: bool,
}

impl PassHooks<'_> {
    /// Edits one row of an activation, `[d_model]`.
    fn edit(&self, name: HookName, row: SiteRow, x: &mut [f32]) {
        let Ghosts { prompt, inject_at, inject, embed_scale, background, steer_at, .. } = self.ghosts;
        let ghost = &self.ghosts.ghosts[self.ghost_of[row.sequence]];
        let scale = if name.point() == HookPoint::Embed { *embed_scale } else { 1.0 };
        if prompt.ghosts.contains(&row.position) {
            if let (HookPoint::Embed, Some(background)) = (name.point(), background) {
                x.iter_mut().zip(background).for_each(|(x, b)| *x = b * scale);
            }
            if name == *inject_at {
                let norm = row_norm(x) as f32;
                match inject {
                    Injection::Replace => x.iter_mut().zip(&ghost.vector).for_each(|(x, v)| *x = v * scale),
                    Injection::Add => {
                        x.iter_mut().zip(&ghost.scaled_direction).for_each(|(x, d)| *x += d * scale);
                    }
                    Injection::NormMatched => {
                        x.iter_mut().zip(unit(&ghost.scaled_direction)).for_each(|(x, d)| *x += d * norm);
                    }
                }
            }
        }
        let is_bos = prompt.has_bos && row.position == 0;
        if let (true, false, Some(steer)) = (Some(name) == *steer_at, is_bos, &ghost.steer) {
            x.iter_mut().zip(steer).for_each(|(x, s)| *x += s);
        }
    }
}

impl Hooks for PassHooks<'_> {
    fn wants(&self, name: &HookName) -> bool {
        let injects = *name == self.ghosts.inject_at
            || name.point() == HookPoint::Embed && self.ghosts.background.is_some();
        self.injects && injects || Some(*name) == self.ghosts.steer_at
    }

    fn on(&mut self, site: &Site, activation: Tensor) -> Result<Tensor> {
        let (n, d_model) = activation.dims2()?;
        let mut values = activation.flatten_all()?.to_dtype(DType::F32)?.to_vec1::<f32>()?;
        for (row, x) in site.rows().zip(values.chunks_exact_mut(d_model)) {
            self.edit(site.name, row, x);
        }
        Ok(Tensor::from_vec(values, (n, d_model), activation.device())?.to_dtype(activation.dtype())?)
    }

    fn last(&self) -> Option<HookName> {
        None
    }
}
