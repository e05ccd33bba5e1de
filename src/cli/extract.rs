//! `saescope extract`: a feature dataset without a script.

use super::source::SourceArguments;
use crate::error::Result;
use crate::extract::{ExtractOptions, ExtractSummary, LongDocuments, Packing};
use crate::feature_dataset::create_feature_dataset;
use crate::progress::Progress;
use clap::{Args, ValueEnum};

/// The flags: every option of `create_feature_dataset` under its name.
#[derive(Args)]
pub(super) struct ExtractArguments {
    #[command(flatten)]
    source: SourceArguments,
    /// The documents: a file, a folder, a glob, a dataset on the hub, or "demo"
    #[arg(long, visible_alias = "dataset", value_name = "PATH")]
    dataset_path: String,
    /// The JSON Lines file to write
    #[arg(long, visible_alias = "output", value_name = "FILE")]
    output_path: String,
    /// The column that holds the text
    #[arg(long, default_value = "text")]
    text_column: String,
    /// The split of a repository, or of a folder with the layout of one [default: train]
    #[arg(long)]
    split: Option<String>,
    /// The configuration, if the repository has several
    #[arg(long, value_name = "NAME")]
    config: Option<String>,
    /// The branch, tag or commit of a dataset on the hub [default: its main branch]
    #[arg(long, value_name = "REVISION")]
    dataset_revision: Option<String>,
    /// The separator of a .csv or .tsv file [default: from the dataset card, else comma or tab]
    #[arg(long, value_name = "CHAR")]
    sep: Option<String>,
    /// The number of damaged rows to skip, with a warning each, before one is an error
    #[arg(long, value_name = "N", default_value_t = 0)]
    max_bad_rows: u64,
    /// The maximum number of documents [default: all]
    #[arg(long, value_name = "N")]
    max_examples: Option<u64>,
    /// Keep activations whose absolute value is above this
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true)]
    activation_threshold: f64,
    /// The maximum number of contexts per forward pass; affects speed and memory, not the result
    #[arg(long, value_name = "N", default_value_t = ExtractOptions::default().batch_size)]
    batch_size: usize,
    /// The length of a context in tokens, including BOS [default: the SAE's, at most the model's]
    #[arg(long, value_name = "N")]
    context_size: Option<usize>,
    /// Whether each context starts with a BOS token [default: as in the SAE's training]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    prepend_bos: Option<bool>,
    /// What to do with a document that is longer than a context
    #[arg(long, value_enum, default_value_t = Long::Split)]
    long_documents: Long,
    /// Whether a context holds one document or a part of all documents concatenated
    #[arg(long, value_enum, default_value_t = Pack::Documents)]
    packing: Pack,
}

#[derive(Clone, Copy, ValueEnum)]
enum Long {
    Split,
    Truncate,
}

#[derive(Clone, Copy, ValueEnum)]
enum Pack {
    Documents,
    Concatenate,
}

impl ExtractArguments {
    /// Loads the model and the SAE and runs the extraction.
    pub(super) fn run(self, progress: &Progress) -> Result<ExtractSummary> {
        let (model, sae) = self.source.load(progress)?;
        let options = ExtractOptions {
            dataset_path: self.dataset_path,
            text_column: self.text_column,
            split: self.split,
            config: self.config,
            dataset_revision: self.dataset_revision,
            sep: self.sep,
            max_bad_rows: self.max_bad_rows,
            output_path: self.output_path,
            max_examples: self.max_examples,
            activation_threshold: self.activation_threshold,
            batch_size: self.batch_size,
            context_size: self.context_size,
            prepend_bos: self.prepend_bos,
            long_documents: match self.long_documents {
                Long::Split => LongDocuments::Split,
                Long::Truncate => LongDocuments::Truncate,
            },
            packing: match self.packing {
                Pack::Documents => Packing::Documents,
                Pack::Concatenate => Packing::Concatenate,
            },
        };
        create_feature_dataset(&model, &sae, None, &options, progress)
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::tests::{check_flags, names_of};
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        arguments: ExtractArguments,
    }

    #[test]
    fn every_option_is_a_flag_with_the_same_default() {
        let options = serde_json::to_value(ExtractOptions::default()).unwrap();
        let command = <Only as clap::CommandFactory>::command();
        check_flags(&command, &names_of(&options));
        for (name, default) in options.as_object().unwrap() {
            let flag = command.get_arguments().find(|a| a.get_id() == name.as_str()).unwrap();
            if let Some(value) = flag.get_default_values().first() {
                let value = value.to_string_lossy();
                let same = match default {
                    serde_json::Value::String(text) => *text == value,
                    other => other.as_f64() == value.parse().ok(),
                };
                assert!(same, "{name}: {default} and {value}");
            }
        }
        let line =
            "x --model demo --sae demo --dataset d --output o --prepend-bos false --long-documents truncate";
        let arguments = Only::parse_from(line.split(' ')).arguments;
        assert_eq!(arguments.prepend_bos, Some(false));
        assert!(matches!(arguments.long_documents, Long::Truncate));
    }
}
