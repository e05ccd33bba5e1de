//! Charts: lines, points, bars, histograms, heatmaps.
//!
//! A chart is laid out on a page like every picture here, so that SVG and PNG agree to the pixel and no label is cut:
//! plotters' own charts need the size of the labels in advance.

mod bars;
mod heatmap;
mod histogram;
mod line;
mod names;
mod options;
mod records;

pub use bars::plot_bars;
pub use heatmap::{HeatmapOptions, plot_heatmap};
pub use histogram::{HistogramOptions, plot_histogram};
pub use line::{Series, plot_line, plot_scatter};
pub(crate) use options::options_without;
pub use options::{Color, Colors, PlotOptions};
pub use records::{plot_activations, plot_density};

use super::axis::Axis;
use super::font::{self, fitted};
use super::page::{Anchor, FAINT, INK, Page, RULE};
use crate::error::{Error, Result};
use crate::label::visible_line;
use names::{CategoryLabels, widest};

/// The font sizes of titles, of names, and of tick labels.
const TITLE: f64 = 15.0;
const NAME: f64 = 10.5;
const TICK: f64 = 9.5;
/// The part of a range that is added as free space at each end.
const ROOM: f64 = 0.04;
/// The least height of the plot area, and the largest part of the height that vertical names take.
const LEAST_HEIGHT: f64 = 60.0;
const UPRIGHT: f64 = 0.35;
/// The two margins of a figure together, in pixels.
const MARGINS: f64 = 32.0;

/// The plot area of a page, and its axes.
struct Frame {
    x: Axis,
    y: Axis,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

/// The horizontal axis: values or named things.
enum HorizontalAxis<'a> {
    /// Values, with the least and the greatest.
    Numbers((f64, f64)),
    /// Categories at equal distances, with their names.
    Categories(&'a [String]),
}

/// The facts about the marks of a chart that are written above it.
struct Legend<'a> {
    /// The names of the series; empty ones are not listed.
    names: &'a [&'a str],
    /// The number of marks, and how many of them are not shown, since they are not finite or, on a logarithmic axis,
    /// not above zero.
    marks: usize,
    left_out: usize,
}

impl Frame {
    /// Draws everything around the marks: title, legend, the number of marks not shown, axes with tick labels, names.
    /// The page has the size in the options; it is higher if that leaves too little room for the marks.
    fn draw(
        page: &mut Page,
        options: &PlotOptions,
        across: &HorizontalAxis<'_>,
        y_range: (f64, f64),
        legend: &Legend<'_>,
    ) -> Frame {
        let (width, height) = options.room();
        let top = heading(page, options, legend, width);
        let x_name = if options.x_label.is_empty() { 0.0 } else { 18.0 };
        let y_range = options.y_range.map_or(y_range, |[least, most]| (least, most));
        let axis = |is_log: bool| if is_log { Axis::log } else { Axis::new };
        // The number of ticks, and so the width of their labels, depends only on the height.
        let scale = axis(options.log_y)(y_range, 0.0, 1.0);
        let count = ((height - top) / 50.0).clamp(2.0, 10.0) as usize;
        let ticks = scale.ticks(count);
        let left = 8.0 + widest(ticks.iter().map(|(_, text)| text.as_str()), TICK);
        let thing_names = match across {
            HorizontalAxis::Categories(names) => CategoryLabels::of(names, width - left, height * UPRIGHT),
            HorizontalAxis::Numbers(_) => CategoryLabels::default(),
        };
        let bottom = (height - x_name - thing_names.height()).max(top + LEAST_HEIGHT);
        let y = axis(options.log_y)(y_range, bottom, top - bottom);
        for (number, text) in ticks {
            page.line(vec![(left, y.at(number)), (width, y.at(number))], 1.0, RULE);
            page.text_at(Anchor::End, left - 6.0, y.at(number), TICK, FAINT, text);
        }
        let x = match across {
            HorizontalAxis::Numbers(range) => {
                let range = options.x_range.map_or(*range, |[least, most]| (least, most));
                let x = axis(options.log_x)(range, left, width - left);
                for (number, text) in spaced_ticks(&x, width - left) {
                    page.line(vec![(x.at(number), bottom), (x.at(number), bottom + 4.0)], 1.0, FAINT);
                    // Half of the first or the last label may be wider than the margin.
                    let half = font::width(&text, TICK) / 2.0 - MARGINS / 2.0;
                    let middle = x.at(number).min(width - half).max(half);
                    page.text_at(Anchor::Middle, middle, bottom + 13.0, TICK, FAINT, text);
                }
                x
            }
            HorizontalAxis::Categories(names) => {
                let x = Axis::new((-0.5, names.len() as f64 - 0.5), left, width - left);
                thing_names.draw(page, &x, bottom);
                x
            }
        };
        page.line(vec![(left, bottom), (width, bottom)], 1.0, FAINT);
        let below = bottom + thing_names.height();
        if !options.x_label.is_empty() {
            let label = fitted(&visible_line(&options.x_label), NAME, width - left);
            page.text_at(Anchor::Middle, (left + width) / 2.0, below + 11.0, NAME, FAINT, label);
        }
        page.width = page.width.max(width);
        page.height = below + x_name;
        Frame { x, y, left, right: width, top, bottom }
    }

    /// The position of a point in pixels; `None` if it is out of range.
    fn place(&self, x: f64, y: f64) -> Option<(f64, f64)> {
        (self.x.holds(x) && self.y.holds(y)).then(|| (self.x.at(x), self.y.at(y)))
    }

