//! `saescope saes`: the SAEs that others have published.

use crate::error::{Error, Result};
use crate::registry::{SaeFilter, list_releases, list_saes};
use clap::Args;
use serde::Serialize;

/// The flags: every option of `list_saes` under its name.
#[derive(Args)]
pub(super) struct SaesArguments {
    /// Those on this model: an alias such as "gpt2-small", or an id on the hub
    #[arg(long)]
    model: Option<String>,
    /// Those whose names have all these words in them; lists SAEs rather than releases
    #[arg(long, value_name = "WORDS")]
    search: Option<String>,
    /// Those of this release; lists SAEs rather than releases
    #[arg(long)]
    release: Option<String>,
    /// A newer list, SAELens' pretrained_saes.yaml
    #[arg(long, value_name = "FILE")]
    registry: Option<String>,
    /// The most to list [default: all]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl SaesArguments {
    /// The releases, or with a release or words to search for the SAEs, as text.
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
    serde_json::to_string_pretty(list).map_err(|error| Error::invalid("the list", "plain data", error))
}
