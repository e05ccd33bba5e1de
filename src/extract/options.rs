//! What a user may ask of an extraction.

use crate::dataset::DatasetOptions;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::sae::Sae;
use serde::{Deserialize, Serialize};

/// The length of a context, in tokens, where neither the options nor the SAE say: today's models could take a hundred times
/// as many at once, and the memory for them.
pub(super) const USUAL_CONTEXT: usize = 1024;

/// How a feature dataset is made. The same names serve Rust, scripts and the command line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExtractOptions {
    /// The documents: a file, a folder, a glob, a dataset on the hub, or "demo". No default.
    pub dataset_path: String,
    /// The column that holds the text. Default: "text".
    pub text_column: String,
    /// The split, of a repository or a folder that is laid out like one. Default: "train".
    pub split: Option<String>,
    /// The configuration, where a repository has several. Default: the one that the repository calls so.
    pub config: Option<String>,
    /// The branch, tag or commit of a dataset on the hub. Default: its main branch.
    pub dataset_revision: Option<String>,
    /// The character between the values of a `.csv` or `.tsv` file. Default: as the dataset's card says, else "," and tab.
    pub sep: Option<String>,
    /// How many damaged rows are passed over, each with a warning that names its line, before one is an error. A row
    /// without a text is not damaged: it is an empty document. Default: 0.
    pub max_bad_rows: u64,
    /// The file to write, JSON lines. No default.
    pub output_path: String,
    /// The most documents to take. Default: all.
    pub max_examples: Option<u64>,
    /// An activation is kept if it is further from 0 than this. Default: 0.
    pub activation_threshold: f64,
    /// The most contexts in one forward pass; a pass also takes no more than about 1,024 tokens. Changes the speed
    /// and the memory, not the result. Default: 64.
    pub batch_size: usize,
    /// The length of a context in tokens, BOS included. Default: the SAE's, 1024 where it does not say; at most the
    /// model's.
    pub context_size: Option<usize>,
    /// Whether each context begins with a BOS. Default: as the SAE was trained.
    pub prepend_bos: Option<bool>,
    /// What becomes of a document that is longer than a context: "split" or "truncate". Default: "split".
    pub long_documents: LongDocuments,
    /// Whether a context holds one document or a stretch of all of them: "documents" or "concatenate". Default:
    /// "documents".
    pub packing: Packing,
}

/// What becomes of a document that is longer than a context.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LongDocuments {
    /// It becomes several consecutive records.
    #[default]
    Split,
    /// Its first context becomes a record, the rest is left out.
    Truncate,
}

/// What a context holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Packing {
    /// One document, or a part of one.
    #[default]
    Documents,
    /// Documents end to end without anything between them, cut into contexts of one length; what is left at the end
    /// is dropped. This is what TransformerLens 2's `tokenize_and_concatenate` does for GPT-2, but that it also cuts
    /// words apart: it tokenizes twentieths of the joined text.
    Concatenate,
}

impl Default for ExtractOptions {
    fn default() -> Self {
        ExtractOptions {
            dataset_path: String::new(),
            text_column: "text".to_owned(),
            split: None,
            config: None,
            dataset_revision: None,
            sep: None,
            max_bad_rows: 0,
            output_path: String::new(),
            max_examples: None,
            activation_threshold: 0.0,
            batch_size: 64,
            context_size: None,
            prepend_bos: None,
            long_documents: LongDocuments::default(),
            packing: Packing::default(),
        }
    }
}

/// The options with every default that depends on the model and the SAE filled in, and checked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Contexts {
    /// The tokens of a context, BOS included.
    pub(super) context_size: usize,
    /// Whether each context begins with a BOS.
    pub(super) prepend_bos: bool,
    /// The BOS of the model, if it has one.
    pub(super) bos: Option<u32>,
    /// The number of tokens that the model's embedding has.
    pub(super) d_vocab: usize,
    pub(super) long_documents: LongDocuments,
    pub(super) packing: Packing,
}

impl ExtractOptions {
    /// What the options say of the documents but for where they are.
    pub(super) fn of_dataset(&self) -> DatasetOptions {
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
    pub(super) fn contexts(&self, model: &Model, sae: &Sae) -> Result<Contexts> {
        if !(self.activation_threshold.is_finite() && self.activation_threshold >= 0.0) {
            let got = self.activation_threshold;
            return Err(Error::invalid("`activation_threshold`", "a number from 0 up", got));
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
                    format!("at most n_ctx = {n_ctx} of the model"),
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
        Ok(Contexts { context_size: context, prepend_bos, bos, d_vocab, long_documents, packing })
    }
}
