//! The options of charts, and their colors.

use super::super::page::{INK, Rgb, WHITE, mix};
use super::MARGINS;
use crate::error::{Error, Result};
use saescope_options::{Kind, OptionType, options};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::str::FromStr;

/// The named colors; the first eight are the palette of series, in this order.
const NAMED: [(&str, Rgb); 11] = [
    ("blue", (0x2a, 0x3f, 0xb5)),
    ("red", (0xd0, 0x39, 0x2b)),
    ("teal", (0x1b, 0x97, 0x8a)),
    ("orange", (0xe0, 0x8e, 0x0b)),
    ("purple", (0x8e, 0x4e, 0xc6)),
    ("sky", (0x3b, 0x9d, 0xd9)),
    ("pink", (0xd6, 0x5d, 0x9e)),
    ("brown", (0x8c, 0x56, 0x4b)),
    ("green", (0x3b, 0x8f, 0x3b)),
    ("gray", (0x76, 0x7b, 0x85)),
    ("black", (0x1a, 0x1a, 0x1a)),
];

/// A color of a chart: a name ("blue", "red", "teal", "orange", "purple", "sky", "pink", "brown", "green", "gray",
/// "black") or hex digits ("#d0392b").
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Color {
    /// Red, 0 to 255.
    pub red: u8,
    /// Green, 0 to 255.
    pub green: u8,
    /// Blue, 0 to 255.
    pub blue: u8,
}

impl FromStr for Color {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let name = if text == "grey" { "gray" } else { text };
        if let Some((_, (red, green, blue))) = NAMED.iter().find(|(known, _)| *known == name) {
            return Ok(Color { red: *red, green: *green, blue: *blue });
        }
        let digits = text.strip_prefix('#').filter(|digits| digits.len() == 6 && digits.is_ascii());
        let channel = |at| digits.and_then(|digits| u8::from_str_radix(&digits[at..at + 2], 16).ok());
        match (channel(0), channel(2), channel(4)) {
            (Some(red), Some(green), Some(blue)) => Ok(Color { red, green, blue }),
            _ => {
                let names: Vec<_> = NAMED.iter().map(|(name, _)| *name).collect();
                let expected = format!("\"#rrggbb\" or one of {}", names.join(", "));
                Err(Error::invalid("a color", expected, format!("\"{text}\"")))
            }
        }
    }
}

impl TryFrom<String> for Color {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Color> for String {
    fn from(Color { red, green, blue }: Color) -> Self {
        format!("#{red:02x}{green:02x}{blue:02x}")
    }
}

impl OptionType for Colors {
    fn kind() -> Kind {
        Kind::Other
    }
}

/// One color, or several for series or bars.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, try_from = "Names")]
pub enum Colors {
    /// One color for everything.
    One(Color),
    /// The colors of the series or bars in their order; they repeat if there are more series or bars.
    Each(Vec<Color>),
    /// The colors of the series or bars with these names; the others have the palette's.
    Named(BTreeMap<String, Color>),
}

/// The form in which [`Colors`] are written.
#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "expected a color such as \"red\" or \"#d0392b\", an array of colors, or a map from the names of \
                 series or bars to colors"
)]
enum Names {
    One(String),
    Each(Vec<String>),
    Named(BTreeMap<String, String>),
}

impl TryFrom<Names> for Colors {
    type Error = Error;

    fn try_from(names: Names) -> Result<Self> {
        match names {
            Names::One(name) => name.parse().map(Colors::One),
            Names::Each(names) => {
                names.iter().map(|name| name.parse()).collect::<Result<_>>().map(Colors::Each)
            }
            Names::Named(names) => {
                let parsed = names.into_iter().map(|(series, name)| Ok((series, name.parse()?)));
                parsed.collect::<Result<_>>().map(Colors::Named)
            }
        }
    }
}

/// The options that a chart function does not accept.
pub(crate) fn options_without(function: &str) -> &'static [&'static str] {
    match function {
        "plot_bars" => &["log_x", "x_range", "legend"],
        "plot_activations" => &["log_x", "x_range", "legend"],
        "plot_density" => &["log_x", "legend"],
        "plot_heatmap" => &["log_x", "log_y", "x_range", "y_range", "color", "legend"],
        _ => &[],
    }
}

