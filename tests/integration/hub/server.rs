//! A local hub server: repositories from folders or bytes, a second port that acts as the CDN, a log of the requests,
//! and faults.
//!
//! ```ignore
//! let hub = Hub::start();
//! hub.serve_folder(RepoKind::Model, "tiny/gpt2", Path::new("tests/fixtures/models/gpt2"));
//! let repo = Repo::hub_with(&hub.settings(cache.path()), RepoKind::Model, "tiny/gpt2", None, &Progress::default());
//! // Or, for the program: Command::new(..).env("HF_ENDPOINT", hub.endpoint()).env("HF_HUB_CACHE", cache.path())
//! hub.fault("GET config.json", 2, Fault::Status(503, vec![]));
//! ```

use saescope::hub::{HubSettings, RepoKind, RetryPolicy};
use sha1::Digest;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A fault to inject into the answer to a request.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Answers with this status and these headers instead.
    Status(u16, Vec<(&'static str, String)>),
    /// Adds or replaces these headers.
    Headers(Vec<(&'static str, String)>),
    /// Answers with status 200 and this body instead.
    Body(Vec<u8>),
    /// Ends the body after this number of bytes.
    Cut(usize),
    /// Closes the connection without an answer.
    Close,
    /// Pauses for the duration after this number of bytes of the body.
    Silence(usize, Duration),
    /// Ignores the header `Range`.
    NoRange,
    /// Changes the first byte of the body.
    Damage,
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Request {
    /// "GET" or "HEAD".
    pub method: String,
    /// The path as it was sent.
    pub path: String,
    /// The headers, including `host`; names in lower case.
    pub headers: BTreeMap<String, String>,
}

impl Request {
    /// The method and the path.
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.path)
    }
}

type Files = BTreeMap<String, Vec<u8>>;

#[derive(Default)]
struct Repository {
    commits: BTreeMap<String, Files>,
    revisions: BTreeMap<String, String>,
    only_listed: Vec<String>,
}

struct Rule {
    pattern: String,
    times: usize,
    fault: Fault,
}

#[derive(Default)]
struct State {
    repositories: Mutex<BTreeMap<String, Repository>>,
    renamed: Mutex<BTreeMap<String, String>>,
    gated: Mutex<BTreeMap<String, String>>,
    requests: Mutex<Vec<Request>>,
    rules: Mutex<Vec<Rule>>,
    cdn: Mutex<String>,
    stopped: AtomicBool,
}

/// A hub that answers until it is dropped or stopped.
pub struct Hub {
    state: Arc<State>,
    addresses: [SocketAddr; 2],
}

impl Hub {
    /// Starts a hub without repositories.
    pub fn start() -> Self {
        let state = Arc::new(State::default());
        let addresses = [(); 2].map(|()| listen(&state));
        *state.cdn.lock().unwrap() = format!("http://{}", addresses[1]);
        Hub { state, addresses }
    }

    /// Starts a hub with one model.
    pub fn with_model(id: &str, files: &[(&str, &[u8])]) -> Self {
        let hub = Hub::start();
        hub.serve(RepoKind::Model, id, files);
        hub
    }

    /// Adds a commit, which becomes `main`, and returns its hash. The CDN serves files with names of weights or data.
    pub fn serve(&self, kind: RepoKind, id: &str, files: &[(&str, &[u8])]) -> String {
        let files: Files = files.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect();
        let mut hash = sha1::Sha1::new();
        for (name, bytes) in &files {
            hash.update(name);
            hash.update(bytes);
        }
        let commit = hex(hash);
        let mut repositories = self.state.repositories.lock().unwrap();
        let repository = repositories.entry(key(kind, id)).or_default();
        repository.commits.insert(commit.clone(), files);
        repository.revisions.insert("main".to_owned(), commit.clone());
        commit
    }

    /// Like [`Hub::serve`], with the files of a folder.
    pub fn serve_folder(&self, kind: RepoKind, id: &str, folder: &Path) -> String {
        let names = saescope::Repo::local(folder).names(&Default::default()).unwrap();
        let files: Vec<_> =
            names.iter().map(|name| (name, std::fs::read(folder.join(name)).unwrap())).collect();
        let files: Vec<_> = files.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        self.serve(kind, id, &files)
    }

    /// Names a commit of a repository as a branch or tag.
    pub fn tag(&self, kind: RepoKind, id: &str, commit: &str, name: &str) {
        let mut repositories = self.state.repositories.lock().unwrap();
        let repository = repositories.get_mut(&key(kind, id)).unwrap();
        repository.revisions.insert(name.to_owned(), commit.to_owned());
    }

    /// Adds a name without a file to the listing of a repository.
    pub fn list_only(&self, kind: RepoKind, id: &str, name: &str) {
        let mut repositories = self.state.repositories.lock().unwrap();
        repositories.get_mut(&key(kind, id)).unwrap().only_listed.push(name.to_owned());
    }

    /// Serves the files of a repository only to requests with this token.
    pub fn gate(&self, kind: RepoKind, id: &str, token: &str) {
        self.state.gated.lock().unwrap().insert(key(kind, id), token.to_owned());
    }

    /// Redirects requests for the model `old` to the model `new`.
    pub fn rename(&self, old: &str, new: &str) {
        self.state.renamed.lock().unwrap().insert(old.to_owned(), new.to_owned());
    }

    /// Injects a fault into the next `times` requests with all words of `pattern` in `METHOD path`. If several faults
    /// match, the one that was set first applies.
    pub fn fault(&self, pattern: &str, times: usize, fault: Fault) {
        self.state.rules.lock().unwrap().push(Rule { pattern: pattern.to_owned(), times, fault });
    }

    /// Sets another address for the CDN.
    pub fn move_cdn(&self, address: &str) {
        *self.state.cdn.lock().unwrap() = address.to_owned();
    }

    /// The address of the hub, for `HF_ENDPOINT`.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.addresses[0])
    }

    /// The port of the hub, not of the CDN.
    pub fn port(&self) -> u16 {
        self.addresses[0].port()
    }

    /// Settings for this hub and a cache, with short waits.
    pub fn settings(&self, cache: &Path) -> HubSettings {
        HubSettings {
            endpoint: self.endpoint(),
            cache: cache.to_owned(),
            token: None,
            offline: false,
            certificates: None,
            retry: RetryPolicy {
                attempts: 3,
                backoff: Duration::from_millis(2),
                max_backoff: Duration::from_secs(60),
                read_timeout: Duration::from_secs(10),
            },
        }
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.state.requests.lock().unwrap().clone()
    }

    /// The number of requests so far with all words of `pattern` in `METHOD path`.
    pub fn count(&self, pattern: &str) -> usize {
        self.requests().iter().filter(|request| matches(pattern, request)).count()
    }

    /// Stops answering requests.
    pub fn stop(&self) {
        if !self.state.stopped.swap(true, Ordering::SeqCst) {
            for address in self.addresses {
                let _ = TcpStream::connect(address);
            }
        }
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Whether the hub serves a file of this name from the CDN, under its sha256.
fn is_large(name: &str) -> bool {
    [".safetensors", ".parquet", ".npz", ".bin", ".gz", ".zst"].iter().any(|end| name.ends_with(end))
}

/// The hash of a file's contents: sha256 of a large file, else git's blob hash.
pub fn etag(name: &str, bytes: &[u8]) -> String {
    if is_large(name) {
        hex(sha2::Sha256::new_with_prefix(bytes))
    } else {
        hex(sha1::Sha1::new_with_prefix(format!("blob {}\0", bytes.len())).chain_update(bytes))
    }
}

fn hex(hash: impl Digest) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn key(kind: RepoKind, id: &str) -> String {
    match kind {
        RepoKind::Model => id.to_owned(),
        RepoKind::Dataset => format!("datasets/{id}"),
    }
}

fn matches(pattern: &str, request: &Request) -> bool {
    pattern.split(' ').all(|word| request.line().contains(word))
}

fn listen(state: &Arc<State>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let state = state.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            if state.stopped.load(Ordering::SeqCst) {
                return;
            }
            let (Ok(stream), state) = (stream, state.clone()) else { continue };
            // A client may disconnect at any time.
            std::thread::spawn(move || answer_one(stream, &state).ok());
        }
    });
    address
}

