//! Ghost tokens in a forward pass: where a vector goes in, and what is added on the way.

use super::prompt::Prompt;
use super::tree::{Injection, TreeOptions};
use super::vector::FeatureVector;
use crate::error::{Error, Result};
use crate::hooks::{HookName, HookPoint, Hooks};
use crate::linalg::squared_norm;
use crate::model::Model;
use candle_core::{Device, Tensor};

/// What one prompt's ghost is.
#[derive(Debug, Clone)]
pub(super) struct Ghost {
    /// `[d_model]`.
    pub(super) vector: Vec<f32>,
    /// How far the vector goes, times where to, `[d_model]`.
    pub(super) reach: Vec<f32>,
    /// What is added to the residual stream, if anything is, `[d_model]`.
    pub(super) steer: Option<Vec<f32>>,
}

/// Several ghosts in one prompt each, and how they go in.
#[derive(Debug)]
pub(super) struct Ghosts<'a> {
    ghosts: Vec<Ghost>,
    prompt: &'a Prompt,
    at: HookName,
    how: Injection,
    embed_scale: f32,
    /// What is at the ghost's place before, `[d_model]`, unless a placeholder is.
    background: Option<Vec<f32>>,
    steer_at: Option<HookName>,
}

impl Ghost {
    /// A vector's, steered as the options say.
    pub(super) fn new(vector: &FeatureVector, options: &TreeOptions) -> Self {
        let scale = vector.params.scale as f32;
        let steer = options.steer.as_ref().map(|steer| {
            let own = || vector.decoder.clone().unwrap_or_else(|| unit(&vector.direction));
            let direction = steer.direction.clone().unwrap_or_else(own);
            direction.iter().map(|x| x * steer.coefficient as f32).collect()
        });
        Ghost {
            vector: vector.vector.clone(),
            reach: vector.direction.iter().map(|x| x * scale).collect(),
            steer,
        }
    }
}

impl<'a> Ghosts<'a> {
    /// Ghosts as the options put them into a model.
    ///
    /// # Errors
    /// A hook that the model has not, or where there is no residual stream; vectors of another width.
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
            let expected = format!("d_model = {d_model} numbers");
            return Err(Error::invalid("the direction of `steer`", expected, direction.len()));
        }
        let at = match &options.inject_at {
            None => HookName::global(HookPoint::Embed),
            Some(name) => stream_hook(model, "`inject_at`", name)?,
        };
        let steer_at =
            options.steer.as_ref().map(|steer| stream_hook(model, "`steer`", &steer.hook)).transpose()?;
        Ok(Ghosts {
            ghosts,
            prompt,
            at,
            how: options.inject,
            embed_scale: model.cfg().embed_scale as f32,
            background: options.placeholder.is_none().then(|| centroid.to_vec()),
            steer_at,
        })
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.ghosts.len()
    }

    /// The tokens of the prompt.
    pub(super) fn prompt(&self) -> &[u32] {
        &self.prompt.tokens
    }

    /// The hooks of a pass over every ghost's prompt.
    pub(super) fn in_prompts(&self) -> impl Hooks {
        let prompts = (0..self.ghosts.len())
            .flat_map(|ghost| (0..self.prompt.tokens.len()).map(move |pos| (ghost, Some(pos))));
        PassHooks { ghosts: self, rows: prompts.collect() }
    }

    /// The hooks of a pass over tokens behind the prompts, given the ghost of each.
    pub(super) fn behind_prompts(&self, ghosts: &[usize]) -> impl Hooks {
        PassHooks { ghosts: self, rows: ghosts.iter().map(|ghost| (*ghost, None)).collect() }
    }
}

/// A hook of the residual stream, or of what is added to it.
pub(super) fn stream_hook(model: &Model, option: &str, name: &str) -> Result<HookName> {
    use HookPoint::{AttnOut, Embed, MlpOut, ResidMid, ResidPost, ResidPre};
    let names = model.cfg().hook_points().select(&[name])?;
    match names[..] {
        [hook] if [Embed, ResidPre, ResidMid, ResidPost, AttnOut, MlpOut].contains(&hook.point()) => Ok(hook),
        _ => Err(Error::invalid(option, "one hook of the residual stream", format!("`{name}`")).with_hint(
            "such as \"blocks.2.hook_resid_pre\"; `hook_attn_out` and `hook_mlp_out` will do as well",
        )),
    }
}

/// A vector at unit length; zeros stay zeros.
pub(super) fn unit(x: &[f32]) -> Vec<f32> {
    let norm = squared_norm(x).sqrt();
    x.iter().map(|x| if norm > 0.0 { (f64::from(*x) / norm) as f32 } else { 0.0 }).collect()
}

/// What happens in one pass.
struct PassHooks<'a> {
    ghosts: &'a Ghosts<'a>,
    /// Of each row its ghost, and its position if it is in the prompt.
    rows: Vec<(usize, Option<usize>)>,
}

impl PassHooks<'_> {
    fn is_in_prompt(&self) -> bool {
        self.rows.first().is_some_and(|(_, pos)| pos.is_some())
    }

    /// Changes the activation `[d_model]` of one row.
    fn edit(&self, name: &HookName, (ghost, pos): (usize, Option<usize>), x: &mut [f32]) {
        let Ghosts { prompt, at, how, embed_scale, background, steer_at, .. } = self.ghosts;
        let ghost = &self.ghosts.ghosts[ghost];
        let scale = if name.point() == HookPoint::Embed { *embed_scale } else { 1.0 };
        if pos.is_some_and(|pos| prompt.ghosts.contains(&pos)) {
            if let (HookPoint::Embed, Some(background)) = (name.point(), background) {
                x.iter_mut().zip(background).for_each(|(x, b)| *x = b * scale);
            }
            if name == at {
                let far = squared_norm(x).sqrt() as f32;
                match how {
                    Injection::Replace => x.iter_mut().zip(&ghost.vector).for_each(|(x, v)| *x = v * scale),
                    Injection::Add => x.iter_mut().zip(&ghost.reach).for_each(|(x, r)| *x += r * scale),
                    Injection::NormMatched => {
                        x.iter_mut().zip(unit(&ghost.reach)).for_each(|(x, r)| *x += r * far);
                    }
                }
            }
        }
        let is_bos = prompt.has_bos && pos == Some(0);
        if let (true, false, Some(steer)) = (Some(*name) == *steer_at, is_bos, &ghost.steer) {
            x.iter_mut().zip(steer).for_each(|(x, s)| *x += s);
        }
    }
}

impl Hooks for PassHooks<'_> {
    fn wants(&self, name: &HookName) -> bool {
        let goes_in =
            *name == self.ghosts.at || name.point() == HookPoint::Embed && self.ghosts.background.is_some();
        self.is_in_prompt() && goes_in || Some(*name) == self.ghosts.steer_at
    }

    fn on(&mut self, name: &HookName, activation: Tensor) -> Result<Tensor> {
        let (n, d_model) = activation.dims2()?;
        let mut numbers = activation.flatten_all()?.to_vec1::<f32>()?;
        for (row, x) in self.rows.iter().zip(numbers.chunks_exact_mut(d_model)) {
            self.edit(name, *row, x);
        }
        Ok(Tensor::from_vec(numbers, (n, d_model), &Device::Cpu)?)
    }

    fn last(&self) -> Option<HookName> {
        None
    }
}
