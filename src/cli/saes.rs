//! `saescope saes`: lists published SAEs.

use crate::error::{Error, Result};
use crate::registry::{SaeFilter, list_releases, list_saes};
use clap::Args;
use serde::Serialize;

/// The flags: every option of `list_saes` under its name.
#[derive(Args)]
pub(super) struct SaesArguments {
    /// Only SAEs of this model: an alias such as "gpt2-small", or an id on the hub
    #[arg(long)]
    model: Option<String>,
    /// Only SAEs whose names contain all these words; lists SAEs instead of releases
    #[arg(long, value_name = "WORDS")]
    search: Option<String>,
    /// Only SAEs of this release; lists SAEs instead of releases
    #[arg(long)]
    release: Option<String>,
    /// A newer pretrained_saes.yaml of SAELens [default: the built-in one]
    #[arg(long, value_name = "FILE")]
    registry: Option<String>,
    /// The maximum number of entries [default: all]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl SaesArguments {
    /// The text to print: releases, or SAEs if `--release` or `--search` is given.
    pub(super) fn run(self) -> Result<String> {
        let SaesArguments { model, search, release, registry, limit, json } = self;
        let by_release = search.is_none() && release.is_none();
        let filter = SaeFilter { model, search, release, registry, limit };
        if by_release {
            let releases = list_releases(&filter)?;
            return if json { as_json(&releases) } else { Ok(releases.to_string()) };
        }
        let saes = list_saes(&filter)?;
        if json { as_json(&saes) } else { Ok(saes.to_string()) }
    }
}

fn as_json(list: &impl Serialize) -> Result<String> {
    serde_json::to_string_pretty(list).map_err(Error::failed("write the list as JSON"))
}
