//! Trees as text for a terminal: each line is a branch, after the probability of its end.

use super::tree::{DefinitionTree, TreeNode};
use crate::label::{percent, ratio, visible_line};
use std::fmt;

impl DefinitionTree {
    /// The tree as indented text; with `most`, only the `most` likeliest nodes and a note about the others.
    pub(crate) fn to_text(&self, most: Option<usize>) -> String {
        let likeliest = most.and_then(|most| self.likeliest(most));
        let shown = likeliest.as_ref().map_or(self, |(likeliest, _)| likeliest);
        let mut lines = vec![
            visible_line(&self.params.vector.title()),
            format!("{}   {}", visible_line(&self.params.prompt.replace("{}", "*")), self.extent()),
        ];
        branches(&shown.root, "", &mut lines);
        if let Some((_, cutoff)) = likeliest {
            lines.push(format!("(nodes less likely than {} are not shown)", percent(cutoff)));
        }
        lines.join("\n")
    }

    /// The tree of the `most` likeliest nodes, and the probability of the first one left out; `None` if all nodes fit.
    pub(crate) fn likeliest(&self, most: usize) -> Option<(DefinitionTree, f64)> {
        let mut probabilities = Vec::with_capacity(self.len());
        collect(&self.root, &mut probabilities);
        probabilities.sort_by(|a, b| b.total_cmp(a));
        let cutoff = *probabilities.get(most)?;
        Some((self.trim(cutoff.next_up()), cutoff))
    }
}

impl fmt::Display for DefinitionTree {
    /// Writes the likeliest nodes, as many as fit on a screen or two.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NODES: usize = 120;
        f.write_str(&self.to_text(Some(NODES)))
    }
}

fn collect(node: &TreeNode, probabilities: &mut Vec<f64>) {
    for child in &node.children {
        probabilities.push(child.cumulative_prob);
        collect(child, probabilities);
    }
}

/// Adds a line for each branch of a node. A chain of single children shares one line.
fn branches(node: &TreeNode, indent: &str, lines: &mut Vec<String>) {
    for (i, child) in node.children.iter().enumerate() {
        let is_last = i + 1 == node.children.len();
        let (text, end) = chain(child);
        let ratio = end.log_ratio().map_or(String::new(), |log_ratio| format!("{:>7}", ratio(log_ratio)));
        let fork = if is_last { "└─" } else { "├─" };
        lines.push(format!("{:>7}{ratio}  {indent}{fork} {text}", percent(end.cumulative_prob)));
        branches(end, &format!("{indent}{}", if is_last { "   " } else { "│  " }), lines);
    }
}

/// The text from a node to the next fork or leaf, and the node there.
pub(crate) fn chain(node: &TreeNode) -> (String, &TreeNode) {
    let (mut text, mut end) = (node.token.clone(), node);
    while let [only] = end.children.as_slice() {
        text += &only.token;
        end = only;
    }
    let visible = visible_line(text.strip_prefix(' ').unwrap_or(&text));
    (if visible.trim().is_empty() { "␣".to_owned() } else { visible }, end)
}
