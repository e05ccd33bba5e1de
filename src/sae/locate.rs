//! Resolves the name of an SAE: where its files are, and what the registry knows about it.

use super::SaeOptions;
use super::formats::{self, Found, Hints};
use crate::error::{Error, Result, did_you_mean_any, nearest};
use crate::files;
use crate::hub::{RepoKind, Snapshot};
use crate::progress::Progress;
use crate::registry::{Registry, RegistrySae, Release};
use crate::repo::{Repo, check_no_revision};
use std::path::Path;

/// Opens the SAE with this name and id: "demo", a local folder or file, a release of the registry, or a repository on
/// the hub.
pub(super) fn open(
    name: &str,
    sae_id: Option<&str>,
    options: &SaeOptions,
    progress: &Progress,
) -> Result<Found> {
    let revision = options.revision.as_deref();
    let local = Path::new(name);
    if name == "demo" || local.exists() {
        check_no_revision(name, "SAE", revision)?;
        if name == "demo" {
            return formats::open_demo(sae_id, options.conversion.as_deref());
        }
        let (repo, path) = local_repo(local, sae_id)?;
        return formats::open(&repo, &path, &hints(options), progress);
    }
    let given = options.registry.as_deref().map(|path| Registry::open(Path::new(path))).transpose()?;
    let registry = given.as_ref().unwrap_or_else(|| Registry::embedded());
    if registry.release(name).is_some() {
        let (release, sae) = registry.find(name, sae_id)?;
        let repo = Repo::hub(RepoKind::Model, &release.repo_id, revision, progress)?;
        return published(release, sae, &repo, options, progress);
    }
    if name.contains('/') && Snapshot::is_valid_id(name) {
        let repo = Repo::hub(RepoKind::Model, name, revision, progress)?;
        let path = sae_id.unwrap_or_default().trim_matches('/');
        // A repository that is also in the registry gets what the registry knows about it.
        return match registry.at(name, path) {
            Some((release, sae)) => published(release, sae, &repo, options, progress),
            None => formats::open(&repo, path, &hints(options), progress),
        };
    }
    let names = registry.releases().iter().map(|release| release.name.as_str());
    let meant = did_you_mean_any(&nearest(name, names, 3));
    Err(Error::not_found(
        format!("unknown SAE `{name}`: not \"demo\", a folder, a file or a release in SAELens' list"),
        format!("{meant}`saescope saes` lists the releases; or give a hub repository as `owner/name`"),
    ))
}

fn hints(options: &SaeOptions) -> Hints {
    Hints { conversion: options.conversion.clone(), ..Hints::default() }
}

/// Returns the repository and the path in it of a local folder, a file, or an id in a folder.
fn local_repo(path: &Path, sae_id: Option<&str>) -> Result<(Repo, String)> {
    if path.is_dir() {
        return Ok((Repo::local(path), sae_id.unwrap_or_default().to_owned()));
    }
    match (sae_id, path.file_name().and_then(|file| file.to_str())) {
        (None, Some(file)) => Ok((Repo::local(files::folder_of(path)), file.to_owned())),
        _ => Err(Error::mismatch(
            format!("`{}` is a file and takes no SAE id", path.display()),
            "leave the id out, or give the folder",
        )),
    }
}

/// Opens an SAE of the registry, with what the registry knows about it.
fn published(
    release: &Release,
    sae: &RegistrySae,
    repo: &Repo,
    options: &SaeOptions,
    progress: &Progress,
) -> Result<Found> {
    let saelens = || release.conversion_func.clone().unwrap_or_else(|| "sae_lens".to_owned());
    let hints = Hints {
        conversion: Some(options.conversion.clone().unwrap_or_else(saelens)),
        overrides: release.config_overrides.clone(),
        norm_scaling_factor: sae.norm_scaling_factor,
        hook_name: release.hook_of(sae),
        model_name: Some(release.model.clone()),
    };
    let mut found = formats::open(repo, &sae.path, &hints, progress)?;
    let config = &mut found.config;
    config.sae_id = format!("{}/{}", release.name, sae.id);
    config.published_l0 = sae.l0;
    config.neuronpedia_id.clone_from(&sae.neuronpedia);
    // If a release says nothing about the model's weights, the model was not processed.
    config.center_writing_weights = config.center_writing_weights.or(Some(false));
    Ok(found)
}
