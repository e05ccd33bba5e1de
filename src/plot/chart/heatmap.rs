//! Heatmaps: matrices with a cell for each value.

use super::super::axis::{Axis, range};
use super::super::canvas::DENSITY;
use super::super::figure::Figure;
use super::super::font::{self, fitted};
use super::super::page::{Anchor, FAINT, INK, Mark, Page, RULE, Rgb, WHITE, mix};
use super::names::{CategoryLabels, is_numbers, round_stride, widest};
use super::{NAME, PlotOptions, TICK, UPRIGHT, title};
use crate::error::{Error, Result};
use crate::label::{number, spaced_label, visible_line};
use saescope_options::options;

/// The darkest colors of values above and below zero.
const ABOVE: Rgb = (0x12, 0x1f, 0x8f);
const BELOW: Rgb = (0xb3, 0x2d, 0x24);
/// The color of values that are not finite.
const NONE: Rgb = (0xc8, 0xcc, 0xd2);
/// The most matrices in one picture.
const MAX_PANELS: usize = 64;
/// The color scale: its distance from the cells, its width, and the distance of its labels from it.
const SCALE: (f64, f64, f64) = (20.0, 10.0, 5.0);
/// The largest width and height of a cell, unless the options set the size of the picture.
const CELL: f64 = 40.0;

options! {
    /// Options of a heatmap: its labels and the range of its colors.
    pub struct HeatmapOptions {
        /// The names of the columns, such as tokens. Default: their indices.
        pub x_labels: Option<Vec<String>> = None,
        /// The names of the rows. Default: their indices.
        pub y_labels: Option<Vec<String>> = None,
        /// The names of several matrices. Default: their indices.
        pub names: Option<Vec<String>> = None,
        /// The values of the first and the last color. Default: the range of the values and zero.
        pub color_range: Option<[f64; 2]> = None,
    }
}

/// Heatmaps of matrices of the same shape, side by side. Each matrix is a list of rows, the first row on top.
/// Colors go from white to blue, or to red for values below zero; values that are not finite are gray. Cells are square
/// if labels and page allow it. If the options set the size of the picture, the cells fill it, and it is larger only if
/// they would be too small to see. If there are more values than pixels, a pixel shows the one of its values that is
/// farthest from zero.
///
/// # Errors
/// Rows of different lengths, too many or too few labels; options that are out of range.
pub fn plot_heatmap(
    matrices: &[Vec<Vec<f64>>],
    heatmap: &HeatmapOptions,
    options: &PlotOptions,
) -> Result<Figure> {
    options.check("plot_heatmap", &[])?;
    let (rows, columns) = shape(matrices)?;
    let x_labels = labels(heatmap.x_labels.as_deref(), columns, "x_labels", "columns")?;
    let y_labels = labels(heatmap.y_labels.as_deref(), rows, "y_labels", "rows")?;
    let names = match &heatmap.names {
        Some(names) if names.len() != matrices.len() => {
            let expected = format!("one for each of {} matrices", matrices.len());
            return Err(Error::invalid("option `names`", expected, names.len()));
        }
        Some(names) => names.iter().map(|name| visible_line(name)).collect(),
        None if matrices.len() > 1 => (0..matrices.len()).map(|i| i.to_string()).collect(),
        None => vec![String::new()],
    };
    let numbers = || matrices.iter().flatten().flatten().copied();
    let found = range(numbers());
    let ends = match heatmap.color_range {
        Some([least, most]) if least < most && least.is_finite() && most.is_finite() => (least, most),
        Some([least, most]) => {
            let got = format!("[{least}, {most}]");
            return Err(Error::invalid("option `color_range`", "two numbers, the smaller first", got));
        }
        None if found.0 >= 0.0 => (0.0, found.1),
        None => (found.0, found.1.max(0.0)),
    };
    let colors = ColorScale::new(ends);

    let mut page = Page::default();
    let (width, height) = options.room();
    let mut top = title(&mut page, options, width);
    top += if top > 0.0 { 4.0 } else { 0.0 };
    if !options.y_label.is_empty() {
        page.text(0.0, top + 5.0, NAME, FAINT, fitted(&visible_line(&options.y_label), NAME, width));
        top += 18.0;
    }
    let y_labels: Vec<_> = y_labels.iter().map(|label| fitted(label, TICK, width / 3.0)).collect();
    let left = 8.0 + widest(y_labels.iter().map(String::as_str), TICK);
    let ticks = colors.ticks();
    let beside = SCALE.0 + SCALE.1 + SCALE.2 + widest(ticks.iter().map(|(_, text)| text.as_str()), TICK);
    let x_name = if options.x_label.is_empty() { 0.0 } else { 20.0 };
    let name = if names.iter().all(String::is_empty) { 0.0 } else { Grid::NAME };
    let grid = Grid::new(matrices.len(), columns, width - beside - left, options);
    let column_names = CategoryLabels::of(&x_labels, grid.width, height * UPRIGHT);
    let room = options.height.map(|_| height - top - column_names.height() - x_name);
    let high = grid.height((rows, columns), name, room);
    // The distance from one matrix to the next.
    let step = (grid.width + Grid::GAP, name + high + Grid::GAP);
    let mut bottom = top;
    for (i, (matrix, heading)) in matrices.iter().zip(&names).enumerate() {
        let (column, row) = (i % grid.across, i / grid.across);
        let place = (left + column as f64 * step.0, top + row as f64 * step.1);
        if !heading.is_empty() {
            page.text(place.0, place.1 + 4.0, NAME, FAINT, fitted(heading, NAME, grid.width));
        }
        let cells_top = place.1 + name;
        cells(&mut page, matrix, (place.0, cells_top), (grid.width, high), &colors);
        let ends = cells_top + high;
        if column == 0 {
            side_labels(&mut page, &y_labels, place.0 - 6.0, cells_top, high);
        }
        // Names only below the lowest matrix of each column.
        if i + grid.across >= matrices.len() {
            let x = Axis::new((-0.5, columns as f64 - 0.5), place.0, grid.width);
            column_names.draw(&mut page, &x, ends);
            bottom = bottom.max(ends + column_names.height());
        }
        bottom = bottom.max(ends);
    }
    let right = left + grid.across as f64 * step.0 - Grid::GAP;
    let scale_height = (grid.down as f64 * step.1 - Grid::GAP).clamp(60.0, 220.0);
    colors.draw_scale(&mut page, (right + SCALE.0, top), scale_height, ticks);
    if !options.x_label.is_empty() {
        let label = fitted(&visible_line(&options.x_label), NAME, width);
        // Centered below the cells, unless it is wider than they are.
        let half = font::width(&label, NAME) / 2.0;
        let middle = ((left + right) / 2.0).min(width - half).max(half);
        page.text_at(Anchor::Middle, middle, bottom + 12.0, NAME, FAINT, label);
        page.width = page.width.max(middle + half);
    }
    if options.width.is_some() {
        page.width = page.width.max(width);
    }
    page.height = (bottom + x_name).max(top + scale_height);
    Ok(Figure { page })
}

