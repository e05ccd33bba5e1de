//! Documents in, records out: the active features of every token of a dataset.
//!
//! Three things go on at once: reading and tokenizing, running the model and the SAE, and writing. Contexts are batched
//! in the order of the documents, end to end, so that every matmul is over a thousand tokens or more; the records do
//! not depend on how.

mod options;
mod record;
mod summary;
mod windows;

pub use options::{ExtractOptions, LongDocuments, Packing};
pub use record::{FeatureRecord, Records, read_records};
pub use summary::ExtractSummary;

use crate::dataset::{Dataset, DatasetOptions};
use crate::error::{Error, Result};
use crate::files;
use crate::hooks::{ActivationCache, HookPoint};
use crate::model::{Model, TokenBatch};
use crate::progress::{Progress, Report};
use crate::sae::{Features, Sae};
use options::Contexts;
use sha2::{Digest, Sha256};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Instant;
use windows::Windows;

/// The tokens that a forward pass takes at most, unless one context alone is longer: enough for matmuls to run at
/// their full rate, few enough to stay in tens of megabytes.
const BATCH_TOKENS: usize = 2048;
/// Batches that wait between two stages.
const WAITING: usize = 2;

/// Writes the active features of every token of a dataset to a JSONL file, and a description of the run to
/// `<output>.meta.json` beside it.
///
/// The file is written under another name and renamed when it is complete: an error or an interrupt leaves whatever
/// was there before.
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
/// The documents are those of `dataset`, or if there is none those of `options.dataset_path`.
///
/// # Errors
/// Options that make no sense; an SAE that does not fit the model; documents that cannot be read, or of which there are
/// none; activations that are not finite; a file that cannot be written; [`Error::Interrupted`].
pub fn create_feature_dataset(
    model: &Model,
    sae: &Sae,
    dataset: Option<&Dataset>,
    options: &ExtractOptions,
    progress: &Progress,
) -> Result<ExtractSummary> {
    for (name, value) in [("output_path", &options.output_path), ("dataset_path", &options.dataset_path)] {
        if value.is_empty() && !(name == "dataset_path" && dataset.is_some()) {
            return Err(Error::invalid(format!("`{name}`"), "a path", "none").with_hint("it has no default"));
        }
    }
    check_fits(model, sae)?;
    let contexts = options.contexts(model, sae)?;
    let dataset = match dataset {
        Some(dataset) => dataset.clone(),
        None => {
            let text_column = options.text_column.clone();
            Dataset::open(&options.dataset_path, &DatasetOptions { text_column })?
        }
    };
    let output = Path::new(&options.output_path);
    if output.is_dir() {
        return Err(Error::invalid("`output_path`", "a file", format!("the folder `{}`", output.display())));
    }
    let mut file = files::beside(output)?;

    progress.report(Report::Started { label: format!("{} on {}", sae.hook()?, model.cfg().model_name) });
    let start = Instant::now();
    let result = run(model, sae, &dataset, options, contexts, progress, |sink| {
        let mut writer = Hashed { inner: BufWriter::new(file.as_file_mut()), hash: Sha256::new() };
        sink.write_all_to(&mut writer).map_err(Error::file("write", output))?;
        writer.flush().map_err(Error::file("write", output))?;
        Ok(writer.hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    });
    progress.report(Report::Finished);
    let (counts, sha256) = result?;
    let seconds = start.elapsed().as_secs_f64();
    counts.check(&dataset)?;
    files::keep(file, output)?;

    let summary = ExtractSummary {
        documents: counts.documents,
        documents_skipped: counts.documents_skipped,
        records: counts.records,
        tokens: counts.tokens,
        mean_l0: counts.active as f64 / counts.tokens_behind_bos.max(1) as f64,
        features_seen: counts.seen.iter().filter(|seen| **seen).count() as u64,
        d_sae: sae.cfg().d_sae as u64,
        seconds,
        tokens_per_second: counts.tokens as f64 / seconds.max(1e-9),
        output_path: options.output_path.clone(),
        sha256,
    };
    let context = (contexts.window + usize::from(contexts.bos.is_some()), contexts.bos.is_some());
    summary::write_meta(model, sae, &dataset, options, context, &summary)?;
    Ok(summary)
}

/// The features that are active above `threshold` at each token of a batch, BOS included.
///
/// Runs the model as far as the SAE's hook, and gives the SAE what it was trained on: this is the one place that knows
/// both.
///
/// # Errors
/// An SAE that does not fit the model, and as [`Model::forward`] and [`Sae::encode_above`].
pub fn feature_acts(
    model: &Model,
    sae: &Sae,
    batch: &TokenBatch,
    threshold: f32,
    progress: &Progress,
) -> Result<Features> {
    check_fits(model, sae)?;
    let hook = sae.hook()?;
    let mut cache = ActivationCache::new(vec![hook]);
    model.forward(batch, None, &mut cache, progress)?;
    let mut x = cache.get(&hook.to_string())?.clone(); // [tokens, …]
    drop(cache);
    if let (Some(layer), HookPoint::Z | HookPoint::V, true) =
        (hook.layer(), hook.point(), sae.cfg().fold_value_biases)
    {
        x = x.broadcast_sub(&model.value_bias(layer, sae.cfg().fold_ln)?)?;
    }
    sae.encode_above(&x, threshold, progress)
}

/// Checks that an SAE can read a model: that the model has its hook, and as many dimensions there.
///
/// # Errors
/// Names the hook and both sizes.
pub fn check_fits(model: &Model, sae: &Sae) -> Result<()> {
    let (cfg, sae_cfg) = (model.cfg(), sae.cfg());
    let hook = sae.hook()?;
    hook.check(cfg.n_layers)?;
    let (name, width) = match hook.point() {
        HookPoint::MlpPre | HookPoint::MlpPost => ("d_mlp", cfg.d_mlp),
        HookPoint::Q | HookPoint::K | HookPoint::V | HookPoint::Z => match sae_cfg.hook_head_index {
            Some(_) => ("d_head", cfg.d_head),
            None => ("n_heads · d_head", cfg.n_heads * cfg.d_head),
        },
        HookPoint::AttnScores | HookPoint::Pattern | HookPoint::UnembedOut => ("no features", 0),
        point if matches!(point, HookPoint::Ln1Scale | HookPoint::Ln2Scale | HookPoint::LnFinalScale) => ("1", 1),
        _ => ("d_model", cfg.d_model),
    };
    if width == sae_cfg.d_in {
        return Ok(());
    }
    let trained_on = match &sae_cfg.model_name {
        Some(trained_on) => format!("this SAE was trained on `{trained_on}`: load that model"),
        None => "load the model that the SAE was trained on".to_owned(),
    };
    Err(Error::mismatch(
        format!(
            "the SAE `{}` reads d_in = {} dimensions at `{hook}`, the model `{}` has {name} = {width} there",
            sae_cfg.sae_id, sae_cfg.d_in, cfg.model_name
        ),
        trained_on,
    ))
}

/// What a run has counted.
#[derive(Default)]
struct Counts {
    documents: u64,
    documents_skipped: u64,
    records: u64,
    tokens: u64,
    tokens_behind_bos: u64,
    active: u64,
    seen: Vec<bool>,
}

impl Counts {
    /// A run that wrote nothing is a mistake of some kind.
    fn check(&self, dataset: &Dataset) -> Result<()> {
        if self.records > 0 {
            return Ok(());
        }
        let (got, hint) = match (self.documents, self.documents - self.documents_skipped) {
            (0, _) => ("none".to_owned(), "the dataset is empty"),
            (n, 0) => (format!("{n} without any"), "check `text_column`"),
            (n, _) => (format!("{n} that do not fill one context"), "choose a smaller `context_size`"),
        };
        let what = format!("the dataset `{}`", dataset.path());
        Err(Error::invalid(what, "documents with tokens", got).with_hint(hint))
    }
}

/// Contexts on their way to the model.
#[derive(Default)]
struct Batch {
    records: Vec<FeatureRecord>,
    /// The number of the document that each record is of.
    documents: Vec<u64>,
    tokens: usize,
    /// What had been read when the batch was full.
    documents_read: u64,
    documents_skipped: u64,
    fraction: f64,
}

/// Records on their way to the file.
struct Sink(Receiver<Vec<FeatureRecord>>);

impl Sink {
    fn write_all_to(&self, writer: &mut impl Write) -> std::io::Result<()> {
        for records in &self.0 {
            for record in &records {
                record.write_line(&mut *writer)?;
            }
        }
        Ok(())
    }
}

/// Runs all documents; `write` takes the records, on a thread of its own.
fn run<T: Send>(
    model: &Model,
    sae: &Sae,
    dataset: &Dataset,
    options: &ExtractOptions,
    contexts: Contexts,
    progress: &Progress,
    write: impl FnOnce(Sink) -> Result<T> + Send,
) -> Result<(Counts, T)> {
    let batches = read_batches(model, dataset, options, contexts)?;
    let (records, sink) = sync_channel(WAITING);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| write(Sink(sink)));
        let counts = compute(model, sae, &batches, options, contexts, progress, &records);
        drop(records);
        let written = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok((counts?, written))
    })
}

