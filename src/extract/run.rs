//! The concurrent stages of an extraction: one thread reads and tokenizes, several run model and SAE, one writes.
//!
//! Each worker computes entire batches by itself, so that no worker waits for another inside a matmul. The records are
//! put back into document order before they are written.

use super::options::{Contexts, ExtractOptions, Packing};
use super::record::FeatureRecord;
use super::sae_input::feature_acts;
use super::windows::Windows;
use crate::dataset::Dataset;
use crate::error::{Error, Result};
use crate::model::{Model, TokenBatch};
use crate::progress::{Progress, ProgressEvent};
use crate::sae::{FeatureActs, Sae};
use crate::threads::worker_pools;
use std::collections::BTreeMap;
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

/// The maximum number of tokens in a forward pass, unless a single context is longer: enough for matmuls to run at full
/// speed, few enough to need only tens of megabytes.
const BATCH_TOKENS: usize = 1024;
/// The number of batches that may wait between two stages.
const WAITING: usize = 2;
/// The time between checks for an interrupt while waiting for a disk or another stage.
const STEP: Duration = Duration::from_millis(50);

/// The counts of a run.
#[derive(Default)]
pub(crate) struct Counts {
    pub(crate) documents: u64,
    pub(crate) documents_skipped: u64,
    pub(crate) bad_rows: u64,
    pub(crate) records: u64,
    pub(crate) tokens: u64,
    pub(crate) tokens_after_bos: u64,
    /// The number of active features at tokens other than the BOS.
    pub(crate) active: u64,
    /// Whether each feature was active, `[d_sae]`.
    pub(crate) seen: Vec<bool>,
}

/// The inputs of a run.
#[derive(Clone, Copy)]
pub(crate) struct Job<'a> {
    pub(crate) model: &'a Model,
    pub(crate) sae: &'a Sae,
    pub(crate) dataset: &'a Dataset,
    pub(crate) options: &'a ExtractOptions,
    pub(crate) contexts: Contexts,
    pub(crate) progress: &'a Progress,
}

/// Records on their way to the file, in order.
pub(crate) struct Sink(Receiver<Vec<FeatureRecord>>);

impl Sink {
    /// Writes all records as they arrive, one per line.
    pub(crate) fn write_all_to(&self, writer: &mut impl Write) -> std::io::Result<()> {
        for records in &self.0 {
            for record in &records {
                record.write_line(&mut *writer)?;
            }
        }
        Ok(())
    }
}

/// Contexts on their way to a worker.
#[derive(Default)]
struct Batch {
    /// The index of the batch.
    number: u64,
    records: Vec<FeatureRecord>,
    /// The document number of each record.
    documents: Vec<u64>,
    tokens: usize,
    /// The counts up to the end of this batch.
    documents_read: u64,
    documents_skipped: u64,
    bad_rows: u64,
    fraction: f64,
    /// Whether all documents have been read.
    is_last: bool,
}

/// Processes all documents; `write` receives the records on its own thread.
pub(crate) fn run<T: Send>(job: Job, write: impl FnOnce(Sink) -> Result<T> + Send) -> Result<(Counts, T)> {
    let batches = Mutex::new(read_batches(job)?);
    let pools = worker_pools(usize::MAX)?;
    let (records, sink) = sync_channel(WAITING);
    let (done, results) = sync_channel(pools.len());
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| write(Sink(sink)));
        for pool in &pools {
            let (batches, done, over) = (&batches, done.clone(), &over);
            scope.spawn(move || pool.install(|| work(job, batches, &done, over)));
        }
        drop(done);
        let counts = collect(job, &results, &records);
        // In any case: stop the workers, and end the writer's records.
        over.store(true, Ordering::Relaxed);
        drop((results, records));
        let written = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok((counts?, written))
    })
}

/// Takes batches until there are no more, or the run is over.
fn work(
    job: Job,
    batches: &Mutex<Receiver<Result<Batch>>>,
    done: &SyncSender<Result<Batch>>,
    over: &AtomicBool,
) {
    while !over.load(Ordering::Relaxed) {
        let next = batches.lock().unwrap_or_else(std::sync::PoisonError::into_inner).recv_timeout(STEP);
        let batch = match next {
            Ok(batch) => batch,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        let result = batch.and_then(|batch| run_batch(job, batch));
        if done.send(result).is_err() {
            return;
        }
    }
}

/// Puts batches back into order, counts, and passes their records to the writer.
fn collect(
    job: Job,
    results: &Receiver<Result<Batch>>,
    records: &SyncSender<Vec<FeatureRecord>>,
) -> Result<Counts> {
    let mut counts = Counts { seen: vec![false; job.sae.cfg().d_sae], ..Default::default() };
    let mut early = BTreeMap::new();
    let mut next = 0;
    loop {
        job.progress.check()?;
        match results.recv_timeout(STEP) {
            Ok(batch) => {
                let batch = batch?;
                early.insert(batch.number, batch);
            }
            Err(RecvTimeoutError::Timeout) => continue,
            // The stages only end early if one of them has panicked.
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Error::internal("the run ended before the last document"));
            }
        }
        while let Some(batch) = early.remove(&next) {
            next += 1;
            counts.add(&batch);
            // A writer that has failed returns its own error.
            if !send(records, batch.records, job.progress)? {
                return Ok(counts);
            }
            job.progress.report(ProgressEvent::Advanced {
                fraction: Some(batch.fraction),
                counts: vec![("documents", counts.documents), ("tokens", counts.tokens)],
            });
            if batch.is_last {
                return Ok(counts);
            }
        }
    }
}

