//! Where the tokens of a tree stand: every leaf has a row of its own, every depth a column as wide as its widest label.
//!
//! A node stands in the row of its first child, the likeliest: the likeliest definition is the first row, read like a
//! line of text, and no two labels can overlap.

use crate::interpret::TreeNode;

/// A node on a walk through a tree, parents before children, children in order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step<'a> {
    /// The node.
    pub(crate) node: &'a TreeNode,
    /// Which step its parent is; none for the root.
    pub(crate) parent: Option<usize>,
    /// How many tokens lead to it.
    pub(crate) depth: usize,
}

/// Where a node stands.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Place {
    /// Its row, from 0.
    pub(super) row: usize,
    /// Where its label begins.
    pub(super) left: f64,
}

/// All the nodes of a tree; a tree of any depth, since nothing here calls itself.
pub(crate) fn walk(root: &TreeNode) -> Vec<Step<'_>> {
    let mut steps: Vec<Step<'_>> = Vec::new();
    let mut waiting = vec![Step { node: root, parent: None, depth: 0 }];
    while let Some(step) = waiting.pop() {
        let place = steps.len();
        steps.push(step);
        for child in step.node.children.iter().rev() {
            waiting.push(Step { node: child, parent: Some(place), depth: step.depth + 1 });
        }
    }
    steps
}

/// The rows of the steps: how many there are, and which each stands in.
pub(super) fn rows(steps: &[Step<'_>]) -> (usize, Vec<usize>) {
    // A node shares its row with its first child: a row begins wherever a step does not follow its own parent.
    let mut row = 0;
    let mut rows = Vec::with_capacity(steps.len());
    for (i, step) in steps.iter().enumerate() {
        if i > 0 && step.parent != Some(i - 1) {
            row += 1;
        }
        rows.push(row);
    }
    (row + 1, rows)
}

/// The places of the steps, of labels that are `widths` wide. Between two columns there is the more room the further
/// the edges between them go up and down, in rows of `row_height`.
pub(super) fn places(steps: &[Step<'_>], widths: &[f64], row_height: f64) -> Vec<Place> {
    let (_, rows) = rows(steps);
    let columns = steps.iter().map(|step| step.depth + 1).max().unwrap_or(1);
    let mut widest = vec![0.0f64; columns];
    let mut furthest = vec![0usize; columns];
    for (i, step) in steps.iter().enumerate() {
        widest[step.depth] = widest[step.depth].max(widths.get(i).copied().unwrap_or(0.0));
        if let Some(parent) = step.parent {
            furthest[step.depth] = furthest[step.depth].max(rows[i] - rows[parent]);
        }
    }
    let mut lefts = vec![0.0; columns];
    for depth in 1..columns {
        let gap = (22.0 + 0.12 * furthest[depth] as f64 * row_height).clamp(26.0, 110.0);
        lefts[depth] = lefts[depth - 1] + widest[depth - 1] + gap;
    }
    steps.iter().zip(rows).map(|(step, row)| Place { row, left: lefts[step.depth] }).collect()
}
