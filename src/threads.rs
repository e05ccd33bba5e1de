//! Workers that compute side by side, each on threads of its own.

use crate::error::{Error, Result};

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