/// Sends records to the writer, waiting for it in steps; false if it has ended.
fn send(
    records: &SyncSender<Vec<FeatureRecord>>,
    mut batch: Vec<FeatureRecord>,
    progress: &Progress,
) -> Result<bool> {
    loop {
        match records.try_send(batch) {
            Ok(()) => return Ok(true),
            Err(TrySendError::Disconnected(_)) => return Ok(false),
            Err(TrySendError::Full(back)) => batch = back,
        }
        progress.check()?;
        std::thread::sleep(Duration::from_millis(5));
    }
}

impl Counts {
    fn add(&mut self, batch: &Batch) {
        (self.documents, self.documents_skipped) = (batch.documents_read, batch.documents_skipped);
        self.bad_rows = batch.bad_rows;
        for record in &batch.records {
            self.records += 1;
            self.tokens += record.tokens.len() as u64;
            for active in record.active_features.iter().skip(usize::from(record.begins_with_bos())) {
                self.tokens_after_bos += 1;
                self.active += active.len() as u64;
                active.iter().for_each(|feature| self.seen[*feature as usize] = true);
            }
        }
    }
}

/// Sets the features of the records of a batch. If activations are not finite, finds the document that causes it.
fn run_batch(job: Job, mut batch: Batch) -> Result<Batch> {
    if batch.records.is_empty() {
        return Ok(batch);
    }
    let acts = |tokens: &TokenBatch| -> Result<FeatureActs> {
        feature_acts(job.model, job.sae, tokens, job.options.activation_threshold as f32, job.progress)
    };
    let mut tokens = TokenBatch::default();
    batch.records.iter().for_each(|record| tokens.push(&record.tokens));
    if tokens.len() == 1 {
        // A matmul of a single row sums in another order. A second, ignored row makes the result that of other batches.
        tokens.push(&batch.records[0].tokens);
    }
    let features = acts(&tokens).map_err(|error| {
        if !matches!(error, Error::NotFinite { .. }) {
            return error;
        }
        let culprit = batch.records.iter().zip(&batch.documents).find_map(|(record, document)| {
            match acts(&TokenBatch::single(&record.tokens)) {
                Err(Error::NotFinite { message }) => Some(match job.contexts.packing {
                    Packing::Documents => format!("document {document}: {message}"),
                    Packing::Concatenate => format!("a context that ends in document {document}: {message}"),
                }),
                _ => None,
            }
        });
        culprit.map_or(error, |message| Error::NotFinite { message })
    })?;
    for (record, range) in batch.records.iter_mut().zip(tokens.sequences()) {
        record.set_features(&features, range.start);
    }
    Ok(batch)
}

/// Reads, tokenizes and batches documents on a thread of its own, which ends when the receiver is dropped.
fn read_batches(job: Job) -> Result<Receiver<Result<Batch>>> {
    let mut windows = Windows::new(job.model.tokenizer()?.clone(), job.contexts);
    let mut documents = job.dataset.documents();
    let (max_examples, batch_size) = (job.options.max_examples, job.options.batch_size);
    let (sender, receiver) = sync_channel(WAITING);
    std::thread::spawn(move || {
        let mut batch = Batch::default();
        // Returns whether the receiver still exists.
        let send = |batch: &mut Batch, fraction: f64, is_last: bool| {
            let share = max_examples.map_or(0.0, |most| batch.documents_read as f64 / most as f64);
            let Batch { number, documents_read, documents_skipped, bad_rows, .. } = *batch;
            let counts = Batch { documents_read, documents_skipped, bad_rows, ..Default::default() };
            let next = Batch { number: number + 1, ..counts };
            let full = std::mem::replace(batch, next);
            sender.send(Ok(Batch { fraction: fraction.max(share), is_last, ..full })).is_ok()
        };
        while max_examples.is_none_or(|most| batch.documents_read < most) {
            let text = match documents.next() {
                None => break,
                Some(Ok(text)) => text,
                Some(Err(error)) => return drop(sender.send(Err(error))),
            };
            let records = match windows.cut(&text) {
                Ok(records) => records,
                // A document that cannot be used counts as a damaged row.
                Err(error) => match documents
                    .skip_bad(of_document(batch.documents_read + documents.bad_rows(), error))
                {
                    Ok(()) => continue,
                    Err(error) => return drop(sender.send(Err(error))),
                },
            };
            batch.bad_rows = documents.bad_rows();
            batch.documents_skipped += u64::from(records.is_none());
            for record in records.into_iter().flatten() {
                let is_full = batch.records.len() == batch_size
                    || batch.tokens + record.tokens.len() > BATCH_TOKENS && batch.tokens > 0;
                if is_full && !send(&mut batch, documents.fraction_read(), false) {
                    return;
                }
                batch.tokens += record.tokens.len();
                batch.records.push(record);
                batch.documents.push(batch.documents_read + batch.bad_rows);
            }
            batch.documents_read += 1;
        }
        batch.bad_rows = documents.bad_rows();
        send(&mut batch, 1.0, true);
    });
    Ok(receiver)
}

/// Adds the number of the document to its error.
fn of_document(number: u64, error: Error) -> Error {
    let hint = error.hint().unwrap_or_default();
    Error::mismatch(format!("document {number}: {error}"), hint)
}
