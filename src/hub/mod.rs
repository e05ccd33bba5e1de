//! The Hugging Face hub and the cache of its files.
//!
//! A `Snapshot` is a repository at one commit. Its files are downloaded when they are requested, into the folders of
//! Python's huggingface_hub. The network is used only for files that are not there.

mod cache;
mod client;
mod download;
mod names;
mod settings;

pub use crate::http::RetryPolicy;
pub use settings::HubSettings;

pub(crate) use names::check_path;

use crate::error::{Error, Result};
use crate::http::{Client, Request, RequestError, Response, status_text};
use crate::progress::{Progress, ProgressEvent};
use cache::Folder;
use client::client;
use serde::Deserialize;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

/// The size limit of a repository's listing, in bytes.
const MAX_LISTED: usize = 64 << 20;
/// A listing with this many files or more may be incomplete.
const COMPLETE_LISTING: usize = 50_000;

/// The kind of a repository on the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepoKind {
    /// A model, or SAEs.
    Model,
    /// A dataset.
    Dataset,
}

impl RepoKind {
    fn word(self) -> &'static str {
        match self {
            RepoKind::Model => "model",
            RepoKind::Dataset => "dataset",
        }
    }
}

/// A repository on the hub at one commit.
pub(crate) struct Snapshot {
    client: Client,
    /// The address of the hub, without a trailing slash.
    endpoint: String,
    cache: Folder,
    offline: bool,
    kind: RepoKind,
    id: String,
    /// The branch, tag or commit that was requested.
    revision: String,
    commit: String,
    /// The names of all files; `None` if only the cached ones are known.
    listing: OnceLock<Option<Arc<[String]>>>,
}

/// The hub's description of a repository; other keys are ignored.
#[derive(Deserialize)]
struct Description {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

impl Snapshot {
    /// Whether `id` is a valid name of a repository.
    pub(crate) fn is_valid_id(id: &str) -> bool {
        names::is_repo_id(id)
    }

    /// Opens the repository `id` at the commit that `revision` is now. If the hub cannot be reached, this is the commit
    /// that the cache knows from the last time.
    ///
    /// # Errors
    /// A name or revision that is invalid or that the hub does not know; a hub that cannot be reached and a revision
    /// that is not in the cache.
    pub(crate) fn open(
        settings: &HubSettings,
        kind: RepoKind,
        id: &str,
        revision: Option<&str>,
        progress: &Progress,
    ) -> Result<Self> {
        if !names::is_repo_id(id) {
            let got = format!("`{}`", id.escape_debug());
            return Err(Error::invalid("the name of a repository", "`owner/name`", got));
        }
        let revision = revision.unwrap_or("main");
        names::check_revision(revision)?;
        let mut snapshot = Snapshot {
            client: client(settings)?,
            endpoint: settings.endpoint.clone(),
            cache: Folder::new(&settings.cache, kind, id),
            offline: settings.offline,
            kind,
            id: id.to_owned(),
            revision: revision.to_owned(),
            commit: String::new(),
            listing: OnceLock::new(),
        };
        if names::is_commit(revision) {
            snapshot.commit = revision.to_owned();
            return Ok(snapshot);
        }
        let cached = snapshot.cache.commit_of(revision);
        let described =
            if snapshot.offline { None } else { Some(snapshot.describe(cached.is_some(), progress)) };
        match (described, cached) {
            (Some(Ok((commit, names))), _) => {
                // A read-only cache may still have all files.
                let _ = snapshot.cache.remember(revision, &commit);
                snapshot.commit = commit;
                snapshot.listing = OnceLock::from(Some(names));
            }
            (Some(Err(RequestError::Transient(why))), Some(commit)) => {
                let text =
                    format!("{}: {why}; continuing with commit {commit} from the cache", snapshot.what());
                progress.report(ProgressEvent::Warning(text));
                snapshot.commit = commit;
                snapshot.listing = OnceLock::from(None);
            }
            (Some(Err(error)), _) => return Err(snapshot.failed(error)),
            (None, Some(commit)) => snapshot.commit = commit,
            (None, None) => return Err(snapshot.offline_error(None)),
        }
        Ok(snapshot)
    }

    /// Returns the name of the repository.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Returns the commit.
    pub(crate) fn commit(&self) -> &str {
        &self.commit
    }

    /// Returns the folder of the files that have been downloaded.
    pub(crate) fn folder(&self) -> PathBuf {
        self.cache.snapshot(&self.commit)
    }

