//! Finds the files of a dataset's split in a repository, as Python's `datasets` does: by the card, by the names of
//! shards, and by keywords in the names of folders and files.

use super::DatasetOptions;
use super::card::{self, Config, DataFiles, Entry};
use super::formats::{extensions, file_name, is_description, keep_most_common};
use crate::error::{Error, Result};
use crate::progress::{Progress, ProgressEvent};
use crate::repo::Repo;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// The default split.
pub(super) const TRAIN: &str = "train";

/// The splits that are recognized in file names, each with its keywords.
const KEYWORDS: [(&str, &[&str]); 3] = [
    (TRAIN, &["train", "training"]),
    ("validation", &["validation", "valid", "dev", "val"]),
    ("test", &["test", "testing", "eval", "evaluation"]),
];

/// The files of one split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    /// The names in the repository, in reading order.
    pub(super) names: Vec<String>,
    /// The configuration, if the repository has any.
    pub(super) config: Option<String>,
    pub(super) split: String,
    /// The card's options for the reader of the files.
    pub(super) reader_options: Map<String, Value>,
}

/// The splits of a configuration in order, each with the names of its files.
type Splits = Vec<(String, Vec<String>)>;

/// Whether a folder defines its splits: by a card with configurations, or by the names of shards. A card that does not
/// parse is ignored.
pub(super) fn is_laid_out(repo: &Repo, names: &[String], progress: &Progress) -> bool {
    let has_configs = card::read(repo, names, progress).is_ok_and(|card| !card.configs.is_empty());
    has_configs || names.iter().any(|name| shard_of(name).is_some())
}

/// Finds the files of the split and configuration that the options request.
///
/// If the repository defines none, because a script generates its files, `converted` opens the Parquet files that the
/// hub has converted them to.
///
/// # Errors
/// A missing or ambiguous configuration, a missing split, no readable files, an invalid card; see [`Repo::names`].
pub(super) fn find(
    repo: Repo,
    options: &DatasetOptions,
    converted: Option<&dyn Fn() -> Result<Repo>>,
    progress: &Progress,
) -> Result<(Repo, Found)> {
    let names = repo.names(progress)?;
    let card = card::read(&repo, &names, progress)?;
    if !card.configs.is_empty() {
        let config = chosen(&repo, &card.configs, options)?;
        let splits = config.splits(&repo, &names)?;
        let found = split_of(&repo, Some(&config.config_name), splits, options, progress)?;
        return Ok((repo, Found { reader_options: config.reader_options.clone(), ..found }));
    }
    let by_names = match &options.config {
        Some(config) if config != "default" => Err(unknown("config", config, repo.name(), ["default"])),
        _ => split_of(&repo, None, splits_by_names(&names), options, progress),
    };
    match (by_names, converted) {
        (Ok(found), _) => Ok((repo, found)),
        (Err(error), Some(converted)) => {
            let other = converted().map_err(|e| if e.is_interrupted() { e } else { error })?;
            let found = in_converted(&other, options, progress)?;
            Ok((other, found))
        }
        (Err(error), None) => Err(error),
    }
}

/// The requested configuration, or the default one.
fn chosen<'a>(repo: &Repo, configs: &'a [Config], options: &DatasetOptions) -> Result<&'a Config> {
    let names = || configs.iter().map(|config| config.config_name.as_str());
    if let Some(wanted) = &options.config {
        let config = configs.iter().find(|config| config.config_name == *wanted);
        return config.ok_or_else(|| unknown("config", wanted, repo.name(), names()));
    }
    if let [only] = configs {
        return Ok(only);
    }
    let mut defaults = configs.iter().filter(|config| config.default || config.config_name == "default");
    match (defaults.next(), defaults.next()) {
        (Some(config), None) => Ok(config),
        (one, _) => {
            let what = format!("the config of dataset `{}`", repo.name());
            let got = if one.is_none() { "none" } else { "several defaults" };
            let names = names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            Err(Error::invalid(what, "a name", got).with_hint(format!("choose one with `config`: {names}")))
        }
    }
}

