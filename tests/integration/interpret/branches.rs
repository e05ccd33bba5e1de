//! Sequences that continue after any token of a key-value cache.

use super::errors::failure;
use super::trees::{early_feature, text_model};
use saescope::hooks::{HookPoint, Hooks, TokenBatch};
use saescope::model::KeyValueCache;
use saescope::{Error, Model, Progress, Result};

/// The logits after each sequence of a batch; sequence `i` continues after token `parents[i]` of the cache.
fn logits_after(
    model: &Model,
    sequences: &[&[u32]],
    parents: &[Option<usize>],
    cache: &mut KeyValueCache,
) -> Result<Vec<Vec<f32>>> {
    let mut batch = TokenBatch::default();
    sequences.iter().for_each(|tokens| batch.push(tokens));
    let run = Progress::default();
    let mut none = ();
    let hooks: &mut dyn Hooks = &mut none;
    let resid = model.forward_from(&batch, parents, cache, hooks, &run)?;
    model.map_logits(&resid, &run, |_, logits| logits.to_vec())
}

#[test]
fn sequences_branch_after_any_token() {
    let (model, _) = early_feature(624);
    let run = Progress::default();
    let full = |tokens: &[u32]| {
        let logits = model.logits(tokens, &run).unwrap();
        logits.get(tokens.len() - 1).unwrap().to_vec1::<f32>().unwrap()
    };
    let check = |what: &str, got: &[f32], tokens: &[u32]| {
        for (got, expected) in got.iter().zip(full(tokens)) {
            assert!((got - expected).abs() < 2e-4, "{what}: {got} rather than {expected}");
        }
    };
    let mut cache = KeyValueCache::default();
    let (one, two) = ([1u32, 50, 60, 70, 80], [1u32, 90, 91]);
    let logits = logits_after(&model, &[&one, &two], &[None, None], &mut cache).unwrap();
    assert_eq!(cache.len(), 8);
    check("one", &logits[0], &one);
    check("two", &logits[1], &two);
    // After a token in the middle, after the last of each, twice after the same one, and a new sequence.
    let sequences: [&[u32]; 5] = [&[11, 12], &[13], &[14, 15, 16], &[17], &[2, 3]];
    let parents = [Some(2), Some(4), Some(7), Some(2), None];
    let logits = logits_after(&model, &sequences, &parents, &mut cache).unwrap();
    assert_eq!(cache.len(), 17);
    for (i, past) in [&one[..3], &one, &two, &one[..3], &[]].into_iter().enumerate() {
        check(&format!("branch {i}"), &logits[i], &[past, sequences[i]].concat());
    }
    // After branches; then those are forgotten, and others replace them.
    let logits = logits_after(&model, &[&[20], &[21]], &[Some(9), Some(12)], &mut cache).unwrap();
    check("a branch of a branch", &logits[0], &[1, 50, 60, 11, 12, 20]);
    check("another", &logits[1], &[1, 90, 91, 14, 15, 21]);
    cache.truncate(8);
    let logits = logits_after(&model, &[&[30, 31]], &[Some(6)], &mut cache).unwrap();
    check("after forgetting", &logits[0], &[1, 90, 30, 31]);
    assert_eq!(cache.len(), 10);

    // A pass that is refused, or fails midway, changes nothing.
    let long = vec![5u32; model.cfg().n_ctx - 3];
    let errors = [
        failure(logits_after(&model, &[&[1]], &[Some(10)], &mut cache)),
        failure(logits_after(&model, &[&[1]], &[None, None], &mut cache)),
        failure(logits_after(&model, &[&[]], &[None], &mut cache)),
        failure(logits_after(&model, &[], &[], &mut cache)),
        failure(logits_after(&model, &[&[1], &long], &[None, Some(9)], &mut cache)),
        failure(logits_after(&model, &[&[u32::MAX]], &[None], &mut cache)),
        failure(logits_after(&text_model("gpt2_text").0, &[&[1]], &[Some(3)], &mut cache)),
    ];
    insta::assert_snapshot!(errors.join("\n\n"), @r#"
    the token to continue after: expected one of the 10 tokens in the cache, counted from 0, got 10
    hint:

    the parents: expected one (or `None`) for each sequence, got 2
    hint:

    a sequence: expected at least one token, got none
    hint:

    the input: expected at least one token, got none
    hint: the text is empty; with `prepend_bos: true` it would be only a BOS token

    the input: expected at most n_ctx = 256 tokens, got 257
    hint: shorten the text, or run it in several pieces

    the token at position 0: expected an id below d_vocab = 8192, got 4294967295
    hint: the tokens, or the tokenizer next to the weights, belong to another model

    the key-value cache was filled by another model
    hint: start with an empty cache
    "#);
    let mut fails = saescope::hooks::Edits::new()
        .with(saescope::HookName::in_block(3, HookPoint::ResidPost), |_| Err(Error::Interrupted));
    let batch = TokenBatch::single(&[40, 41]);
    assert!(model.forward_from(&batch, &[Some(9)], &mut cache, &mut fails, &run).is_err());
    assert_eq!(cache.len(), 10);
    let logits = logits_after(&model, &[&[40, 41], &long[1..]], &[Some(9), Some(9)], &mut cache).unwrap();
    check("after all that", &logits[0], &[1, 90, 30, 31, 40, 41]);
    check("to the end", &logits[1], &[&[1, 90, 30, 31], &long[1..]].concat());
    // An empty cache fits any model.
    cache.truncate(0);
    let logits = logits_after(&text_model("gpt2_text").0, &[&[1, 2]], &[None], &mut cache).unwrap();
    assert_eq!((logits[0].len(), cache.len()), (1200, 2));
}
