//! The feature dataset: checks an SAE, writes the records of a dataset to a file, and describes the run next to it.

use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::evaluate::{CheckOptions, SaeEvaluation, check_sae};
use crate::extract::{
    CountFeatures, ExtractOptions, ExtractSummary, FeatureCounts, Job, JsonlFile, JsonlWriter, check_fits,
    meta, meta_path, prepare, run,
};
use crate::files::{self, AtomicFile};
use crate::model::Model;
use crate::progress::{Progress, ProgressEvent};
use crate::sae::Sae;
use std::io::Write;
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
/// use saescope::extract::ExtractOptions;
/// use saescope::{Model, Progress, Sae, create_feature_dataset};
///
/// let (model, sae) = (Model::load("demo")?, Sae::load("demo")?);
/// # let folder = tempfile::tempdir().map_err(saescope::Error::failed("create a folder"))?;
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
    if options.output_path.is_empty() {
        return Err(Error::invalid("`output_path`", "a path", "none").with_hint("it has no default"));
    }
    let dataset = &options.dataset(dataset, progress)?;
    let (output, meta_path) = (Path::new(&options.output_path), meta_path(&options.output_path));
    let read = model.files().chain(sae.files()).map(Path::to_owned).chain(dataset.local_files());
    files::check_distinct(&[output.to_owned(), meta_path.clone()], read)?;
    let (mut file, mut meta_file) = (AtomicFile::create(output)?, AtomicFile::create(&meta_path)?);

    prepare(model, sae, progress)?;
    let check = check_first(model, sae, dataset, options, progress)?;
    let start = Instant::now();
    let job = Job { model, sae, dataset, options, contexts, progress };
    let mut state = (JsonlFile::new(file.writer()), FeatureCounts::new(sae.cfg().d_sae));
    let read = run(job, &(JsonlWriter(output), CountFeatures), &mut state)?;
    let (lines, counts) = state;
    let sha256 = lines.sha256();
    let seconds = start.elapsed().as_secs_f64();
    let summary = ExtractSummary {
        documents: read.documents,
        documents_skipped: read.documents_skipped,
        bad_rows: read.bad_rows,
        records: read.contexts,
        tokens: read.tokens,
        prepend_bos: contexts.prepend_bos,
        mean_l0: counts.mean_l0(),
        features_seen: counts.features_seen(),
        d_sae: sae.cfg().d_sae as u64,
        seconds,
        tokens_per_second: read.tokens as f64 / seconds.max(1e-9),
        output_path: options.output_path.clone(),
        sha256,
    };
    let meta = meta(job, check.as_ref(), &summary)?;
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
    let options = CheckOptions { max_tokens: 256, prepend_bos, context_size };
    match check_sae(model, sae, dataset, &options, progress) {
        Ok(check) => {
            for warning in &check.warnings {
                progress.report(ProgressEvent::Warning(warning.clone()));
            }
            Ok(Some(check))
        }
        // The run itself will report errors in the documents.
        Err(Error::Interrupted) => Err(Error::Interrupted),
        Err(_) => Ok(None),
    }
}