impl Config {
    fn splits(&self, repo: &Repo, names: &[String]) -> Result<Splits> {
        let folder = self.data_dir.as_deref().unwrap_or_default().trim_start_matches("./").trim_matches('/');
        let folder = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        let matching = |patterns: &[String]| matching(repo, names, &folder, patterns);
        let Some(data_files) = &self.data_files else {
            let below: Vec<_> =
                names.iter().filter_map(|name| name.strip_prefix(&folder).map(str::to_owned)).collect();
            let mut splits = splits_by_names(&below);
            splits.iter_mut().flat_map(|(_, names)| names).for_each(|name| name.insert_str(0, &folder));
            return Ok(splits);
        };
        let entries = match data_files {
            DataFiles::One(pattern) => &[Entry::Pattern(pattern.clone())],
            DataFiles::Many(entries) => entries.as_slice(),
        };
        let mut splits = Splits::new();
        for entry in entries {
            let (split, found) = match entry {
                Entry::Pattern(pattern) => (TRAIN, matching(std::slice::from_ref(pattern))?),
                Entry::Split { split, path } => (split.as_str(), matching(path.list())?),
            };
            match splits.iter_mut().find(|(known, _)| known == split) {
                Some((_, names)) => names.extend(found),
                None => splits.push((split.to_owned(), found)),
            }
        }
        Ok(splits)
    }
}

/// The files that match the patterns of a card, pattern by pattern.
fn matching(repo: &Repo, names: &[String], folder: &str, patterns: &[String]) -> Result<Vec<String>> {
    let options = glob::MatchOptions { require_literal_separator: true, ..glob::MatchOptions::new() };
    let mut found = Vec::new();
    for written in patterns {
        let pattern = format!("{folder}{}", written.trim_start_matches("./"));
        let glob = glob::Pattern::new(&pattern).map_err(|error| {
            let what = format!("`data_files` in the card of dataset `{}`", repo.name());
            Error::invalid(what, "names and globs", format!("`{written}`: {}", error.msg))
        })?;
        let last = file_name(&pattern);
        let fits = |name: &&String| {
            let is_wanted = hidden_parts(name) == hidden_parts(&pattern)
                && (name.ends_with(&format!("/{last}")) || !is_description(name));
            **name == pattern || glob.matches_with(name, options) && is_wanted
        };
        let before = found.len();
        found.extend(names.iter().filter(fits).cloned());
        if found.len() == before && !pattern.contains(['*', '?', '[']) {
            let message = format!("dataset `{}` has no file `{pattern}`, which its card lists", repo.name());
            return Err(Error::mismatch(message, "the repository is broken, or its copy is incomplete"));
        }
    }
    Ok(found)
}

/// The number of hidden parts of a path; a pattern must name as many to match it. Leading `__` hides folders, not
/// files.
fn hidden_parts(path: &str) -> usize {
    let folders = path.rsplit_once('/').map_or("", |(folders, _)| folders).split('/');
    let special = folders.filter(|part| part.starts_with("__")).count();
    special + path.split('/').filter(|part| part.starts_with('.')).count()
}

/// The splits of a repository whose card defines none.
fn splits_by_names(names: &[String]) -> Splits {
    let is_seen = |name: &&String| hidden_parts(name) == 0 && !is_description(name);
    let names: Vec<_> = names.iter().filter(is_seen).collect();

    let mut shards = BTreeMap::<_, Vec<String>>::new();
    for name in &names {
        if let Some(split) = shard_of(name) {
            shards.entry(split.to_owned()).or_default().push((*name).clone());
        }
    }
    if !shards.is_empty() {
        let known =
            |split: &str| KEYWORDS.iter().position(|(known, _)| *known == split).unwrap_or(usize::MAX);
        let mut splits: Splits = shards.into_iter().collect();
        splits.sort_by_key(|(split, _)| known(split));
        return splits;
    }
    for rank in [rank_by_folders, rank_by_file] {
        let of_split = |words: &[&str]| {
            let mut found = Vec::new();
            for word in words {
                let mut with_word: Vec<_> =
                    names.iter().filter_map(|name| Some((rank(name, word)?, *name))).collect();
                with_word.sort();
                found.extend(with_word.into_iter().map(|(_, name)| name.clone()));
            }
            found
        };
        let splits = KEYWORDS.iter().map(|(split, words)| ((*split).to_owned(), of_split(words)));
        let splits: Splits = splits.filter(|(_, names)| !names.is_empty()).collect();
        if !splits.is_empty() {
            return splits;
        }
    }
    let all: Vec<_> = names.into_iter().cloned().collect();
    if all.is_empty() { Splits::new() } else { vec![(TRAIN.to_owned(), all)] }
}

/// The split of a shard: `train` for `data/train-00000-of-00004-0f3a.parquet`.
fn shard_of(name: &str) -> Option<&str> {
    let (stem, ..) = numbered(name).filter(|(stem, ..)| name[stem.len()..].contains('.'))?;
    stem.strip_prefix("data/").filter(|split| !split.is_empty() && !split.contains('/'))
}

