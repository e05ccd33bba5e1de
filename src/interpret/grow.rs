//! Grows definition trees: the likeliest next tokens of every likely definition, for several vectors at once.

use super::ghost::{Ghost, Ghosts};
use super::prompt::Prompt;
use super::tree::{DefinitionTree, Injection, Steer, TreeNode, TreeOptions, TreeParams};
use super::vector::FeatureVector;
use super::walk::walk;
use crate::error::{Error, Result};
use crate::linalg::row_norm;
use crate::model::{Model, log_sum_exp, next_tokens};
use crate::progress::{Progress, ProgressEvent};
use crate::tensors;
use crate::threads::worker_pools;
use std::collections::HashMap;
use std::panic::resume_unwind;
use std::thread::ScopedJoinHandle;

/// The limit of `max_depth`: JSON parsers reject deeper nesting.
const MAX_DEPTH: usize = 60;

/// The limit of `null_directions`, and the number of null vectors that walk through a tree together.
const MAX_NULL: usize = 1000;
const NULL_AT_ONCE: usize = 64;

/// The limit of nodes that grow together: more would take gigabytes, and would not be read.
const MAX_NODES: usize = 2_000_000;

/// Grows the definition tree of a vector: the model is asked what the ghost token means, and every likely next token
/// becomes a node.
///
/// `children(node) = {t in the top_k of p(· | prompt, path) : P(node) · p(t) >= cutoff}`. A special token, or one that
/// contains a `stop`, has no children. All open nodes of a level share a pass; depth-first search gives the same tree.
///
/// ```
/// # fn main() -> saescope::Result<()> {
/// use saescope::prelude::*;
///
/// let (model, sae) = (Model::load("demo")?, Sae::load(("demo", "blocks.0.hook_resid_pre"))?);
/// let vector = feature_vector(&model, &sae, 624, &VectorOptions::default())?;
/// let tree = definition_tree(&model, &vector, &TreeOptions::default(), &Progress::default())?;
/// println!("{tree}");
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// Options are out of range; the prompt has no `{}` or exceeds the context; the model lacks a hook or a tokenizer; the
/// vector has another width; the tree has more than two million nodes; [`Error::Interrupted`].
pub fn definition_tree(
    model: &Model,
    vector: &FeatureVector,
    options: &TreeOptions,
    progress: &Progress,
) -> Result<DefinitionTree> {
    progress.report(ProgressEvent::Started { label: "definition tree".to_owned() });
    let trees = definition_trees(model, std::slice::from_ref(vector), options, progress);
    progress.report(ProgressEvent::Finished);
    trees?.into_iter().next().ok_or_else(|| Error::internal("no tree has grown for the vector"))
}

/// Grows the definition trees of several vectors together, which is faster than one after the other. Keeps their order.
///
/// # Errors
/// As [`definition_tree`].
pub fn definition_trees(
    model: &Model,
    vectors: &[FeatureVector],
    options: &TreeOptions,
    progress: &Progress,
) -> Result<Vec<DefinitionTree>> {
    /// Trees per worker, and the largest matrix for which several workers are used: larger ones come from memory each
    /// time, and workers with few rows would only wait for them.
    const TREES: usize = 4;
    const WEIGHTS: usize = 1 << 22;
    let is_on_cpu = model.compute().device.is_cpu();
    let is_small = is_on_cpu && model.cfg().d_model * model.cfg().d_mlp <= WEIGHTS;
    let pools = worker_pools(if is_small { vectors.len() / TREES } else { 1 })?;
    if pools.len() == 1 {
        return grow_together(model, vectors, options, progress);
    }
    let per_worker = TreeOptions { max_memory: options.max_memory.div_ceil(pools.len()), ..options.clone() };
    let grow = |vectors| grow_together(model, vectors, &per_worker, progress);
    let parts = vectors.chunks(vectors.len().div_ceil(pools.len()));
    let parts: Vec<_> = std::thread::scope(|scope| {
        let workers =
            pools.iter().zip(parts).map(|(pool, part)| scope.spawn(move || pool.install(|| grow(part))));
        let workers: Vec<_> = workers.collect();
        let join = |worker: ScopedJoinHandle<_>| worker.join().unwrap_or_else(|panic| resume_unwind(panic));
        workers.into_iter().map(join).collect::<Result<_>>()
    })?;
    Ok(parts.into_iter().flatten().collect())
}

