//! One pass of model and SAE over a dataset: one thread reads and tokenizes, several run model, SAE and
//! [`Consumer::reduce`], and the caller's thread folds the parts.
//!
//! Each worker computes entire batches by itself, so that no worker waits for another inside a matmul. The parts are put
//! back into document order before they are folded.

use super::consumer::Consumer;
use super::options::{ContextOptions, ExtractOptions, Packing};
use super::sae_input::{check_fits, feature_acts, prepare};
use super::windows::{Context, Windows};
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::model::{Model, TokenBatch};
use crate::progress::{Progress, ProgressEvent};
use crate::sae::{FeatureActs, Sae};
use crate::threads::{wait_for, worker_pools};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

/// The number of batches that may wait between two stages.
const WAITING: usize = 2;
/// The time between checks for an interrupt while waiting for a disk or another stage.
const STEP: Duration = Duration::from_millis(50);

/// The counts of a finished pass.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VisitSummary {
    /// The number of documents read.
    pub documents: u64,
    /// The number of those documents without tokens, which gave no context.
    pub documents_skipped: u64,
    /// The number of damaged rows skipped; they do not count as documents.
    pub bad_rows: u64,
    /// The number of contexts.
    pub contexts: u64,
    /// The number of tokens, BOS included.
    pub tokens: u64,
}

/// The inputs of a run.
#[derive(Clone, Copy)]
pub(crate) struct Job<'a> {
    pub(crate) model: &'a Model,
    pub(crate) sae: &'a Sae,
    pub(crate) dataset: &'a Dataset,
    pub(crate) options: &'a ExtractOptions,
    pub(crate) contexts: ContextOptions,
    pub(crate) progress: &'a Progress,
}

/// Contexts on their way to a worker.
#[derive(Default)]
struct Batch {
    /// The index of the batch.
    number: u64,
    contexts: Vec<Context>,
    tokens: usize,
    /// The counts up to the end of this batch.
    read: VisitSummary,
    fraction: f64,
    /// Whether all documents have been read.
    is_last: bool,
}

/// A batch without its contexts, and its part; `None` if it had no contexts.
type Done<Part> = (Batch, Option<Part>);

/// Runs model and SAE over the documents of a dataset, and gives the active features to a consumer: [`feature_acts`] of
/// all contexts, in one pass and in little memory.
///
/// ```
/// # fn main() -> saescope::Result<()> {
/// use saescope::extract::{Consumer, Context, ExtractOptions};
/// use saescope::sae::{FeatureActs, SaeOptions};
/// use saescope::{Model, Progress, Result, Sae};
///
/// /// Counts how often each feature fires.
/// struct CountFirings;
///
/// impl Consumer for CountFirings {
///     type Part = Vec<u32>;
///     type State = Vec<u64>;
///
///     fn reduce(&self, contexts: &[Context], acts: &FeatureActs) -> Result<Vec<u32>> {
///         let rows = contexts.iter().flat_map(Context::rows_after_bos);
///         Ok(rows.flat_map(|row| acts.at(row).0).copied().collect())
///     }
///
///     fn fold(&self, counts: &mut Vec<u64>, fired: Vec<u32>) -> Result<()> {
///         fired.into_iter().for_each(|feature| counts[feature as usize] += 1);
///         Ok(())
///     }
/// }
///
/// let (model, sae) = (Model::load("demo")?, Sae::load("demo")?);
/// let options =
///     ExtractOptions { dataset_path: "demo".to_owned(), max_examples: Some(10), ..Default::default() };
/// let mut counts = vec![0; sae.cfg().d_sae];
/// let progress = Progress::default();
/// let read =
///     saescope::visit_feature_acts(&model, &sae, None, &options, &CountFirings, &mut counts, &progress)?;
/// assert_eq!(read.documents, 10);
/// println!("{} features fired", counts.iter().filter(|count| **count > 0).count());
/// # Ok(())
/// # }
/// ```
///
/// The documents come from `dataset`, or from `options.dataset_path` if it is `None`; `options.output_path` is not used.
/// After an error, `state` has the parts folded so far.
///
/// # Errors
/// Invalid options; an SAE that does not fit the model; no documents, or documents that cannot be read; activations
/// that are not finite; any error of the consumer; [`Error::Interrupted`].
pub fn visit_feature_acts<C: Consumer>(
    model: &Model,
    sae: &Sae,
    dataset: Option<&Dataset>,
    options: &ExtractOptions,
    consumer: &C,
    state: &mut C::State,
    progress: &Progress,
) -> Result<VisitSummary> {
    check_fits(model, sae)?;
    let contexts = options.contexts(model, sae)?;
    let dataset = &options.dataset(dataset, progress)?;
    prepare(model, sae, progress)?;
    run(Job { model, sae, dataset, options, contexts, progress }, consumer, state)
}

