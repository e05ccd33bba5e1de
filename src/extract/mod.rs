//! Feature extraction: documents in, records with the active features of every token out.
//!
//! Contexts are batched end to end in the order of the documents, so that every matmul is over about a thousand tokens.
//! The records do not depend on the batching.

mod bos;
mod check;
mod examples;
mod options;
mod pipeline;
mod record;
mod record_file;
mod summary;
mod tap;
mod tokens;
mod windows;

pub use bos::Bos;
pub use check::{CheckOptions, SaeEvaluation, check_sae};
pub use examples::{
    Example, ExampleOptions, FeatureDensity, MaxActivatingExamples, feature_density, max_activating_examples,
};
pub use options::{ExtractOptions, LongDocuments, Packing};
pub use record::{FeatureRecord, RecordReader, read_records, read_records_of};
pub use record_file::RecordFile;
pub use summary::ExtractSummary;
pub use tap::{check_fits, feature_acts};
pub use tokens::ColoredTokens;

use crate::dataset::{Dataset, DatasetOptions};
use crate::error::{Error, Result};
use crate::files::{self, AtomicFile};
use crate::model::Model;
use crate::progress::{Progress, ProgressEvent};
use crate::sae::Sae;
use pipeline::{Counts, Job};
use sha2::{Digest, Sha256};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::Instant;

/// Writes the active features of every token of a dataset to a JSONL file, and a description of the run to
/// `<output>.meta.json` next to it.
///
/// The file is written under a temporary name and renamed when it is complete, so an error or an interrupt leaves any
/// existing file unchanged.
///
/// ```
/// # fn main() -> saescope::Result<()> {
/// use saescope::{ExtractOptions, Model, Progress, Sae, SaeOptions, create_feature_dataset};
///
/// let (model, sae) = (Model::load("demo")?, Sae::load("demo", None, &SaeOptions::default())?);
/// # let folder = tempfile::tempdir().map_err(saescope::Error::file("create", std::path::Path::new("")))?;
/// # let output_path = folder.path().join("features.jsonl").to_string_lossy().into_owned();
/// let options = ExtractOptions {
///     dataset_path: "demo".to_owned(),
///     output_path,
///     max_examples: Some(10),
///     activation_threshold: 0.1,
///     ..Default::default()
/// };
/// let summary = create_feature_dataset(&model, &sae, None, &options, &Progress::default())?;
/// assert_eq!(summary.documents, 10);
/// # Ok(())
/// # }
/// ```
///
/// The documents come from `dataset`, or from `options.dataset_path` if it is `None`.
///
/// # Errors
/// Invalid options; an SAE that does not fit the model; no documents, or documents that cannot be read; activations
/// that are not finite; a file that cannot be written; [`Error::Interrupted`].
pub fn create_feature_dataset(
    model: &Model,
    sae: &Sae,
    dataset: Option<&Dataset>,
    options: &ExtractOptions,
    progress: &Progress,
) -> Result<ExtractSummary> {
    check_fits(model, sae)?;
    let contexts = options.contexts(model, sae)?;
    let dataset = dataset_of(dataset, options, progress)?;
    let (output, meta_path) = (Path::new(&options.output_path), summary::meta_path(&options.output_path));
    let read = model.files().chain(sae.files()).map(Path::to_owned).chain(dataset.files_here());
    files::check_distinct(&[output.to_owned(), meta_path.clone()], read)?;
    let (mut file, mut meta_file) = (AtomicFile::create(output)?, AtomicFile::create(&meta_path)?);

    for doubt in sae.warnings() {
        progress.report(ProgressEvent::Warning(doubt));
    }
    tap::warm_up(model, sae, progress)?;
    let check = check_first(model, sae, &dataset, options, progress)?;
    let hook = sae.hook_in(&model.cfg().hook_points())?;
    progress.report(ProgressEvent::Started { label: format!("{hook} on {}", model.cfg().model_name) });
    let start = Instant::now();
    let job = Job { model, sae, dataset: &dataset, options, contexts, progress };
    let result = pipeline::run(job, |sink| {
        let mut writer = Hashed { inner: BufWriter::new(file.writer()), hash: Sha256::new() };
        sink.write_all_to(&mut writer).map_err(Error::file("write", output))?;
        writer.flush().map_err(Error::file("write", output))?;
        Ok(files::hex(&writer.hash.finalize()))
    });
    progress.report(ProgressEvent::Finished);
    let (counts, sha256) = result?;
    let seconds = start.elapsed().as_secs_f64();
    check_counts(&counts, &dataset)?;
    let summary = ExtractSummary {
        documents: counts.documents,
        documents_skipped: counts.documents_skipped,
        bad_rows: counts.bad_rows,
        records: counts.records,
        tokens: counts.tokens,
        prepend_bos: contexts.prepend_bos,
        mean_l0: counts.active as f64 / counts.tokens_after_bos.max(1) as f64,
        features_seen: counts.seen.iter().filter(|seen| **seen).count() as u64,
        d_sae: sae.cfg().d_sae as u64,
        seconds,
        tokens_per_second: counts.tokens as f64 / seconds.max(1e-9),
        output_path: options.output_path.clone(),
        sha256,
    };
    let run = summary::Run { model, sae, dataset: &dataset, options, contexts, check: check.as_ref() };
    let meta = summary::meta(&run, &summary)?;
    meta_file.writer().write_all(&meta).map_err(Error::file("write", &meta_path))?;
    // Both are complete before either is renamed.
    file.keep()?;
    meta_file.keep()?;
    Ok(summary)
}

