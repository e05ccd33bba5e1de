//! Charts: the functions `plot_…`.

use super::arguments::{check_memory, feature_index, values_of};
use super::names::type_name;
use super::options::{self, FunctionOptions};
use super::show::ShownType;
use super::{ScriptResult, TYPES, script};
use crate::dashboard::FeatureDensity;
use crate::error::Error;
use crate::extract::FeatureRecord;
use crate::plot::{self, Figure, HeatmapOptions, HistogramOptions, PlotOptions, Series, options_without};
use candle_core::{DType, Tensor};
use rhai::plugin::*;
use rhai::{Array, Dynamic, Engine, Map};
use saescope_options::{Field, Options};

pub(super) const SHOWN: &[ShownType] = &[ShownType::of::<Figure>("figure: &mut Figure").saved()];
pub(super) const OPTIONS: &[FunctionOptions] = &[
    ("plot_activations", || chart_options("plot_activations")),
    ("plot_bars", || chart_options("plot_bars")),
    ("plot_density", || [HistogramOptions::fields(), chart_options("plot_density")].concat()),
    ("plot_heatmap", || [HeatmapOptions::fields(), chart_options("plot_heatmap")].concat()),
    ("plot_histogram", || [HistogramOptions::fields(), chart_options("plot_histogram")].concat()),
    ("plot_line", || chart_options("plot_line")),
    ("plot_scatter", || chart_options("plot_scatter")),
];

pub(super) fn register(engine: &mut Engine) {
    engine.register_global_module(exported_module!(functions).into());
}

/// Returns the options that a chart function shares with others.
fn chart_options(function: &str) -> Vec<Field> {
    let without = options_without(function);
    PlotOptions::fields().into_iter().filter(|field| !without.contains(&field.name)).collect()
}

/// Parses the options of a chart function.
fn parse_chart(function: &str, map: Map) -> ScriptResult<PlotOptions> {
    let known = options::of_function(&[OPTIONS], function);
    match map.keys().find(|name| !known.iter().any(|field| field.name == name.as_str())) {
        None => options::parse(map),
        Some(name) => {
            let known = known.iter().map(|field| field.name);
            script(Err(Error::unknown("option", name.as_str(), known)))
        }
    }
}

/// Parses the options of a chart function that has additional options, of type `T`.
fn parse_both<T: Options>(function: &str, map: Map) -> ScriptResult<(T, PlotOptions)> {
    let own = T::fields();
    let (own, chart) = map.into_iter().partition(|(name, _)| own.iter().any(|own| own.name == name.as_str()));
    Ok((options::parse(own)?, parse_chart(function, chart)?))
}

/// Returns all values of a tensor of any shape, or of an array of numbers, arrays or tensors.
fn all_values(value: &Dynamic) -> Result<Vec<f64>, Error> {
    if let Some(tensor) = value.read_lock::<Tensor>() {
        check_memory(&tensor, 32)?;
        return Ok(tensor.flatten_all()?.to_dtype(DType::F64)?.to_vec1()?);
    }
    match value.read_lock::<Array>() {
        Some(rows) if rows.iter().any(|row| row.is_array() || row.is::<Tensor>()) => {
            let rows = rows.iter().map(all_values).collect::<Result<Vec<_>, _>>()?;
            Ok(rows.concat())
        }
        _ => values_of("the values", value),
    }
}

/// Converts one value, or a map of named values, each by `one`; the name of a single value is empty.
fn named<T>(value: &Dynamic, one: impl Fn(&str, &Dynamic) -> Result<T, Error>) -> Result<Vec<T>, Error> {
    match value.read_lock::<Map>() {
        Some(map) => map.iter().map(|(name, value)| one(name, value)).collect(),
        None => Ok(vec![one("", value)?]),
    }
}

/// Returns one or several series over `x`, or over 0, 1, 2, …
fn series_of(x: Option<&Dynamic>, y: &Dynamic) -> Result<Vec<Series>, Error> {
    let x = x.map(|x| values_of("the x values", x)).transpose()?;
    named(y, |name, y| {
        let what =
            if name.is_empty() { "the y values".to_owned() } else { format!("the values of `{name}`") };
        let y = values_of(&what, y)?;
        Ok(match &x {
            Some(x) => Series { name: name.to_owned(), x: x.clone(), y },
            None => Series::of(name, y),
        })
    })
}

