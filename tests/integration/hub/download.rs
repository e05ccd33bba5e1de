//! Downloads that break off, resume, arrive damaged, wait or run concurrently.

use super::*;
use crate::hub::server::{Fault, etag};
use std::time::{Duration, Instant};

/// `length` bytes of pseudorandom noise.
fn noise(length: usize) -> Vec<u8> {
    (0..length as u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

const SIZE: usize = 300_000;

/// A hub with a large file, an empty cache, the bytes of the file, and the path of its partial download.
fn large() -> (Hub, TempDir, Vec<u8>, PathBuf) {
    let (bytes, cache) = (noise(SIZE), tempfile::tempdir().unwrap());
    let hub = Hub::with_model("owner/name", &[("model.safetensors", &bytes), ("vocab.json", &bytes)]);
    let partial = format!("models--owner--name/blobs/{}.incomplete", etag("model.safetensors", &bytes));
    let partial = cache.path().join(partial);
    (hub, cache, bytes, partial)
}

fn ranges(hub: &Hub) -> Vec<String> {
    let requests = hub.requests().into_iter().filter(|request| request.line().contains("GET /cdn/"));
    requests.map(|request| request.headers.get("range").cloned().unwrap_or_default()).collect()
}

#[test]
fn a_broken_download_resumes() {
    let (hub, cache, bytes, partial) = large();
    hub.fault("GET /cdn/", 1, Fault::Cut(100_000));
    hub.fault("GET vocab.json", 1, Fault::Cut(1000));
    let repo = open(&hub.settings(cache.path())).unwrap();
    assert_eq!(contents(&repo, "model.safetensors"), bytes);
    assert_eq!(ranges(&hub), ["", "bytes=100000-"]);
    assert_eq!(contents(&repo, "vocab.json"), bytes);
    assert_eq!(hub.count("GET resolve vocab.json"), 2);
    assert!(!partial.exists());
}

#[test]
fn any_progress_resets_the_count_of_attempts() {
    // More breaks than attempts, but each connection delivers something.
    let (hub, cache, bytes, _) = large();
    hub.fault("GET /cdn/", 8, Fault::Cut(30_000));
    let repo = open(&hub.settings(cache.path())).unwrap();
    assert_eq!(contents(&repo, "model.safetensors"), bytes);
    assert_eq!(ranges(&hub).len(), 9);
}

#[test]
fn the_next_run_resumes_a_download() {
    let (hub, cache, bytes, partial) = large();
    hub.fault("GET /cdn/", 1, Fault::Cut(100_000));
    hub.fault("GET /cdn/", 2, Fault::Close);
    let repo = open(&hub.settings(cache.path())).unwrap();
    let error = text(file(&repo, "model.safetensors").unwrap_err());
    assert!(error.contains("model `owner/name`"), "{error}");
    assert_eq!(std::fs::metadata(&partial).unwrap().len(), 100_000);
    let before = ranges(&hub).len();
    assert_eq!(contents(&open(&hub.settings(cache.path())).unwrap(), "model.safetensors"), bytes);
    assert_eq!(ranges(&hub)[before..], ["bytes=100000-"]);
}

#[test]
fn a_complete_partial_file_needs_no_download() {
    let (hub, cache, bytes, partial) = large();
    std::fs::create_dir_all(partial.parent().unwrap()).unwrap();
    std::fs::write(&partial, &bytes).unwrap();
    assert_eq!(contents(&open(&hub.settings(cache.path())).unwrap(), "model.safetensors"), bytes);
    assert!(ranges(&hub).is_empty() && !partial.exists());
}

#[test]
fn a_partial_file_with_other_contents_is_discarded() {
    for wrong in [vec![7; 1000], vec![7; SIZE], vec![7; SIZE + 1]] {
        let (hub, cache, bytes, partial) = large();
        std::fs::create_dir_all(partial.parent().unwrap()).unwrap();
        std::fs::write(&partial, &wrong).unwrap();
        assert_eq!(contents(&open(&hub.settings(cache.path())).unwrap(), "model.safetensors"), bytes);
        assert_eq!(ranges(&hub).last().map(String::as_str), Some(""));
    }
}

#[test]
fn a_server_without_ranges_sends_the_entire_file_again() {
    let (hub, cache, bytes, _) = large();
    hub.fault("GET /cdn/", 1, Fault::Cut(100_000));
    hub.fault("GET /cdn/", 9, Fault::NoRange);
    assert_eq!(contents(&open(&hub.settings(cache.path())).unwrap(), "model.safetensors"), bytes);
    assert_eq!(ranges(&hub), ["", "bytes=100000-"]);
}

#[test]
fn a_range_other_than_the_requested_one_is_rejected() {
    let (hub, cache, bytes, _) = large();
    hub.fault("GET /cdn/", 1, Fault::Cut(100_000));
    let other = vec![("content-range", format!("bytes 5-{}/{SIZE}", SIZE - 1))];
    hub.fault("GET /cdn/", 2, Fault::Headers(other));
    assert_eq!(contents(&open(&hub.settings(cache.path())).unwrap(), "model.safetensors"), bytes);
    assert_eq!(ranges(&hub), ["", "bytes=100000-", ""]);
    for status in [206, 416] {
        let (hub, cache, bytes, _) = large();
        let other = vec![("content-range", "bytes 5-9/10".to_owned())];
        hub.fault("GET /cdn/", 1, Fault::Status(status, other));
        assert_eq!(contents(&open(&hub.settings(cache.path())).unwrap(), "model.safetensors"), bytes);
        assert_eq!(ranges(&hub), ["", ""]);
    }
}

#[test]
fn a_damaged_file_is_downloaded_again_and_then_refused() {
    for (name, pattern) in [("model.safetensors", "GET /cdn/"), ("vocab.json", "GET resolve vocab.json")] {
        let (hub, cache, bytes, _) = large();
        hub.fault(pattern, 1, Fault::Damage);
        let (progress, reports) = listening();
        let repo = open(&hub.settings(cache.path())).unwrap();
        assert_eq!(std::fs::read(repo.file(name, &progress).unwrap()).unwrap(), bytes);
        assert_eq!(warnings(&reports), [format!("`{name}` arrived damaged; downloading it again")]);

        let cache = tempfile::tempdir().unwrap();
        hub.fault(pattern, 2, Fault::Damage);
        let repo = open(&hub.settings(cache.path())).unwrap();
        let error = text(file(&repo, name).unwrap_err());
        assert!(error.contains("owner/name") && error.contains("damaged twice"), "{error}");
        let left = tree(&cache.path().join("models--owner--name"));
        assert_eq!(left.len(), 1, "something other than the reference is left: {left:?}");
    }
}

#[test]
fn a_file_longer_than_announced_is_refused() {
    let (hub, cache, _, _) = large();
    let mut long = noise(SIZE);
    long.extend([0; 10]);
    hub.fault("GET /cdn/", 2, Fault::Body(long));
    assert!(
        text(file(&open(&hub.settings(cache.path())).unwrap(), "model.safetensors").unwrap_err())
            .contains("damaged")
    );
}

#[test]
fn an_empty_file_can_be_downloaded() {
    let (hub, cache) = (Hub::with_model("owner/name", &[("empty.txt", b"")]), tempfile::tempdir().unwrap());
    assert_eq!(contents(&open(&hub.settings(cache.path())).unwrap(), "empty.txt"), b"");
}

#[test]
fn a_content_encoding_does_not_change_a_file() {
    let (hub, cache, bytes, _) = large();
    hub.fault("resolve vocab.json", 9, Fault::Headers(vec![("content-encoding", "gzip".to_owned())]));
    assert_eq!(contents(&open(&hub.settings(cache.path())).unwrap(), "vocab.json"), bytes);
    let packed = |request: &server::Request| request.headers.get("accept-encoding").unwrap() != "identity";
    assert!(!hub.requests().iter().any(packed));
}

#[test]
fn concurrent_threads_download_a_file_once() {
    let (hub, cache, bytes, _) = large();
    hub.fault("GET /cdn/", 1, Fault::Silence(1000, Duration::from_millis(200)));
    let settings = hub.settings(cache.path());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(contents(&open(&settings).unwrap(), "model.safetensors"), bytes));
        }
    });
    assert_eq!(ranges(&hub).len(), 1);
}

