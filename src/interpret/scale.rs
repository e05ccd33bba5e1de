//! The scale of a ghost token, its distance from the centroid: trees at several scales, and a score to choose one.
//!
//! After Kharlapenko, neverix, Nanda and Conmy, "Self-explaining SAE features" (2024). At too small a scale the model
//! answers as for any word; at too large a scale it breaks down. In between, a late layer still shows the direction at
//! the prompt's last token (high self-similarity), and the answer is still likely (low cross-entropy):
//!
//! - `self_similarity(s) = cos(r(s), direction) − cos(r(0), direction)`, r: the residual stream 8/9 of the way up;
//! - `cross_entropy(s) = − Σ_t p_s(t) ln p_mean(t)`, p_mean: p with the token centroid in the ghost's place;
//! - `composite(s) = 0.4 · minmax(self_similarity) − 0.6 · minmax(cross_entropy)`, minmax over the scales.

use super::ghost::{Ghost, Ghosts, stream_hook};
use super::grow::definition_trees;
use super::prompt::Prompt;
use super::tree::{DefinitionTree, Injection, Scales, TreeOptions};
use super::vector::FeatureVector;
use crate::error::{Error, Result};
use crate::hooks::{ActivationCache, HookName, HookPoint};
use crate::linalg::{cosine, dot, row_norm, to_f64};
use crate::model::{KeyValueCache, Model, TokenBatch, log_sum_exp};
use crate::progress::Progress;
use serde::{Deserialize, Serialize};

/// The weight of the self-similarity; the cross-entropy has the rest.
const ALPHA: f64 = 0.4;
/// The number of scales that "auto" tries, and how many of them get a tree.
const TRIED: usize = 24;
const SHOWN: usize = 3;

/// Trees of one vector at several scales.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScaleSweep {
    /// The scores of all scales, in ascending order of scale.
    pub scores: Vec<ScaleScore>,
    /// The trees of the given scales, or of the best that "auto" found, in ascending order of scale.
    pub trees: Vec<DefinitionTree>,
    /// The index in `trees` of the tree with the best score.
    pub best: usize,
}

/// The score of one scale.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ScaleScore {
    /// The scale.
    pub scale: f64,
    /// How much more the residual stream at the end of the prompt points in the vector's direction than at scale 0.
    pub self_similarity: f64,
    /// How unlikely the first token of the answer is if the model is asked about the token centroid instead, in nats.
    pub cross_entropy: f64,
    /// The weighted difference of both; the best scale has the highest.
    pub composite: f64,
}

/// Grows the definition trees of a vector at several scales, with scores.
///
/// ```
/// # fn main() -> saescope::Result<()> {
/// use saescope::prelude::*;
///
/// let (model, sae) = (Model::load("demo")?, Sae::load(("demo", "blocks.0.hook_resid_pre"))?);
/// let vector = feature_vector(&model, &sae, 624, &VectorOptions::default())?;
/// let scales = Scales::Given(vec![1.0, 2.0, 4.0]);
/// let sweep = scale_sweep(&model, &vector, &scales, &TreeOptions::default(), &Progress::default())?;
/// println!("{}", sweep.best());
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// The list of scales is empty, or a scale is not finite; the injection does not depend on the scale; and as
/// [`definition_tree`](super::definition_tree).
pub fn scale_sweep(
    model: &Model,
    vector: &FeatureVector,
    scales: &Scales,
    options: &TreeOptions,
    progress: &Progress,
) -> Result<ScaleSweep> {
    let scores = scale_scores(model, vector, scales, options, progress)?;
    let best = best_scale(&scores);
    let mut shown: Vec<_> = (0..scores.len()).collect();
    if *scales == Scales::Auto {
        shown.sort_by(|a, b| scores[*b].composite.total_cmp(&scores[*a].composite));
        shown.truncate(SHOWN);
    }
    shown.sort_unstable();
    let vectors: Vec<_> = shown.iter().map(|i| vector.at_scale(scores[*i].scale)).collect();
    let trees = definition_trees(model, &vectors, options, progress)?;
    let best = shown.iter().position(|i| *i == best).unwrap_or_default();
    Ok(ScaleSweep { scores, trees, best })
}

