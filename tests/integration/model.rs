//! Models against Hugging Face and TransformerLens.

use crate::util::{assert_close, fixture, tests_path};
use candle_core::{DType, Device, Tensor};
use saescope::hooks::{ActivationCache, Edits, HookPoint, Hooks, Site, SiteRow, TokenBatch};
use saescope::model::{GenerateOptions, KeyValueCache, char_offsets};
use saescope::{HookName, Model, Progress};
use std::collections::HashMap;

fn run() -> Progress {
    Progress::default()
}

/// The same model in two shards, without the prefix, in f16 and bf16.
#[test]
fn sharded_half_precision_checkpoints_give_the_same_logits() {
    let original =
        candle_core::safetensors::load(fixture("models/gpt2/model.safetensors"), &Device::Cpu).unwrap();
    let model = Model::load(&fixture("models/gpt2")).unwrap();
    let expected = model.logits(&[5, 6, 7, 8], &run()).unwrap();
    for (dtype, tolerance) in [(DType::F32, 0.0), (DType::F16, 3e-2), (DType::BF16, 2e-1)] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::copy(fixture("models/gpt2/config.json"), folder.path().join("config.json")).unwrap();
        let mut weight_map = serde_json::Map::new();
        for shard in 0..2 {
            let file = format!("model-{shard}.safetensors");
            let part: HashMap<String, Tensor> = original
                .iter()
                .map(|(name, t)| {
                    (name.trim_start_matches("transformer.").to_owned(), t.to_dtype(dtype).unwrap())
                })
                .filter(|(name, _)| name.len() % 2 == shard)
                .collect();
            part.keys().for_each(|name| drop(weight_map.insert(name.clone(), file.as_str().into())));
            candle_core::safetensors::save(&part, folder.path().join(&file)).unwrap();
        }
        let index = serde_json::json!({ "weight_map": weight_map });
        std::fs::write(folder.path().join("model.safetensors.index.json"), index.to_string()).unwrap();
        let sharded = Model::load(&folder.path().to_string_lossy()).unwrap();
        assert_close("logits", &sharded.logits(&[5, 6, 7, 8], &run()).unwrap(), &expected, tolerance, 0.0);
    }
}

/// The GPT-2 fixture with a changed config and changed weights.
fn changed(
    config: &[(&str, &str)],
    change: impl FnOnce(&mut HashMap<String, Tensor>),
) -> saescope::Result<Model> {
    let folder = tempfile::tempdir().unwrap();
    let mut text = std::fs::read_to_string(fixture("models/gpt2/config.json")).unwrap();
    for (from, to) in config {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, to);
    }
    std::fs::write(folder.path().join("config.json"), text).unwrap();
    let mut weights =
        candle_core::safetensors::load(fixture("models/gpt2/model.safetensors"), &Device::Cpu).unwrap();
    change(&mut weights);
    candle_core::safetensors::save(&weights, folder.path().join("model.safetensors")).unwrap();
    let model = Model::load(&folder.path().to_string_lossy())?;
    model.logits(&[1], &run())?; // reads the weights while the folder exists
    Ok(model)
}

