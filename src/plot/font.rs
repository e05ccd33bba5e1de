//! DejaVu Sans, which is part of the program: the width of text, and its pixels in a bitmap.

use ab_glyph::{Font, FontRef, GlyphId, ScaleFont, point};
use std::sync::OnceLock;

/// The height of a lowercase letter such as x, in ems.
const X_HEIGHT: f64 = 0.547;
/// The width of a character that is missing from the font, in ems: Chinese and emoji are about square.
const UNKNOWN_WIDTH: f64 = 1.1;

/// The font, which is part of the program; `None` if it cannot be read.
fn font() -> Option<&'static FontRef<'static>> {
    static FONT: OnceLock<Option<FontRef<'static>>> = OnceLock::new();
    FONT.get_or_init(|| FontRef::try_from_slice(dejavu::sans::regular()).ok()).as_ref()
}

/// The width of text at font size `em`, plus 3% because another sans-serif font may be wider.
pub(super) fn width(text: &str, em: f64) -> f64 {
    pen_steps(text, em).map(|(_, step)| step).sum::<f64>() * 1.03
}

/// Cuts text to a width of `room` pixels.
pub(super) fn fitted(text: &str, em: f64, room: f64) -> String {
    if width(text, em) <= room {
        return text.to_owned();
    }
    let mut end = 0.0;
    let fits = |c: &char| {
        end += width(c.encode_utf8(&mut [0; 4]), em);
        end + width("…", em) <= room
    };
    let mut shorter: String = text.chars().take_while(fits).collect();
    shorter.truncate(shorter.trim_end().len());
    shorter + "…"
}

/// Each character and the distance that it moves the pen.
fn pen_steps(text: &str, em: f64) -> impl Iterator<Item = (char, f64)> {
    let scaled = font().map(|font| font.as_scaled(scale(font, em)));
    text.chars().map(move |c| {
        let known = scaled.as_ref().map(|font| (font.glyph_id(c), font));
        let step = match known {
            Some((glyph, font)) if glyph != GlyphId(0) => f64::from(font.h_advance(glyph)),
            _ => UNKNOWN_WIDTH * em,
        };
        (c, step)
    })
}

/// The font size that ab_glyph expects: the height of a line, not an em.
fn scale(font: &FontRef<'_>, em: f64) -> f32 {
    let units = font.units_per_em().unwrap_or(2048.0);
    em as f32 * font.height_unscaled() / units
}

/// Draws text that begins at `x`, with lowercase letters centered on `y`: calls `ink` with the column, the row and the
/// coverage of each pixel. A character that is missing from the font becomes a box with its code point.
pub(super) fn draw(text: &str, em: f64, (x, y): (f64, f64), ink: &mut impl FnMut(i64, i64, f32)) {
    let Some(font) = font() else { return };
    let baseline = y + em * X_HEIGHT / 2.0;
    let mut pen = x;
    for (c, step) in pen_steps(text, em) {
        let id = font.glyph_id(c);
        if id == GlyphId(0) {
            draw_unknown(c, em, (pen, baseline), ink);
        } else {
            let glyph = id.with_scale_and_position(scale(font, em), point(pen as f32, baseline as f32));
            if let Some(outline) = font.outline_glyph(glyph) {
                let corner = outline.px_bounds().min;
                outline.draw(|dx, dy, coverage| {
                    ink(corner.x as i64 + i64::from(dx), corner.y as i64 + i64::from(dy), coverage.min(1.0));
                });
            }
        }
        pen += step;
    }
}

/// Draws a box with the code point of a character in it, in two lines.
fn draw_unknown(c: char, em: f64, (pen, baseline): (f64, f64), ink: &mut impl FnMut(i64, i64, f32)) {
    let line = (em / 16.0).max(1.0).round() as i64;
    let (left, right) = ((pen + 0.06 * em).round() as i64, (pen + 1.04 * em).round() as i64);
    let (top, bottom) = ((baseline - 0.83 * em).round() as i64, (baseline + 0.17 * em).round() as i64);
    for row in top..bottom {
        for column in left..right {
            let inside = row >= top + line && row < bottom - line;
            if !(inside && column >= left + line && column < right - line) {
                ink(column, row, 0.6);
            }
        }
    }
    let digits = format!("{:04X}", u32::from(c));
    let (upper, lower) = digits.split_at(digits.len() / 2);
    for (half, middle) in [(upper, -0.57), (lower, -0.13)] {
        let size = em * if half.len() > 2 { 0.38 } else { 0.42 };
        let width: f64 = pen_steps(half, size).map(|(_, step)| step).sum();
        draw(half, size, (pen + 0.55 * em - width / 2.0, baseline + middle * em + 0.02 * em), ink);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_to_the_room() {
        assert_eq!(fitted("a boat", 10.0, 100.0), "a boat");
        let cut = fitted("a boat on the lake", 10.0, 50.0);
        assert!(cut.starts_with("a boa") && cut.ends_with('…') && width(&cut, 10.0) <= 50.0, "{cut}");
        assert_eq!(fitted("a boat", 10.0, 1.0), "…");
    }
}
