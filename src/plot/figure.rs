//! A page as a picture: SVG and PNG.

use super::bitmap::Bitmap;
use super::page::{Colour, Page};
use super::svg;
use crate::error::{Error, Result};
use plotters::style::{Color, RGBColor, ShapeStyle};

/// White around the picture.
pub(super) const MARGIN: f64 = 16.0;
/// Pixels of a bitmap for one of a screen.
pub(super) const DENSITY: f64 = 2.0;

/// A picture that is laid out, to be had as SVG or PNG.
#[derive(Clone, PartialEq)]
pub struct Figure {
    page: Page,
}

impl Figure {
    pub(super) fn new(page: Page) -> Self {
        Figure { page }
    }

    /// Its width and height in pixels of a screen, which are those of the SVG.
    pub fn size(&self) -> (u32, u32) {
        // Rounding may have put an end a little beyond where it is to be.
        let side = |x: f64| (x + 2.0 * MARGIN - 1e-6).ceil().clamp(1.0, 1e8) as u32;
        (side(self.page.width), side(self.page.height))
    }

    /// The picture as SVG.
    ///
    /// # Errors
    /// A picture that cannot be drawn.
    pub fn svg(&self) -> Result<String> {
        svg::draw(&self.page, self.size())
    }

    /// The picture as PNG, two pixels for one of the SVG, or fewer where it would be more than 16,000 pixels long or
    /// 100 million in all.
    ///
    /// # Errors
    /// A picture that cannot be drawn.
    pub fn png(&self) -> Result<Vec<u8>> {
        Bitmap::new(&self.page, self.size(), DENSITY).png()
    }

    /// The pixels, as many as the SVG has, row by row, `[height][width][red, green, blue, alpha]`.
    ///
    /// # Errors
    /// A picture that cannot be drawn.
    pub fn rgba(&self) -> Result<(usize, usize, Vec<u8>)> {
        Bitmap::new(&self.page, self.size(), 1.0).rgba()
    }
}

impl std::fmt::Debug for Figure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let marks = self.page.marks.len();
        f.debug_struct("Figure").field("size", &self.size()).field("marks", &marks).finish_non_exhaustive()
    }
}

pub(super) fn rgb((red, green, blue): Colour) -> RGBColor {
    RGBColor(red, green, blue)
}

pub(super) fn stroke(colour: Colour, width: u32) -> ShapeStyle {
    rgb(colour).stroke_width(width)
}

pub(super) fn drawn<T>(result: std::result::Result<T, impl std::error::Error>) -> Result<T> {
    result.map_err(|e| not_drawn(&e))
}

pub(super) fn not_drawn(error: &dyn std::error::Error) -> Error {
    Error::invalid("a picture", "one that can be drawn", error)
}

pub(super) fn not_encoded(error: png::EncodingError) -> Error {
    not_drawn(&error)
}