/// Returns one or several matrices from a tensor [rows, columns] or [n, rows, columns], or from an array of rows.
fn matrices_of(value: &Dynamic) -> Result<Vec<Vec<Vec<f64>>>, Error> {
    let wrong = |got: String| {
        Error::invalid(
            "the matrix",
            "a tensor [rows, columns] or [n, rows, columns], or an array of rows",
            got,
        )
    };
    if let Some(tensor) = value.read_lock::<Tensor>() {
        check_memory(&tensor, 32)?;
        let tensor = tensor.to_dtype(DType::F64)?;
        return match tensor.rank() {
            2 => Ok(vec![tensor.to_vec2()?]),
            3 => Ok(tensor.to_vec3()?),
            _ => Err(wrong(format!("a tensor {:?}", tensor.dims()))),
        };
    }
    let rows = value.read_lock::<Array>().ok_or_else(|| wrong(type_name(value)))?;
    Ok(vec![rows.iter().map(|row| values_of("a row of the matrix", row)).collect::<Result<_, _>>()?])
}

/// Returns the indices of one feature or of an array of features.
fn features_of(features: &Dynamic) -> Result<Vec<usize>, Error> {
    let wrong =
        || Error::invalid("the features", "a whole number or an array of whole numbers", type_name(features));
    let one = |feature: &Dynamic| feature_index(feature.as_int().map_err(|_| wrong())?);
    match features.read_lock::<Array>() {
        Some(array) => array.iter().map(one).collect(),
        None => Ok(vec![one(features)?]),
    }
}

#[export_module]
mod functions {
    /// A chart, which is saved as a picture or shown in a notebook.
    pub type Figure = crate::plot::Figure;

    /// A line chart of values y (an array or a tensor [n]) over values x, or over 0, 1, 2, …: `plot_line(y)`,
    /// `plot_line(x, y)`. A map draws several named lines: `plot_line(#{ train: a, test: b })`.
    ///
    /// ```rhai
    /// plot_line([1, 4, 9, 16]).save("squares.svg");
    /// let steps = [1, 10, 100, 1000];
    /// plot_line(steps, #{ train: [3.1, 2.0, 1.1, 0.7], test: [3.2, 2.4, 1.9, 1.8] }, #{
    ///     title: "loss", x_label: "step", log_x: true, color: #{ train: "blue", test: "orange" },
    /// })
    /// ```
    #[rhai_fn(return_raw)]
    pub fn plot_line(y: Dynamic, options: Map) -> ScriptResult<Figure> {
        script(plot::plot_line(&script(series_of(None, &y))?, &parse_chart("plot_line", options)?))
    }

    #[rhai_fn(name = "plot_line", return_raw)]
    pub fn plot_line_over(x: Dynamic, y: Dynamic, options: Map) -> ScriptResult<Figure> {
        script(plot::plot_line(&script(series_of(Some(&x), &y))?, &parse_chart("plot_line", options)?))
    }

    /// A scatter plot of values y over values x (arrays or tensors [n]). A map as y draws several named sets over x.
    ///
    /// ```rhai
    /// let sae = load_sae("demo");
    /// let norms = sae.W_enc.norm(0);
    /// plot_scatter(norms, sae.b_enc, #{ x_label: "norm of the encoder", y_label: "bias" })
    /// ```
    #[rhai_fn(return_raw)]
    pub fn plot_scatter(x: Dynamic, y: Dynamic, options: Map) -> ScriptResult<Figure> {
        script(plot::plot_scatter(&script(series_of(Some(&x), &y))?, &parse_chart("plot_scatter", options)?))
    }

    /// A bar chart, with bars from zero: labels and values, or a map from labels to values.
    ///
    /// ```rhai
    /// plot_bars(["a", "b", "c"], [3.0, -1.0, 2.0], #{ title: "three", color: "teal" });
    /// plot_bars(#{ encoder: 0.4, decoder: 0.9 })
    /// ```
    #[rhai_fn(return_raw)]
    pub fn plot_bars(labels: Array, values: Dynamic, options: Map) -> ScriptResult<Figure> {
        let values = script(values_of("the values", &values))?;
        // A label can be a value of any type.
        let labels: Vec<_> = labels.iter().map(|label| TYPES.text(label)).collect();
        script(plot::plot_bars(&labels, &values, &parse_chart("plot_bars", options)?))
    }