    /// The part of a line segment that is inside the plot area (the algorithm of Liang and Barsky).
    fn clip(&self, from: (f64, f64), to: (f64, f64)) -> Option<[(f64, f64); 2]> {
        let (dx, dy) = (to.0 - from.0, to.1 - from.1);
        let borders = [
            (-dx, from.0 - self.left),
            (dx, self.right - from.0),
            (-dy, from.1 - self.top),
            (dy, self.bottom - from.1),
        ];
        let (mut enters, mut leaves) = (0.0f64, 1.0f64);
        for (out, room) in borders {
            if out == 0.0 && room < 0.0 {
                return None;
            }
            if out < 0.0 {
                enters = enters.max(room / out);
            } else if out > 0.0 {
                leaves = leaves.min(room / out);
            }
        }
        let at = |part: f64| match part {
            0.0 => from,
            1.0 => to,
            _ => (from.0 + part * dx, from.1 + part * dy),
        };
        (enters <= leaves).then(|| [at(enters), at(leaves)])
    }
}

/// Draws the title, the legend and the name of the vertical axis; returns the top of the plot area.
fn heading(page: &mut Page, options: &PlotOptions, legend: &Legend<'_>, width: f64) -> f64 {
    let mut y = title(page, options, width);
    if options.legend && legend.names.iter().any(|name| !name.is_empty()) {
        y = series_names(page, options, legend.names, width, y) + 22.0;
    }
    let left_out = match legend.left_out {
        0 => String::new(),
        n => format!("{n} of {} not shown", legend.marks),
    };
    let room = width - font::width(&left_out, TICK) - 10.0;
    let name = fitted(&visible_line(&options.y_label), NAME, room);
    let texts = [(Anchor::Start, 0.0, NAME, name), (Anchor::End, width, TICK, left_out)];
    let texts = texts.into_iter().filter(|(.., text)| !text.is_empty());
    let mut end = y;
    for (anchor, x, em, text) in texts {
        page.text_at(anchor, x, y + 5.0, em, FAINT, text);
        end = y + 18.0;
    }
    end + 6.0
}

/// Draws the title, if there is one; returns its lower end.
fn title(page: &mut Page, options: &PlotOptions, width: f64) -> f64 {
    if options.title.is_empty() {
        return 0.0;
    }
    page.text(0.0, 8.0, TITLE, INK, fitted(&visible_line(&options.title), TITLE, width));
    26.0
}

/// Draws the names of series with their colors, in at most four rows; returns the top of the last row.
fn series_names(page: &mut Page, options: &PlotOptions, names: &[&str], width: f64, top: f64) -> f64 {
    const ROW: f64 = 16.0;
    const ROWS: f64 = 4.0;
    let (mut x, mut y) = (0.0, top);
    for (i, name) in names.iter().enumerate() {
        let shown = fitted(&visible_line(name), NAME, width / 2.0);
        let more = format!("and {} more", names.len() - i);
        let is_last_row = y >= top + (ROWS - 1.0) * ROW;
        let kept = if is_last_row && i + 1 < names.len() { 16.0 + font::width(&more, NAME) } else { 0.0 };
        if x > 0.0 && x + 19.0 + font::width(&shown, NAME) + kept > width {
            if is_last_row {
                page.text(x, y + 6.0, NAME, FAINT, more);
                break;
            }
            (x, y) = (0.0, y + ROW);
        }
        page.fill(x, y + 3.0, 14.0, 6.0, options.color(i, name));
        x = page.text(x + 19.0, y + 6.0, NAME, INK, shown) + 16.0;
    }
    y
}

/// The ticks of a horizontal axis of `width` pixels: as many as fit without touching.
fn spaced_ticks(axis: &Axis, width: f64) -> Vec<(f64, String)> {
    let usual = (width / 80.0).clamp(2.0, 12.0) as usize;
    let fits = |ticks: &[(f64, String)]| {
        let widest = widest(ticks.iter().map(|(_, text)| text.as_str()), TICK);
        ticks.windows(2).all(|pair| axis.at(pair[1].0) - axis.at(pair[0].0) > widest + 6.0)
    };
    (1..=usual).rev().map(|count| axis.ticks(count)).find(|ticks| fits(ticks)).unwrap_or_default()
}

/// A range with a little room at each end, unless that would overflow.
fn padded((least, most): (f64, f64), is_log: bool) -> (f64, f64) {
    if is_log {
        let room = (most / least).powf(ROOM);
        return if room.is_finite() { (least / room, (most * room).min(f64::MAX)) } else { (least, most) };
    }
    // In halves, since the difference could overflow.
    let room = (most / 2.0 - least / 2.0) * ROOM * 2.0;
    ((least - room).max(f64::MIN), (most + room).min(f64::MAX))
}

/// Whether an axis can show `x`.
fn is_plottable(x: f64, is_log: bool) -> bool {
    x.is_finite() && (!is_log || x > 0.0)
}

/// The values that an axis can show.
fn shown(numbers: impl Iterator<Item = f64>, is_log: bool) -> impl Iterator<Item = f64> {
    numbers.filter(move |x| is_plottable(*x, is_log))
}

/// Fails if a chart has no value to show.
fn check_not_empty(what: &str, (least, most): (f64, f64), is_log: bool) -> Result<()> {
    if least <= most {
        return Ok(());
    }
    let above = if is_log { " above 0, which a logarithmic axis needs" } else { "" };
    Err(Error::invalid(what, format!("at least one finite value{above}"), "none"))
}