/// Returns the index of the best score, the first if several are equal.
pub(super) fn best_scale(scores: &[ScaleScore]) -> usize {
    let better = |best: usize, i: usize| if scores[i].composite > scores[best].composite { i } else { best };
    (0..scores.len()).fold(0, better)
}

/// Scores scales, in ascending order. The result is never empty.
///
/// # Errors
/// As [`scale_sweep`].
pub fn scale_scores(
    model: &Model,
    vector: &FeatureVector,
    scales: &Scales,
    options: &TreeOptions,
    progress: &Progress,
) -> Result<Vec<ScaleScore>> {
    vector.check(model)?;
    options.check()?;
    if options.inject == Injection::NormMatched {
        return Err(Error::mismatch(
            "scales make no difference to the injection \"norm_matched\"",
            "leave out the scales, or inject with \"replace\" or \"add\"",
        ));
    }
    let prompt = Prompt::new(model, options)?;
    options.max_definition_tokens(model, &prompt)?;
    let scales = scales.ascending(model, &prompt, options, progress)?;
    for scale in &scales {
        vector.at_scale(*scale).check(model)?;
    }
    let at_scale = |scale: f64| Ghost::new(&vector.at_scale(scale), options);
    let centroid = &model.embedding_stats()?.centroid;
    // After the scales come the vector's origin and the token centroid.
    let mut ghosts: Vec<_> = scales.iter().copied().chain([0.0]).map(at_scale).collect();
    let mean = FeatureVector { origin: centroid.clone(), ..vector.clone() };
    ghosts.push(Ghost::new(&mean.at_scale(0.0), options));
    let n = scales.len();
    let ghosts = Ghosts::new(model, &prompt, options, ghosts, centroid)?;

    let n_layers = model.cfg().n_layers;
    let probed = match (n_layers * 8 + 4) / 9 {
        layer if layer < n_layers => HookName::in_block(layer, HookPoint::ResidPre),
        _ => HookName::in_block(n_layers - 1, HookPoint::ResidPost),
    };
    let mut cache = ActivationCache::new(vec![probed]);
    let mut hooks = (ghosts.prompt_hooks(), &mut cache);
    let mut batch = TokenBatch::default();
    (0..n + 2).for_each(|_| batch.push(&prompt.tokens));
    // [n + 2, d_model]
    let resid = model.forward_from(
        &batch,
        &vec![None; n + 2],
        &mut KeyValueCache::default(),
        &mut hooks,
        progress,
    )?;
    let streams = cache.get(&probed.to_string())?.to_vec2::<f32>()?;
    let direction = to_f64(&vector.direction);
    let cosine = |ghost: usize| {
        let stream = &streams[(ghost + 1) * prompt.tokens.len() - 1];
        let norms = [stream, &vector.direction].map(|x| row_norm(x));
        cosine(dot(stream, &direction), norms[0], norms[1])
    };
    let mean = model.map_logits(&resid.narrow(0, n + 1, 1)?, progress, |_, logits| {
        let total = log_sum_exp(logits);
        logits.iter().map(|logit| f64::from(*logit) - total).collect::<Vec<f64>>()
    })?;
    let cross_entropies = model.map_logits(&resid.narrow(0, 0, n)?, progress, |_, logits| {
        let total = log_sum_exp(logits);
        let terms =
            logits.iter().zip(&mean[0]).map(|(logit, log_mean)| (f64::from(*logit) - total).exp() * log_mean);
        -terms.sum::<f64>()
    })?;
    let self_similarities: Vec<f64> = (0..n).map(|i| cosine(i) - cosine(n)).collect();
    let (similar, surprising) = (min_max(&self_similarities), min_max(&cross_entropies));
    let score = |i: usize| ScaleScore {
        scale: scales[i],
        self_similarity: self_similarities[i],
        cross_entropy: cross_entropies[i],
        composite: ALPHA * similar[i] - (1.0 - ALPHA) * surprising[i],
    };
    Ok((0..n).map(score).collect())
}

