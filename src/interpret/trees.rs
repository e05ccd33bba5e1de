//! Definition trees of many features, written one a line as they are finished.
//!
//! While a run is under way its lines are in `<output>.partial`, which gets its name at the end. A run that was stopped
//! goes on where it was, and one that asks for more features than a finished file has adds them to it.

use super::grow::grow_trees;
use super::prompt::Prompt;
use super::scale::{Scales, best_scale, scale_scores};
use super::tree::{DefinitionTree, TreeOptions, TreeParams};
use super::vector::{FeatureVector, VectorOptions, feature_vector, has_direction};
use crate::error::{Error, Result};
use crate::files::{self, PartialFile};
use crate::model::Model;
use crate::progress::{Progress, Report};
use crate::sae::Sae;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Instant;

/// How the trees of many features are grown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TreesOptions {
    /// The file to write, JSON lines. No default.
    pub output_path: String,
    /// How many features grow together. Changes the speed and the memory, not the trees. Default: 32.
    pub batch_size: usize,
    /// Whether what an earlier run has written with the same options is kept, and only what is missing added. Default:
    /// true.
    pub resume: bool,
    /// Scales of which each feature gets its best: a list of numbers, or "auto". Default: the one of `vector`.
    pub scales: Option<Scales>,
    /// How a feature becomes a vector.
    pub vector: VectorOptions,
    /// How a tree grows.
    pub tree: TreeOptions,
}

impl Default for TreesOptions {
    fn default() -> Self {
        TreesOptions {
            output_path: String::new(),
            batch_size: 32,
            resume: true,
            scales: None,
            vector: VectorOptions::default(),
            tree: TreeOptions::default(),
        }
    }
}

/// The counts of a finished run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TreesSummary {
    /// Trees that were grown.
    pub trees: u64,
    /// Features whose trees an earlier run had written.
    pub kept: u64,
    /// Nodes of the trees that were grown.
    pub nodes: u64,
    /// How long it took.
    pub seconds: f64,
    /// The file that was written.
    pub output_path: String,
}

/// The definition trees of features of an SAE, each a line of a JSON lines file. A feature whose weights are zeros, as of one
/// that died in training, has none, which is a warning.
///
/// # Errors
/// A feature that the SAE has not, no feature at all, options out of range; a file that an earlier run has written with
/// other options, or that another run is writing; and as [`feature_vector`] and [`super::definition_tree`].
pub fn definition_trees(
    model: &Model,
    sae: &Sae,
    features: &[usize],
    options: &TreesOptions,
    progress: &Progress,
) -> Result<TreesSummary> {
    if options.batch_size == 0 {
        return Err(Error::invalid("`batch_size`", "at least 1", 0));
    }
    if options.output_path.is_empty() {
        return Err(Error::invalid("`output_path`", "the name of a file", "none"));
    }
    let mut first =
        *features.first().ok_or_else(|| Error::invalid("the features", "at least one", "none"))?;
    for feature in features {
        sae.check_feature(*feature)?;
    }
    for feature in features {
        if has_direction(sae, *feature, options.vector.weights)? {
            first = *feature;
            break;
        }
    }
    let start = Instant::now();
    options.tree.check()?;
    let prompt = Prompt::new(model, &options.tree)?;
    options.tree.n_ctx_left(model, &prompt)?;
    let vector = feature_vector(model, sae, first, &options.vector)?;
    let params = TreeParams { scales: options.scales.clone(), ..options.tree.params(&vector, &prompt) };
    let expected = comparable(params);
    let path = Path::new(&options.output_path);
    let mut file = PartialFile::open(path, options.resume)?;
    let done = done_before(&mut file, path, &expected)?;
    let mut seen = BTreeSet::new();
    let missing: Vec<usize> =
        features.iter().copied().filter(|feature| !done.contains(feature) && seen.insert(*feature)).collect();

    let mut summary = TreesSummary {
        kept: features.iter().collect::<BTreeSet<_>>().len() as u64 - missing.len() as u64,
        output_path: options.output_path.clone(),
        ..Default::default()
    };
    progress.report(Report::Started { label: "definition trees".to_owned() });
    let result: Result<()> = missing.chunks(options.batch_size).try_for_each(|features| {
        for tree in grow_batch(model, sae, features, options, progress)? {
            let line = serde_json::to_string(&tree).map_err(|e| Error::malformed(path, e.to_string()))?;
            file.write(&(line + "\n").into_bytes())?;
            summary.trees += 1;
            summary.nodes += tree.len() as u64;
        }
        progress.report(Report::Grown {
            features: summary.trees,
            nodes: summary.nodes,
            fraction: summary.trees as f64 / missing.len() as f64,
        });
        Ok(())
    });
    progress.report(Report::Finished);
    result?;
    file.keep()?;
    summary.seconds = start.elapsed().as_secs_f64();
    Ok(summary)
}

