//! Lists of published SAEs: by model, by release, by words in their names.

use super::{Registry, RegistrySae, Release, site};
use crate::aliases::resolve_model;
use crate::error::{Error, Result};
use crate::text_table;
use saescope_options::options;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;
use std::path::Path;

/// The maximum number of SAEs that a table shows; the list itself has all of them.
const SHOWN: usize = 1000;

options! {
    /// Which SAEs to list. Rust, scripts and the command line use the same names.
    pub struct SaeFilter {
        /// Only SAEs for this model: an alias or an id on the hub. Default: any model.
        pub model: Option<String> = None,
        /// Only SAEs whose names (release, id, model, hook, repository, Neuronpedia) contain all these words, ignoring
        /// case. Default: no words.
        pub search: Option<String> = None,
        /// Only SAEs of this release. Default: any release.
        pub release: Option<String> = None,
        /// A newer list: SAELens' `pretrained_saes.yaml`. Default: the embedded list.
        pub registry: Option<String> = None,
        /// The maximum number of entries to list. Default: no limit.
        pub limit: Option<usize> = None,
    }
}

/// An SAE in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SaeListing {
    /// The release; `load_sae` takes it together with `sae_id`.
    pub release: String,
    /// The id in the release.
    pub sae_id: String,
    /// The model, as the list names it.
    pub model: String,
    /// The repository on the hub.
    pub repo_id: String,
    /// The hook point that the SAE reads, if its names say so.
    pub hook: Option<String>,
    /// The number of features, if the SAE's names say so.
    pub width: Option<usize>,
    /// The mean number of active features per token, as the authors measured it.
    pub l0: Option<f64>,
    /// The SAE's page on Neuronpedia.
    pub neuronpedia: Option<String>,
}

/// A release in a list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReleaseListing {
    /// The name of the release.
    pub release: String,
    /// The model, as the list names it.
    pub model: String,
    /// The repository on the hub.
    pub repo_id: String,
    /// The number of SAEs.
    pub saes: usize,
    /// The hook points that the SAEs read, without the block: `hook_resid_pre`.
    pub hooks: Vec<String>,
    /// The blocks of these hook points, ascending.
    pub layers: Vec<usize>,
    /// The SAEs' numbers of features, ascending.
    pub widths: Vec<usize>,
}

/// A list of SAEs, displayed as a table.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SaeTable {
    /// The SAEs, sorted by release and id.
    pub saes: Vec<SaeListing>,
}

/// A list of releases, displayed as a table.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Releases {
    /// The releases, sorted by model and name.
    pub releases: Vec<ReleaseListing>,
}

/// Returns the published SAEs that match a filter.
///
/// ```
/// # fn main() -> saescope::Result<()> {
/// use saescope::prelude::*;
///
/// let filter = SaeFilter { model: Some("gpt2-small".to_owned()), limit: Some(5), ..Default::default() };
/// println!("{}", list_saes(&filter)?);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// An unknown release; a model without SAEs; a list that cannot be read.
pub fn list_saes(filter: &SaeFilter) -> Result<SaeTable> {
    with_registry(filter, |registry| registry.list(filter))
}

/// Returns the releases of the SAEs that match a filter, each with the number of its matching SAEs.
///
/// # Errors
/// The errors of [`list_saes`].
pub fn list_releases(filter: &SaeFilter) -> Result<Releases> {
    let all = SaeFilter { limit: None, ..filter.clone() };
    let saes = with_registry(filter, |registry| registry.list(&all))?.saes;
    let mut releases: Vec<_> =
        saes.chunk_by(|a, b| a.release == b.release).filter_map(ReleaseListing::of).collect();
    releases.sort_by(|a, b| natural(&a.model, &b.model).then_with(|| natural(&a.release, &b.release)));
    releases.truncate(filter.limit.unwrap_or(usize::MAX));
    Ok(Releases { releases })
}

fn with_registry<T>(filter: &SaeFilter, work: impl FnOnce(&Registry) -> Result<T>) -> Result<T> {
    match &filter.registry {
        Some(path) => work(&Registry::open(Path::new(path))?),
        None => work(Registry::embedded()),
    }
}

