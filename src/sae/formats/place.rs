//! The folder or file of an SAE, and what every layout needs from it.

use super::{Found, Hints, cfg};
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::files;
use crate::progress::Progress;
use crate::repo::Repo;
use crate::sae::config::SaeConfig;
use crate::sae::parts::Parts;
use crate::yaml;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// A folder in a repository, or one file in it.
#[derive(Debug, Clone)]
pub(super) struct CheckpointFiles<'a> {
    pub(super) repo: &'a Repo,
    /// The path of the folder in the repository, "" for the repository itself.
    pub(super) folder: String,
    /// The name of the file in the folder, "" for the folder itself.
    pub(super) file: String,
    pub(super) hints: &'a Hints,
    pub(super) progress: &'a Progress,
}

impl<'a> CheckpointFiles<'a> {
    /// Resolves `path`: a file if there is one of that name, else a folder.
    pub(super) fn new(repo: &'a Repo, path: &str, hints: &'a Hints, progress: &'a Progress) -> Result<Self> {
        let folder = path.trim_matches('/').to_owned();
        let place = CheckpointFiles { repo, folder, file: String::new(), hints, progress };
        if !place.folder.is_empty() && repo.has(&place.folder, progress)? {
            let (folder, file) = place.folder.rsplit_once('/').unwrap_or(("", &place.folder));
            return Ok(CheckpointFiles { folder: folder.to_owned(), file: file.to_owned(), ..place.clone() });
        }
        Ok(place)
    }

    /// Returns the place of a file in the same folder.
    pub(super) fn with_file(&self, file: impl Into<String>) -> Self {
        CheckpointFiles { file: file.into(), ..self.clone() }
    }

    /// Returns the parent folder.
    pub(super) fn parent(&self) -> Self {
        let folder = self.folder.rsplit_once('/').map_or("", |(parent, _)| parent).to_owned();
        CheckpointFiles { folder, file: String::new(), ..self.clone() }
    }

    /// Returns the path in the repository of a file in the folder.
    pub(super) fn name(&self, file: &str) -> String {
        if self.folder.is_empty() { file.to_owned() } else { format!("{}/{file}", self.folder) }
    }

    /// Returns the path of the folder or file in the repository.
    pub(super) fn path(&self) -> String {
        match self.file.as_str() {
            "" => self.folder.clone(),
            file => self.name(file),
        }
    }

    /// Returns the full name, repository included: the SAE's id, in which layouts also look for hints.
    pub(super) fn full_name(&self) -> String {
        match self.path().as_str() {
            "" => self.repo.name(),
            path => format!("{}/{path}", self.repo.name()),
        }
    }

    pub(super) fn has(&self, file: &str) -> Result<bool> {
        self.repo.has(&self.name(file), self.progress)
    }

    /// Returns the paths of all files below the folder, relative to it.
    pub(super) fn names(&self) -> Result<Vec<String>> {
        if self.folder.is_empty() {
            return self.repo.names(self.progress);
        }
        let prefix = format!("{}/", self.folder);
        let names = self.repo.names(self.progress)?;
        Ok(names.iter().filter_map(|name| name.strip_prefix(&prefix)).map(str::to_owned).collect())
    }

    /// Returns the local path of a file in the folder.
    pub(super) fn local(&self, file: &str) -> Result<PathBuf> {
        self.repo.file(&self.name(file), self.progress)
    }

    /// Reads a JSON object or a YAML mapping in the folder; returns its path as well.
    pub(super) fn object(&self, file: &str) -> Result<(PathBuf, Map<String, Value>)> {
        let path = self.local(file)?;
        let values = object(&path, &files::read(&path)?)?;
        Ok((path, values))
    }

    /// Like [`CheckpointFiles::object`], for a file that may be missing: then there are no values, and the path is
    /// `otherwise`.
    pub(super) fn object_if_any(
        &self,
        file: &str,
        otherwise: &Path,
    ) -> Result<(PathBuf, Map<String, Value>)> {
        if self.has(file)? { self.object(file) } else { Ok((otherwise.to_owned(), Map::new())) }
    }

    /// Opens the weights in a file of the folder; returns its path as well.
    pub(super) fn checkpoint(&self, file: &str) -> Result<(PathBuf, Checkpoint)> {
        let path = self.local(file)?;
        let checkpoint = Checkpoint::open(std::slice::from_ref(&path))?;
        Ok((path, checkpoint))
    }

