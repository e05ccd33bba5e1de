//! A session on a thread of its own, for faces that go on while it works: the prompt and the Jupyter kernel.

use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::script::{Host, Session};
use std::sync::mpsc::{Receiver, Sender, channel};

/// Room for values that are nested deeply, which scripts can build.
pub(super) const STACK: usize = 1 << 29;

/// What a session is to do.
type Job = Box<dyn FnOnce(&mut Session) + Send>;

/// A session on a thread of its own, which does one thing after another. Clones share it.
#[derive(Clone)]
pub(super) struct Engine {
    jobs: Sender<Job>,
}

impl Engine {
    /// Starts the thread; the session is made there.
    pub(super) fn start(progress: &Progress, host: impl Host + Send + 'static) -> Result<Engine> {
        let (jobs, waiting): (_, Receiver<Job>) = channel();
        let of_session = progress.clone();
        let work = move || {
            let mut session = Session::with_host(of_session, host);
            for job in waiting {
                job(&mut session);
            }
        };
        let thread = std::thread::Builder::new().name("engine".to_owned()).stack_size(STACK).spawn(work);
        thread.map_err(|e| Error::invalid("the engine", "a thread to run on", e))?;
        Ok(Engine { jobs })
    }

    /// Hands in something to do, behind what is waiting already.
    pub(super) fn submit(&self, job: impl FnOnce(&mut Session) + Send + 'static) -> Result<()> {
        self.jobs.send(Box::new(job)).map_err(|_| gone())
    }

    /// Asks the session for something and waits for it.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Session) -> T + Send + 'static,
    ) -> Result<T> {
        let (answer, answers) = channel();
        self.submit(move |session| {
            // Whoever asked may have gone.
            let _ = answer.send(question(session));
        })?;
        answers.recv().map_err(|_| gone())
    }
}

fn gone() -> Error {
    Error::invalid("the engine", "one that answers", "one that has stopped")
        .with_hint("this is a defect of saescope; start it again, and please report what you did")
}
