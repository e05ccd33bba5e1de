//! Reads many continuations of many prompts, level by level, over keys and values that branches share.
//!
//! One pass reads the open nodes of a level, one token each. A level that does not fit into memory is split into parts:
//!
//! ```text
//! prompt        pass 1
//! ├─ a          pass 2: a, b
//! │  ├─ c       pass 3: c, d (first part), then everything below c and d
//! │  └─ d
//! └─ b
//!    ├─ e       later:  e, f (second part), in the cache where c and d were, then everything below them
//!    └─ f
//! ```
//! Parts of one node make it a depth-first search, which needs the least memory. The results are equal to the last bit.

use super::ghost::Ghosts;
use crate::error::Result;
use crate::model::{KeyValueCache, Model, TokenBatch};
use crate::progress::{Progress, ProgressEvent};

/// A node that is still to be read.
struct Open<N> {
    token: u32,
    /// The token of the cache that it continues.
    parent: usize,
    ghost: usize,
    node: N,
}

/// Reads the prompt of each ghost, whose nodes are `roots`, and then every token that `follow` returns.
///
/// `look` gets the logits `[d_vocab]` after a node, on any thread; `follow` turns its result into the tokens to read
/// next, with their nodes. A path has at most `max_depth` tokens; `max_memory` is in MiB.
pub(super) fn walk<N: Copy + Sync, T: Send>(
    model: &Model,
    ghosts: &Ghosts,
    roots: Vec<N>,
    [max_depth, max_memory]: [usize; 2],
    progress: &Progress,
    look: impl Fn(N, &[f32]) -> T + Sync,
    mut follow: impl FnMut(N, T) -> Result<Vec<(u32, N)>>,
) -> Result<()> {
    // A growing `Vec` takes up to twice the memory of its elements, a growing tensor on a GPU three times.
    let times = if model.compute().device.is_cpu() { 2 } else { 3 };
    let room = max_memory.saturating_mul(1 << 20) / (times * KeyValueCache::bytes_per_token(model.cfg()));
    let mut cache = KeyValueCache::default();
    let mut stack = Vec::new();
    let mut prompts = TokenBatch::default();
    roots.iter().for_each(|_| prompts.push(ghosts.prompt()));
    let mut resid = model.forward_from(
        &prompts,
        &vec![None; roots.len()],
        &mut cache,
        &mut ghosts.prompt_hooks(),
        progress,
    )?; // [nodes, d_model]
    let mut level: Vec<(N, usize, usize)> = roots
        .into_iter()
        .enumerate()
        .map(|(i, node)| (node, (i + 1) * ghosts.prompt().len() - 1, i))
        .collect();
    let (mut depth, mut deepest, mut nodes) = (0, 0, 0);
    loop {
        let seen = model.map_logits(&resid, progress, |row, logits| {
            level.get(row).map(|(node, ..)| look(*node, logits))
        })?;
        deepest = depth.max(deepest);
        nodes += level.len() as u64;
        let counts = vec![("levels", deepest as u64), ("nodes", nodes)];
        progress.report(ProgressEvent::Advanced { fraction: None, counts });
        let mut next = Vec::new();
        for ((node, parent, ghost), seen) in level.into_iter().zip(seen.into_iter().flatten()) {
            let opened = follow(node, seen)?.into_iter();
            next.extend(opened.map(|(token, node)| Open { token, parent, ghost, node }));
        }
        let at_once = (room.saturating_sub(cache.len()) / max_depth.saturating_sub(depth).max(1)).max(1);
        push_parts(&mut stack, next, at_once, (cache.len(), depth + 1));
        let Some(((base, at), part)) = stack.pop() else { return Ok(()) };
        depth = at;
        cache.truncate(base);
        let mut batch = TokenBatch::default();
        part.iter().for_each(|open: &Open<N>| batch.push(&[open.token]));
        let parents: Vec<_> = part.iter().map(|open| Some(open.parent)).collect();
        let mut hooks = ghosts.continuation_hooks(part.iter().map(|open| open.ghost).collect());
        resid = model.forward_from(&batch, &parents, &mut cache, &mut hooks, progress)?;
        level = part.into_iter().enumerate().map(|(i, open)| (open.node, base + i, open.ghost)).collect();
    }
}

/// `((cache length before them, depth), nodes)` of nodes that are read together.
type Part<N> = ((usize, usize), Vec<Open<N>>);

/// Pushes a level onto the stack in parts of at most `at_once` nodes, the first part on top.
fn push_parts<N>(stack: &mut Vec<Part<N>>, mut level: Vec<Open<N>>, at_once: usize, start: (usize, usize)) {
    let parts = level.len().div_ceil(at_once);
    for part in (0..parts).rev() {
        stack.push((start, level.split_off(part * at_once)));
    }
}