impl Registry {
    /// Returns the SAEs that match a filter; its `registry` is ignored.
    ///
    /// # Errors
    /// An unknown release; a model without SAEs.
    pub fn list(&self, filter: &SaeFilter) -> Result<SaeTable> {
        let release = filter.release.as_deref().map(|name| self.known(name)).transpose()?;
        let mut releases: Vec<_> = match &filter.model {
            Some(model) => self.of_model(model)?,
            None => self.releases().iter().collect(),
        };
        releases.retain(|one| release.is_none_or(|release| release.name == one.name));
        releases.sort_by(|a, b| natural(&a.name, &b.name));
        let search = filter.search.as_deref().unwrap_or_default().to_lowercase();
        let words: Vec<_> = search.split_whitespace().collect();
        let mut saes = Vec::new();
        for release in releases {
            let start = saes.len();
            let found = release.saes.iter().map(|sae| SaeListing::of(release, sae));
            saes.extend(found.filter(|sae| words.is_empty() || sae.has(&words)));
            saes[start..].sort_by(|a, b| natural(&a.sae_id, &b.sae_id));
        }
        saes.truncate(filter.limit.unwrap_or(usize::MAX));
        Ok(SaeTable { saes })
    }

    fn of_model(&self, model: &str) -> Result<Vec<&Release>> {
        let wanted = model_key(model);
        let found: Vec<_> =
            self.releases().iter().filter(|release| model_key(&release.model) == wanted).collect();
        if found.is_empty() {
            let models: BTreeSet<_> = self.releases().iter().map(|release| release.model.as_str()).collect();
            let place = "the list of published SAEs".to_owned();
            let known = models.into_iter().map(str::to_owned).collect();
            return Err(Error::Unknown { kind: "model", name: model.to_owned(), place, known });
        }
        Ok(found)
    }
}

/// Returns a model's name without its owner, the same for aliases and for copies under other owners.
fn model_key(name: &str) -> String {
    let id = resolve_model(name).unwrap_or(name);
    let name = id.rsplit('/').next().unwrap_or_default();
    // A copy of a model may be named by its alias, as openai-community/gpt2-small would be.
    resolve_model(name).unwrap_or(name).rsplit('/').next().unwrap_or_default().to_lowercase()
}

impl SaeListing {
    fn of(release: &Release, sae: &RegistrySae) -> Self {
        SaeListing {
            release: release.name.clone(),
            sae_id: sae.id.clone(),
            model: release.model.clone(),
            repo_id: release.repo_id.clone(),
            hook: release.hook_of(sae),
            width: site::width(release, sae),
            l0: sae.l0,
            neuronpedia: sae.neuronpedia.clone(),
        }
    }

    /// Whether the SAE's names contain all words; these are in lower case.
    fn has(&self, words: &[&str]) -> bool {
        let SaeListing { release, sae_id, model, repo_id, hook, neuronpedia, .. } = self;
        let (hook, neuronpedia) = (hook.as_deref().unwrap_or(""), neuronpedia.as_deref().unwrap_or(""));
        let names = [release, sae_id, model, repo_id, hook, neuronpedia].join(" ").to_lowercase();
        words.iter().all(|word| names.contains(word))
    }
}

impl ReleaseListing {
    /// Summarizes SAEs of one release; `None` for an empty list.
    fn of(saes: &[SaeListing]) -> Option<Self> {
        let first = saes.first()?;
        let hooks = saes.iter().filter_map(|sae| sae.hook.as_deref());
        let hooks =
            hooks.map(|hook| match hook.strip_prefix("blocks.").and_then(|rest| rest.split_once('.')) {
                Some((layer, point)) => (layer.parse::<usize>().ok(), point.to_owned()),
                None => (None, hook.to_owned()),
            });
        let (layers, points): (BTreeSet<_>, BTreeSet<_>) = hooks.unzip();
        let widths: BTreeSet<_> = saes.iter().filter_map(|sae| sae.width).collect();
        Some(ReleaseListing {
            release: first.release.clone(),
            model: first.model.clone(),
            repo_id: first.repo_id.clone(),
            saes: saes.len(),
            hooks: points.into_iter().collect(),
            layers: layers.into_iter().flatten().collect(),
            widths: widths.into_iter().collect(),
        })
    }
}

