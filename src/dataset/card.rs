//! The card of a dataset: the YAML at the start of its `README.md`, which says what its files are and how to read them.

use crate::error::{Error, Result};
use crate::files;
use crate::progress::Progress;
use crate::repo::Repo;
use crate::yaml;
use serde::Deserialize;
use serde_json::{Map, Value};

/// The limit on the bytes read from a card.
const LONGEST_CARD: u64 = 1 << 20;

/// A file that may replace the YAML of a card.
pub(super) const CARD_OVERRIDE: &str = ".huggingface.yaml";

/// A card's description of the files: YAML between two `---` lines at its start.
#[derive(Default, Deserialize)]
pub(super) struct Card {
    #[serde(default)]
    pub(super) configs: Vec<Config>,
}

#[derive(Deserialize)]
pub(super) struct Config {
    pub(super) config_name: String,
    pub(super) data_files: Option<DataFiles>,
    pub(super) data_dir: Option<String>,
    #[serde(default)]
    pub(super) default: bool,
    /// Options for the reader of the files.
    #[serde(flatten)]
    pub(super) reader_options: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum DataFiles {
    One(String),
    Many(Vec<Entry>),
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Entry {
    Pattern(String),
    Split { split: String, path: Patterns },
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Patterns {
    One(String),
    Many(Vec<String>),
}

impl Patterns {
    pub(super) fn list(&self) -> &[String] {
        match self {
            Patterns::One(pattern) => std::slice::from_ref(pattern),
            Patterns::Many(patterns) => patterns,
        }
    }
}

/// Reads the card: from [`CARD_OVERRIDE`] if it has configurations, otherwise from `README.md`.
pub(super) fn read(repo: &Repo, names: &[String], progress: &Progress) -> Result<Card> {
    let has = |name: &str| names.iter().any(|one| one == name);
    let text_of = |name: &str| -> Result<_> {
        let path = repo.file(name, progress)?;
        let bytes = files::read_start(&path, LONGEST_CARD + 1)?;
        Ok((path, String::from_utf8_lossy(&bytes).into_owned(), bytes.len() as u64 > LONGEST_CARD))
    };
    if has(CARD_OVERRIDE) {
        let (path, text, is_cut) = text_of(CARD_OVERRIDE)?;
        let card: Card = if is_cut { Card::default() } else { yaml::parse(&path, &text)? };
        if !card.configs.is_empty() {
            return Ok(card);
        }
    }
    if !has("README.md") {
        return Ok(Card::default());
    }
    let (path, text, is_cut) = text_of("README.md")?;
    match front_matter(&text) {
        Some(yaml) => yaml::parse(&path, yaml),
        None if is_cut && text.starts_with("---") => {
            Err(Error::malformed(&path, format!("expected at most {} MiB of YAML", LONGEST_CARD >> 20)))
        }
        None => Ok(Card::default()),
    }
}

/// The text between two `---` lines at the start of a file; `None` if it is missing or blank.
fn front_matter(text: &str) -> Option<&str> {
    let text = text.trim_start_matches('\u{feff}');
    let rest = text.strip_prefix("---\n").or_else(|| text.strip_prefix("---\r\n"))?;
    let mut end = 0;
    for line in rest.split_inclusive('\n') {
        if line.trim_end() == "---" {
            return rest.get(..end).filter(|yaml| !yaml.trim().is_empty());
        }
        end += line.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn front_matter_is_between_lines_of_dashes() {
        assert_eq!(front_matter("---\na: b\n---\ntext"), Some("a: b\n"));
        assert_eq!(front_matter("---\r\na: b\r\n---\r\n"), Some("a: b\r\n"));
        for text in ["", "---", "---\n---\n", "---\na: b", "# a\n---\na: b\n---\n", "----\na\n---\n"] {
            assert_eq!(front_matter(text), None, "{text}");
        }
    }
}
