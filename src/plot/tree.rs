//! The picture of a definition tree, left to right: the likelier the text up to its end, the thicker an edge.

use super::figure::Figure;
use super::font;
use super::layout::{Position, Step, places, walk};
use super::page::{BLUE, FAINT, INK, Page, Rgb, mix};
use crate::interpret::DefinitionTree;
use crate::label::{percent, visible_line};

/// The font sizes of labels and of the probabilities beside them, and the height of a row.
const EM: f64 = 13.0;
const SMALL: f64 = 8.5;
const ROW: f64 = 20.0;
/// The font size of labels to which [`edge_width`] belongs.
const EDGE_EM: f64 = 48.0;
/// The space between a label and its edges.
const GAP: f64 = 5.0;
/// The space between a label and its probability.
const PROB_GAP: f64 = 4.0;
/// The number of straight pieces in a curve.
const PIECES: usize = 20;
/// The colors of a token as likely as under the null, and of one `10^MAX` times likelier.
const SAME: Rgb = (0xb4, 0xb9, 0xc2);
const LIKELIER: Rgb = (0xc2, 0x25, 0x1c);
const MAX: f64 = 3.0;

/// The width of an edge between labels of size 48: `1 + 32 · ((log P − log Pmin) / (log Pmax − log Pmin))^2.5`, always
/// between 1 and 33.
pub(super) fn edge_width(probability: f64, least: f64, most: f64) -> f64 {
    let range = most.ln() - least.ln();
    let part = if range > 0.0 { (probability.ln() - least.ln()) / range } else { 1.0 };
    // The thinnest if the probability is NaN or not above zero.
    let is_invalid = part.is_nan() || probability.is_nan() || probability <= 0.0;
    let part = if is_invalid { 0.0 } else { part.clamp(0.0, 1.0) };
    1.0 + 32.0 * part.powf(2.5)
}

/// The least and the greatest probability, trimmed or not: the tree's cutoff, or its least likely node, and its root.
pub(super) fn probability_range(tree: &DefinitionTree, steps: &[Step<'_>]) -> (f64, f64) {
    let probabilities =
        steps.iter().map(|step| step.node.cumulative_prob).filter(|p| *p > 0.0 && p.is_finite());
    let most = tree.root.cumulative_prob;
    let most = if most > 0.0 && most.is_finite() { most } else { 1.0 };
    let cutoff = tree.params.cutoff;
    let least = if cutoff > 0.0 && cutoff < most { cutoff } else { probabilities.fold(most, f64::min) };
    (least, most)
}

/// A definition tree, left to right, below the vector's title and the prompt. The root is `*`. If the tree was compared
/// with a null, tokens likelier than under it are red, the others gray.
pub fn tree_figure(tree: &DefinitionTree) -> Figure {
    let steps = walk(&tree.root);
    let (least, most) = probability_range(tree, &steps);
    let compared = steps.iter().any(|step| step.node.null_log_prob.is_some());
    let siblings = |step: &Step<'_>| step.parent.map_or(1, |parent| steps[parent].node.children.len());
    // The probability of a node with siblings, or of a leaf.
    let prob = |step: &Step<'_>| {
        let is_shown = step.parent.is_some() && (siblings(step) > 1 || step.node.children.is_empty());
        if is_shown { percent(step.node.cumulative_prob) } else { String::new() }
    };
    let labels: Vec<_> = steps.iter().map(|step| (step.label(), prob(step))).collect();
    let widths: Vec<_> =
        labels.iter().map(|(label, prob)| font::width(label, EM) + prob_width(prob)).collect();
    let places = places(&steps, &widths, ROW);
    let mut page = Page::default();
    let top = heading(tree, compared, &mut page) + ROW / 2.0;
    let y = |place: &Position| top + place.row as f64 * ROW;
    // Thin edges first, so that they do not cut a thick one that leaves the same label.
    let mut edges: Vec<_> =
        steps.iter().enumerate().filter_map(|(i, step)| Some((i, step.parent?))).collect();
    edges.reverse();
    edges.sort_by(|(a, _), (b, _)| steps[*a].node.cumulative_prob.total_cmp(&steps[*b].node.cumulative_prob));
    for (i, parent) in edges {
        let node = steps[i].node;
        let width = (edge_width(node.cumulative_prob, least, most) * EM / EDGE_EM).max(0.5);
        let from = (places[parent].left + widths[parent] + GAP, y(&places[parent]));
        let to = (places[i].left - GAP, y(&places[i]));
        let color = if compared { ratio_color(node.log_ratio(), SAME, LIKELIER) } else { BLUE };
        page.line(curve(from, places[parent].column_end + GAP, to), width, color);
    }
    for (i, (label, prob)) in labels.into_iter().enumerate() {
        let (left, y) = (places[i].left, y(&places[i]));
        let color = if compared && i > 0 {
            ratio_color(steps[i].node.log_ratio(), mix(SAME, INK, 0.5), mix(LIKELIER, INK, 0.25))
        } else {
            INK
        };
        let end = page.text(left, y, EM, color, label);
        if !prob.is_empty() {
            page.text(end + PROB_GAP, y + 1.5, SMALL, FAINT, prob);
        }
        page.height = page.height.max(y + ROW / 2.0);
    }
    Figure { page }
}

