//! Downloads a file of a repository into the cache: resumes after an interruption, and verifies the hash.

use super::names::{etag, is_commit, is_hex};
use super::{Snapshot, cache};
use crate::error::{Error, Result};
use crate::files;
use crate::http::{Attempts, Request, RequestError};
use crate::progress::{Progress, ProgressEvent};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The minimum time between two reports.
const REPORTS: Duration = Duration::from_millis(100);

/// The hub's metadata of a file.
struct About {
    etag: String,
    size: Option<u64>,
}

/// Downloads a file of a snapshot into the cache and returns its path there. `name` has been checked.
pub(super) fn download(repo: &Snapshot, name: &str, progress: &Progress) -> Result<PathBuf> {
    let about = ask_about(repo, name, progress)?;
    let blob = repo.cache.blob(&about.etag);
    cache::create_parent(&blob)?;
    let _lock = repo.cache.lock(&about.etag, progress)?;
    // Another process may have downloaded it while we waited, or another commit may have the same file.
    if !blob.is_file() {
        let partial = blob.with_file_name(format!("{}.incomplete", about.etag));
        Download { repo, name, about: &about, partial: &partial, progress }.to(&blob)?;
    }
    repo.cache.link(&about.etag, &repo.commit, name)
}

fn ask_about(repo: &Snapshot, name: &str, progress: &Progress) -> Result<About> {
    let request = Request { url: repo.file_url(name), head: true, from: 0 };
    let client = &repo.client;
    let response = client.send(&request, &mut client.attempts(false), progress);
    let response = response.map_err(|error| repo.failed(error))?;
    if response.status >= 400 {
        return Err(repo.refused_file(&response, name));
    }
    let not_a_hub = |expected: &str| {
        let text = format!("the answer about `{name}` has no {expected}");
        repo.error(text, Some("check HF_ENDPOINT, and any proxy in between".to_owned()))
    };
    let commit = response.header("x-repo-commit").filter(|commit| is_commit(commit));
    let commit = commit.ok_or_else(|| not_a_hub("commit"))?;
    if commit != repo.commit {
        return Err(repo.error(format!("expected `{name}` of commit {}, got {commit}", repo.commit), None));
    }
    let redirected = (300..400).contains(&response.status);
    let own = |name| response.header(name).filter(|_| !redirected);
    let tag = response.header("x-linked-etag").or_else(|| own("etag")).and_then(etag);
    let size = response.header("x-linked-size").or_else(|| own("content-length"));
    Ok(About {
        etag: tag.ok_or_else(|| not_a_hub("usable ETag"))?.to_owned(),
        size: size.and_then(|size| size.trim().parse().ok()),
    })
}

/// A download in progress.
struct Download<'a> {
    repo: &'a Snapshot,
    name: &'a str,
    about: &'a About,
    /// The file that receives the bytes, until all are there and have been verified.
    partial: &'a Path,
    progress: &'a Progress,
}

