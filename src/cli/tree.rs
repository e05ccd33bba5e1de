//! `saescope tree`: the definition tree of a feature.

use super::flags::Flags;
use super::source::SourceArguments;
use super::{check_destination, shown};
use crate::error::{Error, Result};
use crate::interpret::{
    TreeOptions, VectorOptions, WriteTreesOptions, definition_tree, feature_vector, scale_sweep,
    write_definition_trees,
};
use crate::progress::Progress;
use clap::Args;
use std::ops::Range;
use std::path::PathBuf;
use std::str::FromStr;

/// The flags: every option of `feature_vector`, `definition_tree` and `write_definition_trees` under its name.
#[derive(Args)]
pub(super) struct TreeArguments {
    #[command(flatten)]
    source: SourceArguments,
    /// The feature's index; several (1,2,3 or 10..20 or all) need an --output that ends in .jsonl
    #[arg(long, visible_alias = "features", value_name = "INDEX")]
    feature: FeatureList,
    #[command(flatten)]
    vector: Flags<VectorOptions>,
    #[command(flatten)]
    tree: Flags<TreeOptions>,
    /// The file to write; its extension sets the format [default: text in the terminal]
    #[arg(long, visible_alias = "output-path", value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    trees: Flags<WriteTreesOptions>,
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

impl TreeArguments {
    /// Grows the tree or trees and returns the text to print.
    pub(super) fn run(self, progress: &Progress) -> Result<String> {
        let TreeArguments { source, feature, vector, tree, output, trees } = self;
        let (vector, tree, trees) = (vector.0, tree.0, trees.0);
        if trees.scales.is_some() && vector.scale.is_some() {
            return Err(Error::mismatch("--scales and --scale exclude each other", "leave one of them out"));
        }
        let (model, sae) = source.load(progress)?;
        let features = feature.indices(sae.cfg().d_sae);
        let lines = output.as_ref().filter(|path| path.extension().is_some_and(|end| end == "jsonl"));
        if let Some(path) = lines {
            let output_path = path.to_string_lossy().into_owned();
            let options = WriteTreesOptions { output_path, vector, tree, ..trees };
            return Ok(write_definition_trees(&model, &sae, &features, &options, progress)?.to_string());
        }
        check_destination(output.as_deref(), &model, &sae)?;
        let [feature] = features[..] else {
            let got = format!("{} features", features.len());
            let error = Error::invalid("`--feature`", "one, or an `--output` that ends in .jsonl", got);
            return Err(error.with_hint("add --output trees.jsonl, or request one feature"));
        };
        let vector = feature_vector(&model, &sae, feature, &vector)?;
        match trees.scales {
            None => shown(&definition_tree(&model, &vector, &tree, progress)?, output.as_deref()),
            Some(scales) => {
                let sweep = scale_sweep(&model, &vector, &scales, &tree, progress)?;
                Ok(format!("{sweep}\n\n{}", shown(sweep.best(), output.as_deref())?))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_lists_of_indices_and_ranges() {
        let indices = |text: &str| text.parse::<FeatureList>().unwrap().indices(10);
        assert_eq!(indices("624"), [624]);
        assert_eq!(indices("7,3..5,1"), [7, 3, 4, 1]);
        assert_eq!(indices("0..4000000000").len(), 11);
        assert_eq!(indices("all").len(), 10);
        for wrong in ["", "-1", "1,", "a", "1..", "5000000000"] {
            assert!(wrong.parse::<FeatureList>().is_err(), "{wrong}");
        }
    }
}