/// [`definition_trees`] on the current thread pool.
fn grow_together(
    model: &Model,
    vectors: &[FeatureVector],
    options: &TreeOptions,
    progress: &Progress,
) -> Result<Vec<DefinitionTree>> {
    options.check()?;
    let prompt = Prompt::new(model, options)?;
    let room = options.max_definition_tokens(model, &prompt)?;
    if vectors.is_empty() {
        return Ok(Vec::new());
    }
    let stop = options.stops(&prompt);
    let centroid = &model.embedding_stats()?.centroid;
    for vector in vectors {
        vector.check(model)?;
    }
    let ghosts = vectors.iter().map(|vector| Ghost::new(vector, options)).collect();
    let ghosts = Ghosts::new(model, &prompt, options, ghosts, centroid)?;
    let mut trees = vec![Growing::new(); vectors.len()];
    let mut pieces = Pieces { model, stop: &stop, known: HashMap::new() };
    let limits = [room, options.max_memory];
    let roots = (0..vectors.len()).map(|tree| (tree, 0)).collect();
    let look = |_, logits: &[f32]| next_tokens(logits, options.top_k);
    let mut n_nodes = 0;
    walk(model, &ghosts, roots, limits, progress, look, |(tree, node): (usize, usize), next| {
        let mut open = Vec::new();
        for (token, prob) in next {
            check_finite(prob)?;
            let Grown { cumulative_prob, depth, .. } = trees[tree].nodes[node];
            if cumulative_prob * prob < options.cutoff {
                break;
            }
            n_nodes += 1;
            if n_nodes > MAX_NODES {
                let expected = format!("at most {MAX_NODES} nodes");
                let hint = "raise `cutoff`, or lower `top_k`, `max_depth` or (many features) `batch_size`";
                return Err(Error::invalid("the tree", expected, "more").with_hint(hint));
            }
            let child = trees[tree].add(node, token, prob);
            if !pieces.get(token)?.1 && depth + 1 < room {
                open.push((token, (tree, child)));
            }
        }
        Ok(open)
    })?;
    if options.null_directions.is_some() {
        for (tree, vector) in trees.iter_mut().zip(vectors) {
            let null = null_ghosts(vector, options, progress)?;
            let n = null.len();
            let mut sums = vec![LogSum { largest: f64::NEG_INFINITY, rest: 0.0 }; tree.nodes.len()];
            for null in null.chunks(NULL_AT_ONCE) {
                let null = Ghosts::new(model, &prompt, options, null.to_vec(), centroid)?;
                add_null(model, tree, &null, limits, &mut sums, progress)?;
            }
            for (node, sum) in tree.nodes.iter_mut().zip(sums) {
                node.null_log_prob = Some(sum.largest + (sum.rest / n as f64).ln());
            }
        }
    }
    let mut finished = Vec::with_capacity(trees.len());
    for (tree, vector) in trees.iter().zip(vectors) {
        let params = options.params(vector, &prompt);
        finished.push(DefinitionTree { params, root: tree.node(0, &mut pieces)? });
    }
    Ok(finished)
}

/// The null ghosts: the vector's origin, and `null_directions` random directions of the same length as the vector's.
/// If the options steer in the feature's direction, each null ghost steers in its own.
fn null_ghosts(vector: &FeatureVector, options: &TreeOptions, progress: &Progress) -> Result<Vec<Ghost>> {
    let directions = options.null_directions.unwrap_or_default();
    let d_model = vector.direction.len();
    let mut null = vec![vec![0.0; d_model]];
    if directions > 0 {
        let random = tensors::randn(&[directions, d_model], options.seed, progress)?.to_vec2::<f32>()?;
        let length = row_norm(&vector.direction);
        null.extend(random.into_iter().map(|x| {
            let factor = (length / row_norm(&x).max(f64::MIN_POSITIVE)) as f32;
            x.into_iter().map(|x| x * factor).collect()
        }));
    }
    let ghost = |direction: Vec<f32>| Ghost::new(&vector.in_direction(direction), options);
    Ok(null.into_iter().map(ghost).collect())
}

