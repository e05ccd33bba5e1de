//! A page with marks on it: texts, lines and boxes, in pixels of a screen, before anything is drawn.

use super::font;

/// Red, green, blue.
pub(super) type Colour = (u8, u8, u8);

/// Texts.
pub(super) const INK: Colour = (0x1a, 0x1a, 0x1a);
/// What matters less.
pub(super) const FAINT: Colour = (0x76, 0x7b, 0x85);
/// Lines behind the picture.
pub(super) const RULE: Colour = (0xd9, 0xdc, 0xe1);
/// The paper.
pub(super) const WHITE: Colour = (0xff, 0xff, 0xff);
/// What the picture is about.
pub(super) const BLUE: Colour = (0x10, 0x1c, 0x8c);

/// From which side of a text its place is counted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// One thing on a page.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Mark {
    /// Small letters are centred on `y`; `em` is the size.
    Text { x: f64, y: f64, em: f64, anchor: Anchor, colour: Colour, text: String },
    /// A text that is read from below: small letters are centred on `x`, and it ends at `y`, above.
    Upright { x: f64, y: f64, em: f64, colour: Colour, text: String },
    /// A line through points.
    Line { points: Vec<(f64, f64)>, width: f64, colour: Colour },
    /// A filled circle.
    Dot { x: f64, y: f64, radius: f64, colour: Colour },
    /// A filled box.
    Box { left: f64, top: f64, width: f64, height: f64, colour: Colour },
    /// Filled boxes of one size, row by row, that fill a box.
    Cells { left: f64, top: f64, width: f64, height: f64, columns: usize, colours: Vec<Colour> },
}

/// Marks, and how large the page is.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Page {
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) marks: Vec<Mark>,
}

impl Page {
    /// A text that begins at `x`; the page grows to hold it.
    pub(super) fn text(&mut self, x: f64, y: f64, em: f64, colour: Colour, text: impl Into<String>) -> f64 {
        let text = text.into();
        let end = x + font::width(&text, em);
        self.width = self.width.max(end);
        self.marks.push(Mark::Text { x, y, em, anchor: Anchor::Start, colour, text });
        end
    }

    /// A text at one side of, or around, `x`.
    pub(super) fn text_at(
        &mut self,
        anchor: Anchor,
        x: f64,
        y: f64,
        em: f64,
        colour: Colour,
        text: impl Into<String>,
    ) {
        self.marks.push(Mark::Text { x, y, em, anchor, colour, text: text.into() });
    }

    /// A text that is read from below and ends at `y`, above.
    pub(super) fn upright(&mut self, x: f64, y: f64, em: f64, colour: Colour, text: impl Into<String>) {
        self.marks.push(Mark::Upright { x, y, em, colour, text: text.into() });
    }

    /// A line.
    pub(super) fn line(&mut self, points: Vec<(f64, f64)>, width: f64, colour: Colour) {
        self.marks.push(Mark::Line { points, width, colour });
    }

    /// A filled circle.
    pub(super) fn dot(&mut self, x: f64, y: f64, radius: f64, colour: Colour) {
        self.marks.push(Mark::Dot { x, y, radius, colour });
    }

    /// A filled box.
    pub(super) fn fill(&mut self, left: f64, top: f64, width: f64, height: f64, colour: Colour) {
        self.marks.push(Mark::Box { left, top, width, height, colour });
    }
}

/// The colour a part of the way from one to another.
pub(super) fn mix(from: Colour, to: Colour, part: f64) -> Colour {
    let part = if part.is_finite() { part.clamp(0.0, 1.0) } else { 0.0 };
    let mix = |from: u8, to: u8| (f64::from(from) + (f64::from(to) - f64::from(from)) * part).round() as u8;
    (mix(from.0, to.0), mix(from.1, to.1), mix(from.2, to.2))
}
