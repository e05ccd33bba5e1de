//! Several definition trees: of one vector at several scales, or of many features.

use super::extract::register_properties;
use super::items::{self, SkippedError};
use super::{ScriptResult, options, progress_of, script, show};
use crate::display::{Shown, to_json};
use crate::error::Error;
use crate::interpret::{self, TreeOptions, VectorOptions};
use crate::model::Model;
use crate::sae::Sae;
use rhai::plugin::*;
use rhai::{Array, Dynamic, Engine, INT, Map};
use serde::Deserialize;
use std::io::Write;
use std::ops::{Range, RangeInclusive};
use std::path::{Path, PathBuf};

pub(crate) fn register(engine: &mut Engine, skipped: &SkippedError) {
    engine.register_global_module(exported_module!(functions).into());
    items::register(engine, skipped, |file: TreeFile| file.trees().map(|tree| tree.map(Dynamic::from)));
    register_properties::<interpret::TreesSummary>(engine);
}

/// A file of definition trees, to iterate over: `for tree in read_trees(path) { … }`.
#[derive(Debug, Clone)]
pub(crate) struct TreeFile(PathBuf);

impl Shown for TreeFile {
    fn title(&self) -> String {
        self.text()
    }

    fn text(&self) -> String {
        format!("Trees of {}", self.0.display())
    }

    fn write_json(&self, out: &mut dyn Write) -> crate::Result<()> {
        to_json(&self.0, out)
    }
}

impl TreeFile {
    /// Returns the trees, or the error of a file that cannot be opened.
    fn trees(&self) -> Box<dyn Iterator<Item = crate::Result<interpret::DefinitionTree>>> {
        match interpret::read_trees(&self.0) {
            Ok(trees) => Box::new(trees),
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    }
}

/// Converts "all", a range, or an array of feature indices to indices.
fn features_of(sae: &Sae, features: &Dynamic) -> Result<Vec<usize>, Error> {
    let d_sae = sae.cfg().d_sae;
    let wrong = || {
        let got = show::text(features);
        Error::invalid("the features", "\"all\", a range 0..10, or an array of indices, 0 or more", got)
    };
    if features.clone().into_string().is_ok_and(|text| text == "all") {
        return Ok((0..d_sae).collect());
    }
    let range = features.read_lock::<Range<INT>>().map(|range| (range.start, range.end));
    let inclusive = features.read_lock::<RangeInclusive<INT>>();
    if let Some((start, end)) =
        range.or_else(|| inclusive.map(|range| (*range.start(), range.end().saturating_add(1))))
    {
        let bound = |i: INT| usize::try_from(i).map_err(|_| wrong());
        // One more than there are, so that a range that is too long is an error later.
        return Ok((bound(start)?..bound(end)?).take(d_sae + 1).collect());
    }
    let index = |i: &Dynamic| i.as_int().ok().and_then(|i| usize::try_from(i).ok()).ok_or_else(wrong);
    features.read_lock::<Array>().ok_or_else(wrong)?.iter().map(index).collect()
}

/// Splits a map into options of the vectors, of the trees and of the run. `scale` belongs to the vectors if it is a
/// number; else it lists the scales to try.
fn trees_options(map: Map) -> ScriptResult<interpret::WriteTreesOptions> {
    let (of_vector, of_tree) =
        (options::names_of(&VectorOptions::default()), options::names_of(&TreeOptions::default()));
    let own = options::TREES.map(str::to_owned);
    let (mut vector, mut tree, mut run, mut scales) = (Map::new(), Map::new(), Map::new(), None);
    for (name, value) in map {
        let is = |names: &[String]| names.iter().any(|known| *known == name.as_str());
        if name == "scale" && !(value.is_int() || value.is_float() || value.is_unit()) {
            scales = Some(scales_of(value)?);
        } else if is(&of_vector) {
            vector.insert(name, value);
        } else if is(&of_tree) {
            tree.insert(name, value);
        } else if is(&own) {
            run.insert(name, value);
        } else {
            let known = own.iter().chain(&of_vector).chain(&of_tree);
            return script(Err(Error::unknown("option", name.as_str(), known)));
        }
    }
    let (vector, tree) = (options::parse(vector)?, options::parse(tree)?);
    Ok(interpret::WriteTreesOptions { vector, tree, scales, ..options::parse(run)? })
}

/// The option `scale` of trees, if it is not a number.
#[derive(Deserialize)]
struct ScaleOptions {
    scale: interpret::Scales,
}

/// Parses the scales to try: an array or "auto".
pub(crate) fn scales_of(scale: Dynamic) -> ScriptResult<interpret::Scales> {
    Ok(options::parse::<ScaleOptions>([("scale".into(), scale)].into())?.scale)
}

#[export_module]
mod functions {
    /// The definition trees of one vector at several scales, with a score for each scale.
    pub type ScaleSweep = interpret::ScaleSweep;
    /// The counts of a finished run of `write_definition_trees`.
    pub type TreesSummary = interpret::TreesSummary;
    /// The definition trees in a file.
    pub type Trees = super::TreeFile;

