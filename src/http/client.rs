//! Requests to a server: redirects, who sees the secret, proxies and certificates.

use super::RequestError;
use super::retry::{Attempts, RetryPolicy, asked_wait, is_transient};
use crate::error::{Error, Result};
use crate::files;
use crate::progress::Progress;
use crate::threads::wait_for;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use ureq::http::header::{AUTHORIZATION, LOCATION, RANGE};
use ureq::http::{HeaderMap, HeaderValue, Uri};
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig};

const MAX_REDIRECTS: usize = 8;
/// The maximum size of a piece of a body, in bytes.
const PIECE: usize = 1 << 16;
/// The maximum number of pieces that wait to be written.
const QUEUE: usize = 16;

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// The address.
    pub(crate) url: String,
    /// Whether only headers are wanted, and only those of the server itself, not of a host that it redirects to.
    pub(crate) head: bool,
    /// The first byte that is wanted, 0 for the entire body.
    pub(crate) from: u64,
}

/// A response whose body is still arriving.
pub(crate) struct Response {
    pub(crate) status: u16,
    headers: HeaderMap,
    pieces: Receiver<std::io::Result<Vec<u8>>>,
}

impl Response {
    /// Returns the value of a header, if it is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Returns the next piece of the body, `None` after the last.
    pub(crate) fn piece(&self, progress: &Progress) -> Result<Option<Vec<u8>>, RequestError> {
        match wait_for(&self.pieces, progress)? {
            None => Ok(None),
            Some(Ok(piece)) => Ok(Some(piece)),
            Some(Err(error)) => Err(RequestError::Transient(format!("the connection broke: {error}"))),
        }
    }

    /// Returns the complete body, of at most `most` bytes.
    pub(crate) fn body(&self, most: usize, progress: &Progress) -> Result<Vec<u8>, RequestError> {
        let mut body = Vec::new();
        while let Some(piece) = self.piece(progress)? {
            if body.len() + piece.len() > most {
                return Err(RequestError::Transient(format!("the answer is larger than {most} bytes")));
            }
            body.extend(piece);
        }
        Ok(body)
    }
}

/// The scheme, host and port of an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    is_https: bool,
    host: String,
    port: u16,
}

impl Origin {
    /// Returns the origin of a server's address; `None` for an address with a user name, a query or a fragment.
    pub(crate) fn parse(address: &str) -> Option<Self> {
        let uri = address.parse().ok().filter(|_| !address.contains(['@', '?', '#']))?;
        Origin::of(&uri)
    }

    fn of(uri: &Uri) -> Option<Self> {
        let is_https = match uri.scheme_str()? {
            "https" => true,
            "http" => false,
            _ => return None,
        };
        let port = uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        Some(Origin { is_https, host: uri.host()?.to_lowercase(), port })
    }
}

/// The proof of who asks: the value of the header `Authorization`. It is never shown.
#[derive(Clone)]
pub(crate) struct Secret(HeaderValue);

impl Secret {
    /// Returns the secret of a token, `None` if a header cannot have it.
    pub(crate) fn bearer(token: &str) -> Option<Self> {
        // `HeaderValue` accepts bytes beyond ASCII, but sending them fails.
        let is_ascii = token.bytes().all(|byte| byte.is_ascii_graphic());
        let mut value = HeaderValue::try_from(format!("Bearer {token}")).ok().filter(|_| is_ascii)?;
        value.set_sensitive(true);
        Some(Secret(value))
    }
}

/// The server of a client, and how to ask it.
#[derive(Clone)]
pub(crate) struct ClientOptions {
    /// The name of the server in messages, such as "the hub".
    pub(crate) server: &'static str,
    /// The origin of the server. If it uses https, every request does.
    pub(crate) origin: Origin,
    /// The secret, sent to `origin` only.
    pub(crate) secret: Option<Secret>,
    /// The certificates to trust, in a PEM file; `None` for those that browsers trust.
    pub(crate) certificates: Option<PathBuf>,
    /// Timeouts and retries.
    pub(crate) retry: RetryPolicy,
    /// The headers that a response has from `origin` even if its body comes from where `origin` redirects to.
    pub(crate) kept_headers: &'static [&'static str],
}

/// A client for one server.
#[derive(Clone)]
pub(crate) struct Client {
    agent: ureq::Agent,
    options: ClientOptions,
}

