//! A number for each of several things.

use super::super::axis::range;
use super::super::figure::Figure;
use super::super::label::spaced_label;
use super::super::page::{FAINT, Page};
use super::{Across, Frame, Legend, PlotOptions, check_some, shown};
use crate::error::{Error, Result};

/// The most bars that can be told from one another.
const MOST: usize = 2000;

/// A bar for each label, from zero.
///
/// # Errors
/// As many labels as there are numbers are needed, and a finite number; options that are out of range.
pub fn plot_bars(labels: &[String], values: &[f64], options: &PlotOptions) -> Result<Figure> {
    options.check("plot_bars", &[])?;
    if labels.len() != values.len() {
        let message = format!("there are {} labels and {} numbers", labels.len(), values.len());
        return Err(Error::mismatch(message, "every bar needs both"));
    }
    if values.len() > MOST {
        let hint = "plot_line draws as many as you like, plot_histogram counts them";
        return Err(Error::invalid("the bars", format!("at most {MOST}"), values.len()).with_hint(hint));
    }
    let found = range(shown(values.iter().copied(), options.log_y));
    check_some("the numbers", found, options.log_y)?;
    let (least, most) = found;
    let y_range = if options.log_y {
        (least / 2.0, most * 1.3)
    } else if least == 0.0 && most == 0.0 {
        (0.0, 1.0)
    } else {
        let (least, most) = (least.min(0.0), most.max(0.0));
        let room = (most - least) * 0.04;
        (if least < 0.0 { least - room } else { 0.0 }, if most > 0.0 { most + room } else { 0.0 })
    };
    let names: Vec<_> = labels.iter().map(|label| spaced_label(label)).collect();
    let mut page = Page::default();
    let left_out = values.len() - shown(values.iter().copied(), options.log_y).count();
    let legend = Legend { names: &[], marks: values.len(), left_out };
    let frame = Frame::draw(&mut page, options, &Across::Things(&names), y_range, &legend);
    let zero = if options.log_y { frame.bottom } else { frame.y.at(0.0) };
    let step = (frame.right - frame.left) / values.len().max(1) as f64;
    let width = if step > 3.0 { (step * 0.8).min(60.0) } else { step };
    for (i, value) in values.iter().enumerate().filter(|(_, value)| value.is_finite()) {
        let (middle, end) = (frame.x.at(i as f64), frame.y.at(*value));
        let height = (end - zero).abs();
        if height > 0.0 {
            page.fill(middle - width / 2.0, end.min(zero), width, height.max(0.5), options.colour(0, ""));
        }
    }
    page.line(vec![(frame.left, zero), (frame.right, zero)], 1.0, FAINT);
    Ok(Figure::new(page))
}
