//! The summary of a finished extraction: a few printed lines, and `<output>.meta.json`.

use super::options::ExtractOptions;
use super::run::Job;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::{Path, PathBuf};

/// The counts of a finished extraction.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ExtractSummary {
    /// The number of documents read.
    pub documents: u64,
    /// The number of those documents without tokens, which gave no record.
    pub documents_skipped: u64,
    /// The number of damaged rows skipped; they do not count as documents.
    #[serde(default)]
    pub bad_rows: u64,
    /// The number of records written.
    pub records: u64,
    /// The number of tokens, BOS included.
    pub tokens: u64,
    /// Whether each record begins with a BOS.
    pub prepend_bos: bool,
    /// The mean number of active features per token, above the threshold, without BOS tokens.
    pub mean_l0: f64,
    /// The number of features that were active at least once.
    pub features_seen: u64,
    /// The number of features of the SAE.
    pub d_sae: u64,
    /// The duration from the first document to the last record, without loading.
    pub seconds: f64,
    /// The number of tokens per second.
    pub tokens_per_second: f64,
    /// The path of the feature dataset.
    pub output_path: String,
    /// The SHA-256 of the feature dataset, in hexadecimal.
    pub sha256: String,
}

impl std::fmt::Display for ExtractSummary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "documents      {}", self.documents)?;
        if self.documents_skipped > 0 {
            write!(f, " ({} without tokens, skipped)", self.documents_skipped)?;
        }
        if self.bad_rows > 0 {
            write!(f, "\nbad rows       {} (skipped)", self.bad_rows)?;
        }
        if self.records != self.documents - self.documents_skipped {
            write!(f, "\nrecords        {}", self.records)?;
        }
        write!(f, "\ntokens         {}", self.tokens)?;
        let without = if self.prepend_bos { " (BOS left out)" } else { "" };
        write!(f, "\nmean L0        {:.1}{without}", self.mean_l0)?;
        let share = 100.0 * self.features_seen as f64 / self.d_sae.max(1) as f64;
        write!(f, "\nfeatures seen  {} of {} ({share:.0} %)", self.features_seen, self.d_sae)?;
        write!(f, "\ntokens/s       {:.0} ({:.1} s)", self.tokens_per_second, self.seconds)?;
        write!(f, "\noutput         {}", self.output_path)
    }
}

/// The JSON of `<output>.meta.json`, which records how a feature dataset was made. `check` is the check of an SAE with a
/// published L0.
pub(crate) fn meta(job: Job, check: Option<&impl Serialize>, summary: &ExtractSummary) -> Result<Vec<u8>> {
    let Job { model, sae, dataset, options, contexts, .. } = job;
    let counts = json!({
        "documents": summary.documents,
        "documents_skipped": summary.documents_skipped,
        "bad_rows": summary.bad_rows,
        "records": summary.records,
        "tokens": summary.tokens,
        "features_seen": summary.features_seen,
    });
    let resolved = ExtractOptions {
        context_size: Some(contexts.context_size),
        prepend_bos: Some(summary.prepend_bos),
        dataset_path: dataset.path().to_owned(),
        text_column: dataset.text_column().to_owned(),
        split: dataset.split().map(str::to_owned),
        config: dataset.config().map(str::to_owned),
        dataset_revision: dataset.revision().map(str::to_owned),
        ..options.clone()
    };
    let mut meta = json!({
        "saescope": env!("CARGO_PKG_VERSION"),
        "model": { "cfg": model.cfg(), "files": describe(model.weight_files()), "revision": model.revision() },
        "sae": { "cfg": sae.cfg(), "files": describe(sae.weight_files()), "revision": sae.revision() },
        "dataset": {
            "path": dataset.path(),
            "files": describe(dataset.files()),
            "revision": dataset.revision(),
            "config": dataset.config(),
            "split": dataset.split(),
        },
        "hook": sae.hook_in(&model.cfg().hook_points())?.to_string(),
        "options": resolved,
        "bos_token_id": contexts.bos,
        "counts": counts,
        "check": check,
        "mean_l0": summary.mean_l0,
        "seconds": summary.seconds,
        "tokens_per_second": summary.tokens_per_second,
        "sha256": summary.sha256,
    });
    // What is not the rule.
    if let Some(computed_in) = model.compute().in_words() {
        meta["model"]["computed_in"] = json!(computed_in);
    }
    if sae.for_model(model.compute()).has_screen() {
        meta["sae"]["screen"] = json!(true);
    }
    let text = serde_json::to_string_pretty(&meta).map_err(|e| {
        Error::malformed(&meta_path(&options.output_path), format!("cannot describe the run: {e}"))
    })?;
    Ok((text + "\n").into_bytes())
}

/// The path of the description of a feature dataset.
pub(crate) fn meta_path(output_path: &str) -> PathBuf {
    PathBuf::from(format!("{output_path}.meta.json"))
}

/// The paths and sizes of files, as JSON.
fn describe<'a>(paths: impl Iterator<Item = &'a Path>) -> Vec<serde_json::Value> {
    let bytes = |path: &Path| std::fs::metadata(path).map(|m| m.len()).ok();
    paths.map(|path| json!({ "path": path.to_string_lossy(), "bytes": bytes(path) })).collect()
}
