//! Properties that hold for any input: sequences that do not depend on their batch, and files that are damaged anywhere.

use crate::util::{fixture, tests_path};
use candle_core::Tensor;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use saescope::hooks::{ActivationCache, TokenBatch};
use saescope::{Model, Progress, Sae};
use std::path::Path;

/// Runs a property on `cases` inputs, the same ones in every run.
fn holds<S: Strategy>(cases: u32, inputs: &S, property: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    TestRunner::new_with_rng(config, rng).run(inputs, property).unwrap_or_else(|failed| panic!("{failed}"));
}

/// The values as bits, which also tells NaN from NaN and 0 from -0.
fn bits(x: &Tensor) -> Vec<u32> {
    x.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
}

/// Activations of each sequence of a ragged batch, against a pass of its own.
fn check_batches(name: &str, hooks: &[&str], d_vocab: u32) {
    let model = Model::load(&fixture(name)).unwrap();
    let run = Progress::default();
    let sequences = prop::collection::vec(prop::collection::vec(0..d_vocab, 1..9), 1..6);
    holds(12, &sequences, |sequences| {
        let mut batch = TokenBatch::default();
        sequences.iter().for_each(|sequence| batch.push(sequence));
        let mut cache = ActivationCache::of(model.cfg().hook_points(), hooks).unwrap();
        model.run_until(&batch, None, &mut cache, &run).unwrap();
        for (range, sequence) in batch.sequences().zip(&sequences) {
            let alone = model.run_with_cache(sequence, hooks, &run).unwrap();
            for (hook, activation) in alone.iter() {
                let together =
                    cache.get(&hook.to_string()).unwrap().narrow(0, range.start, range.len()).unwrap();
                prop_assert_eq!(bits(&together), bits(activation), "{} of {:?}", hook, sequence);
            }
        }
        Ok(())
    });
}

#[test]
fn a_sequence_does_not_depend_on_its_batch() {
    let hooks = [
        "blocks.*.hook_resid_pre",
        "blocks.*.attn.hook_z",
        "blocks.*.mlp.hook_post",
        "ln_final.hook_normalized",
    ];
    for name in ["gpt2", "gemma2", "llama", "gpt_neox", "qwen3", "olmo2"] {
        check_batches(&format!("models/{name}"), &hooks, 40);
    }
}

#[test]
fn encoding_a_token_does_not_depend_on_its_neighbors() {
    let d_in = 16;
    let rows = prop::collection::vec(prop::collection::vec(-3.0f32..3.0, d_in), 1..20);
    for name in ["native/jumprelu", "native/topk", "native/gated", "native/standard_layer_norm"] {
        let sae = Sae::load(&fixture(&format!("saes/{name}"))).unwrap();
        if sae.cfg().d_in != d_in {
            panic!("{name} has d_in = {}", sae.cfg().d_in);
        }
        holds(12, &rows, |rows| {
            let n = rows.len();
            let x = Tensor::from_vec(rows.concat(), (n, d_in), &candle_core::Device::Cpu).unwrap();
            let together = sae.encode(&x).unwrap().to_tensor().unwrap();
            for row in 0..n {
                let alone = sae.encode(&x.narrow(0, row, 1).unwrap()).unwrap().to_tensor().unwrap();
                prop_assert_eq!(bits(&together.narrow(0, row, 1).unwrap()), bits(&alone));
            }
            Ok(())
        });
    }
}

/// One way to damage a file.
#[derive(Debug, Clone)]
enum Damage {
    /// Ends after this part of the file.
    Cut(f64),
    /// Has another byte at this part of the file.
    Byte(f64, u8),
    /// Has a piece, from one part to another, twice.
    Twice(f64, f64),
    /// Has these bytes at this part of the file, in place of what is there.
    Overwritten(f64, Vec<u8>),
}

fn damage() -> impl Strategy<Value = Damage> {
    // The beginning of a file, where its sizes are, is hit as often as all the rest.
    let part = || prop_oneof![0.0..1.0f64, 0.0..0.02f64];
    prop_oneof![
        part().prop_map(Damage::Cut),
        (part(), any::<u8>()).prop_map(|(at, byte)| Damage::Byte(at, byte)),
        (part(), part()).prop_map(|(from, to)| Damage::Twice(from, to)),
        (part(), prop::collection::vec(any::<u8>(), 1..12))
            .prop_map(|(at, bytes)| Damage::Overwritten(at, bytes)),
        (part(), prop_oneof![Just(vec![0xff; 8]), Just(vec![0; 8]), Just(b"999999999999".to_vec())])
            .prop_map(|(at, bytes)| Damage::Overwritten(at, bytes)),
    ]
}

fn damaged(file: &[u8], damages: &[Damage]) -> Vec<u8> {
    let mut file = file.to_vec();
    for damage in damages {
        let at = |part: f64| ((file.len() as f64 * part) as usize).min(file.len());
        match damage {
            Damage::Cut(end) => file.truncate(at(*end)),
            Damage::Byte(place, byte) => {
                let place = at(*place);
                if let Some(there) = file.get_mut(place) {
                    *there = *byte;
                }
            }
            Damage::Twice(from, to) => {
                let (from, to) = (at(from.min(*to)), at(from.max(*to)));
                let piece = file[from..to].to_vec();
                file.splice(to..to, piece);
            }
            Damage::Overwritten(place, bytes) => {
                let place = at(*place);
                for (there, byte) in file[place..].iter_mut().zip(bytes) {
                    *there = *byte;
                }
            }
        }
    }
    file
}

