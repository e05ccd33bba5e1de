//! `saescope tree`: the definition tree of a feature.

use super::source::SourceArguments;
use super::vector::{VectorArguments, word};
use super::{check_destination, shown};
use crate::error::{Error, Result};
use crate::interpret::{
    Injection, Scales, Steer, TreeOptions, VectorOptions, WriteTreesOptions, definition_tree, feature_vector,
    scale_sweep, write_definition_trees,
};
use crate::progress::Progress;
use clap::{ArgAction, Args};
use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;

/// The flags: every option of `feature_vector` and `definition_tree` under its name.
#[derive(Args)]
pub(super) struct TreeArguments {
    #[command(flatten)]
    source: SourceArguments,
    /// The feature's index; several (1,2,3 or 10..20 or all) need an --output that ends in .jsonl
    #[arg(long, visible_alias = "features", value_name = "INDEX")]
    feature: FeatureList,
    #[command(flatten)]
    vector: VectorArguments,
    #[command(flatten)]
    tree: GrowArguments,
    /// Several scales, such as 0.5,1,2, or auto; the best one is used [default: only --scale]
    #[arg(long, value_name = "X,X", value_parser = scales, conflicts_with = "scale", allow_hyphen_values = true)]
    scales: Option<Scales>,
    /// The file to write; its extension sets the format [default: text in the terminal]
    #[arg(long, visible_alias = "output-path", value_name = "FILE")]
    output: Option<PathBuf>,
    /// The number of features to process together; affects speed and memory, not the trees
    #[arg(long, value_name = "N", default_value_t = WriteTreesOptions::default().batch_size)]
    batch_size: usize,
    /// Whether to keep the trees that an earlier run with the same options wrote to the .jsonl file
    #[arg(long, value_name = "BOOL", num_args = 0..=1, action = ArgAction::Set, default_value_t = true, default_missing_value = "true")]
    resume: bool,
}

/// The requested features.
#[derive(Debug, Clone, PartialEq, Eq)]
enum FeatureList {
    All,
    Given(Vec<Range<usize>>),
}

impl FeatureList {
    /// The indices, at most `d_sae + 1` of each range: a longer range still has an invalid one, which is refused later.
    fn indices(self, d_sae: usize) -> Vec<usize> {
        match self {
            FeatureList::All => (0..d_sae).collect(),
            FeatureList::Given(ranges) => {
                ranges.into_iter().flat_map(|range| range.take(d_sae + 1)).collect()
            }
        }
    }
}

impl FromStr for FeatureList {
    type Err = String;

    /// Parses `all`, `624`, or comma-separated indices and ranges such as `1,2,10..20`.
    fn from_str(text: &str) -> Result<Self, String> {
        if text == "all" {
            return Ok(FeatureList::All);
        }
        let number = |text: &str| {
            let number =
                text.parse::<u32>().map_err(|_| format!("expected an index, 0 or more, got `{text}`"));
            number.map(|number| number as usize)
        };
        let range = |part: &str| match part.split_once("..") {
            None => number(part).map(|feature| feature..feature + 1),
            Some((first, end)) => Ok(number(first)?..number(end)?),
        };
        text.split(',').map(range).collect::<Result<_, _>>().map(FeatureList::Given)
    }
}

