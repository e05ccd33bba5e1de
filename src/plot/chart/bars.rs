//! Bar charts.

use super::super::axis::range;
use super::super::figure::Figure;
use super::super::page::{FAINT, Page};
use super::{Colors, Frame, HorizontalAxis, Legend, PlotOptions, check_not_empty, padded, shown};
use crate::error::{Error, Result};
use crate::label::spaced_label;

/// The most bars in a chart: more could not be distinguished.
const MAX: usize = 2000;

/// A bar chart: a bar from zero for each label.
///
/// # Errors
/// Labels and values of different counts, no finite value, too many bars; options that are out of range.
pub fn plot_bars(labels: &[String], values: &[f64], options: &PlotOptions) -> Result<Figure> {
    options.check("plot_bars", &labels.iter().map(String::as_str).collect::<Vec<_>>())?;
    if labels.len() != values.len() {
        let message = format!("there are {} labels and {} values", labels.len(), values.len());
        return Err(Error::mismatch(message, "give one label for each value"));
    }
    if values.len() > MAX {
        let hint = "`plot_line` draws any number of values, `plot_histogram` counts them";
        return Err(Error::invalid("the bars", format!("at most {MAX}"), values.len()).with_hint(hint));
    }
    let found = range(shown(values.iter().copied(), options.log_y));
    check_not_empty("the values", found, options.log_y)?;
    let (least, most) = found;
    let y_range = if options.log_y {
        (least / 2.0, (most * 1.3).min(f64::MAX))
    } else if least == 0.0 && most == 0.0 {
        (0.0, 1.0)
    } else {
        let ends = (least.min(0.0), most.max(0.0));
        let padded = padded(ends, false);
        (if ends.0 < 0.0 { padded.0 } else { 0.0 }, if ends.1 > 0.0 { padded.1 } else { 0.0 })
    };
    let names: Vec<_> = labels.iter().map(|label| spaced_label(label)).collect();
    let mut page = Page::default();
    let left_out = values.len() - shown(values.iter().copied(), options.log_y).count();
    let legend = Legend { names: &[], marks: values.len(), left_out };
    let frame = Frame::draw(&mut page, options, &HorizontalAxis::Categories(&names), y_range, &legend);
    let zero = if options.log_y { frame.bottom } else { frame.y.at(0.0) };
    let step = (frame.right - frame.left) / values.len().max(1) as f64;
    // A bar narrower than a pixel would be invisible.
    let width = if step > 3.0 { (step * 0.8).min(60.0) } else { step.max(1.0) };
    let color = |i: usize| match &options.color {
        Some(Colors::Each(_)) => options.color(i, ""),
        _ => options.color(0, &labels[i]),
    };
    for (i, value) in values.iter().enumerate().filter(|(_, value)| value.is_finite()) {
        let (middle, end) = (frame.x.at(i as f64), frame.y.at(*value));
        let height = (end - zero).abs();
        if height > 0.0 {
            page.fill(middle - width / 2.0, end.min(zero), width, height.max(0.5), color(i));
        }
    }
    page.line(vec![(frame.left, zero), (frame.right, zero)], 1.0, FAINT);
    Ok(Figure { page })
}