    /// Returns the names of all files, requested once. `None` if the hub cannot be reached: then [`Snapshot::folder`]
    /// has all that is known.
    ///
    /// # Errors
    /// A hub that does not answer, with nothing in the cache.
    pub(crate) fn listing(&self, progress: &Progress) -> Result<Option<Arc<[String]>>> {
        if let Some(names) = self.listing.get() {
            return Ok(names.clone());
        }
        let here = self.folder().is_dir();
        let names = if self.offline && here {
            None
        } else if self.offline {
            return Err(self.offline_error(None));
        } else {
            match self.describe(here, progress) {
                Ok((commit, names)) if commit == self.commit => Some(names),
                Ok((commit, _)) => {
                    let text = format!("expected the files of commit {}, got {commit}", self.commit());
                    return Err(self.error(text, None));
                }
                Err(RequestError::Transient(why)) if here => {
                    let text = format!("{}: {why}; continuing with the cached files", self.what());
                    progress.report(ProgressEvent::Warning(text));
                    None
                }
                Err(error) => return Err(self.failed(error)),
            }
        };
        Ok(self.listing.get_or_init(|| names).clone())
    }

    /// Whether the hub could not be asked for the names of the files, so that only those in the cache are known.
    pub(crate) fn is_partial(&self) -> bool {
        self.offline || self.listing.get().is_some_and(Option::is_none)
    }

    /// Returns the path of a file in the cache, if it is there.
    ///
    /// # Errors
    /// A name that is not a path below the repository.
    pub(crate) fn cached(&self, name: &str) -> Result<Option<PathBuf>> {
        check_path("a file of the repository", name)?;
        Ok(Some(self.folder().join(name)).filter(|path| path.is_file()))
    }

    /// Returns the local path of a file, downloading it if it is not in the cache.
    ///
    /// # Errors
    /// A name that is not a path below the repository, or not that of a file in it; a hub that refuses the file.
    pub(crate) fn file(&self, name: &str, progress: &Progress) -> Result<PathBuf> {
        if let Some(path) = self.cached(name)? {
            return Ok(path);
        }
        if self.offline {
            return Err(self.offline_error(Some(name)));
        }
        let listing = self.listing.get().and_then(Option::as_ref);
        if listing.is_some_and(|names| names.len() < COMPLETE_LISTING && !names.iter().any(|n| n == name)) {
            return Err(self.no_such_file(name));
        }
        download::download(self, name, progress)
    }

    fn file_url(&self, name: &str) -> String {
        let name = names::escape_path(name);
        format!("{}/resolve/{}/{name}", self.page(), self.commit)
    }

    /// Returns the error for an answer that refuses a file.
    fn refused_file(&self, response: &Response, file: &str) -> Error {
        match (response.status, response.header("x-error-code")) {
            (404, None | Some("EntryNotFound")) => self.no_such_file(file),
            _ => self.refused(response),
        }
    }

    fn no_such_file(&self, name: &str) -> Error {
        let listing = self.listing.get().and_then(Option::as_ref);
        let known = listing.map(|names| names.iter().map(String::as_str)).into_iter().flatten();
        let hint = match crate::error::did_you_mean(name, known.filter(|known| *known != name)) {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None => format!("its files are listed at {}/tree/{}", self.page(), self.commit()),
        };
        let revision = &self.revision;
        self.not_found(format!("there is no file `{name}` at the revision `{revision}`"), hint)
    }

    /// Asks the hub for the commit and the files of the revision.
    fn describe(&self, hasty: bool, progress: &Progress) -> Result<(String, Arc<[String]>), RequestError> {
        let (endpoint, kind) = (&self.endpoint, self.kind.word());
        let revision = names::escape(&self.revision);
        let url = format!("{endpoint}/api/{kind}s/{}/revision/{revision}", self.id);
        let request = Request { url, head: false, from: 0 };
        let response = self.client.send(&request, &mut self.client.attempts(hasty), progress)?;
        if response.status != 200 {
            return Err(self.refused(&response).into());
        }
        let not_a_hub = |why: String| {
            let check = "check HF_ENDPOINT, and any proxy in between";
            RequestError::Transient(format!("the answer is not that of a hub ({why}): {check}"))
        };
        let body = response.body(MAX_LISTED, progress)?;
        let description: Description =
            serde_json::from_slice(&body).map_err(|error| not_a_hub(error.to_string()))?;
        if !names::is_commit(&description.sha) {
            return Err(not_a_hub("no commit".to_owned()));
        }
        let listed = description.siblings.len();
        let files = description.siblings.into_iter().map(|sibling| sibling.rfilename);
        let mut files: Vec<String> = files.filter(|name| check_path("", name).is_ok()).collect();
        if files.len() < listed {
            let count = listed - files.len();
            let text =
                format!("{}: ignored {count} names in its listing that are not paths below it", self.what());
            progress.report(ProgressEvent::Warning(text));
        }
        files.sort();
        Ok((description.sha, files.into()))
    }