/// The body of each child process of the next test.
#[test]
#[ignore = "run by `concurrent_processes_download_a_file_once`"]
fn child_that_downloads() {
    let repo = Repo::hub(RepoKind::Model, "owner/name", None, &Progress::default()).unwrap();
    assert_eq!(contents(&repo, "model.safetensors"), noise(SIZE));
}

#[test]
fn concurrent_processes_download_a_file_once() {
    let (hub, cache, _, _) = large();
    hub.fault("GET /cdn/", 1, Fault::Silence(1000, Duration::from_millis(400)));
    let start = || {
        std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "hub::download::child_that_downloads", "--ignored"])
            .env("HF_ENDPOINT", hub.endpoint())
            .env("HF_HUB_CACHE", cache.path())
            .env_remove("HF_HUB_OFFLINE")
            .env_remove("TRANSFORMERS_OFFLINE")
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap()
    };
    for mut child in [start(), start(), start()] {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(ranges(&hub).len(), 1);
}

#[test]
fn downloads_are_reported() {
    let (hub, cache, _, _) = large();
    let (progress, reports) = listening();
    open(&hub.settings(cache.path())).unwrap().file("model.safetensors", &progress).unwrap();
    let reports = reports.lock().unwrap();
    let counts: Vec<(u64, Option<u64>)> = reports
        .iter()
        .map(|report| match report {
            ProgressEvent::Downloading { file, done, total } if file == "owner/name model.safetensors" => {
                (*done, *total)
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(counts.len() >= 2 && counts.is_sorted(), "{counts:?}");
    assert_eq!(counts.last(), Some(&(SIZE as u64, Some(SIZE as u64))));
}

#[test]
fn a_busy_hub_is_asked_again() {
    for status in [500, 502, 503, 504, 408] {
        let (hub, cache) = setting();
        for pattern in ["/api/", "HEAD config.json", "GET config.json", "GET /cdn/"] {
            hub.fault(pattern, 1, Fault::Status(status, vec![]));
        }
        hub.fault("HEAD model.safetensors", 1, Fault::Close);
        let repo = open(&hub.settings(cache.path())).unwrap();
        assert_eq!(contents(&repo, "config.json"), b"{\"a\": 1}");
        assert_eq!(contents(&repo, "model.safetensors"), b"large file");
    }
}

#[test]
fn the_number_of_attempts_is_limited() {
    let (hub, cache) = setting();
    hub.fault("HEAD config.json", 99, Fault::Status(503, vec![]));
    let repo = open(&hub.settings(cache.path())).unwrap();
    let error = text(file(&repo, "config.json").unwrap_err());
    assert!(error.contains("503 (Service Unavailable)") && error.contains("owner/name"), "{error}");
    assert_eq!(hub.count("HEAD config.json"), 3);
}

#[test]
fn rate_limits_are_respected_up_to_a_limit() {
    let (hub, cache) = setting();
    hub.fault("/api/", 1, Fault::Status(429, vec![("retry-after", "0".to_owned())]));
    hub.fault("HEAD config.json", 1, Fault::Status(429, vec![("ratelimit", "\"api\";r=0;t=1".to_owned())]));
    let (progress, reports) = listening();
    let repo =
        Repo::hub_with(&hub.settings(cache.path()), RepoKind::Model, "owner/name", None, &progress).unwrap();
    let start = Instant::now();
    repo.file("config.json", &progress).unwrap();
    assert!(start.elapsed() >= Duration::from_secs(1));
    let warnings = warnings(&reports);
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert_eq!(warnings[1], "the hub answered 429 (Too Many Requests); trying again in 1 s");
    // But not for an hour.
    hub.fault("HEAD model", 1, Fault::Status(429, vec![("retry-after", "3600".to_owned())]));
    let error = text(file(&repo, "model.safetensors").unwrap_err());
    assert!(error.contains("asks to wait 3600 s"), "{error}");
}

#[test]
fn a_silent_connection_is_abandoned() {
    let (hub, cache, bytes, _) = large();
    let mut settings = hub.settings(cache.path());
    settings.retry.read_timeout = Duration::from_millis(400);
    for pattern in ["/api/", "HEAD model", "GET /cdn/"] {
        hub.fault(pattern, 1, Fault::Close);
    }
    hub.fault("GET /cdn/", 2, Fault::Silence(1000, Duration::from_secs(120)));
    let start = Instant::now();
    assert_eq!(contents(&open(&settings).unwrap(), "model.safetensors"), bytes);
    assert!(start.elapsed() < Duration::from_secs(60));
    assert_eq!(ranges(&hub), ["", "", "bytes=1000-", "bytes=2000-"]);
}

/// Cancels the work once it is waiting, and returns how long it took to stop.
fn time_to_cancel(
    waits: impl Fn() -> bool,
    work: impl FnOnce(&Progress) -> Result<(), Error> + Send,
) -> Duration {
    let progress = Progress::default();
    std::thread::scope(|scope| {
        let at_work = scope.spawn(|| work(&progress));
        while !waits() && !at_work.is_finished() {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(150));
        assert!(!at_work.is_finished());
        let start = Instant::now();
        progress.cancel();
        assert!(at_work.join().unwrap().unwrap_err().is_interrupted());
        start.elapsed()
    })
}

#[test]
fn every_wait_can_be_canceled() {
    let (hub, cache, bytes, partial) = large();
    let settings = hub.settings(cache.path());
    let repo = open(&settings).unwrap();
    let long = Duration::from_secs(60);
    let soon = Duration::from_secs(20);
    // The hub has received `n` requests.
    let hub = &hub;
    let asked = |pattern: &'static str, n: usize| move || hub.count(pattern) >= n;
    let get = |progress: &Progress| repo.file("model.safetensors", progress).map(|_| ());
    // While it waits to try again.
    hub.fault("HEAD model", 1, Fault::Status(429, vec![("retry-after", "60".to_owned())]));
    assert!(time_to_cancel(asked("HEAD model", 1), get) < soon);
    // While it waits for the body.
    hub.fault("GET /cdn/", 1, Fault::Silence(1000, long));
    let begun = || std::fs::metadata(&partial).is_ok_and(|file| file.len() == 1000);
    assert!(time_to_cancel(begun, get) < soon);
    assert_eq!(std::fs::metadata(&partial).unwrap().len(), 1000);
    // While it waits for the lock.
    let name = etag("model.safetensors", &bytes);
    let lock = cache.path().join(format!(".locks/models--owner--name/{name}.lock"));
    let lock = std::fs::File::open(lock).unwrap();
    lock.lock().unwrap();
    assert!(time_to_cancel(asked("HEAD model", 3), get) < soon);
    drop(lock);
    assert_eq!(contents(&repo, "model.safetensors"), bytes);
    // While it waits for the headers.
    hub.fault("/api/", 1, Fault::Silence(0, long));
    assert!(
        time_to_cancel(asked("/api/", hub.count("/api/") + 1), |progress| {
            Repo::hub_with(&settings, RepoKind::Model, "owner/name", None, progress).map(|_| ())
        }) < soon
    );
}

#[cfg(unix)]
#[test]
fn a_partial_file_that_cannot_be_written_is_an_error() {
    let (hub, cache, _, partial) = large();
    std::fs::create_dir_all(&partial).unwrap();
    let error = file(&open(&hub.settings(cache.path())).unwrap(), "model.safetensors").unwrap_err();
    assert!(matches!(error, Error::File { .. }), "{error}");
}
