//! Where a model comes from: the repository of a name, and the files with the weights.

use crate::aliases::{nearest_models, resolve_model};
use crate::error::{Error, Result, did_you_mean_any};
use crate::files;
use crate::hub::{RepoKind, Snapshot};
use crate::progress::Progress;
use crate::repo::Repo;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Returns the repository of a name: a local folder, one of TransformerLens' names, or a hub id.
pub(super) fn repo_of(name: &str, revision: Option<&str>, progress: &Progress) -> Result<Repo> {
    if Path::new(name).is_dir() {
        return Repo::open(RepoKind::Model, name, revision, progress);
    }
    if let Some(id) = resolve_model(name) {
        return Repo::hub(RepoKind::Model, id, revision, progress);
    }
    if name.contains('/') && Snapshot::is_valid_id(name) {
        return Repo::open(RepoKind::Model, name, revision, progress);
    }
    if name.contains(['/', '\\']) || name.starts_with(['.', '~']) {
        let message = format!("there is no folder `{name}`");
        return Err(Error::not_found(message, "check the path; it is relative to the current folder"));
    }
    let meant = did_you_mean_any(&nearest_models(name));
    Err(Error::not_found(
        format!("unknown model `{name}`: neither \"demo\", a folder, nor a name that TransformerLens knows"),
        format!("{meant}give a TransformerLens name, a hub repository as `owner/name`, or a local folder"),
    ))
}

/// The files with a model's weights: `model.safetensors`, the shards in its index or else all safetensors files; if
/// there are none, the same for torch's `pytorch_model.bin`.
pub(super) fn weight_files(repo: &Repo, progress: &Progress) -> Result<Vec<PathBuf>> {
    for stem in ["model.safetensors", "pytorch_model.bin"] {
        if repo.has(stem, progress)? {
            return Ok(vec![repo.file(stem, progress)?]);
        }
        let index = format!("{stem}.index.json");
        if repo.has(&index, progress)? {
            return shards(repo, &index, progress);
        }
        let end = if stem.ends_with(".bin") { ".bin" } else { ".safetensors" };
        let names = repo.names(progress)?;
        let names = names.iter().filter(|name| name.ends_with(end) && !name.contains('/'));
        // Training runs save their state, which is not weights, under these names.
        let names = names.filter(|name| *name != "training_args.bin" && *name != "optimizer.bin");
        let files = names.map(|name| repo.file(name, progress)).collect::<Result<Vec<_>>>()?;
        if !files.is_empty() {
            return Ok(files);
        }
    }
    let error = Error::mismatch(
        format!("`{}` has no weights: neither model.safetensors nor pytorch_model.bin", repo.name()),
        "for another format, load the model once in Python and call save_pretrained(folder)",
    );
    Err(repo.missing_file_error("model.safetensors", error, progress))
}

fn shards(repo: &Repo, index: &str, progress: &Progress) -> Result<Vec<PathBuf>> {
    let path = repo.file(index, progress)?;
    let parsed: serde_json::Value = serde_json::from_slice(&files::read(&path)?)
        .map_err(|e| Error::malformed(&path, format!("not JSON: {e}")))?;
    let map = parsed.get("weight_map").and_then(serde_json::Value::as_object);
    let map = map.ok_or_else(|| Error::malformed(&path, "expected an object `weight_map`"))?;
    // A shard must be in the folder itself: an index that points elsewhere is not followed.
    let is_here = |name: &&str| Path::new(name).file_name().is_some_and(|file| file == *name);
    let names: Option<BTreeSet<_>> = map.values().map(|name| name.as_str().filter(is_here)).collect();
    let names =
        names.ok_or_else(|| Error::malformed(&path, "`weight_map` must name files of this folder"))?;
    names.into_iter().map(|name| repo.file(name, progress)).collect()
}
