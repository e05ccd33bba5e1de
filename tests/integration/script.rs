//! Scripts: every function, the form of errors, and sessions that survive them.

mod complete;
mod interpret;
mod plot;

use crate::util::fixture;
use saescope::{Error, Progress, Session};
use std::cell::RefCell;
use std::rc::Rc;

/// A session, and the lines that its scripts print.
fn session() -> (Session, Rc<RefCell<Vec<String>>>) {
    let printed = Rc::new(RefCell::new(Vec::new()));
    let sink = printed.clone();
    (Session::new(Progress::default(), move |line| sink.borrow_mut().push(line.to_owned())), printed)
}

/// Fails unless the value of a script is shown as `expected`.
#[track_caller]
fn check(script: &str, expected: &str) {
    check_in(&mut session().0, script, expected);
}

/// As `check`, in a session.
#[track_caller]
fn check_in(session: &mut Session, script: &str, expected: &str) {
    let value = session.eval(script).unwrap_or_else(|e| panic!("{e}\n{:?}", e.excerpt()));
    assert_eq!(value.map(|value| value.text).as_deref(), Some(expected));
}

/// The error of a script, as it is printed.
#[track_caller]
fn failure(script: &str) -> String {
    let error = session().0.eval(script).unwrap_err();
    let excerpt = error.excerpt().map(|e| format!("\n{e}")).unwrap_or_default();
    let hint = error.hint().map(|h| format!("\nhint: {h}")).unwrap_or_default();
    format!("error: {error}{excerpt}{hint}")
}

const MODEL: &str = "let model = load_model(\"demo\");";
const BOTH: &str = "let model = load_model(\"demo\"); let sae = load_sae(\"demo\");";

