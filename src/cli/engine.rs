//! A session on its own thread, so that the prompt and the Jupyter kernel stay responsive while it works.

use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::script::{Host, Session};
use std::sync::mpsc::{Receiver, Sender, channel};

/// The stack size in bytes: enough for the deeply nested values that scripts can build.
pub(super) const STACK: usize = 1 << 29;

/// A task for the session.
type Job = Box<dyn FnOnce(&mut Session) + Send>;

/// A session on its own thread, which runs jobs one after another. Clones share it.
#[derive(Clone)]
pub(super) struct Engine {
    jobs: Sender<Job>,
}

impl Engine {
    /// Starts the thread and creates the session on it.
    pub(super) fn start(progress: &Progress, host: impl Host + Send + 'static) -> Result<Engine> {
        let (jobs, waiting): (_, Receiver<Job>) = channel();
        let session_progress = progress.clone();
        let work = move || {
            let mut session = Session::with_host(session_progress, host);
            for job in waiting {
                job(&mut session);
            }
        };
        let thread = std::thread::Builder::new().name("engine".to_owned()).stack_size(STACK).spawn(work);
        thread.map_err(Error::failed("start a thread"))?;
        Ok(Engine { jobs })
    }

    /// Queues a job after those that are waiting.
    pub(super) fn submit(&self, job: impl FnOnce(&mut Session) + Send + 'static) -> Result<()> {
        self.jobs.send(Box::new(job)).map_err(|_| gone())
    }

    /// Runs `question` on the session and waits for the answer.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Session) -> T + Send + 'static,
    ) -> Result<T> {
        let (answer, answers) = channel();
        self.submit(move |session| {
            // The caller may have gone.
            let _ = answer.send(question(session));
        })?;
        answers.recv().map_err(|_| gone())
    }
}

fn gone() -> Error {
    Error::internal("the session's thread has stopped")
}