impl Scales {
    /// The scales in ascending order, without duplicates.
    fn ascending(
        &self,
        model: &Model,
        prompt: &Prompt,
        options: &TreeOptions,
        progress: &Progress,
    ) -> Result<Vec<f64>> {
        let mut scales = match self {
            Scales::Given(scales) => scales.clone(),
            Scales::Auto => {
                let usual = usual_length(model, prompt, options, progress)?;
                let step = |i: usize| 16f64.powf(i as f64 / (TRIED - 1) as f64) / 4.0;
                (0..TRIED).map(|i| usual * step(i)).collect()
            }
        };
        scales.sort_by(f64::total_cmp);
        scales.dedup();
        match scales.iter().find(|scale| !scale.is_finite()) {
            Some(scale) => Err(Error::invalid("`scale`", "finite numbers", scale)),
            None if scales.is_empty() => {
                Err(Error::invalid("`scale`", "at least one number", "an empty list"))
            }
            None => Ok(scales),
        }
    }
}

/// The usual length of a vector at the hook of the injection: at the embedding, the mean distance of tokens from their
/// centroid; elsewhere, the mean norm of the prompt's activations.
fn usual_length(model: &Model, prompt: &Prompt, options: &TreeOptions, progress: &Progress) -> Result<f64> {
    let hook = options.inject_at.as_ref().map(|name| stream_hook(model, "`inject_at`", name)).transpose()?;
    let Some(hook) = hook.filter(|hook| hook.point() != HookPoint::Embed) else {
        return Ok(model.embedding_stats()?.mean_distance);
    };
    let name = hook.to_string();
    let cache = model.run_with_cache(&prompt.tokens, &[&name], progress)?;
    let streams = cache.get(&name)?.to_vec2::<f32>()?;
    // The activation at a BOS is often a hundred times as long as the others.
    let norms: Vec<f64> = streams.iter().skip(usize::from(prompt.has_bos)).map(|x| row_norm(x)).collect();
    Ok(norms.iter().sum::<f64>() / norms.len().max(1) as f64)
}

/// Maps values linearly to 0 for the lowest and 1 for the highest.
fn min_max(values: &[f64]) -> Vec<f64> {
    let lowest = values.iter().copied().fold(f64::INFINITY, f64::min);
    let range = values.iter().copied().fold(f64::NEG_INFINITY, f64::max) - lowest;
    values.iter().map(|x| if range > 0.0 { (x - lowest) / range } else { 0.0 }).collect()
}

impl ScaleSweep {
    /// The tree with the best score.
    pub fn best(&self) -> &DefinitionTree {
        &self.trees[self.best]
    }
}

impl std::fmt::Display for ScaleSweep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "  scale  self-similarity  cross-entropy  composite  tree")?;
        for score in &self.scores {
            let ScaleScore { scale, self_similarity, cross_entropy, composite } = score;
            write!(f, "\n{scale:7.3}  {self_similarity:15.4}  {cross_entropy:13.3}  {composite:9.3}")?;
            let tree = self.trees.iter().enumerate().find(|(_, tree)| tree.params.vector.scale == *scale);
            if let Some((i, tree)) = tree {
                let definitions = tree.definitions();
                let first = definitions.first().map_or("", |definition| definition.text.as_str());
                let best = if i == self.best { "  (best)" } else { "" };
                write!(f, "  {} nodes, \"{first}\"{best}", tree.len())?;
            }
        }
        Ok(())
    }
}
