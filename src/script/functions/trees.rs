//! Definition trees: of one vector, of one vector at several scales, of many features.

use super::arguments::{features_of, register_properties, scales_of, vector_of};
use super::items::{self, SkippedError};
use super::options::{self, FunctionOptions};
use super::show::ShownType;
use super::{ScriptResult, progress_of, script};
use crate::display::Shown;
use crate::error::Error;
use crate::interpret::{
    self, DefinitionTree, ScaleSweep, TreeFile, TreeOptions, TreesSummary, VectorOptions, WriteTreesOptions,
};
use crate::model::Model;
use crate::sae::Sae;
use rhai::plugin::*;
use rhai::{Array, Dynamic, Engine, FLOAT, INT, Map};
use saescope_options::{Field, Options};
use std::path::Path;

pub(super) const SHOWN: &[ShownType] = &[
    ShownType::of::<DefinitionTree>("tree: &mut DefinitionTree").saved(),
    ShownType::of::<ScaleSweep>("sweep: &mut ScaleSweep").saved(),
    ShownType::of::<TreeFile>("trees: &mut Trees"),
    ShownType::of::<TreesSummary>("summary: &mut TreesSummary"),
];
pub(super) const OPTIONS: &[FunctionOptions] = &[
    ("definition_tree", || {
        let scale = "The scale, or several to try: an array of numbers, or \"auto\"; then the result has the `trees` of the \
                     best scales, the `best` of them and all `scores`. Default: the vector's.";
        [TreeOptions::fields(), vec![Field::other("scale", scale)]].concat()
    }),
    ("definition_trees", options_of_trees),
    ("write_definition_trees", options_of_trees),
];
/// The options that `write_definition_trees` adds to those of the vector and the tree.
const OWN_OPTIONS: [&str; 3] = ["output_path", "batch_size", "resume"];

pub(super) fn register(engine: &mut Engine, skipped: &SkippedError) {
    engine.register_global_module(exported_module!(functions).into());
    items::register(engine, skipped, |file: TreeFile| file.trees());
    register_properties::<TreesSummary>(engine);
}

fn options_of_trees() -> Vec<Field> {
    let own = WriteTreesOptions::fields().into_iter().filter(|field| OWN_OPTIONS.contains(&field.name));
    [own.collect(), VectorOptions::fields(), TreeOptions::fields()].concat()
}

/// Splits a map into options of the vectors, of the trees and of the run. `scale` belongs to the vectors if it is a
/// number; else it lists the scales to try.
fn trees_options(map: Map) -> ScriptResult<WriteTreesOptions> {
    let (of_vector, of_tree) = (VectorOptions::fields(), TreeOptions::fields());
    let (mut vector, mut tree, mut run, mut scales) = (Map::new(), Map::new(), Map::new(), None);
    for (name, value) in map {
        let is = |fields: &[Field]| fields.iter().any(|field| field.name == name.as_str());
        if name == "scale" && !(value.is_int() || value.is_float() || value.is_unit()) {
            scales = Some(scales_of(value)?);
        } else if is(&of_vector) {
            vector.insert(name, value);
        } else if is(&of_tree) {
            tree.insert(name, value);
        } else if OWN_OPTIONS.contains(&name.as_str()) {
            run.insert(name, value);
        } else {
            let known = of_vector.iter().chain(&of_tree).map(|field| field.name);
            let known = OWN_OPTIONS.into_iter().chain(known);
            return script(Err(Error::unknown("option", name.as_str(), known)));
        }
    }
    let (vector, tree) = (options::parse(vector)?, options::parse(tree)?);
    Ok(WriteTreesOptions { vector, tree, scales, ..options::parse(run)? })
}

#[export_module]
mod functions {
    /// The definitions that a model gives for a ghost token, as a tree of tokens.
    pub type DefinitionTree = interpret::DefinitionTree;
    /// The definition trees of one vector at several scales, with a score for each scale.
    pub type ScaleSweep = interpret::ScaleSweep;
    /// The counts of a finished run of `write_definition_trees`.
    pub type TreesSummary = interpret::TreesSummary;
    /// The definition trees in a file.
    pub type Trees = interpret::TreeFile;