/// Ranks how a folder of this path contains `word` as a separate word: 0 as the full name, 1 at the start, 2 at the
/// end, 3 inside. Files of lower rank are read first; `None` if no folder contains it.
fn rank_by_folders(path: &str, word: &str) -> Option<u8> {
    let (folders, _) = path.rsplit_once('/')?;
    let places = folders.split('/').flat_map(|folder| occurrences(folder, word));
    places.map(|(starts, ends)| 2 * u8::from(!starts) + u8::from(!ends)).min()
}

/// Like [`rank_by_folders`] for the file name, in which something must follow the word.
fn rank_by_file(path: &str, word: &str) -> Option<u8> {
    let places = occurrences(file_name(path), word);
    places.filter(|(_, ends)| !ends).map(|(starts, _)| u8::from(!starts)).min()
}

/// The occurrences of `word` as a separate word in a name: whether each is at its start, and whether at its end.
fn occurrences(name: &str, word: &str) -> impl Iterator<Item = (bool, bool)> {
    let separates = |c: char| matches!(c, '-' | '.' | '_' | ' ' | '0'..='9');
    name.match_indices(word).filter_map(move |(at, _)| {
        let before = name.get(..at)?.chars().next_back();
        let after = name.get(at + word.len()..)?.chars().next();
        let is_separate = before.is_none_or(separates) && after.is_none_or(separates);
        is_separate.then_some((before.is_none(), after.is_none()))
    })
}

/// The files that the hub has converted a repository to: `{config}/{split}/0000.parquet`.
fn in_converted(repo: &Repo, options: &DatasetOptions, progress: &Progress) -> Result<Found> {
    const IN_PART: &str = "partial-";
    let names = repo.names(progress)?;
    let files = || {
        names.iter().filter(|name| name.ends_with(".parquet")).filter_map(|name| {
            let mut parts = name.split('/');
            Some((name, parts.next()?, parts.next()?)).filter(|_| parts.count() == 1)
        })
    };
    let configs: BTreeSet<_> = files().map(|(_, config, _)| config).collect();
    let config = match &options.config {
        Some(wanted) => configs.get(wanted.as_str()),
        None if configs.len() == 1 => configs.first(),
        None => configs.get("default"),
    };
    let Some(config) = config.copied() else {
        let wanted = options.config.as_deref().unwrap_or("default");
        return Err(unknown("config", wanted, repo.name(), configs));
    };
    let mut splits = BTreeMap::<_, Vec<_>>::new();
    for (name, _, split) in files().filter(|(_, of, _)| *of == config) {
        if split.starts_with(IN_PART) {
            let text = format!("the hub has only the first part of `{}`, split `{split}`", repo.name());
            progress.report(ProgressEvent::Warning(text));
        }
        splits.entry(split.trim_start_matches(IN_PART).to_owned()).or_default().push(name.clone());
    }
    split_of(repo, Some(config), splits.into_iter().collect(), options, progress)
}

/// The requested split, with the files of its most common format.
fn split_of(
    repo: &Repo,
    config: Option<&str>,
    splits: Splits,
    options: &DatasetOptions,
    progress: &Progress,
) -> Result<Found> {
    let name = match config {
        Some(config) => format!("{}`, config `{config}", repo.name()),
        None => repo.name(),
    };
    if splits.iter().all(|(_, names)| names.is_empty()) {
        return Err(nothing_to_read(repo, &name));
    }
    let wanted = options.split.as_deref().unwrap_or(TRAIN);
    let known: Vec<_> = splits.iter().map(|(split, _)| split.clone()).collect();
    let Some((split, mut names)) = splits.into_iter().find(|(split, _)| split == wanted) else {
        if wanted.contains(['[', '+']) {
            let expected = format!("the name of one split of dataset `{name}`");
            return Err(Error::invalid("`split`", expected, format!("`{wanted}`")).with_hint(
                "slices and sums of splits are not supported; `max_examples` limits the documents",
            ));
        }
        return Err(unknown("split", wanted, name, known));
    };
    let mut seen = HashSet::new();
    keep_most_common(&mut names);
    names.retain(|name| seen.insert(name.clone()));
    if names.is_empty() {
        return Err(nothing_to_read(repo, &format!("{name}`, split `{split}")));
    }
    check_shards(repo, &name, &names, progress)?;
    Ok(Found { names, config: config.map(str::to_owned), split, reader_options: Map::new() })
}