#[test]
fn variants_of_gpt2_configs_take_effect() {
    let tokens = [3, 1, 4, 1, 5];
    let names = ["blocks.1.mlp.*", "blocks.1.attn.*"];
    let activation = |name: &str| {
        let name = format!("\"activation_function\": \"{name}\"");
        let model = changed(&[("\"activation_function\": \"gelu_new\"", &name)], |_| ()).unwrap();
        let cache = model.run_with_cache(&tokens, &names, &run()).unwrap();
        (
            cache.get("blocks.1.mlp.hook_pre").unwrap().clone(),
            cache.get("blocks.1.mlp.hook_post").unwrap().clone(),
        )
    };
    let (pre, post) = activation("relu");
    assert_close("relu", &post, &pre.relu().unwrap(), 0.0, 0.0);
    let (pre, post) = activation("gelu");
    assert_close("gelu", &post, &pre.gelu_erf().unwrap(), 1e-6, 0.0);
    let (pre, post) = activation("silu");
    assert_close("silu", &post, &pre.silu().unwrap(), 1e-6, 0.0);
    let error = changed(&[("gelu_new", "gelu_newer")], |_| ()).unwrap_err();
    assert!(error.hint().unwrap().contains("`gelu_new`"), "{error}");

    // Block 1 divides its scores by 2, and no block by the root of d_head = 8.
    let config = [
        ("\"scale_attn_by_inverse_layer_idx\": false", "\"scale_attn_by_inverse_layer_idx\": true"),
        ("\"scale_attn_weights\": true", "\"scale_attn_weights\": false"),
    ];
    let cache = changed(&config, |_| ()).unwrap().run_with_cache(&tokens, &names, &run()).unwrap();
    let head = |point: &str| cache.get(&format!("blocks.1.attn.{point}")).unwrap().narrow(1, 2, 1).unwrap();
    let (q, k) = (head("hook_q").squeeze(1).unwrap(), head("hook_k").squeeze(1).unwrap());
    let expected = (q.matmul(&k.t().unwrap()).unwrap() / 2.0).unwrap();
    let scores = cache.get("blocks.1.attn.hook_attn_scores").unwrap().get(2).unwrap();
    for i in 0..5 {
        let row = |t: &Tensor| t.get(i).unwrap().narrow(0, 0, i + 1).unwrap();
        assert_close("scores", &row(&scores), &row(&expected), 1e-5, 1e-5);
    }

    // An untied unembedding, and a wider MLP: the same MLP with columns of zeros.
    let config = [
        ("\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false"),
        ("\"n_inner\": null", "\"n_inner\": 130"),
    ];
    let untied = changed(&config, |weights| {
        let embed = weights["transformer.wte.weight"].clone();
        weights.insert("lm_head.weight".to_owned(), (embed * 2.0).unwrap());
        for i in 0..3 {
            for (name, axis) in [("c_fc.weight", 1), ("c_fc.bias", 0), ("c_proj.weight", 0)] {
                let name = format!("transformer.h.{i}.mlp.{name}");
                let wide = weights[&name].pad_with_zeros(axis, 0, 2).unwrap();
                weights.insert(name, wide);
            }
        }
    });
    let expected = Model::load(&fixture("models/gpt2")).unwrap().logits(&tokens, &run()).unwrap();
    let got = untied.unwrap().logits(&tokens, &run()).unwrap();
    assert_close("logits", &got, &(expected * 2.0).unwrap(), 1e-4, 1e-4);
    let error = changed(&[("\"n_layer\": 3", "\"n_layer\": 9999999")], |_| ()).unwrap_err();
    assert!(error.to_string().contains("`n_layer`: expected at most 10000 layers, got 9999999"), "{error}");
}

/// A pass that stops early leaves nothing in the cache that a later pass would see.
#[test]
fn a_key_value_cache_survives_a_pass_that_ends_early() {
    let model = Model::load("demo").unwrap();
    let tokens = model.to_tokens("a small boat", None).unwrap();
    let expected = model.logits(&tokens, &run()).unwrap();
    let mut cache = KeyValueCache::default();
    let mut stops = ActivationCache::new(vec!["blocks.2.hook_resid_pre".parse().unwrap()]);
    model.run_until(&TokenBatch::single(&[7, 8, 9]), Some(&mut cache), &mut stops, &run()).unwrap();
    let got = model.forward(&TokenBatch::single(&tokens), Some(&mut cache), &mut (), &run()).unwrap();
    assert_close("logits", &got, &expected, 1e-6, 1e-6);
    model.run_until(&TokenBatch::single(&[7, 8]), Some(&mut cache), &mut stops, &run()).unwrap();
    let next = model.forward(&TokenBatch::single(&[5]), Some(&mut cache), &mut (), &run()).unwrap();
    let all = model.logits(&[tokens.as_slice(), &[5]].concat(), &run()).unwrap();
    assert_close("next", &next, &all.narrow(0, tokens.len(), 1).unwrap(), 1e-4, 1e-4);
}

#[test]
fn a_ragged_batch_equals_its_sequences_one_by_one() {
    let model = Model::load("demo").unwrap();
    let sequences: Vec<Vec<u32>> = ["a", "the house of a small animal", "to move quickly, as of wind"]
        .iter()
        .map(|text| model.to_tokens(text, None).unwrap())
        .collect();
    let mut batch = TokenBatch::default();
    sequences.iter().for_each(|s| batch.push(s));
    let name: HookName = "blocks.5.hook_resid_post".parse().unwrap();
    let mut cache = ActivationCache::new(vec![name]);
    model.run_until(&batch, None, &mut cache, &run()).unwrap();
    let together = cache.take(&name).unwrap();
    for (range, sequence) in batch.sequences().zip(&sequences) {
        let alone = model.run_with_cache(sequence, &[name.to_string()], &run()).unwrap();
        let mine = together.narrow(0, range.start, range.len()).unwrap();
        assert_close("resid_post", &mine, alone.get(&name.to_string()).unwrap(), 1e-5, 1e-5);
    }
}