/// Runs each batch and hands its records on, until there are no more or the writer has given up.
fn compute(
    model: &Model,
    sae: &Sae,
    batches: &Receiver<Result<Batch>>,
    options: &ExtractOptions,
    contexts: Contexts,
    progress: &Progress,
    records: &SyncSender<Vec<FeatureRecord>>,
) -> Result<Counts> {
    let mut counts = Counts { seen: vec![false; sae.cfg().d_sae], ..Default::default() };
    loop {
        progress.check()?;
        // Waits for a slow disk in steps, so that an interrupt is noticed.
        let mut batch = match batches.recv_timeout(std::time::Duration::from_millis(100)) {
            Ok(batch) => batch?,
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => continue,
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => return Ok(counts),
        };
        (counts.documents, counts.documents_skipped) = (batch.documents_read, batch.documents_skipped);
        if !batch.records.is_empty() {
            let features = run_batch(model, sae, &batch, options, progress)?;
            let mut start = 0;
            for record in &mut batch.records {
                record.set_features(&features, start);
                start += record.tokens.len();
                counts.records += 1;
                counts.tokens += record.tokens.len() as u64;
                let skip = usize::from(contexts.bos.is_some());
                for active in record.active_features.iter().skip(skip) {
                    counts.tokens_behind_bos += 1;
                    counts.active += active.len() as u64;
                    active.iter().for_each(|feature| counts.seen[*feature as usize] = true);
                }
            }
            if records.send(batch.records).is_err() {
                return Ok(counts);
            }
        }
        let Counts { documents, tokens, .. } = counts;
        progress.report(Report::Advanced { documents, tokens, fraction: batch.fraction });
    }
}

