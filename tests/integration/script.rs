//! Scripts: every function, the form of errors, and sessions that survive them.

mod complete;
mod errors;
mod interpret;
mod plot;

use saescope::script::Session;
use saescope::{Error, Progress};
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
fn a_slice_of_an_activation_may_be_empty() {
    // Values are a part of the rows of queries, keys and values; of one token, all after the first are none.
    check(
        &format!(
            "{MODEL} let h = #{{ \"blocks.0.attn.hook_v\": |v| cat([v[0..1] * 0.0, v[1..v.len()]], 0) }};
             [model.run_with_hooks([13], h).shape[0], model.generate(\"a dog\", #{{ max_new_tokens: 3, hooks: h }}).len() > 0]"
        ),
        "[1, true]",
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
        "let x = arange(6).reshape([3, 2]); [cat([x[3..3], x[3..], x[2..1], x[0..1]], 0).shape, (x[3..] + 1).shape]",
        "[[1, 2], [0, 2]]",
    );
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
