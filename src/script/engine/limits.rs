//! Limits on memory, nesting and recursion, which would otherwise end the program rather than the script.
//!
//! A single operation of the language can double a string, an array or a map, also a nested one. rhai's own size limits
//! visit all values at every step. Here the variables in scope are measured when one of them is read, with pauses that
//! are longer than a measurement takes. Other growth (in values of this crate, or in a string method that reads no
//! variable) is noticed by the memory that is left.

use super::errors::FatalError;
use super::exit::Exit;
use super::items::SkippedError;
use super::{ScriptResult, script};
use crate::error::{Error, ErrorKind};
use crate::memory;
use crate::progress::Progress;
use rhai::{
    Array, Blob, Dynamic, Engine, EvalContext, FLOAT, FnPtr, INT, ImmutableString, LexError, Map, Token,
};
use std::cell::Cell;
use std::collections::HashSet;
use std::rc::Rc;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// The limit on bytes in the strings, arrays and maps in scope: `1 / PART` of the memory available at the start, at
/// least `MIN_BYTES`. A statement can make several copies of them before they are measured again.
const MIN_BYTES: usize = 1 << 28;
const PART: u64 = 8;
/// The maximum nesting of arrays, maps and closures, because copying and dropping them is recursive.
const MAX_DEPTH: usize = 1_000;
/// The growth that counts, in bytes.
const GROWTH: u64 = 1 << 25;

/// Limits the depth of expressions and calls, and watches the memory that a script uses.
pub(super) fn register(engine: &mut Engine, progress: &Progress, exit: &Exit, skipped: &SkippedError) {
    let watch = Rc::new(Watch::default());
    let measuring = watch.clone();
    #[expect(deprecated, reason = "rhai's mark for what may change")]
    engine.on_var(move |_, _, context| {
        if now() > measuring.measure_at.get() {
            measuring.measured(|| measure(&context))?;
        }
        Ok(None)
    });
    let canceled = progress.clone();
    #[expect(deprecated, reason = "rhai's mark for what may change")]
    engine.on_parse_token(move |token, _, _| match canceled.is_canceled() {
        true => Token::LexError(Box::new(LexError::Runtime("canceled".to_owned()))),
        false => token,
    });
    let (canceled, exit, skipped) = (progress.clone(), exit.clone(), skipped.clone());
    engine.on_progress(move |_| match canceled.is_canceled() || exit.is_set() {
        true => Some(Dynamic::UNIT),
        false => skipped.take().or_else(|| watch.is_short().then(FatalError::of_memory)).map(Dynamic::from),
    });
    // The same limits in debug and release builds, for which rhai's defaults differ.
    engine.set_max_expr_depths(256, 256).set_max_call_levels(64);
    // A string that evaluates itself is not a call, so its depth could not be limited.
    engine.disable_symbol("eval");
    let waiting = progress.clone();
    engine.register_fn("sleep", move |seconds: INT| script(sleep(seconds as f64, &waiting)));
    let waiting = progress.clone();
    engine.register_fn("sleep", move |seconds: FLOAT| script(sleep(seconds, &waiting)));
}

impl FatalError {
    fn of_memory() -> Self {
        let message = "there is no memory left for the script".to_owned();
        FatalError { message, hint: Some(ABOUT_MEMORY.to_owned()), kind: ErrorKind::Other }
    }
}

/// The hint about too little memory.
const ABOUT_MEMORY: &str =
    "keep numbers in tensors and many records in files, and set variables that are no longer needed to `()`";

/// The memory that a script uses: the size of the variables in scope, measured from time to time, and what is left.
#[derive(Default)]
struct Watch {
    /// When the variables are measured next, on the clock of [`now`].
    measure_at: Cell<Duration>,
    /// The bytes of the variables at the last measurement, and the memory that was left then.
    measured: Cell<u64>,
    left_then: Cell<u64>,
    /// When the remaining memory is read next.
    look_at: Cell<Duration>,
    left: Cell<Option<u64>>,
    /// The remaining memory at the last reading, in bytes.
    seen: Cell<u64>,
    /// The bytes that the last three steps took, the latest first.
    taken: Cell<[u64; 3]>,
}

impl Watch {
    /// Measures variables and schedules the next measurement, so that measuring takes a sixth of the time.
    fn measured(&self, measure: impl FnOnce() -> ScriptResult<usize>) -> ScriptResult<()> {
        let start = worked();
        self.measured.set(measure()? as u64);
        self.left_then.set(memory::available().unwrap_or_default());
        self.measure_at.set(now() + 5 * (worked() - start));
        Ok(())
    }

    /// Whether steps like the last ones would need more memory than is left.
    fn is_short(&self) -> bool {
        if now() <= self.look_at.get() {
            return false;
        }
        let start = worked();
        let left = memory::available();
        self.look_at.set(now() + 10 * (worked() - start));
        let Some(left) = left else { return false };
        // Variables that may have grown by half since the last measurement, or in the last step, are measured again:
        // memory freed since then can hide growth.
        let before = self.seen.replace(left).max(self.left_then.get());
        if before.saturating_sub(left) > (self.measured.get() / 2).max(2 * GROWTH) {
            self.measure_at.set(Duration::ZERO);
        }
        if left < 2 * self.measured.get() {
            return true;
        }
        let before = self.left.get().map_or(left, |before| before.max(left));
        let taken = before - left;
        if taken < GROWTH {
            // Small steps add up.
            self.left.set(Some(before));
            return left < GROWTH;
        }
        self.left.set(Some(left));
        let [first, second, _] = self.taken.get();
        self.taken.set([taken, first, second]);
        let is_growing = self.taken.get().iter().all(|taken| *taken >= GROWTH);
        left < GROWTH || is_growing && left < 4 * taken
    }
}