/// The features of a batch. Where they cannot be computed, finds out which document is to blame.
fn run_batch(
    model: &Model,
    sae: &Sae,
    batch: &Batch,
    options: &ExtractOptions,
    progress: &Progress,
) -> Result<Features> {
    let mut tokens = TokenBatch::default();
    batch.records.iter().for_each(|record| tokens.push(&record.tokens));
    let acts = |tokens: &TokenBatch| feature_acts(model, sae, tokens, options.activation_threshold, progress);
    match acts(&tokens) {
        Err(Error::NotFinite { message }) => {
            for (record, document) in batch.records.iter().zip(&batch.documents) {
                if let Err(Error::NotFinite { message }) = acts(&TokenBatch::single(&record.tokens)) {
                    return Err(Error::NotFinite { message: format!("document {document}: {message}") });
                }
            }
            Err(Error::NotFinite { message })
        }
        features => features,
    }
}

/// Reads, tokenizes and batches documents on a thread of its own, which ends when nobody takes batches any more.
fn read_batches(
    model: &Model,
    dataset: &Dataset,
    options: &ExtractOptions,
    contexts: Contexts,
) -> Result<Receiver<Result<Batch>>> {
    let mut windows = Windows::new(model.tokenizer()?.clone(), contexts);
    let mut documents = dataset.documents();
    let (max_examples, batch_size) = (options.max_examples, options.batch_size);
    let (sender, receiver) = sync_channel(WAITING);
    std::thread::spawn(move || {
        // Whether anybody still listens is all that matters of a send.
        let _ = (|| {
            let mut batch = Batch::default();
            let (mut read, mut skipped) = (0, 0);
            let send = |batch: &mut Batch, read, skipped, fraction: f64| {
                let share = max_examples.map_or(0.0, |most| read as f64 / most as f64);
                let full = std::mem::take(batch);
                let fraction = fraction.max(share);
                sender.send(Ok(Batch { documents_read: read, documents_skipped: skipped, fraction, ..full }))
            };
            while max_examples.is_none_or(|most| read < most) {
                let records = match documents.next() {
                    None => break,
                    Some(text) => match text.and_then(|text| windows.cut(&text)) {
                        Ok(records) => records,
                        Err(error) => return sender.send(Err(error)),
                    },
                };
                skipped += u64::from(records.is_none());
                for record in records.into_iter().flatten() {
                    let full = batch.records.len() == batch_size
                        || batch.tokens + record.tokens.len() > BATCH_TOKENS && batch.tokens > 0;
                    if full {
                        send(&mut batch, read, skipped, documents.fraction_read())?;
                    }
                    batch.tokens += record.tokens.len();
                    batch.records.push(record);
                    batch.documents.push(read);
                }
                read += 1;
            }
            send(&mut batch, read, skipped, 1.0)
        })();
    });
    Ok(receiver)
}

/// A writer that hashes what goes through it.
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