struct Answer {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Answer {
    fn new(status: u16) -> Self {
        Answer { status, headers: BTreeMap::new(), body: Vec::new() }
    }

    fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.insert(name.to_owned(), value.into());
        self
    }

    fn with_body(mut self, body: Vec<u8>) -> Self {
        self.body = body;
        self
    }
}

fn answer_one(mut stream: TcpStream, state: &State) -> std::io::Result<()> {
    let Some(request) = read_request(&mut stream)? else { return Ok(()) };
    state.requests.lock().unwrap().push(request.clone());
    let fault = {
        let mut rules = state.rules.lock().unwrap();
        let rule = rules.iter_mut().find(|rule| rule.times > 0 && matches(&rule.pattern, &request));
        rule.map(|rule| {
            rule.times -= 1;
            rule.fault.clone()
        })
    };
    let mut answer = answer_to(&request, state, !matches!(fault, Some(Fault::NoRange)));
    let mut end = usize::MAX;
    let mut silence = None;
    match fault {
        Some(Fault::Status(status, headers)) => {
            answer = Answer::new(status);
            answer.headers.extend(owned(headers));
        }
        Some(Fault::Headers(headers)) => answer.headers.extend(owned(headers)),
        Some(Fault::Body(body)) => answer = Answer::new(200).with_body(body),
        Some(Fault::Cut(bytes)) => end = bytes,
        Some(Fault::Close) => return Ok(()),
        Some(Fault::Silence(bytes, time)) => silence = Some((bytes, time)),
        Some(Fault::Damage) => {
            if let Some(byte) = answer.body.first_mut() {
                *byte ^= 1;
            }
        }
        Some(Fault::NoRange) | None => {}
    }
    let mut head = format!("HTTP/1.1 {} Whatever\r\nconnection: close\r\n", answer.status);
    head += &format!("content-length: {}\r\n", answer.body.len());
    for (name, value) in &answer.headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    if request.method == "HEAD" {
        return Ok(());
    }
    let body = &answer.body[..answer.body.len().min(end)];
    let (first, rest) = body.split_at(silence.map_or(body.len(), |(bytes, _)| bytes.min(body.len())));
    stream.write_all(first)?;
    stream.flush()?;
    if let Some((_, time)) = silence {
        std::thread::sleep(time);
    }
    stream.write_all(rest)
}

