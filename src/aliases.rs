//! TransformerLens' short names of language models.

/// A line for each model: its id on the hub, then its aliases. See assets/registry/README.md.
const MODELS: &str = include_str!("../assets/registry/model_aliases.txt");

/// The hub id of the model that TransformerLens calls `name`, an alias or the id itself in any case: `gpt2` for
/// `gpt2-small`. `None` if TransformerLens does not know the model, which may be on the hub anyway.
pub fn resolve_model(name: &str) -> Option<&'static str> {
    let mut lines = MODELS.lines().map(|line| line.split_whitespace());
    let mut names = lines.find(|names| names.clone().any(|known| known.eq_ignore_ascii_case(name)))?;
    names.next()
}

/// All names of models: ids and aliases.
pub(crate) fn model_names() -> impl Iterator<Item = &'static str> {
    MODELS.split_whitespace()
}

/// The 5 names of models (ids and aliases) that are most similar to `name`, nearest first.
pub fn nearest_models(name: &str) -> Vec<&'static str> {
    crate::error::nearest(name, model_names(), 5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_and_ids_resolve_to_hub_ids() {
        for (name, id) in [
            ("gpt2-small", Some("gpt2")),
            ("GPT2", Some("gpt2")),
            ("gpt2-xl", Some("gpt2-xl")),
            ("gemma-2-2b", Some("google/gemma-2-2b")),
            ("google/gemma-2-2b", Some("google/gemma-2-2b")),
            ("pythia-70m-deduped", Some("EleutherAI/pythia-70m-deduped")),
            ("qwen3-4b", Some("Qwen/Qwen3-4B")),
            ("meta-llama/llama-3.1-8b", Some("meta-llama/Llama-3.1-8B")),
            ("mistral-7b", Some("mistralai/Mistral-7B-v0.1")),
            ("gpt-17", None),
            ("", None),
        ] {
            assert_eq!(resolve_model(name), id, "{name}");
        }
        assert_eq!(nearest_models("gtp2-small")[0], "gpt2-small");
        assert!(MODELS.lines().count() > 200);
    }
}
