//! `saescope extract`: a feature dataset without a script.

use super::flags::Flags;
use super::source::SourceArguments;
use crate::error::Result;
use crate::extract::{ExtractOptions, ExtractSummary};
use crate::feature_dataset::create_feature_dataset;
use crate::progress::Progress;
use clap::Args;

/// The flags: every option of `create_feature_dataset` under its name.
#[derive(Args)]
pub(super) struct ExtractArguments {
    #[command(flatten)]
    source: SourceArguments,
    #[command(flatten)]
    options: Flags<ExtractOptions>,
}

impl ExtractArguments {
    /// Loads the model and the SAE and runs the extraction.
    pub(super) fn run(self, progress: &Progress) -> Result<ExtractSummary> {
        let (model, sae) = self.source.load(progress)?;
        create_feature_dataset(&model, &sae, None, &self.options.0, progress)
    }
}
