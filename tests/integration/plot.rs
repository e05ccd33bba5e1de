//! Charts of any values, and errors for those that cannot be drawn.

use crate::display::assert_xml;
use saescope::dashboard::FeatureDensity;
use saescope::plot::{
    Color, Colors, Figure, HeatmapOptions, HistogramOptions, PlotOptions, Series, plot_activations,
    plot_bars, plot_density, plot_heatmap, plot_histogram, plot_line, plot_scatter,
};
use saescope::{Error, FeatureRecord, Result};
use std::collections::{BTreeMap, BTreeSet};

/// Values that are hard to draw.
const ODD: [f64; 9] = [0.0, -1.0, 1e-300, 1e300, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0, 5.0];

fn assert_drawn(figure: Result<Figure>) -> String {
    let figure = figure.unwrap_or_else(|e| panic!("{e}"));
    let svg = figure.svg().unwrap();
    assert_xml(&svg);
    assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    let png = figure.png().unwrap();
    assert!(png.starts_with(b"\x89PNG"));
    svg
}

fn histogram(sets: &[(&str, &[f64])], bins: Option<usize>, options: &PlotOptions) -> Result<Figure> {
    let sets: Vec<_> = sets.iter().map(|(name, set)| ((*name).to_owned(), set.to_vec())).collect();
    plot_histogram(&sets, &HistogramOptions { bins }, options)
}

#[track_caller]
fn fails(figure: Result<Figure>, expected: &str) {
    let message = figure.err().map(|e| e.to_string()).unwrap_or_default();
    assert!(message.contains(expected), "{message:?} has no {expected:?}");
}

#[test]
fn any_values_can_be_drawn() {
    let scales = [(false, false), (true, false), (false, true), (true, true)];
    for (log_x, log_y) in scales {
        let options = PlotOptions { log_x, log_y, title: "<t> & \u{202e}".to_owned(), ..Default::default() };
        for values in
            [ODD.to_vec(), vec![5.0], vec![3.0; 4], (0..7000).map(|i| f64::from(i).sin() + 2.0).collect()]
        {
            let x = values.iter().rev().copied().collect();
            let series =
                [Series { name: "a <b>".to_owned(), x, y: values.clone() }, Series::of("", values.clone())];
            assert_drawn(plot_line(&series, &options));
            assert_drawn(plot_scatter(&series, &options));
            assert_drawn(histogram(&[("a", &values), ("b", &ODD)], None, &options));
            let labels: Vec<_> = (0..values.len()).map(|i| format!(" {i}\n")).collect();
            if values.len() < 2000 {
                let options = PlotOptions { log_x: false, ..options.clone() };
                assert_drawn(plot_bars(&labels, &values, &options));
            }
        }
    }
    let matrix = vec![ODD.to_vec(), vec![0.0; 9], vec![-3.0; 9]];
    assert_drawn(plot_heatmap(
        std::slice::from_ref(&matrix),
        &HeatmapOptions::default(),
        &PlotOptions::default(),
    ));
    assert_drawn(plot_heatmap(&vec![matrix; 7], &HeatmapOptions::default(), &PlotOptions::default()));
    let large = vec![vec![1.0; 3000]; 1500];
    let svg = assert_drawn(plot_heatmap(&[large], &HeatmapOptions::default(), &PlotOptions::default()));
    assert!(svg.len() < 2_000_000, "{} bytes", svg.len());
}

