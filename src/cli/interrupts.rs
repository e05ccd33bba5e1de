//! What Ctrl-C (SIGINT), SIGTERM and SIGHUP do while a call runs, and while the program is idle.

use super::terminal::to_stderr;
use crate::error::{Error, Result};
use crate::progress::Progress;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// The exit code of an interrupted program: 128 plus the number of SIGINT.
pub(super) const INTERRUPTED: u8 = 130;

/// The handler of signals. Clones share its state.
#[derive(Clone)]
pub(super) struct Interrupts {
    progress: Progress,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    /// Nothing runs: the prompt waits for a line and reads Ctrl-C itself. A signal then ends the program.
    is_idle: AtomicBool,
    /// The end of the program would lose a session.
    has_session: AtomicBool,
    /// A signal only cancels; another part of the program ends it.
    only_cancels: AtomicBool,
    /// The terminal of the prompt is gone: to read from it would never end.
    is_hung_up: AtomicBool,
    /// The number of signals during the current call.
    sent: AtomicU32,
}

impl Interrupts {
    /// Installs the handler. The first signal cancels `progress`; the second ends the program, or the third if that
    /// would lose a session.
    pub(super) fn handled(progress: Progress) -> Result<Interrupts> {
        let interrupts = Interrupts { progress, state: Arc::default() };
        let handler = interrupts.clone();
        watch(move || handler.signal()).map_err(Error::failed("handle Ctrl-C"))?;
        Ok(interrupts)
    }

    /// Makes the end of the terminal (SIGHUP) the end of the program, after the current call, even if the parent process
    /// set SIGHUP to be ignored.
    pub(super) fn end_with_terminal(&self) -> Result<()> {
        let handler = self.clone();
        let hang_up = move || {
            handler.state.is_hung_up.store(true, Ordering::SeqCst);
            handler.progress.cancel();
            if handler.state.is_idle.load(Ordering::SeqCst) {
                std::process::exit(i32::from(INTERRUPTED));
            }
        };
        watch_terminal(hang_up).map_err(Error::failed("watch the terminal"))
    }

    /// The progress that signals cancel.
    pub(super) fn progress(&self) -> &Progress {
        &self.progress
    }

    /// Waits for a line that the user types into a session.
    pub(super) fn at_prompt<T>(&self, wait: impl FnOnce() -> T) -> T {
        self.state.has_session.store(true, Ordering::SeqCst);
        self.idle(|| {
            if self.state.is_hung_up.load(Ordering::SeqCst) {
                std::process::exit(i32::from(INTERRUPTED));
            }
            wait()
        })
    }

    /// Waits for input; meanwhile a signal ends the program.
    pub(super) fn idle<T>(&self, wait: impl FnOnce() -> T) -> T {
        self.state.is_idle.store(true, Ordering::SeqCst);
        let line = wait();
        self.state.is_idle.store(false, Ordering::SeqCst);
        line
    }

    /// Makes signals only cancel: the caller ends the program.
    pub(super) fn only_cancel(&self) {
        self.state.only_cancels.store(true, Ordering::SeqCst);
    }

    fn signal(&self) {
        if self.state.only_cancels.load(Ordering::SeqCst) {
            return self.progress.cancel();
        }
        if self.state.is_idle.load(Ordering::SeqCst) {
            // The line editor puts the terminal into raw mode.
            let _ = crossterm::terminal::disable_raw_mode();
            std::process::exit(i32::from(INTERRUPTED));
        }
        if !self.progress.is_canceled() {
            self.state.sent.store(1, Ordering::SeqCst);
            return self.progress.cancel();
        }
        let before = self.state.sent.fetch_add(1, Ordering::SeqCst);
        if before == 1 && self.state.has_session.load(Ordering::SeqCst) {
            return to_stderr("not stopped yet; another Ctrl-C ends saescope and loses its variables");
        }
        std::process::exit(i32::from(INTERRUPTED));
    }
}

/// Calls `handler` for each signal that ends a program. A signal that the parent process set to be ignored, as nohup
/// does with SIGHUP, stays ignored. SIGINT is the exception: a shell without job control makes its background programs
/// ignore it, so a SIGINT sent to one of them is deliberate.
///
/// SIGXFSZ (file size limit) is caught, so that the write fails instead of ending the program.
#[cfg(unix)]
fn watch(handler: impl Fn() + Send + 'static) -> std::io::Result<()> {
    use signal_hook::consts::signal::{SIGHUP, SIGINT, SIGTERM, SIGXCPU, SIGXFSZ};
    signal_hook::flag::register(SIGXFSZ, Arc::default())?;
    let ends = [SIGHUP, SIGTERM, SIGXCPU].into_iter().filter(|signal| !is_ignored(*signal));
    on_signals(ends.chain([SIGINT]), handler)
}

/// Calls `handler` when the terminal is gone.
#[cfg(unix)]
fn watch_terminal(handler: impl Fn() + Send + 'static) -> std::io::Result<()> {
    on_signals([signal_hook::consts::signal::SIGHUP], handler)
}

#[cfg(not(unix))]
fn watch_terminal(_: impl Fn() + Send + 'static) -> std::io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn on_signals(
    signals: impl IntoIterator<Item = i32>,
    handler: impl Fn() + Send + 'static,
) -> std::io::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new(signals)?;
    let thread = std::thread::Builder::new().name("signals".to_owned());
    thread.spawn(move || signals.forever().for_each(|_| handler())).map(|_| ())
}

#[cfg(not(unix))]
fn watch(handler: impl FnMut() + Send + 'static) -> std::io::Result<()> {
    ctrlc::set_handler(handler).map_err(std::io::Error::other)
}

/// Whether the program ignores a signal. To be called at the start, before any handler is installed. False if unknown,
/// as on systems without /proc.
#[cfg(unix)]
pub(super) fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u128::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    signal > 0 && mask.checked_shr(signal as u32 - 1).unwrap_or(0) & 1 == 1
}
