//! Feature vectors, definition trees, token lists, logit lenses and similar features in scripts.

use super::{check, failure, session};

const DEMO: &str =
    "let model = load_model(\"demo\"); let sae = load_sae(\"demo\", \"blocks.0.hook_resid_pre\");
    let v = feature_vector(model, sae, 624);";

#[track_caller]
fn gives(script: &str, expected: &str) {
    check(&format!("{DEMO} {script}"), expected);
}

/// Fails unless the error of the script contains all `parts`.
#[track_caller]
fn fails(script: &str, parts: &[&str]) {
    let text = failure(&format!("{DEMO} {script}"));
    for part in parts {
        assert!(text.contains(part), "{script}: no {part:?} in\n{text}");
    }
}

#[test]
fn vectors_and_trees_take_all_their_main_options() {
    let script = r#"
        let v = feature_vector(model, sae, 624, #{ weights: "encoder", use_token_centroid: true, scale: 3.8, pca_weights: [0.0], renormalize: false });
        let tree = definition_tree(model, v, #{ prompt: "A typical definition of \"{}\" would be \"", top_k: 5, cutoff: 5e-3, max_depth: 25, stop: ["\""] });
        [v.scale, tree.params.stop, tree.params.feature, tree.root.token_id, tree.len == tree.len(), tree.depth <= 25]
    "#;
    gives(script, "[3.8, [\"\\\"\"], 624, (), true, true]");
}

#[test]
fn vectors_have_tensors_and_parameters() {
    gives(
        "[v.vector.shape, (v.origin + v.direction * v.scale - v.vector).abs().max() < 1e-5, v.params.sae]",
        "[[192], true, \"demo/blocks.0.hook_resid_pre\"]",
    );
    gives(
        "let w = v.at_scale(2); [w.scale, (w.at_scale(v.scale).vector - v.vector).abs().max()]",
        "[2.0, 0.0]",
    );
    gives(
        "let mixed = feature_vector(model, sae, 624, #{ weights: #{ encoder: 0.5, decoder: -1 }, pca_weights: [0.1, -2] });
         [mixed.params.weights, mixed.params.pca_weights]",
        "[#{ decoder: -1.0, encoder: 0.5 }, [0.1, -2.0]]",
    );
    // A feature's weights, passed as a tensor, give the same ghost token.
    gives(
        "(ghost_token(model, sae.feature(624).encoder, #{ scale: 3.8 }).vector - v.at_scale(3.8).vector).abs().max() < 1e-5",
        "true",
    );
    gives(
        "v.to_string()",
        "feature 624 of demo/blocks.0.hook_resid_pre, encoder [192], 1.0260 from the token centroid, cos(encoder, decoder) 0.6445",
    );
}

#[test]
fn trees_are_traversed_trimmed_and_queried() {
    gives(
        "let tree = definition_tree(model, v, #{ cutoff: 1e-3 });
         let first = tree.root.children[0];
         let said = tree.definitions();
         let falling = true;
         for i in 1..said.len() {
             let a = said[i - 1];
             let b = said[i];
             falling = falling && (a.finished && !b.finished || a.finished == b.finished && a.cumulative_prob >= b.cumulative_prob);
         }
         let trimmed = tree.trim(1e-2);
         [falling, tree.probability(first.token) >= first.prob, trimmed.len < tree.len, trimmed.params.trimmed]",
        "[true, true, true, 0.01]",
    );
    // The embedding of a word that the model knows gives its definition.
    gives(
        "let boat = model.to_tokens(\"boat\", #{ prepend_bos: false })[0];
         definition_tree(model, model.W_E[boat], #{ cutoff: 1e-2 }).definitions()[0].text",
        "a small vessel for travel on water",
    );
    // A single number as `scale` rescales the vector.
    gives(
        "definition_tree(model, v, #{ scale: 2, cutoff: 1e-2 }).definitions()
         == definition_tree(model, v.at_scale(2.0), #{ cutoff: 1e-2 }).definitions()",
        "true",
    );
    gives(
        "let tree = definition_tree(model, v, #{ cutoff: 1e-2, null_directions: 2 });
         let branches = tree.contrast().root.children;
         [type_of(tree.definitions()[0].log_ratio), branches.len() == tree.root.children.len()]",
        "[\"f64\", true]",
    );
}

#[test]
fn steering_takes_a_tensor() {
    let steered = |direction: &str| {
        format!(
            "definition_tree(model, v, #{{ cutoff: 1e-2, steer: #{{ hook: \"blocks.3.hook_resid_post\", coefficient: 4{direction} }} }})"
        )
    };
    let (own, given) = (steered(""), steered(", direction: d / d.norm()"));
    gives(
        &format!(
            "let d = sae.feature(624).decoder; let a = {own}; let b = {given};
             let plain = definition_tree(model, v, #{{ cutoff: 1e-2 }});
             [a.len == b.len, a.root.children[0].prob == plain.root.children[0].prob, b.params.steer.direction.len()]"
        ),
        "[true, false, 192]",
    );
}

#[test]
fn scripts_get_token_lists_lenses_and_similar_features() {
    gives(
        "let list = token_list(model, v, #{ top_k: 3 });
         [list.tokens.map(|t| t.token), list.tokens[0].rank, list.params.method, list.to_csv().split(\"\\n\")[0]]",
        "[[\" body\", \" building\", \" blood\"], 1, \"ratio\", \"rank,token,token_id,score\"]",
    );
    // A token is nearest to its own embedding.
    gives(
        "let dog = model.to_tokens(\"dog\", #{ prepend_bos: false })[0];
         token_list(model, model.W_E[dog], #{ top_k: 1 }).tokens[0].token",
        "dog",
    );
    // A tensor or a feature is used unchanged: the decoder times the unembedding.
    gives(
        "let raw = #{ final_norm_gain: false, top_k: 1 };
         let decoder = sae.feature(700).decoder;
         let logits = decoder.matmul(model.W_U);
         let best = logit_lens(model, sae.feature(700), raw);
         [best.top[0].token_id == logits.argmax(), (best.top[0].score - logits.max()).abs() < 1e-4,
          best.top == logit_lens(model, decoder, raw).top, best.top == decoder_logit_lens(model, sae, 700, raw).top,
          best.histogram.len(), best.mean < best.max]",
        "[true, true, true, true, 60, true]",
    );
    gives(
        "let near = similar_features(sae, 624, #{ top_k: 4 });
         let other = similar_features(sae, 624, sae, #{ top_k: 1 });
         [near.features.len(), near.features[0].cosine < 1.0, other.features[0].feature]",
        "[4, true, 624]",
    );
    gives("similar_features(sae, 624).features.len()", "10");
}

#[test]
fn values_print_themselves_also_inside_arrays() {
    let text = session()
        .0
        .eval(&format!("{DEMO} [v, token_list(model, v, #{{ top_k: 1 }})]"))
        .unwrap()
        .unwrap()
        .text;
    assert!(text.contains("feature 624 of demo") && text.contains("\" body\""), "{text}");
    let text = session()
        .0
        .eval(&format!("{DEMO} definition_tree(model, v, #{{ cutoff: 1e-2 }})"))
        .unwrap()
        .unwrap()
        .text;
    assert!(text.contains("feature 624 of demo") && text.contains("body of"), "{text}");
}

#[test]
fn trees_vectors_and_lists_reject_bad_options() {
    let tree = |options: &str, parts: &[&str]| fails(&format!("definition_tree(model, v, {options})"), parts);
    tree("#{ prompt: \"no place\" }", &["a string with {} for the ghost token", "\"meaning\""]);
    tree("#{ cutoff: 0 }", &["`cutoff`: expected a probability above 0"]);
    tree("#{ cutof: 0.1 }", &["unknown option `cutof`", "did you mean `cutoff`?"]);
    tree("#{ cutoff: 0.0 / 0.0 }", &["option `cutoff`: expected a finite number, got NaN"]);
    tree("#{ inject_at: \"blocks.9.hook_resid_pre\" }", &["expected a block from 0 to 5, got 9"]);
    tree("#{ inject_at: \"blocks.1.attn.hook_q\" }", &["one hook of the residual stream"]);
    tree(
        "#{ inject: \"ad\" }",
        &["option `inject`: expected one of `replace`, `add`, `norm_matched`, got \"ad\""],
    );
    tree("#{ steer: 3 }", &["option `steer`: expected a map #{ … }, got 3"]);
    tree("#{ steer: #{ hok: \"hook_embed\" } }", &["unknown option `hok`", "did you mean `hook`?"]);
    tree("#{ steer: #{ hook: \"hook_embed\" } }", &["option `steer`: expected a map with `coefficient`"]);
    tree(
        "#{ steer: #{ hook: \"hook_embed\", coefficient: 1, direction: sae.W_dec } }",
        &["option `steer`: expected a tensor [n], got a tensor [2048, 192]"],
    );
    tree(
        "#{ steer: #{ hook: \"hook_embed\", coefficient: 1, direction: ones([3]) } }",
        &["d_model = 192", "got 3"],
    );
    tree("#{ stop: model }", &["option `stop`: expected a number, a string, true or false"]);
    let long = "let s = \"{}\"; for i in 0..300 { s += \" a\"; }";
    fails(
        &format!("{long} definition_tree(model, v, #{{ prompt: s }})"),
        &["at most n_ctx = 256 tokens", "shorten the prompt"],
    );
    fails(
        "definition_tree(model, sae.feature(3))",
        &["the vector: expected a value of feature_vector", "feature_vector(model, sae, index)"],
    );
    fails("definition_tree(model, ones([3]))", &["expected d_model = 192 values"]);

    let vector =
        |arguments: &str, parts: &[&str]| fails(&format!("feature_vector(model, sae, {arguments})"), parts);
    vector("2048", &["the feature index: expected 0 to 2047", "got 2048"]);
    vector("-1", &["the feature index: expected 0 or more, got -1"]);
    vector(
        "1, #{ weights: \"encodr\" }",
        &["option `weights`: expected `encoder`, `decoder`, or a map of both", "got \"encodr\""],
    );
    vector("1, #{ weights: #{ encodr: 1 } }", &["unknown option `encodr`", "did you mean `encoder`?"]);
    vector("1, #{ weights: #{ encoder: \"a\" } }", &["option `weights`: expected a number"]);
    vector("1, #{ weights: [1] }", &["option `weights`: expected `encoder`, `decoder`, or a map of both"]);
    vector("1, #{ scale: \"big\" }", &["option `scale`: expected a number, got \"big\""]);
    vector("1, #{ pca_weights: 0.1 }", &["option `pca_weights`: expected an array, got 0.1"]);
    fails("token_list(model, v, #{ method: \"rato\" })", &["option `method`", "`ratio`"]);
    fails("token_list(model, v, #{ top_k: 0 })", &["`top_k`: expected at least 1, got 0"]);
    fails("definition_tree(model, v, #{ cutoff: 0.1 }).contrast()", &["null_directions"]);
    fails("similar_features(sae, 0, #{ topp: 1 })", &["unknown option `topp`", "did you mean `top`?"]);
    fails("load_tree(\"no.json\")", &["cannot read `no.json`"]);
}

#[test]
fn several_scales_are_compared() {
    gives(
        "let sweep = definition_tree(model, v, #{ scale: [2, 0.5, 1.0], cutoff: 1e-2 });
         [sweep.scores.map(|s| s.scale), sweep.trees.len(), sweep.trees[0].params.scale, sweep.best.params.feature]",
        "[[0.5, 1.0, 2.0], 3, 0.5, 624]",
    );
    gives("definition_tree(model, v, #{ scale: \"auto\", cutoff: 1e-2 }).trees.len()", "3");
    let text =
        session().0.eval(&format!("{DEMO} definition_tree(model, v, #{{ scale: [1], cutoff: 1e-2 }})"));
    assert!(text.unwrap().unwrap().text.contains("self-similarity"));
    fails(
        "definition_tree(model, v, #{ scale: \"big\" })",
        &["option `scale`: expected a list of numbers or \"auto\", got \"big\"\n"],
    );
    fails("definition_tree(model, v, #{ scale: [] })", &["`scale`: expected at least one number"]);
}

#[test]
fn trees_of_many_features_are_written_to_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("trees.jsonl").to_string_lossy().into_owned();
    let options = format!("#{{ output_path: \"{out}\", cutoff: 1e-2, weights: \"decoder\", batch_size: 2 }}");
    gives(
        &format!(
            "let summary = definition_trees(model, sae, [624, 5, 687], {options});
             let features = [];
             for tree in read_trees(\"{out}\") {{ features.push(tree.params.feature); }}
             let same = definition_tree(model, feature_vector(model, sae, 5, #{{ weights: \"decoder\" }}), #{{ cutoff: 1e-2 }});
             [summary.trees, features, definition_trees(model, sae, 3..6, {options}).kept, same.params.weights.decoder]"
        ),
        "[3, [624, 5, 687], 1, 1.0]",
    );
    let run = |features: &str, options: &str, parts: &[&str]| {
        fails(&format!("definition_trees(model, sae, {features}, {options})"), parts);
    };
    run("[1]", "#{}", &["`output_path`: expected the name of a file, got none"]);
    run("[1]", "#{ cutof: 1 }", &["unknown option `cutof`", "did you mean `cutoff`?"]);
    run(
        "[1]",
        &format!("#{{ output_path: \"{out}x\", scale: \"big\" }}"),
        &["option `scale`: expected a list of numbers or \"auto\""],
    );
    run("\"some\"", "#{}", &["the features: expected \"all\", a range 0..10, or an array"]);
    run("[-1]", "#{}", &["the features: expected \"all\""]);
    run("0..9000000000", &format!("#{{ output_path: \"{out}\" }}"), &["0 to 2047", "got 2048"]);
    fails("read_trees(\"no.jsonl\")", &["cannot read `no.jsonl`"]);
}

#[test]
fn values_are_saved_to_files_and_pages() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    gives(
        &format!(
            "let tree = definition_tree(model, v, #{{ cutoff: 1e-2 }});
             tree.save(\"{json}\"); tree.trim(0.02).save(\"{svg}\");
             let page = page(\"<all>\", [\"# First & last\", v, tree, \"a text\", 3, token_list(model, v, #{{ top_k: 3 }}),
                 similar_features(sae, 1), decoder_logit_lens(model, sae, 1)]);
             page.save(\"{html}\");
             [load_tree(\"{json}\").to_json() == tree.to_json(), tree.to_dot().contains(\"digraph\"),
              tree.to_html().contains(\"<details\"), page.to_html().contains(\"<h2>First &amp; last</h2>\"), page.to_string()]",
            json = at("t.json"),
            svg = at("t.svg"),
            html = at("p.html")
        ),
        "[true, true, true, true, \"Page \\\"<all>\\\" of 8 parts\"]",
    );
    assert!(std::fs::read_to_string(at("t.svg")).unwrap().contains("<svg"));
    assert!(std::fs::read_to_string(at("p.html")).unwrap().contains("<p>a text</p><p>3</p>"));
    fails(
        "token_list(model, v).save(\"t.dot\")",
        &["a name that ends in .json, .txt, .html, .svg, .png, .csv"],
    );
    fails("page(\"a\", []).save(\"t.pdf\")", &["a name that ends in .html"]);
    let many = at("many.json");
    std::fs::write(&many, "{}").unwrap();
    fails(&format!("load_tree(\"{many}\")"), &["not a definition tree"]);
}