fn owned(headers: Vec<(&'static str, String)>) -> impl Iterator<Item = (String, String)> {
    headers.into_iter().map(|(name, value)| (name.to_owned(), value))
}

fn read_request(stream: &mut TcpStream) -> std::io::Result<Option<Request>> {
    let mut lines = BufReader::new(Read::by_ref(stream).take(1 << 16)).lines();
    let Some(first) = lines.next().transpose()? else { return Ok(None) };
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = BTreeMap::new();
    for line in lines {
        let line = line?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.insert(name.to_lowercase(), value.trim().to_owned());
    }
    Ok(Some(Request { method, path, headers }))
}

fn not_found(code: &str) -> Answer {
    Answer::new(404).with("x-error-code", code).with("x-error-message", "not found")
}

fn answer_to(request: &Request, state: &State, ranges: bool) -> Answer {
    let path = request.path.split('?').next().unwrap_or_default();
    let parts: Vec<String> = path.split('/').skip(1).map(unescape).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let repositories = state.repositories.lock().unwrap();
    // The hub accepts `name` as well as `owner/name`.
    let find = |parts: &[&str]| {
        let split =
            |n: usize| (parts[..n].join("/"), parts[n..].iter().map(|part| (*part).to_owned()).collect());
        let at = |(key, rest): (String, Vec<String>)| repositories.get(&key).map(|found| (key, found, rest));
        (1..=3.min(parts.len())).rev().find_map(|n| at(split(n)))
    };
    for (old, new) in state.renamed.lock().unwrap().iter() {
        if path.contains(&format!("/{old}/")) {
            let new = request.path.replace(&format!("/{old}/"), &format!("/{new}/"));
            return Answer::new(307).with("location", new);
        }
    }
    match parts.as_slice() {
        ["api", kind, rest @ ..] => {
            let mut id = rest.to_vec();
            if *kind == "datasets" {
                id.insert(0, "datasets");
            }
            let Some((_, repository, rest)) = find(&id) else { return not_found("RepoNotFound") };
            if rest.len() != 2 {
                return not_found("");
            }
            let Some((commit, files)) = at(repository, &rest[1]) else {
                return not_found("RevisionNotFound");
            };
            let names = files.keys().chain(&repository.only_listed);
            let siblings: Vec<_> = names.map(|name| serde_json::json!({ "rfilename": name })).collect();
            let body = serde_json::json!({ "id": "x", "sha": commit, "siblings": siblings, "gated": false });
            Answer::new(200).with("content-type", "application/json").with_body(body.to_string().into_bytes())
        }
        ["cdn", rest @ ..] => {
            let Some((_, repository, rest)) = find(rest) else { return not_found("") };
            match at(repository, &rest[1]).and_then(|(_, files)| files.get(&rest[2..].join("/"))) {
                Some(bytes) => body(request, bytes, ranges).with("etag", "\"of-the-cdn\""),
                None => not_found(""),
            }
        }
        rest => {
            let Some((key, repository, rest)) = find(rest) else { return not_found("RepoNotFound") };
            let [_, revision, name @ ..] = rest.as_slice() else { return not_found("") };
            let Some((commit, files)) = at(repository, revision) else {
                return not_found("RevisionNotFound");
            };
            if let Some(token) = state.gated.lock().unwrap().get(&key) {
                match request.headers.get("authorization") {
                    Some(sent) if *sent == format!("Bearer {token}") => {}
                    Some(_) => return Answer::new(403).with("x-error-code", "GatedRepo"),
                    None => return Answer::new(401).with("x-error-code", "GatedRepo"),
                }
            }
            let name = name.join("/");
            let Some(bytes) = files.get(&name) else {
                return not_found("EntryNotFound").with("x-repo-commit", commit);
            };
            let etag = format!("\"{}\"", etag(&name, bytes));
            if is_large(&name) {
                let to = format!(
                    "{}/cdn/{}?signature=secret",
                    state.cdn.lock().unwrap(),
                    path_of(&key, commit, &name)
                );
                Answer::new(302)
                    .with("location", to)
                    .with("x-linked-etag", etag)
                    .with("x-linked-size", bytes.len().to_string())
                    .with("x-repo-commit", commit)
            } else {
                body(request, bytes, ranges).with("etag", etag).with("x-repo-commit", commit)
            }
        }
    }
}

fn path_of(key: &str, commit: &str, name: &str) -> String {
    format!("{key}/at/{commit}/{}", name.replace('%', "%25").replace(' ', "%20"))
}

fn at<'a>(repository: &'a Repository, revision: &str) -> Option<(&'a str, &'a Files)> {
    let commit = repository.revisions.get(revision).map_or(revision, String::as_str);
    repository.commits.get_key_value(commit).map(|(commit, files)| (commit.as_str(), files))
}

fn body(request: &Request, bytes: &[u8], ranges: bool) -> Answer {
    let from = request.headers.get("range").filter(|_| ranges);
    let from = from.map(|range| range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap());
    match from {
        Some(from) if from >= bytes.len() => Answer::new(416),
        Some(from) => Answer::new(206)
            .with("content-range", format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len()))
            .with_body(bytes[from..].to_vec()),
        // The answer to HEAD has the length in its headers, too.
        None => Answer::new(200).with_body(bytes.to_vec()),
    }
}

fn unescape(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8().unwrap().into_owned()
}
