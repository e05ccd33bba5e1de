//! The names of things along an axis, such as tokens.

use super::super::axis::Axis;
use super::super::font::{self, fitted};
use super::super::page::{Anchor, INK, Page};
use super::TICK;

/// The layout of the names along an axis.
#[derive(Default)]
pub(super) struct CategoryLabels {
    /// The names, cut to fit.
    names: Vec<String>,
    /// Whether the names run upward, because they do not fit side by side.
    is_upright: bool,
    /// Every `stride`-th name is shown.
    stride: usize,
}

impl CategoryLabels {
    /// Lays out names along `width` pixels; vertical ones are at most `height` pixels high.
    pub(super) fn of(names: &[String], width: f64, height: f64) -> CategoryLabels {
        let room = width / names.len().max(1) as f64;
        let needed = widest(names.iter().map(String::as_str), TICK) + 8.0;
        // If the names are numbers, some can be left out.
        if needed <= room || is_numbers(names) {
            let stride = round_stride((needed / room).ceil().max(1.0) as usize);
            return CategoryLabels { names: names.to_vec(), is_upright: false, stride };
        }
        let names = names.iter().map(|name| fitted(name, TICK, height)).collect();
        CategoryLabels { names, is_upright: true, stride: ((TICK * 1.15) / room).ceil().max(1.0) as usize }
    }

    /// The height of the names below the axis, in pixels.
    pub(super) fn height(&self) -> f64 {
        let shown = self.names.iter().step_by(self.stride.max(1)).map(String::as_str);
        if self.is_upright { widest(shown, TICK) + 8.0 } else { 18.0 }
    }

    pub(super) fn draw(&self, page: &mut Page, x: &Axis, bottom: f64) {
        for (i, name) in self.names.iter().enumerate().step_by(self.stride.max(1)) {
            let (anchor, y) = if self.is_upright { (Anchor::Upward, 6.0) } else { (Anchor::Middle, 11.0) };
            page.text_at(anchor, x.at(i as f64), bottom + y, TICK, INK, name);
        }
    }
}

/// Whether all names are numbers, so that some can be left out.
pub(super) fn is_numbers(names: &[String]) -> bool {
    names.iter().all(|name| name.parse::<f64>().is_ok())
}

/// Rounds up to the next of 1, 2, 5, 10, 20, …
pub(super) fn round_stride(stride: usize) -> usize {
    let powers = std::iter::successors(Some(1usize), |power| power.checked_mul(10));
    let mut round = powers.flat_map(|power| [1, 2, 5].map(|factor| power.saturating_mul(factor)));
    round.find(|round| *round >= stride).unwrap_or(stride)
}

/// The width of the widest text, in pixels.
pub(super) fn widest<'a>(texts: impl Iterator<Item = &'a str>, em: f64) -> f64 {
    texts.map(|text| font::width(text, em)).fold(0.0, f64::max)
}