/// Checks that no numbered file (`train-00000-of-00004.parquet`) is missing. The cache may hold only files that were
/// read before, and a folder only files that were copied.
fn check_shards(repo: &Repo, dataset: &str, names: &[String], progress: &Progress) -> Result<()> {
    let mut sets = BTreeMap::<_, BTreeSet<u32>>::new();
    for (stem, number, total) in names.iter().filter_map(|name| numbered(name)) {
        sets.entry((stem, total)).or_default().insert(number);
    }
    for ((stem, total), numbers) in sets {
        let Some(missing) = (0..total).find(|number| !numbers.contains(number)) else { continue };
        let is_partial = repo.is_partial();
        let place = if is_partial { "cache" } else { "folder" };
        let message = format!(
            "dataset `{dataset}`: only {} of {total} files are in the {place}: `{stem}-{missing:05}-of-{total:05}…` is \
             missing",
            numbers.len()
        );
        if is_partial {
            let hint = "to download the missing files, unset HF_HUB_OFFLINE or check the connection";
            return Err(Error::mismatch(message, hint));
        }
        // A repository on the hub was published this way.
        if repo.is_local() {
            progress.report(ProgressEvent::Warning(message));
        }
    }
    Ok(())
}

/// Splits the name of a numbered file, `{stem}-00000-of-00004….parquet`, into stem, number and total.
fn numbered(name: &str) -> Option<(&str, u32, u32)> {
    let is_number = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    let of = |at: usize| {
        let (number, rest) = (name.get(at.checked_sub(5)?..at)?, name.get(at + 4..at + 9)?);
        let stem = name.get(..at - 5)?.strip_suffix('-')?;
        let is_numbered = is_number(number) && is_number(rest);
        Some((stem, number.parse().ok()?, rest.parse().ok()?)).filter(|_| is_numbered)
    };
    name.match_indices("-of-").filter_map(|(at, _)| of(at)).last()
}

pub(super) fn unknown<S: Into<String>>(
    kind: &'static str,
    name: &str,
    dataset: String,
    known: impl IntoIterator<Item = S>,
) -> Error {
    let known = known.into_iter().map(Into::into).collect();
    Error::Unknown { kind, name: name.to_owned(), place: format!("dataset `{dataset}`"), known }
}

fn nothing_to_read(repo: &Repo, name: &str) -> Error {
    let mut hint = format!("expected {}", extensions());
    if !repo.is_local() {
        hint += "; with HF_HUB_OFFLINE or without a connection, only files that were downloaded before are available";
    }
    Error::mismatch(format!("dataset `{name}`: no files in a supported format"), hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repo(names: &[&str]) -> (tempfile::TempDir, Repo) {
        let folder = tempfile::tempdir().unwrap();
        for name in names {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let repo = Repo::local(folder.path());
        (folder, repo)
    }

    fn options(config: Option<&str>, split: Option<&str>) -> DatasetOptions {
        let own = |name: &str| name.to_owned();
        DatasetOptions { config: config.map(own), split: split.map(own), ..DatasetOptions::default() }
    }

    #[test]
    fn files_generated_by_a_script_are_replaced_by_those_converted_by_the_hub() {
        let (_script_folder, script) = repo(&["pile.py", "README.md"]);
        let (_folder, converted) = repo(&[
            "all/train/0001.parquet",
            "all/train/0000.parquet",
            "all/partial-test/0000.parquet",
            "code/train/0000.parquet",
            "code/train/index.duckdb",
        ]);
        let warned = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let flag = warned.clone();
        let progress = Progress::default().reporting_to(move |report| {
            flag.fetch_or(matches!(report, ProgressEvent::Warning(_)), std::sync::atomic::Ordering::Relaxed);
        });
        let in_converted = |options: DatasetOptions| {
            find(script.clone(), &options, Some(&|| Ok(converted.clone())), &progress)
                .map(|(_, found)| (found.config.unwrap_or_default(), found.split, found.names))
                .map_err(|error| format!("{error} | {}", error.hint().unwrap_or_default()))
        };
        let (config, split, names) = in_converted(options(Some("all"), None)).unwrap();
        assert_eq!((config.as_str(), split.as_str()), ("all", "train"));
        assert_eq!(names, ["all/train/0000.parquet", "all/train/0001.parquet"]);
        let (_, split, names) = in_converted(options(Some("all"), Some("test"))).unwrap();
        assert_eq!((split.as_str(), names.len()), ("test", 1));
        assert!(warned.load(std::sync::atomic::Ordering::Relaxed));
        let error = in_converted(options(None, None)).unwrap_err();
        assert!(error.contains("known configs: `all`, `code`"), "{error}");
        let error = in_converted(options(Some("code"), Some("test"))).unwrap_err();
        assert!(error.contains("config `code`") && error.contains("known splits: `train`"), "{error}");

        let error = find(script, &options(None, None), None, &progress).unwrap_err().to_string();
        assert!(error.ends_with("no files in a supported format"), "{error}");
    }
}
