//! Checkpoint layouts: each file reads one, and tells where an SAE's weights are and what the SAE expects.
//!
//! Which layout a folder or a file has is told by what is there. A layout puts what it knows into SAELens' words, so that
//! there is one way from there to an [`SaeConfig`].

mod cfg;
mod deepseek;
mod dictionary_learning;
mod gemma_scope;
mod gemma_scope_2;
mod goodfire;
mod hook_z;
mod llama_scope;
mod mntss;
mod mwhanna;
mod openai;
mod place;
mod qwen_scope;
mod saelens;
mod sniff;
mod sparsify;
mod temporal;

pub(super) use saelens::open_demo;

use super::config::SaeConfig;
use super::weights::Parts;
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::repo::Repo;
use place::Place;
use serde_json::{Map, Value};

/// An SAE whose weights have not been read.
pub(super) struct Found {
    pub(super) config: SaeConfig,
    pub(super) checkpoint: Checkpoint,
    pub(super) parts: Parts,
    /// The commit that the files are of, where that is known.
    pub(super) revision: Option<String>,
    /// What a user of this SAE should know.
    pub(super) notes: Vec<String>,
}

/// What is known of an SAE besides its files.
#[derive(Debug, Clone, Default)]
pub(super) struct Hints {
    /// SAELens' name for the way to read the files, or ours for the layout.
    pub(super) conversion: Option<String>,
    /// What to put over the configuration in the files, in SAELens' names.
    pub(super) overrides: Map<String, Value>,
    /// The factor of an `expected_average_only_in` SAE.
    pub(super) norm_scaling_factor: Option<f64>,
    /// The hook that it reads, if its files do not say.
    pub(super) hook_name: Option<String>,
    /// The model that it was trained on, if its files do not say.
    pub(super) model_name: Option<String>,
}

/// Reads an SAE at a place.
type Open = fn(&Place) -> Result<Found>;

/// Every layout: our name for it, SAELens' for reading it, and how.
const LAYOUTS: [(&str, &str, Open); 16] = [
    ("saelens", "sae_lens", saelens::open),
    ("gemma_scope", "gemma_2", gemma_scope::open),
    ("gemma_scope_transcoder", "gemma_2_transcoder", gemma_scope::open),
    ("gemma_scope_2", "gemma_3", gemma_scope_2::open),
    ("dictionary_learning", "dictionary_learning_1", dictionary_learning::open),
    ("sparsify", "sparsify", sparsify::open),
    ("llama_scope", "llama_scope", llama_scope::open),
    ("llama_scope_r1_distill", "llama_scope_r1_distill", llama_scope::open_r1_distill),
    ("goodfire", "goodfire", goodfire::open),
    ("deepseek", "deepseek_r1", deepseek::open),
    ("openai", "openai", openai::open),
    ("qwen_scope", "qwen_scope", qwen_scope::open),
    ("hook_z", "connor_rob_hook_z", hook_z::open),
    ("mwhanna", "mwhanna_transcoder", mwhanna::open),
    ("mntss", "mntss_clt_layer_transcoder", mntss::open),
    ("temporal", "temporal", temporal::open),
];

/// Opens the SAE in a folder or a file of a repository; `path` is "" for the repository itself.
pub(super) fn open(repo: &Repo, path: &str, hints: &Hints, progress: &Progress) -> Result<Found> {
    let place = Place::new(repo, path, hints, progress)?;
    let Some(conversion) = &hints.conversion else {
        let (place, open) = sniff::sniff(&place)?;
        return open(&place);
    };
    match LAYOUTS.iter().find(|(ours, saelens, _)| conversion == ours || conversion == saelens) {
        Some((_, _, open)) => open(&place),
        None => Err(Error::unknown("conversion", conversion, LAYOUTS.map(|(_, saelens, _)| saelens))),
    }
}