    /// The scores of all scales that were tried, an array of maps by ascending scale: `scale`, `self_similarity` (how
    /// much of the direction remains at the end of the prompt), `cross_entropy` (how unlikely the answer is) and
    /// `composite` (a combination of both; the best scale has the largest).
    ///
    /// ```rhai
    /// let model = load_model("demo");
    /// let v = feature_vector(model, load_sae("demo", "blocks.0.hook_resid_pre"), 624);
    /// let sweep = definition_tree(model, v, #{ cutoff: 2e-2, scale: [0.5, 1.0] });
    /// print(sweep.scores);
    /// ```
    #[rhai_fn(global, get = "scores", pure, return_raw)]
    pub fn sweep_scores(sweep: &mut ScaleSweep) -> ScriptResult<Dynamic> {
        rhai::serde::to_dynamic(&sweep.scores)
    }

    /// The definition trees of a sweep, an array by ascending scale.
    ///
    /// ```rhai
    /// let model = load_model("demo");
    /// let v = feature_vector(model, load_sae("demo", "blocks.0.hook_resid_pre"), 624);
    /// let sweep = definition_tree(model, v, #{ cutoff: 2e-2, scale: [0.5, 1.0] });
    /// print(sweep.trees.len());
    /// ```
    #[rhai_fn(global, get = "trees", pure)]
    pub fn sweep_trees(sweep: &mut ScaleSweep) -> Array {
        sweep.trees.iter().cloned().map(Dynamic::from).collect()
    }

    /// The definition tree of the scale with the best composite score.
    ///
    /// ```rhai
    /// let model = load_model("demo");
    /// let v = feature_vector(model, load_sae("demo", "blocks.0.hook_resid_pre"), 624);
    /// let sweep = definition_tree(model, v, #{ cutoff: 2e-2, scale: [0.5, 1.0] });
    /// print(sweep.best.params.scale);
    /// ```
    #[rhai_fn(global, get = "best", pure)]
    pub fn sweep_best(sweep: &mut ScaleSweep) -> interpret::DefinitionTree {
        sweep.best().clone()
    }

    #[rhai_fn(global, name = "to_string", name = "to_debug", pure)]
    pub fn show_sweep(sweep: &mut ScaleSweep) -> String {
        sweep.to_string()
    }

    /// Writes the definition trees of many features to a JSON lines file, one tree per line, and returns a summary. The
    /// features are an array, a range, or "all". Growing them together is faster than one after the other. An
    /// interrupted run continues where it stopped. `definition_trees` is the same function.
    ///
    /// Options: `output_path` (no default), `batch_size` (32 features at a time), `resume` (true), and those of
    /// `feature_vector` and `definition_tree`; with `scale: "auto"` or an array, each feature gets its best scale.
    ///
    /// ```rhai
    /// let model = load_model("demo");
    /// let sae = load_sae("demo", "blocks.0.hook_resid_pre");
    /// print(write_definition_trees(model, sae, [624, 687], #{ output_path: "trees.jsonl", cutoff: 1e-2 }));
    /// for tree in read_trees("trees.jsonl") {
    ///     print(`${tree.params.feature}: ${tree.definitions()[0].text}`);
    /// }
    /// ```
    #[rhai_fn(name = "write_definition_trees", name = "definition_trees", return_raw, volatile)]
    pub fn write_definition_trees(
        context: NativeCallContext,
        model: Model,
        sae: Sae,
        features: Dynamic,
        options: Map,
    ) -> ScriptResult<TreesSummary> {
        let features = script(features_of(&sae, &features))?;
        let options = trees_options(options)?;
        script(interpret::write_definition_trees(&model, &sae, &features, &options, &progress_of(&context)))
    }

    #[rhai_fn(global, name = "to_string", name = "to_debug", pure)]
    pub fn show_summary(summary: &mut TreesSummary) -> String {
        summary.to_string()
    }

    /// The trees in a file written by `write_definition_trees`, to iterate over with `for`; they are read one at a time.
    ///
    /// ```rhai
    /// let model = load_model("demo");
    /// let sae = load_sae("demo", "blocks.0.hook_resid_pre");
    /// write_definition_trees(model, sae, [624, 687], #{ output_path: "trees.jsonl", cutoff: 1e-2 });
    /// for tree in read_trees("trees.jsonl") { print(tree.len); }
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn read_trees(path: &str) -> ScriptResult<Trees> {
        // A missing file is an error here, not at the first tree.
        script(interpret::read_trees(Path::new(path)))?;
        Ok(super::TreeFile(PathBuf::from(path)))
    }

    #[rhai_fn(global, name = "to_string", name = "to_debug", pure)]
    pub fn show_trees(trees: &mut Trees) -> String {
        trees.text()
    }
}
