//! A page of marks (text, lines and boxes) in screen pixels, laid out but not yet drawn.

use super::font;

/// Red, green, blue.
pub(super) type Rgb = (u8, u8, u8);

/// The color of text.
pub(super) const INK: Rgb = (0x1a, 0x1a, 0x1a);
/// The color of less important text.
pub(super) const FAINT: Rgb = (0x76, 0x7b, 0x85);
/// The color of grid lines.
pub(super) const RULE: Rgb = (0xd9, 0xdc, 0xe1);
/// The color of the background.
pub(super) const WHITE: Rgb = (0xff, 0xff, 0xff);
/// The color of the data.
pub(super) const BLUE: Rgb = (0x10, 0x1c, 0x8c);

/// The point of a text that is at its `x`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
    /// The text runs upward and ends at `y`, with lowercase letters centered on `x`.
    Upward,
}

/// An element of a page.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Mark {
    /// Text with lowercase letters centered on `y`; `em` is the font size.
    Text { x: f64, y: f64, em: f64, anchor: Anchor, color: Rgb, text: String },
    /// A line through points; `width` is its thickness.
    Line { points: Vec<(f64, f64)>, width: f64, color: Rgb },
    /// A filled circle.
    Dot { x: f64, y: f64, radius: f64, color: Rgb },
    /// A filled box.
    Box { left: f64, top: f64, width: f64, height: f64, color: Rgb },
    /// A box divided into filled cells of equal size, row by row.
    Cells { left: f64, top: f64, width: f64, height: f64, columns: usize, colors: Vec<Rgb> },
}

/// A page: its size and its marks.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Page {
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) marks: Vec<Mark>,
}

impl Page {
    /// Adds text that begins at `x`, widens the page to hold it, and returns its right end.
    pub(super) fn text(&mut self, x: f64, y: f64, em: f64, color: Rgb, text: impl Into<String>) -> f64 {
        let text = text.into();
        let end = x + font::width(&text, em);
        self.width = self.width.max(end);
        self.marks.push(Mark::Text { x, y, em, anchor: Anchor::Start, color, text });
        end
    }

    /// Adds text at this anchor; the page keeps its size.
    pub(super) fn text_at(
        &mut self,
        anchor: Anchor,
        x: f64,
        y: f64,
        em: f64,
        color: Rgb,
        text: impl Into<String>,
    ) {
        self.marks.push(Mark::Text { x, y, em, anchor, color, text: text.into() });
    }

    /// Adds a line through points.
    pub(super) fn line(&mut self, points: Vec<(f64, f64)>, width: f64, color: Rgb) {
        self.marks.push(Mark::Line { points, width, color });
    }

    /// Adds a filled circle.
    pub(super) fn dot(&mut self, x: f64, y: f64, radius: f64, color: Rgb) {
        self.marks.push(Mark::Dot { x, y, radius, color });
    }

    /// Adds a filled box.
    pub(super) fn fill(&mut self, left: f64, top: f64, width: f64, height: f64, color: Rgb) {
        self.marks.push(Mark::Box { left, top, width, height, color });
    }
}

/// Mixes two colors: `from` at part 0, `to` at part 1.
pub(super) fn mix(from: Rgb, to: Rgb, part: f64) -> Rgb {
    let part = if part.is_finite() { part.clamp(0.0, 1.0) } else { 0.0 };
    let mix = |from: u8, to: u8| (f64::from(from) + (f64::from(to) - f64::from(from)) * part).round() as u8;
    (mix(from.0, to.0), mix(from.1, to.1), mix(from.2, to.2))
}
