//! The flags of commands that load a model and an SAE.

use super::flags::Flags;
use crate::error::Result;
use crate::model::{Model, ModelOptions};
use crate::progress::Progress;
use crate::sae::{Sae, SaeOptions};
use clap::Args;

/// A model and an SAE: every option of `load_model` and `load_sae` under its name.
#[derive(Args)]
pub(super) struct SourceArguments {
    /// The model: a TransformerLens name, a hub repository, a folder in the Hugging Face layout, or "demo"
    #[arg(long)]
    model: String,
    #[command(flatten)]
    model_options: Flags<ModelOptions>,
    /// The SAE: a release that `saescope saes` lists, a hub repository, a folder, a file, or "demo"
    #[arg(long)]
    sae: String,
    /// Which SAE, if --sae names several: an id of the release, or a path in the repository or folder
    #[arg(long)]
    sae_id: Option<String>,
    #[command(flatten)]
    sae_options: Flags<SaeOptions>,
}

impl SourceArguments {
    /// Loads the model and the SAE.
    pub(super) fn load(self, progress: &Progress) -> Result<(Model, Sae)> {
        let model = Model::load_with(&self.model, &self.model_options.0, progress)?;
        let sae = Sae::load_with((&self.sae, self.sae_id.as_deref()), &self.sae_options.0, progress)?;
        Ok((model, sae))
    }
}
