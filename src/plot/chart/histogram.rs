//! How numbers are distributed.

use super::super::axis::range;
use super::super::figure::Figure;
use super::super::page::Page;
use super::{Across, Frame, PlotOptions, check_some, pale, shown};
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// The most bins.
const MOST: usize = 1000;

/// How a histogram counts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HistogramOptions {
    /// How many bins there are; the square root of how many numbers there are, from 10 to 60.
    pub bins: Option<usize>,
}

/// How many of the numbers are in each of the bins, which are as wide as one another (on a logarithmic axis, as far apart
/// in ratio). Several sets, each with a name, share their bins; the second and those after it are outlines.
///
/// # Errors
/// No finite number; options that are out of range.
pub fn plot_histogram(
    sets: &[(String, Vec<f64>)],
    histogram: &HistogramOptions,
    options: &PlotOptions,
) -> Result<Figure> {
    options.check()?;
    let all = || shown(sets.iter().flat_map(|(_, numbers)| numbers.iter().copied()), options.log_x);
    let found = range(all());
    check_some("the numbers", found, options.log_x)?;
    let ends = options.x_range.map_or(found, |[least, most]| (least, most));
    let ends = if ends.0 < ends.1 { ends } else { widened(ends.0, options.log_x) };
    let usual = (all().count() as f64).sqrt().clamp(10.0, 60.0) as usize;
    let n = histogram.bins.unwrap_or(usual);
    if !(1..=MOST).contains(&n) {
        return Err(Error::invalid("option `bins`", format!("1 to {MOST}"), n));
    }
    let scale = |x: f64| if options.log_x { x.ln() } else { x };
    let (least, most) = (scale(ends.0), scale(ends.1));
    let edge = |i: usize| {
        let x = least + (most - least) * i as f64 / n as f64;
        if options.log_x { x.exp() } else { x }
    };
    let count = |numbers: &Vec<f64>| {
        let mut counts = vec![0u64; n];
        for x in shown(numbers.iter().copied(), options.log_x) {
            let part = (scale(x) - least) / (most - least);
            if (0.0..=1.0).contains(&part) {
                // The last bin has its upper end.
                counts[((part * n as f64) as usize).min(n - 1)] += 1;
            }
        }
        counts
    };
    let counts: Vec<_> = sets.iter().map(|(_, numbers)| count(numbers)).collect();
    let highest = counts.iter().flatten().copied().max().unwrap_or(0).max(1) as f64;
    // On a logarithmic axis a single one has a height.
    let y_range = if options.log_y { (0.7, highest * 1.3) } else { (0.0, highest * 1.04) };
    let mut page = Page::default();
    let names: Vec<_> = sets.iter().map(|(name, _)| name.as_str()).collect();
    let frame = Frame::draw(&mut page, options, &Across::Numbers(ends), y_range, &names);
    for (i, counts) in counts.iter().enumerate() {
        let places: Vec<_> = (0..n)
            .map(|bin| {
                let (left, right) = (frame.x.at(edge(bin)), frame.x.at(edge(bin + 1)));
                (left, right, if counts[bin] == 0 { frame.bottom } else { frame.y.at(counts[bin] as f64) })
            })
            .collect();
        if i > 0 {
            let steps = places.iter().flat_map(|(left, right, top)| [(*left, *top), (*right, *top)]);
            let ends = [(frame.left, frame.bottom), (frame.right, frame.bottom)];
            let outline = ends[..1].iter().copied().chain(steps).chain(ends[1..].iter().copied());
            page.line(outline.collect(), 1.6, options.colour(i));
            continue;
        }
        for (left, right, top) in places.into_iter().filter(|(_, _, top)| *top < frame.bottom) {
            let gap = if right - left > 5.0 { 1.0 } else { 0.0 };
            page.fill(left, top, right - left - gap, frame.bottom - top, pale(options.colour(i)));
        }
    }
    Ok(Figure::new(page))
}

/// A range around a number that is all there is.
fn widened(x: f64, is_log: bool) -> (f64, f64) {
    if is_log { (x / 2.0, x * 2.0) } else { (x - x.abs().max(1.0) / 2.0, x + x.abs().max(1.0) / 2.0) }
}
