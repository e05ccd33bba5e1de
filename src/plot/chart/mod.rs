//! Charts of plain numbers: lines, points, bars, histograms, heatmaps.
//!
//! A chart is laid out on a page like every picture here, so that SVG and PNG agree to the pixel and no label is cut:
//! plotters' own charts take the room for labels as a number that is given in advance.

mod bars;
mod heatmap;
mod histogram;
mod line;
mod options;
mod records;

pub use bars::plot_bars;
pub use heatmap::{HeatmapOptions, plot_heatmap};
pub use histogram::{HistogramOptions, plot_histogram};
pub use line::{Series, plot_line, plot_scatter};
pub use options::{Color, Colors, PlotOptions};
pub use records::{plot_activations, plot_density};

use super::axis::Axis;
use super::font;
use super::label::visible_line;
use super::page::{Anchor, Colour, FAINT, INK, Page, RULE};
use crate::error::{Error, Result};

/// The sizes of titles, of names, and of the numbers along an axis.
const TITLE: f64 = 15.0;
const NAME: f64 = 10.5;
const TICK: f64 = 9.5;
/// How much of a range is left free at either end.
const ROOM: f64 = 0.04;
/// The margins that a figure has around its page, both together.
const MARGINS: f64 = 32.0;

/// The part of a page that marks are put on, and its axes.
struct Frame {
    x: Axis,
    y: Axis,
    left: f64,
    right: f64,
    bottom: f64,
}

/// What the horizontal axis counts.
enum Across<'a> {
    /// Numbers, from one end to the other.
    Numbers((f64, f64)),
    /// Things, each with a name and a place of the same width.
    Things(&'a [String]),
}

impl Frame {
    /// Draws everything around the marks: title, legend, axes with their numbers, names.
    fn draw(
        page: &mut Page,
        options: &PlotOptions,
        across: &Across<'_>,
        y_range: (f64, f64),
        names: &[&str],
    ) -> Frame {
        let (width, height) = (f64::from(options.width) - MARGINS, f64::from(options.height) - MARGINS);
        let top = heading(page, options, names, width);
        let x_name = if options.x_label.is_empty() { 0.0 } else { 18.0 };
        let y_range = options.y_range.map_or(y_range, |[least, most]| (least, most));
        let axis = |is_log: bool| if is_log { Axis::log } else { Axis::new };
        // How many numbers there are, and so how wide they are, depends on the height alone.
        let scale = axis(options.log_y)(y_range, 0.0, 1.0);
        let count = ((height - top) / 50.0).clamp(2.0, 10.0) as usize;
        let numbers = scale.ticks(count);
        let left = 8.0 + widest(numbers.iter().map(|(_, text)| text.as_str()), TICK);
        let thing_names = match across {
            Across::Things(names) => ThingNames::of(names, width - left),
            Across::Numbers(_) => ThingNames::default(),
        };
        let x_numbers = if thing_names.is_upright { thing_names.widest + 8.0 } else { 18.0 };
        let bottom = (height - x_name - x_numbers).max(top + 20.0);
        let y = axis(options.log_y)(y_range, bottom, top - bottom);
        for (number, text) in numbers {
            page.line(vec![(left, y.at(number)), (width, y.at(number))], 1.0, RULE);
            page.text_at(Anchor::End, left - 6.0, y.at(number), TICK, FAINT, text);
        }
        let x = match across {
            Across::Numbers(range) => {
                let range = options.x_range.map_or(*range, |[least, most]| (least, most));
                let x = axis(options.log_x)(range, left, width - left);
                for (number, text) in x.ticks(((width - left) / 80.0).clamp(2.0, 12.0) as usize) {
                    page.line(vec![(x.at(number), bottom), (x.at(number), bottom + 4.0)], 1.0, FAINT);
                    page.text_at(Anchor::Middle, x.at(number), bottom + 13.0, TICK, FAINT, text);
                }
                x
            }
            Across::Things(names) => {
                let x = Axis::new((-0.5, names.len() as f64 - 0.5), left, width - left);
                thing_names.draw(page, names, &x, bottom);
                x
            }
        };
        page.line(vec![(left, bottom), (width, bottom)], 1.0, FAINT);
        if !options.x_label.is_empty() {
            let middle = (left + width) / 2.0;
            let label = visible_line(&options.x_label);
            page.text_at(Anchor::Middle, middle, height - 7.0, NAME, FAINT, label);
        }
        page.width = page.width.max(width);
        page.height = height;
        Frame { x, y, left, right: width, bottom }
    }

