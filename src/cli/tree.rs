//! `saescope tree`: what a model says that a feature means.

use super::shown;
use super::source::SourceArguments;
use super::vector::{VectorArguments, word};
use crate::error::Result;
use crate::interpret::{Injection, Steer, TreeOptions, definition_tree, feature_vector};
use crate::progress::Progress;
use clap::{ArgAction, Args};
use std::path::PathBuf;

/// The flags: every option of `feature_vector` and `definition_tree` under its name.
#[derive(Args)]
pub(super) struct TreeArguments {
    #[command(flatten)]
    source: SourceArguments,
    /// Which feature
    #[arg(long, value_name = "INDEX")]
    feature: usize,
    #[command(flatten)]
    vector: VectorArguments,
    #[command(flatten)]
    tree: GrowArguments,
    /// The file to write; its ending says how [default: text in the terminal]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Every option of `definition_tree` under its name.
#[derive(Args)]
struct GrowArguments {
    /// What the model is asked: a text with {} where the feature is, or definition, meaning, repeat or patchscope
    #[arg(long, value_name = "TEXT", default_value = "definition")]
    prompt: String,
    /// The most children of a node
    #[arg(long, value_name = "N", default_value_t = TreeOptions::default().top_k)]
    top_k: usize,
    /// The least probability of a node
    #[arg(long, value_name = "P", default_value_t = TreeOptions::default().cutoff)]
    cutoff: f64,
    /// The most tokens of a definition
    #[arg(long, value_name = "N", default_value_t = TreeOptions::default().max_depth)]
    max_depth: usize,
    /// A text that ends a definition; several with the flag for each, none with the flag alone [default: the quotation
    /// mark that the prompt opens, else a line break]
    #[arg(long, value_name = "TEXT", num_args = 0..=1, action = ArgAction::Append)]
    stop: Option<Vec<String>>,
    /// Whether a BOS goes in front of the prompt [default: as the model has it]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    prepend_bos: Option<bool>,
    /// Adds the feature's decoder direction at a hook, as blocks.3.hook_resid_post=8 [default: none]
    #[arg(long, value_name = "HOOK=X", value_parser = steer)]
    steer: Option<Steer>,
    /// The hook at which the vector goes in [default: the embedding]
    #[arg(long, value_name = "HOOK")]
    inject_at: Option<String>,
    /// What happens to the activation there: replace, add or norm_matched
    #[arg(long, value_parser = word::<Injection>, default_value = "replace")]
    inject: Injection,
    /// The token that is at the vector's place before [default: none, the mean of all tokens]
    #[arg(long, value_name = "TOKEN")]
    placeholder: Option<String>,
    /// With how many random directions the tree is compared, beside the mean of all tokens [default: no comparison]
    #[arg(long, value_name = "N")]
    null_directions: Option<usize>,
    /// Of the random directions
    #[arg(long, value_name = "N", default_value_t = TreeOptions::default().seed)]
    seed: u64,
    /// The most memory for keys, values and logits, in MiB; changes the speed, not the tree
    #[arg(long, value_name = "MIB", default_value_t = TreeOptions::default().max_memory)]
    max_memory: usize,
}

impl TreeArguments {
    /// Grows the tree; what to print.
    pub(super) fn run(self, progress: &Progress) -> Result<String> {
        let TreeArguments { source, feature, vector, tree, output } = self;
        let (model, sae) = source.load(progress)?;
        let vector = feature_vector(&model, &sae, feature, &vector.into())?;
        let tree = definition_tree(&model, &vector, &tree.into(), progress)?;
        shown(&tree, output.as_deref())
    }
}

impl From<GrowArguments> for TreeOptions {
    fn from(arguments: GrowArguments) -> Self {
        TreeOptions {
            prompt: arguments.prompt,
            top_k: arguments.top_k,
            cutoff: arguments.cutoff,
            max_depth: arguments.max_depth,
            stop: arguments.stop,
            prepend_bos: arguments.prepend_bos,
            steer: arguments.steer,
            inject_at: arguments.inject_at,
            inject: arguments.inject,
            placeholder: arguments.placeholder,
            null_directions: arguments.null_directions,
            seed: arguments.seed,
            max_memory: arguments.max_memory,
        }
    }
}

/// `blocks.3.hook_resid_post=8`.
fn steer(text: &str) -> Result<Steer, String> {
    let wrong = || "expected a hook and a number, as in blocks.3.hook_resid_post=8".to_owned();
    let (hook, coefficient) = text.split_once('=').ok_or_else(wrong)?;
    let coefficient = coefficient.parse().map_err(|_| wrong())?;
    Ok(Steer { hook: hook.to_owned(), coefficient, direction: None })
}

#[cfg(test)]
mod tests {
    use super::super::source::tests::{check_flags, names_of};
    use super::*;
    use clap::{CommandFactory, Parser};

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        arguments: GrowArguments,
    }

    fn options(line: &str) -> TreeOptions {
        Only::parse_from(line.split(' ')).arguments.into()
    }

    #[test]
    fn every_option_is_a_flag_with_the_same_default() {
        check_flags(&Only::command(), &names_of(&TreeOptions::default()));
        assert_eq!(options("x"), TreeOptions::default());
    }

    #[test]
    fn stops_and_steering_are_typed_in_one_word() {
        assert_eq!(options("x --stop").stop, Some(vec![]));
        assert_eq!(options("x --stop . --stop \"").stop, Some(vec![".".to_owned(), "\"".to_owned()]));
        let steer = options("x --steer blocks.3.hook_resid_post=-8").steer.unwrap();
        assert_eq!((steer.hook.as_str(), steer.coefficient), ("blocks.3.hook_resid_post", -8.0));
        assert!(Only::try_parse_from("x --steer blocks.3.hook_resid_post".split(' ')).is_err());
    }
}
