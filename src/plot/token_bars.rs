//! Pictures of lists with scores: bars from zero, or dots if the smallest score is the best.

use super::axis::{Axis, range};
use super::figure::Figure;
use super::font;
use super::page::{Anchor, BLUE, FAINT, INK, Page, RULE, Rgb, WHITE};
use crate::interpret::{SimilarFeatures, TokenList, TokenMethod, TokenOrder};
use crate::label::{number, spaced_label, visible_line};

/// The font sizes of labels and of the numbers beside the bars, and the height of a row.
const EM: f64 = 12.0;
const SMALL: f64 = 9.0;
const ROW: f64 = 19.0;
/// The length of the longest bar.
const LENGTH: f64 = 340.0;
/// The most rows in a picture.
const MOST_ROWS: usize = 200;
/// The color of the `␣` before a word, and of the lines to dots.
const SPACE: Rgb = (0xb4, 0xb9, 0xc2);
/// The color of values below zero.
pub(super) const RED: Rgb = (0xb3, 0x2d, 0x24);

/// A token list, best first: dots if small scores are good ("ratio"), bars from zero for the other methods.
pub fn tokens_figure(list: &TokenList) -> Figure {
    let params = &list.params;
    let rows: Vec<_> = list.tokens.iter().map(|t| (spaced_label(&t.token), t.score)).collect();
    let (what, bars) = match params.method {
        TokenMethod::Ratio => {
            ("distance from the vector over distance from the centroid; less is nearer", false)
        }
        TokenMethod::CenteredCosine => ("cosine with the direction, centered", true),
        TokenMethod::LogitLens => ("logit, through the final norm's gain", true),
        TokenMethod::LogitLensRaw => ("logit", true),
    };
    let order = match params.order {
        TokenOrder::Nearest => "nearest tokens",
        TokenOrder::Farthest => "farthest tokens",
    };
    let vector = &params.vector;
    let known = vector.feature.is_some() || !vector.model.is_empty();
    let title = if known { format!("{order}: {}", vector.title()) } else { order.to_owned() };
    list_figure(&title, what, &rows, bars)
}

/// Similar features, nearest first, as bars.
pub fn features_figure(similar: &SimilarFeatures) -> Figure {
    let rows: Vec<_> =
        similar.features.iter().map(|other| (other.feature.to_string(), other.cosine)).collect();
    let of = if similar.other == similar.sae { String::new() } else { format!(" in {}", similar.other) };
    let title = format!("features like {} of {}{of}", similar.feature, similar.sae);
    list_figure(&title, "cosine of the decoder directions", &rows, true)
}

/// A list of labels with scores, as bars from zero or else as dots; `what` says what a score is.
fn list_figure(title: &str, what: &str, all: &[(String, f64)], bars: bool) -> Figure {
    let mut page = Page::default();
    page.text(0.0, 8.0, 15.0, INK, visible_line(title));
    page.text(0.0, 28.0, 10.5, FAINT, what);
    let rows = &all[..all.len().min(MOST_ROWS)];
    let labels = rows.iter().map(|(label, _)| font::width(label, EM)).fold(20.0, f64::max);
    let (start, top) = (labels + 10.0, 64.0);
    let bottom = top + rows.len() as f64 * ROW;
    let (least, most) = range(rows.iter().map(|(_, score)| *score));
    let limits = if bars {
        (least.min(0.0), most.max(0.0))
    } else {
        let room = (most - least) * 0.04;
        (least - room, most + room)
    };
    let axis = Axis::new(limits, start, LENGTH);
    for (x, text) in axis.ticks(5) {
        page.line(vec![(axis.at(x), top), (axis.at(x), bottom)], 1.0, RULE);
        page.text_at(Anchor::Middle, axis.at(x), top - 10.0, SMALL, FAINT, text);
    }
    for (i, (label, score)) in rows.iter().enumerate() {
        let y = top + (i as f64 + 0.5) * ROW;
        token(&mut page, labels, y, label);
        let end = axis.at(*score);
        if bars {
            let zero = axis.at(0.0);
            let color = if *score < 0.0 { RED } else { BLUE };
            page.fill(zero.min(end), y - 5.5, (end - zero).abs().max(1.0), 11.0, color);
        } else {
            page.line(vec![(start, y), (end, y)], 1.0, SPACE);
            page.dot(end, y, 4.0, BLUE);
        }
        let (number, left) = (number(*score), end.max(axis.at(0.0)) + 9.0);
        // A white background keeps the lines of the axis out of the number.
        page.fill(left - 2.0, y - SMALL / 2.0, font::width(&number, SMALL) + 4.0, SMALL, WHITE);
        page.text(left, y, SMALL, FAINT, number);
    }
    page.line(vec![(axis.at(0.0), top), (axis.at(0.0), bottom)], 1.0, FAINT);
    page.width = page.width.max(start + LENGTH + 10.0);
    page.height = bottom;
    if all.len() > rows.len() {
        page.text(0.0, bottom + 10.0, SMALL, FAINT, format!("… and {} more", all.len() - rows.len()));
        page.height += 16.0;
    }
    Figure { page }
}

/// Draws a token that ends at `right`, with a faint `␣` for a leading space.
pub(super) fn token(page: &mut Page, right: f64, y: f64, label: &str) {
    let (space, word) = match label.strip_prefix('␣') {
        Some(word) if !word.is_empty() => (true, word),
        _ => (false, label),
    };
    page.text_at(Anchor::End, right, y, EM, INK, word);
    if space {
        page.text_at(Anchor::End, right - font::width(word, EM) - 1.0, y, EM, SPACE, "␣");
    }
}
