//! The hub client: downloads, the cache, access tokens and every kind of failure, against a local hub server.

pub mod server;

mod cache;
mod download;
mod refused;

use saescope::Repo;
use saescope::hub::{HubSettings, RepoKind};
use saescope::{Error, Progress, ProgressEvent};
use server::Hub;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use tempfile::TempDir;

/// The files of a model: a small one, a large one, and a large one in a folder.
const FILES: [(&str, &[u8]); 3] = [
    ("config.json", b"{\"a\": 1}"),
    ("model.safetensors", b"large file"),
    ("sae 1/x%2e.npz", b"another large file"),
];

fn setting() -> (Hub, TempDir) {
    (Hub::with_model("owner/name", &FILES), tempfile::tempdir().unwrap())
}

fn open(settings: &HubSettings) -> Result<Repo, Error> {
    Repo::hub_with(settings, RepoKind::Model, "owner/name", None, &Progress::default())
}

fn file(repo: &Repo, name: &str) -> Result<PathBuf, Error> {
    repo.file(name, &Progress::default())
}

fn contents(repo: &Repo, name: &str) -> Vec<u8> {
    std::fs::read(file(repo, name).unwrap()).unwrap()
}

/// The message and the hint of an error.
fn text(error: Error) -> String {
    format!("{error}\nhint: {}", error.hint().unwrap_or_default())
}

/// A `Progress`, and everything that is reported to it.
fn listening() -> (Progress, Arc<Mutex<Vec<ProgressEvent>>>) {
    let reports = Arc::new(Mutex::new(Vec::new()));
    let sink = reports.clone();
    (Progress::default().reporting_to(move |report| sink.lock().unwrap().push(report)), reports)
}

fn warnings(reports: &Mutex<Vec<ProgressEvent>>) -> Vec<String> {
    let reports = reports.lock().unwrap();
    reports
        .iter()
        .filter_map(|r| if let ProgressEvent::Warning(text) = r { Some(text.clone()) } else { None })
        .collect()
}

/// All files below a folder with their contents; a link is not followed but listed with its target.
fn tree(folder: &Path) -> Vec<(String, Vec<u8>)> {
    fn walk(root: &Path, folder: &Path, found: &mut Vec<(String, Vec<u8>)>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            if path.is_symlink() {
                found.push((
                    name,
                    std::fs::read_link(&path).unwrap().to_string_lossy().into_owned().into_bytes(),
                ));
            } else if path.is_dir() {
                walk(root, &path, found);
            } else {
                found.push((name, std::fs::read(&path).unwrap()));
            }
        }
    }
    let mut found = Vec::new();
    walk(folder, folder, &mut found);
    found.sort();
    found
}