impl Client {
    /// Creates a client without sending anything.
    ///
    /// # Errors
    /// A file of certificates that cannot be read.
    pub(crate) fn new(options: ClientOptions) -> Result<Self> {
        let (origin, retry) = (&options.origin, &options.retry);
        let silence = Some(retry.read_timeout);
        let mut config = ureq::Agent::config_builder()
            .user_agent(concat!("saescope/", env!("CARGO_PKG_VERSION")))
            .http_status_as_error(false)
            .max_redirects(0)
            .https_only(origin.is_https)
            .timeout_resolve(silence)
            .timeout_connect(silence)
            .timeout_recv_response(silence)
            .timeout_per_read(silence);
        if let Some(path) = options.certificates.as_deref().filter(|_| origin.is_https) {
            let roots = RootCerts::from(certificates(path)?.into_iter());
            config = config.tls_config(TlsConfig::builder().root_certs(roots).build());
        }
        if ["localhost", "127.0.0.1", "[::1]"].contains(&origin.host.as_str()) {
            config = config.proxy(None);
        }
        Ok(Client { agent: config.build().new_agent(), options })
    }

    /// Whether a secret is sent to the server.
    pub(crate) fn has_secret(&self) -> bool {
        self.options.secret.is_some()
    }

    /// Starts to count attempts: at most two if `hasty`, for a request with a fallback.
    pub(crate) fn attempts(&self, hasty: bool) -> Attempts<'_> {
        Attempts::new(&self.options.retry, hasty)
    }

    /// Repeats a request until the response is other than "not now", or the attempts are used up.
    pub(crate) fn send(
        &self,
        request: &Request,
        attempts: &mut Attempts<'_>,
        progress: &Progress,
    ) -> Result<Response, RequestError> {
        loop {
            let (why, wait) = match self.send_once(request, progress) {
                Ok(response) if is_transient(response.status) => {
                    let why = format!("{} answered {}", self.options.server, status_text(response.status));
                    (why, asked_wait(|name| response.header(name)))
                }
                Err(RequestError::Transient(why)) => (why, None),
                other => return other,
            };
            attempts.again(why, wait, progress)?;
        }
    }

    /// Sends a request on its own thread, so that waiting for the network does not delay a cancel.
    fn send_once(&self, request: &Request, progress: &Progress) -> Result<Response, RequestError> {
        progress.check()?;
        let (to_head, head) = sync_channel(1);
        let (client, request) = (self.clone(), request.clone());
        let work = move || {
            let mut response = match client.follow(&request) {
                Ok(response) => response,
                Err(error) => return drop(to_head.send(Err(error))),
            };
            let (to_pieces, pieces) = sync_channel(QUEUE);
            let headers = std::mem::take(response.headers_mut());
            let begun = Response { status: response.status().as_u16(), headers, pieces };
            if to_head.send(Ok(begun)).is_ok() && !request.head {
                pass_on(response.into_body().into_reader(), &to_pieces);
            }
        };
        let thread = std::thread::Builder::new().name("http".to_owned()).spawn(work);
        thread.map_err(Error::failed("start a thread"))?;
        wait_for(&head, progress)?.unwrap_or_else(|| Err(RequestError::Transient("no answer".to_owned())))
    }

    /// Sends a request and follows redirects. Only the server itself sees the secret.
    fn follow(&self, request: &Request) -> Result<ureq::http::Response<ureq::Body>, RequestError> {
        let ClientOptions { origin, secret, kept_headers, .. } = &self.options;
        let mut url = request.url.clone();
        let mut kept = HeaderMap::new();
        for redirects in 0..=MAX_REDIRECTS {
            let bad_address = || self.bad_address(request, redirects);
            let uri = url.parse::<Uri>().map_err(|_| bad_address())?;
            let is_server = |uri: &Uri| Origin::of(uri).as_ref() == Some(origin);
            let at_server = is_server(&uri);
            let call = if request.head { self.agent.head(&url) } else { self.agent.get(&url) };
            // A compressed body would have neither the size nor the hash of the file.
            let mut call = call.header("accept-encoding", "identity");
            if request.from > 0 {
                call = call.header(RANGE, format!("bytes={}-", request.from));
            }
            if let Some(Secret(secret)) = secret.as_ref().filter(|_| at_server) {
                call = call.header(AUTHORIZATION, secret.clone());
            }
            let mut response = call.call().map_err(|error| self.no_response(error, &uri, bad_address))?;
            for name in *kept_headers {
                if let Some(value) = response.headers().get(*name).filter(|_| at_server) {
                    kept.entry(*name).or_insert_with(|| value.clone());
                }
            }
            let target = match response.status().as_u16() {
                301 | 302 | 303 | 307 | 308 => {
                    let target = target(&uri, response.headers().get(LOCATION));
                    Some(target.ok_or_else(|| self.bad_address(request, redirects + 1))?)
                }
                _ => None,
            };
            let stays = |target: &str| target.parse().is_ok_and(|uri| is_server(&uri));
            match target {
                Some(target) if !request.head || stays(&target) => url = target,
                _ => {
                    response.headers_mut().extend(kept);
                    return Ok(response);
                }
            }
        }
        Err(RequestError::Transient(format!("more than {MAX_REDIRECTS} redirects")))
    }

    /// Returns the error for an attempt that got no response from `uri`.
    fn no_response(
        &self,
        error: ureq::Error,
        uri: &Uri,
        bad_address: impl FnOnce() -> RequestError,
    ) -> RequestError {
        let host = uri.host().unwrap_or_default();
        RequestError::Transient(match error {
            ureq::Error::Timeout(_) => {
                format!("no data from `{host}` for {} s", self.options.retry.read_timeout.as_secs_f64())
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

    /// Returns the error for an address that cannot be followed: that of the request, or, after redirects, one that
    /// the server has named and that may have a secret of its own.
    fn bad_address(&self, request: &Request, redirects: usize) -> RequestError {
        RequestError::Transient(match redirects {
            0 => format!("`{}` is not an address that can be requested", request.url),
            _ => format!("{} points to an address that cannot be followed", self.options.server),
        })
    }
}

/// Sends a body in pieces until it ends, or until the receiver is gone.
fn pass_on(mut body: impl Read, pieces: &SyncSender<std::io::Result<Vec<u8>>>) {
    loop {
        let mut piece = vec![0; PIECE];
        let piece = match body.read(&mut piece) {
            Ok(0) => return,
            Ok(length) => {
                piece.truncate(length);
                Ok(piece)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let last = piece.is_err();
        if pieces.send(piece).is_err() || last {
            return;
        }
    }
}

/// Reads the certificates of a PEM file.
fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>> {
    let bytes = files::read(path)?;
    let certificate = |item| if let Ok(PemItem::Certificate(found)) = item { Some(found) } else { None };
    let found: Vec<_> = ureq::tls::parse_pem(&bytes).filter_map(certificate).collect();
    if found.is_empty() {
        let hint = "SSL_CERT_FILE or REQUESTS_CA_BUNDLE names it; unset that to trust the certificates that \
                    browsers trust";
        return Err(Error::malformed(path, "expected certificates in PEM, found none").with_hint(hint));
    }
    Ok(found)
}

/// Returns the address that a redirect leads to; `None` if it cannot be followed.
fn target(from: &Uri, location: Option<&HeaderValue>) -> Option<String> {
    let location = location.and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (scheme, authority) = (from.scheme_str().unwrap_or_default(), from.authority());
    let authority = authority.map(|authority| authority.as_str()).unwrap_or_default();
    if location.starts_with("https://") || location.starts_with("http://") {
        Some(location.to_owned())
    } else if location.starts_with("//") {
        Some(format!("{scheme}:{location}"))
    } else if location.starts_with('/') {
        Some(format!("{scheme}://{authority}{location}"))
    } else {
        None
    }
}

/// Formats a status code with its reason, if it has one.
pub(crate) fn status_text(code: u16) -> String {
    let status = ureq::http::StatusCode::from_u16(code).ok();
    match status.and_then(|status| status.canonical_reason()) {
        Some(reason) => format!("{code} ({reason})"),
        None => code.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_cannot_be_requested_is_named() {
        let retry = RetryPolicy { attempts: 1, ..RetryPolicy::default() };
        let client = Client::new(ClientOptions {
            server: "the hub",
            origin: Origin::parse("http://127.0.0.1:1/x").unwrap(),
            secret: None,
            certificates: None,
            retry,
            kept_headers: &[],
        });
        let client = client.unwrap();
        let request = Request { url: "http://127.0.0.1:1/a b".to_owned(), head: false, from: 0 };
        match client.send(&request, &mut client.attempts(false), &Progress::default()) {
            Err(RequestError::Transient(why)) => {
                assert_eq!(why, "`http://127.0.0.1:1/a b` is not an address that can be requested");
            }
            _ => panic!("expected an error"),
        }
    }
}