    /// The definition tree of a feature vector: every likely definition that the model gives for the ghost token. A
    /// tensor [d_model] is used as the token embedding itself, so that `model.W_E[id]` asks about a real token.
    ///
    /// ```rhai
    /// let model = load_model("demo");
    /// let v = feature_vector(model, load_sae("demo", "blocks.0.hook_resid_pre"), 624);
    /// let tree = definition_tree(model, v, #{ cutoff: 1e-3 });
    /// print(tree);
    /// print(tree.definitions()[0].text);
    /// let dog = model.to_tokens("dog", #{ prepend_bos: false })[0];
    /// print(definition_tree(model, model.W_E[dog], #{ cutoff: 1e-2 }));
    /// ```
    #[rhai_fn(return_raw)]
    pub fn definition_tree(
        context: NativeCallContext,
        model: Model,
        vector: Dynamic,
        options: Map,
    ) -> ScriptResult<Dynamic> {
        let mut options = options;
        let mut vector = script(vector_of(&model, &vector))?;
        let scale = options.remove("scale").filter(|scale| !scale.is_unit());
        let tree_options = options::parse(options)?;
        let progress = progress_of(&context);
        if let Some(scale) = scale {
            match scale.as_float().or_else(|_| scale.as_int().map(|scale| scale as FLOAT)) {
                Ok(scale) => vector = vector.at_scale(scale),
                Err(_) => {
                    // The trees of several scales.
                    let scales = scales_of(scale)?;
                    let sweep = interpret::scale_sweep(&model, &vector, &scales, &tree_options, &progress);
                    return script(sweep).map(Dynamic::from);
                }
            }
        }
        script(interpret::definition_tree(&model, &vector, &tree_options, &progress)).map(Dynamic::from)
    }

    /// Reads a definition tree from a JSON file written by `tree.save`.
    ///
    /// ```rhai
    /// let model = load_model("demo");
    /// let v = feature_vector(model, load_sae("demo", "blocks.0.hook_resid_pre"), 624);
    /// definition_tree(model, v, #{ cutoff: 1e-3 }).save("tree.json");
    /// print(load_tree("tree.json").trim(1e-2));
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn load_tree(path: &str) -> ScriptResult<DefinitionTree> {
        script(DefinitionTree::load(Path::new(path)))
    }

    /// How a definition tree was made, as a map: the parameters of the vector and the options.
    ///
    /// ```rhai
    /// let model = load_model("demo");
    /// let v = feature_vector(model, load_sae("demo", "blocks.0.hook_resid_pre"), 624);
    /// let tree = definition_tree(model, v, #{ cutoff: 1e-2 });
    /// print(tree.params.prompt);
    /// ```
    #[rhai_fn(global, get = "params", pure, return_raw)]
    pub fn tree_params(tree: &mut DefinitionTree) -> ScriptResult<Dynamic> {
        rhai::serde::to_dynamic(&tree.params)
    }

    /// The root of a definition tree, the ghost token, as a map: `token`, `token_id`, `prob`, `cumulative_prob` and
    /// `children`, an array of such maps, most probable first.
    ///
    /// ```rhai
    /// let model = load_model("demo");
    /// let v = feature_vector(model, load_sae("demo", "blocks.0.hook_resid_pre"), 624);
    /// let tree = definition_tree(model, v, #{ cutoff: 1e-2 });
    /// print(tree.root.children.map(|child| child.token));
    /// ```
    #[rhai_fn(global, get = "root", pure, return_raw)]
    pub fn tree_root(tree: &mut DefinitionTree) -> ScriptResult<Dynamic> {
        rhai::serde::to_dynamic(&tree.root)
    }

    /// The number of tokens in a definition tree.
    ///
    /// ```rhai
    /// let model = load_model("demo");
    /// let v = feature_vector(model, load_sae("demo", "blocks.0.hook_resid_pre"), 624);
    /// let tree = definition_tree(model, v, #{ cutoff: 1e-2 });
    /// print(tree.len);
    /// ```
    #[rhai_fn(global, name = "len", get = "len", pure)]
    pub fn tree_len(tree: &mut DefinitionTree) -> INT {
        tree.len() as INT
    }

