//! Draws a page as SVG.

use super::canvas::{DENSITY, MARGIN, drawn, png_encoder, rgb};
use super::page::{Anchor, Mark, Page};
use crate::error::Result;
use base64::Engine;
use plotters::backend::{DrawingBackend, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontTransform, IntoFont, RGBColor, TextStyle};

/// SVG is drawn in tenths of a pixel, since plotters' coordinates are integers.
const FINE: f64 = 10.0;
/// plotters divides the size of a font by this.
const PLOTTERS_EM: f64 = 1.24;
/// The fonts of an SVG: the one that the text was measured in, one of equal width, any sans-serif font.
const FAMILY: &str = "DejaVu Sans, Verdana, sans-serif";

/// Draws a page of `width` by `height` screen pixels.
pub(super) fn draw(page: &Page, (width, height): (u32, u32)) -> Result<String> {
    let fine = |x: f64| (x * FINE).round() as i32;
    let at = |x: f64, y: f64| (fine(x + MARGIN), fine(y + MARGIN));
    let mut svg = String::new();
    let size = (fine(f64::from(width)) as u32, fine(f64::from(height)) as u32);
    let mut backend = SVGBackend::with_string(&mut svg, size);
    let white = RGBColor(255, 255, 255).filled();
    drawn(backend.draw_rect((0, 0), (size.0 as i32, size.1 as i32), &white, true))?;
    for mark in &page.marks {
        match mark {
            Mark::Text { x, y, em, anchor, color, text } => {
                let (h_pos, transform) = match anchor {
                    Anchor::Start => (HPos::Left, FontTransform::None),
                    Anchor::Middle => (HPos::Center, FontTransform::None),
                    Anchor::End => (HPos::Right, FontTransform::None),
                    Anchor::Upward => (HPos::Right, FontTransform::Rotate270),
                };
                let font = (FAMILY, em * FINE * PLOTTERS_EM).into_font().transform(transform);
                let color = rgb(*color);
                let style = TextStyle::from(font).color(&color).pos(Pos::new(h_pos, VPos::Center));
                drawn(backend.draw_text(text, &style, at(*x, *y)))?;
            }
            Mark::Line { points, width, color } => {
                let style = rgb(*color).stroke_width((width * FINE).round().max(1.0) as u32);
                drawn(backend.draw_path(points.iter().map(|(x, y)| at(*x, *y)), &style))?;
            }
            Mark::Dot { x, y, radius, color } => {
                let radius = (radius * FINE).round() as u32;
                drawn(backend.draw_circle(at(*x, *y), radius, &rgb(*color).filled(), true))?;
            }
            Mark::Box { left, top, width, height, color } => {
                let style = rgb(*color).filled();
                let (from, to) = (at(*left, *top), at(left + width, top + height));
                drawn(backend.draw_rect(from, to, &style, true))?;
            }
            // plotters cannot put bitmaps into an SVG: they are added below.
            Mark::Cells { .. } => {}
        }
    }
    drawn(backend.present())?;
    drop(backend);
    let end = svg.rfind("</svg>").unwrap_or(svg.len());
    let cells = page.marks.iter().map(|mark| cells_image(mark, at)).collect::<Result<String>>()?;
    svg.insert_str(end, &cells);
    // The size in screen pixels; the view box stays in tenths.
    let header = |width: u32, height: u32| format!("<svg width=\"{width}\" height=\"{height}\"");
    Ok(svg.replacen(&header(size.0, size.1), &header(width, height), 1))
}

/// Cells as a bitmap in an SVG, empty for other marks; `at` converts page coordinates. A cell has several pixels, so that
/// its edges stay sharp however a viewer scales bitmaps.
fn cells_image(mark: &Mark, at: impl Fn(f64, f64) -> (i32, i32)) -> Result<String> {
    let Mark::Cells { left, top, width, height, columns, colors } = mark else { return Ok(String::new()) };
    let rows = colors.len() / (*columns).max(1);
    if rows == 0 {
        return Ok(String::new());
    }
    let fit = |length: f64, n: usize| ((length * DENSITY / n as f64).ceil() as usize).clamp(1, 64);
    let (wide, tall) = (fit(*width, *columns), fit(*height, rows));
    let mut pixels = Vec::with_capacity(colors.len() * wide * tall * 3);
    for row in colors.chunks_exact(*columns) {
        let line: Vec<u8> = row.iter().flat_map(|c| [c.0, c.1, c.2].repeat(wide)).collect();
        pixels.extend(line.repeat(tall));
    }
    let mut bytes = Vec::new();
    let encoder = png_encoder(&mut bytes, columns * wide, rows * tall);
    drawn(encoder.write_header().and_then(|mut file| file.write_image_data(&pixels)))?;
    let ((x, y), (right, bottom)) = (at(*left, *top), at(left + width, top + height));
    Ok(format!(
        "<image x=\"{x}\" y=\"{y}\" width=\"{}\" height=\"{}\" preserveAspectRatio=\"none\" \
         style=\"image-rendering:pixelated\" href=\"data:image/png;base64,{}\"/>\n",
        right - x,
        bottom - y,
        base64::engine::general_purpose::STANDARD.encode(&bytes)
    ))
}
