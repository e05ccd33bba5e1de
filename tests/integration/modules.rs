//! Hook points by module name, compared with transformers' forward hooks and TransformerLens' bridge.

use crate::util::{assert_close, expected, fixture, noise};
use candle_core::Tensor;
use saescope::hooks::TokenBatch;
use saescope::{Model, Progress, Sae, feature_acts};
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};

const FAMILIES: [&str; 13] = [
    "gpt2",
    "gpt_neo",
    "gpt_neox",
    "gemma",
    "gemma2",
    "gemma3_text",
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "phi",
    "olmo",
    "olmo2",
];

/// The fixture of one family.
#[derive(Deserialize)]
struct Modules {
    input_ids: Vec<u32>,
    /// The index of the tensor of each name.
    names: BTreeMap<String, usize>,
}

fn load(family: &str) -> (Model, Modules, HashMap<String, Tensor>) {
    let text = std::fs::read_to_string(fixture(&format!("models/{family}/modules.json"))).unwrap();
    let tensors = expected(&format!("models/{family}/modules.safetensors"));
    let model = Model::load(&fixture(&format!("models/{family}"))).unwrap();
    (model, serde_json::from_str(&text).unwrap(), tensors)
}

/// Whether no hook point corresponds to a name: several projections in one matrix, the cosines of rotations, attention
/// weights before and after a dropout, a dropout that two outputs share, the activations that a gated MLP multiplies.
fn has_no_hook_point(name: &str, is_gated: bool) -> bool {
    let ends = |ends: &[&str]| ends.iter().any(|end| name.ends_with(end));
    ends(&["c_attn.output", "query_key_value.output", "hook_cos", "hook_sin", "attn.hook_hidden_states"])
        || ["rotary_emb.", "attn_dropout."].iter().any(|part| name.contains(part))
        || (name.starts_with("model.layers.") && name.contains(".resid_dropout."))
        || (is_gated && name.ends_with("act_fn.output"))
        || (ends(&["embed_tokens.input", "wte.input", "wpe.input"]))
}

/// A tensor of the fixture as `[pos, …]`: heads that come first in transformers are moved to the second axis.
fn by_pos(tensor: &Tensor, name: &str, n: usize) -> Tensor {
    match *tensor.dims() {
        [heads, pos, _] if heads != n && pos == n && !name.contains("pattern") => {
            tensor.transpose(0, 1).unwrap().contiguous().unwrap()
        }
        _ => tensor.clone(),
    }
}

#[test]
fn modules_match_what_forward_hooks_see() {
    let run = Progress::default();
    for family in FAMILIES {
        let (model, Modules { input_ids, names }, tensors) = load(family);
        let mut found = 0;
        for (name, index) in &names {
            let cache = model.run_with_cache(&input_ids, &[name], &run);
            if has_no_hook_point(name, model.cfg().gated_mlp) {
                let error = cache.map(|_| ()).expect_err(name).to_string();
                assert!(error.contains(name.as_str()), "{family}: {name}: {error}");
                continue;
            }
            let cache = cache.unwrap_or_else(|error| panic!("{family}: {name}: {error}"));
            let got = cache.get(name).unwrap_or_else(|error| panic!("{family}: {name}: {error}"));
            let expected = by_pos(&tensors[&index.to_string()], name, input_ids.len());
            let expected = expected.reshape(got.dims()).unwrap();
            assert_close(&format!("{family}: {name}"), got, &expected, 2e-4, 2e-4);
            // A module name without `.input` or `.output` means its output.
            if let Some(module) = name.strip_suffix(".output") {
                let points = model.cfg().hook_points();
                assert_eq!(points.find(module).unwrap(), points.find(name).unwrap(), "{family}: {module}");
            }
            found += 1;
        }
        assert!(found >= 50, "{family}: {found}");
    }
}

#[test]
fn an_sae_reads_the_module_that_it_names() {
    const D_SAE: usize = 8;
    let run = Progress::default();
    for family in FAMILIES {
        let (model, Modules { input_ids, names }, tensors) = load(family);
        let n = input_ids.len();
        let folder = tempfile::tempdir().unwrap();
        let mut width = 0;
        for (name, index) in &names {
            if has_no_hook_point(name, model.cfg().gated_mlp)
                || ["scale", "pattern", "unembed", "lm_head"].iter().any(|part| name.contains(part))
            {
                continue;
            }
            let x = by_pos(&tensors[&index.to_string()], name, n);
            let d_in = x.elem_count() / n;
            if d_in != width {
                width = d_in;
                let weights = HashMap::from([
                    ("W_enc", noise(&[d_in, D_SAE], 1)),
                    ("W_dec", noise(&[D_SAE, d_in], 2)),
                    ("b_enc", noise(&[D_SAE], 3)),
                    ("b_dec", noise(&[d_in], 4)),
                ]);
                candle_core::safetensors::save(&weights, folder.path().join("sae_weights.safetensors"))
                    .unwrap();
            }
            let cfg = serde_json::json!({
                "architecture": "standard", "d_in": d_in, "d_sae": D_SAE, "apply_b_dec_to_input": true,
                "metadata": { "hook_name": name, "prepend_bos": false },
            });
            std::fs::write(folder.path().join("cfg.json"), cfg.to_string()).unwrap();
            let sae = Sae::load(&folder.path().to_string_lossy()).unwrap();
            let dense = |features: &saescope::sae::FeatureActs| features.to_tensor().unwrap();
            let got = feature_acts(&model, &sae, &TokenBatch::single(&input_ids), 0.0, &run)
                .unwrap_or_else(|error| panic!("{family}: {name}: {error}"));
            let expected = sae.encode(&x.reshape((n, d_in)).unwrap()).unwrap();
            assert_close(&format!("{family}: {name}"), &dense(&got), &dense(&expected), 2e-3, 1e-3);
        }
    }
}