/// The number of rows and of columns, which all matrices share.
fn shape(matrices: &[Vec<Vec<f64>>]) -> Result<(usize, usize)> {
    if matrices.len() > MAX_PANELS {
        return Err(Error::invalid("the matrices", format!("at most {MAX_PANELS}"), matrices.len()));
    }
    let rows = matrices.first().map_or(0, Vec::len);
    let columns = matrices.first().and_then(|matrix| matrix.first()).map_or(0, Vec::len);
    if rows == 0 || columns == 0 {
        return Err(Error::invalid("the matrix", "at least one value", "none"));
    }
    let same = |matrix: &Vec<Vec<f64>>| matrix.len() == rows && matrix.iter().all(|row| row.len() == columns);
    if matrices.iter().all(same) {
        Ok((rows, columns))
    } else {
        Err(Error::invalid("the matrix", "rows of equal length", "rows of different lengths"))
    }
}

fn labels(labels: Option<&[String]>, n: usize, option: &str, of: &str) -> Result<Vec<String>> {
    match labels {
        None => Ok((0..n).map(|i| i.to_string()).collect()),
        Some(labels) if labels.len() == n => Ok(labels.iter().map(|label| spaced_label(label)).collect()),
        Some(labels) => {
            let what = format!("option `{option}`");
            Err(Error::invalid(what, format!("one for each of {n} {of}"), labels.len()))
        }
    }
}

/// The arrangement of several matrices.
struct Grid {
    across: usize,
    down: usize,
    /// The width of one matrix, in pixels.
    width: f64,
}

impl Grid {
    /// The space between two matrices.
    const GAP: f64 = 14.0;
    /// The height of the name above a matrix.
    const NAME: f64 = 14.0;

    /// Arranges `n` matrices in a width of `room` pixels.
    fn new(n: usize, columns: usize, room: f64, options: &PlotOptions) -> Grid {
        let across = if n < 4 { n } else { (n as f64).sqrt().ceil() as usize };
        let width = ((room - (across - 1) as f64 * Self::GAP) / across as f64).max(10.0);
        let usual = width.min(CELL * columns as f64);
        let width = if options.width.is_some() { width } else { usual };
        Grid { across, down: n.div_ceil(across), width }
    }

