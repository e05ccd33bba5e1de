//! Histograms.

use super::super::axis::{range, widened};
use super::super::figure::Figure;
use super::super::page::{Page, WHITE, mix};
use super::{Frame, HorizontalAxis, Legend, PlotOptions, check_not_empty, shown};
use crate::error::{Error, Result};
use saescope_options::options;

/// The most bins.
const MAX: usize = 1000;

options! {
    /// Options of a histogram.
    pub struct HistogramOptions {
        /// The number of bins, 1 to 1000. Default: the square root of the number of values, from 10 to 60.
        pub bins: Option<usize> = None,
    }
}

/// A histogram with bins of equal width (on a logarithmic axis, of equal ratio). Several named sets share their bins;
/// the first is filled, the others are outlines.
///
/// # Errors
/// No finite value; options that are out of range.
pub fn plot_histogram(
    sets: &[(String, Vec<f64>)],
    histogram: &HistogramOptions,
    options: &PlotOptions,
) -> Result<Figure> {
    let names: Vec<_> = sets.iter().map(|(name, _)| name.as_str()).collect();
    options.check("plot_histogram", &names)?;
    let all = || shown(sets.iter().flat_map(|(_, numbers)| numbers.iter().copied()), options.log_x);
    let found = range(all());
    check_not_empty("the values", found, options.log_x)?;
    let ends = options.x_range.map_or(found, |[least, most]| (least, most));
    let ends = match ends {
        (least, most) if least < most => ends,
        (all, _) if options.log_x => (all / 2.0, (all * 2.0).min(f64::MAX)),
        (all, _) => widened(all),
    };
    let held = all().count();
    let usual = (held as f64).sqrt().clamp(10.0, 60.0) as usize;
    let n = histogram.bins.unwrap_or(usual);
    if !(1..=MAX).contains(&n) {
        return Err(Error::invalid("option `bins`", format!("1 to {MAX}"), n));
    }
    let edges = edges(ends, n, options.log_x);
    let counts: Vec<_> = sets.iter().map(|(_, numbers)| counts(numbers, &edges, options.log_x)).collect();
    let highest = counts.iter().flatten().copied().max().unwrap_or(0).max(1) as f64;
    // On a logarithmic axis, a count of 1 needs a height too.
    let y_range = if options.log_y { (0.7, highest * 1.3) } else { (0.0, highest * 1.04) };
    let mut page = Page::default();
    let marks = sets.iter().map(|(_, numbers)| numbers.len()).sum();
    let legend = Legend { names: &names, marks, left_out: marks - held };
    let frame = Frame::draw(&mut page, options, &HorizontalAxis::Numbers(ends), y_range, &legend);
    for (i, counts) in counts.iter().enumerate() {
        let places: Vec<_> = (0..n)
            .map(|bin| {
                let (left, right) = (frame.x.at(edges[bin]), frame.x.at(edges[bin + 1]));
                (left, right, if counts[bin] == 0 { frame.bottom } else { frame.y.at(counts[bin] as f64) })
            })
            .collect();
        if i > 0 {
            let steps = places.iter().flat_map(|(left, right, top)| [(*left, *top), (*right, *top)]);
            let ends = [(frame.left, frame.bottom), (frame.right, frame.bottom)];
            let outline = ends[..1].iter().copied().chain(steps).chain(ends[1..].iter().copied());
            page.line(outline.collect(), 1.6, options.color(i, names[i]));
            continue;
        }
        // Paler, so that outlines stay visible on it.
        let color = mix(options.color(i, names[i]), WHITE, 0.35);
        for (left, right, top) in places.into_iter().filter(|(_, _, top)| *top < frame.bottom) {
            let gap = if right - left > 5.0 { 1.0 } else { 0.0 };
            page.fill(left, top, (right - left - gap).max(1.0), frame.bottom - top, color);
        }
    }
    Ok(Figure { page })
}

/// The edges of `n` bins, `[n + 1]`, as in numpy.
fn edges((least, most): (f64, f64), n: usize, is_log: bool) -> Vec<f64> {
    let scale = |x: f64| if is_log { x.ln() } else { x };
    // In halves, since the difference could overflow.
    let step = (scale(most) / 2.0 - scale(least) / 2.0) / n as f64 * 2.0;
    let edge = |i: usize| match i {
        0 => least,
        i if i == n => most,
        i if is_log => (scale(least) + step * i as f64).exp(),
        i => least + step * i as f64,
    };
    (0..=n).map(edge).collect()
}

/// The counts of the bins, `[n]`. A bin includes its lower edge; only the last one includes its upper edge. As in
/// numpy, rounding never puts a value on the wrong side of an edge.
fn counts(numbers: &[f64], edges: &[f64], is_log: bool) -> Vec<u64> {
    let n = edges.len() - 1;
    let scale = |x: f64| if is_log { x.ln() } else { x };
    let (least, most) = (scale(edges[0]), scale(edges[n]));
    let mut counts = vec![0; n];
    for &x in numbers.iter().filter(|x| (edges[0]..=edges[n]).contains(*x)) {
        let part = (scale(x) / 2.0 - least / 2.0) / (most / 2.0 - least / 2.0);
        let mut bin = ((part * n as f64) as usize).min(n - 1);
        if bin > 0 && x < edges[bin] {
            bin -= 1;
        } else if bin + 1 < n && x >= edges[bin + 1] {
            bin += 1;
        }
        counts[bin] += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_an_edge_is_counted_above_it() {
        // As numpy.histogram does with the same edges: the value 0.1 is in the bin that begins at 0.1.
        let tenths: Vec<f64> = (0..10).map(|i| f64::from(i) / 10.0).collect();
        let bins = edges((0.0, 1.0), 10, false);
        assert_eq!(counts(&tenths, &bins, false), numpy(&tenths, &bins));
        let many: Vec<f64> = (0..=1000).map(|i| f64::from(i) * 0.001).collect();
        for n in [3, 7, 10, 49, 100] {
            let bins = edges((0.0, 1.0), n, false);
            assert_eq!(counts(&many, &bins, false), numpy(&many, &bins), "{n}");
            let bins = edges((0.001, 1.0), n, true);
            assert_eq!(counts(&many, &bins, true), numpy(&many, &bins), "{n}");
        }
        assert_eq!(counts(&[f64::MIN, 0.0, f64::MAX], &edges((f64::MIN, f64::MAX), 2, false), false), [1, 2]);
    }

    /// Counts by the definition of the bins.
    fn numpy(numbers: &[f64], edges: &[f64]) -> Vec<u64> {
        let n = edges.len() - 1;
        let is_in =
            |x: f64, bin: usize| x >= edges[bin] && (x < edges[bin + 1] || bin + 1 == n && x <= edges[n]);
        (0..n).map(|bin| numbers.iter().filter(|x| is_in(**x, bin)).count() as u64).collect()
    }
}
