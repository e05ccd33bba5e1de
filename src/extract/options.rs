//! The options of an extraction.

use crate::dataset::{Dataset, DatasetOptions};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::progress::Progress;
use crate::sae::Sae;
use saescope_options::{option_words, options};
use serde::{Deserialize, Serialize};

/// The length of a context, in tokens, if neither the options nor the SAE set it. Current models allow up to a hundred
/// times as many, but would need the memory for them.
pub(crate) const USUAL_CONTEXT: usize = 1024;

options! {
    /// Options of [`create_feature_dataset`](crate::create_feature_dataset), with the same names in Rust, in scripts and on the command line.
    pub struct ExtractOptions {
        /// The documents: a file, a folder, a glob, a dataset on the hub, or "demo".
        pub dataset_path: String = String::new(),
        /// The column that contains the text. Default: "text".
        pub text_column: String = "text".to_owned(),
        /// The split of a repository, or of a folder laid out like one. Default: "train".
        pub split: Option<String> = None,
        /// The configuration of a repository that has several. Default: the repository's own default.
        pub config: Option<String> = None,
        /// The branch, tag or commit of a dataset on the hub. Default: its main branch.
        pub dataset_revision: Option<String> = None,
        /// The separator of `.csv` and `.tsv` files. Default: the one in the dataset's card, otherwise "," and tab.
        pub sep: Option<String> = None,
        /// The number of damaged rows to skip, each with a warning that names its line, before one is an error. A row
        /// without text is not damaged: it is an empty document. Default: 0.
        pub max_bad_rows: u64 = 0,
        /// The file to write, as JSON lines.
        pub output_path: String = String::new(),
        /// The maximum number of documents. Default: all.
        pub max_examples: Option<u64> = None,
        /// Activations are kept if their magnitude is greater than this. Default: 0.
        pub activation_threshold: f64 = 0.0,
        /// The maximum number of contexts in one forward pass, which is also limited to about 1,024 tokens, or 16,384 on a
        /// GPU. Changes speed and memory; on the CPU, not the result. Default: 64.
        pub batch_size: usize = 64,
        /// The length of a context in tokens, BOS included. Default: the SAE's, otherwise 1024; at most the model's.
        pub context_size: Option<usize> = None,
        /// Whether each context begins with a BOS. Default: as the SAE was trained.
        pub prepend_bos: Option<bool> = None,
        /// Whether a document longer than a context is split or truncated: "split" or "truncate". Default: "split".
        pub long_documents: LongDocuments = LongDocuments::default(),
        /// Whether a context contains one document or a slice of all of them: "documents" or "concatenate". Default:
        /// "documents".
        pub packing: Packing = Packing::default(),
    }
}

option_words!(LongDocuments, Packing);

/// The treatment of a document longer than a context.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LongDocuments {
    /// The document becomes several consecutive records.
    #[default]
    Split,
    /// The first context becomes a record, the rest is dropped.
    Truncate,
}

/// The contents of a context.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Packing {
    /// One document, or a part of one.
    #[default]
    Documents,
    /// Documents end to end without separators, cut into contexts of equal length; the incomplete last one is dropped.
    /// TransformerLens 2's `tokenize_and_concatenate` does the same for GPT-2, except that it also splits some words,
    /// because it tokenizes twentieths of the joined text.
    Concatenate,
}

/// The checked options, with the defaults that depend on the model and the SAE filled in.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct ContextOptions {
    /// The length of a context in tokens, BOS included.
    pub(crate) context_size: usize,
    /// Whether each context begins with a BOS.
    pub(crate) prepend_bos: bool,
    /// The BOS of the model, if it has one.
    pub(crate) bos: Option<u32>,
    /// The number of tokens in the model's embedding.
    pub(crate) d_vocab: usize,
    pub(crate) long_documents: LongDocuments,
    pub(crate) packing: Packing,
}

impl ExtractOptions {
    /// Returns the dataset of a run: the open one, or else the one that the options name.
    pub(crate) fn dataset(&self, open: Option<&Dataset>, progress: &Progress) -> Result<Dataset> {
        match open {
            None if self.dataset_path.is_empty() => {
                Err(Error::invalid("`dataset_path`", "a path", "none").with_hint("it has no default"))
            }
            None => Dataset::open_with(&self.dataset_path, &self.of_dataset(), progress),
            Some(dataset) => {
                if !self.dataset_path.is_empty() || self.of_dataset() != DatasetOptions::default() {
                    let message = "`dataset_path`, `text_column`, `split`, `config`, `dataset_revision`, `sep` and \
                                   `max_bad_rows` have no effect on a dataset that is already open";
                    let hint = "pass them to open_dataset, or pass no open dataset";
                    return Err(Error::mismatch(message, hint));
                }
                Ok(dataset.clone())
            }
        }
    }

    /// The options of the dataset, without its path.
    fn of_dataset(&self) -> DatasetOptions {
        DatasetOptions {
            text_column: self.text_column.clone(),
            split: self.split.clone(),
            config: self.config.clone(),
            revision: self.dataset_revision.clone(),
            sep: self.sep.clone(),
            max_bad_rows: self.max_bad_rows,
        }
    }

    /// Checks the options against each other, the model and the SAE.
    pub(crate) fn contexts(&self, model: &Model, sae: &Sae) -> Result<ContextOptions> {
        if !(self.activation_threshold.is_finite() && self.activation_threshold >= 0.0) {
            let got = self.activation_threshold;
            return Err(Error::invalid("`activation_threshold`", "0 or more", got));
        }
        if self.batch_size == 0 {
            return Err(Error::invalid("`batch_size`", "at least 1", 0));
        }
        if self.max_examples == Some(0) {
            return Err(Error::invalid("`max_examples`", "at least 1", 0));
        }
        let prepend_bos = self.prepend_bos.unwrap_or(sae.cfg().prepend_bos);
        let bos = match model.bos() {
            Ok(bos) => Some(bos),
            Err(error) if prepend_bos => return Err(error),
            Err(_) => None,
        };
        let n_ctx = model.cfg().n_ctx;
        let context = match self.context_size {
            Some(n) if n > n_ctx => {
                return Err(Error::invalid(
                    "`context_size`",
                    format!("at most the model's n_ctx = {n_ctx}"),
                    n,
                ));
            }
            Some(n) => n,
            None => sae.cfg().context_size.unwrap_or(USUAL_CONTEXT).min(n_ctx),
        };
        if context <= usize::from(prepend_bos) {
            let least = if prepend_bos { "at least 2: a BOS and a token" } else { "at least 1" };
            return Err(Error::invalid("`context_size`", least, context));
        }
        let (long_documents, packing) = (self.long_documents, self.packing);
        let d_vocab = model.cfg().d_vocab;
        Ok(ContextOptions { context_size: context, prepend_bos, bos, d_vocab, long_documents, packing })
    }
}
