//! A picture that is laid out and can be drawn as SVG or PNG.

use super::bitmap::Bitmap;
use super::canvas::{DENSITY, MARGIN};
use super::page::Page;
use super::svg;
use crate::error::Result;

/// A picture that is laid out and can be drawn as SVG or PNG.
#[derive(Clone, PartialEq)]
pub struct Figure {
    pub(super) page: Page,
}

impl Figure {
    /// The width and height of the SVG, in screen pixels.
    pub fn size(&self) -> (u32, u32) {
        // Rounding may have moved an end slightly outward.
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

    /// The picture as PNG, with two pixels for each of the SVG, or fewer so that no side is longer than 16,000 pixels
    /// and there are at most 100 million in total.
    ///
    /// # Errors
    /// A picture that cannot be drawn.
    pub fn png(&self) -> Result<Vec<u8>> {
        Bitmap::new(&self.page, self.size(), DENSITY).png()
    }

    /// The width, the height and the RGBA pixels in the size of the SVG, `[height, width, 4]`.
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
