//! Every value of a script as a bundle: text, HTML, picture, JSON.

use super::assert_xml;
use crate::util::in_folder;
use saescope::Progress;
use saescope::display::Bundle;
use saescope::script::{Host, Session};
use std::cell::RefCell;
use std::rc::Rc;

/// Defines the variables that the expressions below use.
const SETUP: &str = r#"
let model = load_model("demo"); let sae = load_sae("demo"); let early = load_sae("demo", "blocks.0.hook_resid_pre");
let text = "A plant having leaves has roots.";
let acts = feature_acts(model, sae, text);
let cache = model.run_with_cache(text, "blocks.*.hook_resid_pre");
let summary = create_feature_dataset(model, sae, #{ dataset_path: "demo", output_path: "f.jsonl", max_examples: 20 });
let v = feature_vector(model, early, 624);
let trees = definition_trees(model, early, [624], #{ output_path: "trees.jsonl", cutoff: 1e-2 });
"#;

/// An expression, the start of its text, a part of its HTML, whether it is a picture, and a part of its JSON.
const VALUES: [(&str, &str, &str, bool, &str); 33] = [
    ("1 + 1", "2", "", false, "2"),
    ("\"a <b>\"", "a <b>", "", false, "\"a <b>\""),
    ("[1, 2.5, \"x\"]", "[1, 2.5, \"x\"]", "", false, "[\n  1,"),
    (
        "[#{ a: 1, b: \"<\" }, #{ a: 2, b: \">\" }]",
        "[#{ a: 1",
        "<th class=\"n\">a</th><th>b</th>",
        false,
        "\"a\": 2",
    ),
    ("model.cfg", "#{ act_fn: ", "<td>d_model</td><td>192</td>", false, "\"d_model\": 192"),
    ("model", "Model demo", "<summary>Model demo", false, "\"n_layers\": 6"),
    ("sae", "SAE demo/", "<td>hook</td><td>blocks.4.hook_resid_pre</td>", false, "\"preprocessing\""),
    ("sae.feature(3)", "Feature 3: encoder [192]", "", false, "\"encoder\""),
    ("acts", "FeatureActs [8 tokens, 2048 features]", "<th>strongest</th>", false, "\"active_features\""),
    ("acts.top(2)", "[#{ feature: ", "<th class=\"n\">feature</th>", false, "\"feature\""),
    ("cache", "ActivationCache, 6", "<code>blocks.0.hook_resid_pre</code>", false, "[\n    8,"),
    ("tensor([[1, 2], [3, 4]])", "Tensor [2, 2] f32", "", false, "[1.0, 2.0, 3.0, 4.0]"),
    ("model.to_tokens(text)", "[0, ", "", false, "0"),
    ("model.to_str_tokens(text)", "[\"<|endoftext|>\", \"A\"", "", false, "\" plant\""),
    (
        "list_saes(#{ release: \"gpt2-small-res-jb\" })",
        "gpt2-small-res-jb, 13",
        "<th>sae_id</th>",
        false,
        "\"sae_id\"",
    ),
    ("open_dataset(\"demo\")", "Dataset demo", "", false, "\"path\": \"demo\""),
    ("summary", "documents      20", "<td>documents</td><td>20</td>", false, "\"documents\": 20"),
    (
        "check_sae(model, sae, \"demo\", #{ max_tokens: 50 })",
        "SAE demo/",
        "",
        false,
        "\"explained_variance\"",
    ),
    ("read_records(\"f.jsonl\")", "Records of ", "", false, "f.jsonl"),
    ("read_records(\"f.jsonl\").take(1)[0]", "FeatureRecord ", "active: ", false, "\"offsets\""),
    (
        "max_activating_examples(\"f.jsonl\", 1919)",
        "feature 1919: active at",
        "rgba(42,63,181,",
        false,
        "\"examples\"",
    ),
    ("feature_density(sae, \"f.jsonl\")", "FeatureDensity of 2048", "", true, "\"active\""),
    (
        "colored_tokens(model.to_str_tokens(text), acts.of(1919))",
        "<|endoftext|>A",
        "rgba(",
        false,
        "\"values\"",
    ),
    ("v", "feature 624 of demo/", "<pre>", false, "\"direction\""),
    ("token_list(model, v, #{ top_k: 3 })", "feature 624 of demo/", "<svg", true, "\"tokens\""),
    ("decoder_logit_lens(model, sae, 3)", "feature 3 of demo/", "<svg", true, "\"skewness\""),
    ("similar_features(sae, 3)", "feature 3 of demo/", "<svg", true, "\"cosine\""),
    (
        "definition_tree(model, v, #{ cutoff: 1e-2 })",
        "feature 624 of",
        "<summary>as text</summary>",
        true,
        "\"root\"",
    ),
    (
        "definition_tree(model, v, #{ cutoff: 5e-2, scale: [1.0, 2.0] })",
        "  scale",
        "<svg",
        true,
        "\"scores\"",
    ),
    ("read_trees(\"trees.jsonl\")", "Trees of ", "", false, "trees.jsonl"),
    ("trees", "trees     1", "<td>trees</td><td>1</td>", false, "\"trees\": 1"),
    ("plot_line([1, 4, 9])", "Figure, 640 x 360 pixels", "", true, "\"width\": 640"),
    ("page(\"<All>\", [\"# One\", v, 3])", "Page \"<All>\" of 3 parts", "<h2>One</h2>", false, "<All>"),
];

#[test]
fn every_value_has_its_text_html_picture_and_json() {
    let folder = tempfile::tempdir().unwrap();
    let mut session = Session::new(Progress::default(), |_| ());
    session.eval(&in_folder(SETUP, folder.path())).unwrap();
    for (script, text, html, is_picture, json) in VALUES {
        let bundle = session.eval(&in_folder(script, folder.path()));
        let bundle = bundle.unwrap_or_else(|e| panic!("{script}: {e}")).unwrap();
        assert!(bundle.text.starts_with(text), "{script}: {}", bundle.text);
        match &bundle.html {
            Some(shown) => {
                assert_xml(shown);
                assert!(!html.is_empty() && shown.contains(html), "{script}: {shown}");
            }
            None => assert_eq!(html, "", "{script} has no HTML"),
        }
        assert_eq!(bundle.figure.is_some(), is_picture, "{script}");
        let value = bundle.json.unwrap_or_else(|| panic!("{script} has no JSON"));
        serde_json::from_str::<serde_json::Value>(&value)
            .unwrap_or_else(|e| panic!("{script}: {e}: {value}"));
        assert!(value.contains(json), "{script}: {value}");
    }
    // An array of values with HTML forms is shown in these forms.
    let two = session.eval("[plot_line([1, 2]), plot_line([2, 1])]").unwrap().unwrap();
    assert_eq!(two.html.unwrap().matches("<svg").count(), 2);
    let mixed = session.eval("[1, plot_line([1, 2]), \"<two>\"]").unwrap().unwrap().html.unwrap();
    assert!(
        mixed.contains("<pre>1</pre>") && mixed.contains("<svg") && mixed.contains("&lt;two&gt;"),
        "{mixed}"
    );
    let map = session.eval("#{ chart: plot_line([1, 2]), n: 3 }").unwrap().unwrap().html.unwrap();
    assert!(map.contains("<td>chart</td><td") && map.contains("<svg"), "{map}");
    // Long nested arrays are abbreviated.
    let many = session
        .eval("let row = []; row.pad(100, 7); let rows = []; rows.pad(100, row); rows")
        .unwrap()
        .unwrap();
    assert!(many.text.len() < 5000 && many.text.ends_with("… 90 more]"), "{}", many.text);
    assert_eq!(session.eval("let x = 1;").unwrap(), None);
}

#[test]
fn bundles_of_large_values_are_small() {
    let mut session = Session::new(Progress::default(), |_| ());
    let large = session.eval("load_model(\"demo\").W_E").unwrap().unwrap();
    assert_eq!(large.json, None);
    assert!(large.text.len() < 1000);
    let tree = "let m = load_model(\"demo\");
        definition_tree(m, feature_vector(m, load_sae(\"demo\", \"blocks.0.hook_resid_pre\"), 624))";
    let tree = session.eval(tree).unwrap().unwrap();
    let (width, height) = tree.figure.as_ref().unwrap().size();
    assert!(height < 3000 && width < 3000, "{width} x {height}");
    assert!(tree.html.unwrap().len() < 400_000);
}

/// A host that records its output and answers questions in upper case.
#[derive(Clone, Default)]
struct Recorder {
    bundles: Rc<RefCell<Vec<Bundle>>>,
    lines: Rc<RefCell<Vec<String>>>,
}

impl Host for Recorder {
    fn print(&self, line: &str) {
        self.lines.borrow_mut().push(line.to_owned());
    }

    fn display(&self, bundle: Bundle) {
        self.bundles.borrow_mut().push(bundle);
    }

    fn input(&self, prompt: &str) -> saescope::Result<String> {
        Ok(prompt.to_uppercase())
    }
}

#[test]
fn a_host_displays_prints_and_answers() {
    let host = Recorder::default();
    let mut session = Session::with_host(Progress::default(), host.clone());
    let value =
        session.eval("display(plot_line([1, 2])); print(1); debug(\"d\"); display(()); input(\"name? \")");
    assert_eq!(value.unwrap().unwrap().text, "NAME? ");
    assert_eq!(*host.lines.borrow(), ["1", "\"d\""]);
    let bundles = host.bundles.borrow();
    assert!(bundles[0].figure.is_some() && bundles[1].text == "()");
    // A session without such a host prints what is displayed, and a question is an error.
    let printed = Rc::new(RefCell::new(Vec::new()));
    let sink = printed.clone();
    let mut session = Session::new(Progress::default(), move |line| sink.borrow_mut().push(line.to_owned()));
    session.eval("display([1, 2])").unwrap();
    assert_eq!(*printed.borrow(), ["[1, 2]"]);
    let error = session.eval("input(\"name? \")").unwrap_err().to_string();
    assert!(error.contains("input needs a terminal, or a notebook that allows it"), "{error}");
}

#[test]
fn values_print_all_their_forms_for_evcxr() {
    use saescope::EvcxrDisplay;
    use saescope::Model;
    use saescope::plot::{PlotOptions, Series, plot_line};
    let figure = plot_line(&[Series::of("", vec![1.0, 2.0])], &PlotOptions::default()).unwrap();
    let printed = figure.evcxr_text();
    let mut types = Vec::new();
    for block in printed.split_inclusive("EVCXR_END_CONTENT\n") {
        let (kind, form) = block.strip_prefix("EVCXR_BEGIN_CONTENT ").unwrap().split_once('\n').unwrap();
        assert!(form.ends_with("\nEVCXR_END_CONTENT\n"));
        types.push(kind);
    }
    assert_eq!(types, ["text/plain", "image/svg+xml", "image/png"]);
    let model = Model::load("demo").unwrap();
    assert!(model.evcxr_text().contains("EVCXR_BEGIN_CONTENT text/html\n<div class=\"saescope\">"));
    assert!(
        model.W_E().unwrap().evcxr_text().starts_with("EVCXR_BEGIN_CONTENT text/plain\nTensor [8192, 192]")
    );
}
