//! `saescope tokens`: the tokens nearest to a feature.

use super::source::SourceArguments;
use super::vector::{VectorArguments, word};
use super::{check_destination, shown};
use crate::error::Result;
use crate::interpret::{TokenFilter, TokenListOptions, TokenMethod, TokenOrder, feature_vector, token_list};
use crate::progress::Progress;
use clap::Args;
use std::path::PathBuf;

/// The flags: every option of `feature_vector` and `token_list` under its name.
#[derive(Args)]
pub(super) struct TokensArguments {
    #[command(flatten)]
    source: SourceArguments,
    /// The feature's index
    #[arg(long, value_name = "INDEX")]
    feature: usize,
    #[command(flatten)]
    vector: VectorArguments,
    #[command(flatten)]
    list: ListArguments,
    /// The file to write; its extension sets the format [default: a table in the terminal]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Every option of `token_list` under its name.
#[derive(Args)]
struct ListArguments {
    /// How tokens are scored: ratio, centered_cosine, logit_lens or logit_lens_raw
    #[arg(long, value_parser = word::<TokenMethod>, default_value = "ratio")]
    method: TokenMethod,
    /// For ratio: the weight of closeness to the vector relative to distance from the mean token
    #[arg(long, value_name = "X", default_value_t = TokenListOptions::default().exponent, allow_negative_numbers = true)]
    exponent: f64,
    /// The number of tokens to list
    #[arg(long, visible_alias = "top", value_name = "N", default_value_t = TokenListOptions::default().top_k)]
    top_k: usize,
    /// Which tokens to keep: none (no filter), no_special or word_like
    #[arg(long, value_parser = word::<TokenFilter>, default_value = "none")]
    filter: TokenFilter,
    /// Which end of the list to show: nearest or farthest
    #[arg(long, value_parser = word::<TokenOrder>, default_value = "nearest")]
    order: TokenOrder,
}

impl TokensArguments {
    /// Lists the tokens and returns the text to print.
    pub(super) fn run(self, progress: &Progress) -> Result<String> {
        let TokensArguments { source, feature, vector, list, output } = self;
        let (model, sae) = source.load(progress)?;
        check_destination(output.as_deref(), &model, &sae)?;
        let vector = feature_vector(&model, &sae, feature, &vector.into())?;
        shown(&token_list(&model, &vector, &list.into())?, output.as_deref())
    }
}

impl From<ListArguments> for TokenListOptions {
    fn from(arguments: ListArguments) -> Self {
        let ListArguments { method, exponent, top_k, filter, order } = arguments;
        TokenListOptions { method, exponent, top_k, filter, order }
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::tests::{check_flags, names_of};
    use super::*;
    use clap::{CommandFactory, Parser};

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        arguments: ListArguments,
    }

    #[test]
    fn every_option_is_a_flag_with_the_same_default() {
        check_flags(&Only::command(), &names_of(&TokenListOptions::default()));
        let options: TokenListOptions = Only::parse_from(["x"]).arguments.into();
        assert_eq!(options, TokenListOptions::default());
        let error = Only::try_parse_from(["x", "--method", "rato"]).err().unwrap().to_string();
        assert!(error.contains("`ratio`, `centered_cosine`"), "{error}");
    }
}
