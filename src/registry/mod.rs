//! Published SAEs by SAELens' names: a release and an id.
//!
//! The list is SAELens', embedded in the program (assets/registry/README.md) and parsed on first use; a newer one can
//! be read from a file. It says where an SAE is stored, and what must be known besides its checkpoint.

mod list;
mod site;

pub use list::{ReleaseListing, Releases, SaeFilter, SaeListing, SaeTable, list_releases, list_saes};

use crate::error::{Error, Result, did_you_mean, nearest};
use crate::yaml;
use flate2::read::GzDecoder;
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashSet};
use std::io::Read;
use std::path::Path;
use std::sync::LazyLock;

/// The size limit of a list, in bytes; SAELens' list has 1.5 MB.
const MAX_BYTES: u64 = 64 << 20;

/// The embedded list, compressed.
const EMBEDDED: &[u8] = include_bytes!("../../assets/registry/pretrained_saes.json.gz");

/// The releases of published SAEs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Registry {
    releases: Vec<Release>,
}

/// SAEs that were published together, for one model.
#[derive(Debug, Clone, PartialEq)]
pub struct Release {
    /// The name: `gpt2-small-res-jb`.
    pub name: String,
    /// The repository on the hub.
    pub repo_id: String,
    /// The model: an id on the hub or an alias, as in the list.
    pub model: String,
    /// SAELens' name of the loader; `None` for SAELens' own layout.
    pub conversion_func: Option<String>,
    /// Values that replace those of the checkpoints' `cfg.json`, merged before it is interpreted.
    pub config_overrides: Map<String, Value>,
    /// The SAEs, in the order of the list.
    pub saes: Vec<RegistrySae>,
}

/// One SAE of a [`Release`].
#[derive(Debug, Clone, PartialEq)]
pub struct RegistrySae {
    /// The id within the release.
    pub id: String,
    /// The folder or file in the repository.
    pub path: String,
    /// The mean number of active features per token, as the authors measured it.
    pub l0: Option<f64>,
    /// The explained variance of the activations, as the authors measured it; old values have a wrong formula.
    pub variance_explained: Option<f64>,
    /// The SAE's page on Neuronpedia: `gpt2-small/8-res-jb`.
    pub neuronpedia: Option<String>,
    /// The factor of an SAE whose checkpoint needs one but does not contain it.
    pub norm_scaling_factor: Option<f64>,
}

/// A release as written in the file, with SAELens' keys. Other keys are ignored.
#[derive(Deserialize)]
struct WrittenRelease {
    repo_id: String,
    model: String,
    conversion_func: Option<String>,
    config_overrides: Option<Map<String, Value>>,
    saes: Vec<WrittenSae>,
}

/// An SAE as written in the file. `saes`: in SAELens 6.54, a release is nested inside one of its own SAEs.
#[derive(Deserialize)]
struct WrittenSae {
    id: String,
    path: Option<String>,
    l0: Option<f64>,
    variance_explained: Option<f64>,
    neuronpedia: Option<String>,
    norm_scaling_factor: Option<f64>,
    #[serde(default)]
    saes: Vec<WrittenSae>,
}