    #[rhai_fn(name = "plot_bars", return_raw)]
    pub fn plot_bars_of(bars: Map, options: Map) -> ScriptResult<Figure> {
        let labels = bars.keys().map(|name| Dynamic::from(name.to_string())).collect();
        plot_bars(labels, bars.into_values().collect::<Array>().into(), options)
    }

    /// A histogram of all values of a tensor of any shape, or of arrays. A map draws several named sets.
    ///
    /// With `log_x`
    /// bin edges have equal ratios; with `log_y` a bin with a single value is visible. A bin contains its lower edge,
    /// the last one also its upper edge.
    ///
    /// ```rhai
    /// let sae = load_sae("demo");
    /// plot_histogram(sae.W_dec.cosine_similarity(sae.feature(700).decoder), #{
    ///     bins: 50, log_y: true, x_label: "cosine with feature 700", y_label: "features",
    /// })
    /// ```
    #[rhai_fn(return_raw)]
    pub fn plot_histogram(values: Dynamic, options: Map) -> ScriptResult<Figure> {
        let sets = script(named(&values, |name, values| Ok((name.to_owned(), all_values(values)?))))?;
        let (histogram, options): (HistogramOptions, PlotOptions) = parse_both("plot_histogram", options)?;
        script(plot::plot_histogram(&sets, &histogram, &options))
    }

    /// A heatmap of a matrix, the first row on top: a tensor [rows, columns] or an array of rows. A tensor
    /// [n, rows, columns], such as the attention patterns of a block, is drawn as n matrices side by side.
    ///
    /// ```rhai
    /// let model = load_model("demo");
    /// let tokens = model.to_str_tokens("a small boat on the lake");
    /// let cache = model.run_with_cache("a small boat on the lake", "blocks.2.attn.hook_pattern");
    /// let pattern = cache["blocks.2.attn.hook_pattern"];
    /// plot_heatmap(pattern[0], #{ x_labels: tokens, y_labels: tokens, title: "block 2, head 0" });
    /// plot_heatmap(pattern, #{ title: "block 2, every head" })
    /// ```
    #[rhai_fn(return_raw)]
    pub fn plot_heatmap(matrix: Dynamic, options: Map) -> ScriptResult<Figure> {
        let (heatmap, options): (HeatmapOptions, PlotOptions) = parse_both("plot_heatmap", options)?;
        script(plot::plot_heatmap(&script(matrices_of(&matrix))?, &heatmap, &options))
    }

    /// A chart of the activations in a record: for one feature, a bar per token; for an array of features, a heatmap
    /// with a row per feature.
    ///
    /// ```rhai
    /// create_feature_dataset(load_model("demo"), load_sae("demo"), #{
    ///     dataset_path: "demo", output_path: "feature_activations.jsonl", max_examples: 1,
    /// });
    /// let record = read_records("feature_activations.jsonl").take(1)[0];
    /// plot_activations(record, 1919);
    /// plot_activations(record, record.active_features[2])
    /// ```
    #[rhai_fn(return_raw)]
    pub fn plot_activations(record: FeatureRecord, features: Dynamic, options: Map) -> ScriptResult<Figure> {
        script(plot::plot_activations(
            &record,
            &script(features_of(&features))?,
            &parse_chart("plot_activations", options)?,
        ))
    }

    /// A histogram, on a logarithmic axis, of how often features are active: of a value of `feature_density`.
    ///
    /// ```rhai
    /// let sae = load_sae("demo");
    /// create_feature_dataset(load_model("demo"), sae, #{
    ///     dataset_path: "demo", output_path: "feature_activations.jsonl", max_examples: 50,
    /// });
    /// plot_density(feature_density(sae, "feature_activations.jsonl"), #{ bins: 30 })
    /// ```
    #[rhai_fn(return_raw)]
    pub fn plot_density(density: FeatureDensity, options: Map) -> ScriptResult<Figure> {
        let (histogram, options): (HistogramOptions, PlotOptions) = parse_both("plot_density", options)?;
        script(plot::plot_density(&density, &histogram, &options))
    }
}
