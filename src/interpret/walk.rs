//! Reading many continuations of many prompts: level by level, over keys and values that branches share.
//!
//! All open nodes of a level are read in one pass, a token each. Where that would take more memory than there is, a level
//! is read in parts, and what follows from the first part before the second: in between lies the whole of a depth-first
//! search, which needs least. The results do not depend on it, to the last bit.

use super::ghost::Ghosts;
use crate::error::{Error, Result};
use crate::model::{KeyValueCache, Model, TokenBatch};
use crate::progress::{Progress, Report};

/// A token that is to be read.
struct Open<N> {
    token: u32,
    /// The cached token that it comes behind.
    behind: usize,
    ghost: usize,
    node: N,
}

/// Reads the prompt of each ghost, whose nodes are `roots`, and then whatever `follow` says comes next.
///
/// `look` sees the logits `[d_vocab]` behind a node, on all threads; `follow` turns what it gave into the tokens that are
/// to be read behind the node, with their nodes. A path is at most `max_depth` tokens long; `max_memory` is in MiB.
pub(super) fn walk<N: Copy + Sync, T: Send>(
    model: &Model,
    ghosts: &Ghosts,
    roots: Vec<N>,
    [max_depth, max_memory]: [usize; 2],
    progress: &Progress,
    look: impl Fn(N, &[f32]) -> T + Sync,
    mut follow: impl FnMut(N, T) -> Result<Vec<(u32, N)>>,
) -> Result<()> {
    // A vector that grows takes up to twice what is in it.
    let room = max_memory.saturating_mul(1 << 20) / (2 * KeyValueCache::bytes_per_token(model.cfg()));
    let mut cache = KeyValueCache::default();
    let mut stack = Vec::new();
    let mut prompts = TokenBatch::default();
    roots.iter().for_each(|_| prompts.push(ghosts.prompt()));
    let resid =
        model.read_on(&prompts, &vec![None; roots.len()], &mut cache, &mut ghosts.in_prompts(), progress)?;
    let mut level: Vec<(N, usize, usize)> = roots
        .into_iter()
        .enumerate()
        .map(|(i, node)| (node, (i + 1) * ghosts.prompt().len() - 1, i))
        .collect();
    let mut resid = resid.ok_or_else(stopped)?; // [nodes, d_model]
    let mut depth = 0;
    loop {
        let seen = model.map_logits(&resid, progress, |row, logits| {
            level.get(row).map(|(node, ..)| look(*node, logits))
        })?;
        progress.report(Report::Level { depth, nodes: level.len() });
        let mut next = Vec::new();
        for ((node, behind, ghost), seen) in level.into_iter().zip(seen.into_iter().flatten()) {
            let opened = follow(node, seen)?.into_iter();
            next.extend(opened.map(|(token, node)| Open { token, behind, ghost, node }));
        }
        let at_once = (room.saturating_sub(cache.len()) / max_depth.saturating_sub(depth).max(1)).max(1);
        push_parts(&mut stack, next, at_once, (cache.len(), depth + 1));
        let Some(((base, at), part)) = stack.pop() else { return Ok(()) };
        depth = at;
        cache.truncate(base);
        let mut batch = TokenBatch::default();
        part.iter().for_each(|open: &Open<N>| batch.push(&[open.token]));
        let mut behind: Vec<_> = part.iter().map(|open| Some(open.behind)).collect();
        let mut rows: Vec<_> = part.iter().map(|open| open.ghost).collect();
        if let [open] = &part[..] {
            // One row alone takes another way through a matmul, with another rounding: it gets company.
            batch.push(&[open.token]);
            behind.push(Some(open.behind));
            rows.push(open.ghost);
        }
        resid = model
            .read_on(&batch, &behind, &mut cache, &mut ghosts.behind_prompts(&rows), progress)?
            .ok_or_else(stopped)?;
        level = part.into_iter().enumerate().map(|(i, open)| (open.node, base + i, open.ghost)).collect();
    }
}

/// Nodes that are read together, with the length of the cache that they need and their depth.
type Part<N> = ((usize, usize), Vec<Open<N>>);

/// Puts a level on the stack, in parts of at most `at_once` of which the first is on top.
fn push_parts<N>(stack: &mut Vec<Part<N>>, mut level: Vec<Open<N>>, at_once: usize, place: (usize, usize)) {
    let parts = level.len().div_ceil(at_once);
    for part in (0..parts).rev() {
        stack.push((place, level.split_off(part * at_once)));
    }
}

fn stopped() -> Error {
    Error::invalid("a pass of a tree", "hooks that let it finish", "one that stops it")
}