/// Like [`visit_feature_acts`], with everything checked and the weights loaded.
pub(crate) fn run<C: Consumer>(job: Job, consumer: &C, state: &mut C::State) -> Result<VisitSummary> {
    let hook = job.sae.hook_in(&job.model.cfg().hook_points())?;
    let label = format!("{hook} on {}", job.model.cfg().model_name);
    job.progress.report(ProgressEvent::Started { label });
    let read = run_stages(job, consumer, state);
    job.progress.report(ProgressEvent::Finished);
    let read = read?;
    check_counts(&read, job.dataset)?;
    Ok(read)
}

/// Checks that a pass read any contexts, and explains why if it did not.
fn check_counts(read: &VisitSummary, dataset: &Dataset) -> Result<()> {
    if read.contexts > 0 {
        return Ok(());
    }
    let (got, hint) = match (read.documents, read.documents - read.documents_skipped) {
        (0, _) => ("none".to_owned(), "the dataset is empty"),
        (n, 0) => (format!("{n} without tokens"), "check `text_column`"),
        (n, _) => (format!("{n} that do not fill one context"), "choose a smaller `context_size`"),
    };
    let what = format!("the dataset `{}`", dataset.path());
    Err(Error::invalid(what, "documents with tokens", got).with_hint(hint))
}

fn run_stages<C: Consumer>(job: Job, consumer: &C, state: &mut C::State) -> Result<VisitSummary> {
    let batches = Mutex::new(read_batches(job)?);
    let pools = worker_pools(usize::MAX)?;
    let (done, results) = sync_channel(pools.len());
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for pool in &pools {
            let (batches, done, over) = (&batches, done.clone(), &over);
            scope.spawn(move || pool.install(|| work(job, consumer, batches, &done, over)));
        }
        drop(done);
        let read = collect(job, consumer, state, &results);
        // In any case: stop the workers.
        over.store(true, Ordering::Relaxed);
        drop(results);
        read
    })
}

