//! Datasets: `open_dataset`, and walking through one.

use super::{ScriptResult, options, script};
use crate::dataset::{Dataset, DatasetOptions};
use crate::error::Error;
use rhai::plugin::*;
use rhai::{Array, Dynamic, Engine, INT, Map};

pub(super) fn register(engine: &mut Engine) {
    engine.register_global_module(exported_module!(functions).into());
    engine.register_iterator_result::<DocumentsOf, String>();
}

/// A dataset that a script walks through: `for text in dataset { … }`.
#[derive(Clone)]
pub(super) struct DocumentsOf(Dataset);

impl IntoIterator for DocumentsOf {
    type Item = ScriptResult<String>;
    type IntoIter = Box<dyn Iterator<Item = Self::Item>>;

    fn into_iter(self) -> Self::IntoIter {
        Box::new(self.0.documents().map(script))
    }
}

#[export_module]
mod functions {
    /// Documents in files.
    pub type Dataset = crate::dataset::Dataset;

    /// Finds documents: a file, a folder or a glob of files (.parquet .jsonl .json .csv .tsv .txt, plain or compressed
    /// with gzip or zstd), or "demo". Options: `text_column` ("text"). `for text in open_dataset("demo").documents()`
    /// walks through it.
    ///
    /// ```rhai
    /// let dataset = open_dataset("demo");
    /// for text in dataset.documents() {
    ///     print(text);
    ///     break;
    /// }
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn open_dataset(path: &str) -> ScriptResult<Dataset> {
        script(Dataset::open(path, &DatasetOptions::default()))
    }

    #[rhai_fn(name = "open_dataset", return_raw, volatile)]
    pub fn open_dataset_with(path: &str, options: Map) -> ScriptResult<Dataset> {
        script(Dataset::open(path, &options::parse(options)?))
    }

    /// The documents of a dataset, to walk through with `for`; they are read one at a time.
    #[rhai_fn(global, pure)]
    pub fn documents(dataset: &mut Dataset) -> DocumentsOf {
        DocumentsOf(dataset.clone())
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