options! {
    /// Options of a chart. Setting an option that the chart does not have is an error.
    pub struct PlotOptions {
        /// The title above the chart. Default: no title.
        pub title: String = String::new(),
        /// The label below the horizontal axis. Default: no label.
        pub x_label: String = String::new(),
        /// The label above the vertical axis. Default: no label.
        pub y_label: String = String::new(),
        /// Whether the horizontal axis is logarithmic; values not above zero are left out. Default: false.
        pub log_x: bool = false,
        /// Whether the vertical axis is logarithmic; values not above zero are left out. Default: false.
        pub log_y: bool = false,
        /// The ends of the horizontal axis. Default: those of the values.
        pub x_range: Option<[f64; 2]> = None,
        /// The ends of the vertical axis. Default: those of the values.
        pub y_range: Option<[f64; 2]> = None,
        /// The width of the picture in screen pixels. Default: 640, for a heatmap at most 640.
        pub width: Option<u32> = None,
        /// The height of the picture in screen pixels. Default: 360, for a heatmap what its cells need.
        pub height: Option<u32> = None,
        /// The color, or the colors of series or bars, in their order or by their names. Default: a palette.
        pub color: Option<Colors> = None,
        /// Whether the names of series are shown. Default: true.
        pub legend: bool = true,
    }
}

impl PlotOptions {
    /// Checks the options of the chart function `function`, whose series or bars have the names `series`.
    pub(super) fn check(&self, function: &str, series: &[&str]) -> Result<()> {
        let fields = |options: &PlotOptions| match serde_json::to_value(options) {
            Ok(serde_json::Value::Object(fields)) => fields,
            _ => serde_json::Map::new(),
        };
        let (mine, usual) = (fields(self), fields(&PlotOptions::default()));
        let without = options_without(function);
        if let Some(name) = without.iter().find(|name| mine.get(**name) != usual.get(**name)) {
            let known = mine.keys().filter(|known| !without.contains(&known.as_str()));
            return Err(Error::unknown("option", *name, known));
        }
        for (name, size) in [("width", self.width), ("height", self.height)] {
            if let Some(size) = size.filter(|size| !(200..=10_000).contains(size)) {
                let what = format!("option `{name}`");
                return Err(Error::invalid(what, "200 to 10000 pixels", size));
            }
        }
        let ranges = [("x_range", self.x_range, self.log_x), ("y_range", self.y_range, self.log_y)];
        for (name, range, is_log) in ranges {
            let Some([least, most]) = range else { continue };
            let fine = least < most && least.is_finite() && most.is_finite() && (least > 0.0 || !is_log);
            if !fine {
                let above = if is_log { ", above 0 on a logarithmic axis" } else { "" };
                let what = format!("option `{name}`");
                let expected = format!("two numbers, the smaller first{above}");
                return Err(Error::invalid(what, expected, format!("[{least}, {most}]")));
            }
        }
        if matches!(&self.color, Some(Colors::Each(colors)) if colors.is_empty()) {
            return Err(Error::invalid("option `color`", "at least one color", "none"));
        }
        if let Some(Colors::Named(colors)) = &self.color
            && let Some(name) = colors.keys().find(|name| !series.contains(&name.as_str()))
        {
            let (name, place) = (name.clone(), "option `color`".to_owned());
            let known = series.iter().map(|name| (*name).to_owned()).collect();
            let kind = if function == "plot_bars" { "label" } else { "series" };
            return Err(Error::Unknown { kind, name, place, known });
        }
        Ok(())
    }

    /// The width and height of a chart's page, without margins.
    pub(super) fn room(&self) -> (f64, f64) {
        let size = |asked: Option<u32>, usual| f64::from(asked.unwrap_or(usual)) - MARGINS;
        (size(self.width, 640), size(self.height, 360))
    }

    /// The color of series or bar `i`, by its name if the colors have names.
    pub(super) fn color(&self, i: usize, name: &str) -> Rgb {
        const SERIES: usize = 8;
        let usual = NAMED[i % SERIES].1;
        // For more than eight series, the palette repeats, first darker and then paler.
        let usual = match i / SERIES % 3 {
            0 => usual,
            1 => mix(usual, INK, 0.45),
            _ => mix(usual, WHITE, 0.5),
        };
        let of = |color: &Color| (color.red, color.green, color.blue);
        match &self.color {
            Some(Colors::One(color)) => of(color),
            Some(Colors::Each(colors)) => colors.get(i % colors.len().max(1)).map_or(usual, of),
            Some(Colors::Named(colors)) => colors.get(name).map_or(usual, of),
            None => usual,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colors_have_names_and_hex_digits() {
        let red: Color = "#d0392b".parse().unwrap();
        assert_eq!("red".parse::<Color>().unwrap(), red);
        assert_eq!("grey".parse::<Color>().unwrap(), "gray".parse().unwrap());
        assert_eq!(String::from(red), "#d0392b");
        for wrong in ["", "rad", "#12345", "#12345g", "#ééé", "d0392b"] {
            let message = wrong.parse::<Color>().unwrap_err().to_string();
            assert!(message.contains("blue, red, teal") && message.contains("#rrggbb"), "{message}");
        }
    }
}