fn prob_width(prob: &str) -> f64 {
    if prob.is_empty() { 0.0 } else { PROB_GAP + font::width(prob, SMALL) }
}

/// A line that is straight up to the end of the column, `bend`, and then an S to the label.
fn curve(from: (f64, f64), bend: f64, to: (f64, f64)) -> Vec<(f64, f64)> {
    if from.1 == to.1 {
        return vec![from, to];
    }
    let bend = bend.max(from.0);
    let middle = (bend + to.0) / 2.0;
    let mut points = if bend > from.0 { vec![from] } else { Vec::new() };
    for i in 0..=PIECES {
        let t = i as f64 / PIECES as f64;
        let weights = [(1.0 - t).powi(3), 3.0 * t * (1.0 - t).powi(2), 3.0 * t * t * (1.0 - t), t.powi(3)];
        let along = |points: [f64; 4]| points.iter().zip(weights).map(|(p, w)| p * w).sum::<f64>();
        points.push((along([bend, middle, middle, to.0]), along([from.1, from.1, to.1, to.1])));
    }
    points
}

/// The color of a log ratio: `same` if at most as likely as under the null, `likelier` from 1000 times as likely.
fn ratio_color(log_ratio: Option<f64>, same: Rgb, likelier: Rgb) -> Rgb {
    let decades = log_ratio.unwrap_or(0.0) / std::f64::consts::LN_10;
    mix(same, likelier, decades / MAX)
}

/// Draws the title, the prompt and the legend; returns their height.
fn heading(tree: &DefinitionTree, compared: bool, page: &mut Page) -> f64 {
    let mut y = 0.0;
    let vector = &tree.params.vector;
    if vector.feature.is_some() || !vector.model.is_empty() {
        y += 10.0;
        page.text(0.0, y, 17.0, INK, visible_line(&vector.title()));
        y += 12.0;
    }
    let prompt = visible_line(&tree.params.prompt.replace("{}", "*"));
    let extent = tree.extent();
    let facts = if prompt.is_empty() { extent } else { format!("{prompt}   —   {extent}") };
    y += 8.0;
    page.text(0.0, y, 11.0, FAINT, facts.replace("  ", " \u{a0}"));
    y += 10.0;
    if compared {
        y += 10.0;
        legend(y, page);
        y += 8.0;
    }
    y + 12.0
}

/// Draws the legend of the colors.
fn legend(y: f64, page: &mut Page) {
    let mut x = page.text(0.0, y, 10.0, FAINT, "likelier than under the null:") + 10.0;
    for (decade, times) in ["×1", "×10", "×100", "×1000"].into_iter().enumerate() {
        page.fill(x, y - 4.0, 22.0, 8.0, mix(SAME, LIKELIER, decade as f64 / MAX));
        x = page.text(x + 26.0, y, 10.0, FAINT, times) + 12.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edge_widths_follow_the_formula() {
        let cases = [
            (1.0, 33.0),
            (0.5, 27.691_242),
            (0.1, 17.513_627),
            (0.01, 7.699_224),
            (0.001, 2.610_412),
            (0.0001, 1.041_471),
            (5e-5, 1.0),
        ];
        for (probability, expected) in cases {
            let got = edge_width(probability, 5e-5, 1.0);
            assert!((got - expected).abs() < 1e-6, "{probability}: {got}, expected {expected}");
        }
        // Probabilities that are invalid or out of range have the least or the greatest width.
        assert_eq!(edge_width(f64::NAN, 5e-5, 1.0), 1.0);
        assert_eq!(edge_width(0.0, 5e-5, 1.0), 1.0);
        assert_eq!(edge_width(-1.0, 5e-5, 1.0), 1.0);
        assert_eq!(edge_width(1e-9, 5e-5, 1.0), 1.0);
        assert_eq!(edge_width(1.0, 1.0, 1.0), 33.0);
        assert_eq!(edge_width(2.0, 0.5, 1.0), 33.0);
    }
}