/// Returns the time of a clock that advances every few milliseconds and costs almost nothing to read.
fn now() -> Duration {
    #[cfg(target_os = "linux")]
    let now = read_clock(rustix::time::ClockId::MonotonicCoarse);
    #[cfg(not(target_os = "linux"))]
    let now = since_start();
    now
}

/// Returns the CPU time of this thread: time given to other threads would make the pauses too long.
fn worked() -> Duration {
    #[cfg(target_os = "linux")]
    let worked = read_clock(rustix::time::ClockId::ThreadCPUTime);
    #[cfg(not(target_os = "linux"))]
    let worked = since_start();
    worked
}

#[cfg(target_os = "linux")]
fn read_clock(clock: rustix::time::ClockId) -> Duration {
    let now = rustix::time::clock_gettime(clock);
    Duration::new(now.tv_sec.try_into().unwrap_or_default(), now.tv_nsec.try_into().unwrap_or_default())
}

#[cfg(not(target_os = "linux"))]
fn since_start() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed()
}

/// Returns the limit on bytes in the strings, arrays and maps of a script.
pub(super) fn max_bytes() -> usize {
    static MAX: LazyLock<usize> = LazyLock::new(|| {
        let part = memory::available().and_then(|there| usize::try_from(there / PART).ok());
        part.unwrap_or_default().max(MIN_BYTES)
    });
    *MAX
}

/// Checks that a value of the language may take `bytes` bytes.
pub(crate) fn check_bytes(what: &str, bytes: usize) -> Result<(), Error> {
    if bytes <= max_bytes() {
        return Ok(());
    }
    Err(Error::invalid(what, allowed(), format!("{} MiB", bytes >> 20)).with_hint(ABOUT_MEMORY))
}

/// Returns the bytes of a value, as the limit counts them.
pub(super) fn bytes_of(value: &Dynamic) -> usize {
    bytes_of_all([value]).unwrap_or(usize::MAX)
}

/// Returns the bytes of values together. The error says what is allowed.
fn bytes_of_all<'a>(values: impl IntoIterator<Item = &'a Dynamic>) -> Result<usize, String> {
    let mut size = Size { left: max_bytes(), seen: HashSet::new() };
    values.into_iter().try_for_each(|value| size.take(value, 0))?;
    Ok(max_bytes() - size.left)
}

fn allowed() -> String {
    format!("at most {} MiB in strings, arrays and maps", max_bytes() >> 20)
}

/// Returns the bytes of the variables in scope; an error if they exceed the limit or are nested too deeply.
fn measure(context: &EvalContext) -> ScriptResult<usize> {
    let variables = context.scope().iter_raw().map(|(_, _, value)| value);
    let too_much = |most| Error::invalid("the script's variables", most, "more").with_hint(ABOUT_MEMORY);
    script(bytes_of_all(variables.chain(context.this_ptr())).map_err(too_much))
}

/// A count of bytes: how many are left below the limit, and which strings and shared values are already counted.
struct Size {
    left: usize,
    seen: HashSet<*const u8>,
}

impl Size {
    /// Counts a value. The error says what is allowed.
    fn take(&mut self, value: &Dynamic, depth: usize) -> Result<(), String> {
        const LONG: usize = 256;
        if depth > MAX_DEPTH {
            return Err(format!("values nested at most {MAX_DEPTH} deep"));
        }
        self.count(size_of::<Dynamic>())?;
        if value.is_shared() {
            // A value that is being changed cannot be locked.
            let Some(shared) = value.read_lock::<Dynamic>() else { return Ok(()) };
            let is_new = self.seen.insert(std::ptr::from_ref(&*shared).cast());
            return if is_new { self.take(&shared, depth + 1) } else { Ok(()) };
        }
        if let Some(text) = value.read_lock::<ImmutableString>() {
            // Copies share a string.
            if text.len() < LONG || self.seen.insert(text.as_ptr()) {
                self.count(text.len())?;
            }
        } else if let Some(array) = value.read_lock::<Array>() {
            array.iter().try_for_each(|value| self.take(value, depth + 1))?;
        } else if let Some(map) = value.read_lock::<Map>() {
            for (key, value) in map.iter() {
                self.count(key.len() + size_of::<Dynamic>())?;
                self.take(value, depth + 1)?;
            }
        } else if let Some(blob) = value.read_lock::<Blob>() {
            self.count(blob.len())?;
        } else if let Some(closure) = value.read_lock::<FnPtr>() {
            closure.iter_curry().try_for_each(|value| self.take(value, depth + 1))?;
        }
        Ok(())
    }

    fn count(&mut self, bytes: usize) -> Result<(), String> {
        self.left = self.left.checked_sub(bytes).ok_or_else(allowed)?;
        Ok(())
    }
}

/// Waits; an interrupt ends it with an error.
fn sleep(seconds: f64, progress: &Progress) -> Result<(), Error> {
    let start = Instant::now();
    while start.elapsed().as_secs_f64() < seconds {
        progress.check()?;
        let left = seconds - start.elapsed().as_secs_f64();
        std::thread::sleep(Duration::from_secs_f64(left.clamp(0.0, 0.05)));
    }
    Ok(())
}
