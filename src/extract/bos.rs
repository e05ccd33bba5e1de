//! Whether the records of a file begin with a BOS. The records do not say; the description of the run next to the file
//! does (`<file>.meta.json`). Without it, the first token and the model's name decide, and counts of tokens come with a
//! note.

use super::summary::meta_path;
use crate::aliases::resolve_model;
use crate::files;
use serde_json::Value;
use std::path::Path;

/// Whether the first token of a record is a BOS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Bos {
    /// The first token is text.
    #[default]
    Absent,
    /// The first token is a BOS.
    Present,
    /// Not known for certain; treated as a BOS if true.
    Guessed(bool),
}

/// Published models by the beginning of their hub id, with their BOS id in TransformerLens; the first match counts.
const BOS_OF_MODELS: [(&str, u32); 15] = [
    ("gpt2", 50_256),
    ("distilgpt2", 50_256),
    ("eleutherai/gpt-neo-", 50_256),
    ("roneneldan/tinystories", 50_256),
    ("microsoft/phi-", 50_256),
    ("eleutherai/pythia", 0),
    ("eleutherai/gpt-neox", 0),
    ("google/gemma", 2),
    ("meta-llama/llama-2", 1),
    ("meta-llama/llama-3", 128_000),
    ("meta-llama/meta-llama-3", 128_000),
    ("deepseek-ai/deepseek-r1-distill-llama", 128_000),
    ("mistralai/mistral-7b", 1),
    ("allenai/olmo-2", 100_257),
    ("allenai/olmo-", 50_279),
];

/// The rule that says which records of a file begin with a BOS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// All records, or no record.
    All(bool),
    /// The records whose first token is this one.
    Token(u32),
    /// A guess: the records whose first token is this one, or no record if `None`.
    Perhaps(Option<u32>),
}

impl Rule {
    /// Whether the first token of a record with these tokens is a BOS.
    pub(super) fn bos(self, tokens: &[u32]) -> Bos {
        let begins_with = |token: u32| tokens.first() == Some(&token);
        match self {
            Rule::All(true) => Bos::Present,
            Rule::Token(token) if begins_with(token) => Bos::Present,
            Rule::All(false) | Rule::Token(_) => Bos::Absent,
            Rule::Perhaps(token) => Bos::Guessed(token.is_some_and(begins_with)),
        }
    }

    /// Reads the rule from the description next to a file; `None` if it is missing or does not say.
    pub(super) fn of_description(path: &Path) -> Option<Rule> {
        let meta = files::read(&meta_path(&path.to_string_lossy())).ok()?;
        let meta: Value = serde_json::from_slice(&meta).ok()?;
        let prepend_bos = meta.get("options")?.get("prepend_bos")?.as_bool()?;
        match meta.get("bos_token_id").map(Value::as_u64) {
            Some(id) => id.and_then(|id| u32::try_from(id).ok()).map(Rule::Token).or(Some(Rule::All(false))),
            // Descriptions of saescope 0.1 do not name the token.
            None => Some(Rule::All(prepend_bos)),
        }
    }

    /// Guesses the rule from the tokens and offsets of the first records of a file and the name of their model.
    ///
    /// If the name is unknown, a token counts as a BOS if at least two records were seen, all begin with it, it occurs
    /// nowhere else, and the text begins after it.
    pub(super) fn guess(
        first: impl Iterator<Item = (Vec<u32>, Vec<usize>)>,
        model_name: Option<&str>,
    ) -> Rule {
        const LOOKED_AT: usize = 64;
        if let Some(token) = model_name.and_then(bos_of) {
            return Rule::Perhaps(Some(token));
        }
        let (mut token, mut records) = (None, 0);
        for (tokens, offsets) in first.take(LOOKED_AT) {
            let (Some(id), true) = (tokens.first(), matches!(offsets[..], [0] | [0, 0, ..])) else {
                return Rule::Perhaps(None);
            };
            if *token.get_or_insert(*id) != *id || tokens[1..].contains(id) {
                return Rule::Perhaps(None);
            }
            records += 1;
        }
        Rule::Perhaps(token.filter(|_| records > 1))
    }
}

fn bos_of(model_name: &str) -> Option<u32> {
    let id = resolve_model(model_name).unwrap_or(model_name).to_lowercase();
    let id = id.strip_prefix("openai-community/").unwrap_or(&id);
    if id.starts_with("qwen/qwen") {
        // They have no BOS and use the end-of-text token instead; chat models use the end-of-message token.
        let is_base = id.contains("-base") || !(id.contains("-instruct") || id.starts_with("qwen/qwen3"));
        return Some(if is_base { 151_643 } else { 151_645 });
    }
    BOS_OF_MODELS.iter().find(|(start, _)| id.starts_with(start)).map(|(_, token)| *token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_begins_all_records_and_occurs_nowhere_else_is_a_bos() {
        let guess = |tokens: &[&[u32]], offsets: [usize; 3]| {
            let record = |tokens: &&[u32]| (tokens.to_vec(), offsets[..tokens.len()].to_vec());
            Rule::guess(tokens.iter().map(record), None)
        };
        assert_eq!(guess(&[&[7, 1, 2], &[7, 3], &[7]], [0, 0, 1]), Rule::Perhaps(Some(7)));
        // A single record, a token that occurs elsewhere too, text that begins with the token, several first tokens.
        for (tokens, offsets) in [
            (&[&[7_u32, 1, 2][..]][..], [0, 0, 1]),
            (&[&[7, 1, 7], &[7, 3]], [0, 0, 1]),
            (&[&[7, 1, 2], &[7, 3]], [0, 1, 2]),
            (&[&[7, 1, 2], &[8, 3]], [0, 0, 1]),
        ] {
            assert_eq!(guess(tokens, offsets), Rule::Perhaps(None), "{tokens:?}");
        }
        for (name, token) in [
            ("gpt2-small", 50_256),
            ("openai-community/gpt2", 50_256),
            ("pythia-70m-deduped", 0),
            ("gemma-2-2b", 2),
            ("meta-llama/Llama-3.1-8B", 128_000),
            ("Qwen/Qwen2.5-7B-Instruct", 151_645),
            ("qwen2.5-7b", 151_643),
            ("qwen3-0.6b", 151_645),
            ("Qwen/Qwen3-1.7B-Base", 151_643),
        ] {
            assert_eq!(Rule::guess(std::iter::empty(), Some(name)), Rule::Perhaps(Some(token)), "{name}");
        }
        assert_eq!(bos_of("my-own-model"), None);
    }
}
