//! Models, SAEs and datasets by name, end to end: from a local hub server, then from the cache.

use crate::hub::server::Hub;
use crate::util::{expected, fixture, tests_path};
use candle_core::{DType, Tensor};
use saescope::hub::RepoKind;
use std::collections::HashMap;
use std::path::Path;
use std::process::{Command, Output};

/// The names that users of TransformerLens and SAELens type.
const SCRIPT: &str = r#"
    let model = load_model("GPT2-small");
    let sae = load_sae("gpt2-small-res-jb", "blocks.1.hook_resid_pre");
    let dataset = open_dataset("NeelNanda/pile-10k", #{ split: "train" });
    print(sae);
    print(create_feature_dataset(model, sae, dataset, #{ output_path: "out.jsonl", max_examples: 20 }));
"#;

/// A hub with small stand-ins for well-known repositories.
fn hub() -> Hub {
    let hub = Hub::start();
    let model = fixture("models/gpt2_text");
    hub.serve_folder(RepoKind::Model, "gpt2", Path::new(&model));
    let weights = std::fs::read(fixture("models/gpt2_text/sae/sae_weights.safetensors")).unwrap();
    // As published: the first generation of cfg.json, which does not say that the residual stream is centered.
    let cfg = serde_json::json!({
        "hook_point": "blocks.1.hook_resid_pre", "hook_point_layer": 1, "d_in": 32, "d_sae": 64,
        "dtype": "torch.float32", "prepend_bos": true, "context_size": 32, "dataset_path": "Skylion007/openwebtext",
        "model_name": "gpt2-small",
    });
    let cfg = cfg.to_string();
    let files: [(&str, &[u8]); 2] = [
        ("blocks.1.hook_resid_pre/cfg.json", cfg.as_bytes()),
        ("blocks.1.hook_resid_pre/sae_weights.safetensors", &weights),
    ];
    hub.serve(RepoKind::Model, "jbloom/GPT2-Small-SAEs-Reformatted", &files);
    let pile = tests_path("fixtures/datasets/hub/pile-10k-like");
    hub.serve_folder(RepoKind::Dataset, "NeelNanda/pile-10k", &pile);
    hub
}

/// Runs the program with a cache below a folder, and with only these of the hub's environment variables.
fn run(folder: &Path, variables: &[(&str, &str)], arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_saescope"));
    for name in ["HF_HUB_CACHE", "HF_TOKEN", "HF_TOKEN_PATH", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"] {
        command.env_remove(name);
    }
    command.env("HF_HOME", folder.join("hf")).envs(variables.iter().copied());
    command.args(arguments).current_dir(folder).output().unwrap()
}

/// The standard output of a run that must succeed.
#[track_caller]
fn succeed(folder: &Path, variables: &[(&str, &str)], script: &str) -> String {
    let output = run(folder, variables, &["eval", script]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The standard error of a run that must fail.
#[track_caller]
fn fail(folder: &Path, variables: &[(&str, &str)], script: &str) -> String {
    let output = run(folder, variables, &["eval", script]);
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn names_load_online_and_again_offline() {
    let (hub, folder) = (hub(), tempfile::tempdir().unwrap());
    let out = |name: &str| folder.path().join(name);
    let endpoint = hub.endpoint();
    let online = succeed(folder.path(), &[("HF_ENDPOINT", &endpoint)], SCRIPT);
    for part in ["centered", "published L0 10", "revision", "documents      20"] {
        assert!(online.contains(part), "no {part:?} in {online}");
    }
    let records = std::fs::read(out("out.jsonl")).unwrap();
    let meta: serde_json::Value =
        serde_json::from_slice(&std::fs::read(out("out.jsonl.meta.json")).unwrap()).unwrap();
    for part in ["model", "sae", "dataset"] {
        let revision = meta[part]["revision"].as_str().unwrap_or_default();
        assert_eq!(revision.len(), 40, "{part} has the revision {revision:?}");
    }
    assert_eq!(meta["sae"]["cfg"]["sae_id"], "gpt2-small-res-jb/blocks.1.hook_resid_pre");
    assert_eq!(meta["check"]["published_l0"], 10.0, "{}", meta["check"]);

    // The settings of the release also apply to its repository and path.
    let by_path = r#"load_sae("jbloom/GPT2-Small-SAEs-Reformatted", "blocks.1.hook_resid_pre/").cfg.center_writing_weights"#;
    assert_eq!(succeed(folder.path(), &[("HF_ENDPOINT", &endpoint)], by_path), "true\n");

    // The same again, from the cache only.
    let asked = hub.requests().len();
    std::fs::remove_file(out("out.jsonl")).unwrap();
    let variables = [("HF_ENDPOINT", endpoint.as_str()), ("HF_HUB_OFFLINE", "1")];
    succeed(folder.path(), &variables, SCRIPT);
    assert_eq!(hub.requests().len(), asked, "there was a request, though offline");
    assert_eq!(std::fs::read(out("out.jsonl")).unwrap(), records);

    // Local copies give the same records.
    let local = format!(
        r#"
        let sae = load_sae("hf/hub/models--jbloom--GPT2-Small-SAEs-Reformatted/snapshots/{}/blocks.1.hook_resid_pre",
                           #{{ center_writing_weights: true }});
        create_feature_dataset(load_model({:?}), sae, #{{
            dataset_path: {:?}, split: "train", output_path: "local.jsonl", max_examples: 20,
        }});
        "#,
        meta["sae"]["revision"].as_str().unwrap(),
        fixture("models/gpt2_text"),
        fixture("datasets/hub/pile-10k-like"),
    );
    succeed(folder.path(), &[], &local);
    assert_eq!(std::fs::read(out("local.jsonl")).unwrap(), records);
}

#[test]
fn the_command_line_takes_names_too() {
    let (hub, folder) = (hub(), tempfile::tempdir().unwrap());
    let endpoint = hub.endpoint();
    let line = "extract --model gpt2-small --sae gpt2-small-res-jb --sae-id blocks.1.hook_resid_pre \
                --dataset NeelNanda/pile-10k --output out.jsonl --max-examples 3";
    let arguments: Vec<_> = line.split(' ').collect();
    let output = run(folder.path(), &[("HF_ENDPOINT", &endpoint)], &arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // Random weights explain nothing, which is a warning.
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("explains the activations at") && stderr.contains("likely cause"), "{stderr}");
}

/// A registry file of the user, with a wrong L0.
#[test]
fn a_custom_registry_is_used() {
    let (hub, folder) = (hub(), tempfile::tempdir().unwrap());
    let list = "mine:\n  repo_id: jbloom/GPT2-Small-SAEs-Reformatted\n  model: gpt2-small\n  conversion_func: null\n  \
                saes:\n  - {id: one, path: blocks.1.hook_resid_pre, l0: 2.0, neuronpedia: gpt2-small/1-mine}\n";
    std::fs::write(folder.path().join("list.yaml"), list).unwrap();
    let endpoint = hub.endpoint();
    let script = r#"
        let sae = load_sae("mine", #{ registry: "list.yaml", center_writing_weights: true });
        let check = check_sae(load_model("gpt2-small"), sae, "NeelNanda/pile-10k", #{ max_tokens: 300 });
        print([sae.cfg.sae_id, sae.cfg.neuronpedia_id, check.published_l0, check.tokens >= 300, check.l0 > 6.0]);
        print(check);
    "#;
    let output = succeed(folder.path(), &[("HF_ENDPOINT", &endpoint)], script);
    assert!(output.starts_with(r#"["mine/one", "gpt2-small/1-mine", 2.0, true, true]"#), "{output}");
    for part in
        ["(published 2.0)", "explained variance", "active features per token here, its authors measured 2.0"]
    {
        assert!(output.contains(part), "no {part:?} in {output}");
    }
}

/// A sharded bf16 model by its alias, at a tag and at a commit.
#[test]
fn sharded_models_load_at_a_revision() {
    let (hub, folder, model) = (Hub::start(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut weight_map = serde_json::Map::new();
    for (shard, file) in
        ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"].iter().enumerate()
    {
        let part: HashMap<String, Tensor> = expected("models/gemma_text/model.safetensors")
            .into_iter()
            .filter(|(name, _)| name.len() % 2 == shard)
            .map(|(name, tensor)| (name, tensor.to_dtype(DType::BF16).unwrap()))
            .collect();
        part.keys().for_each(|name| drop(weight_map.insert(name.clone(), (*file).into())));
        candle_core::safetensors::save(&part, model.path().join(file)).unwrap();
    }
    let index = serde_json::json!({ "metadata": { "total_size": 1 }, "weight_map": weight_map });
    std::fs::write(model.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
    for file in ["tokenizer.json", "tokenizer_config.json", "config.json"] {
        std::fs::copy(fixture(&format!("models/gemma_text/{file}")), model.path().join(file)).unwrap();
    }
    let first = hub.serve_folder(RepoKind::Model, "google/gemma-2b", model.path());
    hub.tag(RepoKind::Model, "google/gemma-2b", &first, "v1");
    hub.serve(RepoKind::Model, "google/gemma-2b", &[("config.json", b"{}")]);
    let endpoint = hub.endpoint();
    let script = |revision: &str| {
        format!(
            "let m = load_model(\"gemma-2b\", #{{ revision: \"{revision}\" }}); print(m.logits(\"a b\").shape)"
        )
    };
    let by_tag = succeed(folder.path(), &[("HF_ENDPOINT", &endpoint)], &script("v1"));
    let asked = hub.count("resolve");
    let by_commit = succeed(folder.path(), &[("HF_ENDPOINT", &endpoint)], &script(&first));
    assert_eq!(by_tag, by_commit);
    assert_eq!(hub.count("resolve"), asked, "cached files are requested again");
    let error = fail(folder.path(), &[("HF_ENDPOINT", &endpoint)], &script("main"));
    assert!(error.contains("model_type"), "{error}");
}

#[test]
fn unknown_names_suggest_what_exists() {
    let (hub, folder) = (hub(), tempfile::tempdir().unwrap());
    let endpoint = hub.endpoint();
    let there = [("HF_ENDPOINT", endpoint.as_str())];
    let offline = [("HF_ENDPOINT", endpoint.as_str()), ("HF_HUB_OFFLINE", "1")];
    for (variables, script, parts) in [
        (
            &there[..],
            r#"load_model("gtp2-small")"#,
            &["unknown model `gtp2-small`", "did you mean `gpt2-small`"][..],
        ),
        (&there, r#"load_model("nobody/nothing")"#, &["nobody/nothing", "there is no such repository"]),
        (&there, r#"load_model("gpt2", #{ revision: "v9" })"#, &["`v9`"]),
        (&there, r#"load_model("demo", #{ revision: "v1" })"#, &["the revision of `demo`"]),
        (&there, r#"load_model("../no-such")"#, &["there is no folder `../no-such`"]),
        (&there, r#"load_sae("gpt2-small-res-jbb")"#, &["unknown SAE", "did you mean `gpt2-small-res-jb`"]),
        (&there, r#"load_sae("gpt2-small-res-jb")"#, &["blocks.0.hook_resid_pre"]),
        (
            &there,
            r#"load_sae("gpt2-small-res-jb", "blocks.1.hook_resid_pr")"#,
            &["did you mean `blocks.1.hook_resid_pre`"],
        ),
        (
            &there,
            r#"load_sae("jbloom/GPT2-Small-SAEs-Reformatted", "blocks.2")"#,
            &["blocks.1.hook_resid_pre"],
        ),
        (&there, r#"open_dataset("nobody/nothing")"#, &["nobody/nothing", "there is no such repository"]),
        (
            &there,
            r#"open_dataset("NeelNanda/pile-10k", #{ split: "trian" })"#,
            &["unknown split `trian`", "`train`"],
        ),
        (&offline, r#"load_model("gpt2")"#, &["HF_HUB_OFFLINE", "gpt2"]),
        (&offline, r#"open_dataset("NeelNanda/pile-10k")"#, &["HF_HUB_OFFLINE", "NeelNanda/pile-10k"]),
    ] {
        let error = fail(folder.path(), variables, script);
        for part in parts {
            assert!(error.contains(part), "{script}: no {part:?} in {error}");
        }
        assert!(error.contains("hint: ") || script.contains("demo"), "{script}: {error}");
    }
}

#[test]
fn gated_models_say_how_to_get_access() {
    const TOKEN: &str = "hf_canary0123456789canary0123456789";
    let (hub, folder) = (hub(), tempfile::tempdir().unwrap());
    hub.gate(RepoKind::Model, "gpt2", TOKEN);
    let endpoint = hub.endpoint();
    let script = r#"print(load_model("gpt2"))"#;
    let error = fail(folder.path(), &[("HF_ENDPOINT", &endpoint)], script);
    assert!(error.contains("gated") && error.contains("HF_TOKEN"), "{error}");
    let output = run(folder.path(), &[("HF_ENDPOINT", &endpoint), ("HF_TOKEN", TOKEN)], &["eval", script]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(!String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).contains("canary"));
}