/// Checks an SAE with a published L0 on the first tokens, and warns if the result is far off.
fn check_first(
    model: &Model,
    sae: &Sae,
    dataset: &Dataset,
    options: &ExtractOptions,
    progress: &Progress,
) -> Result<Option<SaeEvaluation>> {
    if sae.cfg().published_l0.is_none() {
        return Ok(None);
    }
    let ExtractOptions { prepend_bos, context_size, .. } = *options;
    let check = check_sae(
        model,
        sae,
        dataset,
        &CheckOptions { max_tokens: 256, prepend_bos, context_size },
        progress,
    );
    match check {
        Ok(check) => {
            check
                .warnings
                .iter()
                .for_each(|warning| progress.report(ProgressEvent::Warning(warning.clone())));
            Ok(Some(check))
        }
        // The run itself will report errors in the documents.
        Err(Error::Interrupted) => Err(Error::Interrupted),
        Err(_) => Ok(None),
    }
}

/// Returns the dataset of a run, after checking the options that concern it.
fn dataset_of(dataset: Option<&Dataset>, options: &ExtractOptions, progress: &Progress) -> Result<Dataset> {
    let ExtractOptions { dataset_path, output_path, .. } = options;
    let missing = |name: &str| Error::invalid(name, "a path", "none").with_hint("it has no default");
    if output_path.is_empty() {
        return Err(missing("`output_path`"));
    }
    match dataset {
        None if dataset_path.is_empty() => Err(missing("`dataset_path`")),
        None => Dataset::open_with(dataset_path, &options.of_dataset(), progress),
        Some(dataset) => {
            if !dataset_path.is_empty() || options.of_dataset() != DatasetOptions::default() {
                let message = "`dataset_path`, `text_column`, `split`, `config`, `dataset_revision`, `sep` and \
                               `max_bad_rows` have no effect on a dataset that is already open";
                return Err(Error::mismatch(message, "pass them to open_dataset, or pass no open dataset"));
            }
            Ok(dataset.clone())
        }
    }
}

/// Checks that a run wrote any records, and explains why if it did not.
fn check_counts(counts: &Counts, dataset: &Dataset) -> Result<()> {
    if counts.records > 0 {
        return Ok(());
    }
    let (got, hint) = match (counts.documents, counts.documents - counts.documents_skipped) {
        (0, _) => ("none".to_owned(), "the dataset is empty"),
        (n, 0) => (format!("{n} without tokens"), "check `text_column`"),
        (n, _) => (format!("{n} that do not fill one context"), "choose a smaller `context_size`"),
    };
    let what = format!("the dataset `{}`", dataset.path());
    Err(Error::invalid(what, "documents with tokens", got).with_hint(hint))
}

/// A writer that hashes the bytes that pass through it.
struct Hashed<W> {
    inner: W,
    hash: Sha256,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}