/// A sum of values given by their logarithms: `exp(largest) · rest`.
#[derive(Clone, Copy)]
struct LogSum {
    largest: f64,
    rest: f64,
}

/// Adds to `sums` the probability of every node of a tree with each null ghost in the feature's place.
fn add_null(
    model: &Model,
    tree: &Growing,
    null: &Ghosts,
    limits: [usize; 2],
    sums: &mut [LogSum],
    progress: &Progress,
) -> Result<()> {
    let nodes = &tree.nodes;
    let mut log_probs = vec![vec![0.0; nodes.len()]; null.len()];
    let roots = (0..null.len()).map(|null| (null, 0)).collect();
    let look = |(_, node): (usize, usize), logits: &[f32]| {
        let total = log_sum_exp(logits);
        let log_prob = |child: &usize| f64::from(logits[nodes[*child].token as usize]) - total;
        nodes[node].children.iter().map(log_prob).collect::<Vec<f64>>()
    };
    walk(model, null, roots, limits, progress, look, |(null, node), seen| {
        let log_probs = &mut log_probs[null];
        for (child, log_prob) in nodes[node].children.iter().zip(seen) {
            check_finite(log_prob)?;
            log_probs[*child] = log_probs[node] + log_prob;
        }
        let inner = nodes[node].children.iter().filter(|child| !nodes[**child].children.is_empty());
        Ok(inner.map(|child| (nodes[*child].token, (null, *child))).collect())
    })?;
    for log_probs in &log_probs {
        for (sum, log_prob) in sums.iter_mut().zip(log_probs) {
            let largest = sum.largest.max(*log_prob);
            let rest = sum.rest * (sum.largest - largest).exp() + (log_prob - largest).exp();
            *sum = LogSum { largest, rest };
        }
    }
    Ok(())
}

/// Rejects NaN, which is below no cutoff: the tree would not end.
fn check_finite(x: f64) -> Result<()> {
    if x.is_finite() {
        return Ok(());
    }
    let message = "the model's logits are not finite: the injected vector or the steering may be too large, or the weights are broken";
    Err(Error::NotFinite { message: message.to_owned() })
}

/// A growing tree: its nodes by index, the root first.
#[derive(Clone)]
struct Growing {
    nodes: Vec<Grown>,
}

#[derive(Clone, Default)]
struct Grown {
    token: u32,
    prob: f64,
    cumulative_prob: f64,
    depth: usize,
    null_log_prob: Option<f64>,
    children: Vec<usize>,
}

impl Growing {
    fn new() -> Self {
        Growing { nodes: vec![Grown { prob: 1.0, cumulative_prob: 1.0, ..Grown::default() }] }
    }

    fn add(&mut self, parent: usize, token: u32, prob: f64) -> usize {
        let child = self.nodes.len();
        let Grown { cumulative_prob, depth, children, .. } = &mut self.nodes[parent];
        children.push(child);
        let (cumulative_prob, depth) = (*cumulative_prob * prob, *depth + 1);
        self.nodes.push(Grown { token, prob, cumulative_prob, depth, ..Grown::default() });
        child
    }

    fn node(&self, index: usize, pieces: &mut Pieces) -> Result<TreeNode> {
        let Grown { token, prob, cumulative_prob, null_log_prob, ref children, .. } = self.nodes[index];
        let is_root = index == 0;
        Ok(TreeNode {
            token: if is_root { String::new() } else { pieces.get(token)?.0 },
            token_id: (!is_root).then_some(token),
            prob,
            cumulative_prob,
            null_log_prob,
            children: children.iter().map(|child| self.node(*child, pieces)).collect::<Result<_>>()?,
        })
    }
}

/// A cache of tokens as strings, and of whether a token ends its branch.
struct Pieces<'a> {
    model: &'a Model,
    stop: &'a [String],
    known: HashMap<u32, (String, bool)>,
}

