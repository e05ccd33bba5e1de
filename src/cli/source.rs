//! The flags of commands that load a model and an SAE.

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
    /// The branch, tag or commit of the model's repository on the hub [default: main]
    #[arg(long, value_name = "REVISION")]
    model_revision: Option<String>,
    /// The SAE: a release that `saescope saes` lists, a hub repository, a folder, a file, or "demo"
    #[arg(long)]
    sae: String,
    /// Which SAE, if --sae names several: an id of the release, or a path in the repository or folder
    #[arg(long)]
    sae_id: Option<String>,
    /// The branch, tag or commit of the SAE's repository on the hub [default: main]
    #[arg(long, value_name = "REVISION")]
    sae_revision: Option<String>,
    /// A newer pretrained_saes.yaml of SAELens to look --sae up in [default: the built-in one]
    #[arg(long, value_name = "FILE")]
    registry: Option<String>,
    /// The hook that the SAE reads [default: as its checkpoint says]
    #[arg(long, help_heading = CHECKPOINT)]
    hook_name: Option<String>,
    /// The hook whose activation a transcoder predicts [default: as its checkpoint says]
    #[arg(long, help_heading = CHECKPOINT)]
    hook_name_out: Option<String>,
    /// The layout of the SAE's checkpoint, by SAELens' name [default: detected from the files]
    #[arg(long, value_name = "LAYOUT", help_heading = CHECKPOINT)]
    conversion: Option<String>,
    /// Whether to fold the norms of the decoder's rows into the encoder [default: depends on the layout]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", help_heading = CHECKPOINT)]
    fold_decoder_norm: Option<bool>,
    /// The norm scaling factor of an expected_average_only_in SAE [default: as its checkpoint says]
    #[arg(long, value_name = "X", help_heading = CHECKPOINT)]
    norm_scaling_factor: Option<f64>,
    /// Whether the SAE reads the residual stream minus its mean [default: as its checkpoint says]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", help_heading = CHECKPOINT)]
    center_writing_weights: Option<bool>,
    /// Whether the SAE reads hook_z and hook_v minus the value bias [default: as its checkpoint says]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", help_heading = CHECKPOINT)]
    fold_value_biases: Option<bool>,
    /// Whether the value bias includes the norm's bias [default: as its checkpoint says]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", help_heading = CHECKPOINT)]
    fold_ln: Option<bool>,
}

/// The heading of the flags that most SAEs do not need.
const CHECKPOINT: &str = "Overrides for the SAE's checkpoint";

impl SourceArguments {
    /// Loads the model and the SAE.
    pub(super) fn load(self, progress: &Progress) -> Result<(Model, Sae)> {
        let model_options = ModelOptions { revision: self.model_revision };
        let model = Model::load_with(&self.model, &model_options, progress)?;
        let sae_options = SaeOptions {
            revision: self.sae_revision,
            registry: self.registry,
            hook_name: self.hook_name,
            hook_name_out: self.hook_name_out,
            conversion: self.conversion,
            fold_decoder_norm: self.fold_decoder_norm,
            norm_scaling_factor: self.norm_scaling_factor,
            center_writing_weights: self.center_writing_weights,
            fold_value_biases: self.fold_value_biases,
            fold_ln: self.fold_ln,
        };
        let sae = Sae::load_with(&self.sae, self.sae_id.as_deref(), &sae_options, progress)?;
        Ok((model, sae))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use clap::{Command, CommandFactory, Parser};
    use serde::Serialize;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        arguments: SourceArguments,
    }

    /// The names of the options in a struct.
    pub fn names_of(options: &impl Serialize) -> Vec<String> {
        serde_json::to_value(options).unwrap().as_object().unwrap().keys().cloned().collect()
    }

    /// Asserts that every name is a flag.
    #[track_caller]
    pub fn check_flags(command: &Command, names: &[String]) {
        for name in names {
            let flag = command.get_arguments().find(|a| a.get_id() == name.as_str());
            let flag = flag.unwrap_or_else(|| panic!("no flag for the option `{name}`"));
            assert_eq!(flag.get_long().map(str::to_owned), Some(name.replace('_', "-")));
        }
    }

    #[test]
    fn every_option_of_a_model_and_an_sae_is_a_flag() {
        // Both have a `revision`, so its flags have a prefix.
        let of_model = names_of(&ModelOptions::default()).into_iter().map(|name| format!("model_{name}"));
        let of_sae = names_of(&SaeOptions::default()).into_iter();
        let of_sae = of_sae.map(|name| if name == "revision" { format!("sae_{name}") } else { name });
        check_flags(&Only::command(), &of_model.chain(of_sae).collect::<Vec<_>>());
        let arguments = Only::parse_from("x --model demo --sae demo --fold-ln false".split(' ')).arguments;
        assert_eq!(arguments.fold_ln, Some(false));
        arguments.load(&Progress::default()).unwrap();
    }
}
