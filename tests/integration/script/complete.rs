//! Completion, inspection, and the state of a session.

use super::session;
use saescope::script::{Completeness, Inspection, Session};

/// A session with a model, an SAE, a cache and a map.
fn with_variables() -> Session {
    let (mut session, _) = session();
    session
        .eval(
            "let model = load_model(\"demo\"); let sae = load_sae(\"demo\"); let settings = #{ cutoff: 0.1, inner: #{ deep: 1, \"a key\": 2 } };
             /// Half of a number.
             fn half_of(x) { x / 2 }
             let cache = model.run_with_cache(\"a boat\", \"blocks.*.hook_resid_pre\"); let numbers = [1, 2]; let more = |x| x + 1;",
        )
        .unwrap();
    session
}

/// The text that the completions at `|` replace, and the completions.
fn completions(session: &Session, script: &str) -> (String, Vec<String>) {
    let cursor = script.find('|').unwrap();
    let script = script.replacen('|', "", 1);
    let found = session.complete(&script, cursor);
    let replaced = script[found.start..found.end].to_owned();
    (replaced, found.completions.into_iter().map(|completion| completion.text).collect())
}

#[test]
fn completions_fit_their_context() {
    let session = with_variables();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("documents")).unwrap();
    std::fs::write(folder.path().join("docs.jsonl"), "").unwrap();
    let path = folder.path().display();
    let cases: [(&str, &str, &[&str]); 31] = [
        ("load_|", "load_", &["load_model", "load_sae", "load_tensors", "load_tree"]),
        ("mod|", "mod", &["model"]),
        ("let x = mod|", "mod", &["model"]),
        ("model.to_s|", "to_s", &["to_str_tokens", "to_string"]),
        ("model.W|", "W", &["W_E", "W_U"]),
        ("model.cfg.n_l|", "n_l", &["n_layers"]),
        ("model.W_E.arg|", "arg", &["argmax"]),
        ("model.W_E[0].arg|", "", &[]),
        ("settings.|", "", &["cutoff", "inner"]),
        ("settings.inner.|", "", &["deep"]),
        ("settings[\"|", "", &["cutoff", "inner"]),
        ("cache[\"blocks.3|", "blocks.3", &["blocks.3.hook_resid_pre"]),
        ("cache[\"blocks.3.hook_resid_pre\"].to_|", "to_", &["to_array", "to_string"]),
        (
            "model.run_with_cache(\"x\", \"blocks.5.hook_resid_p|",
            "blocks.5.hook_resid_p",
            &["blocks.5.hook_resid_post", "blocks.5.hook_resid_pre"],
        ),
        ("definition_tree(model, v, #{ cut|", "cut", &["cutoff: "]),
        ("definition_tree(model, v, #{ cutoff: 1e-3, ma|", "ma", &["max_depth: ", "max_memory: "]),
        ("load_model(\"gpt2-sm|", "gpt2-sm", &["gpt2-small"]),
        (
            "load_sae(\"gpt2-small-res-j|",
            "gpt2-small-res-j",
            &["gpt2-small-res-jb", "gpt2-small-res-jb-feature-splitting"],
        ),
        ("load_sae(\"demo\", \"|", "", &["blocks.0.hook_resid_pre", "blocks.4.hook_resid_pre"]),
        ("feature_acts(model, sae, \"x\").to_t|", "to_t", &["to_tensor"]),
        ("// load_|", "", &[]),
        ("numbers.pu|", "pu", &["push"]),
        ("half_|", "half_", &["half_of"]),
        ("\"a\".to_upp|", "to_upp", &["to_upper"]),
        ("settings.cutoff.sqr|", "sqr", &["sqrt"]),
        ("anon|", "anon", &[]),
        ("bi|", "bi", &["bits"]),
        ("settings.inner[\"|", "", &["a key", "deep"]),
        ("model.run_with_cache(\"x\", \"ln_f|", "ln_f", &["ln_final.hook_normalized", "ln_final.hook_scale"]),
        ("run_with_cache(model, \"x\", [\"unem|", "unem", &["unembed.hook_in", "unembed.hook_out"]),
        ("model.run_with_hooks(\"x\", #{ \"hook_p|", "hook_p", &["hook_pos_embed"]),
    ];
    for (script, replaced, expected) in cases {
        let (found_replaced, found) = completions(&session, script);
        if script.contains("[0].arg") {
            // An element of a tensor may be a tensor or a number: everything is offered.
            assert!(found.contains(&"argmax".to_owned()), "{script}: {found:?}");
            continue;
        }
        if script.ends_with(".|") {
            for text in expected {
                assert!(found.contains(&(*text).to_owned()), "{script}: {found:?}");
            }
            continue;
        }
        assert_eq!(
            (found_replaced.as_str(), found),
            (replaced, expected.iter().map(|s| s.to_string()).collect()),
            "{script}"
        );
    }
    let (replaced, found) = completions(&session, &format!("open_dataset(\"{path}/doc|"));
    assert_eq!((replaced.as_str(), found), ("doc", vec!["docs.jsonl".to_owned(), "documents/".to_owned()]));
}

