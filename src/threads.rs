//! Parallel workers, each with its own threads, and waits that can be canceled.

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