/// Takes batches until there are no more, or the run is over.
fn work<C: Consumer>(
    job: Job,
    consumer: &C,
    batches: &Mutex<Receiver<Result<Batch>>>,
    done: &SyncSender<Result<Done<C::Part>>>,
    over: &AtomicBool,
) {
    while !over.load(Ordering::Relaxed) {
        let next = batches.lock().unwrap_or_else(std::sync::PoisonError::into_inner).recv_timeout(STEP);
        let batch = match next {
            Ok(batch) => batch,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let result = batch.and_then(|batch| run_batch(job, consumer, batch));
        if done.send(result).is_err() {
            return;
        }
    }
}

/// Puts batches back into order, and folds their parts.
fn collect<C: Consumer>(
    job: Job,
    consumer: &C,
    state: &mut C::State,
    results: &Receiver<Result<Done<C::Part>>>,
) -> Result<VisitSummary> {
    let mut early = BTreeMap::new();
    let mut next = 0;
    loop {
        // The stages only end early if one of them has panicked.
        let ended = || Error::internal("the run ended before the last document");
        let (batch, part) = wait_for(results, job.progress)?.ok_or_else(ended)??;
        early.insert(batch.number, (batch, part));
        while let Some((batch, part)) = early.remove(&next) {
            next += 1;
            if let Some(part) = part {
                consumer.fold(state, part)?;
            }
            job.progress.report(ProgressEvent::Advanced {
                fraction: Some(batch.fraction),
                counts: vec![("documents", batch.read.documents), ("tokens", batch.read.tokens)],
            });
            if batch.is_last {
                return Ok(batch.read);
            }
        }
    }
}

/// Computes the part of a batch, and drops its contexts. If activations are not finite, finds the document that causes
/// it.
fn run_batch<C: Consumer>(job: Job, consumer: &C, mut batch: Batch) -> Result<Done<C::Part>> {
    let contexts = std::mem::take(&mut batch.contexts);
    if contexts.is_empty() {
        return Ok((batch, None));
    }
    let acts = |tokens: &TokenBatch| -> Result<FeatureActs> {
        feature_acts(job.model, job.sae, tokens, job.options.activation_threshold as f32, job.progress)
    };
    let mut tokens = TokenBatch::default();
    contexts.iter().for_each(|context| tokens.push(&context.tokens));
    let features = acts(&tokens).map_err(|error| {
        if !matches!(error, Error::NotFinite { .. }) {
            return error;
        }
        let culprit = contexts.iter().find_map(|Context { tokens, document, .. }| {
            match acts(&TokenBatch::single(tokens)) {
                Err(Error::NotFinite { message }) => Some(match job.contexts.packing {
                    Packing::Documents => format!("document {document}: {message}"),
                    Packing::Concatenate => format!("a context that ends in document {document}: {message}"),
                }),
                _ => None,
            }
        });
        culprit.map_or(error, |message| Error::NotFinite { message })
    })?;
    let part = consumer.reduce(&contexts, &features)?;
    Ok((batch, Some(part)))
}

/// Reads, tokenizes and batches documents on a thread of its own, which ends when the receiver is dropped.
fn read_batches(job: Job) -> Result<Receiver<Result<Batch>>> {
    let mut windows = Windows::new(job.model.tokenizer()?.clone(), job.contexts);
    let mut documents = job.dataset.documents(job.progress);
    let (max_examples, batch_size) = (job.options.max_examples, job.options.batch_size);
    let batch_tokens = job.model.compute().batch_tokens(job.model.cfg().floats_per_token());
    let (sender, receiver) = sync_channel(WAITING);
    std::thread::spawn(move || {
        let mut batch = Batch::default();
        // Returns whether the receiver still exists.
        let send = |batch: &mut Batch, fraction: f64, is_last: bool| {
            let share = max_examples.map_or(0.0, |most| batch.read.documents as f64 / most as f64);
            let next = Batch { number: batch.number + 1, read: batch.read, ..Default::default() };
            let full = std::mem::replace(batch, next);
            sender.send(Ok(Batch { fraction: fraction.max(share), is_last, ..full })).is_ok()
        };
        while max_examples.is_none_or(|most| batch.read.documents < most) {
            let text = match documents.next() {
                None => break,
                Some(Ok(text)) => text,
                Some(Err(error)) => return drop(sender.send(Err(error))),
            };
            let document = batch.read.documents + documents.bad_rows();
            let contexts = match windows.cut(&text) {
                Ok(contexts) => contexts,
                // A document that cannot be used counts as a damaged row.
                Err(error) => match documents.skip_bad(of_document(document, error)) {
                    Ok(()) => continue,
                    Err(error) => return drop(sender.send(Err(error))),
                },
            };
            batch.read.bad_rows = documents.bad_rows();
            batch.read.documents_skipped += u64::from(contexts.is_none());
            for context in contexts.into_iter().flatten() {
                let n = context.tokens.len();
                let is_full =
                    batch.contexts.len() == batch_size || batch.tokens + n > batch_tokens && batch.tokens > 0;
                if is_full && !send(&mut batch, documents.fraction_read(), false) {
                    return;
                }
                batch.contexts.push(Context { document, start: batch.tokens, ..context });
                batch.tokens += n;
                batch.read.contexts += 1;
                batch.read.tokens += n as u64;
            }
            batch.read.documents += 1;
        }
        batch.read.bad_rows = documents.bad_rows();
        send(&mut batch, 1.0, true);
    });
    Ok(receiver)
}

/// Adds the number of the document to its error.
fn of_document(number: u64, error: Error) -> Error {
    let hint = error.hint().unwrap_or_default();
    Error::mismatch(format!("document {number}: {error}"), hint)
}
