//! Published SAEs: `list_saes`.

use super::options::{self, FunctionOptions};
use super::show::ShownType;
use super::{ScriptResult, script};
use crate::error::Error;
use crate::registry::{SaeFilter, SaeTable, list_saes as list};
use rhai::plugin::*;
use rhai::{Dynamic, Engine, INT, Map, Module};
use saescope_options::Options;
use std::any::TypeId;

pub(super) const SHOWN: &[ShownType] = &[ShownType::of::<SaeTable>("saes: &mut SaeTable")];
pub(super) const OPTIONS: &[FunctionOptions] = &[("list_saes", SaeFilter::fields)];

pub(super) fn register(engine: &mut Engine) {
    engine.register_global_module(exported_module!(functions).into());
    let mut module = Module::new();
    module.set_iter_result(TypeId::of::<SaeTable>(), |saes| {
        let saes = saes.try_cast::<SaeTable>().unwrap_or_default().saes;
        Box::new(saes.into_iter().map(rhai::serde::to_dynamic))
    });
    engine.register_global_module(module.into());
}

#[export_module]
mod functions {
    /// A list of published SAEs, as `list_saes` returns it.
    pub type SaeTable = crate::registry::SaeTable;

    /// The published SAEs that SAELens lists, with its names.
    /// `for sae in list { … }` iterates over maps with `release`,
    /// `sae_id`, `model`, `repo_id`, `hook`, `width`, `l0` and `neuronpedia`; a field is `()` if it is unknown.
    ///
    /// ```rhai
    /// let saes = list_saes(#{ model: "gpt2-small", search: "res-jb" });
    /// print(saes);
    /// for sae in saes {
    ///     print(`${sae.release} ${sae.sae_id}: ${sae.hook}`);
    /// }
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn list_saes(options: Map) -> ScriptResult<SaeTable> {
        script(list(&options::parse(options)?))
    }

    /// The number of SAEs in the list.
    ///
    /// ```rhai
    /// print(list_saes(#{ model: "gpt2-small" }).len());
    /// ```
    #[rhai_fn(global, name = "len", get = "len", pure)]
    pub fn saes_len(saes: &mut SaeTable) -> INT {
        saes.saes.len() as INT
    }

    /// The SAE at an index of the list, as a map.
    #[rhai_fn(global, index_get, pure, return_raw)]
    pub fn saes_at(saes: &mut SaeTable, index: INT) -> ScriptResult<Dynamic> {
        let found = usize::try_from(index).ok().and_then(|index| saes.saes.get(index));
        let expected = format!("0 to {}", saes.saes.len().saturating_sub(1));
        rhai::serde::to_dynamic(script(found.ok_or_else(|| Error::invalid("the index", expected, index)))?)
    }
}
