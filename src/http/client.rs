//! Requests to the hub: redirects, retries, the token, and waits that can be canceled.

use super::settings::{HubSettings, RetryPolicy};
use crate::error::{Error, Result};
use crate::files;
use crate::progress::{Progress, ProgressEvent};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;
use ureq::http::header::{AUTHORIZATION, LOCATION, RANGE, RETRY_AFTER};
use ureq::http::{HeaderMap, HeaderValue, Response, Uri};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig};

/// The interval at which a wait checks the cancel flag.
const STEP: Duration = Duration::from_millis(50);
/// The maximum size of a piece of a body, in bytes.
const PIECE: usize = 1 << 16;
/// The maximum number of pieces that wait to be written.
const QUEUE: usize = 16;
const MOST_REDIRECTS: usize = 8;
/// The headers in which the hub describes a file before it redirects to where the file is stored.
const ABOUT_THE_FILE: [&str; 3] = ["x-repo-commit", "x-linked-etag", "x-linked-size"];

/// The reasons why a request fails.
pub(super) enum Trouble {
    /// The hub could not be reached or could not answer; a later attempt may succeed.
    Passing(String),
    /// Asking again would not help.
    Final(Error),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Trouble::Final(error)
    }
}

/// A request to the hub.
#[derive(Debug, Clone)]
pub(super) struct Question {
    /// The address.
    pub(super) url: String,
    /// Whether only headers are wanted, and only those of the hub itself, not of a host that it redirects to.
    pub(super) head: bool,
    /// The first byte that is wanted, 0 for the entire file.
    pub(super) from: u64,
}

/// A response whose body is still arriving.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pieces: Receiver<std::io::Result<Vec<u8>>>,
}

impl Answer {
    /// Returns the value of a header, if it is text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Returns the next piece of the body, `None` after the last.
    pub(super) fn piece(&self, progress: &Progress) -> Result<Option<Vec<u8>>, Trouble> {
        match wait_for(&self.pieces, progress)? {
            None => Ok(None),
            Some(Ok(piece)) => Ok(Some(piece)),
            Some(Err(error)) => Err(Trouble::Passing(format!("the connection broke: {error}"))),
        }
    }

    /// Returns the complete body, of at most `most` bytes.
    pub(super) fn body(&self, most: usize, progress: &Progress) -> Result<Vec<u8>, Trouble> {
        let mut body = Vec::new();
        while let Some(piece) = self.piece(progress)? {
            if body.len() + piece.len() > most {
                return Err(Trouble::Passing(format!("the answer is larger than {most} bytes")));
            }
            body.extend(piece);
        }
        Ok(body)
    }
}

/// A client for one hub.
#[derive(Clone)]
pub(super) struct Client {
    agent: ureq::Agent,
    endpoint: String,
    /// The scheme, host and port that the token is sent to.
    origin: String,
    token: Option<HeaderValue>,
    retry: RetryPolicy,
}

