//! Errors of scripts: their form, hints and locations.

use super::{BOTH, MODEL, check, failure, session};
use crate::util::fixture;

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
    let import = format!("import {:?} as m;", path.to_str().unwrap());
    std::fs::write(folder.path().join("inner.rhai"), "\n\nfoo(3);").unwrap();
    std::fs::write(path.with_extension("rhai"), "import \"inner\" as inner;").unwrap();
    let error = failure(&import);
    assert!(error.contains("unknown function `foo`, in line 3 of the module `inner`"), "{error}");
    std::fs::write(path.with_extension("rhai"), "throw #{ message: `m`, code: 5 };").unwrap();
    check(&format!("let c = 0; try {{ {import} }} catch (e) {{ c = e.code; }} c"), "5");
    std::fs::write(path.with_extension("rhai"), "load_sae(`gpt2-small-res-jbb`);").unwrap();
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

#[test]
fn an_error_keeps_its_kind_in_a_script() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("module");
    std::fs::write(path.with_extension("rhai"), "load_model(\"./nowhere\");").unwrap();
    let import = format!("import {:?} as m;", path.to_str().unwrap());
    let column = format!("open_dataset({:?}, #{{ text_column: \"x\" }})", fixture("datasets/plain"));
    let (not_found, invalid, other) = ([true, false, false], [false, false, true], [false; 3]);
    for (script, expected) in [
        ("load_model(\"./nowhere\")", not_found),
        ("fn f() { load_model(\"./nowhere\") } f()", not_found),
        ("try { load_model(\"./nowhere\") } catch (e) { throw e }", not_found),
        (&import, not_found),
        (&format!("for text in {column} {{}}"), not_found),
        ("load_model(\"demo\", #{ no_option: 1 })", invalid),
        ("zeros([2, 3]).topk(1)", invalid),
        ("try { load_model(\"./nowhere\") } catch (e) { throw e.message }", other),
        ("throw #{ message: \"no\" }", other),
        ("load_modle(\"demo\")", other),
    ] {
        let error = session().0.eval(script).unwrap_err();
        let is = [error.is_not_found(), error.is_offline(), error.is_invalid_option()];
        assert_eq!(is, expected, "{script}: {error}");
    }
}
