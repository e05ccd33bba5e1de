//! Repeated attempts: how many, and how long to wait before each.

use super::RequestError;
use crate::error::Result;
use crate::progress::{Progress, ProgressEvent};
use std::time::{Duration, Instant};

/// The interval at which a pause checks the cancel flag.
const STEP: Duration = Duration::from_millis(50);

/// Timeouts and retries of requests.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// The number of attempts before a request fails. Default: 5.
    pub attempts: u32,
    /// The pause after the first failed attempt, doubled after each further one. Default: 0.5 s.
    pub backoff: Duration,
    /// The longest pause that the server can ask for. Default: 310 s.
    pub max_backoff: Duration,
    /// The time without data after which a connection counts as broken. Default: 15 s.
    pub read_timeout: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        RetryPolicy {
            attempts: 5,
            backoff: Duration::from_millis(500),
            // The hub counts requests in windows of five minutes.
            max_backoff: Duration::from_secs(310),
            read_timeout: Duration::from_secs(15),
        }
    }
}

/// The attempts made for a request.
pub(crate) struct Attempts<'a> {
    retry: &'a RetryPolicy,
    most: u32,
    made: u32,
}

impl<'a> Attempts<'a> {
    /// Starts to count attempts: at most two if `hasty`, for a request with a fallback.
    pub(super) fn new(retry: &'a RetryPolicy, hasty: bool) -> Self {
        let most = if hasty { retry.attempts.min(2) } else { retry.attempts };
        Attempts { retry, most, made: 0 }
    }

    /// Counts from the start again, after an attempt that made progress.
    pub(crate) fn reset(&mut self) {
        self.made = 0;
    }

    /// Waits before the next attempt; fails if there are none left.
    pub(crate) fn again(
        &mut self,
        why: String,
        asked: Option<Duration>,
        progress: &Progress,
    ) -> Result<(), RequestError> {
        self.made += 1;
        if self.made >= self.most {
            return Err(RequestError::Transient(why));
        }
        let pause = asked.unwrap_or_else(|| self.retry.backoff * 2u32.saturating_pow(self.made - 1));
        if pause > self.retry.max_backoff {
            return Err(RequestError::Transient(format!("{why}, and asks to wait {} s", pause.as_secs())));
        }
        if asked.is_some() || pause >= Duration::from_secs(1) {
            let seconds = pause.as_secs_f64();
            progress.report(ProgressEvent::Warning(format!("{why}; trying again in {seconds:.0} s")));
        }
        Ok(sleep(pause, progress)?)
    }
}

/// Pauses, and checks the cancel flag meanwhile.
fn sleep(pause: Duration, progress: &Progress) -> Result<()> {
    let end = Instant::now() + pause;
    loop {
        progress.check()?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(STEP));
    }
}

/// Whether a response with this status code means "not now".
pub(super) fn is_transient(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
}

/// Returns how long a server asks to wait, by the headers of its response.
pub(super) fn asked_wait<'a>(header: impl Fn(&str) -> Option<&'a str>) -> Option<Duration> {
    let after = header("retry-after").and_then(|text| text.trim().parse().ok());
    // `RateLimit: "api";r=0;t=55`: no requests remain in this window, which ends in 55 s.
    let limit = || {
        let field = |name: &str| {
            let fields = header("ratelimit")?.split(';');
            fields.filter_map(|field| field.trim().strip_prefix(name)?.parse::<u64>().ok()).next()
        };
        if field("r=") == Some(0) { field("t=") } else { None }
    };
    after.or_else(limit).map(Duration::from_secs)
}
