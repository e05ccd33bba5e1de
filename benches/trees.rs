//! The speed of definition trees, compared with a plain depth-first search.
//!
//! The depth-first search makes a complete pass over prompt and definition for each node, with this crate's own forward
//! pass, so that the search is measured and not the arithmetic. The trees are of features of the embedded demo.
//!
//! `cargo bench --bench trees -- DIR [LEVELS]` grows one tree with the model in DIR. It prints the seconds of each
//! level, of reading as many bytes as the weights have, the peak memory and the size of the weights.

#[path = "../tests/integration/interpret/characters.rs"]
mod characters;
#[path = "../tests/integration/interpret/depth_first.rs"]
mod depth_first;
mod memory;

use candle_core::{Device, Tensor};
use depth_first::depth_first;
use memory::peak_megabytes;
use rayon::prelude::*;
use saescope::interpret::{FeatureVector, PROMPTS, TreeOptions, VectorOptions};
use saescope::{Model, Progress, ProgressEvent, Sae, definition_tree, definition_trees, feature_vector};
use std::sync::{Arc, Mutex};
use std::time::Instant;

const FEATURE: usize = 624;
const TOGETHER: usize = 32;
const RUNS: usize = 5;

fn main() {
    // cargo passes `--bench`.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    match arguments.first() {
        Some(folder) => with_model(folder, arguments.get(1).and_then(|n| n.parse().ok()).unwrap_or(12)),
        None => with_demo(),
    }
}

fn options() -> TreeOptions {
    TreeOptions { prompt: PROMPTS[0].1.to_owned(), stop: Some(vec!["\"".to_owned()]), ..Default::default() }
}

fn with_demo() {
    let model = Model::load("demo").unwrap();
    let sae = Sae::load(("demo", "blocks.0.hook_resid_pre")).unwrap();
    let vector = |feature| feature_vector(&model, &sae, feature, &VectorOptions::default()).unwrap();
    let run = Progress::default();
    let one = vector(FEATURE);
    let several: Vec<FeatureVector> = (0..TOGETHER).map(|i| vector(FEATURE + i)).collect();
    let (mut searches, mut trees, mut together) = (Vec::new(), Vec::new(), Vec::new());
    let (mut nodes, mut nodes_together) = (0, 0);
    definition_tree(&model, &one, &options(), &run).unwrap();
    for _ in 0..RUNS {
        searches.push(seconds(|| drop(depth_first(&model, &one, &options()))));
        trees.push(seconds(|| nodes = definition_tree(&model, &one, &options(), &run).unwrap().len()));
        together.push(seconds(|| {
            let trees = definition_trees(&model, &several, &options(), &run).unwrap();
            nodes_together = trees.iter().map(|tree| tree.len()).sum();
        }));
    }
    let [search, tree, together] = [searches, trees, together].map(median);
    println!("medians of {RUNS}, feature {FEATURE} of the demo, cutoff {:e}", options().cutoff);
    println!(
        "depth-first, uncached    {search:7.3} s, {nodes} nodes, {:.0} µs a node",
        1e6 * search / nodes as f64
    );
    println!(
        "level by level           {tree:7.3} s, {:.0} µs a node: {:.1} times as fast",
        1e6 * tree / nodes as f64,
        search / tree
    );
    let (per_node, uncached) = (together / nodes_together as f64, search / nodes as f64);
    println!(
        "{TOGETHER} features together     {:7.3} s a tree, {nodes_together} nodes, {:.0} µs a node: {:.1} times as fast a node",
        together / TOGETHER as f64,
        1e6 * per_node,
        uncached / per_node
    );
    println!("cost by nodes:");
    for cutoff in [1e-2, 1e-3, 1e-4, 1e-5] {
        let options = TreeOptions { cutoff, ..options() };
        let mut nodes = 0;
        let taken: Vec<f64> = (0..RUNS)
            .map(|_| seconds(|| nodes = definition_tree(&model, &one, &options, &run).unwrap().len()))
            .collect();
        let taken = median(taken);
        println!(
            "  cutoff {cutoff:.0e}  {nodes:6} nodes  {taken:6.3} s  {:5.0} µs a node",
            1e6 * taken / nodes as f64
        );
    }
}

fn with_model(folder: &str, max_depth: usize) {
    // A folder of links, to which a tokenizer is added if the model has none.
    let own = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path().canonicalize().unwrap();
        std::os::unix::fs::symlink(&path, own.path().join(path.file_name().unwrap())).unwrap();
    }
    if !own.path().join("tokenizer.json").is_file() {
        characters::write_tokenizer(own.path());
    }
    let model = Model::load(&own.path().to_string_lossy()).unwrap();
    let weights: u64 = model.weight_files().map(|f| std::fs::metadata(f).unwrap().len()).sum();
    let start = Instant::now();
    let embedding = (0..model.cfg().d_model).map(|i| (i as f32 * 0.7).sin() * 0.02);
    let embedding = Tensor::from_iter(embedding, &Device::Cpu).unwrap();
    let vector = FeatureVector::of_embedding(&model, &embedding).unwrap();
    println!("{model}\nthe vector and the embedding: {:.1} s", start.elapsed().as_secs_f64());
    let levels = Arc::new(Mutex::new(vec![(0, 0, Instant::now())]));
    let seen = levels.clone();
    let run = Progress::default().reporting_to(move |report| {
        if let ProgressEvent::Advanced { fraction: None, counts } = report {
            seen.lock().unwrap().push((counts[0].1, counts[1].1, Instant::now()));
        }
    });
    // With random weights no token is likely: a cutoff would end the tree at once, `top_k` = 2 doubles each level.
    let options = TreeOptions { cutoff: 1e-300, top_k: 2, max_depth, ..options() };
    let tree = definition_tree(&model, &vector, &options, &run).unwrap();
    let levels = levels.lock().unwrap();
    for pair in levels.windows(2) {
        let ((_, before, start), (depth, nodes, end)) = (pair[0], pair[1]);
        let (nodes, seconds) = (nodes - before, (end - start).as_secs_f64());
        let note = if depth == 0 { ", reading the weights" } else { "" };
        println!("level {depth:2}: {nodes:5} nodes {seconds:7.2} s{note}");
    }
    println!(
        "{} nodes; peak memory {} MB; weight files {:.0} MB, twice that in f32 if they are 16-bit",
        tree.len(),
        peak_megabytes().map_or_else(|| "?".to_owned(), |megabytes| megabytes.to_string()),
        weights as f64 / 1e6
    );
    println!("reading as many bytes from memory once: {:.2} s", seconds_of_reading(weights));
}

/// The seconds that it takes all threads to read `bytes` bytes from memory, from the rate at 512 MiB. The best of three.
fn seconds_of_reading(bytes: u64) -> f64 {
    let values = vec![1u64; 1 << 26];
    let sum =
        || values.par_chunks(1 << 16).map(|part| part.iter().fold(0u64, |sum, x| sum.wrapping_add(*x))).sum();
    let read = || seconds(|| assert_eq!(std::hint::black_box::<u64>(sum()), 1 << 26));
    let best = (0..3).map(|_| read()).fold(f64::MAX, f64::min);
    best * bytes as f64 / (8.0 * values.len() as f64)
}

fn seconds(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    start.elapsed().as_secs_f64()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
