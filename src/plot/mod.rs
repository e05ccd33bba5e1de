//! Pictures as SVG and PNG: charts, definition trees, token lists, logit lenses, similar features.
//!
//! A picture is laid out once, as marks on a page ([`Figure`]), and becomes SVG or PNG only when it is requested: the
//! layout of a thousand nodes takes a millisecond, their bitmap a second.

mod axis;
mod bitmap;
mod canvas;
mod chart;
mod dot;
mod figure;
mod font;
mod layout;
mod lens;
mod page;
mod svg;
mod token_bars;
mod tree;

pub(crate) use chart::options_without;
pub use chart::{
    Color, Colors, HeatmapOptions, HistogramOptions, PlotOptions, Series, plot_activations, plot_bars,
    plot_density, plot_heatmap, plot_histogram, plot_line, plot_scatter,
};
pub use dot::tree_dot;
pub use figure::Figure;
pub use lens::lens_figure;
pub use token_bars::{features_figure, tokens_figure};
pub use tree::tree_figure;
