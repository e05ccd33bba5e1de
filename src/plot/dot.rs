//! Definition trees in Graphviz' language, DOT.

use super::layout::walk;
use super::tree::{edge_width, probability_range};
use crate::interpret::DefinitionTree;
use std::fmt::Write;

/// A definition tree in DOT, left to right, with edges as wide as in the picture; `dot -Tpdf tree.dot` draws it.
pub fn tree_dot(tree: &DefinitionTree) -> String {
    let steps = walk(&tree.root);
    let (least, most) = probability_range(tree, &steps);
    let mut dot = String::from(
        "digraph definition_tree {\n  rankdir=LR; nodesep=0.06; ranksep=1; bgcolor=white;\n  \
         node [shape=plaintext, fontname=\"Helvetica\", fontsize=48];\n  \
         edge [color=darkblue, arrowhead=dot, arrowsize=1];\n",
    );
    for (i, step) in steps.iter().enumerate() {
        // Writing to a string does not fail.
        let _ = writeln!(dot, "  n{i} [label={}];", quoted(&step.label()));
        if let Some(parent) = step.parent {
            let width = edge_width(step.node.cumulative_prob, least, most);
            let tip = step.node.cumulative_prob;
            let _ = writeln!(dot, "  n{parent} -> n{i} [penwidth={width:.3}, tooltip=\"{tip}\"];");
        }
    }
    dot.push_str("}\n");
    dot
}

/// Quotes and escapes text: a backslash would start an escape of Graphviz, an ampersand an HTML entity.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('&', "&amp;"))
}