/// Records the hooks that a pass reaches.
struct Recorder {
    wanted: HookName,
    seen: Vec<HookName>,
}

impl Hooks for Recorder {
    fn wants(&self, _: &HookName) -> bool {
        true
    }

    fn on(&mut self, site: &Site, activation: Tensor) -> saescope::Result<Tensor> {
        self.seen.push(site.name);
        Ok(activation)
    }

    fn last(&self) -> Option<HookName> {
        Some(self.wanted)
    }
}

#[test]
fn a_pass_stops_at_its_deepest_hook() {
    let model = Model::load("demo").unwrap();
    for name in model.cfg().hook_points().all() {
        let mut recorder = Recorder { wanted: name, seen: Vec::new() };
        model.run_until(&TokenBatch::single(&[0, 5]), None, &mut recorder, &run()).unwrap();
        assert_eq!(recorder.seen.iter().max(), Some(&name));
    }
}

/// A pair of hooks changes activations and keeps them in one pass, the second as the first returned them.
#[test]
fn one_pass_edits_and_caches() {
    let model = Model::load("demo").unwrap();
    let tokens = model.to_tokens("a small boat", None).unwrap();
    let batch = TokenBatch::single(&tokens);
    let (early, late) = ("blocks.2.hook_resid_pre", "blocks.4.hook_resid_post");
    let edited: HookName = early.parse().unwrap();
    let edits = || Edits::new().with(edited, |x| Ok((x * 2.0)?));
    let cache = |name: &str| ActivationCache::new(vec![name.parse().unwrap()]);
    let plain = model.run_with_cache(&tokens, &[early], &run()).unwrap();
    let plain = plain.get(early).unwrap();

    let (mut before, mut after, mut deep) = (cache(early), cache(early), cache(late));
    let mut hooks = ((&mut before, edits()), (&mut after, &mut deep));
    let logits = model.forward(&batch, None, &mut hooks, &run()).unwrap();
    assert_close("logits", &logits, &model.run_with_hooks(&tokens, edits(), &run()).unwrap(), 0.0, 0.0);
    assert_close("before", before.get(early).unwrap(), plain, 0.0, 0.0);
    assert_close("after", after.get(early).unwrap(), &(plain * 2.0).unwrap(), 0.0, 0.0);
    assert_eq!(deep.get(late).unwrap().dims(), [tokens.len(), model.cfg().d_model]);

    // It may stop after the deeper of two points, and not at all if either must see the end.
    let pair = (cache(late), cache(early));
    assert_eq!(pair.last(), late.parse().ok());
    assert_eq!((pair, edits()).last(), None);
    assert_eq!(((), cache(late)).last(), None);
}

/// Notes where it is called, and doubles the rows of one token.
struct Doubling {
    token: u32,
    seen: Vec<(Vec<SiteRow>, Vec<Option<usize>>)>,
}

impl Hooks for Doubling {
    fn wants(&self, name: &HookName) -> bool {
        *name == HookName::global(HookPoint::Embed)
    }

    fn on(&mut self, site: &Site, activation: Tensor) -> saescope::Result<Tensor> {
        let rows: Vec<_> = site.rows().collect();
        let factors = rows.iter().map(|row| if row.token == self.token { 2f32 } else { 1.0 }).collect();
        self.seen.push((rows, site.parents.to_vec()));
        let factors = Tensor::from_vec(factors, (activation.dim(0)?, 1), activation.device())?;
        Ok(activation.broadcast_mul(&factors)?)
    }

    fn last(&self) -> Option<HookName> {
        None
    }
}

