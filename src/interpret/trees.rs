//! Definition trees of many features, written to a JSON lines file as they are finished.
//!
//! During a run the file is named `<output>.partial`; it is renamed at the end. A stopped run continues where it was. A
//! run that requests more features than a finished file has adds them to that file.

use super::grow::definition_trees;
use super::make_vector::{feature_vector, has_direction};
use super::prompt::Prompt;
use super::scale::{best_scale, scale_scores};
use super::tree::{DefinitionTree, Fingerprints, Scales, TreeOptions, TreeParams};
use super::vector::{FeatureVector, VectorOptions};
use crate::error::{Error, Result};
use crate::files::{self, Lines, PartialFile, partial_path};
use crate::model::Model;
use crate::progress::{Progress, ProgressEvent};
use crate::sae::Sae;
use saescope_options::options;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Instant;

options! {
    /// Options of [`write_definition_trees`].
    pub struct WriteTreesOptions {
        /// The JSON lines file to write.
        pub output_path: String = String::new(),
        /// The number of features that grow together. Changes speed and memory, not the trees. Default: 32.
        pub batch_size: usize = 32,
        /// Whether to keep what an earlier run wrote with the same options and add only what is missing. Default: true.
        pub resume: bool = true,
        /// The scales to try; each feature gets its best. A list of numbers, or "auto". Default: the scale of the vector.
        pub scales: Option<Scales> = None,
        /// How a feature becomes a vector. Default: `VectorOptions::default()`.
        pub vector: VectorOptions = VectorOptions::default(),
        /// How a tree grows. Default: `TreeOptions::default()`.
        pub tree: TreeOptions = TreeOptions::default(),
    }
}

/// The counts of a finished run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TreesSummary {
    /// Trees that this run grew.
    pub trees: u64,
    /// Requested features whose trees an earlier run had written.
    pub kept: u64,
    /// Nodes of the trees that this run grew.
    pub nodes: u64,
    /// The duration, in seconds.
    pub seconds: f64,
    /// The file that was written.
    pub output_path: String,
}

/// Writes the definition trees of features of an SAE to a JSON lines file. A feature whose weights are zero, as when it
/// died in training, gets a warning and no tree.
///
/// ```
/// # fn main() -> saescope::Result<()> {
/// use saescope::prelude::*;
///
/// let (model, sae) = (Model::load("demo")?, Sae::load(("demo", "blocks.0.hook_resid_pre"))?);
/// # let folder = tempfile::tempdir().unwrap();
/// # let output_path = folder.path().join("trees.jsonl").to_string_lossy().into_owned();
/// let options = WriteTreesOptions { output_path, ..Default::default() };
/// let summary = write_definition_trees(&model, &sae, &[624, 687], &options, &Progress::default())?;
/// assert_eq!(summary.trees, 2);
/// for tree in read_trees(summary.output_path.as_ref())? {
///     println!("{}", tree?);
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// A feature is out of range, or `features` is empty; options are out of range; the file was written with other options
/// or another run is writing it; and as [`feature_vector`] and [`super::definition_tree`].
pub fn write_definition_trees(
    model: &Model,
    sae: &Sae,
    features: &[usize],
    options: &WriteTreesOptions,
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
    features.iter().try_for_each(|feature| sae.check_feature(*feature))?;
    for feature in features {
        if has_direction(sae, *feature, options.vector.weights)? {
            first = *feature;
            break;
        }
    }
    let start = Instant::now();
    options.tree.check()?;
    let prompt = Prompt::new(model, &options.tree)?;
    options.tree.max_definition_tokens(model, &prompt)?;
    let vector = feature_vector(model, sae, first, &options.vector)?;
    let path = Path::new(&options.output_path);
    let outputs = [path.to_owned(), partial_path(path)?];
    files::check_distinct(&outputs, model.files().chain(sae.files()))?;
    let mut file = PartialFile::open(path, options.resume)?;
    let fingerprints =
        Some(Fingerprints { model: model.fingerprint(progress)?, sae: sae.fingerprint(progress)? });
    let params = options.tree.params(&vector, &prompt);
    let params = TreeParams { scales: options.scales.clone(), fingerprints: fingerprints.clone(), ..params };
    let expected = comparable(params);
    let done = done_before(&mut file, path, options, &expected)?;
    let mut seen = BTreeSet::new();
    let missing: Vec<usize> =
        features.iter().copied().filter(|feature| !done.contains(feature) && seen.insert(*feature)).collect();

    let mut summary = TreesSummary {
        kept: features.iter().collect::<BTreeSet<_>>().len() as u64 - missing.len() as u64,
        output_path: options.output_path.clone(),
        ..Default::default()
    };
    progress.report(ProgressEvent::Started { label: "definition trees".to_owned() });
    let result: Result<()> = missing.chunks(options.batch_size).try_for_each(|features| {
        for mut tree in grow_batch(model, sae, features, options, progress)? {
            tree.params.fingerprints.clone_from(&fingerprints);
            let line = serde_json::to_string(&tree).map_err(Error::failed("write a tree as JSON"))?;
            file.write(&(line + "\n").into_bytes())?;
            summary.trees += 1;
            summary.nodes += tree.len() as u64;
        }
        progress.report(ProgressEvent::Advanced {
            fraction: Some(summary.trees as f64 / missing.len() as f64),
            counts: vec![("features", summary.trees), ("nodes", summary.nodes)],
        });
        Ok(())
    });
    progress.report(ProgressEvent::Finished);
    result?;
    file.keep()?;
    summary.seconds = start.elapsed().as_secs_f64();
    Ok(summary)
}

