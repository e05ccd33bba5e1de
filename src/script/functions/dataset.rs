//! Datasets: `open_dataset` and loops over documents.

use super::items::{self, SkippedError};
use super::options::{self, FunctionOptions};
use super::show::ShownType;
use super::{ScriptResult, progress_of, script};
use crate::dataset::{Dataset, DatasetOptions};
use crate::progress::Progress;
use rhai::plugin::*;
use rhai::{Array, Engine, INT, Map};
use saescope_options::Options;

pub(super) const SHOWN: &[ShownType] = &[ShownType::of::<Dataset>("dataset: &mut Dataset")];
pub(super) const OPTIONS: &[FunctionOptions] = &[("open_dataset", DatasetOptions::fields)];

pub(super) fn register(engine: &mut Engine, progress: &Progress, skipped: &SkippedError) {
    engine.register_global_module(exported_module!(functions).into());
    let progress = progress.clone();
    items::register(engine, skipped, move |dataset: Dataset| dataset.documents(&progress));
}

#[export_module]
mod functions {
    /// A set of documents: files, a dataset on the hub, or the demo.
    pub type Dataset = crate::dataset::Dataset;

    /// Opens a dataset: a file, a folder or a glob of files (.parquet .arrow .jsonl .json .csv .tsv .txt, the last five
    /// also compressed with gzip, zstd, bzip2 or xz), a hub dataset as `owner/name`, or "demo". A hub dataset, a folder
    /// laid out like one or one written by Python's `save_to_disk` is read as one split.
    /// `for text in dataset { … }` reads the documents one at a time.
    ///
    /// ```rhai
    /// let dataset = open_dataset("demo");
    /// for text in dataset {
    ///     print(text);
    ///     break;
    /// }
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn open_dataset(context: NativeCallContext, path: &str, options: Map) -> ScriptResult<Dataset> {
        script(Dataset::open_with(path, &options::parse(options)?, &progress_of(&context)))
    }

    /// The first `n` documents of a dataset, as an array of strings.
    ///
    /// ```rhai
    /// print(open_dataset("demo").take(2));
    /// ```
    #[rhai_fn(global, pure, return_raw, volatile)]
    pub fn take(context: NativeCallContext, dataset: &mut Dataset, n: INT) -> ScriptResult<Array> {
        items::take(dataset.documents(&progress_of(&context)), n)
    }
}