impl Registry {
    /// Returns the embedded list.
    pub fn embedded() -> &'static Registry {
        // The tests parse it, so that nothing can fail here.
        static REGISTRY: LazyLock<Registry> = LazyLock::new(|| {
            let text = decompressed(EMBEDDED).unwrap_or_default();
            Registry::of(serde_json::from_slice(&text).unwrap_or_default())
        });
        &REGISTRY
    }

    /// Reads a list from a file: SAELens' `pretrained_saes.yaml`, or the same as JSON (`.json` or `.json.gz`).
    ///
    /// # Errors
    /// A file that cannot be read, is larger than 64 MiB or is not such a list.
    pub fn open(path: &Path) -> Result<Registry> {
        let bytes = read(path)?;
        let name = path.to_string_lossy().to_lowercase();
        let written = if name.ends_with(".json") || name.ends_with(".json.gz") {
            serde_json::from_slice(&bytes).map_err(|error| Error::malformed(path, error.to_string()))
        } else {
            let text = std::str::from_utf8(&bytes);
            let text = text.map_err(|_| Error::malformed(path, "expected YAML in UTF-8"))?;
            yaml::parse(path, text)
        };
        let hint = "give a list of releases such as SAELens' `pretrained_saes.yaml`";
        Ok(Registry::of(written.map_err(|error| error.with_hint(hint))?))
    }

    fn of(written: BTreeMap<String, WrittenRelease>) -> Registry {
        let releases = written.into_iter().map(|(name, written)| {
            let mut saes = Vec::with_capacity(written.saes.len());
            add(written.saes, &mut HashSet::new(), &mut saes);
            Release {
                name,
                repo_id: written.repo_id,
                model: written.model,
                conversion_func: written.conversion_func,
                config_overrides: written.config_overrides.unwrap_or_default(),
                saes,
            }
        });
        Registry { releases: releases.collect() }
    }

    /// Returns all releases, sorted by name.
    pub fn releases(&self) -> &[Release] {
        &self.releases
    }

    /// Returns the release of this name, ignoring case.
    pub fn release(&self, name: &str) -> Option<&Release> {
        self.releases.iter().find(|release| release.name.eq_ignore_ascii_case(name))
    }

    /// Returns the release of this name and its SAE of this id, both ignoring case. The id is optional if the release
    /// has only one SAE.
    ///
    /// # Errors
    /// An unknown release or id; a release with several SAEs, without an id.
    pub fn find(&self, release: &str, sae_id: Option<&str>) -> Result<(&Release, &RegistrySae)> {
        let release = self.known(release)?;
        match (sae_id, release.saes.as_slice()) {
            (None, [only]) => Ok((release, only)),
            (None, _) => Err(release.needs_id()),
            (Some(id), saes) => {
                let sae = saes.iter().find(|sae| sae.id.eq_ignore_ascii_case(id));
                Ok((release, sae.ok_or_else(|| release.unknown_id(id))?))
            }
        }
    }

    /// Returns the release and the SAE at a path of a repository on the hub; the first if there are several.
    pub fn at(&self, repo_id: &str, path: &str) -> Option<(&Release, &RegistrySae)> {
        let mut releases =
            self.releases.iter().filter(|release| release.repo_id.eq_ignore_ascii_case(repo_id));
        releases.find_map(|release| Some((release, release.saes.iter().find(|sae| sae.path == path)?)))
    }

    /// Like [`Registry::release`], with an error that suggests the nearest names.
    fn known(&self, name: &str) -> Result<&Release> {
        self.release(name).ok_or_else(|| {
            let names = self.releases.iter().map(|release| release.name.as_str());
            Error::unknown("release", name, nearest(name, names, 5))
        })
    }
}

impl Release {
    /// Returns the hook point that one of the SAEs reads, if its names say so.
    pub fn hook_of(&self, sae: &RegistrySae) -> Option<String> {
        site::hook(self, sae)
    }

    fn unknown_id(&self, id: &str) -> Error {
        let near = did_you_mean(id, self.saes.iter().map(|sae| sae.id.as_str()));
        let near = near.map_or(String::new(), |near| format!("did you mean `{near}`? "));
        Error::mismatch(
            format!("release `{}` has no SAE `{id}`", self.name),
            format!("{near}{}", self.some_ids()),
        )
    }

    fn needs_id(&self) -> Error {
        let what = format!("release `{}`", self.name);
        Error::invalid(what, "the id of one of its SAEs", "none").with_hint(self.some_ids())
    }

    /// Lists the first few ids, and says how to see the others.
    fn some_ids(&self) -> String {
        let mut ids: Vec<_> = self.saes.iter().map(|sae| sae.id.as_str()).collect();
        ids.sort_by(|a, b| list::natural(a, b));
        let shown: Vec<_> = ids.iter().take(5).map(|id| format!("`{id}`")).collect();
        let rest = match ids.len() {
            0..=5 => String::new(),
            _ => format!(", …; `saescope saes --release {}` lists them", self.name),
        };
        format!("it has {}: {}{rest}", ids.len(), shown.join(", "))
    }
}

/// Adds SAEs and those nested inside them; the first of equal ids counts. A missing path is the same as the id.
fn add(written: Vec<WrittenSae>, ids: &mut HashSet<String>, saes: &mut Vec<RegistrySae>) {
    for sae in written {
        if ids.insert(sae.id.to_lowercase()) {
            saes.push(RegistrySae {
                path: sae.path.unwrap_or_else(|| sae.id.clone()),
                id: sae.id,
                l0: sae.l0,
                variance_explained: sae.variance_explained,
                neuronpedia: sae.neuronpedia,
                norm_scaling_factor: sae.norm_scaling_factor,
            });
        }
        add(sae.saes, ids, saes);
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = crate::files::read_start(path, MAX_BYTES + 1)?;
    if bytes.starts_with(&[0x1f, 0x8b]) {
        bytes = decompressed(&bytes).map_err(Error::file("read", path))?;
    }
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Error::malformed(path, format!("expected at most {} MiB", MAX_BYTES >> 20)));
    }
    Ok(bytes)
}

/// Decompresses up to `MAX_BYTES + 1`, so that the caller can tell "too large" from "just fits".
fn decompressed(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut contents = Vec::new();
    GzDecoder::new(bytes).take(MAX_BYTES + 1).read_to_end(&mut contents)?;
    Ok(contents)
}
