//! The picture of a logit lens: a histogram of the logits, and the tokens at both ends.

use super::axis::Axis;
use super::figure::Figure;
use super::font;
use super::page::{Anchor, BLUE, FAINT, INK, Page, RULE, Rgb, mix};
use super::token_bars::{RED, token};
use crate::interpret::{LogitLens, ScoredToken};
use crate::label::{number, spaced_label, visible_line};

/// The size of the histogram.
const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 240.0;
/// The top and left of the histogram, below the titles.
const TOP: f64 = 74.0;
const LEFT: f64 = 44.0;
/// The height of a token's row beside it, and the length of the longest bar.
const ROW: f64 = 19.0;
const BAR: f64 = 90.0;

/// A logit lens: a histogram of the logits, with counts on a logarithmic scale so that a single token is visible, and
/// the tokens that the direction raises and lowers most.
pub fn lens_figure(lens: &LogitLens) -> Figure {
    let mut page = Page::default();
    let title = format!("logit lens: {}", lens.params.title());
    page.text(0.0, 8.0, 15.0, INK, visible_line(&title));
    let gain = if lens.final_norm_gain { "with" } else { "without" };
    let facts = format!(
        "{gain} the final norm's gain — mean {}, std {}, skewness {}, kurtosis {}",
        number(lens.mean),
        number(lens.std),
        number(lens.skewness),
        number(lens.kurtosis)
    );
    page.text(0.0, 28.0, 10.5, FAINT, facts);
    histogram(lens, &mut page);
    let first = tokens(&mut page, LEFT + WIDTH + 34.0, "raises", &lens.top, BLUE);
    tokens(&mut page, first + 30.0, "lowers", &lens.bottom, RED);
    Figure { page }
}

fn histogram(lens: &LogitLens, page: &mut Page) {
    let axis = Axis::new((lens.min, lens.max), LEFT, WIDTH);
    let most = lens.histogram.iter().copied().max().unwrap_or(0).max(1);
    // A count of 1 is visible, a count of 0 is not.
    let height = |count: u64| HEIGHT * (1.0 + count as f64).ln() / (1.0 + most as f64).ln();
    let bottom = TOP + HEIGHT;
    let mut count = 1u64;
    while count <= most {
        let y = bottom - height(count);
        page.line(vec![(LEFT, y), (LEFT + WIDTH, y)], 1.0, RULE);
        page.text_at(Anchor::End, LEFT - 7.0, y, 9.0, FAINT, count.to_string());
        count = count.saturating_mul(10);
    }
    page.text(0.0, TOP - 16.0, 9.0, FAINT, "tokens");
    let step = WIDTH / lens.histogram.len().max(1) as f64;
    for (i, count) in lens.histogram.iter().enumerate().filter(|(_, count)| **count > 0) {
        let gap = if step > 4.0 { 1.0 } else { 0.0 };
        let tall = height(*count);
        page.fill(LEFT + i as f64 * step, bottom - tall, step - gap, tall, mix(BLUE, (255, 255, 255), 0.35));
    }
    page.line(vec![(LEFT, bottom), (LEFT + WIDTH, bottom)], 1.0, FAINT);
    for (x, text) in axis.ticks(7) {
        page.line(vec![(axis.at(x), bottom), (axis.at(x), bottom + 4.0)], 1.0, FAINT);
        page.text_at(Anchor::Middle, axis.at(x), bottom + 13.0, 9.0, FAINT, text);
    }
    page.text_at(Anchor::Middle, LEFT + WIDTH / 2.0, bottom + 30.0, 10.0, FAINT, "logit");
    page.width = page.width.max(LEFT + WIDTH);
    page.height = bottom + 36.0;
}

/// Draws a column of tokens with bars; returns its right end.
fn tokens(page: &mut Page, left: f64, title: &str, tokens: &[ScoredToken], color: Rgb) -> f64 {
    let labels: Vec<_> = tokens.iter().map(|t| spaced_label(&t.token)).collect();
    let widest = labels.iter().map(|label| font::width(label, 12.0)).fold(40.0, f64::max);
    let right = left + widest;
    page.text_at(Anchor::End, right, TOP - 16.0, 10.5, color, title);
    let longest = tokens.iter().map(|t| t.score.abs()).filter(|x| x.is_finite()).fold(0.0, f64::max);
    let axis = Axis::new((0.0, longest), right + 8.0, BAR);
    let mut end = right + 8.0 + BAR;
    for (i, (t, label)) in tokens.iter().zip(&labels).enumerate() {
        let y = TOP + (i as f64 + 0.5) * ROW;
        token(page, right, y, label);
        let length = axis.at(t.score.abs()) - right - 8.0;
        page.fill(right + 8.0, y - 5.5, length.max(1.0), 11.0, color);
        end = end.max(page.text(right + 8.0 + length + 5.0, y, 9.0, FAINT, number(t.score)));
        page.height = page.height.max(y + ROW / 2.0);
    }
    end
}