impl Client {
    /// Creates a client without sending anything.
    pub(super) fn new(settings: &HubSettings) -> Result<Self> {
        let endpoint = settings.endpoint.clone();
        let uri = endpoint.parse::<Uri>().ok().filter(|_| !endpoint.contains(['@', '?', '#']));
        let Some((uri, origin)) = uri.and_then(|uri| origin(&uri).map(|origin| (uri, origin))) else {
            let expected = "an address such as `https://huggingface.co`";
            return Err(Error::invalid("HF_ENDPOINT", expected, "something else"));
        };
        let token = settings.token.as_ref().map(|token| {
            // `HeaderValue` accepts bytes beyond ASCII, but sending them fails.
            let is_ascii = token.bytes().all(|byte| byte.is_ascii_graphic());
            let value = HeaderValue::try_from(format!("Bearer {token}")).ok().filter(|_| is_ascii);
            let mut value = value.ok_or_else(|| {
                Error::invalid("the token for the hub", "letters, digits and `_`", "other characters")
                    .with_hint("check HF_TOKEN, or log in again with `hf auth login`")
            })?;
            value.set_sensitive(true);
            Ok::<_, Error>(value)
        });
        let silence = Some(settings.retry.read_timeout);
        let mut config = ureq::Agent::config_builder()
            .user_agent(concat!("saescope/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            .max_redirects(0)
            .https_only(origin.starts_with("https:"))
            .timeout_resolve(silence)
            .timeout_connect(silence)
            .timeout_recv_response(silence)
            .timeout_per_read(silence);
        if let Some(path) = settings.certificates.as_deref().filter(|_| origin.starts_with("https:")) {
            let roots = RootCerts::from(certificates(path)?.into_iter());
            config = config.tls_config(TlsConfig::builder().root_certs(roots).build());
        }
        if uri.host().is_some_and(|host| ["localhost", "127.0.0.1", "[::1]"].contains(&host)) {
            config = config.proxy(None);
        }
        Ok(Client {
            agent: config.build().new_agent(),
            endpoint,
            origin,
            token: token.transpose()?,
            retry: settings.retry.clone(),
        })
    }

    /// Returns the address of the hub, without a trailing slash.
    pub(super) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Whether a token is sent to the hub.
    pub(super) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Starts to count attempts: at most two if `hasty`, for a request with a fallback.
    pub(super) fn tries(&self, hasty: bool) -> Tries<'_> {
        let most = if hasty { self.retry.attempts.min(2) } else { self.retry.attempts };
        Tries { retry: &self.retry, most, made: 0 }
    }

    /// Repeats a request until the answer is other than "not now", or the attempts are used up.
    pub(super) fn ask(
        &self,
        question: &Question,
        tries: &mut Tries<'_>,
        progress: &Progress,
    ) -> Result<Answer, Trouble> {
        loop {
            let (why, wait) = match self.ask_once(question, progress) {
                Ok(answer) if matches!(answer.status, 408 | 429 | 500 | 502 | 503 | 504) => {
                    (format!("the hub answered {}", status(answer.status)), asked_wait(&answer))
                }
                Err(Trouble::Passing(why)) => (why, None),
                other => return other,
            };
            tries.again(why, wait, progress)?;
        }
    }

    /// Sends a request on its own thread, so that waiting for the network does not delay a cancel.
    fn ask_once(&self, question: &Question, progress: &Progress) -> Result<Answer, Trouble> {
        progress.check()?;
        let (to_head, head) = sync_channel(1);
        let (client, question) = (self.clone(), question.clone());
        let work = move || {
            let mut response = match client.follow(&question) {
                Ok(response) => response,
                Err(trouble) => return drop(to_head.send(Err(trouble))),
            };
            let (to_pieces, pieces) = sync_channel(QUEUE);
            let headers = std::mem::take(response.headers_mut());
            let answer = Answer { status: response.status().as_u16(), headers, pieces };
            if to_head.send(Ok(answer)).is_ok() && !question.head {
                pass_on(response.into_body().into_reader(), &to_pieces);
            }
        };
        let thread = std::thread::Builder::new().name("hub".to_owned()).spawn(work);
        thread.map_err(Error::failed("start a thread"))?;
        wait_for(&head, progress)?.unwrap_or_else(|| Err(Trouble::Passing("no answer".to_owned())))
    }

    /// Sends a request and follows redirects. Only the hub itself sees the token.
    fn follow(&self, question: &Question) -> Result<Response<ureq::Body>, Trouble> {
        let mut url = question.url.clone();
        let mut about = HeaderMap::new();
        for _ in 0..=MOST_REDIRECTS {
            let uri = url.parse::<Uri>().map_err(|_| bad_address())?;
            let at_hub = origin(&uri).as_deref() == Some(self.origin.as_str());
            let request = if question.head { self.agent.head(&url) } else { self.agent.get(&url) };
            // A compressed body would have neither the size nor the hash of the file.
            let mut request = request.header("accept-encoding", "identity");
            if question.from > 0 {
                request = request.header(RANGE, format!("bytes={}-", question.from));
            }
            if let Some(token) = self.token.as_ref().filter(|_| at_hub) {
                request = request.header(AUTHORIZATION, token.clone());
            }
            let mut response = request.call().map_err(|error| self.trouble(error, &uri))?;
            for name in ABOUT_THE_FILE {
                if let Some(value) = response.headers().get(name).filter(|_| at_hub) {
                    about.entry(name).or_insert_with(|| value.clone());
                }
            }
            let target = match response.status().as_u16() {
                301 | 302 | 303 | 307 | 308 => Some(target(&uri, response.headers().get(LOCATION))?),
                _ => None,
            };
            let stays = |target: &str| {
                target.parse::<Uri>().ok().and_then(|uri| origin(&uri)).as_deref()
                    == Some(self.origin.as_str())
            };
            match target {
                Some(target) if !question.head || stays(&target) => url = target,
                _ => {
                    response.headers_mut().extend(about);
                    return Ok(response);
                }
            }
        }
        Err(Trouble::Passing(format!("more than {MOST_REDIRECTS} redirects")))
    }

    fn trouble(&self, error: ureq::Error, uri: &Uri) -> Trouble {
        let host = uri.host().unwrap_or_default();
        Trouble::Passing(match error {
            ureq::Error::Timeout(_) => {
                format!("no data from `{host}` for {} s", self.retry.read_timeout.as_secs_f64())
            }
            ureq::Error::HostNotFound => format!("`{host}` was not found"),
            ureq::Error::RequireHttpsOnly(_) | ureq::Error::BadUri(_) | ureq::Error::Http(_) => {
                return bad_address();
            }
            other => {
                let text = other.to_string();
                let advice = "; if a proxy reads the traffic, SSL_CERT_FILE must name its certificates";
                format!("`{host}`: {text}{}", if text.contains("certificate") { advice } else { "" })
            }
        })
    }
}

/// Reads the certificates of a PEM file.
fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>> {
    let bytes = files::read(path)?;
    let items = ureq::tls::parse_pem(&bytes);
    let found = items.filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    });
    let found: Vec<_> = found.collect();
    if found.is_empty() {
        let hint = "SSL_CERT_FILE names it; unset that to trust the certificates that browsers trust";
        return Err(Error::malformed(path, "expected certificates in PEM, found none").with_hint(hint));
    }
    Ok(found)
}

