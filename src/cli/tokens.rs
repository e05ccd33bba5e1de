//! `saescope tokens`: the tokens nearest to a feature.

use super::flags::Flags;
use super::source::SourceArguments;
use super::{check_destination, shown};
use crate::error::Result;
use crate::interpret::{TokenListOptions, VectorOptions, feature_vector, token_list};
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
    vector: Flags<VectorOptions>,
    #[command(flatten)]
    list: Flags<TokenListOptions>,
    /// The file to write; its extension sets the format [default: a table in the terminal]
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl TokensArguments {
    /// Lists the tokens and returns the text to print.
    pub(super) fn run(self, progress: &Progress) -> Result<String> {
        let TokensArguments { source, feature, vector, list, output } = self;
        let (model, sae) = source.load(progress)?;
        check_destination(output.as_deref(), &model, &sae)?;
        let vector = feature_vector(&model, &sae, feature, &vector.0)?;
        shown(&token_list(&model, &vector, &list.0)?, output.as_deref())
    }
}