/// Every option of `definition_tree` under its name.
#[derive(Args)]
struct GrowArguments {
    /// The prompt: text with {} for the feature, or definition, meaning, repeat or patchscope
    #[arg(long, value_name = "TEXT", default_value = "definition")]
    prompt: String,
    /// The maximum number of children of a node
    #[arg(long, value_name = "N", default_value_t = TreeOptions::default().top_k)]
    top_k: usize,
    /// The minimum probability of a node
    #[arg(long, value_name = "P", default_value_t = TreeOptions::default().cutoff)]
    cutoff: f64,
    /// The maximum number of tokens in a definition
    #[arg(long, value_name = "N", default_value_t = TreeOptions::default().max_depth)]
    max_depth: usize,
    /// A string that ends a definition; repeat the flag for several, give it no value for none [default: the quotation
    /// mark that the prompt opens, else a line break]
    #[arg(long, value_name = "TEXT", num_args = 0..=1, action = ArgAction::Append)]
    stop: Option<Vec<String>>,
    /// Whether the prompt starts with a BOS token [default: as the model does]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    prepend_bos: Option<bool>,
    /// Add the feature's decoder direction at a hook, such as blocks.3.hook_resid_post=8 [default: none]
    #[arg(long, value_name = "HOOK=X", value_parser = steer)]
    steer: Option<Steer>,
    /// The hook at which the vector is injected [default: the embedding]
    #[arg(long, value_name = "HOOK")]
    inject_at: Option<String>,
    /// How the vector is combined with the activation there: replace, add or norm_matched
    #[arg(long, value_parser = word::<Injection>, default_value = "replace")]
    inject: Injection,
    /// The token at the vector's position before the injection [default: none, the mean of all tokens]
    #[arg(long, value_name = "TOKEN")]
    placeholder: Option<String>,
    /// Compare the tree with this many random directions and the mean of all tokens [default: no comparison]
    #[arg(long, value_name = "N")]
    null_directions: Option<usize>,
    /// The seed of the random directions
    #[arg(long, value_name = "N", default_value_t = TreeOptions::default().seed)]
    seed: u64,
    /// The memory limit for keys, values and logits in MiB; affects speed, not the tree
    #[arg(long, value_name = "MIB", default_value_t = TreeOptions::default().max_memory)]
    max_memory: usize,
}

impl TreeArguments {
    /// Grows the tree or trees and returns the text to print.
    pub(super) fn run(self, progress: &Progress) -> Result<String> {
        let TreeArguments { source, feature, vector, tree, scales, output, batch_size, resume } = self;
        let (model, sae) = source.load(progress)?;
        let (vector, tree): (VectorOptions, TreeOptions) = (vector.into(), tree.into());
        let features = feature.indices(sae.cfg().d_sae);
        let lines = output.as_ref().filter(|path| path.extension().is_some_and(|end| end == "jsonl"));
        if let Some(path) = lines {
            let output_path = path.to_string_lossy().into_owned();
            let options = WriteTreesOptions { output_path, batch_size, resume, scales, vector, tree };
            return Ok(write_definition_trees(&model, &sae, &features, &options, progress)?.to_string());
        }
        check_destination(output.as_deref(), &model, &sae)?;
        let [feature] = features[..] else {
            let got = format!("{} features", features.len());
            let error = Error::invalid("`--feature`", "one, or an `--output` that ends in .jsonl", got);
            return Err(error.with_hint("add --output trees.jsonl, or request one feature"));
        };
        let vector = feature_vector(&model, &sae, feature, &vector)?;
        match scales {
            None => shown(&definition_tree(&model, &vector, &tree, progress)?, output.as_deref()),
            Some(scales) => {
                let sweep = scale_sweep(&model, &vector, &scales, &tree, progress)?;
                Ok(format!("{sweep}\n\n{}", shown(sweep.best(), output.as_deref())?))
            }
        }
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

/// Parses `auto` or comma-separated numbers.
fn scales(text: &str) -> Result<Scales, String> {
    if text == "auto" {
        return Ok(Scales::Auto);
    }
    let number = |text: &str| text.parse().map_err(|_| format!("expected numbers or auto, got `{text}`"));
    text.split(',').map(number).collect::<Result<_, _>>().map(Scales::Given)
}

/// Parses `blocks.3.hook_resid_post=8`.
fn steer(text: &str) -> Result<Steer, String> {
    let wrong = || "expected a hook and a number, such as blocks.3.hook_resid_post=8".to_owned();
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
    fn features_and_scales_are_lists() {
        let indices = |text: &str| text.parse::<FeatureList>().unwrap().indices(10);
        assert_eq!(indices("624"), [624]);
        assert_eq!(indices("7,3..5,1"), [7, 3, 4, 1]);
        assert_eq!(indices("0..4000000000").len(), 11);
        assert_eq!(indices("all").len(), 10);
        for wrong in ["", "-1", "1,", "a", "1..", "5000000000"] {
            assert!(wrong.parse::<FeatureList>().is_err(), "{wrong}");
        }
        assert_eq!(scales("auto"), Ok(Scales::Auto));
        assert_eq!(scales("0.5,2"), Ok(Scales::Given(vec![0.5, 2.0])));
        assert!(scales("big").is_err());
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