/// The attempts made for a request.
pub(super) struct Tries<'a> {
    retry: &'a RetryPolicy,
    most: u32,
    made: u32,
}

impl Tries<'_> {
    /// Counts from the start again, after an attempt that made progress.
    pub(super) fn reset(&mut self) {
        self.made = 0;
    }

    /// Waits before the next attempt; fails if there are none left.
    pub(super) fn again(
        &mut self,
        why: String,
        asked: Option<Duration>,
        progress: &Progress,
    ) -> Result<(), Trouble> {
        self.made += 1;
        if self.made >= self.most {
            return Err(Trouble::Passing(why));
        }
        let pause = asked.unwrap_or_else(|| self.retry.backoff * 2u32.saturating_pow(self.made - 1));
        if pause > self.retry.max_backoff {
            return Err(Trouble::Passing(format!("{why}, and asks to wait {} s", pause.as_secs())));
        }
        if asked.is_some() || pause >= Duration::from_secs(1) {
            let seconds = pause.as_secs_f64();
            progress.report(ProgressEvent::Warning(format!("{why}; trying again in {seconds:.0} s")));
        }
        let end = std::time::Instant::now() + pause;
        loop {
            progress.check()?;
            let left = end.saturating_duration_since(std::time::Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(left.min(STEP));
        }
    }
}

/// Sends a body in pieces until it ends, or until the receiver is gone.
fn pass_on(mut body: impl std::io::Read, pieces: &SyncSender<std::io::Result<Vec<u8>>>) {
    loop {
        let mut piece = vec![0; PIECE];
        let read = body.read(&mut piece);
        let piece = match read {
            Ok(0) => return,
            Ok(length) => {
                piece.truncate(length);
                Ok(piece)
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let last = piece.is_err();
        if pieces.send(piece).is_err() || last {
            return;
        }
    }
}

/// Returns the next value of a channel, `None` if it is closed; checks the cancel flag while it waits.
fn wait_for<T>(channel: &Receiver<T>, progress: &Progress) -> Result<Option<T>> {
    loop {
        progress.check()?;
        match channel.recv_timeout(STEP) {
            Ok(value) => return Ok(Some(value)),
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// Returns the scheme, host and port of an address.
fn origin(uri: &Uri) -> Option<String> {
    let scheme = uri.scheme_str()?;
    let default = match scheme {
        "https" => 443,
        "http" => 80,
        _ => return None,
    };
    Some(format!("{scheme}://{}:{}", uri.host()?.to_lowercase(), uri.port_u16().unwrap_or(default)))
}

/// Returns the address that a redirect leads to.
fn target(from: &Uri, location: Option<&HeaderValue>) -> Result<String, Trouble> {
    let location = location.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (scheme, authority) = (from.scheme_str().unwrap_or_default(), from.authority());
    let authority = authority.map(|authority| authority.as_str()).unwrap_or_default();
    if location.starts_with("https://") || location.starts_with("http://") {
        Ok(location.to_owned())
    } else if location.starts_with("//") {
        Ok(format!("{scheme}:{location}"))
    } else if location.starts_with('/') {
        Ok(format!("{scheme}://{authority}{location}"))
    } else {
        Err(bad_address())
    }
}

fn bad_address() -> Trouble {
    Trouble::Passing("the hub points to an address that cannot be followed".to_owned())
}

/// Returns how long the hub asks to wait, if it does.
fn asked_wait(answer: &Answer) -> Option<Duration> {
    let after = answer.header(RETRY_AFTER.as_str()).and_then(|text| text.trim().parse().ok());
    // `RateLimit: "api";r=0;t=55`: no requests remain in this window, which ends in 55 s.
    let limit = || {
        let field = |name: &str| {
            let fields = answer.header("ratelimit")?.split(';');
            fields.filter_map(|field| field.trim().strip_prefix(name)?.parse::<u64>().ok()).next()
        };
        if field("r=") == Some(0) { field("t=") } else { None }
    };
    after.or_else(limit).map(Duration::from_secs)
}

/// Formats a status code with its reason, if it has one.
pub(super) fn status(code: u16) -> String {
    let status = ureq::http::StatusCode::from_u16(code).ok();
    match status.and_then(|status| status.canonical_reason()) {
        Some(reason) => format!("{code} ({reason})"),
        None => code.to_string(),
    }
}