/// A hook is told the sequence, the position and the token of each row, also if sequences continue after cached tokens.
#[test]
fn a_hook_knows_whose_rows_it_sees() {
    let model = Model::load("demo").unwrap();
    let mut hooks = Doubling { token: 9, seen: Vec::new() };
    let mut embeds = ActivationCache::new(vec![HookName::global(HookPoint::Embed)]);
    let mut cache = KeyValueCache::default();
    for (sequences, parents) in [([[1, 9], [1, 7]], [None, None]), ([[9, 8], [3, 9]], [Some(2), None])] {
        let mut batch = TokenBatch::default();
        sequences.iter().for_each(|tokens| batch.push(tokens));
        let mut both = (&mut hooks, &mut embeds);
        model.forward_from(&batch, &parents, &mut cache, &mut both, &run()).unwrap();
    }
    let row = |(sequence, position, token)| SiteRow { sequence, position, token };
    let first = [(0, 0, 1), (0, 1, 9), (1, 0, 1), (1, 1, 7)].map(row).to_vec();
    let second = [(0, 1, 9), (0, 2, 8), (1, 0, 3), (1, 1, 9)].map(row).to_vec();
    assert_eq!(hooks.seen, [(first, vec![None, None]), (second, vec![Some(2), None])]);
    let w_e = model.W_E().unwrap();
    for (i, (token, factor)) in [(9, 2.0), (8, 1.0), (3, 1.0), (9, 2.0)].into_iter().enumerate() {
        let expected = (w_e.get(token).unwrap() * factor).unwrap();
        assert_close("embed", &embeds.get("hook_embed").unwrap().get(i).unwrap(), &expected, 0.0, 0.0);
    }
}

/// Hooks that are computed only if named in full; TransformerLens has flags for them.
#[test]
fn opt_in_hooks_agree_with_the_default_ones() {
    let model = Model::load(&fixture("models/gpt2")).unwrap();
    let tokens = [3, 1, 4, 1, 5];
    let names =
        ["attn.hook_result", "hook_attn_in", "hook_q_input", "hook_mlp_in"].map(|n| format!("blocks.1.{n}"));
    let cache = model.run_with_cache(&tokens, &names, &run()).unwrap();
    let plain = model.run_with_cache(&tokens, &["blocks.1.*"], &run()).unwrap();
    let result = cache.get("blocks.1.attn.hook_result").unwrap();
    assert_eq!(result.dims(), [5, 4, 32]);
    let attn_out = plain.get("blocks.1.hook_attn_out").unwrap();
    let bias = (attn_out - result.sum(1).unwrap()).unwrap();
    let first = bias.get(0).unwrap();
    assert_close("b_O at every position", &bias, &first.broadcast_as((5, 32)).unwrap(), 1e-5, 0.0);
    let attn_in = cache.get("blocks.1.hook_attn_in").unwrap();
    let resid_pre = plain.get("blocks.1.hook_resid_pre").unwrap();
    assert_close("hook_attn_in", &attn_in.narrow(1, 2, 1).unwrap().squeeze(1).unwrap(), resid_pre, 0.0, 0.0);
    assert_close("hook_q_input", cache.get("blocks.1.hook_q_input").unwrap(), attn_in, 0.0, 0.0);
    let resid_mid = plain.get("blocks.1.hook_resid_mid").unwrap();
    assert_close("hook_mlp_in", cache.get("blocks.1.hook_mlp_in").unwrap(), resid_mid, 1e-5, 1e-5);

    // Editing only the input of the queries changes the logits; an identity edit does not.
    let before = model.logits(&tokens, &run()).unwrap();
    let q_input: HookName = "blocks.1.hook_q_input".parse().unwrap();
    let same = model.run_with_hooks(&tokens, Edits::new().with(q_input, Ok), &run()).unwrap();
    assert_close("logits", &same, &before, 1e-5, 1e-5);
    let double = |x: Tensor| Ok((x.sqr()? * 2.0)?);
    let other = model.run_with_hooks(&tokens, Edits::new().with(q_input, double), &run()).unwrap();
    assert!((other - before).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap() > 1e-3);
}

/// Replacing an activation by that of another input gives that input's logits; zeros at any hook point change logits.
#[test]
fn edits_at_every_point_reach_the_logits() {
    let model = Model::load(&fixture("models/gpt2")).unwrap();
    let (a, b) = ([9, 8, 7, 6], [1, 2, 3, 4]);
    let logits_b = model.logits(&b, &run()).unwrap();
    for name in
        ["hook_embed", "blocks.0.hook_resid_pre", "blocks.1.hook_resid_mid", "blocks.2.hook_resid_post"]
    {
        let hook: HookName = name.parse().unwrap();
        let other = model.run_with_cache(&b, &[name], &run()).unwrap().take(&hook).unwrap();
        let patched =
            model.run_with_hooks(&a, Edits::new().with(hook, |_| Ok(other.clone())), &run()).unwrap();
        assert_close(name, &patched, &logits_b, 1e-5, 1e-5);
    }
    let zero = |x: Tensor| Ok(x.zeros_like()?);
    let before = model.logits(&a, &run()).unwrap();
    for hook in
        model.cfg().hook_points().all().into_iter().filter(|hook| !hook.to_string().contains("hook_scale"))
    {
        let edited = model.run_with_hooks(&a, Edits::new().with(hook, zero), &run()).unwrap();
        let change =
            (edited - &before).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
        assert!(change > 1e-6, "an edit at {hook} changes nothing");
    }
    let shape = Edits::new().with("hook_embed".parse().unwrap(), |x: Tensor| Ok(x.narrow(0, 0, 1)?));
    let error = model.run_with_hooks(&a, shape, &run()).unwrap_err().to_string();
    assert!(error.contains("expected [4, 32], got [1, 32]"), "{error}");
}

