//! Draws a page as a bitmap.

use super::canvas::{MARGIN, drawn, png_encoder, rgb};
use super::font;
use super::page::{Anchor, Mark, Page, Rgb};
use crate::error::Result;
use plotters::backend::{BitMapBackend, DrawingBackend};
use plotters::style::Color;

/// The longest side of a bitmap and the most pixels in it.
const LONGEST_SIDE: f64 = 16_000.0;
const MOST_PIXELS: f64 = 100e6;
/// Shapes are drawn this many times larger and then scaled down, so that their edges are smooth.
const SMOOTH: usize = 2;
/// The number of rows that are drawn at a time, to limit the memory.
const BAND: usize = 128;

/// A page and the size of its bitmap in pixels.
pub(super) struct Bitmap<'a> {
    page: &'a Page,
    columns: usize,
    rows: usize,
    density: f64,
}

impl<'a> Bitmap<'a> {
    /// A bitmap of a page whose width and height are in screen pixels, with `density` pixels for each of these, or
    /// fewer if it would be too large.
    pub(super) fn new(page: &'a Page, (width, height): (u32, u32), density: f64) -> Self {
        let (width, height) = (f64::from(width), f64::from(height));
        let density =
            density.min(LONGEST_SIDE / width.max(height)).min((MOST_PIXELS / (width * height)).sqrt());
        let pixels = |x: f64| ((x * density).round() as usize).max(1);
        Bitmap { page, columns: pixels(width), rows: pixels(height), density }
    }

    /// Draws the RGB pixels, three bytes each, a band of rows at a time.
    fn bands(&self) -> impl Iterator<Item = Result<Vec<u8>>> {
        (0..self.rows).step_by(BAND).map(|top| {
            let rows = BAND.min(self.rows - top);
            Band { top, rows, columns: self.columns, density: self.density }.draw(self.page)
        })
    }

    pub(super) fn png(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let mut encoder = png_encoder(&mut bytes, self.columns, self.rows);
        // An inch has 96 screen pixels.
        let per_meter = (self.density * 96.0 / 0.0254).round() as u32;
        let unit = png::Unit::Meter;
        encoder.set_pixel_dims(Some(png::PixelDimensions { xppu: per_meter, yppu: per_meter, unit }));
        let mut file = drawn(encoder.write_header())?;
        let mut stream = drawn(file.stream_writer())?;
        for pixels in self.bands() {
            drawn(std::io::Write::write_all(&mut stream, &pixels?))?;
        }
        drawn(stream.finish())?;
        drop(file);
        Ok(bytes)
    }

    pub(super) fn rgba(&self) -> Result<(usize, usize, Vec<u8>)> {
        let mut all = Vec::with_capacity(self.columns * self.rows * 4);
        for pixels in self.bands() {
            all.extend(pixels?.chunks_exact(3).flat_map(|pixel| [pixel[0], pixel[1], pixel[2], 255]));
        }
        Ok((self.columns, self.rows, all))
    }
}

/// A band of rows of a bitmap.
struct Band {
    top: usize,
    rows: usize,
    columns: usize,
    density: f64,
}

