//! What the name of an SAE means.

use super::SaeOptions;
use super::formats::{self, Found, Hints};
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::repo::Repo;
use std::path::Path;

/// Opens the SAE that a name and an id mean.
pub(super) fn open(
    name: &str,
    sae_id: Option<&str>,
    options: &SaeOptions,
    progress: &Progress,
) -> Result<Found> {
    if name == "demo" {
        return formats::open_demo(sae_id);
    }
    let (repo, path, mut hints) = locate(name, sae_id)?;
    if options.conversion.is_some() {
        hints.conversion.clone_from(&options.conversion);
    }
    formats::open(&repo, &path, &hints, progress)
}

/// Where the files of an SAE are, and what is known of it besides: a folder, a file, or an id in a folder.
fn locate(name: &str, sae_id: Option<&str>) -> Result<(Repo, String, Hints)> {
    let local = Path::new(name);
    if local.is_dir() {
        return Ok((Repo::local(name), sae_id.unwrap_or_default().to_owned(), Hints::default()));
    }
    if local.is_file()
        && sae_id.is_none()
        && let Some(file) = local.file_name().and_then(|file| file.to_str())
    {
        let folder = local.parent().filter(|folder| !folder.as_os_str().is_empty());
        return Ok((Repo::local(folder.unwrap_or(Path::new("."))), file.to_owned(), Hints::default()));
    }
    Err(Error::mismatch(
        format!("unknown SAE `{name}`: neither \"demo\" nor a folder or a file"),
        "give a local folder or file, such as a folder with cfg.json and sae_weights.safetensors",
    ))
}
