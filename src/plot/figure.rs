//! A page becomes SVG or PNG.

use super::font;
use super::page::{Anchor, Colour, Mark, Page};
use crate::error::{Error, Result};
use base64::Engine;
use plotters::backend::{BitMapBackend, DrawingBackend, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{Color, FontTransform, IntoFont, RGBColor, ShapeStyle, TextStyle};

/// White around the picture.
const MARGIN: f64 = 16.0;
/// SVG is drawn in tenths of a pixel, since plotters counts in whole numbers.
const FINE: f64 = 10.0;
/// plotters divides the size of a font by this.
const PLOTTERS_EM: f64 = 1.24;
/// The fonts of an SVG: that which measured it, one as wide, whatever there is.
const FAMILY: &str = "DejaVu Sans, Verdana, sans-serif";
/// Pixels of a bitmap for one of a screen.
const DENSITY: f64 = 2.0;
/// The longest side of a bitmap, and the most pixels.
const LONGEST_SIDE: f64 = 16_000.0;
const MOST_PIXELS: f64 = 100e6;
/// Lines are drawn this many times larger and made smaller again, so that their borders are smooth.
const SMOOTH: usize = 2;
/// How many rows of a bitmap are drawn at a time: it bounds the memory.
const BAND: usize = 128;

/// A picture that is laid out, to be had as SVG or PNG.
#[derive(Debug, Clone, PartialEq)]
pub struct Figure {
    page: Page,
}

impl Figure {
    pub(super) fn new(page: Page) -> Self {
        Figure { page }
    }

    /// Its width and height in pixels of a screen, which are those of the SVG.
    pub fn size(&self) -> (u32, u32) {
        let side = |x: f64| (x + 2.0 * MARGIN).ceil().clamp(1.0, 1e8) as u32;
        (side(self.page.width), side(self.page.height))
    }

    /// The picture as SVG.
    ///
    /// # Errors
    /// A picture that cannot be drawn.
    pub fn svg(&self) -> Result<String> {
        let (width, height) = self.size();
        let fine = |x: f64| (x * FINE).round() as i32;
        let at = |x: f64, y: f64| (fine(x + MARGIN), fine(y + MARGIN));
        let mut svg = String::new();
        let size = (fine(f64::from(width)) as u32, fine(f64::from(height)) as u32);
        let mut backend = SVGBackend::with_string(&mut svg, size);
        let white = RGBColor(255, 255, 255).filled();
        draw(backend.draw_rect((0, 0), (size.0 as i32, size.1 as i32), &white, true))?;
        for mark in &self.page.marks {
            match mark {
                Mark::Text { x, y, em, anchor, colour, text } => {
                    let h_pos = match anchor {
                        Anchor::Start => HPos::Left,
                        Anchor::Middle => HPos::Center,
                        Anchor::End => HPos::Right,
                    };
                    let font = (FAMILY, em * FINE * PLOTTERS_EM).into_font();
                    let colour = rgb(*colour);
                    let style = TextStyle::from(font).color(&colour).pos(Pos::new(h_pos, VPos::Center));
                    draw(backend.draw_text(text, &style, at(*x, *y)))?;
                }
                Mark::Upright { x, y, em, colour, text } => {
                    let font =
                        (FAMILY, em * FINE * PLOTTERS_EM).into_font().transform(FontTransform::Rotate270);
                    let colour = rgb(*colour);
                    let style = TextStyle::from(font).color(&colour).pos(Pos::new(HPos::Right, VPos::Center));
                    draw(backend.draw_text(text, &style, at(*x, *y)))?;
                }
                Mark::Line { points, width, colour } => {
                    let style = stroke(*colour, (width * FINE).round().max(1.0) as u32);
                    draw(backend.draw_path(points.iter().map(|(x, y)| at(*x, *y)), &style))?;
                }
                Mark::Dot { x, y, radius, colour } => {
                    let radius = (radius * FINE).round() as u32;
                    draw(backend.draw_circle(at(*x, *y), radius, &rgb(*colour).filled(), true))?;
                }
                Mark::Box { left, top, width, height, colour } => {
                    let style = rgb(*colour).filled();
                    let (from, to) = (at(*left, *top), at(left + width, top + height));
                    draw(backend.draw_rect(from, to, &style, true))?;
                }
                // plotters has no bitmaps in an SVG: they come below.
                Mark::Cells { .. } => {}
            }
        }
        draw(backend.present())?;
        drop(backend);
        let end = svg.rfind("</svg>").unwrap_or(svg.len());
        let cells: Vec<_> = self.page.marks.iter().filter_map(|mark| cells_image(mark, at)).collect();
        svg.insert_str(end, &cells.into_iter().collect::<Result<String>>()?);
        // The size on a screen; the view box keeps the tenths.
        let header = |width: u32, height: u32| format!("<svg width=\"{width}\" height=\"{height}\"");
        Ok(svg.replacen(&header(size.0, size.1), &header(width, height), 1))
    }

    /// The picture as PNG, two pixels for one of the SVG, or fewer where it would be more than 16,000 pixels long or
    /// 100 million in all.
    ///
    /// # Errors
    /// A picture that cannot be drawn.
    pub fn png(&self) -> Result<Vec<u8>> {
        let (width, height) = self.size();
        let (width, height) = (f64::from(width), f64::from(height));
        let density =
            DENSITY.min(LONGEST_SIDE / width.max(height)).min((MOST_PIXELS / (width * height)).sqrt());
        let pixels = |x: f64| ((x * density).round() as usize).max(1);
        let (columns, rows) = (pixels(width), pixels(height));
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, columns as u32, rows as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        // 96 pixels of a screen are an inch.
        let per_meter = (density * 96.0 / 0.0254).round() as u32;
        let unit = png::Unit::Meter;
        encoder.set_pixel_dims(Some(png::PixelDimensions { xppu: per_meter, yppu: per_meter, unit }));
        let mut file = encoder.write_header().map_err(not_encoded)?;
        let mut stream = file.stream_writer().map_err(not_encoded)?;
        for top in (0..rows).step_by(BAND) {
            let band = Band { top, rows: BAND.min(rows - top), columns, density };
            let pixels = band.draw(&self.page)?;
            std::io::Write::write_all(&mut stream, &pixels).map_err(|e| not_drawn(&e))?;
        }
        stream.finish().map_err(not_encoded)?;
        drop(file);
        Ok(bytes)
    }
}

/// Some rows of a bitmap.
struct Band {
    top: usize,
    rows: usize,
    columns: usize,
    density: f64,
}

impl Band {
    /// Its pixels, three bytes each.
    fn draw(&self, page: &Page) -> Result<Vec<u8>> {
        let mut large = vec![255; self.columns * self.rows * SMOOTH * SMOOTH * 3];
        let size = ((self.columns * SMOOTH) as u32, (self.rows * SMOOTH) as u32);
        let mut backend = BitMapBackend::with_buffer(&mut large, size);
        for mark in &page.marks {
            self.draw_shape(mark, &mut backend)?;
        }
        draw(backend.present())?;
        drop(backend);
        let mut pixels = self.smaller(&large);
        for mark in &page.marks {
            if let Mark::Cells { left, top, width, height, columns, colours } = mark {
                self.draw_cells((*left, *top), (*width, *height), (*columns, colours), &mut pixels);
            }
            if let Mark::Text { x, y, em, anchor, colour, text } = mark {
                let width = match anchor {
                    Anchor::Start => 0.0,
                    Anchor::Middle => font::width(text, *em) / 2.0,
                    Anchor::End => font::width(text, *em),
                };
                self.draw_text(text, *em, (x - width, *y), *colour, &mut pixels);
            }
            if let Mark::Upright { x, y, em, colour, text } = mark {
                self.draw_upright(text, *em, (*x, *y), *colour, &mut pixels);
            }
        }
        Ok(pixels)
    }

    fn draw_shape(&self, mark: &Mark, backend: &mut BitMapBackend<'_>) -> Result<()> {
        let scale = self.density * SMOOTH as f64;
        let bottom = (self.rows * SMOOTH) as f64;
        let across = |x: f64| (x + MARGIN) * scale;
        let down = |y: f64| (y + MARGIN) * scale - (self.top * SMOOTH) as f64;
        match mark {
            Mark::Text { .. } | Mark::Upright { .. } | Mark::Cells { .. } => {}
            Mark::Line { points, width, colour } => {
                let width = (width * scale).round().max(1.0);
                let style = stroke(*colour, width as u32);
                let ends = points.iter().map(|(_, y)| down(*y));
                let (low, high) = ends.fold((f64::MAX, f64::MIN), |(l, h), y| (l.min(y), h.max(y)));
                if high + width < 0.0 || low - width > bottom {
                    return Ok(());
                }
                let points: Vec<_> = points.iter().map(|(x, y)| (across(*x), down(*y))).collect();
                // Only what crosses the band: a long line is drawn once in all, not once for every band.
                let outside = |pair: &[(f64, f64)]| {
                    let (low, high) = (pair[0].1.min(pair[1].1), pair[0].1.max(pair[1].1));
                    high + width < 0.0 || low - width > bottom
                };
                let pairs: Vec<_> = points.windows(2).collect();
                for run in pairs.split(|pair| outside(pair)).filter(|run| !run.is_empty()) {
                    let path = run.iter().map(|pair| pair[0]).chain(run.last().map(|pair| pair[1]));
                    let path: Vec<_> = path.map(|(x, y)| (x.round() as i32, y.round() as i32)).collect();
                    draw(backend.draw_path(path, &style))?;
                }
            }
            Mark::Dot { x, y, radius, colour } => {
                let (y, radius) = (down(*y), (radius * scale).round());
                if y + radius >= 0.0 && y - radius <= bottom {
                    let centre = (across(*x).round() as i32, y.round() as i32);
                    draw(backend.draw_circle(centre, radius as u32, &rgb(*colour).filled(), true))?;
                }
            }
            Mark::Box { left, top, width, height, colour } => {
                // A little beyond the band, whose last row would stay white otherwise.
                let edge = SMOOTH as f64;
                let (from, to) = (down(*top).max(-edge), down(top + height).min(bottom + edge));
                if to > from {
                    let corner = |x: f64, y: f64| (x.round() as i32, y.round() as i32 - 1);
                    let first = (across(*left).round() as i32, from.round() as i32);
                    let last = corner(across(left + width) - 1.0, to);
                    if last.0 >= first.0 && last.1 >= first.1 {
                        draw(backend.draw_rect(first, last, &rgb(*colour).filled(), true))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Every pixel the mean of those that it was drawn from.
    fn smaller(&self, large: &[u8]) -> Vec<u8> {
        let wide = self.columns * SMOOTH;
        let mut pixels = Vec::with_capacity(self.columns * self.rows * 3);
        for row in 0..self.rows {
            for column in 0..self.columns {
                for channel in 0..3 {
                    let parts = (0..SMOOTH * SMOOTH).map(|i| {
                        let (y, x) = (row * SMOOTH + i / SMOOTH, column * SMOOTH + i % SMOOTH);
                        u32::from(large[(y * wide + x) * 3 + channel])
                    });
                    pixels.push((parts.sum::<u32>() / (SMOOTH * SMOOTH) as u32) as u8);
                }
            }
        }
        pixels
    }

    /// Every pixel has the colour of the cell that it is in.
    fn draw_cells(
        &self,
        (left, top): (f64, f64),
        (width, height): (f64, f64),
        (columns, colours): (usize, &[Colour]),
        pixels: &mut [u8],
    ) {
        let rows = colours.len() / columns.max(1);
        // Which cell the middle of a pixel is in.
        let cell = |pixel: usize, start: f64, length: f64, n: usize| {
            let part = ((pixel as f64 + 0.5) / self.density - MARGIN - start) / length;
            (0.0..1.0).contains(&part).then(|| ((part * n as f64) as usize).min(n - 1))
        };
        let of_columns: Vec<_> = (0..self.columns).map(|x| cell(x, left, width, columns)).collect();
        for (y, line) in pixels.chunks_exact_mut(self.columns * 3).enumerate() {
            let Some(row) = cell(self.top + y, top, height, rows) else { continue };
            for (pixel, column) in line.chunks_exact_mut(3).zip(&of_columns) {
                if let Some(colour) = column.and_then(|column| colours.get(row * columns + column)) {
                    pixel.copy_from_slice(&[colour.0, colour.1, colour.2]);
                }
            }
        }
    }

    fn draw_text(&self, text: &str, em: f64, (x, y): (f64, f64), colour: Colour, pixels: &mut [u8]) {
        let size = em * self.density;
        let middle = (y + MARGIN) * self.density - self.top as f64;
        if middle + 2.0 * size < 0.0 || middle - 2.0 * size > self.rows as f64 {
            return;
        }
        let start = ((x + MARGIN) * self.density, middle);
        font::draw(text, size, start, &mut |column, row, coverage| {
            self.ink(column, row, colour, coverage, pixels);
        });
    }

    /// A text that ends at `y`, above: what a line of text has to its right is upwards here.
    fn draw_upright(&self, text: &str, em: f64, (x, y): (f64, f64), colour: Colour, pixels: &mut [u8]) {
        let size = em * self.density;
        let middle = ((x + MARGIN) * self.density).round() as i64;
        let bottom = (y + MARGIN + font::width(text, em)) * self.density - self.top as f64;
        if bottom < 0.0 || bottom - font::width(text, size) > self.rows as f64 {
            return;
        }
        font::draw(text, size, (0.0, 0.0), &mut |along, across, coverage| {
            self.ink(middle + across, bottom.round() as i64 - along, colour, coverage, pixels);
        });
    }

    /// Covers a part of one pixel.
    fn ink(&self, column: i64, row: i64, colour: Colour, coverage: f32, pixels: &mut [u8]) {
        if !(0..self.columns as i64).contains(&column) || !(0..self.rows as i64).contains(&row) {
            return;
        }
        let first = (row as usize * self.columns + column as usize) * 3;
        for (old, new) in pixels[first..first + 3].iter_mut().zip([colour.0, colour.1, colour.2]) {
            let mixed = f32::from(*old) + (f32::from(new) - f32::from(*old)) * coverage;
            *old = mixed.round() as u8;
        }
    }
}

/// Cells as a bitmap in an SVG, at `at` of the page: every cell so many pixels that they have borders everywhere,
/// whatever a viewer does with bitmaps.
fn cells_image(mark: &Mark, at: impl Fn(f64, f64) -> (i32, i32)) -> Option<Result<String>> {
    let Mark::Cells { left, top, width, height, columns, colours } = mark else { return None };
    let rows = colours.len() / (*columns).max(1);
    if rows == 0 {
        return None;
    }
    let fit = |length: f64, n: usize| ((length * DENSITY / n as f64).ceil() as usize).clamp(1, 64);
    let (wide, tall) = (fit(*width, *columns), fit(*height, rows));
    let mut pixels = Vec::with_capacity(colours.len() * wide * tall * 3);
    for row in colours.chunks_exact(*columns) {
        let line: Vec<u8> = row.iter().flat_map(|c| [c.0, c.1, c.2].repeat(wide)).collect();
        pixels.extend(line.repeat(tall));
    }
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, (columns * wide) as u32, (rows * tall) as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let written = encoder.write_header().and_then(|mut file| file.write_image_data(&pixels));
    if let Err(error) = written {
        return Some(Err(not_encoded(error)));
    }
    let ((x, y), (right, bottom)) = (at(*left, *top), at(left + width, top + height));
    Some(Ok(format!(
        "<image x=\"{x}\" y=\"{y}\" width=\"{}\" height=\"{}\" preserveAspectRatio=\"none\" \
         style=\"image-rendering:pixelated\" href=\"data:image/png;base64,{}\"/>\n",
        right - x,
        bottom - y,
        base64::engine::general_purpose::STANDARD.encode(&bytes)
    )))
}

fn rgb((red, green, blue): Colour) -> RGBColor {
    RGBColor(red, green, blue)
}

fn stroke(colour: Colour, width: u32) -> ShapeStyle {
    rgb(colour).stroke_width(width)
}

fn draw<T>(result: std::result::Result<T, impl std::error::Error>) -> Result<T> {
    result.map_err(|e| not_drawn(&e))
}

fn not_drawn(error: &dyn std::error::Error) -> Error {
    Error::invalid("a picture", "one that can be drawn", error)
}

fn not_encoded(error: png::EncodingError) -> Error {
    not_drawn(&error)
}