impl Band {
    /// Draws the RGB pixels of the band, three bytes each.
    fn draw(&self, page: &Page) -> Result<Vec<u8>> {
        let mut large = vec![255; self.columns * self.rows * SMOOTH * SMOOTH * 3];
        let size = ((self.columns * SMOOTH) as u32, (self.rows * SMOOTH) as u32);
        let mut backend = BitMapBackend::with_buffer(&mut large, size);
        for mark in &page.marks {
            self.draw_shape(mark, &mut backend)?;
        }
        drawn(backend.present())?;
        drop(backend);
        let mut pixels = self.smaller(&large);
        for mark in &page.marks {
            match mark {
                Mark::Cells { left, top, width, height, columns, colors } => {
                    self.draw_cells((*left, *top), (*width, *height), (*columns, colors), &mut pixels);
                }
                Mark::Text { x, y, em, anchor: Anchor::Upward, color, text } => {
                    self.draw_upright(text, *em, (*x, *y), *color, &mut pixels);
                }
                Mark::Text { x, y, em, anchor, color, text } => {
                    let part = match anchor {
                        Anchor::Start | Anchor::Upward => 0.0,
                        Anchor::Middle => 0.5,
                        Anchor::End => 1.0,
                    };
                    let left = x - font::width(text, *em) * part;
                    self.draw_text(text, *em, (left, *y), *color, &mut pixels);
                }
                _ => {}
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
            Mark::Text { .. } | Mark::Cells { .. } => {}
            Mark::Line { points, width, color } => {
                let width = (width * scale).round().max(1.0);
                let style = rgb(*color).stroke_width(width as u32);
                let ends = points.iter().map(|(_, y)| down(*y));
                let (low, high) = ends.fold((f64::MAX, f64::MIN), |(l, h), y| (l.min(y), h.max(y)));
                if high + width < 0.0 || low - width > bottom {
                    return Ok(());
                }
                let points: Vec<_> = points.iter().map(|(x, y)| (across(*x), down(*y))).collect();
                let pixel = |(x, y): (f64, f64)| (x.round() as i32, y.round() as i32);
                for (i, pair) in points.windows(2).enumerate() {
                    // Only segments that cross the band: otherwise each band would draw the entire line again.
                    let (low, high) = (pair[0].1.min(pair[1].1), pair[0].1.max(pair[1].1));
                    if high + width < 0.0 || low - width > bottom {
                        continue;
                    }
                    // Segment by segment: plotters treats a path as the border of an area, with holes where it
                    // crosses itself.
                    drawn(backend.draw_path([pixel(pair[0]), pixel(pair[1])], &style))?;
                    if i > 0 && width > 2.0 {
                        let radius = (width / 2.0) as u32;
                        drawn(backend.draw_circle(pixel(pair[0]), radius, &rgb(*color).filled(), true))?;
                    }
                }
            }
            Mark::Dot { x, y, radius, color } => {
                let (y, radius) = (down(*y), (radius * scale).round());
                if y + radius >= 0.0 && y - radius <= bottom {
                    let center = (across(*x).round() as i32, y.round() as i32);
                    drawn(backend.draw_circle(center, radius as u32, &rgb(*color).filled(), true))?;
                }
            }
            Mark::Box { left, top, width, height, color } => {
                // Slightly beyond the band, whose last row would stay white otherwise.
                let edge = SMOOTH as f64;
                let (from, to) = (down(*top).max(-edge), down(top + height).min(bottom + edge));
                let first = (across(*left).round() as i32, from.round() as i32);
                let last = ((across(left + width) - 1.0).round() as i32, to.round() as i32 - 1);
                if last.0 >= first.0 && last.1 >= first.1 {
                    drawn(backend.draw_rect(first, last, &rgb(*color).filled(), true))?;
                }
            }
        }
        Ok(())
    }

    /// Scales down: each pixel is the mean of the `SMOOTH × SMOOTH` pixels that were drawn for it.
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

    /// Gives each pixel the color of the cell that it is in.
    fn draw_cells(
        &self,
        (left, top): (f64, f64),
        (width, height): (f64, f64),
        (columns, colors): (usize, &[Rgb]),
        pixels: &mut [u8],
    ) {
        let rows = colors.len() / columns.max(1);
        // The index of the cell that contains the center of a pixel.
        let cell = |pixel: usize, start: f64, length: f64, n: usize| {
            let part = ((pixel as f64 + 0.5) / self.density - MARGIN - start) / length;
            (0.0..1.0).contains(&part).then(|| ((part * n as f64) as usize).min(n - 1))
        };
        let of_columns: Vec<_> = (0..self.columns).map(|x| cell(x, left, width, columns)).collect();
        for (y, line) in pixels.chunks_exact_mut(self.columns * 3).enumerate() {
            let Some(row) = cell(self.top + y, top, height, rows) else { continue };
            for (pixel, column) in line.chunks_exact_mut(3).zip(&of_columns) {
                if let Some(color) = column.and_then(|column| colors.get(row * columns + column)) {
                    pixel.copy_from_slice(&[color.0, color.1, color.2]);
                }
            }
        }
    }

    fn draw_text(&self, text: &str, em: f64, (x, y): (f64, f64), color: Rgb, pixels: &mut [u8]) {
        let size = em * self.density;
        let middle = (y + MARGIN) * self.density - self.top as f64;
        if middle + 2.0 * size < 0.0 || middle - 2.0 * size > self.rows as f64 {
            return;
        }
        let start = ((x + MARGIN) * self.density, middle);
        font::draw(text, size, start, &mut |column, row, coverage| {
            self.ink(column, row, color, coverage, pixels);
        });
    }

    /// Draws text that runs upward and ends at `y`.
    fn draw_upright(&self, text: &str, em: f64, (x, y): (f64, f64), color: Rgb, pixels: &mut [u8]) {
        let size = em * self.density;
        let middle = ((x + MARGIN) * self.density).round() as i64;
        let bottom = (y + MARGIN + font::width(text, em)) * self.density - self.top as f64;
        if bottom < 0.0 || bottom - font::width(text, size) > self.rows as f64 {
            return;
        }
        font::draw(text, size, (0.0, 0.0), &mut |along, across, coverage| {
            self.ink(middle + across, bottom.round() as i64 - along, color, coverage, pixels);
        });
    }

    /// Mixes a color into one pixel, by the part of the pixel that it covers.
    fn ink(&self, column: i64, row: i64, color: Rgb, coverage: f32, pixels: &mut [u8]) {
        if !(0..self.columns as i64).contains(&column) || !(0..self.rows as i64).contains(&row) {
            return;
        }
        let first = (row as usize * self.columns + column as usize) * 3;
        for (old, new) in pixels[first..first + 3].iter_mut().zip([color.0, color.1, color.2]) {
            let mixed = f32::from(*old) + (f32::from(new) - f32::from(*old)) * coverage;
            *old = mixed.round() as u8;
        }
    }
}
