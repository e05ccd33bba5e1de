//! Folders written by Python's `Dataset.save_to_disk`: Arrow files, listed in `state.json`, and for a `DatasetDict` one
//! folder per split.

use super::DatasetOptions;
use super::splits::{Found, TRAIN, unknown};
use crate::error::{Error, Result};
use crate::files;
use crate::progress::Progress;
use crate::repo::Repo;
use serde_json::Value;
use std::path::Path;

/// Finds the files of the requested split; `None` if `save_to_disk` did not write this folder.
///
/// # Errors
/// A missing split, missing files, descriptions that cannot be read.
pub(super) fn find(
    repo: &Repo,
    names: &[String],
    options: &DatasetOptions,
    progress: &Progress,
) -> Result<Option<Found>> {
    let has = |name: &str| names.iter().any(|one| one == name);
    let json = |name: &str| -> Result<Value> {
        let path = repo.file(name, progress)?;
        let parsed = serde_json::from_slice(&files::read(&path)?);
        parsed.map_err(|error| Error::malformed(&path, format!("not JSON: {error}")))
    };
    let wanted = options.split.as_deref();
    let (split, folder) = if has("dataset_dict.json") {
        let dict = json("dataset_dict.json")?;
        let splits = dict.get("splits").and_then(Value::as_array).into_iter().flatten();
        let splits: Vec<&str> = splits.filter_map(Value::as_str).collect();
        let split = wanted.unwrap_or(TRAIN);
        if !splits.contains(&split) {
            return Err(unknown("split", split, repo.name(), splits));
        }
        (split.to_owned(), format!("{split}/"))
    } else if has("state.json") && has("dataset_info.json") {
        let state = json("state.json")?;
        let split = state.get("_split").and_then(Value::as_str).unwrap_or(TRAIN).to_owned();
        if wanted.is_some_and(|wanted| wanted != split) {
            return Err(unknown("split", wanted.unwrap_or_default(), repo.name(), [split]));
        }
        (split, String::new())
    } else {
        return Ok(None);
    };
    if let Some(config) = &options.config {
        return Err(unknown("config", config, repo.name(), [""; 0]));
    }
    let state_name = format!("{folder}state.json");
    let state = json(&state_name)?;
    let broken = |reason: String| {
        let message = format!("`{}` is not a complete save_to_disk dataset: {reason}", repo.name());
        Error::mismatch(message, "copy the folder again, or write it with to_parquet or to_json")
    };
    let listed = state.get("_data_files").and_then(Value::as_array);
    let listed = listed.ok_or_else(|| broken(format!("`{state_name}` has no list `_data_files`")))?;
    let mut found = Vec::new();
    for file in listed {
        let file = file.get("filename").and_then(Value::as_str).unwrap_or_default();
        // Files are in the folder itself; names that point elsewhere are refused.
        let name = format!("{folder}{file}");
        if Path::new(file).file_name().is_none_or(|last| last != file) || !has(&name) {
            return Err(broken(format!("there is no file `{name}`, which `{state_name}` lists")));
        }
        found.push(name);
    }
    if found.is_empty() {
        return Err(broken(format!("`{state_name}` lists no files: the dataset is empty")));
    }
    Ok(Some(Found { names: found, config: None, split, reader_options: Default::default() }))
}
