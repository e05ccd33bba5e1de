//! `saescope saes`: lists published SAEs.

use super::flags::Flags;
use crate::error::{Error, Result};
use crate::registry::{SaeFilter, list_releases, list_saes};
use clap::Args;
use serde::Serialize;

/// The flags: every option of `list_saes` under its name.
#[derive(Args)]
pub(super) struct SaesArguments {
    #[command(flatten)]
    filter: Flags<SaeFilter>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl SaesArguments {
    /// The text to print: releases, or SAEs if `--release` or `--search` is given.
    pub(super) fn run(self) -> Result<String> {
        let SaesArguments { filter: Flags(filter), json } = self;
        if filter.search.is_none() && filter.release.is_none() {
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
