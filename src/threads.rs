//! Parallel workers, each with its own threads, threads for work under a lock, and waits that can be canceled.

use crate::error::{Error, Result};
use crate::progress::Progress;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

/// The interval at which a wait checks the cancel flag.
const STEP: Duration = Duration::from_millis(50);

/// The maximum number of workers, each of which holds a batch. With more cores, a worker has several threads.
const MAX_WORKERS: usize = 8;

/// A thread pool for each worker: one worker per core, at most 8 or `most`, at least one. With its own pool, a worker
/// does not wait for another inside a matmul.
///
/// # Errors
/// A thread cannot be started.
pub fn worker_pools(most: usize) -> Result<Vec<rayon::ThreadPool>> {
    let cores = rayon::current_num_threads();
    let workers = cores.min(MAX_WORKERS).min(most).max(1);
    let pool = |i| {
        let threads = cores / workers + usize::from(i < cores % workers);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.map_err(Error::failed("start the threads of the run"))
    };
    (0..workers).map(pool).collect()
}

/// Splits items into as many runs as the current pool has threads, and does the work of each on a thread. Returns the results
/// in order. Each thread gets consecutive items, because memory that is first touched in order is faster.
///
/// The threads are not those of the pool. A caller that holds a lock needs that: a pool thread that waits for others of the
/// pool may start work that waits for the lock.
pub fn in_runs<T: Send, R: Send>(
    items: impl ExactSizeIterator<Item = T>,
    work: impl Fn(Vec<T>) -> R + Sync,
) -> Vec<R> {
    let each = items.len().div_ceil(rayon::current_num_threads()).max(1);
    let mut items: Vec<T> = items.collect();
    let work = &work;
    std::thread::scope(|scope| {
        let mut others = Vec::new();
        while items.len() > each {
            let run = items.split_off((items.len() - 1) / each * each);
            others.push(scope.spawn(move || work(run)));
        }
        let own = work(items);
        let others = others.into_iter().rev();
        let others =
            others.map(|other| other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        std::iter::once(own).chain(others).collect()
    })
}

/// Calls `read`, which may block forever, on its own thread and returns its result. Once `progress` is canceled, it
/// returns at once, and the thread ends when `read` does.
///
/// # Errors
/// [`Error::Interrupted`]; the thread cannot be started, or ends without a result.
pub fn run_cancelable<T: Send + 'static>(
    progress: &Progress,
    read: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    let (sender, receiver) = channel();
    let thread = std::thread::Builder::new().name("input".to_owned()).spawn(move || {
        // The caller may have gone.
        let _ = sender.send(read());
    });
    thread.map_err(Error::failed("start a thread for the input"))?;
    let failed = || Error::internal("the thread that reads the input has failed");
    wait_for(&receiver, progress)?.ok_or_else(failed)
}

/// Returns the next value of a channel, or `None` if it is closed. Checks the cancel flag while it waits.
///
/// # Errors
/// [`Error::Interrupted`].
pub fn wait_for<T>(channel: &Receiver<T>, progress: &Progress) -> Result<Option<T>> {
    loop {
        progress.check()?;
        match channel.recv_timeout(STEP) {
            Ok(value) => return Ok(Some(value)),
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}
