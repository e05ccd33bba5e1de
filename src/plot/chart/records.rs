//! Charts of feature datasets: the activations along a record, and how often features are active.

use super::super::figure::Figure;
use super::{HeatmapOptions, HistogramOptions, PlotOptions, plot_bars, plot_heatmap, plot_histogram};
use crate::dashboard::FeatureDensity;
use crate::error::{Error, Result};
use crate::extract::FeatureRecord;
use crate::label::visible_line;

/// The activations of features along a record: a bar for each token, or for several features a heatmap, a row for each.
///
/// # Errors
/// An empty list of features; options that are out of range.
pub fn plot_activations(record: &FeatureRecord, features: &[usize], options: &PlotOptions) -> Result<Figure> {
    let name = |text: String| if text.is_empty() { "·".to_owned() } else { text };
    let tokens: Vec<String> = record.str_tokens().into_iter().map(name).collect();
    let values =
        |feature: &usize| record.activations_of(*feature).into_iter().map(f64::from).collect::<Vec<_>>();
    let or = |given: &String, default: String| if given.is_empty() { default } else { given.clone() };
    match features {
        [] => Err(Error::invalid("the features", "at least one", "none")),
        [feature] => {
            let options = PlotOptions {
                title: or(&options.title, format!("feature {feature}")),
                y_label: or(&options.y_label, "activation".to_owned()),
                ..options.clone()
            };
            plot_bars(&tokens, &values(feature), &options)
        }
        several => {
            let title = or(&options.title, format!("{} features", several.len()));
            let heatmap = HeatmapOptions {
                x_labels: Some(tokens),
                y_labels: Some(several.iter().map(|feature| feature.to_string()).collect()),
                ..Default::default()
            };
            let options = PlotOptions { title: visible_line(&title), ..options.clone() };
            plot_heatmap(&[several.iter().map(values).collect()], &heatmap, &options)
        }
    }
}

/// A histogram of the densities of features, on a logarithmic axis. Features that are never active cannot be shown
/// there; the title counts them.
///
/// # Errors
/// No feature that is ever active; options that are out of range.
pub fn plot_density(
    density: &FeatureDensity,
    histogram: &HistogramOptions,
    options: &PlotOptions,
) -> Result<Figure> {
    options.check("plot_density", &[""])?;
    let (n, dead) = (density.active.len(), density.dead());
    if dead == n {
        return Err(Error::invalid("the densities", "at least one feature that is active somewhere", "none"));
    }
    let or = |given: &String, default: String| if given.is_empty() { default } else { given.clone() };
    let title =
        format!("densities of {} features over {} tokens, {dead} never active", n - dead, density.tokens);
    let options = PlotOptions {
        title: or(&options.title, title),
        x_label: or(
            &options.x_label,
            "density: the fraction of tokens at which a feature is active".to_owned(),
        ),
        y_label: or(&options.y_label, "features".to_owned()),
        log_x: true,
        ..options.clone()
    };
    let active = density.densities().into_iter().filter(|density| *density > 0.0).collect();
    plot_histogram(&[(String::new(), active)], histogram, &options)
}