#[test]
fn token_ids_and_character_offsets_match_tokenizers() {
    for (kind, bos) in [("byte_level", 0), ("metaspace", 2)] {
        let folder = tests_path("fixtures/tokenizers").join(kind);
        let tokenizer =
            saescope::model::Tokenizer::from_folder(&folder, Default::default()).unwrap().unwrap();
        assert_eq!(tokenizer.special().bos, Some(bos));
        let rows: serde_json::Value =
            serde_json::from_slice(&std::fs::read(folder.join("expected.json")).unwrap()).unwrap();
        for row in rows.as_array().unwrap() {
            let text = row["text"].as_str().unwrap();
            let encoding = tokenizer.encode(text).unwrap();
            let ids: Vec<u32> = serde_json::from_value(row["ids_without_special"].clone()).unwrap();
            assert_eq!(encoding.ids, ids, "{text:?}");
            let spans: Vec<(usize, usize)> =
                serde_json::from_value(row["offsets_without_special"].clone()).unwrap();
            let starts = char_offsets(text, encoding.bytes.iter().map(|b| b.start));
            assert_eq!(starts, spans.iter().map(|s| s.0).collect::<Vec<_>>(), "{text:?}");
            let ends = char_offsets(text, encoding.bytes.iter().map(|b| b.end));
            assert_eq!(ends, spans.iter().map(|s| s.1).collect::<Vec<_>>(), "{text:?}");
            assert_eq!(tokenizer.decode(&ids).unwrap(), row["decoded"].as_str().unwrap());
        }
    }
}

#[test]
fn token_id_0_is_valid() {
    let model = Model::load("demo").unwrap();
    assert_eq!(model.bos().unwrap(), 0);
    assert_eq!(model.to_tokens("", None).unwrap(), [0]);
    assert!(model.to_tokens("", Some(false)).unwrap().is_empty());
    let tokens = model.to_tokens("naïve boats", None).unwrap();
    assert_eq!(model.to_string(&tokens).unwrap(), "<|endoftext|>naïve boats");
    assert_eq!(model.to_str_tokens(&tokens[..1]).unwrap(), ["<|endoftext|>"]);
}

#[test]
fn greedy_generation_equals_repeated_full_passes() {
    let model = Model::load("demo").unwrap();
    let prompt = model.to_tokens("A typical definition of \"dog\" would be \"", None).unwrap();
    let options =
        GenerateOptions { max_new_tokens: 12, temperature: 0.0, stop_at_eos: false, ..Default::default() };
    let new = model.generate(&prompt, &options, &mut (), &run()).unwrap();
    let mut slow = prompt.clone();
    for _ in 0..12 {
        let logits = model.logits(&slow, &run()).unwrap();
        let last = logits.get(slow.len() - 1).unwrap();
        slow.push(last.argmax(0).unwrap().to_scalar::<u32>().unwrap());
    }
    assert_eq!(new, slow[prompt.len()..]);
    let text = model.to_string(&new).unwrap();
    assert!(text.contains("genus Canis"), "{text}");
    let sampled = GenerateOptions { max_new_tokens: 12, seed: 3, top_k: 20, ..Default::default() };
    let once = model.generate(&prompt, &sampled, &mut (), &run()).unwrap();
    assert_eq!(once, model.generate(&prompt, &sampled, &mut (), &run()).unwrap());
}

/// The tokenizers library would abort the process here.
#[test]
fn a_tokenizer_with_a_broken_escape_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["config.json", "model.safetensors", "tokenizer_config.json"] {
        std::fs::copy(fixture(&format!("models/gemma_text/{file}")), folder.path().join(file)).unwrap();
    }
    let json = std::fs::read_to_string(fixture("models/gemma_text/tokenizer.json")).unwrap();
    let at = json.find("\"decoder\"").unwrap();
    let (before, decoder) = json.split_at(at);
    let broken = decoder.replacen("\" \"", "\"\\ud800\"", 1);
    assert_ne!(broken, decoder);
    std::fs::write(folder.path().join("tokenizer.json"), format!("{before}{broken}")).unwrap();
    let error = Model::load(&folder.path().to_string_lossy()).unwrap_err().to_string();
    assert!(error.contains("tokenizer.json`: not a valid tokenizer"), "{error}");
}

