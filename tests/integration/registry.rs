//! Published SAEs: the embedded registry, registries from files, and searching them.

use crate::util::tests_path;
use saescope::registry::{Registry, SaeFilter};
use saescope::script::Session;
use saescope::{Progress, list_releases, list_saes};
use std::collections::BTreeMap;

fn filter(release: &str) -> SaeFilter {
    SaeFilter { release: Some(release.to_owned()), ..SaeFilter::default() }
}

#[test]
fn the_embedded_registry_is_complete() {
    let registry = Registry::embedded();
    let mut counts = BTreeMap::<_, usize>::new();
    for release in registry.releases() {
        *counts.entry(release.conversion_func.as_deref().unwrap_or("native")).or_default() +=
            release.saes.len();
    }
    let expected = [
        ("connor_rob_hook_z", 12),
        ("deepseek_r1", 1),
        ("dictionary_learning_1", 838),
        ("gemma_2", 2833),
        ("gemma_2_transcoder", 26),
        ("gemma_3", 8784),
        ("goodfire", 2),
        ("llama_scope", 192),
        ("llama_scope_r1_distill", 96),
        ("mntss_clt_layer_transcoder", 26),
        ("mwhanna_transcoder", 208),
        ("native", 292),
        ("qwen_scope", 544),
        ("temporal", 3),
    ];
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), expected);
    assert_eq!(registry.releases().len(), 170);
}

#[test]
fn a_release_and_an_id_find_one_sae() {
    let registry = Registry::embedded();
    let (release, sae) = registry.find("gpt2-small-res-jb", Some("blocks.2.hook_resid_pre")).unwrap();
    assert_eq!(
        (release.repo_id.as_str(), release.model.as_str()),
        ("jbloom/GPT2-Small-SAEs-Reformatted", "gpt2-small")
    );
    assert_eq!(release.conversion_func, None);
    assert_eq!(
        serde_json::Value::from(release.config_overrides.clone()),
        serde_json::json!({ "model_from_pretrained_kwargs": { "center_writing_weights": true } })
    );
    assert_eq!(
        (sae.path.as_str(), sae.l0, sae.variance_explained),
        ("blocks.2.hook_resid_pre", Some(18.0), Some(0.999))
    );
    assert_eq!(sae.neuronpedia.as_deref(), Some("gpt2-small/2-res-jb"));

    let (release, sae) = registry.find("GEMMA-2b-res-jb", Some("BLOCKS.12.hook_resid_post")).unwrap();
    assert_eq!(sae.path, "gemma_2b_blocks.12.hook_resid_post_16384");
    assert!((sae.norm_scaling_factor.unwrap() - 0.213_819_383_993_172_55).abs() < 1e-15);
    assert_eq!(release.saes.iter().filter(|sae| sae.norm_scaling_factor.is_some()).count(), 1);

    let (_, only) = registry.find("gemma-2b-it-res-jb", None).unwrap();
    assert_eq!(only.id, "blocks.12.hook_resid_post");
    // A folder whose name is a number in YAML.
    assert_eq!(registry.find("mntss-gemma-2-2b-2.5m-clt-as-per-layer", Some("layer_3")).unwrap().1.path, "3");

    let kwargs = |release: &saescope::registry::Release| {
        release.config_overrides.get("model_from_pretrained_kwargs").cloned()
    };
    let centered: Vec<_> =
        registry.releases().iter().filter(|r| kwargs(r).is_some()).map(|r| &r.name).collect();
    assert_eq!(centered, ["gpt2-small-mlp-tm", "gpt2-small-res-jb", "gpt2-small-res-jb-feature-splitting"]);
    let factors =
        registry.releases().iter().flat_map(|r| &r.saes).filter(|sae| sae.norm_scaling_factor.is_some());
    assert_eq!(factors.count(), 304);
}

#[test]
fn a_release_nested_in_itself_lists_each_sae_once() {
    let release = Registry::embedded().release("gpt2-small-res_scefr-ajt").unwrap();
    let ids: Vec<_> = release.saes.iter().map(|sae| (sae.id.as_str(), sae.path.as_str())).collect();
    let expected = [
        ("blocks.2.hook_resid_pre", "2-res_scefr-ajt"),
        ("blocks.6.hook_resid_pre", "6-res_scefr-ajt"),
        ("blocks.10.hook_resid_pre", "10-res_scefr-ajt"),
    ];
    assert_eq!(ids, expected);
}