    /// Where a pair of numbers is, if both are in their ranges.
    fn place(&self, x: f64, y: f64) -> Option<(f64, f64)> {
        (self.x.holds(x) && self.y.holds(y)).then(|| (self.x.at(x), self.y.at(y)))
    }
}

/// Title, legend and the name of the vertical axis; gives where the chart begins.
fn heading(page: &mut Page, options: &PlotOptions, names: &[&str], width: f64) -> f64 {
    let mut y = 0.0;
    if !options.title.is_empty() {
        page.text(0.0, 8.0, TITLE, INK, visible_line(&options.title));
        y += 26.0;
    }
    if options.legend && names.iter().any(|name| !name.is_empty()) {
        let mut x = 0.0;
        for (i, name) in names.iter().enumerate() {
            let name = visible_line(name);
            let needed = 22.0 + font::width(&name, NAME);
            if x > 0.0 && x + needed > width {
                (x, y) = (0.0, y + 16.0);
            }
            page.fill(x, y + 3.0, 14.0, 6.0, options.colour(i));
            x = page.text(x + 19.0, y + 6.0, NAME, INK, name) + 16.0;
        }
        y += 22.0;
    }
    if !options.y_label.is_empty() {
        page.text(0.0, y + 5.0, NAME, FAINT, visible_line(&options.y_label));
        y += 18.0;
    }
    y + 6.0
}

/// How the names of things along an axis are written.
#[derive(Default)]
struct ThingNames {
    /// From below, because there is no room for them side by side.
    is_upright: bool,
    /// How wide the widest is, of those that are shown.
    widest: f64,
    /// Only each so manieth is shown.
    stride: usize,
}

impl ThingNames {
    fn of(names: &[String], width: f64) -> ThingNames {
        let room = width / names.len().max(1) as f64;
        let widest = widest(names.iter().map(String::as_str), TICK);
        // Numbers can be left out.
        let is_numbers = names.iter().all(|name| name.parse::<f64>().is_ok());
        if widest + 8.0 <= room || is_numbers {
            let stride = ((widest + 8.0) / room).ceil().max(1.0) as usize;
            return ThingNames { is_upright: false, widest, stride: round_stride(stride) };
        }
        ThingNames { is_upright: true, widest, stride: ((TICK * 1.15) / room).ceil().max(1.0) as usize }
    }

    fn draw(&self, page: &mut Page, names: &[String], x: &Axis, bottom: f64) {
        for (i, name) in names.iter().enumerate().step_by(self.stride.max(1)) {
            let x = x.at(i as f64);
            if self.is_upright {
                page.upright(x, bottom + 6.0, TICK, INK, name);
            } else {
                page.text_at(Anchor::Middle, x, bottom + 11.0, TICK, INK, name);
            }
        }
    }
}

/// The next of 1, 2, 5, 10, 20, …
fn round_stride(stride: usize) -> usize {
    let powers = std::iter::successors(Some(1usize), |power| power.checked_mul(10));
    let mut round = powers.flat_map(|power| [1, 2, 5].map(|factor| power.saturating_mul(factor)));
    round.find(|round| *round >= stride).unwrap_or(stride)
}

fn widest<'a>(texts: impl Iterator<Item = &'a str>, em: f64) -> f64 {
    texts.map(|text| font::width(text, em)).fold(0.0, f64::max)
}

/// A range with a little room at either end, unless it is of an axis that must end where it does.
fn roomy((least, most): (f64, f64), is_log: bool) -> (f64, f64) {
    if is_log {
        let room = (most / least).powf(ROOM);
        return if room.is_finite() { (least / room, most * room) } else { (least, most) };
    }
    let room = (most - least) * ROOM;
    (least - room, most + room)
}

/// The numbers that an axis can show.
fn shown(numbers: impl Iterator<Item = f64>, is_log: bool) -> impl Iterator<Item = f64> {
    numbers.filter(move |x| x.is_finite() && (!is_log || *x > 0.0))
}

/// Fails for a chart without a single number.
fn check_some(what: &str, (least, most): (f64, f64), is_log: bool) -> Result<()> {
    if least <= most {
        return Ok(());
    }
    let above = if is_log { " above 0, which a logarithmic axis needs" } else { "" };
    Err(Error::invalid(what, format!("at least one finite number{above}"), "none"))
}

/// The colour of something that other things are seen through.
fn pale(colour: Colour) -> Colour {
    super::page::mix(colour, super::page::WHITE, 0.35)
}