    /// Returns the configuration from a layout's `values` and the hints; `path` is the file that the values come from.
    pub(super) fn config(
        &self,
        layout: &'static str,
        path: &Path,
        mut values: Map<String, Value>,
    ) -> Result<SaeConfig> {
        let Hints { overrides, norm_scaling_factor, hook_name, model_name, .. } = self.hints;
        values.extend(overrides.clone());
        if let Some(factor) = norm_scaling_factor {
            values.insert("norm_scaling_factor".to_owned(), Value::from(*factor));
        }
        let mut config = cfg::config(&self.full_name(), layout, path, &values)?;
        config.hook_name = config.hook_name.or_else(|| hook_name.clone());
        config.model_name = config.model_name.or_else(|| model_name.clone());
        Ok(config)
    }

    /// Returns the opened SAE of this place, in a layout whose configuration is translated: `cfg` has SAELens' keys, and
    /// `path` is the file that its values come from. Sizes that are not in it are those of the matrices.
    pub(super) fn translated(
        &self,
        layout: &'static str,
        path: &Path,
        cfg: Value,
        checkpoint: Checkpoint,
        parts: Parts,
    ) -> Result<Found> {
        let mut cfg = values(cfg);
        let weights = checkpoint.paths().next().unwrap_or(path);
        if let Some(w_enc) = parts.w_enc.as_ref().filter(|_| !cfg.contains_key("d_in")) {
            let [d_in, d_sae] = w_enc.sizes(&checkpoint, weights)?;
            cfg.extend([("d_in".to_owned(), Value::from(d_in)), ("d_sae".to_owned(), Value::from(d_sae))]);
        }
        let architecture = cfg.get("architecture").and_then(Value::as_str).unwrap_or_default();
        if architecture.ends_with("transcoder") && !cfg.contains_key("d_out") {
            let [_, d_out] = parts.w_dec.sizes(&checkpoint, weights)?;
            cfg.insert("d_out".to_owned(), Value::from(d_out));
        }
        // Unlike a `cfg.json` of SAELens, these layouts leave nothing about the model's processing open.
        cfg.entry("model_from_pretrained_kwargs").or_insert_with(|| json!({}));
        let config = self.config(layout, path, cfg)?;
        Ok(self.found(config, checkpoint, parts))
    }

    /// Returns the opened SAE of this place.
    pub(super) fn found(&self, mut config: SaeConfig, checkpoint: Checkpoint, parts: Parts) -> Found {
        let main = parts.w_enc.as_ref().unwrap_or(&parts.w_dec);
        config.dtype = checkpoint.dtype(&main.name).unwrap_or_default();
        let revision = self.repo.revision().map(str::to_owned);
        let files = self.repo.files();
        Found { config, checkpoint, parts, revision, files, notes: Vec::new() }
    }

    /// Returns the number after the last `word` in the full name, such as a layer's.
    pub(super) fn number_after(&self, word: &str) -> Option<usize> {
        number_after(&self.full_name(), word)
    }

    /// Whether the full name contains `word`.
    pub(super) fn name_contains(&self, word: &str) -> bool {
        self.full_name().contains(word)
    }
}

/// Parses a JSON object or, in a `.yaml` file, a YAML mapping; errors name the file.
pub(super) fn object(path: &Path, bytes: &[u8]) -> Result<Map<String, Value>> {
    let is_yaml = path.extension().is_some_and(|extension| extension == "yaml");
    let (value, expected) = if is_yaml {
        let text = str::from_utf8(bytes).map_err(|e| Error::malformed(path, format!("not text: {e}")))?;
        (yaml::parse(path, text)?, "a YAML mapping")
    } else {
        let value = serde_json::from_slice(bytes);
        (value.map_err(|e| Error::malformed(path, format!("not JSON: {e}")))?, "a JSON object")
    };
    match value {
        Value::Object(values) => Ok(values),
        _ => Err(Error::malformed(path, format!("expected {expected}"))),
    }
}

/// Returns the number after the last `word` that has one: parent folders can have any name.
pub(super) fn number_after(text: &str, word: &str) -> Option<usize> {
    text.rmatch_indices(word).find_map(|(at, _)| {
        let rest = &text[at + word.len()..];
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest[..end].parse().ok()
    })
}

/// Returns the values of a JSON object literal.
pub(super) fn values(json: Value) -> Map<String, Value> {
    match json {
        Value::Object(values) => values,
        _ => Map::new(),
    }
}
