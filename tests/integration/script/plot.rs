//! Charts from scripts: the accepted forms of data, and errors for others.

use super::{check, failure};

#[test]
fn charts_accept_tensors_arrays_and_maps() {
    let figure = "\"Figure, 640 x 360 pixels\"";
    let charts = [
        "plot_line([1, 2.5])",
        "plot_line(tensor([1, 2]), [3, 4])",
        "plot_line(#{ a: [1, 2], b: tensor([2, 1]) })",
        "plot_line([1, 2], #{ a: [3, 4] }, #{ title: \"t\" })",
        "plot_scatter([1, 2], #{ a: [3, 4], b: [1, 1] })",
        "plot_bars([\"a\", 3], [1, 2])",
        "plot_line(#{ a: [1, 2], b: [2, 1] }, #{ color: #{ b: \"red\" } })",
        "plot_bars(#{ a: 1, b: 2 }, #{ color: \"#d0392b\" })",
        "plot_bars(#{ a: 1, b: 2 }, #{ color: #{ b: \"red\" } })",
        "plot_histogram([[1, 2], zeros([2, 2]), [[3]]])",
        "plot_histogram(zeros([2, 3, 4]))",
        "plot_histogram(#{ a: [1, 2], b: [3] }, #{ bins: 3, log_y: true, color: [\"red\", \"teal\"] })",
    ];
    for chart in charts {
        check(&format!("{chart}.to_string()"), figure.trim_matches('"'));
    }
    check("plot_line([1], #{ width: 300, height: 200 })", "Figure, 300 x 200 pixels");
    check("plot_heatmap([[1, 2], [3, 4]], #{ width: 640, height: 360 })", "Figure, 640 x 360 pixels");
    check("plot_heatmap(zeros([6, 4, 4]), #{ width: 300, height: 500 })", "Figure, 300 x 500 pixels");
    check("plot_heatmap(zeros([6, 4, 4])).to_html().contains(\"<svg\")", "true");
}

#[test]
fn charts_reject_other_data_and_options() {
    let cases = [
        ("plot_line([1, ()])", "got an array with ()"),
        ("plot_line([1, \"a\"])", "got an array with String"),
        ("plot_bars([\"a\"], [1], #{ log_x: true })", "unknown option `log_x`"),
        ("plot_heatmap([[1]], #{ log_x: false })", "known options: `x_labels`, `y_labels`, `names`"),
        ("plot_bars([\"a\"], [1], #{ color: #{ b: \"red\" } })", "known labels: `a`"),
        ("plot_line([1], #{ y_range: [1, 2, 3] })", "option `y_range`: expected two numbers, got [1,2,3]"),
        ("plot_line([1], #{ color: [\"red\", \"rad\"] })", "black, got \"rad\""),
        ("plot_line(#{ a: [1] }, #{ color: #{ b: \"red\" } })", "unknown series `b` in option `color`"),
        ("plot_line([1, \"a\"])", "the y values: expected a tensor [n] or an array of numbers"),
        ("plot_line(#{ loss: 3 })", "the values of `loss`: expected a tensor [n]"),
        ("plot_line(zeros([2, 3]))", "got a tensor [2, 3]"),
        ("plot_line(zeros([2, 3]))", "hint: take one row, x[0]"),
        ("plot_line([1], #{ titel: 1 })", "unknown option `titel`"),
        ("plot_line([1], #{ title: 1 })", "option `title`: expected a string, got 1"),
        ("plot_line([1], #{ color: \"blu\" })", "option `color`: expected \"#rrggbb\" or one of blue, red"),
        ("plot_line([1], #{ color: 3 })", "option `color`: expected a color such as \"red\" or \"#d0392b\""),
        ("plot_line([1], #{ width: -1 })", "option `width`: expected a whole number, 0 or more"),
        ("plot_histogram([1], #{ bin: 3 })", "did you mean `bins`?"),
        ("plot_heatmap([1])", "a row of the matrix: expected a tensor [n]"),
        ("plot_heatmap(zeros([3]))", "expected a tensor [rows, columns] or [n, rows, columns]"),
        ("plot_line([1]).save(\"x.pdf\")", "a name that ends in .json, .txt, .html, .svg, .png"),
        ("plot_activations(3, 4)", "no `plot_activations` takes (int, int)"),
        ("feature_density(load_sae(\"demo\"), 3)", "the records: expected a path, a value of read_records"),
        ("colored_tokens([\"a\"], [1, 2])", "there are 1 tokens and 2 values"),
        ("colored_tokens([1], [1])", "the tokens: expected an array of strings, got int"),
        ("max_activating_examples([], -1)", "the feature index: expected 0 or more"),
    ];
    for (script, expected) in cases {
        let message = failure(script);
        assert!(message.contains(expected), "{script}:\n{message}");
    }
}
