//! Datasets: `open_dataset`, and walking through one.

use super::items::{self, PassedOver};
use super::{ScriptResult, options, progress_of, script};
use crate::dataset::{Dataset, DatasetOptions};
use crate::error::Error;
use rhai::plugin::*;
use rhai::{Array, Dynamic, Engine, INT, Map};

pub(super) fn register(engine: &mut Engine, passed_over: &PassedOver) {
    engine.register_global_module(exported_module!(functions).into());
    items::register(engine, passed_over, |dataset: Dataset| {
        dataset.documents().map(|text| text.map(Dynamic::from))
    });
}

#[export_module]
mod functions {
    /// Documents in files.
    pub type Dataset = crate::dataset::Dataset;

    /// Finds documents: a file, a folder or a glob of files (.parquet .arrow .jsonl .json .csv .tsv .txt, the last five also
    /// compressed with gzip, zstd, bzip2 or xz), a dataset on the hub as `owner/name`, or "demo". Of a dataset on the hub, and
    /// of a folder that is laid out like one or that Python's `save_to_disk` has written, it is one split. Options:
    /// `text_column` ("text"), `split` ("train"), `config` (the repository's default), `revision`, `sep` (of a CSV file, as
    /// its card says or ","), `max_bad_rows` (0: a damaged row is an error; a row without a text is an empty document).
    /// `for text in dataset { … }` walks through the documents, one at a time.
    ///
    /// ```rhai
    /// let dataset = open_dataset("demo");
    /// for text in dataset {
    ///     print(text);
    ///     break;
    /// }
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn open_dataset(context: NativeCallContext, path: &str) -> ScriptResult<Dataset> {
        script(Dataset::open_with(path, &DatasetOptions::default(), &progress_of(&context)))
    }

    #[rhai_fn(name = "open_dataset", return_raw, volatile)]
    pub fn open_dataset_with(context: NativeCallContext, path: &str, options: Map) -> ScriptResult<Dataset> {
        script(Dataset::open_with(path, &options::parse(options)?, &progress_of(&context)))
    }

    /// The first documents of a dataset, an array of texts.
    ///
    /// ```rhai
    /// print(open_dataset("demo").take(2));
    /// ```
    #[rhai_fn(global, pure, return_raw, volatile)]
    pub fn take(dataset: &mut Dataset, n: INT) -> ScriptResult<Array> {
        let n = usize::try_from(n).map_err(|_| Error::invalid("`n`", "a whole number from 0 up", n));
        let texts = dataset.documents().take(script(n)?).map(|text| text.map(Dynamic::from));
        script(texts.collect::<crate::Result<_>>())
    }

    #[rhai_fn(global, name = "to_string", name = "to_debug", pure)]
    pub fn show_dataset(dataset: &mut Dataset) -> String {
        dataset.to_string()
    }
}