#[test]
fn marks_are_drawn_at_their_values() {
    let options = PlotOptions { width: Some(432), height: Some(332), ..Default::default() };
    let series = [Series { name: String::new(), x: vec![0.0, 1.0, 2.0], y: vec![0.0, 10.0, 0.0] }];
    let svg = assert_drawn(plot_line(&series, &options));
    // The last line drawn rises and falls, with its peak in the middle.
    let points = svg.rsplit("points=\"").next().unwrap().split('"').next().unwrap();
    let points: Vec<f64> = points.split([' ', ',']).filter_map(|x| x.parse().ok()).collect();
    let [x0, y0, x1, y1, x2, y2] = points[..] else { panic!("{points:?}") };
    assert!(y0 == y2 && y1 < y0 && x2 == 4160.0 && (x1 - (x0 + x2) / 2.0).abs() <= 1.0, "{points:?}");
    // Four values, two bins: one box is three times as high as the other.
    let svg = assert_drawn(histogram(&[("", &[0.0, 0.1, 0.2, 1.0])], Some(2), &options));
    let boxes: Vec<f64> = svg
        .split("<rect")
        .filter(|part| part.contains("fill=\"#7582CF"))
        .map(|part| part.split("height=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap())
        .collect();
    assert!(boxes.len() == 2 && (boxes[0] / boxes[1] - 3.0).abs() < 0.01, "{boxes:?}");
}

/// The points of the lines of one color, in pixels.
fn lines(svg: &str, color: &str) -> Vec<Vec<(f64, f64)>> {
    let lines =
        svg.split("<polyline").skip(1).filter(|line| line.split("/>").next().unwrap().contains(color));
    let points = lines.map(|line| line.split("points=\"").nth(1).unwrap().split('"').next().unwrap());
    let point = |point: &str| {
        let (x, y) = point.split_once(',').unwrap();
        (x.parse::<f64>().unwrap() / 10.0, y.parse::<f64>().unwrap() / 10.0)
    };
    points.map(|points| points.split_whitespace().map(point).collect()).collect()
}

#[test]
fn a_line_is_clipped_at_the_frame_and_breaks_at_nan() {
    let y = vec![0.0, 100.0, 0.0, f64::NAN, 0.0, 2.0, 2.0];
    let red = Colors::One("#d0392b".parse().unwrap());
    let options = PlotOptions { y_range: Some([0.0, 4.0]), color: Some(red), ..Default::default() };
    let svg = assert_drawn(plot_line(&[Series::of("", y)], &options));
    let parts = lines(&svg, "#D0392B");
    assert_eq!(parts.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2, 3], "{parts:?}");
    // The line from 0 to 100 leaves the frame at 4, a twenty-fifth of the way.
    let ((x0, y0), (x1, y1)) = (parts[0][0], parts[0][1]);
    let (right, _) = parts[2][2];
    assert!(((x1 - x0) / (right - x0) * 6.0 - 0.04).abs() < 0.01 && y1 < y0, "{parts:?}");
    assert!((parts[2][1].1 - (y0 + y1) / 2.0).abs() < 0.2, "{parts:?}");
    assert!(svg.contains("1 of 7 not shown"), "{svg}");
}

#[test]
fn many_points_are_as_dark_as_few_in_a_bitmap() {
    // A line that rises and falls at every pixel covers the area between.
    let y = (0..4000).map(|i| f64::from(i % 2)).collect();
    let (width, height, pixels) =
        plot_line(&[Series::of("", y)], &PlotOptions::default()).unwrap().rgba().unwrap();
    let middle = &pixels[(height / 2 * width + width / 4) * 4..][..width / 2 * 4];
    assert!(middle.chunks(4).all(|pixel| pixel[..3] == [0x2a, 0x3f, 0xb5]), "{middle:?}");
}

#[test]
fn narrow_bars_are_visible() {
    let mut values = vec![0.0; 2000];
    values[777] = 1.0;
    let labels: Vec<_> = (0..2000).map(|i| i.to_string()).collect();
    let (_, height, pixels) = plot_bars(&labels, &values, &PlotOptions::default()).unwrap().rgba().unwrap();
    let blue = pixels.chunks(4).filter(|pixel| pixel[2] > pixel[0].saturating_add(60)).count();
    assert!(blue > height / 2, "{blue} of {height}");
    let values: Vec<f64> = (0..1000).map(f64::from).collect();
    let svg = assert_drawn(histogram(&[("", &values)], Some(1000), &PlotOptions::default()));
    assert!(svg.matches("width=\"10\"").count() >= 1000);
}

#[test]
fn bars_and_series_have_their_own_colors() {
    let labels = ["a", "b", "c"].map(str::to_owned);
    let (red, teal): (Color, Color) = ("red".parse().unwrap(), "teal".parse().unwrap());
    let svg = |color| {
        let options = PlotOptions { color: Some(color), ..Default::default() };
        assert_drawn(plot_bars(&labels, &[1.0, 2.0, 3.0], &options))
    };
    let bars = |svg: &str, color: &str| svg.matches(&format!("fill=\"{color}\"")).count();
    let each = svg(Colors::Each(vec![red, teal]));
    assert_eq!((bars(&each, "#D0392B"), bars(&each, "#1B978A")), (2, 1));
    let named = svg(Colors::Named(BTreeMap::from([("b".to_owned(), red)])));
    assert_eq!((bars(&named, "#D0392B"), bars(&named, "#2A3FB5")), (1, 2));
    // All 24 series have different colors.
    let series: Vec<_> = (0..24).map(|i| Series::of(i.to_string(), vec![f64::from(i), 1.0])).collect();
    let svg = assert_drawn(plot_line(&series, &PlotOptions::default()));
    let colors: BTreeSet<_> =
        svg.split("<polyline").skip(1).filter_map(|line| line.split("stroke=\"").nth(1)?.get(..7)).collect();
    assert!(colors.len() >= 24, "{colors:?}");
}

#[test]
fn a_heatmap_obeys_width_and_height() {
    let matrix = vec![vec![1.0, -2.0]; 3];
    let size = |n: usize, width, height| {
        let options = PlotOptions {
            title: "t".to_owned(),
            x_label: "x".to_owned(),
            width,
            height,
            ..Default::default()
        };
        let figure = plot_heatmap(&vec![matrix.clone(); n], &HeatmapOptions::default(), &options);
        figure.unwrap().size()
    };
    for n in [1, 2, 5] {
        assert_eq!(size(n, Some(640), Some(360)), (640, 360), "{n}");
        assert_eq!(size(n, Some(900), Some(500)), (900, 500), "{n}");
    }
    // By default as large as its cells need, and larger than requested if the cells would not be visible.
    assert!(size(2, None, None).0 < 400, "{:?}", size(2, None, None));
    assert!(size(64, Some(200), Some(200)).1 > 200);
    assert!(size(1, None, None).0 < 250 && size(1, None, None).1 < 260, "{:?}", size(1, None, None));
}

#[test]
fn the_largest_floats_can_be_drawn() {
    let ends = vec![-1.7e308, 1.7e308];
    let svg = assert_drawn(plot_line(&[Series::of("", ends.clone())], &PlotOptions::default()));
    assert!(svg.contains("1·10³⁰⁸") && svg.contains("-1·10³⁰⁸"), "{svg}");
    let heat = [vec![ends.clone()]];
    let svg = assert_drawn(plot_heatmap(&heat, &HeatmapOptions::default(), &PlotOptions::default()));
    assert!(!svg.contains("NaN") && svg.contains("1·10³⁰⁸"), "{svg}");
    let log = PlotOptions { log_y: true, ..Default::default() };
    let svg = assert_drawn(plot_line(&[Series::of("", vec![1e307, 1.7e308])], &log));
    assert!(svg.contains("10³⁰⁸") && !svg.contains("10²⁰⁵"), "{svg}");
    let svg = assert_drawn(plot_bars(&["a".to_owned(), "b".to_owned()], &ends, &PlotOptions::default()));
    let boxes: Vec<f64> = svg
        .split("<rect")
        .filter(|part| part.contains("fill=\"#2A3FB5"))
        .map(|part| part.split("height=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap())
        .collect();
    assert!(boxes.len() == 2 && (boxes[0] - boxes[1]).abs() < 2.0 && boxes[0] > 1000.0, "{boxes:?}");
}

#[test]
fn a_peak_in_a_large_matrix_is_visible() {
    let mut matrix = vec![vec![0.0; 4000]; 4000];
    matrix[2001][1001] = 1.0;
    let figure = plot_heatmap(&[matrix], &HeatmapOptions::default(), &PlotOptions::default()).unwrap();
    let (_, _, pixels) = figure.rgba().unwrap();
    let dark = |pixel: &&[u8]| pixel[..3] == [0x12, 0x1f, 0x8f];
    // The color scale on the right ends in the same color.
    let on_the_left = |(i, _): &(usize, &[u8])| i % figure.size().0 as usize <= figure.size().0 as usize / 2;
    let found =
        pixels.chunks(4).enumerate().filter(|p| on_the_left(p)).map(|(_, pixel)| pixel).filter(dark).count();
    assert!((1..=4).contains(&found), "{found}");
}

#[test]
fn names_of_any_length_fit() {
    let long = |i: usize| format!("{i} {}", "a long name ".repeat(12));
    let series: Vec<_> = (0..40).map(|i| Series::of(long(i), vec![i as f64, 1.0])).collect();
    let options = PlotOptions { title: long(1), x_label: long(2), y_label: long(3), ..Default::default() };
    let figure = plot_line(&series, &options).unwrap();
    assert_eq!(figure.size(), (640, 360));
    let svg = figure.svg().unwrap();
    // The legend has four rows and the number of series left out.
    assert!(svg.contains("0 a long name") && svg.contains(" more\n"), "{svg}");
    let small = PlotOptions { width: Some(200), height: Some(200), ..options };
    let labels: Vec<_> = (0..30).map(long).collect();
    let figure = plot_bars(&labels, &[1.0; 30], &small).unwrap();
    assert!(figure.size().0 == 200 && figure.size().1 < 280, "{:?}", figure.size());
}

#[test]
fn charts_of_activations_and_densities_are_labeled() {
    let record = FeatureRecord {
        text: "a boat".to_owned(),
        tokens: vec![0, 1, 2],
        offsets: vec![0, 0, 1],
        active_features: vec![vec![], vec![3], vec![3, 8]],
        activations: vec![vec![], vec![1.5], vec![0.5, 2.0]],
        ..FeatureRecord::default()
    };
    let svg = assert_drawn(plot_activations(&record, &[3], &PlotOptions::default()));
    assert!(svg.contains("feature 3") && svg.contains("␣boat"), "{svg}");
    let svg = assert_drawn(plot_activations(&record, &[3, 8], &PlotOptions::default()));
    assert!(svg.contains("2 features") && svg.contains("data:image/png;base64,"), "{svg}");
    assert_drawn(plot_activations(&FeatureRecord::default(), &[3], &PlotOptions::default()).or_else(|e| {
        assert!(e.to_string().contains("at least one finite value"), "{e}");
        plot_activations(&record, &[70], &PlotOptions::default())
    }));
    let density = FeatureDensity { tokens: 1000, active: vec![0, 1, 10, 100, 1000], note: None };
    let svg = assert_drawn(plot_density(&density, &HistogramOptions::default(), &PlotOptions::default()));
    assert!(svg.contains("densities of 4 features over 1000 tokens, 1 never active"), "{svg}");
    assert!(!svg.contains("not shown"), "the title says it: {svg}");
}

#[test]
fn charts_reject_missing_values_and_bad_options() {
    let options = PlotOptions::default();
    let line = |y: &[f64], options: &PlotOptions| plot_line(&[Series::of("loss", y.to_vec())], options);
    fails(line(&[], &options), "the y values: expected at least one finite value, got none");
    fails(line(&[f64::NAN], &options), "the y values: expected at least one finite value, got none");
    let log = PlotOptions { log_y: true, ..Default::default() };
    fails(line(&[-1.0, 0.0], &log), "at least one finite value above 0, which a logarithmic axis needs");
    let uneven = Series { name: "loss".to_owned(), x: vec![1.0], y: vec![1.0, 2.0] };
    fails(plot_scatter(&[uneven], &options), "there are 1 x values and 2 y values of `loss`");
    fails(
        line(&[1.0], &PlotOptions { width: Some(20), ..Default::default() }),
        "option `width`: expected 200 to 10000",
    );
    let range = PlotOptions { y_range: Some([1.0, 1.0]), ..Default::default() };
    fails(line(&[1.0], &range), "option `y_range`: expected two numbers, the smaller first, got [1, 1]");
    let range = PlotOptions { log_x: true, x_range: Some([0.0, 1.0]), ..Default::default() };
    fails(line(&[1.0], &range), "above 0 on a logarithmic axis");
    let none = PlotOptions { color: Some(Colors::Each(Vec::new())), ..Default::default() };
    fails(line(&[1.0], &none), "option `color`: expected at least one color");
    let log = PlotOptions { log_x: true, ..Default::default() };
    fails(plot_bars(&["a".to_owned()], &[1.0], &log), "unknown option `log_x`");
    let heat = plot_heatmap(&[vec![vec![1.0]]], &HeatmapOptions::default(), &log);
    fails(heat, "unknown option `log_x`");
    let named = BTreeMap::from([("los".to_owned(), "red".parse().unwrap())]);
    let named = PlotOptions { color: Some(Colors::Named(named)), ..Default::default() };
    fails(line(&[1.0], &named), "unknown series `los` in option `color`");
    let never = FeatureDensity { tokens: 3, active: vec![0, 0], note: None };
    let never = plot_density(&never, &HistogramOptions::default(), &options);
    fails(never, "the densities: expected at least one feature that is active somewhere");
    fails(plot_bars(&[], &[1.0], &options), "there are 0 labels and 1 values");
    let many = vec![1.0; 2001];
    fails(
        plot_bars(&vec![String::new(); 2001], &many, &options),
        "the bars: expected at most 2000, got 2001",
    );
    fails(histogram(&[("", &[1.0])], Some(0), &options), "option `bins`: expected 1 to 1000, got 0");
    let heat =
        |matrices: &[Vec<Vec<f64>>], heatmap: HeatmapOptions| plot_heatmap(matrices, &heatmap, &options);
    fails(heat(&[], HeatmapOptions::default()), "the matrix: expected at least one value");
    fails(heat(&[vec![vec![1.0], vec![1.0, 2.0]]], HeatmapOptions::default()), "rows of equal length");
    let labels = HeatmapOptions { x_labels: Some(vec!["a".to_owned()]), ..Default::default() };
    fails(
        heat(&[vec![vec![1.0, 2.0]]], labels),
        "option `x_labels`: expected one for each of 2 columns, got 1",
    );
    let range = HeatmapOptions { color_range: Some([2.0, 1.0]), ..Default::default() };
    fails(heat(&[vec![vec![1.0]]], range), "option `color_range`");
    assert!(matches!("nocolor".parse::<Color>(), Err(Error::Invalid { .. })));
}