/// Weights are read on first use, also if many threads of a pool request them at once.
#[test]
fn threads_of_a_pool_share_a_fresh_model() {
    use rayon::prelude::*;
    let model = Model::load(&fixture("models/llama")).unwrap();
    let pool = rayon::ThreadPoolBuilder::new().num_threads(4).build().unwrap();
    let all: Vec<_> = pool
        .install(|| (0..64u32).into_par_iter().map(|i| model.logits(&[i, 5, 7], &run()).unwrap()).collect());
    assert_close("logits", &all[9], &model.logits(&[9, 5, 7], &run()).unwrap(), 0.0, 0.0);
}

#[test]
fn invalid_tokens_hooks_and_names_are_errors() {
    let model = Model::load("demo").unwrap();
    let message = |result: saescope::Result<Tensor>| result.unwrap_err().to_string();
    assert!(message(model.logits(&[], &run())).contains("at least one token"));
    assert!(message(model.logits(&[9000], &run())).contains("below d_vocab = 8192, got 9000"));
    assert!(message(model.logits(&[1; 300], &run())).contains("at most n_ctx = 256 tokens, got 300"));
    let error = model.run_with_cache(&[1], &["blocks.9.hook_resid_pre"], &run()).unwrap_err();
    assert!(error.to_string().contains("a block from 0 to 5, got 9"), "{error}");
    let error = Model::load("no-such-model").unwrap_err();
    assert!(error.to_string().contains("unknown model `no-such-model`"), "{error}");
    assert!(error.hint().unwrap().contains("`owner/name`"));
    let hint = Model::load("gtp2-small").unwrap_err().hint().unwrap();
    assert!(hint.contains("did you mean `gpt2-small`"), "{hint}");
    let canceled = run();
    canceled.cancel();
    assert!(model.logits(&[1], &canceled).unwrap_err().is_interrupted());
}

#[test]
fn incomplete_and_mismatched_checkpoints_are_errors() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let name = folder.path().to_string_lossy().into_owned();
    let load = || Model::load(&name).unwrap_err();
    std::fs::write(path("config.json"), "{").unwrap();
    assert!(load().to_string().contains("config.json`: not JSON"), "{}", load());
    std::fs::write(path("config.json"), r#"{"model_type": "mamba"}"#).unwrap();
    assert!(load().to_string().contains("unknown model type `mamba`"), "{}", load());
    let config = std::fs::read_to_string(fixture("models/gpt2/config.json")).unwrap();
    std::fs::write(path("config.json"), &config).unwrap();
    assert!(load().to_string().contains("has no weights: neither model.safetensors nor"), "{}", load());
    let weights = std::fs::read(fixture("models/gpt2/model.safetensors")).unwrap();
    for end in (0..weights.len()).step_by(997) {
        std::fs::write(path("model.safetensors"), &weights[..end]).unwrap();
        assert!(load().to_string().contains("not a complete safetensors file"), "{}", load());
    }
    std::fs::write(path("model.safetensors"), vec![b'x'; 4000]).unwrap();
    assert!(load().to_string().contains("not a safetensors file"), "{}", load());
    std::fs::write(path("model.safetensors"), &weights).unwrap();
    std::fs::write(path("config.json"), config.replace("\"n_embd\": 32", "\"n_embd\": 64")).unwrap();
    assert!(load().to_string().contains("expected shape [160, 64], got [160, 32]"), "{}", load());
    std::fs::write(path("config.json"), config.replace("\"n_layer\": 3", "\"n_layer\": 4")).unwrap();
    assert!(load().to_string().contains("unknown tensor `transformer.h.3."), "{}", load());
    std::fs::write(path("config.json"), &config).unwrap();
    assert!(
        Model::load(&name).unwrap().to_tokens("x", None).unwrap_err().to_string().contains("no tokenizer")
    );
    std::fs::copy(fixture("tokenizers/byte_level/tokenizer.json"), path("tokenizer.json")).unwrap();
    assert!(
        load().to_string().contains("does not fit: it has 1200 tokens, but the model's d_vocab is 160"),
        "{}",
        load()
    );
}