#[test]
fn an_sae_check_prints_its_measurements() {
    let text =
        session().0.eval(r#"check_sae(load_model("demo"), load_sae("demo"), "demo")"#).unwrap().unwrap().text;
    assert!(text.starts_with("SAE demo/blocks.4.hook_resid_pre at blocks.4.hook_resid_pre on 1"), "{text}");
    assert!(text.contains("explained variance 0.95"), "{text}");
    let script = r#"
        let check = check_sae(load_model("demo"), load_sae("demo"), open_dataset("demo"), #{ max_tokens: 200 });
        [check.tokens >= 200, check.l0 > 1.0, check.explained_variance > 0.5, check.warnings, check.to_map().published_l0]
    "#;
    check(script, "[true, true, true, [], ()]");
    let wrong = failure(r#"check_sae(load_model("demo"), load_sae("demo"), 3)"#);
    assert!(wrong.contains("expected a path or a value of open_dataset"), "{wrong}");
    let wrong = failure(r#"check_sae(load_model("demo"), load_sae("demo"), "demo", #{ max_token: 3 })"#);
    assert!(wrong.contains("unknown option `max_token`"), "{wrong}");
}

#[test]
fn strings_and_tokens_convert_both_ways() {
    check(&format!("{MODEL} model.to_tokens(\"a boat\")[0]"), "0");
    check(&format!("{MODEL} model.to_tokens(\"a boat\", #{{ prepend_bos: false }}).len()"), "2");
    check(&format!("{MODEL} model.to_str_tokens(\"a boat\")"), "[\"<|endoftext|>\", \"a\", \" boat\"]");
    check(
        &format!("{MODEL} model.to_string(model.to_tokens(\"naïve\", #{{ prepend_bos: false }}))"),
        "naïve",
    );
    check(&format!("{MODEL} model.cfg.d_model * model.cfg.n_layers"), "1152");
    check(&format!("{MODEL} [model.W_E.shape, model.W_U.shape]"), "[[8192, 192], [192, 8192]]");
}

#[test]
fn a_model_gives_activations_logits_and_text() {
    check(
        &format!(
            "{MODEL} let c = model.run_with_cache(\"a boat\", [\"blocks.*.hook_z\", \"hook_embed\"]); c.names.len()"
        ),
        "7",
    );
    check(
        &format!("{MODEL} let c = model.run_with_cache(\"a boat\", \"blocks.*.attn.hook_z\"); c.names.len()"),
        "6",
    );
    check(
        &format!(
            "{MODEL} model.run_with_cache([0, 5], [\"blocks.2.attn.hook_pattern\"])[\"blocks.2.attn.hook_pattern\"].shape"
        ),
        "[6, 2, 2]",
    );
    check(
        &format!(
            "{MODEL} (model.logits(\"a boat\") - model.logits(model.to_tokens(\"a boat\"))).abs().max()"
        ),
        "0.0",
    );
    check(
        &format!(
            "{MODEL} model.generate(\"A typical definition of \\\"dog\\\" would be \\\"\", #{{ max_new_tokens: 5, temperature: 0 }})"
        ),
        "A typical definition of \"dog\" would be \"a member of the genus",
    );
}

#[test]
fn closures_are_hooks() {
    let script = format!(
        "{BOTH} let v = sae.feature(700).decoder; let text = \"a small boat\";
         let plain = model.logits(text);
         let same = model.run_with_hooks(text, #{{ \"blocks.4.hook_resid_pre\": |x| x + 0.0 * v }});
         let steered = model.run_with_hooks(text, #{{ \"blocks.4.hook_resid_pre\": |x| x + 40.0 * v }});
         [(same - plain).abs().max() < 1e-4, (steered - plain).abs().max() > 0.1]"
    );
    check(&script, "[true, true]");
    let generated = format!(
        "{BOTH} model.generate(\"A \", #{{ max_new_tokens: 3, temperature: 0, hooks: #{{ \"blocks.5.hook_resid_post\": |x| x * 0.0 }} }})
         == model.generate(\"A \", #{{ max_new_tokens: 3, temperature: 0 }})"
    );
    check(&generated, "false");
}

#[test]
fn saes_encode_and_decode() {
    let acts = format!("{BOTH} let acts = feature_acts(model, sae, \"a small boat\");");
    check(&format!("{acts} acts.len()"), "4");
    check(
        &format!("{acts} acts.at(1).len() == acts.to_tensor()[1].to_array().filter(|x| x > 0.0).len()"),
        "true",
    );
    check(&format!("{acts} let top = acts.top(1)[0]; acts.of(top.feature)[top.pos] == top.value"), "true");
    check(&format!("{acts} acts.l0 > 1.0"), "true");
    let hook = "let hook = sae.cfg.hook_name; let x = model.run_with_cache(\"a small boat\", [hook])[hook];";
    check(&format!("{acts} {hook} sae.encode(x).to_tensor().shape"), "[4, 2048]");
    check(&format!("{acts} {hook} (sae.encode(x).to_tensor() - acts.to_tensor()).abs().max()"), "0.0");
    check(&format!("{acts} {hook} (sae.decode(acts) - sae.forward(x)).abs().max() < 1e-5"), "true");
    // The demo SAE explains 95 % of the variance after the BOS.
    check(
        &format!(
            "{acts} {hook} let e = (x - sae.forward(x))[1..4]; let x = x[1..4]; e.norm() / (x - x.mean(0)).norm() < 0.4"
        ),
        "true",
    );
    check(&format!("{BOTH} sae.feature(624).index"), "624");
    check(&format!("{BOTH} (sae.feature(3).decoder - sae.W_dec[3]).abs().max()"), "0.0");
    check(&format!("{BOTH} (sae.feature(3).encoder - sae.W_enc[[\":\", 3]]).abs().max()"), "0.0");
}

#[test]
fn tensors_behave_like_numpy_arrays() {
    check("tensor([[1, 2, 3], [4, 5, 6]]).shape", "[2, 3]");
    check(
        "let x = tensor([[1, 2, 3], [4, 5, 6]]); [x.sum(), x.mean(), x.max(), x.min(), x.argmax()]",
        "[21.0, 3.5, 6.0, 1.0, 5]",
    );
    check(
        "let x = tensor([[1, 2, 3], [4, 5, 6]]); [x.sum(0).to_array(), x.sum(-1).to_array(), x.argmax(1).to_array()]",
        "[[5.0, 7.0, 9.0], [6.0, 15.0], [2, 2]]",
    );
    check(
        "let x = tensor([[1, 2, 3], [4, 5, 6]]); [x[0][1], x[-1].to_array(), x[[1, 2]], x[[\":\", 0]].to_array()]",
        "[2.0, [4.0, 5.0, 6.0], 6.0, [1.0, 4.0]]",
    );
    check(
        "let x = arange(10); [x[2..4].to_array(), x[-2..=9].to_array(), x[8..100].len()]",
        "[[2.0, 3.0], [8.0, 9.0], 2]",
    );
    check(
        "let x = tensor([3, 4]); [x.norm(), (x / 2).to_array(), (1 - x).to_array(), (-x).to_array(), (2.0 * x).sum()]",
        "[5.0, [1.5, 2.0], [-2.0, -3.0], [-3.0, -4.0], 14.0]",
    );
    check(
        "let a = tensor([[1, 2], [3, 4]]); [a.matmul(a.t()).to_array(), a.matmul(tensor([1, -1])).to_array()]",
        "[[[5.0, 11.0], [11.0, 25.0]], [-1.0, -1.0]]",
    );
    check("tensor([1, 2]).matmul(tensor([3, 4])).to_array()", "11.0");
    check(
        "[tensor([0, 0]).softmax().to_array(), tensor([-1, 2]).relu().to_array(), tensor([0]).exp()[0]]",
        "[[0.5, 0.5], [0.0, 2.0], 1.0]",
    );
    check("tensor([0.5, 3, 1, 3]).topk(2)", "[#{ index: 1, value: 3.0 }, #{ index: 3, value: 3.0 }]");
    check("tensor([1, 0]).cosine_similarity(tensor([0, 1]))", "0.0");
    check(
        "[cat([zeros([1, 2]), ones([2, 2])], 0).shape, stack([zeros([3]), ones([3])], 0).shape]",
        "[[3, 2], [2, 3]]",
    );
    check(
        "let x = arange(6).reshape([2, -1]); [x.shape, x.unsqueeze(0).shape, x.unsqueeze(0).squeeze(0).shape]",
        "[[2, 3], [1, 2, 3], [2, 3]]",
    );
    check(
        "(randn([1000], 7) - randn([1000], 7)).abs().max() + (randn([10000], 1).std() * 10).to_string().len() * 0",
        "0.0",
    );
    check("let s = randn([10000], 1).std(); s > 0.95 && s < 1.05", "true");
    check(
        "arange(3)",
        "Tensor [3] f32, mean 1, std 0.8165, min 0, max 2\n           0          1          2",
    );
}

#[test]
fn comparisons_give_masks() {
    check(
        "let x = tensor([-1, 0, 2]); [(x > 0.0).to_array(), (x == 0).sum(), (x <= x).sum(), (1 > x).sum()]",
        "[[0.0, 0.0, 1.0], 1.0, 3.0, 2.0]",
    );
}

#[test]
fn misuse_of_closures_and_tensors_is_explained() {
    let hooked = |call: &str, closure: &str| {
        failure(&format!("{MODEL} {call}\"a\", #{{ \"hook_embed\": {closure} }})"))
    };
    let text = hooked("model.run_with_hooks(", "|x, hook| x");
    assert!(text.contains("the closure takes the wrong number of arguments: it is called with 1"), "{text}");
    let text = hooked("model.run_with_hooks(", "|x| x * model.cfg.n_layers");
    assert!(text.contains("a closure captures the variable that its method is called on"), "{text}");
    let function = "run_with_hooks(model, \"a\", #{ \"hook_embed\": |x| x * model.cfg.n_layers }).shape";
    check(&format!("{MODEL} {function}"), "[2, 8192]");
    let text = failure("let x = tensor([1, 2]);\nx[0] = 3.0;");
    assert!(text.contains("not changed in place"), "{text}");
    let text = failure(&format!("let s = \"{}\"; nonsense()", "x".repeat(5000)));
    assert!(text.len() < 600 && text.contains("nonsense()"), "{text}");
    let text = failure("ones([2, 3]).reshape([4])");
    assert!(text.contains("expected a shape of 6 elements, like [2, 3], got [4]"), "{text}");
}

#[test]
fn tensors_survive_a_round_trip_through_files() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let script = format!(
        "save_tensors(#{{ a: arange(4), b: ones([2, 2]) }}, \"{0}\"); let back = load_tensors(\"{0}\");
         save_tensors(back.b, \"{1}\"); [back.a.to_array(), load_tensors(\"{1}\").shape]",
        at("x.safetensors"),
        at("x.npy")
    );
    check(&script, "[[0.0, 1.0, 2.0, 3.0], [2, 2]]");
    let cache = format!(
        "{MODEL} model.run_with_cache(\"a\", \"hook_embed\").save(\"{0}\"); load_tensors(\"{0}\").keys()",
        at("c.safetensors")
    );
    check(&cache, "[\"hook_embed\"]");
}

#[test]
fn scripts_iterate_over_datasets_and_records() {
    check(
        "open_dataset(\"demo\").take(1)[0]",
        "A typical definition of \"small\" would be \"the slender part of the back\"",
    );
    check("let n = 0; for text in open_dataset(\"demo\") { n += 1; } n", "179");
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("x.jsonl").to_string_lossy().into_owned();
    let script = format!(
        "{BOTH} let summary = create_feature_dataset(model, sae, open_dataset(\"demo\"), #{{
             output_path: \"{out}\", max_examples: 3, activation_threshold: 1 }});
         let n = 0;
         for r in read_records(\"{out}\") {{ n += r.tokens.len(); if min(r.activations[1]) <= 1.0 {{ throw \"low\"; }} }}
         [summary.tokens == n, summary.to_map().records]"
    );
    let (mut session, _) = session();
    session.eval("fn min(a) { a.reduce(|m, x| if x < m { x } else { m }, 1e9) }").unwrap();
    check_in(&mut session, &script, "[true, 3]");
}

#[test]
fn errors_show_the_line_and_a_hint() {
    insta::assert_snapshot!(failure("let x = 1;\nload_modle(\"demo\")"), @r#"
    error: unknown function `load_modle`
     --> input:2:1
      |
    2 | load_modle("demo")
      | ^^^^^^^^^^
    hint: did you mean `load_model`?
    "#);
    insta::assert_snapshot!(failure("load_sae(3)"), @"
    error: no `load_sae` takes (int)
     --> input:1:1
      |
    1 | load_sae(3)
      | ^^^^^^^^
    hint: known forms: `load_sae(name: String) -> Sae`, `load_sae(name: String, options: Map) -> Sae`, `load_sae(name: String, sae_id: String) -> Sae`, `load_sae(name: String, sae_id: String, options: Map) -> Sae`
    ");
    insta::assert_snapshot!(failure("let m = load_model(\"demo\");\nm.run_with_cache(\"a\", \"blocks.9.hook_resid_pre\")"), @r#"
    error: hook `blocks.9.hook_resid_pre`: expected a block from 0 to 5, got 9
     --> input:2:3
      |
    2 | m.run_with_cache("a", "blocks.9.hook_resid_pre")
      |   ^^^^^^^^^^^^^^
    hint: the model has 6 blocks, counted from 0
    "#);
    insta::assert_snapshot!(failure("let m = load_model(\"demo\"); m.cfgg"), @r#"
    error: unknown property `cfgg` in Model
     --> input:1:31
      |
    1 | let m = load_model("demo"); m.cfgg
      |                               ^^^^
    hint: did you mean `cfg`?
    "#);
    insta::assert_snapshot!(failure("let sae = load_sae(\"demo\");\nfn f(x) {\n    x + sae\n}\nf(1)"), @"
    error: unknown variable `sae`
     --> input:3:9
      |
    3 |     x + sae
      |         ^^^
    hint: a function does not see variables outside it: pass `sae` as an argument
    ");
    insta::assert_snapshot!(failure("let x = [1, 2"), @"
    error: expecting ']' to end this array literal
     --> input:1:14
      |
    1 | let x = [1, 2
      |              ^
    hint: is a `]` missing before this?
    ");
}

#[test]
fn options_are_checked_by_name_and_type() {
    let run = |options: &str| failure(&format!("{BOTH} create_feature_dataset(model, sae, {options})"));
    let text = run("#{ dataset_path: \"demo\", max_exmples: 3 }");
    assert!(
        text.contains("unknown option `max_exmples`") && text.contains("did you mean `max_examples`?"),
        "{text}"
    );
    let text = run("#{ dataset_path: \"demo\", output_path: \"x\", batch_size: \"many\" }");
    assert!(text.contains("option `batch_size`: expected a whole number, 0 or more, got \"many\""), "{text}");
    let text = run("#{ dataset_path: \"demo\", output_path: \"x\", long_documents: \"cut\" }");
    assert!(text.contains("option `long_documents`") && text.contains("`split` or `truncate`"), "{text}");
    let text = run("#{ dataset_path: model }");
    assert!(
        text.contains("option `dataset_path`: expected a number, a string, true or false, got "),
        "{text}"
    );
    let text = run("#{ dataset_path: \"demo\" }");
    assert!(text.contains("`output_path`: expected a path, got none"), "{text}");
    let text = failure(&format!("{MODEL} model.generate(\"a\", #{{ temprature: 1 }})"));
    assert!(text.contains("did you mean `temperature`?"), "{text}");
    let text = failure(&format!("{MODEL} model.run_with_hooks(\"a\", #{{ \"hook_embed\": 3 }})"));
    assert!(text.contains("the hook at `hook_embed`: expected a closure"), "{text}");
    let text = failure(&format!("{MODEL} model.run_with_hooks(\"a\", #{{ \"hook_embed\": |x| 3 }})"));
    assert!(text.contains("the closure at `hook_embed`: expected a Tensor as its result, got int"), "{text}");
    let text = failure(&format!(
        "{MODEL}\nmodel.run_with_hooks(\"a\", #{{ \"hook_embed\": |x| {{\n    x.nonsense() }} }})"
    ));
    assert!(text.contains("unknown function `nonsense`") && text.contains("3 |     x.nonsense()"), "{text}");
    let text = failure(&format!("{MODEL} model.logits(true)"));
    assert!(text.contains("expected a string or an array of token ids, got bool"), "{text}");
    let text =
        failure(&format!("{MODEL} model.run_with_hooks(\"a\", #{{ \"blocks.4.hook_resid_pree\": |x| x }})"));
    assert!(text.contains("did you mean `blocks.4.hook_resid_pre`?"), "{text}");
    let text = failure(&format!("load_sae(\"{}\", \"gatde\")", fixture("saes/native")));
    assert!(text.contains("did you mean `gated`?"), "{text}");
}

#[test]
fn a_script_can_catch_an_error_but_not_an_interrupt() {
    check(
        "let m = 0; try { load_sae(\"demo\").feature(-1) } catch (e) { m = e.message; } m",
        "the feature index: expected 0 or more, got -1",
    );
    let progress = Progress::default();
    let mut session = Session::new(progress.clone(), |_| ());
    session.eval("let kept = 5;").unwrap();
    progress.cancel();
    let error = session.eval("try { load_model(\"demo\").logits(\"a\") } catch { 1 }").unwrap_err();
    assert!(matches!(error, Error::Interrupted), "{error}");
    progress.reset();
    check_in(&mut session, "kept + 1", "6");
}

#[test]
fn a_failed_line_leaves_the_session_as_it_was() {
    let (mut session, printed) = session();
    session.eval("let a = 1; fn twice(x) { 2 * x }").unwrap();
    assert!(session.eval("let b = 2; nonsense(b)").is_err());
    assert!(session.eval("b").is_err());
    check_in(&mut session, "print(`a is ${a}`); twice(a) + 1", "3");
    assert_eq!(*printed.borrow(), ["a is 1"]);
    assert_eq!(session.eval("let c = 3;").unwrap(), None);
    assert!(session.eval("a = 5; c = 6; nonsense()").is_err());
    check_in(&mut session, "[a, c]", "[1, 3]");
}

#[test]
fn errors_point_into_the_cell_of_a_function() {
    let (mut session, _) = session();
    // An error inside a function or closure of an earlier cell points into that cell.
    session
        .eval_named("cell 1", 1, "fn broken() {\n\n\n nonsense() }\nlet f = |x| x + nonsense(x);")
        .unwrap();
    let mut location = |script: &str| {
        let error = session.eval_named("cell 2", 1, script).unwrap_err();
        error.excerpt().unwrap_or_default().to_owned()
    };
    assert!(location("1;\nbroken()").starts_with(" --> cell 1:4:2\n"), "{}", location("1;\nbroken()"));
    assert!(location("[1].map(f)").starts_with(" --> cell 1:5:17\n"), "{}", location("[1].map(f)"));
    // A redefined function is shown in its new cell. If two functions share a name, the call is shown instead.
    assert!(location("fn broken() { wrong() } broken()").starts_with(" --> cell 2:1:15\n"));
    assert!(location("fn broken(x) { wrong() } broken(1)").starts_with(" --> cell 2:1:26\n"));
    // A method and a plain function share a name.
    session.eval_named("cell 3", 1, "//\nfn int.g() { nonsense() }").unwrap();
    let error = session.eval_named("cell 4", 1, "// a\nfn g() { 1 } 5.g()").unwrap_err();
    assert!(error.excerpt().unwrap().starts_with(" --> cell 4:2:"), "{:?}", error.excerpt());
    let error = session.eval_named("input", 5, "1;\nnonsense()").unwrap_err();
    assert!(
        error.excerpt().unwrap().contains("input:6:1") && error.excerpt().unwrap().contains("6 | nonsense()")
    );
}

#[test]
fn errors_list_the_functions_of_the_script_too() {
    let (mut session, _) = session();
    let error = session.eval("fn mine(a, b) { a + b } mine(1)").unwrap_err();
    assert_eq!(error.to_string(), "no `mine` takes (int)");
    assert_eq!(error.hint().as_deref(), Some("known forms: `mine(a, b)`"));
    session.eval("fn mine(a) { a } fn mine(a, b) { a + b }").unwrap();
    let error = session.eval("mine()").unwrap_err();
    assert_eq!(error.hint().as_deref(), Some("known forms: `mine(a)`, `mine(a, b)`"));
    assert_eq!(session.eval("mime(1)").unwrap_err().hint().as_deref(), Some("did you mean `mine`?"));
}

#[test]
fn a_file_imports_modules_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, script: &str| std::fs::write(folder.path().join(name), script).unwrap();
    write("helper.rhai", "fn twice(x) { 2 * x }\nfn apply(f) { f.call(1) }\nfn fails() {\n    nonsense() }");
    write(
        "main.rhai",
        "#!/usr/bin/env saescope\nlet a = 21;\nimport \"helper\" as h;\nfn f() {\n h::fails() }\nh::twice(a)",
    );
    let (mut session, _) = session();
    let main = folder.path().join("main.rhai");
    assert_eq!(session.run_file(&main, &[]).unwrap().unwrap().text, "42");
    // The next cell knows the module too.
    assert_eq!(session.eval("h::twice(a + 1)").unwrap().unwrap().text, "44");
    // The error points to the function or closure in this file, not into the module.
    let error = session.eval("f()").unwrap_err();
    assert!(error.excerpt().unwrap().contains("main.rhai:5:"), "{:?}", error.excerpt());
    let error = session.eval("let g = |x| x +\n  nonsense(x);\nh::apply(g)").unwrap_err();
    assert!(error.excerpt().unwrap().starts_with(" --> input:2:3\n"), "{:?}", error.excerpt());
}

/// Neither built-in functions nor the optimizer swallow an error.
#[test]
fn no_error_is_swallowed() {
    check("let a = [#{ s: 1.5 }, #{ s: 0.2 }]; a.sort(|x, y| x.s - y.s); a[0].s", "0.2");
    check("let a = [3, 1, 2]; a.sort(|x, y| x > y); a", "[3, 2, 1]");
    check("let a = [3, 1.5, 2, 0.0 / 0.0]; a.sort(); a", "[1.5, 2, 3, NaN]");
    check("let a = [`b`, `a`, `c`]; a.sort_desc(); a", r#"["c", "b", "a"]"#);
    check("let a = [1, 2, 2, 1]; a.dedup(|x, y| x == y); a", "[1, 2, 1]");
    // Equal items keep their order.
    let stable = "let a = []; for i in 0..99 { a.push([i % 3, i]); } a.sort(|x, y| x[0] - y[0]); \
                  let n = 0; for i in 1..99 { if a[i][0] == a[i-1][0] && a[i][1] < a[i-1][1] { n += 1; } } n";
    check(stable, "0");
    for (script, expected) in [
        ("[2, 1].sort(|x, y| nosuch(x))", "unknown function `nosuch`"),
        ("[2, 1].sort_by(|x, y| ())", "expected a number or a boolean, got"),
        ("[2, 1].sort(|x, y| 0.0 / 0.0)", "expected a number or a boolean, got NaN"),
        ("[2, `a`].sort()", "expected numbers, strings, characters or booleans, not mixed, got"),
        ("[2, 2].dedup(|x, y| throw 3)", "3"),
        ("[2, 2].dedup(|x, y| 3)", "expected a boolean, got int"),
        ("if true { nosuch }", "unknown variable `nosuch`"),
        ("try { import `nosuch` as m; } catch (e) { throw `caught` }", "caught"),
    ] {
        assert!(failure(script).contains(expected), "{script}: {}", failure(script));
    }
    check("fn cmp(a, b) { b - a } let a = [1.5, 2.5, 0.5]; a.sort(\"cmp\"); a", "[2.5, 1.5, 0.5]");
    for (script, expected) in [
        ("[2, 1].sort(\"cmp\")", "unknown function `cmp`"),
        ("fn cmp(a, b) { throw 3 } [2, 1].dedup(\"cmp\")", "3"),
        ("const A = [2, 1]; A.sort(); A", "constant"),
        ("const A = [2, 1]; A.pad(5, 0); A", "constant"),
    ] {
        assert!(failure(script).contains(expected), "{script}: {}", failure(script));
    }
    // An error leaves the array as it was.
    check("let a = [2, 1, 3]; try { a.sort(|x, y| throw 1); } catch { } a", "[2, 1, 3]");
}

/// `exit` ends a script from anywhere, without an error.
#[test]
fn exit_ends_a_script_wherever_it_is_called() {
    let folder = tempfile::tempdir().unwrap();
    let module = folder.path().join("m");
    std::fs::write(module.with_extension("rhai"), "exit(7);").unwrap();
    let import = format!("import {:?} as m; print(1); 2", module.to_str().unwrap());
    for script in [
        "exit(7); print(1);",
        "fn f() { exit(7) } f(); print(1);",
        "[1].map(|x| exit(7)); print(1);",
        "try { [1].filter(|x| exit(7)); } catch { print(1); }",
        "[2, 1].sort(|a, b| exit(7)); print(1);",
        "for i in 0..3 { exit(7); print(1); }",
        &import,
    ] {
        let (mut session, printed) = session();
        let value = session.eval(script).unwrap().unwrap();
        assert_eq!((value.text.as_str(), session.has_exited()), ("7", true), "{script}");
        assert!(printed.borrow().is_empty(), "{script}");
        assert_eq!(session.eval("1").unwrap().unwrap().text, "1");
        assert!(!session.has_exited());
    }
}

/// An error in a module keeps its own message, with its line in the module.
#[test]
fn errors_of_modules_say_what_is_wrong_and_where() {
    let folder = tempfile::tempdir().unwrap();
    for (module, expected) in [
        ("let x = 1;\nthrow `bad thing`;", "bad thing, in line 2 of the module"),
        ("load_sae(`gpt2-small-res-jbb`);", "unknown SAE `gpt2-small-res-jbb`"),
        ("foo(3);", "unknown function `foo`, in line 1 of the module"),
        ("let a = ;", "unexpected ';', in line 1 of the module"),
        ("let a = 0; loop { a = [a]; }", "nested at most 1000 deep"),
        ("/* open\nfn f() { }", "a comment is not closed"),
        ("let x = 1; /**/ let y = 2;", "an empty comment is `/* */`"),
    ] {
        let path = folder.path().join("m");
        std::fs::write(path.with_extension("rhai"), module).unwrap();
        let error = failure(&format!("import {:?} as m;", path.to_str().unwrap()));
        assert!(error.contains(expected) && !error.contains("#{"), "{module}: {error}");
    }
    let path = folder.path().join("m");
    std::fs::write(path.with_extension("rhai"), "load_sae(`gpt2-small-res-jbb`);").unwrap();
    std::fs::write(folder.path().join("inner.rhai"), "\n\nfoo(3);").unwrap();
    std::fs::write(path.with_extension("rhai"), "import \"inner\" as inner;").unwrap();
    let error = failure(&format!("import {:?} as m;", path.to_str().unwrap()));
    assert!(error.contains("unknown function `foo`, in line 3 of the module `inner`"), "{error}");
    std::fs::write(path.with_extension("rhai"), "throw #{ message: `m`, code: 5 };").unwrap();
    let import = format!("import {:?} as m;", path.to_str().unwrap());
    check(&format!("let c = 0; try {{ {import} }} catch (e) {{ c = e.code; }} c"), "5");
    std::fs::write(path.with_extension("rhai"), "load_sae(`gpt2-small-res-jbb`);").unwrap();
    let import = format!("import {:?} as m;", path.to_str().unwrap());
    check(
        &format!("let h = 0; try {{ {import} }} catch (e) {{ h = e.hint; }} h.contains(`did you mean`)"),
        "true",
    );
}

/// No script makes the program panic or abort.
#[test]
fn invalid_scripts_are_errors() {
    for script in [
        "zeros([-1])",
        "zeros([4611686018427387904, 4])",
        "randn([99999999999999], 0)",
        "arange(-5)",
        "tensor([])[0]",
        "tensor([]).mean()",
        "tensor([]).argmax()",
        "tensor([[], []]).max(1)",
        "tensor([1, [2]])",
        "tensor([[1], 2])",
        "tensor([\"a\"])",
        "tensor([1, 2])[[0, 0]]",
        "tensor([1, 2])[\"x\"]",
        "tensor([1, 2]) + tensor([1, 2, 3])",
        "tensor([1, 2]).sum(3)",
        "tensor([1, 2]).reshape([3])",
        "tensor([1, 2]).reshape([0, -1])",
        "tensor([[1, 2]]).matmul(tensor([[1, 2]]))",
        "cat([], 0)",
        "cat([1], 0)",
        "stack([tensor([1])], 9)",
        "tensor([[1]]).topk(1)",
        "tensor([1]).topk(-1)",
        "load_tensors(\"no.npy\")",
        "load_tensors(\"no.txt\")",
        "save_tensors(#{ a: 1 }, \"x.safetensors\")",
        "load_model(\"demo\").logits([-1])",
        "load_model(\"demo\").logits([99999])",
        "load_model(\"demo\").logits([])",
        "load_model(\"demo\").to_string([99999999999])",
        "load_model(\"demo\").generate(\"a\", #{ temperature: -1 })",
        "load_model(\"demo\").generate(\"a\", #{ top_p: 0 })",
        "load_model(\"demo\").run_with_cache(\"a\", [])[\"x\"]",
        "load_model(\"demo\").run_with_cache(\"a\", [3])",
        "load_sae(\"demo\").encode(tensor([1, 2]))",
        "feature_acts(load_model(\"demo\"), load_sae(\"demo\"), \"a\").at(7)",
        "feature_acts(load_model(\"demo\"), load_sae(\"demo\"), \"a\").top(-1)",
        "open_dataset(\"no/such/*.jsonl\")",
        "read_records(\"no.jsonl\")",
        "for x in read_records(\"Cargo.toml\") { print(x); }",
        "let f = |n| f.call(n); f.call(1)",
        "import \"no\" as no;",
        "[].pad(9223372036854775807, 0)",
        "\"a\".pad(9223372036854775807, 'x')",
        "blob(9223372036854775807)",
        "let s = \"eval(s)\"; eval(s)",
        "zeros([1048576, 1]) + zeros([1, 1048576])",
        "zeros([1048576, 1]).matmul(zeros([1, 1048576]))",
        "load_model(\"demo\").generate(\"a\", #{ hooks: |x| x })",
        "load_model(\"demo\").generate(\"a\", #{ hooks: #{ \"blocks.12.hook_resid_pre\": |x| x } })",
        "\u{0}",
        "é",
        "`${",
    ] {
        let error = session().0.eval(script).map(|value| panic!("{script} gave {value:?}")).unwrap_err();
        assert!(!error.to_string().is_empty(), "{script}");
    }
}

/// The examples in the doc comments run, and every function has one.
#[test]
fn every_example_of_the_help_runs() {
    let folder = tempfile::tempdir().unwrap();
    let (session_for_help, _) = session();
    let (mut examples, mut without_example) = (0, Vec::new());
    for entry in session_for_help.help().entries() {
        let name = format!("{}{}", entry.owner.as_deref().unwrap_or_default(), entry.name);
        if entry.examples().next().is_none() {
            without_example.push(name.clone());
        }
        for example in entry.examples() {
            let example = crate::util::in_folder(example, folder.path());
            session()
                .0
                .eval(&example)
                .unwrap_or_else(|e| panic!("{name}: {e}\n{:?}\n{example}", e.excerpt()));
            examples += 1;
        }
    }
    assert!(without_example.is_empty(), "without an example: {without_example:?}");
    assert!(examples >= 150, "only {examples} examples");
    let help = session_for_help.help();
    assert!(help.list().contains("create_feature_dataset"));
    let text = help.get("load_sae").unwrap().to_string();
    assert!(text.starts_with("load_sae(name: String) -> Sae\n"), "{text}");
    assert!(help.get("load_modl").unwrap_err().hint().unwrap().contains("load_model"));
}
