//! Whether to go on, and how far a run has come.
//!
//! A long call looks at the cancel flag between two pieces of work and hands in its counts; who shows them, and how,
//! is for the caller to decide. A report never stops a run.

use crate::error::{Error, Result};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// One report of a run that is under way.
#[derive(Debug, Clone, PartialEq)]
pub enum Report {
    /// A run begins.
    Started {
        /// What is being done, for a person.
        label: String,
    },
    /// A run has come this far, counted from its start.
    Advanced {
        /// Documents finished.
        documents: u64,
        /// Tokens finished.
        tokens: u64,
        /// How much of the work that is, from 0 to 1.
        fraction: f64,
    },
    /// A level of definition trees has been read, or a part of one.
    Level {
        /// Tokens behind the prompt.
        depth: usize,
        /// Nodes that were read.
        nodes: usize,
    },
    /// A run over features has come this far, counted from its start.
    Grown {
        /// Features whose trees are finished.
        features: u64,
        /// Nodes in them.
        nodes: u64,
        /// How much of the work that is, from 0 to 1.
        fraction: f64,
    },
    /// A file that is being downloaded has come this far; the last report of a file has both numbers equal.
    Downloading {
        /// The repository and the file, for a person.
        file: String,
        /// Bytes that are here.
        done: u64,
        /// Bytes that the file has, where the hub says so.
        total: Option<u64>,
    },
    /// Something that the user should know and that does not stop the run.
    Warning(String),
    /// The run is over, well or not.
    Finished,
}

/// A cancel flag and a place for reports, shared by everything that takes part in a run. Clones share the flag.
#[derive(Clone, Default)]
pub struct Progress {
    cancelled: Arc<AtomicBool>,
    reporter: Option<Arc<dyn Fn(Report) + Send + Sync>>,
}

impl Progress {
    /// The same flag, with reports going to `reporter`.
    #[must_use]
    pub fn reporting_to(&self, reporter: impl Fn(Report) + Send + Sync + 'static) -> Self {
        Progress { cancelled: self.cancelled.clone(), reporter: Some(Arc::new(reporter)) }
    }

    /// Asks every run that shares this flag to stop.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// Clears the flag, for the next run of a session that goes on.
    pub fn reset(&self) {
        self.cancelled.store(false, Ordering::Relaxed);
    }

    /// Whether a stop has been asked for.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Returns at once, or fails when a stop has been asked for.
    ///
    /// # Errors
    /// [`Error::Interrupted`].
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(Error::Interrupted) } else { Ok(()) }
    }

    /// Hands in a report.
    pub fn report(&self, report: Report) {
        if let Some(reporter) = &self.reporter {
            reporter(report);
        }
    }
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Progress").field("cancelled", &self.is_cancelled()).finish_non_exhaustive()
    }
}