    /// The height of a matrix. With a `room`, all matrices, each below a name of height `name`, fill it.
    fn height(&self, (rows, columns): (usize, usize), name: f64, room: Option<f64>) -> f64 {
        let least = if self.across == 1 { 12.0 } else { 2.0 };
        let usual = ((self.width / columns as f64).clamp(least, CELL) * rows as f64).min(600.0);
        let down = self.down as f64;
        let height = room.map_or(usual, |room| (room + Self::GAP) / down - Self::GAP - name);
        height.max(10.0)
    }
}

fn cells(
    page: &mut Page,
    matrix: &[Vec<f64>],
    (left, top): (f64, f64),
    (width, height): (f64, f64),
    colors: &ColorScale,
) {
    // No more cells than pixels.
    let size = |length: f64, n: usize| n.div_ceil(((length * DENSITY) as usize).max(1));
    let (row_size, column_size) = (size(height, matrix.len()), size(width, matrix[0].len()));
    let columns = matrix[0].len().div_ceil(column_size);
    let mut drawn = Vec::with_capacity(matrix.len().div_ceil(row_size) * columns);
    for rows in matrix.chunks(row_size) {
        for start in (0..matrix[0].len()).step_by(column_size) {
            let block = rows.iter().flat_map(|row| row[start..].iter().take(column_size));
            let furthest =
                block.copied().filter(|x| x.is_finite()).max_by(|a, b| a.abs().total_cmp(&b.abs()));
            drawn.push(colors.of(furthest.unwrap_or(f64::NAN)));
        }
    }
    page.marks.push(Mark::Cells { left, top, width, height, columns, colors: drawn });
    // The border shows where white cells end. It is outside, since cells would cover it.
    let (left, top, right, bottom) = (left - 0.5, top - 0.5, left + width + 0.5, top + height + 0.5);
    let border = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)];
    page.line(border.to_vec(), 1.0, RULE);
}

/// Draws the names of rows, as many as fit.
fn side_labels(page: &mut Page, labels: &[String], right: f64, top: f64, height: f64) {
    let axis = Axis::new((-0.5, labels.len() as f64 - 0.5), top, height);
    let stride = (TICK * 1.15 * labels.len() as f64 / height).ceil().max(1.0) as usize;
    let stride = if is_numbers(labels) { round_stride(stride) } else { stride };
    for (i, label) in labels.iter().enumerate().step_by(stride) {
        page.text_at(Anchor::End, right, axis.at(i as f64), TICK, INK, label);
    }
}

/// The colors of values: white at zero, or at the least value if all are above zero.
struct ColorScale {
    least: f64,
    most: f64,
}

impl ColorScale {
    fn new((least, most): (f64, f64)) -> ColorScale {
        let finite = least.is_finite() && most.is_finite() && least < most;
        if finite { ColorScale { least, most } } else { ColorScale { least: 0.0, most: 1.0 } }
    }

    fn of(&self, x: f64) -> Rgb {
        if !x.is_finite() {
            return NONE;
        }
        if self.least < 0.0 {
            // Values above and below zero share one scale: the distance from zero.
            let far = self.most.max(-self.least);
            return mix(WHITE, if x < 0.0 { BELOW } else { ABOVE }, x.abs() / far);
        }
        mix(WHITE, ABOVE, (x / 2.0 - self.least / 2.0) / (self.most / 2.0 - self.least / 2.0))
    }

    /// The labels beside the color scale.
    fn ticks(&self) -> Vec<(f64, String)> {
        let ticks = Axis::new((self.least, self.most), 0.0, 1.0).ticks(4);
        if ticks.len() < 2 { [self.least, self.most].map(|x| (x, number(x))).into() } else { ticks }
    }

    fn draw_scale(&self, page: &mut Page, (left, top): (f64, f64), height: f64, ticks: Vec<(f64, String)>) {
        const STEPS: usize = 64;
        let axis = Axis::new((self.least, self.most), top + height, -height);
        let part = |i: usize| (i as f64 + 0.5) / STEPS as f64;
        let at = |i: usize| self.most * (1.0 - part(i)) + self.least * part(i);
        let colors = (0..STEPS).map(|i| self.of(at(i))).collect();
        page.marks.push(Mark::Cells { left, top, width: SCALE.1, height, columns: 1, colors });
        for (x, text) in ticks {
            page.text(left + SCALE.1 + SCALE.2, axis.at(x), TICK, FAINT, text);
        }
    }
}