#[test]
fn inspection_explains_a_name() {
    let session = with_variables();
    let inspect = |script: &str| {
        let cursor = script.find('|').unwrap();
        session.inspect(&script.replacen('|', "", 1), cursor).map(|found| found.to_string())
    };
    assert!(inspect("load_mo|del(\"demo\")").unwrap().contains("Loads a language model"));
    assert!(inspect("definition_tree(model, v, #{ cut|").unwrap().contains("`cutoff`"));
    assert!(inspect("load_model(|)").unwrap().contains("Loads a language model"));
    let outer = inspect("create_feature_dataset(model, load_sae(\"demo\"), #{ |").unwrap();
    assert!(outer.starts_with("create_feature_dataset("), "{outer}");
    let own = inspect("plot_line([1]).save|").unwrap();
    assert!(own.starts_with("save(value: Figure") || own.starts_with("save(figure: Figure"), "{own}");
    assert!(inspect("sae|").unwrap().starts_with("sae: Sae\n\nSAE demo/"));
    assert!(inspect("model.cfg.d_mod|el").unwrap().ends_with("192"));
    assert!(inspect("model.gener|ate(\"a\")").unwrap().contains("max_new_tokens"));
    assert_eq!(inspect("half_of|").unwrap(), "half_of(x)\n\nHalf of a number.");
    assert!(
        matches!(session.about("half_of"), Ok(Inspection::Help(help)) if help.markdown().starts_with("```text\nhalf_of(x)\n```"))
    );
    assert!(matches!(session.about("sae"), Ok(Inspection::Variable(_))));
    assert!(session.about("nonsense").is_err());
    assert_eq!(inspect("nonsense|"), None);
    assert_eq!(inspect("|"), None);
}

#[test]
fn completion_and_inspection_never_panic() {
    let session = with_variables();
    let texts = [
        "model.cfg[\"d_model\"].x(1)[2]..y #{ a: \"b ${c} d\" `e ${f(\"g\")} h`",
        "\"é🙂\" . ü }}}))]] ((( \u{0} ``` '''\\",
        "a.b.c.d.e[f[g[h(i(j.k.",
        "#{ #{ f( #{ , , \"x\": ",
    ];
    for text in texts {
        for cursor in 0..=text.len() + 2 {
            let found = session.complete(text, cursor);
            assert!(found.start <= found.end && text.get(found.start..found.end).is_some());
            session.inspect(text, cursor);
        }
        session.pieces(text);
        session.completeness(text);
    }
}

#[test]
fn a_session_keeps_its_state_until_a_reset() {
    let folder = tempfile::tempdir().unwrap();
    let module = folder.path().join("helper");
    std::fs::write(module.with_extension("rhai"), "fn twice(x) { 2 * x } export const SIZE = 5;").unwrap();
    let (mut session, _) = session();
    session.eval(&format!("import \"{}\" as helper; fn thrice(x) {{ 3 * x }}", module.display())).unwrap();
    for _ in 0..3 {
        assert_eq!(session.eval("helper::twice(helper::SIZE) + thrice(1)").unwrap().unwrap().text, "13");
    }
    session.eval("let x = 1; let x = \"two\"; let y = [1, 2];").unwrap();
    let variables = session.variables();
    let shown: Vec<_> =
        variables.iter().map(|v| format!("{}: {} = {}", v.name, v.type_name, v.text)).collect();
    assert_eq!(shown, ["x: String = two", "y: Array = [1, 2]"]);
    assert_eq!(session.completeness("fn f() {"), Completeness::Incomplete { depth: 1 });
    session.reset();
    assert!(session.variables().is_empty());
    assert!(session.eval("thrice(1)").is_err() && session.eval("helper::twice(1)").is_err());
    // A redefined variable replaces the old one.
    for _ in 0..50 {
        session.eval("let big = load_model(\"demo\"); let big = 1; big").unwrap();
    }
    assert!(format!("{session:?}").contains("variables: 1"), "{session:?}");
    // A failure changes nothing, and only the file itself sees its arguments.
    session.eval("const kept = 1; let list = [1];").unwrap();
    assert!(session.eval("list.push(2); let big = 2; fn f() {} nonsense()").is_err());
    assert_eq!(session.eval("`${big} ${list} ${kept}`").unwrap().unwrap().text, "1 [1] 1");
    assert!(session.eval("f()").is_err());
    let file = folder.path().join("file.rhai");
    std::fs::write(&file, "let given = ARGS[0]; given").unwrap();
    assert_eq!(session.run_file(&file, &["x".to_owned()]).unwrap().unwrap().text, "x");
    assert!(session.eval("ARGS").is_err());
    assert_eq!(session.eval("given").unwrap().unwrap().text, "x");
    let script =
        "let a = 1;\n/// Says `fn g() {}`.\nprivate fn f(x, y) { #{ a: \"}\" } } fn int.g() {} f(1, 2)";
    let functions = session.functions(script);
    let found: Vec<_> = functions.iter().map(|(name, at)| (name.as_str(), &script[at.clone()])).collect();
    let f = "/// Says `fn g() {}`.\nprivate fn f(x, y) { #{ a: \"}\" } }";
    assert_eq!(found, [("f/2", f), ("int.g/0", "fn int.g() {}")]);
    for broken in ["fn", "fn f", "fn f(", "fn f() {", "fn f)("] {
        assert_eq!(session.functions(broken), [], "{broken}");
    }
    // An error shows the name of its cell.
    let error = session.eval_named("cell 3", 1, "1;\nnonsense()").unwrap_err();
    assert!(error.excerpt().unwrap().starts_with(" --> cell 3:2:1"), "{:?}", error.excerpt());
}