    /// Returns the name for messages.
    fn what(&self) -> String {
        format!("{} `{}`", self.kind.word(), self.id)
    }

    /// Returns the address of the repository's page.
    fn page(&self) -> String {
        let folder = if self.kind == RepoKind::Dataset { "datasets/" } else { "" };
        format!("{}/{folder}{}", self.endpoint, self.id)
    }

    fn error(&self, message: impl Into<String>, hint: Option<String>) -> Error {
        Error::Hub { what: self.what(), message: message.into(), hint }
    }

    fn not_found(&self, message: String, hint: String) -> Error {
        Error::not_found(format!("{}: {message}", self.what()), hint)
    }

    fn offline(&self, message: String, hint: &str) -> Error {
        Error::Offline { message: format!("{}: {message}", self.what()), hint: hint.to_owned() }
    }

    fn offline_error(&self, file: Option<&str>) -> Error {
        let (revision, cache) = (&self.revision, self.cache.root().display());
        let file = file.map(|name| format!("`{name}` at ")).unwrap_or_default();
        let text = format!(
            "{file}the revision `{revision}` is not in the cache `{cache}`, and HF_HUB_OFFLINE is set"
        );
        self.offline(text, "unset HF_HUB_OFFLINE to download it")
    }

    fn failed(&self, error: RequestError) -> Error {
        match error {
            RequestError::Final(error) => error,
            RequestError::Transient(why) => {
                let hint = "check the connection, and HF_ENDPOINT if it is set; HF_HUB_OFFLINE=1 uses only what is in the \
                            cache";
                self.offline(format!("cannot download from {}: {why}", self.endpoint), hint)
            }
        }
    }

    /// Returns the error for an answer that refuses the request.
    fn refused(&self, response: &Response) -> Error {
        let code = response.header("x-error-code").unwrap_or_default();
        let says = response.header("x-error-message").unwrap_or_default();
        let page = self.page();
        let log_in = "set HF_TOKEN to your token, or run `hf auth login`";
        let (message, hint) = match (response.status, code) {
            (_, "GatedRepo") if self.client.has_secret() => (
                "it is gated, and the account of the token has no access".to_owned(),
                format!("ask for access at {page}, with the account that the token belongs to"),
            ),
            (_, "GatedRepo") => {
                ("it is gated".to_owned(), format!("ask for access at {page}, then {log_in}"))
            }
            (_, "RevisionNotFound") => {
                let hint = format!("branches, tags and commits are listed at {page}/commits/main");
                return self.not_found(format!("there is no revision `{}`", self.revision), hint);
            }
            (401, "") if says.starts_with("Invalid credentials") => (
                "the hub does not accept the token".to_owned(),
                "check HF_TOKEN and the file that `hf auth login` wrote; the token may have expired"
                    .to_owned(),
            ),
            (_, "RepoNotFound") | (401 | 404, "") => {
                let message = "there is no such repository, or it is private".to_owned();
                let hint = format!(
                    "check the name; there is no folder of that name here either. If it is private, {log_in}"
                );
                return self.not_found(message, hint);
            }
            (403, _) => (
                format!("the hub forbids it{}", quoted(says)),
                format!("see {page} for how to get access, then {log_in}"),
            ),
            (status, _) => {
                (format!("the hub answered {}{}", status_text(status), quoted(says)), format!("see {page}"))
            }
        };
        self.error(message, Some(hint))
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Snapshot({} {} {})", self.kind.word(), self.id, self.commit)
    }
}

/// Formats the hub's own message, shortened and on one line.
fn quoted(says: &str) -> String {
    let says: String = says.chars().filter(|c| !c.is_control()).take(200).collect();
    if says.is_empty() { says } else { format!(": {says}") }
}
