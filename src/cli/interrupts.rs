//! Ctrl-C, the end of the terminal, and a polite kill: what they mean while something runs, and while nothing does.

use super::terminal::to_stderr;
use crate::error::{Error, Result};
use crate::progress::Progress;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// The exit code of a program that was interrupted: 128 and the number of SIGINT.
pub(super) const INTERRUPTED: u8 = 130;

/// What a signal does.
#[derive(Clone)]
pub(super) struct Interrupts {
    progress: Progress,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// Nothing runs: a prompt waits for a line, and reads Ctrl-C itself. A signal then is meant for the program.
    is_idle: AtomicBool,
    /// There is a session that would be lost.
    has_session: AtomicBool,
    /// Somebody else ends the program.
    only_cancels: AtomicBool,
    /// How many signals what runs has been sent.
    sent: AtomicU32,
}

impl Interrupts {
    /// A first signal cancels `progress`; the second ends the program at once, or where there is a session to lose, the
    /// third.
    pub(super) fn handled(progress: Progress) -> Result<Interrupts> {
        let interrupts = Interrupts { progress, state: Arc::default() };
        let handler = interrupts.clone();
        watch(move || handler.signal())
            .map_err(|e| Error::invalid("Ctrl-C", "a signal that can be handled", e))?;
        Ok(interrupts)
    }

    /// The progress that is cancelled.
    pub(super) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Waits for a line of a session that somebody types.
    pub(super) fn at_prompt<T>(&self, wait: impl FnOnce() -> T) -> T {
        self.state.has_session.store(true, Ordering::SeqCst);
        self.idle(wait)
    }

    /// Waits for input: a signal ends the program.
    pub(super) fn idle<T>(&self, wait: impl FnOnce() -> T) -> T {
        self.state.is_idle.store(true, Ordering::SeqCst);
        let line = wait();
        self.state.is_idle.store(false, Ordering::SeqCst);
        line
    }

    /// Lets no signal end the program: whoever calls this does so himself.
    pub(super) fn only_cancel(&self) {
        self.state.only_cancels.store(true, Ordering::SeqCst);
    }

    fn signal(&self) {
        if self.state.only_cancels.load(Ordering::SeqCst) {
            return self.progress.cancel();
        }
        if self.state.is_idle.load(Ordering::SeqCst) {
            // The line editor has the terminal in a mode of its own.
            let _ = crossterm::terminal::disable_raw_mode();
            std::process::exit(i32::from(INTERRUPTED));
        }
        if !self.progress.is_cancelled() {
            self.state.sent.store(1, Ordering::SeqCst);
            return self.progress.cancel();
        }
        let before = self.state.sent.fetch_add(1, Ordering::SeqCst);
        if before == 1 && self.state.has_session.load(Ordering::SeqCst) {
            return to_stderr("it has not stopped yet; once more ends saescope, with its variables");
        }
        std::process::exit(i32::from(INTERRUPTED));
    }
}

/// Calls `handler` for each signal that ends a program. A signal that the parent process set to be ignored, as nohup does
/// with SIGHUP, stays ignored. The one exception is SIGINT: a shell without job control has all programs in the background ignore
/// it, and whoever sends it to one of them does so on purpose.
///
/// A file that may not grow further (SIGXFSZ) is a write that fails.
#[cfg(unix)]
fn watch(handler: impl Fn() + Send + 'static) -> std::io::Result<()> {
    use signal_hook::consts::signal::{SIGHUP, SIGINT, SIGTERM, SIGXCPU, SIGXFSZ};
    use signal_hook::iterator::Signals;
    signal_hook::flag::register(SIGXFSZ, Arc::default())?;
    let ends = [SIGHUP, SIGTERM, SIGXCPU].into_iter().filter(|signal| !is_ignored(*signal));
    let mut signals = Signals::new(ends.chain([SIGINT]))?;
    let thread = std::thread::Builder::new().name("signals".to_owned());
    thread.spawn(move || signals.forever().for_each(|_| handler())).map(|_| ())
}

#[cfg(not(unix))]
fn watch(handler: impl FnMut() + Send + 'static) -> std::io::Result<()> {
    ctrlc::set_handler(handler).map_err(std::io::Error::other)
}

/// Whether the program ignores a signal. Asked for at the start, before anything handles it; what cannot be read, as on
/// systems without /proc, counts as not ignored.
#[cfg(unix)]
pub(super) fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u128::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    signal > 0 && mask.checked_shr(signal as u32 - 1).unwrap_or(0) & 1 == 1
}
