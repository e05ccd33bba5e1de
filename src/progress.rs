//! Cancellation and progress of a run.
//!
//! A long call checks the cancel flag between two pieces of work and reports its counts. The caller decides how to show
//! them. A report never stops a run.

use crate::error::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A report of a running call.
#[derive(Debug, Clone, PartialEq)]
pub enum ProgressEvent {
    /// A run begins.
    Started {
        /// A description of the run for the user.
        label: String,
    },
    /// The progress of a run since its start.
    Advanced {
        /// The fraction of the work done, from 0 to 1; `None` if the amount of work is unknown.
        fraction: Option<f64>,
        /// What has been done, the finest unit last: `[("documents", 12), ("tokens", 345)]`.
        counts: Vec<(&'static str, u64)>,
    },
    /// The progress of a download. In the last report of a file, `done` equals `total`.
    Downloading {
        /// The repository and the file, as text for the user.
        file: String,
        /// Bytes downloaded so far.
        done: u64,
        /// The file's size in bytes, if the hub reports it.
        total: Option<u64>,
    },
    /// A warning to the user that does not stop the run.
    Warning(String),
    /// The run has ended, successfully or not.
    Finished,
}

/// A cancel flag and a receiver of reports, shared by all parts of a run. Clones share both.
#[derive(Clone, Default)]
pub struct Progress {
    canceled: Arc<AtomicBool>,
    reporter: Option<Arc<dyn Fn(ProgressEvent) + Send + Sync>>,
}

impl Progress {
    /// The same flag, with reports going to `reporter`.
    #[must_use]
    pub fn reporting_to(&self, reporter: impl Fn(ProgressEvent) + Send + Sync + 'static) -> Self {
        Progress { canceled: self.canceled.clone(), reporter: Some(Arc::new(reporter)) }
    }

    /// Asks every run that shares this flag to stop.
    pub fn cancel(&self) {
        self.canceled.store(true, Ordering::Relaxed);
    }

    /// Clears the flag for the next run of a session.
    pub fn reset(&self) {
        self.canceled.store(false, Ordering::Relaxed);
    }

    /// Whether a stop has been requested.
    pub fn is_canceled(&self) -> bool {
        self.canceled.load(Ordering::Relaxed)
    }

    /// Fails if a stop has been requested.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub fn check(&self) -> Result<()> {
        if self.is_canceled() { Err(Error::Interrupted) } else { Ok(()) }
    }

    /// Sends a report.
    pub fn report(&self, report: ProgressEvent) {
        if let Some(reporter) = &self.reporter {
            reporter(report);
        }
    }
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Progress").field("canceled", &self.is_canceled()).finish_non_exhaustive()
    }
}