/// Compares names with their numbers in numeric order: `layer_2` before `layer_10`.
pub(super) fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let ((number_a, rest_a), (number_b, rest_b)) = (a.split_at(digits(a)), b.split_at(digits(b)));
        if !number_a.is_empty() && !number_b.is_empty() {
            let (stripped_a, stripped_b) =
                (number_a.trim_start_matches('0'), number_b.trim_start_matches('0'));
            let order = stripped_a.len().cmp(&stripped_b.len()).then_with(|| stripped_a.cmp(stripped_b));
            if order.is_ne() {
                return order;
            }
            (a, b) = (rest_a, rest_b);
            continue;
        }
        let (mut letters_a, mut letters_b) = (a.chars(), b.chars());
        match (letters_a.next(), letters_b.next()) {
            (Some(x), Some(y)) if x == y => (a, b) = (letters_a.as_str(), letters_b.as_str()),
            (x, y) => return x.cmp(&y),
        }
    }
}

impl fmt::Display for SaeTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.saes.is_empty() {
            return f.write_str("no SAEs");
        }
        let mut left = SHOWN;
        for (n, saes) in self.saes.chunk_by(|a, b| a.release == b.release).enumerate() {
            let Some(first) = saes.first().filter(|_| left > 0) else { break };
            let gap = if n == 0 { "" } else { "\n\n" };
            write!(f, "{gap}{}, {} on {}", first.release, count(saes.len(), "SAE"), first.model)?;
            let rows = saes.iter().take(left).map(|sae| {
                let hook = sae.hook.clone().unwrap_or_default();
                let width = sae.width.map_or(String::new(), |width| width.to_string());
                let l0 = sae.l0.map_or(String::new(), |l0| format!("{l0:.0}"));
                [sae.sae_id.clone(), hook, width, l0]
            });
            let titles = ["sae_id", "hook", "width", "l0"];
            text_table::write(f, Some(titles), rows, [false, false, true, true])?;
            left = left.saturating_sub(saes.len());
        }
        match self.saes.len().checked_sub(SHOWN) {
            Some(more @ 1..) => write!(f, "\n\n… {more} more: name a release, or search for more words"),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Releases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.releases.is_empty() {
            return f.write_str("no SAEs");
        }
        for (n, releases) in self.releases.chunk_by(|a, b| a.model == b.model).enumerate() {
            let model = releases.first().map_or("", |release| &release.model);
            write!(f, "{}{model}", if n == 0 { "" } else { "\n\n" })?;
            let rows = releases.iter().map(|release| {
                let widths = match release.widths.as_slice() {
                    [] => String::new(),
                    [one] => short(*one),
                    [first, .., last] => format!("{}-{}", short(*first), short(*last)),
                };
                let saes = count(release.saes, "SAE");
                [release.release.clone(), saes, release.hooks.join(" "), ranges(&release.layers), widths]
            });
            text_table::write(f, None, rows, [false, true, false, false, false])?;
        }
        Ok(())
    }
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// Formats ascending numbers, with runs joined: `0-11`, `5,12,19`.
fn ranges(numbers: &[usize]) -> String {
    let runs = numbers.chunk_by(|a, b| a + 1 == *b).filter_map(|run| match (run.first()?, run.last()?) {
        (first, last) if first == last => Some(first.to_string()),
        (first, last) => Some(format!("{first}-{last}")),
    });
    runs.collect::<Vec<_>>().join(",")
}

/// Abbreviates a width: `16k`, `1m`; 24576 has no such name.
fn short(width: usize) -> String {
    match width {
        _ if !width.is_power_of_two() || width < 1000 => width.to_string(),
        0..1_000_000 => format!("{}k", width / 1000),
        _ => format!("{}m", width / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names_are_in_numeric_order() {
        let mut names = vec!["layer_10/a", "layer_2/b", "layer_2/a", "layer_02", "layer", "layers"];
        names.sort_by(|a, b| natural(a, b));
        assert_eq!(names, ["layer", "layer_02", "layer_2/a", "layer_2/b", "layer_10/a", "layers"]);
    }

    #[test]
    fn ranges_and_widths_are_abbreviated() {
        assert_eq!(ranges(&[0, 1, 2, 5, 7, 8]), "0-2,5,7-8");
        assert_eq!(
            [768, 4096, 16384, 24576, 131_072, 1 << 20].map(short),
            ["768", "4k", "16k", "24576", "131k", "1m"]
        );
    }

    #[test]
    fn a_model_has_several_names() {
        for name in ["gpt2", "gpt2-small", "GPT2-small", "openai-community/gpt2"] {
            assert_eq!(model_key(name), "gpt2");
        }
        for name in ["google/gemma-2-2b", "gemma-2-2b"] {
            assert_eq!(model_key(name), "gemma-2-2b");
        }
    }
}