/// An edit by a name of the bridge or of Hugging Face acts like a hook of that module: an edit of a norm's input
/// changes its output and not the residual stream, and an edit of an output before a norm goes through the norm.
#[test]
fn edits_by_module_name_act_like_hooks_of_the_module() {
    let run = Progress::default();
    let tokens = [3, 1, 4, 1, 5];
    let zeros = |x: Tensor| Ok(x.zeros_like()?);
    for family in ["gpt2", "gemma2", "olmo2"] {
        let model = Model::load(&fixture(&format!("models/{family}"))).unwrap();
        let points = model.cfg().hook_points();
        let logits = |name: &str| {
            let edits = saescope::hooks::Edits::new().with(points.find_to_edit(name).unwrap(), zeros);
            model.run_with_hooks(&tokens, edits, &run).unwrap()
        };
        let plain = model.logits(&tokens, &run).unwrap();
        let differ = |a: &Tensor, b: &Tensor| {
            (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap() > 1e-4
        };
        let resid_post = logits("blocks.0.hook_resid_post");
        assert_close("hook_out", &logits("blocks.0.hook_out"), &resid_post, 0.0, 0.0);
        assert_close("layers.0", &logits("layers.0"), &resid_post, 0.0, 0.0);
        assert_close("blocks.1.hook_in", &logits("blocks.1.hook_in"), &resid_post, 0.0, 0.0);
        let mlp_in = logits("blocks.1.mlp.hook_in");
        assert!(differ(&mlp_in, &plain) && differ(&mlp_in, &logits("blocks.1.hook_resid_mid")), "{family}");
        assert!(differ(&logits("blocks.1.attn.hook_in"), &plain), "{family}");
        // A norm without a bias maps zero to zero.
        assert_close("mlp", &logits("layers.1.mlp"), &logits("blocks.1.hook_mlp_out"), 1e-5, 1e-5);
        assert!(differ(&logits("layers.1.mlp"), &plain), "{family}");
        assert_close("a norm's input", &logits("layers.1.mlp"), &logits("layers.1.mlp.out"), 0.0, 0.0);
        assert_eq!(
            points.find("layers.1.mlp").unwrap() == points.find("blocks.1.hook_mlp_out").unwrap(),
            family == "gpt2"
        );
        // The input of one of several modules that share it cannot be edited.
        let error = points.find_to_edit("blocks.1.attn.q.hook_in").unwrap_err();
        assert!(error.to_string().contains("cannot be changed by itself"), "{error}");
        assert!(error.hint().unwrap().contains("hook_q_input"), "{error}");
    }
    // If each head has its own input, their common input can be read but not edited.
    let model = Model::load(&fixture("models/gpt2")).unwrap();
    let both = ["blocks.1.hook_q_input", "blocks.1.attn.hook_in"];
    let cache = model.run_with_cache(&tokens, &both, &run).unwrap();
    let alone = model.run_with_cache(&tokens, &both[1..], &run).unwrap();
    assert_close("attn.hook_in", cache.get(both[1]).unwrap(), alone.get(both[1]).unwrap(), 1e-6, 1e-6);
    let edits = both
        .iter()
        .fold(saescope::hooks::Edits::new(), |edits, name| edits.with(name.parse().unwrap(), zeros));
    let error = model.run_with_hooks(&tokens, edits, &run).unwrap_err();
    assert!(error.to_string().contains("single heads"), "{error}");
}

/// Module names in patterns and lists, and errors for unknown names.
#[test]
fn module_names_work_in_patterns_and_lists() {
    let model = Model::load(&fixture("models/gemma2")).unwrap();
    let run = Progress::default();
    let names = |patterns: &[&str]| {
        let cache = model.run_with_cache(&[1, 2, 3], patterns, &run).unwrap();
        cache.names().map(|name| name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(
        names(&["blocks.1.hook_out", "blocks.*.hook_mlp_in"]),
        [
            "blocks.0.hook_mlp_in",
            "blocks.1.hook_mlp_in",
            "blocks.1.hook_resid_post",
            "blocks.2.hook_mlp_in",
            "blocks.3.hook_mlp_in"
        ]
    );
    assert_eq!(
        names(&["model.layers.*.mlp"]),
        (0..4).map(|i| format!("blocks.{i}.mlp.hook_out")).collect::<Vec<_>>()
    );
    assert_eq!(names(&["model.norm.input", "ln_final.hook_in"]), ["blocks.3.hook_resid_post"]);
    // Every point with this ending, under its older or newer name.
    let outputs = names(&["blocks.*.hook_out"]);
    assert_eq!(outputs[..3], ["blocks.0.attn.hook_out", "blocks.0.mlp.hook_out", "blocks.0.hook_resid_post"]);
    assert_eq!(outputs.len(), 12);
    for (wrong, says) in [
        ("blocks.1.hook_outt", "did you mean `blocks.1.hook_out`?"),
        ("blocks.9.hook_out", "the model has 4 blocks"),
        ("model.layers.1.mlp.act_fn", "`hook_names()` lists the hook points"),
        ("model.layers.1.self_attn.rotary_emb", "known hooks"),
        ("vision_tower.encoder.layers.1", "known hooks"),
        ("blocks.*.hook_nothing", ""),
    ] {
        let error = model.run_with_cache(&[1, 2, 3], &[wrong], &run).unwrap_err();
        assert!(error.hint().unwrap_or_default().contains(says), "{wrong}: {error}: {:?}", error.hint());
    }
}