impl Download<'_> {
    /// Downloads to `blob`. A file with the wrong hash is discarded and downloaded again, once.
    fn to(&self, blob: &Path) -> Result<()> {
        let (partial, name) = (self.partial, self.name);
        for last in [false, true] {
            self.receive()?;
            if self.is_intact()? {
                break;
            }
            self.discard()?;
            if last {
                let hint =
                    "nothing was kept; try again, and if it fails again, tell the owner of the repository";
                let text = format!("`{name}` arrived damaged twice: its hash is wrong");
                return Err(self.repo.error(text, Some(hint.to_owned())));
            }
            self.progress
                .report(ProgressEvent::Warning(format!("`{name}` arrived damaged; downloading it again")));
        }
        let file = File::options().append(true).open(partial);
        file.and_then(|file| file.sync_all()).map_err(Error::file("write", partial))?;
        std::fs::rename(partial, blob).map_err(Error::file("create", blob))
    }

    /// Downloads until all bytes are there, over several connections if necessary.
    fn receive(&self) -> Result<()> {
        let client = &self.repo.client;
        let mut attempts = client.attempts(false);
        let mut meter = Meter { download: self, last: None };
        let mut most = self.length();
        loop {
            let have = self.length();
            // Excess bytes are noticed when the file is verified.
            if have > 0 && self.about.size.is_some_and(|size| have >= size) {
                break;
            }
            match self.receive_from(have, &mut attempts, &mut meter) {
                Ok(()) => break,
                Err(RequestError::Transient(why)) => {
                    // A server that starts from the beginning each time makes no progress.
                    if self.length() > most {
                        most = self.length();
                        attempts.reset();
                    }
                    attempts.again(why, None, self.progress).map_err(|error| self.repo.failed(error))?;
                }
                Err(error) => return Err(self.repo.failed(error)),
            }
        }
        let done = self.length();
        meter.report(done, Some(done));
        Ok(())
    }

    /// Downloads the bytes from `have` on, over one connection.
    fn receive_from(
        &self,
        have: u64,
        attempts: &mut Attempts<'_>,
        meter: &mut Meter<'_>,
    ) -> Result<(), RequestError> {
        let request = Request { url: self.repo.file_url(self.name), head: false, from: have };
        let response = self.repo.client.send(&request, attempts, self.progress)?;
        let follows = |range: &str| range.starts_with(&format!("bytes {have}-"));
        let mut options = File::options();
        let start = match response.status {
            200 => 0,
            206 if response.header("content-range").is_some_and(follows) => have,
            206 | 416 => {
                self.discard()?;
                return Err(RequestError::Transient("the hub sent another part of the file".to_owned()));
            }
            _ => return Err(self.repo.refused_file(&response, self.name).into()),
        };
        let options = if start == 0 { options.write(true).truncate(true) } else { options.append(true) };
        let file = options.create(true).open(self.partial);
        let mut file = file.map_err(Error::file("create", self.partial))?;
        let mut done = start;
        while let Some(piece) = response.piece(self.progress)? {
            file.write_all(&piece).map_err(Error::file("write", self.partial))?;
            done += piece.len() as u64;
            meter.reached(done);
            if self.about.size.is_some_and(|size| done > size) {
                break;
            }
        }
        match self.about.size {
            Some(size) if done < size => {
                Err(RequestError::Transient(format!("the connection ended after {done} of {size} bytes")))
            }
            _ => Ok(()),
        }
    }

    /// Whether the file has the size and the hash that the hub states. Large files are named by the sha256 of their
    /// contents, others by their git hash.
    fn is_intact(&self) -> Result<bool> {
        let length = self.length();
        if self.about.size.is_some_and(|size| size != length) {
            return Ok(false);
        }
        let etag = &self.about.etag;
        if is_hex(etag, 64) {
            self.hashes_to(Sha256::new())
        } else if is_hex(etag, 40) {
            self.hashes_to(Sha1::new_with_prefix(format!("blob {length}\0")))
        } else {
            Ok(true)
        }
    }

    fn hashes_to(&self, mut hash: impl Digest) -> Result<bool> {
        let mut file = files::open(self.partial)?;
        let mut buffer = vec![0; 1 << 18];
        loop {
            self.progress.check()?;
            match file.read(&mut buffer).map_err(Error::file("read", self.partial))? {
                0 => break,
                length => hash.update(&buffer[..length]),
            }
        }
        let digest = hash.finalize();
        Ok(files::hex(&digest) == self.about.etag)
    }

    fn discard(&self) -> Result<()> {
        match std::fs::remove_file(self.partial) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::file("remove", self.partial)(error))
            }
            _ => Ok(()),
        }
    }

    fn length(&self) -> u64 {
        std::fs::metadata(self.partial).map_or(0, |file| file.len())
    }
}

/// Reports the progress of a download, at most every `REPORTS`.
struct Meter<'a> {
    download: &'a Download<'a>,
    last: Option<Instant>,
}

impl Meter<'_> {
    fn reached(&mut self, done: u64) {
        if self.last.is_none_or(|last| last.elapsed() >= REPORTS) {
            self.last = Some(Instant::now());
            self.report(done, self.download.about.size);
        }
    }

    fn report(&self, done: u64, total: Option<u64>) {
        let file = format!("{} {}", self.download.repo.id, self.download.name);
        self.download.progress.report(ProgressEvent::Downloading { file, done, total });
    }
}
