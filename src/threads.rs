//! Workers that compute side by side, each on threads of its own, and waits that can be canceled.

use crate::error::{Error, Result};
use crate::progress::Progress;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

/// The most workers: each holds its own batch. Where there are more cores, several share one worker.
const MOST_WORKERS: usize = 8;

/// A pool of threads for each worker, of which there are at most as many as cores and at least one: of one thread, or
/// where there are many cores of several. A worker waits for no other inside a matmul, as threads of one pool do.
///
/// # Errors
/// Threads that do not start.
pub fn worker_pools(most: usize) -> Result<Vec<rayon::ThreadPool>> {
    let cores = rayon::current_num_threads();
    let workers = cores.min(MOST_WORKERS).min(most).max(1);
    let pool = |i| {
        let threads = cores / workers + usize::from(i < cores % workers);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        pool.map_err(|e| Error::invalid("the threads of the run", "threads that the system gives", e))
    };
    (0..workers).map(pool).collect()
}

/// What `read` gives, which may wait for what never comes: it does so on a thread of its own, and is left alone once
/// `progress` is cancelled.
///
/// # Errors
/// [`Error::Interrupted`]; a thread that does not start, or ends without a result.
pub fn waiting_for<T: Send + 'static>(
    progress: &Progress,
    read: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    const STEP: Duration = Duration::from_millis(50);
    let (sender, receiver) = channel();
    let thread = std::thread::Builder::new().name("input".to_owned()).spawn(move || {
        // Whoever waited may have gone.
        let _ = sender.send(read());
    });
    thread.map_err(|e| Error::invalid("the input", "a thread to read it on", e))?;
    loop {
        progress.check()?;
        match receiver.recv_timeout(STEP) {
            Ok(read) => return Ok(read),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Error::invalid("the input", "one that can be read", "a reader that failed"));
            }
        }
    }
}