    /// The length of the longest definition of a tree, in tokens.
    ///
    /// ```rhai
    /// let model = load_model("demo");
    /// let v = feature_vector(model, load_sae("demo", "blocks.0.hook_resid_pre"), 624);
    /// let tree = definition_tree(model, v, #{ cutoff: 1e-2 });
    /// print(tree.depth);
    /// ```
    #[rhai_fn(global, get = "depth", pure)]
    pub fn tree_depth(tree: &mut DefinitionTree) -> INT {
        tree.depth() as INT
    }

    /// A definition tree without the nodes whose cumulative probability is below `cutoff`.
    ///
    /// ```rhai
    /// let model = load_model("demo");
    /// let tree = definition_tree(model, feature_vector(model, load_sae("demo", "blocks.0.hook_resid_pre"), 624));
    /// print(`${tree.len} nodes, ${tree.trim(1e-3).len} above 1e-3`);
    /// ```
    #[rhai_fn(global, name = "trim", pure)]
    pub fn trim_tree(tree: &mut DefinitionTree, cutoff: FLOAT) -> DefinitionTree {
        tree.trim(cutoff)
    }

    /// A definition tree with the branches first that differ most from the null, by log ratio. It must have been grown
    /// with `null_directions`.
    ///
    /// ```rhai
    /// let model = load_model("demo");
    /// let v = feature_vector(model, load_sae("demo", "blocks.0.hook_resid_pre"), 624);
    /// print(definition_tree(model, v, #{ cutoff: 1e-2, null_directions: 4 }).contrast());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn contrast(tree: &mut DefinitionTree) -> ScriptResult<DefinitionTree> {
        script(tree.contrast())
    }

    /// The definitions in a tree, an array of maps: `text`, `cumulative_prob`, `finished` (whether the definition
    /// reached its end rather than the cutoff) and, if grown with `null_directions`, `log_ratio` (the natural logarithm
    /// of how much likelier it is than under the null). Finished ones come first, each group by falling probability.
    ///
    /// ```rhai
    /// let model = load_model("demo");
    /// let v = feature_vector(model, load_sae("demo", "blocks.0.hook_resid_pre"), 624);
    /// let tree = definition_tree(model, v, #{ cutoff: 1e-2 });
    /// print(tree.definitions()[0]);
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn definitions(tree: &mut DefinitionTree) -> ScriptResult<Dynamic> {
        rhai::serde::to_dynamic(tree.definitions())
    }

    /// The probability that a definition begins with `text`: a sum over the tree's nodes, 0 if none of them match.
    ///
    /// ```rhai
    /// let model = load_model("demo");
    /// let tree = definition_tree(model, feature_vector(model, load_sae("demo", "blocks.0.hook_resid_pre"), 624));
    /// print(tree.probability("the "));
    /// ```
    #[rhai_fn(global, pure)]
    pub fn probability(tree: &mut DefinitionTree, text: &str) -> FLOAT {
        tree.probability(text)
    }

    /// A definition tree in Graphviz's DOT language.
    ///
    /// ```rhai
    /// let model = load_model("demo");
    /// let v = feature_vector(model, load_sae("demo", "blocks.0.hook_resid_pre"), 624);
    /// let tree = definition_tree(model, v, #{ cutoff: 1e-2 });
    /// print(tree.to_dot());
    /// ```
    #[rhai_fn(global, pure)]
    pub fn to_dot(tree: &mut DefinitionTree) -> String {
        tree.dot().unwrap_or_default()
    }

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
    pub fn sweep_best(sweep: &mut ScaleSweep) -> DefinitionTree {
        sweep.best().clone()
    }

    /// Writes the definition trees of many features to a JSON lines file, one tree per line, and returns a summary. The
    /// features are an array, a range, or "all". Growing them together is faster than one after the other. An
    /// interrupted run continues where it stopped. `definition_trees` is the same function.
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
        script(Trees::open(Path::new(path)))
    }
}