#[test]
fn unknown_names_suggest_the_nearest() {
    let registry = Registry::embedded();
    let failure = |release: &str, id: Option<&str>| {
        let error = registry.find(release, id).unwrap_err();
        format!("{error}\n{}", error.hint().unwrap_or_default())
    };
    insta::assert_snapshot!(failure("gpt2-smal-res-jb", None), @r#"
    unknown release `gpt2-smal-res-jb`
    did you mean `gpt2-small-res-jb`? known releases: `gpt2-small-res-jb`, `gpt2-small-mlp-tm`, `gpt2-small-res_sce-ajt`, `gpt2-small-res_scl-ajt`, `gpt2-small-res_sle-ajt`
    "#);
    insta::assert_snapshot!(failure("gpt2-small-res-jb", Some("blocks.8.hook_resid_post")), @r#"
    release `gpt2-small-res-jb` has no SAE `blocks.8.hook_resid_post`
    did you mean `blocks.11.hook_resid_post`? it has 13: `blocks.0.hook_resid_pre`, `blocks.1.hook_resid_pre`, `blocks.2.hook_resid_pre`, `blocks.3.hook_resid_pre`, `blocks.4.hook_resid_pre`, …; `saescope saes --release gpt2-small-res-jb` lists them
    "#);
    insta::assert_snapshot!(failure("gpt2-small-res-jb", None), @r#"
    release `gpt2-small-res-jb`: expected the id of one of its SAEs, got none
    it has 13: `blocks.0.hook_resid_pre`, `blocks.1.hook_resid_pre`, `blocks.2.hook_resid_pre`, `blocks.3.hook_resid_pre`, `blocks.4.hook_resid_pre`, …; `saescope saes --release gpt2-small-res-jb` lists them
    "#);
    insta::assert_snapshot!(failure("gpt2-small-res_sll-ajt", None), @r#"
    release `gpt2-small-res_sll-ajt`: expected the id of one of its SAEs, got none
    it has 3: `blocks.2.hook_resid_pre`, `blocks.6.hook_resid_pre`, `blocks.10.hook_resid_pre`
    "#);
    let error =
        list_saes(&SaeFilter { model: Some("gpt2-smal".into()), ..SaeFilter::default() }).unwrap_err();
    insta::assert_snapshot!(format!("{error}\n{}", error.hint().unwrap_or_default()), @r#"
    unknown model `gpt2-smal` in the list of published SAEs
    did you mean `gpt2-small`?
    "#);
    assert!(list_saes(&filter("gpt3")).is_err());
}

#[test]
fn hook_and_width_come_from_the_names_of_an_sae() {
    for (release, id, hook, width) in [
        ("gpt2-small-res-jb", "blocks.11.hook_resid_post", "blocks.11.hook_resid_post", None),
        (
            "gpt2-small-res-jb-feature-splitting",
            "blocks.8.hook_resid_pre_768",
            "blocks.8.hook_resid_pre",
            Some(768),
        ),
        ("gpt2-small-mlp-tm", "blocks.0.hook_mlp_out", "blocks.0.hook_mlp_out", Some(24576)),
        ("gpt2-small-resid-mid-v5-32k", "blocks.3.hook_resid_mid", "blocks.3.hook_resid_mid", Some(32768)),
        ("gpt2-small-hook-z-kk", "blocks.0.hook_z", "blocks.0.attn.hook_z", Some(24576)),
        ("gemma-2b-res-jb", "blocks.6.hook_resid_post", "blocks.6.hook_resid_post", Some(16384)),
        ("gemma-2-2b-res-matryoshka-dc", "blocks.3.hook_resid_post", "blocks.3.hook_resid_post", Some(32768)),
        ("pythia-70m-deduped-att-sm", "blocks.1.hook_attn_out", "blocks.1.hook_attn_out", None),
        ("mistral-7b-res-wg", "blocks.8.hook_resid_pre", "blocks.8.hook_resid_pre", None),
        (
            "gemma-scope-2b-pt-res",
            "layer_5/width_1m/average_l0_114",
            "blocks.5.hook_resid_post",
            Some(1 << 20),
        ),
        ("gemma-scope-2b-pt-res", "embedding/width_4k/average_l0_6", "hook_embed", Some(4096)),
        (
            "gemma-scope-2b-pt-att-canonical",
            "layer_0/width_16k/canonical",
            "blocks.0.attn.hook_z",
            Some(16384),
        ),
        ("gemma-scope-9b-pt-mlp", "layer_0/width_16k/average_l0_50", "blocks.0.hook_mlp_out", Some(16384)),
        (
            "gemma-scope-2b-pt-transcoders",
            "layer_25/width_16k/average_l0_41",
            "blocks.25.ln2.hook_normalized",
            Some(16384),
        ),
        ("gemma-scope-2-4b-pt-res", "layer_17_width_65k_l0_small", "blocks.17.hook_resid_post", Some(65536)),
        ("gemma-scope-2-4b-pt-att-all", "layer_9_width_16k_l0_big", "blocks.9.attn.hook_z", Some(16384)),
        ("gemma-scope-2-1b-pt-mlp", "layer_13_width_1m_l0_big", "blocks.13.hook_mlp_out", Some(1 << 20)),
        (
            "gemma-scope-2-4b-pt-transcoders-all",
            "layer_10_width_262k_l0_big_affine",
            "blocks.10.mlp.hook_in",
            Some(262_144),
        ),
        (
            "gemma-scope-2-4b-it-transcoders",
            "transcoder/layer_17_width_16k_l0_big",
            "blocks.17.mlp.hook_in",
            Some(16384),
        ),
        ("llama_scope_lxr_8x", "l5r_8x", "blocks.5.hook_resid_post", Some(32768)),
        ("llama_scope_lxa_32x", "l31a_32x", "blocks.31.hook_attn_out", Some(131_072)),
        ("llama_scope_lxm_32x", "l0m_32x", "blocks.0.hook_mlp_out", Some(131_072)),
        ("llama_scope_r1_distill", "l3r_800m_slimpajama", "blocks.3.hook_resid_post", Some(32768)),
        (
            "sae_bench_gemma-2-2b_topk_width-2pow14_date-1109",
            "blocks.5.hook_resid_post__trainer_5_step_46322",
            "blocks.5.hook_resid_post",
            Some(16384),
        ),
        (
            "sae_bench_pythia70m_sweep_gated_ctx128_0730",
            "blocks.3.hook_resid_post__trainer_0",
            "blocks.3.hook_resid_post",
            Some(4096),
        ),
        ("gpt-oss-20b-andyrdt", "resid_post_layer_23_trainer_0", "blocks.23.hook_resid_post", None),
        ("mwhanna-qwen3-4b-transcoders", "layer_35", "blocks.35.mlp.hook_in", None),
        ("mntss-gemma-2-2b-2.5m-clt-as-per-layer", "layer_25", "blocks.25.hook_resid_mid", None),
        ("goodfire-llama-3.3-70b-instruct", "layer_50", "blocks.50.hook_resid_post", None),
        (
            "deepseek-r1-distill-llama-8b-qresearch",
            "blocks.19.hook_resid_post",
            "blocks.19.hook_resid_post",
            Some(65536),
        ),
        ("temporal-sae-gemma-2-2b", "blocks.12.hook_resid_post", "blocks.12.hook_resid_post", None),
        ("qwen-scope-3.5-27b-w80k-l50", "layer63", "blocks.63.hook_resid_post", Some(81920)),
    ] {
        let saes = list_saes(&filter(release)).unwrap().saes;
        let sae = saes.iter().find(|sae| sae.sae_id == id).unwrap_or_else(|| panic!("{release} {id}"));
        assert_eq!((sae.hook.as_deref(), sae.width), (Some(hook), width), "{release} {id}");
    }
    let saes = list_saes(&SaeFilter::default()).unwrap().saes;
    assert_eq!(saes.len(), 13857);
    // Every SAE has a hook. A width is missing only if it is part of no name.
    assert_eq!(
        saes.iter().filter(|sae| sae.hook.is_none()).map(|sae| &sae.sae_id).collect::<Vec<_>>(),
        [""; 0]
    );
    assert_eq!(saes.iter().filter(|sae| sae.width.is_none()).count(), 313);
}

#[test]
fn a_filter_accepts_any_name_of_a_model_and_matches_all_words() {
    let releases = |model: &str| {
        let filter = SaeFilter { model: Some(model.to_owned()), ..SaeFilter::default() };
        list_releases(&filter).unwrap().releases
    };
    assert_eq!(releases("gpt2").len(), 18);
    for name in ["gpt2-small", "GPT2", "openai-community/gpt2"] {
        assert_eq!(releases(name), releases("gpt2"));
    }
    assert_eq!(releases("google/gemma-2-2b").len(), 20);
    assert_eq!(releases("gemma-2-2b"), releases("google/gemma-2-2b"));
    let filter = SaeFilter {
        model: Some("gpt2".into()),
        search: Some("RES-JB  8.hook".into()),
        limit: Some(3),
        ..SaeFilter::default()
    };
    let ids: Vec<_> = list_saes(&filter).unwrap().saes.into_iter().map(|sae| sae.sae_id).collect();
    assert_eq!(
        ids,
        ["blocks.8.hook_resid_pre", "blocks.8.hook_resid_pre_768", "blocks.8.hook_resid_pre_1536"]
    );
}

#[test]
fn lists_fit_a_terminal() {
    let lists = [
        list_releases(&SaeFilter::default()).unwrap().to_string(),
        list_saes(&SaeFilter { limit: Some(900), search: Some("blocks".into()), ..SaeFilter::default() })
            .unwrap()
            .to_string(),
    ];
    for line in lists.iter().flat_map(|list| list.lines()) {
        assert!(line.chars().count() <= 110, "{line}");
    }
    insta::assert_snapshot!(list_saes(&filter("gemma-2b-res-jb")).unwrap(), @r#"
    gemma-2b-res-jb, 5 SAEs on gemma-2b
      sae_id                     hook                       width  l0
      blocks.0.hook_resid_post   blocks.0.hook_resid_post   16384  47
      blocks.6.hook_resid_post   blocks.6.hook_resid_post   16384  56
      blocks.10.hook_resid_post  blocks.10.hook_resid_post  16384  62
      blocks.12.hook_resid_post  blocks.12.hook_resid_post  16384  62
      blocks.17.hook_resid_post  blocks.17.hook_resid_post  16384  54
    "#);
    let filter = SaeFilter { model: Some("pythia-70m-deduped".into()), ..SaeFilter::default() };
    insta::assert_snapshot!(list_releases(&filter).unwrap(), @r#"
    pythia-70m-deduped
      pythia-70m-deduped-att-sm                        6 SAEs  hook_attn_out                   0-5
      pythia-70m-deduped-mlp-sm                        6 SAEs  hook_mlp_out                    0-5
      pythia-70m-deduped-res-sm                        7 SAEs  hook_resid_post hook_resid_pre  0-5
      sae_bench_pythia70m_sweep_gated_ctx128_0730     40 SAEs  hook_resid_post                 3-4  4k-16k
      sae_bench_pythia70m_sweep_panneal_ctx128_0730   56 SAEs  hook_resid_post                 3-4  4k-16k
      sae_bench_pythia70m_sweep_standard_ctx128_0712  44 SAEs  hook_resid_post                 3-4  4k-16k
      sae_bench_pythia70m_sweep_topk_ctx128_0730      48 SAEs  hook_resid_post                 3-4  4k-16k
    "#);
    let all = list_saes(&SaeFilter::default()).unwrap().to_string();
    assert!(all.contains("… 12857 more"), "{}", all.lines().count());
}

#[test]
fn a_newer_registry_is_read_from_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let yaml = write(
        "new.yaml",
        "\
new-release:
  repo_id: someone/saes
  model: gpt2-small
  conversion_func: null
  links: {model: https://example.org}
  licence: something new
  saes:
  - {id: blocks.3.hook_mlp_out, path: 3, l0: 12, quality: high}
  - id: blocks.4.hook_mlp_out
    path: four
    model: gpt2-small
    saes:
    - {id: blocks.4.hook_mlp_out, path: other}
    - {id: blocks.5.hook_mlp_out}
",
    );
    let registry = Registry::open(&yaml).unwrap();
    let (release, sae) = registry.find("new-release", Some("blocks.3.hook_mlp_out")).unwrap();
    assert_eq!((release.repo_id.as_str(), sae.path.as_str(), sae.l0), ("someone/saes", "3", Some(12.0)));
    let paths: Vec<_> = release.saes.iter().map(|sae| sae.path.as_str()).collect();
    assert_eq!(paths, ["3", "four", "blocks.5.hook_mlp_out"]);
    assert!(registry.release("gpt2-small-res-jb").is_none());

    let json =
        write("new.json", r#"{"a": {"repo_id": "b/c", "model": "m", "saes": [{"id": "i", "path": "p"}]}}"#);
    assert_eq!(Registry::open(&json).unwrap().find("a", None).unwrap().1.path, "p");
    let embedded = tests_path("../assets/registry/pretrained_saes.json.gz");
    assert_eq!(Registry::open(&embedded).unwrap(), *Registry::embedded());

    for (name, text, expected) in [
        ("list.yaml", "- a\n- b\n", "list.yaml"),
        ("key.yaml", "a:\n  model: m\n  saes: []\n", "repo_id"),
        ("broken.yaml", "a:\n  saes: [\n", "broken.yaml"),
        ("broken.json", "{", "broken.json"),
    ] {
        let error = Registry::open(&write(name, text)).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(error.hint().unwrap().contains("pretrained_saes.yaml"));
    }
    assert!(Registry::open(&folder.path().join("none.yaml")).is_err());
    assert!(Registry::open(folder.path()).is_err());

    let list = SaeFilter { registry: Some(yaml.to_string_lossy().into_owned()), ..SaeFilter::default() };
    assert_eq!(list_saes(&list).unwrap().saes.len(), 3);
}

#[test]
fn scripts_list_and_iterate_over_saes() {
    let mut session = Session::new(Progress::default(), |_| ());
    let mut eval =
        |script: &str| session.eval(script).unwrap_or_else(|e| panic!("{e}")).unwrap_or_default().text;
    assert_eq!(
        eval("let saes = list_saes(#{ model: \"gpt2\", release: \"gpt2-small-res-jb\" }); saes.len()"),
        "13"
    );
    assert_eq!(
        eval("let hooks = []; for sae in saes { hooks.push(sae.hook); } hooks[10]"),
        "blocks.10.hook_resid_pre"
    );
    assert_eq!(
        eval("saes[8]"),
        "#{ hook: \"blocks.8.hook_resid_pre\", l0: 60.0, model: \"gpt2-small\", neuronpedia: \"gpt2-small/8-res-jb\", \
         release: \"gpt2-small-res-jb\", repo_id: \"jbloom/GPT2-Small-SAEs-Reformatted\", \
         sae_id: \"blocks.8.hook_resid_pre\", width: () }"
    );
    assert!(
        eval("print(saes); `${saes}`").starts_with("gpt2-small-res-jb, 13 SAEs on gpt2-small\n  sae_id ")
    );
    for (script, expected) in [
        ("saes[13]", "expected 0 to 12"),
        ("saes[-1]", "expected 0 to 12"),
        ("list_saes(#{ modell: \"gpt2\" })", "unknown option `modell`"),
        ("list_saes(#{ release: \"gpt2-small-res\" })", "unknown release"),
    ] {
        let error = session.eval(script).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn the_command_line_lists_releases_and_saes() {
    let saescope = |arguments: &[&str]| {
        let output =
            std::process::Command::new(env!("CARGO_BIN_EXE_saescope")).arg("saes").args(arguments).output();
        let output = output.unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (text(output.stdout), text(output.stderr), output.status.code())
    };
    let (stdout, _, code) = saescope(&["--model", "google/gemma-2b"]);
    insta::assert_snapshot!(stdout, @r#"
    gemma-2b
      gemma-2b-res-jb  5 SAEs  hook_resid_post  0,6,10,12,17  16k
    "#);
    assert_eq!(code, Some(0));
    let (stdout, ..) = saescope(&["--search", "gpt2 res-jb blocks.11"]);
    insta::assert_snapshot!(stdout, @r#"
    gpt2-small-res-jb, 2 SAEs on gpt2-small
      sae_id                     hook                       width  l0
      blocks.11.hook_resid_post  blocks.11.hook_resid_post         70
      blocks.11.hook_resid_pre   blocks.11.hook_resid_pre          56
    "#);
    let json: serde_json::Value =
        serde_json::from_str(&saescope(&["--release", "gemma-2b-res-jb", "--json"]).0).unwrap();
    assert_eq!(json[3]["sae_id"], "blocks.12.hook_resid_post");
    let json: serde_json::Value =
        serde_json::from_str(&saescope(&["--model", "gemma-2b", "--json"]).0).unwrap();
    assert_eq!(json[0]["saes"], 5);
    let (stdout, stderr, code) = saescope(&["--release", "gemma-2b-res-bj"]);
    assert_eq!((stdout.as_str(), code), ("", Some(1)));
    assert!(stderr.contains("did you mean `gemma-2b-res-jb`?"), "{stderr}");
    assert_eq!(saescope(&["--search", "no such thing"]).0, "no SAEs\n");
}