fn grow_batch(
    model: &Model,
    sae: &Sae,
    features: &[usize],
    options: &WriteTreesOptions,
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
            let text = format!("feature {feature} of `{}` has zero weights: no tree", sae.cfg().sae_id);
            progress.report(ProgressEvent::Warning(text));
        }
    }
    let mut trees = definition_trees(model, &vectors, &options.tree, progress)?;
    trees.iter_mut().for_each(|tree| tree.params.scales.clone_from(&options.scales));
    Ok(trees)
}

/// Returns the features whose trees are already written. Removes a truncated last line. If an earlier run started over,
/// its partial file may lack trees of the finished file: these are added.
fn done_before(
    file: &mut PartialFile,
    output: &Path,
    options: &WriteTreesOptions,
    expected: &TreeParams,
) -> Result<BTreeSet<usize>> {
    let mut done = BTreeSet::new();
    let (mut complete, mut lacks_newline) = (0, false);
    let path = file.partial_path().to_owned();
    // A finished file is only copied, and an error removes the copy: messages name the original.
    let named = if file.is_resumed() { &path } else { output };
    let finished = file.complete().filter(|_| options.resume && file.is_resumed()).map(Path::to_owned);
    let hint = match finished {
        Some(_) => {
            format!("remove it to resume from `{}`, or choose another `output_path`", output.display())
        }
        None => "choose another `output_path`, or start over with `resume: false`".to_owned(),
    };
    let mut lines = Lines::open(&path)?;
    let mut line = Vec::new();
    while lines.read(&mut line)? {
        lacks_newline = line.last() != Some(&b'\n');
        // Only a partial file may end in a truncated line. A finished file must parse, or it is not ours.
        if lacks_newline && file.is_resumed() {
            lacks_newline = false;
            break;
        }
        let feature = feature_of(named, lines.number(), &line, expected, &hint)?;
        complete += line.len() as u64;
        done.extend(feature);
    }
    file.truncate(complete)?;
    if lacks_newline {
        file.write(b"\n")?;
    }
    let Some(finished) = finished else { return Ok(done) };
    let hint = format!("move it away to resume with `{}`, or choose another `output_path`", path.display());
    let mut lines = Lines::open(&finished)?;
    while lines.read(&mut line)? {
        let feature = feature_of(output, lines.number(), &line, expected, &hint)?;
        if feature.is_some_and(|feature| done.insert(feature)) {
            if line.last() != Some(&b'\n') {
                line.push(b'\n');
            }
            file.write(&line)?;
        }
    }
    Ok(done)
}

/// Parses a line of a file of trees, checks that the tree was grown with the same options, and returns its feature.
fn feature_of(
    path: &Path,
    number: usize,
    line: &[u8],
    expected: &TreeParams,
    hint: &str,
) -> Result<Option<usize>> {
    let tree = parse(path, number, line).map_err(|error| error.with_hint(hint))?;
    let feature = tree.params.vector.feature;
    let params = comparable(tree.params);
    if params == *expected {
        return Ok(feature);
    }
    let only_fingerprints_differ =
        TreeParams { fingerprints: expected.fingerprints.clone(), ..params.clone() } == *expected;
    let what = match (params.fingerprints, only_fingerprints_differ) {
        (None, true) => "trees that do not say which weights they were grown with",
        (Some(_), true) => {
            "trees of another model or SAE, or of the same ones with other weights or loading options, or on another device"
        }
        (_, false) => "trees that were grown with other options",
    };
    Err(Error::mismatch(format!("`{}` has {what}", path.display()), hint))
}

/// The parameters without those that differ between features, and without names, which the fingerprints replace.
fn comparable(mut params: TreeParams) -> TreeParams {
    params.vector.model.clear();
    params.vector.sae = None;
    params.vector.feature = None;
    params.vector.encoder_decoder_cosine = None;
    if params.scales.is_some() {
        params.vector.scale = 0.0;
    }
    params.saescope.clear();
    params
}

/// Iterates over the trees of a file, read one at a time. Ends after the first error.
#[derive(Debug)]
pub struct TreeReader {
    path: PathBuf,
    lines: Option<Lines>,
}

/// Opens a file that [`write_definition_trees`] has written, to read its trees.
///
/// # Errors
/// The file cannot be opened.
pub fn read_trees(path: &Path) -> Result<TreeReader> {
    Ok(TreeReader { path: path.to_owned(), lines: Some(Lines::open(path)?) })
}

impl Iterator for TreeReader {
    type Item = Result<DefinitionTree>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut line = Vec::new();
        let mut lines = self.lines.take()?;
        let tree = match lines.read(&mut line) {
            Ok(is_line) => is_line.then(|| parse(&self.path, lines.number(), &line)),
            Err(error) => Some(Err(error)),
        };
        self.lines = Some(lines).filter(|_| matches!(tree, Some(Ok(_))));
        tree
    }
}

fn parse(path: &Path, line: usize, text: &[u8]) -> Result<DefinitionTree> {
    serde_json::from_slice(text.trim_ascii_end()).map_err(|error| Error::Malformed {
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
            write!(f, " ({kept} more from an earlier run)")?;
        }
        write!(f, "\nnodes     {nodes}\nseconds   {seconds:.1}")?;
        if *trees > 0 {
            write!(f, " ({:.2} a tree)", seconds / *trees as f64)?;
        }
        write!(f, "\noutput    {output_path}")
    }
}
