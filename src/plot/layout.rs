//! The layout of a tree: each leaf has its own row, each depth a column as wide as its widest label.
//!
//! A node is in the row of its first child, the likeliest: the first row reads as the likeliest definition, and no two
//! labels can overlap.

use crate::interpret::TreeNode;
use crate::label::label;

/// A node on a walk through a tree, parents before children, children in order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Step<'a> {
    /// The node.
    pub(crate) node: &'a TreeNode,
    /// The index of the parent's step; `None` for the root.
    pub(crate) parent: Option<usize>,
    /// The number of tokens from the root to it.
    pub(crate) depth: usize,
}

/// The position of a node.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Position {
    /// The row, from 0.
    pub(super) row: usize,
    /// The left end of the label, in pixels.
    pub(super) left: f64,
    /// The right end of the widest label in the column.
    pub(super) column_end: f64,
}

impl Step<'_> {
    /// The label of the node; `*` for a root without a token.
    pub(super) fn label(&self) -> String {
        let is_root = self.parent.is_none() && self.node.token.is_empty();
        if is_root { "*".to_owned() } else { label(&self.node.token) }
    }
}

/// Returns all nodes of a tree, which may be of any depth: the walk is not recursive.
pub(crate) fn walk(root: &TreeNode) -> Vec<Step<'_>> {
    let mut steps: Vec<Step<'_>> = Vec::new();
    let mut waiting = vec![Step { node: root, parent: None, depth: 0 }];
    while let Some(step) = waiting.pop() {
        let index = steps.len();
        steps.push(step);
        for child in step.node.children.iter().rev() {
            waiting.push(Step { node: child, parent: Some(index), depth: step.depth + 1 });
        }
    }
    steps
}

/// Returns the row of each step.
fn rows(steps: &[Step<'_>]) -> Vec<usize> {
    // A node shares its row with its first child: a step that does not follow its own parent begins a row.
    let mut row = 0;
    let row_of = |(i, step): (usize, &Step<'_>)| {
        row += usize::from(i > 0 && step.parent != Some(i - 1));
        row
    };
    steps.iter().enumerate().map(row_of).collect()
}

/// Returns the position of each step. `widths` are the widths of the labels. The more rows, each `row_height` high, the
/// edges between two columns span, the larger is the gap between the columns.
pub(super) fn places(steps: &[Step<'_>], widths: &[f64], row_height: f64) -> Vec<Position> {
    let rows = rows(steps);
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
    let place = |(step, row): (&Step<'_>, usize)| {
        let left = lefts[step.depth];
        Position { row, left, column_end: left + widest[step.depth] }
    };
    steps.iter().zip(rows).map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(token: &str, children: Vec<TreeNode>) -> TreeNode {
        TreeNode {
            token: token.to_owned(),
            token_id: None,
            prob: 0.5,
            cumulative_prob: 0.5,
            null_log_prob: None,
            children,
        }
    }

    /// An irregular tree of about `n` nodes.
    fn bush(n: usize, state: &mut u32) -> TreeNode {
        *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let forks = 1 + (*state >> 24) as usize % 4;
        let share = n.saturating_sub(1) / forks;
        let children = if share == 0 { 0 } else { forks };
        node(
            &"x".repeat(1 + (*state >> 16) as usize % 9),
            (0..children).map(|_| bush(share, state)).collect(),
        )
    }

    #[test]
    fn no_two_labels_overlap_and_no_edge_goes_back() {
        let chain = (0..60).fold(node("end", vec![]), |next, _| node("on", vec![next]));
        let golden =
            std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/tree_encoder_624.json"));
        let golden: serde_json::Value = serde_json::from_slice(&golden.unwrap()).unwrap();
        let golden = serde_json::from_value(golden["root"].clone()).unwrap();
        let mut state = 1;
        for tree in [node("", vec![]), chain, golden, bush(20, &mut state), bush(2000, &mut state)] {
            let steps = walk(&tree);
            let widths: Vec<f64> = steps.iter().map(|step| 7.0 * step.node.token.len() as f64).collect();
            let places = places(&steps, &widths, 20.0);
            let mut labels: Vec<_> = places
                .iter()
                .zip(&widths)
                .map(|(place, width)| (place.row, place.left, place.left + width))
                .collect();
            labels.sort_by(|a, b| a.partial_cmp(b).unwrap());
            for pair in labels.windows(2) {
                assert!(pair[0].0 != pair[1].0 || pair[0].2 < pair[1].1, "{pair:?}");
            }
            for (i, step) in steps.iter().enumerate() {
                if let Some(parent) = step.parent {
                    assert!(places[parent].left + widths[parent] < places[i].left);
                    assert!(places[parent].row <= places[i].row);
                }
            }
            let leaves = steps.iter().filter(|step| step.node.children.is_empty()).count();
            assert_eq!(rows(&steps).iter().max(), Some(&(leaves - 1)));
        }
    }
}