/// A file below `tests`, the name of its damaged copy, and what reads that.
type Seed = (&'static str, &'static str, fn(&Path));

/// Files of every format that is read. Whatever is in them, the answer is a value or an error.
const SEEDS: [Seed; 22] = [
    ("fixtures/containers/two.safetensors", "x.safetensors", |path| {
        drop(saescope::tensors::load_safetensors(path))
    }),
    ("fixtures/containers/arrays.npz", "sae/params.npz", sae),
    ("fixtures/saes/openai/1.pt", "sae/1.pt", sae),
    ("fixtures/saes/native/jumprelu/sae_weights.safetensors", "sae/sae_weights.safetensors", sae),
    ("fixtures/saes/native/jumprelu/cfg.json", "sae/cfg.json", sae),
    ("fixtures/models/gpt2/config.json", "model/config.json", model),
    ("fixtures/models/gpt2/model.safetensors", "model/model.safetensors", model),
    ("fixtures/models/gpt2_text/tokenizer.json", "model/tokenizer.json", model),
    ("fixtures/models/gpt2_text/tokenizer_config.json", "model/tokenizer_config.json", model),
    ("fixtures/datasets/plain/docs.jsonl", "x.jsonl", documents),
    ("fixtures/datasets/json_array/docs.json", "x.json", documents),
    ("fixtures/datasets/csv/docs.csv", "x.csv", documents),
    ("fixtures/datasets/gzip/docs.jsonl.gz", "x.jsonl.gz", documents),
    ("fixtures/datasets/zstd/docs.jsonl.zst", "x.jsonl.zst", documents),
    ("fixtures/datasets/parquet_snappy/docs.parquet", "x.parquet", documents),
    ("fixtures/datasets/parquet_dictionary/docs.parquet", "x.parquet", documents),
    ("fixtures/datasets/txt/docs.txt", "x.txt", documents),
    ("golden/records.jsonl", "records.jsonl", |path| {
        saescope::read_records(path).into_iter().flatten().for_each(drop);
    }),
    ("golden/tree_encoder_624.json", "tree.json", |path| {
        drop(saescope::interpret::DefinitionTree::load(path))
    }),
    ("golden/tree_encoder_624.json", "trees.jsonl", |path| {
        saescope::read_trees(path).into_iter().flatten().for_each(drop);
    }),
    ("fixtures/datasets/hub/pile-10k-like/README.md", "data/README.md", |path| {
        std::fs::write(path.with_file_name("train.jsonl"), "{\"text\": \"a\"}\n").unwrap();
        documents(path.parent().unwrap());
    }),
    ("fixtures/containers/views.pt", "sae/1.pt", sae),
];

fn documents(path: &Path) {
    if let Ok(dataset) = saescope::Dataset::open(&path.to_string_lossy()) {
        dataset.documents(&Default::default()).flatten().for_each(drop);
    }
}

/// Loads the SAE in the folder of `path`, with the rest of the files that a layout wants, and encodes with it.
fn sae(path: &Path) {
    let folder = path.parent().unwrap();
    complete(folder, "fixtures/saes/native/jumprelu", &["cfg.json", "sae_weights.safetensors"], path);
    if let Ok(sae) = Sae::load(&folder.to_string_lossy()) {
        let x = Tensor::ones(
            (2, sae.cfg().d_in.min(1 << 12)),
            candle_core::DType::F32,
            &candle_core::Device::Cpu,
        );
        drop(sae.encode(&x.unwrap()));
    }
}

fn model(path: &Path) {
    let folder = path.parent().unwrap();
    complete(
        folder,
        "fixtures/models/gpt2_text",
        &["config.json", "model.safetensors", "tokenizer.json"],
        path,
    );
    if let Ok(model) = Model::load(&folder.to_string_lossy()) {
        drop(model.to_tokens("a small boat", Some(true)));
        drop(model.logits(&[1, 2, 3], &Progress::default()));
    }
}

fn complete(folder: &Path, from: &str, names: &[&str], damaged: &Path) {
    if !names.iter().any(|name| damaged.ends_with(name)) {
        return;
    }
    for name in names.iter().filter(|name| !damaged.ends_with(name)) {
        std::fs::copy(tests_path(from).join(name), folder.join(name)).unwrap();
    }
}

#[test]
fn damaged_files_give_a_value_or_an_error() {
    let damages = prop::collection::vec(damage(), 1..4);
    for (seed, name, read) in SEEDS {
        let original = std::fs::read(tests_path(seed)).unwrap_or_else(|error| panic!("{seed}: {error}"));
        holds(100, &damages, |damages| {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, damaged(&original, &damages)).unwrap();
            read(&path);
            Ok(())
        });
    }
}
