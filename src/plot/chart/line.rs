//! Numbers over numbers: lines and points.

use super::super::axis::range;
use super::super::figure::Figure;
use super::super::page::Page;
use super::{Across, Frame, PlotOptions, check_some, roomy, shown};
use crate::error::{Error, Result};
use std::collections::BTreeSet;

/// Points that belong together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Series {
    /// For the legend; none if it is empty.
    pub name: String,
    /// `[n]`
    pub x: Vec<f64>,
    /// `[n]`
    pub y: Vec<f64>,
}

impl Series {
    /// Numbers over 0, 1, 2, …
    pub fn of(name: impl Into<String>, y: Vec<f64>) -> Self {
        Series { name: name.into(), x: (0..y.len()).map(|x| x as f64).collect(), y }
    }

    fn points(&self) -> impl Iterator<Item = (f64, f64)> {
        self.x.iter().copied().zip(self.y.iter().copied())
    }
}

/// Lines through the points of each series, in their order. A number that is not finite breaks its line.
///
/// # Errors
/// Series without a finite number; options that are out of range.
pub fn plot_line(series: &[Series], options: &PlotOptions) -> Result<Figure> {
    let mut page = Page::default();
    let frame = frame(&mut page, series, options, true)?;
    for (i, series) in series.iter().enumerate() {
        let places: Vec<_> = series.points().map(|(x, y)| frame.place(x, y)).collect();
        for run in places.split(Option::is_none) {
            let points: Vec<_> = run.iter().flatten().copied().collect();
            match points.as_slice() {
                [] => {}
                [(x, y)] => page.dot(*x, *y, 2.0, options.colour(i)),
                _ => page.line(thinned(points), 1.6, options.colour(i)),
            }
        }
    }
    Ok(Figure::new(page))
}

/// A point for each pair of numbers.
///
/// # Errors
/// As [`plot_line`].
pub fn plot_scatter(series: &[Series], options: &PlotOptions) -> Result<Figure> {
    let mut page = Page::default();
    let frame = frame(&mut page, series, options, false)?;
    let n: usize = series.iter().map(|series| series.y.len()).sum();
    let radius = match n {
        ..=100 => 3.5,
        101..=1000 => 2.5,
        _ => 1.5,
    };
    for (i, series) in series.iter().enumerate() {
        // Of many points on one spot a single one is seen.
        let spot = |x: f64| (x * if n > 20_000 { 0.5 } else { 2.0 }).round() as i64;
        let mut taken = BTreeSet::new();
        for (x, y) in series.points().filter_map(|(x, y)| frame.place(x, y)) {
            if taken.insert((spot(x), spot(y))) {
                page.dot(x, y, radius, options.colour(i));
            }
        }
    }
    Ok(Figure::new(page))
}

/// The axes of series; those of lines begin and end with them.
fn frame(page: &mut Page, series: &[Series], options: &PlotOptions, is_line: bool) -> Result<Frame> {
    options.check()?;
    for Series { x, y, name } in series {
        if x.len() != y.len() {
            let of = if name.is_empty() { String::new() } else { format!(" of `{name}`") };
            let message = format!("there are {} numbers x and {} numbers y{of}", x.len(), y.len());
            return Err(Error::mismatch(message, "every point needs both"));
        }
    }
    let x_range = range(shown(series.iter().flat_map(|s| s.x.iter().copied()), options.log_x));
    let y_range = range(shown(series.iter().flat_map(|s| s.y.iter().copied()), options.log_y));
    check_some("the numbers x", x_range, options.log_x)?;
    check_some("the numbers y", y_range, options.log_y)?;
    let x_range = if is_line { x_range } else { roomy(x_range, options.log_x) };
    let names: Vec<_> = series.iter().map(|series| series.name.as_str()).collect();
    Ok(Frame::draw(page, options, &Across::Numbers(x_range), roomy(y_range, options.log_y), &names))
}

/// Of many points in a column of pixels, the first, the lowest, the highest and the last: it looks the same.
fn thinned(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    const MANY: usize = 5000;
    if points.len() <= MANY {
        return points;
    }
    let columns = points.chunk_by(|a, b| a.0.floor() == b.0.floor());
    let ends = |column: &[(f64, f64)]| {
        let by_height = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let ends =
            [column.first(), column.iter().min_by(by_height), column.iter().max_by(by_height), column.last()];
        ends.into_iter().flatten().copied().collect::<Vec<_>>()
    };
    columns.flat_map(ends).collect()
}
