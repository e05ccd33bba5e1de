//! Errors of definition trees, and their hints.

use super::options::options;
use super::trees::{early_feature, text_model};
use crate::util::fixture;
use saescope::interpret::{FeatureVector, Steer, TreeOptions, VectorOptions};
use saescope::{Error, Model, Progress, Result, definition_tree, definition_trees, feature_vector};

/// The message and the hint of an error.
#[track_caller]
pub fn failure<T: std::fmt::Debug>(result: Result<T>) -> String {
    let error = result.unwrap_err();
    format!("{error}\nhint: {}", error.hint().unwrap_or_default())
        .trim_end()
        .to_owned()
        .replace(&fixture(""), "")
}

/// The errors of trees of feature 624, each with one change to the options.
#[track_caller]
fn failures(changes: &[&dyn Fn(&mut TreeOptions)]) -> String {
    let (model, vector) = early_feature(624);
    let errors = changes.iter().map(|change| {
        let mut options = options();
        change(&mut options);
        failure(definition_tree(&model, &vector, &options, &Progress::default()))
    });
    errors.collect::<Vec<_>>().join("\n\n")
}

#[test]
fn trees_reject_bad_prompts_and_limits() {
    let errors = failures(&[
        &|o| o.prompt = "What is a house?".to_owned(),
        &|o| o.prompt = "definitions".to_owned(),
        &|o| o.prompt = String::new(),
        &|o| o.prompt = "a house ".repeat(300) + "{}",
        &|o| o.cutoff = 0.0,
        &|o| o.cutoff = -1.0,
        &|o| o.cutoff = f64::NAN,
        &|o| o.cutoff = 2.0,
        &|o| o.top_k = 0,
        &|o| o.max_depth = 0,
        &|o| o.max_depth = 61,
        &|o| o.stop = Some(vec![String::new()]),
        &|o| o.max_memory = 0,
        &|o| o.null_directions = Some(usize::MAX),
    ]);
    insta::assert_snapshot!(errors, @r#"
    `prompt`: expected a string with {} for the ghost token, got "What is a house?"
    hint: put {} into it, or name one of the prompts "definition", "meaning", "repeat", "patchscope"

    `prompt`: expected a string with {} for the ghost token, got "definitions"
    hint: put {} into it, or name one of the prompts "definition", "meaning", "repeat", "patchscope"

    `prompt`: expected a string with {} for the ghost token, got ""
    hint: put {} into it, or name one of the prompts "definition", "meaning", "repeat", "patchscope"

    the prompt: expected at most n_ctx = 256 tokens, the model's context, got 603
    hint: shorten the prompt

    `cutoff`: expected a probability above 0 and at most 1, got 0
    hint: less likely nodes are left out; the default is 5e-5, and without a cutoff the tree would not end

    `cutoff`: expected a probability above 0 and at most 1, got -1
    hint: less likely nodes are left out; the default is 5e-5, and without a cutoff the tree would not end

    `cutoff`: expected a probability above 0 and at most 1, got NaN
    hint: less likely nodes are left out; the default is 5e-5, and without a cutoff the tree would not end

    `cutoff`: expected a probability above 0 and at most 1, got 2
    hint: less likely nodes are left out; the default is 5e-5, and without a cutoff the tree would not end

    `top_k`: expected at least 1, got 0
    hint:

    `max_depth`: expected from 1 to 60, got 0
    hint:

    `max_depth`: expected from 1 to 60, got 61
    hint:

    `stop`: expected non-empty strings, got ""
    hint: every token contains the empty string; `stop: []` turns stops off

    `max_memory`: expected at least 1 MiB, got 0
    hint:

    `null_directions`: expected at most 1000, got 18446744073709551615
    hint: each costs as much as the tree itself; 16 or 32 are enough
    "#);
}

#[test]
fn trees_reject_bad_placeholders_and_hooks() {
    let errors = failures(&[
        &|o| o.placeholder = Some("two tokens".to_owned()),
        &|o| o.placeholder = Some(String::new()),
        &|o| o.inject_at = Some("blocks.2.hook_resid_prae".to_owned()),
        &|o| o.inject_at = Some("blocks.99.hook_resid_pre".to_owned()),
        &|o| o.inject_at = Some("blocks.2.attn.hook_q".to_owned()),
        &|o| o.inject_at = Some("blocks.*.hook_resid_pre".to_owned()),
    ]);
    insta::assert_snapshot!(errors, @r#"
    `placeholder`: expected a string of one token, got "two tokens", which is 4 tokens
    hint:

    `placeholder`: expected a string of one token, got "", which is 0 tokens
    hint:

    unknown hook `blocks.2.hook_resid_prae`
    hint: did you mean `blocks.2.hook_resid_pre`?

    hook `blocks.99.hook_resid_pre`: expected a block from 0 to 5, got 99
    hint: the model has 6 blocks, counted from 0

    `inject_at`: expected one hook of the residual stream, got `blocks.2.attn.hook_q`
    hint: such as "blocks.2.hook_resid_pre"; `hook_attn_out` and `hook_mlp_out` also work

    `inject_at`: expected one hook of the residual stream, got `blocks.*.hook_resid_pre`
    hint: such as "blocks.2.hook_resid_pre"; `hook_attn_out` and `hook_mlp_out` also work
    "#);
}

#[test]
fn trees_reject_bad_steering() {
    let steer = |hook: &str, coefficient: f64, direction: Option<Vec<f32>>| {
        Some(Steer { hook: hook.to_owned(), coefficient, direction })
    };
    let resid = "blocks.2.hook_resid_pre";
    let errors = failures(&[
        &|o| o.steer = steer("blocks.2.attn.hook_q", 1.0, None),
        &|o| o.steer = steer("blocks.99.hook_resid_pre", 1.0, None),
        &|o| o.steer = steer(resid, f64::NAN, None),
        &|o| o.steer = steer(resid, 1e300, None),
        &|o| o.steer = steer(resid, 1.0, Some(vec![1.0])),
        &|o| o.steer = steer(resid, 1.0, Some(vec![f32::NAN; 192])),
        &|o| o.steer = steer(resid, 1e38, Some(vec![1e30; 192])),
    ]);
    insta::assert_snapshot!(errors, @r#"
    `steer`: expected one hook of the residual stream, got `blocks.2.attn.hook_q`
    hint: such as "blocks.2.hook_resid_pre"; `hook_attn_out` and `hook_mlp_out` also work

    hook `blocks.99.hook_resid_pre`: expected a block from 0 to 5, got 99
    hint: the model has 6 blocks, counted from 0

    the coefficient of `steer`: expected a number that f32 can hold, got NaN
    hint:

    the coefficient of `steer`: expected a number that f32 can hold, got 1e300
    hint:

    the direction of `steer`: expected d_model = 192 values, got 1
    hint:

    the direction of `steer`: expected finite numbers, got NaN
    hint:

    the model's logits are not finite: the injected vector or the steering may be too large, or the weights are broken
    hint: check the checkpoint: a weight that is not finite, or a wrong dtype, spreads to every later layer
    "#);
}

#[test]
fn trees_reject_vectors_of_other_models() {
    let (model, vector) = early_feature(624);
    let (other, sae) = text_model("gpt2_text");
    let narrow = feature_vector(&other, &sae, 1, &VectorOptions::default()).unwrap();
    let characters = Model::load(&fixture("models/gpt2")).unwrap();
    let no_tokenizer = FeatureVector {
        direction: vec![1.0; characters.cfg().d_model],
        origin: vec![0.0; characters.cfg().d_model],
        vector: vec![1.0; characters.cfg().d_model],
        ..narrow.clone()
    };
    let run = Progress::default();
    insta::assert_snapshot!(failure(definition_tree(&model, &narrow, &options(), &run)), @r#"
    the vector has 32 values, `demo` has d_model = 192
    hint: use a vector with the model that it was made for
    "#);
    let refused = failure(definition_tree(&characters, &no_tokenizer, &options(), &run));
    assert!(refused.contains("has no tokenizer"), "{refused}");
    assert!(definition_trees(&model, &[], &options(), &run).unwrap().is_empty());
    run.cancel();
    let canceled = definition_tree(&model, &vector, &options(), &run);
    assert!(matches!(canceled, Err(Error::Interrupted)));
}

/// A tree may fill the context, and never exceeds it.
#[test]
fn a_tree_may_fill_the_context() {
    let (model, vector) = early_feature(624);
    let n_ctx = model.cfg().n_ctx;
    let prompt = |words: usize| " a".repeat(words) + " {} is a";
    let len = |words: usize| model.to_tokens(&prompt(words).replace("{}", ""), None).unwrap().len() + 1;
    let fills = n_ctx - len(0);
    for left in 0..3 {
        let options = TreeOptions { prompt: prompt(fills - left), cutoff: 1e-3, ..options() };
        let tree = definition_tree(&model, &vector, &options, &Progress::default()).unwrap();
        assert!(tree.depth() <= left + 1 && !tree.is_empty(), "{left} left: {}", tree.depth());
    }
}
