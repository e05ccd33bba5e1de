//! Margin, density, colors and errors of the two painters of a page, SVG and bitmap.

use super::page::Rgb;
use crate::error::{Error, Result};
use plotters::style::RGBColor;

/// The white margin around the picture, in screen pixels.
pub(super) const MARGIN: f64 = 16.0;
/// Pixels of a PNG for each screen pixel.
pub(super) const DENSITY: f64 = 2.0;

pub(super) fn rgb((red, green, blue): Rgb) -> RGBColor {
    RGBColor(red, green, blue)
}

pub(super) fn drawn<T>(result: std::result::Result<T, impl std::error::Error>) -> Result<T> {
    result.map_err(|error| Error::failed("draw the picture")(error.to_string()))
}

/// An encoder of RGB pixels, three bytes each.
pub(super) fn png_encoder(
    bytes: &mut Vec<u8>,
    columns: usize,
    rows: usize,
) -> png::Encoder<'_, &mut Vec<u8>> {
    let mut encoder = png::Encoder::new(bytes, columns as u32, rows as u32);
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    encoder
}
