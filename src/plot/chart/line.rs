//! Line charts and scatter plots.

use super::super::axis::range;
use super::super::figure::Figure;
use super::super::page::Page;
use super::{Frame, HorizontalAxis, Legend, PlotOptions, check_not_empty, is_plottable, padded, shown};
use crate::error::{Error, Result};
use std::collections::BTreeSet;

/// A named set of points: one line, or the dots of one color.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Series {
    /// The name in the legend; empty for no entry.
    pub name: String,
    /// The x values, `[n]`.
    pub x: Vec<f64>,
    /// The y values, `[n]`.
    pub y: Vec<f64>,
}

impl Series {
    /// A series of `y` over x = 0, 1, 2, …
    pub fn of(name: impl Into<String>, y: Vec<f64>) -> Self {
        Series { name: name.into(), x: (0..y.len()).map(|x| x as f64).collect(), y }
    }

    fn points(&self) -> impl Iterator<Item = (f64, f64)> {
        self.x.iter().copied().zip(self.y.iter().copied())
    }
}

/// A line chart: a line through the points of each series, in their order. A value that is not finite breaks the line.
///
/// # Errors
/// No finite value, x and y of different lengths; options that are out of range.
pub fn plot_line(series: &[Series], options: &PlotOptions) -> Result<Figure> {
    let mut page = Page::default();
    let frame = frame(&mut page, series, options, "plot_line")?;
    for (i, series) in series.iter().enumerate() {
        let color = options.color(i, &series.name);
        let points: Vec<_> = series.points().collect();
        for run in points.split(|point| !is_shown(point, options)) {
            if let [(x, y)] = run {
                if let Some((x, y)) = frame.place(*x, *y) {
                    page.dot(x, y, 2.0, color);
                }
                continue;
            }
            let places = run.iter().map(|(x, y)| (frame.x.beyond(*x), frame.y.beyond(*y))).collect();
            for part in inside(&frame, &thinned(places)) {
                page.line(part, 1.6, color);
            }
        }
    }
    Ok(Figure { page })
}

/// A scatter plot: a dot for each point.
///
/// # Errors
/// The same as for [`plot_line`].
pub fn plot_scatter(series: &[Series], options: &PlotOptions) -> Result<Figure> {
    let mut page = Page::default();
    let frame = frame(&mut page, series, options, "plot_scatter")?;
    let n: usize = series.iter().map(|series| series.y.len()).sum();
    let radius = match n {
        ..=100 => 3.5,
        101..=1000 => 2.5,
        _ => 1.5,
    };
    for (i, series) in series.iter().enumerate() {
        // Only the first of several dots on the same spot is visible.
        let spot = |x: f64| (x * if n > 20_000 { 0.5 } else { 2.0 }).round() as i64;
        let mut taken = BTreeSet::new();
        for (x, y) in series.points().filter_map(|(x, y)| frame.place(x, y)) {
            if taken.insert((spot(x), spot(y))) {
                page.dot(x, y, radius, options.color(i, &series.name));
            }
        }
    }
    Ok(Figure { page })
}

/// Draws the axes of a chart. The horizontal axis of a line chart begins and ends with the data.
fn frame(page: &mut Page, series: &[Series], options: &PlotOptions, function: &str) -> Result<Frame> {
    let names: Vec<_> = series.iter().map(|series| series.name.as_str()).collect();
    options.check(function, &names)?;
    for Series { x, y, name } in series {
        if x.len() != y.len() {
            let of = if name.is_empty() { String::new() } else { format!(" of `{name}`") };
            let message = format!("there are {} x values and {} y values{of}", x.len(), y.len());
            return Err(Error::mismatch(message, "give one y value for each x value"));
        }
    }
    let x_range = range(shown(series.iter().flat_map(|s| s.x.iter().copied()), options.log_x));
    let y_range = range(shown(series.iter().flat_map(|s| s.y.iter().copied()), options.log_y));
    check_not_empty("the y values", y_range, options.log_y)?;
    check_not_empty("the x values", x_range, options.log_x)?;
    let x_range = if function == "plot_line" { x_range } else { padded(x_range, options.log_x) };
    let points = || series.iter().flat_map(Series::points);
    let left_out = points().filter(|point| !is_shown(point, options)).count();
    let legend = Legend { names: &names, marks: points().count(), left_out };
    Ok(Frame::draw(page, options, &HorizontalAxis::Numbers(x_range), padded(y_range, options.log_y), &legend))
}

/// Whether the axes of a chart can show a point.
fn is_shown((x, y): &(f64, f64), options: &PlotOptions) -> bool {
    is_plottable(*x, options.log_x) && is_plottable(*y, options.log_y)
}

/// The parts of a line that are in the frame.
fn inside(frame: &Frame, points: &[(f64, f64)]) -> Vec<Vec<(f64, f64)>> {
    let mut parts: Vec<Vec<_>> = Vec::new();
    for pair in points.windows(2) {
        let Some([from, to]) = frame.clip(pair[0], pair[1]) else { continue };
        match parts.last_mut() {
            Some(part) if part.last() == Some(&from) => part.push(to),
            _ => parts.push(vec![from, to]),
        }
    }
    parts
}

/// Reduces a run of points in the same column of half a pixel to the first, the lowest, the highest and the last: the
/// line looks the same.
fn thinned(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let columns = points.chunk_by(|a, b| (a.0 * 2.0).floor() == (b.0 * 2.0).floor());
    let ends = |column: &[(f64, f64)]| {
        if column.len() <= 4 {
            return column.to_vec();
        }
        let by_height = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let ends =
            [column.first(), column.iter().min_by(by_height), column.iter().max_by(by_height), column.last()];
        ends.into_iter().flatten().copied().collect()
    };
    columns.flat_map(ends).collect()
}
