//! Checkpoint layouts: each file reads one, and tells where an SAE's weights are and what the SAE expects.

mod saelens;

use super::config::SaeConfig;
use super::weights::SaeNames;
use crate::checkpoint::Checkpoint;
use crate::demo;
use crate::error::{Error, Result};
use std::path::Path;

/// Opens an SAE by name: "demo", or a folder, or an id in a folder.
pub(super) fn open(name: &str, sae_id: Option<&str>) -> Result<(SaeConfig, Checkpoint, SaeNames)> {
    if name == "demo" {
        return open_demo(sae_id);
    }
    let folder = match sae_id {
        Some(id) => Path::new(name).join(id),
        None => Path::new(name).to_owned(),
    };
    if folder.join(saelens::CFG).is_file() {
        return saelens::open_folder(&folder);
    }
    let ids = saes_below(Path::new(name));
    match sae_id {
        Some(id) if !ids.is_empty() => Err(Error::Unknown {
            kind: "SAE id",
            name: id.to_owned(),
            place: format!("`{name}`"),
            known: ids,
        }),
        None if !ids.is_empty() => Err(Error::mismatch(
            format!("`{name}` is not an SAE, but a folder of {}", ids.len()),
            format!("give the id of one of them as well: `{}`", ids.join("`, `")),
        )),
        _ => Err(Error::mismatch(
            format!(
                "unknown SAE `{}`: neither \"demo\" nor a folder with {}",
                folder.display(),
                saelens::CFG
            ),
            "give a local folder with cfg.json and sae_weights.safetensors",
        )),
    }
}

fn open_demo(sae_id: Option<&str>) -> Result<(SaeConfig, Checkpoint, SaeNames)> {
    let known = || demo::SAES.iter().map(|sae| sae.sae_id.to_owned()).collect();
    let wanted = sae_id.unwrap_or(demo::SAES[0].sae_id);
    let sae = demo::SAES.iter().find(|sae| sae.sae_id == wanted).ok_or_else(|| Error::Unknown {
        kind: "SAE id",
        name: wanted.to_owned(),
        place: "`demo`".to_owned(),
        known: known(),
    })?;
    let checkpoint = Checkpoint::embedded("demo/sae_weights.safetensors", sae.weights)?;
    saelens::read(&format!("demo/{}", sae.sae_id), Path::new("demo/cfg.json"), sae.cfg, checkpoint)
}

/// The folders right below `folder` that hold an SAE, sorted.
fn saes_below(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut ids: Vec<_> = entries
        .filter_map(|entry| entry.ok())
        .filter(|entry| entry.path().join(saelens::CFG).is_file())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    ids.sort();
    ids
}