fn grow_batch(
    model: &Model,
    sae: &Sae,
    features: &[usize],
    options: &TreesOptions,
    progress: &Progress,
) -> Result<Vec<DefinitionTree>> {
    let at_best_scale = |vector: FeatureVector| -> Result<FeatureVector> {
        let Some(scales) = &options.scales else { return Ok(vector) };
        let scores = scale_scores(model, &vector, scales, &options.tree, progress)?;
        Ok(vector.at_scale(scores[best_scale(&scores)].scale))
    };
    let mut vectors = Vec::with_capacity(features.len());
    for feature in features {
        if has_direction(sae, *feature, options.vector.weights)? {
            vectors.push(at_best_scale(feature_vector(model, sae, *feature, &options.vector)?)?);
        } else {
            let text = format!("feature {feature} of `{}` has weights of zeros: no tree", sae.cfg().sae_id);
            progress.report(Report::Warning(text));
        }
    }
    let mut trees = grow_trees(model, &vectors, &options.tree, progress)?;
    trees.iter_mut().for_each(|tree| tree.params.scales.clone_from(&options.scales));
    Ok(trees)
}

/// The features whose trees are there. A last line that was cut off is taken away.
fn done_before(file: &mut PartialFile, output: &Path, expected: &TreeParams) -> Result<BTreeSet<usize>> {
    let mut done = BTreeSet::new();
    let mut whole = 0;
    let path = file.partial_path().to_owned();
    // Of a finished file there is but a copy, which an error takes away.
    let named = if file.was_left() { &path } else { output };
    let mut reader = BufReader::new(files::open(&path)?);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        reader.read_until(b'\n', &mut line).map_err(Error::file("read", &path))?;
        let is_cut = line.last() != Some(&b'\n');
        // A finished file has no line that was cut off: one that seems to is somebody else's.
        if line.is_empty() || is_cut && file.was_left() {
            break;
        }
        let tree = parse(named, number, &line).map_err(|e| e.with_hint(not_ours()))?;
        let feature = tree.params.vector.feature;
        if comparable(tree.params) != *expected {
            return Err(Error::mismatch(
                format!("`{}` has trees that were grown with other options", named.display()),
                not_ours(),
            ));
        }
        if is_cut {
            break;
        }
        whole += line.len() as u64;
        done.extend(feature);
    }
    file.truncate(whole)?;
    Ok(done)
}

fn not_ours() -> &'static str {
    "choose another `output_path`, or begin anew with `resume: false`"
}

/// The parameters without those that differ from feature to feature.
fn comparable(mut params: TreeParams) -> TreeParams {
    params.vector.feature = None;
    params.vector.encoder_decoder_cosine = None;
    if params.scales.is_some() {
        params.vector.scale = 0.0;
    }
    params.saescope.clear();
    params
}

/// The trees of a file, read one at a time; ends after the first error.
#[derive(Debug)]
pub struct Trees {
    path: PathBuf,
    reader: Option<BufReader<File>>,
    line: usize,
}

/// Reads the trees that [`definition_trees`] has written.
///
/// # Errors
/// A file that is not there.
pub fn read_trees(path: &Path) -> Result<Trees> {
    let file = files::open(path)?;
    Ok(Trees { path: path.to_owned(), reader: Some(BufReader::new(file)), line: 0 })
}

impl Iterator for Trees {
    type Item = Result<DefinitionTree>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut line = Vec::new();
        let read = self.reader.as_mut()?.read_until(b'\n', &mut line);
        self.line += 1;
        let tree = match read {
            Ok(0) => return None,
            Ok(_) => parse(&self.path, self.line, &line),
            Err(error) => Err(Error::file("read", &self.path)(error)),
        };
        if tree.is_err() {
            self.reader = None;
        }
        Some(tree)
    }
}

fn parse(path: &Path, line: usize, text: &[u8]) -> Result<DefinitionTree> {
    serde_json::from_slice(text).map_err(|error| Error::Malformed {
        path: path.to_owned(),
        at: format!("line {line}"),
        message: format!("not a definition tree: {error}"),
        hint: None,
    })
}

impl std::fmt::Display for TreesSummary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let TreesSummary { trees, kept, nodes, seconds, output_path } = self;
        write!(f, "trees     {trees}")?;
        if *kept > 0 {
            write!(f, " ({kept} more were there)")?;
        }
        write!(f, "\nnodes     {nodes}\nseconds   {seconds:.1}")?;
        if *trees > 0 {
            write!(f, " ({:.2} a tree)", seconds / *trees as f64)?;
        }
        write!(f, "\noutput    {output_path}")
    }
}