impl Pieces<'_> {
    fn get(&mut self, token: u32) -> Result<(String, bool)> {
        if let Some(known) = self.known.get(&token) {
            return Ok(known.clone());
        }
        let tokenizer = self.model.tokenizer()?;
        let piece = tokenizer.token_text(token)?;
        let ends = tokenizer.is_special(token) || self.stop.iter().any(|stop| piece.contains(stop.as_str()));
        self.known.insert(token, (piece.clone(), ends));
        Ok((piece, ends))
    }
}

impl TreeOptions {
    /// Checks the options that can be checked without a model.
    pub(super) fn check(&self) -> Result<()> {
        let TreeOptions { top_k, cutoff, max_depth, max_memory, .. } = *self;
        if !(cutoff > 0.0 && cutoff <= 1.0) {
            return Err(Error::invalid("`cutoff`", "a probability above 0 and at most 1", cutoff)
                .with_hint("less likely nodes are left out; the default is 5e-5, and without a cutoff the tree would not end"));
        }
        if top_k == 0 {
            return Err(Error::invalid("`top_k`", "at least 1", top_k));
        }
        if !(1..=MAX_DEPTH).contains(&max_depth) {
            return Err(Error::invalid("`max_depth`", format!("from 1 to {MAX_DEPTH}"), max_depth));
        }
        if max_memory == 0 {
            return Err(Error::invalid("`max_memory`", "at least 1 MiB", 0));
        }
        if let Some(stop) = self.stop.iter().flatten().find(|stop| stop.is_empty()) {
            return Err(Error::invalid("`stop`", "non-empty strings", format!("{stop:?}"))
                .with_hint("every token contains the empty string; `stop: []` turns stops off"));
        }
        if let Some(n) = self.null_directions.filter(|n| *n > MAX_NULL) {
            return Err(Error::invalid("`null_directions`", format!("at most {MAX_NULL}"), n)
                .with_hint("each costs as much as the tree itself; 16 or 32 are enough"));
        }
        if let Some(Steer { coefficient, direction, .. }) = &self.steer {
            if !(*coefficient as f32).is_finite() {
                return Err(Error::invalid(
                    "the coefficient of `steer`",
                    "a number that f32 can hold",
                    format!("{coefficient:e}"),
                ));
            }
            if let Some(x) = direction.iter().flatten().find(|x| !x.is_finite()) {
                return Err(Error::invalid("the direction of `steer`", "finite numbers", x));
            }
        }
        Ok(())
    }

    /// The maximum number of tokens in a definition: `max_depth`, or what the prompt leaves of the context.
    pub(super) fn max_definition_tokens(&self, model: &Model, prompt: &Prompt) -> Result<usize> {
        let n_ctx = model.cfg().n_ctx;
        // The last token of a definition is never read.
        match (n_ctx + 1).saturating_sub(prompt.tokens.len()) {
            0 => Err(Error::invalid(
                "the prompt",
                format!("at most n_ctx = {n_ctx} tokens, the model's context"),
                prompt.tokens.len(),
            )
            .with_hint("shorten the prompt")),
            left => Ok(left.min(self.max_depth)),
        }
    }

    /// The strings that end a branch: `stop`, or the prompt's closing mark.
    fn stops(&self, prompt: &Prompt) -> Vec<String> {
        self.stop.clone().unwrap_or_else(|| vec![prompt.closing()])
    }

    /// The parameters that are stored with the tree of a vector.
    pub(super) fn params(&self, vector: &FeatureVector, prompt: &Prompt) -> TreeParams {
        TreeParams {
            fingerprints: None,
            saescope: env!("CARGO_PKG_VERSION").to_owned(),
            vector: vector.params.clone(),
            prompt: prompt.text.clone(),
            top_k: self.top_k,
            cutoff: self.cutoff,
            max_depth: self.max_depth,
            stop: self.stops(prompt),
            prepend_bos: prompt.has_bos,
            steer: self.steer.clone(),
            inject_at: self.inject_at.clone(),
            inject: (self.inject_at.is_some() || self.inject != Injection::Replace).then_some(self.inject),
            placeholder: self.placeholder.clone(),
            null_directions: self.null_directions,
            seed: self.null_directions.map(|_| self.seed),
            scales: None,
            trimmed: None,
        }
    }
}
