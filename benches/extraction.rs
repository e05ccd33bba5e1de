//! The throughput of an extraction, as a fraction of the machine's matmul rate.
//!
//! Writes a model of GPT-2-small's shape with random weights and a 24,576-feature SAE at block 8 in a folder. Measures
//! this machine's f32 matmul rate and the extraction of ragged documents in one process; prints both and their ratio:
//!
//! `efficiency = useful FLOP/s of the extraction / FLOP/s of the matmul`. Useful FLOPs are
//! `2 · (matrix weights of the blocks that run) + 2 · d_in · d_sae` for each token, and `4 · d_model · T(T+1)/2` for
//! each sequence of T tokens and each block that runs; nothing else counts. Random weights cost what trained ones do.
//!
//! `cargo bench -- DIR [DTYPE]` keeps the model, the SAE and the documents in DIR, so that other tools can read them, and loads
//! the model with this `dtype`.

mod memory;

use candle_core::{Device, Tensor};
use memory::peak_megabytes;
use saescope::extract::ExtractOptions;
use saescope::hooks::HookPoint;
use saescope::model::{Dtype, ModelOptions};
use saescope::{Model, Progress, Sae, create_feature_dataset, read_records};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

const D_MODEL: usize = 768;
const D_SAE: usize = 24_576;
const LAYER: usize = 8;
const N_CTX: usize = 1024;
/// The mean of the lognormal length of documents, in tokens.
const MEAN_TOKENS: f64 = 400.0;
const DOCUMENTS: usize = 150;
const RUNS: usize = 3;

fn main() {
    // cargo passes `--bench`.
    let mut arguments = std::env::args().skip(1).filter(|a| !a.starts_with('-'));
    let kept = arguments.next().map(PathBuf::from);
    let dtype = arguments.next().map_or(Dtype::Auto, |dtype| serde_json::from_value(dtype.into()).unwrap());
    let temporary = tempfile::tempdir().unwrap();
    let root = kept.unwrap_or_else(|| temporary.path().to_owned());
    if !root.join("sae/cfg.json").is_file() {
        println!("writing a model of GPT-2-small's shape with random weights to {}", root.display());
        make(&root);
    }
    let options = ModelOptions { dtype, ..Default::default() };
    let model = Model::load_with(&path(&root, "gpt2"), &options, &Progress::default()).unwrap();
    let sae = Sae::load(&path(&root, "sae")).unwrap();
    let output = temporary.path().join("features.jsonl");
    let options = ExtractOptions {
        dataset_path: path(&root, "docs.jsonl"),
        output_path: output.to_string_lossy().into_owned(),
        activation_threshold: 0.1,
        ..Default::default()
    };
    // The first run reads the weights. The two rates are measured in turns, since a machine's speed may vary.
    let warm = ExtractOptions { max_examples: Some(4), ..options.clone() };
    create_feature_dataset(&model, &sae, None, &warm, &Progress::default()).unwrap();
    let loaded = peak_megabytes();

    let mut efficiencies = Vec::new();
    for run in 0..RUNS {
        let before = matmul_rate();
        let summary = create_feature_dataset(&model, &sae, None, &options, &Progress::default()).unwrap();
        let limit = before.max(matmul_rate());
        let rate = useful_flops(&model, &output) / summary.seconds;
        let efficiency = rate / limit;
        println!(
            "run {run}: matmul {:.0} GFLOP/s, extraction {:.0} GFLOP/s, {:.0} tokens/s ({} documents, mean {:.0} \
             tokens, L0 {:.1}), efficiency {efficiency:.3}",
            limit / 1e9,
            rate / 1e9,
            summary.tokens_per_second,
            summary.documents,
            summary.tokens as f64 / summary.records as f64,
            summary.mean_l0,
        );
        efficiencies.push(efficiency);
    }
    efficiencies.sort_by(f64::total_cmp);
    println!("median efficiency: {:.3}", efficiencies[RUNS / 2]);
    let weights: u64 = ["gpt2/model.safetensors", "sae/sae_weights.safetensors"]
        .iter()
        .map(|name| std::fs::metadata(root.join(name)).unwrap().len())
        .sum();
    if let (Some(loaded), Some(peak)) = (loaded, peak_megabytes()) {
        println!(
            "peak memory: {peak} MB ({loaded} MB after the first batch), weight files {} MB",
            weights / 1_000_000
        );
    }
}

/// FLOP/s of candle's f32 matmul of 1024 × 768 by 768 × 3072, in the faster layout of two: the best of ten runs.
fn matmul_rate() -> f64 {
    let random = |shape| Tensor::randn(0f32, 1.0, shape, &Device::Cpu).unwrap();
    let (x, out_in, in_out) = (random((1024, D_MODEL)), random((3072, D_MODEL)), random((D_MODEL, 3072)));
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        for w in [out_in.t().unwrap(), in_out.clone()] {
            let start = Instant::now();
            std::hint::black_box(x.matmul(&w).unwrap());
            best = best.min(start.elapsed().as_secs_f64());
        }
    }
    2.0 * 1024.0 * 768.0 * 3072.0 / best
}

/// The useful FLOPs of the records in a file.
fn useful_flops(model: &Model, output: &Path) -> f64 {
    let cfg = model.cfg();
    let per_token = 2 * LAYER * cfg.block_weights() + 2 * D_MODEL * D_SAE;
    let sequence = |n: usize| n * per_token + LAYER * 4 * cfg.d_model * n * (n + 1) / 2;
    read_records(output).unwrap().map(|record| sequence(record.unwrap().tokens.len()) as f64).sum()
}

fn path(root: &Path, name: &str) -> String {
    root.join(name).to_string_lossy().into_owned()
}

/// Writes the model, the SAE and the documents.
fn make(root: &Path) {
    for folder in ["gpt2", "sae"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    let mut random = Random(1);
    make_model(&root.join("gpt2"), &mut random);
    make_documents(&root.join("docs.jsonl"), &mut random);
    make_sae(root, &mut random);
}

fn make_model(folder: &Path, random: &mut Random) {
    let config = serde_json::json!({
        "model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "activation_function": "gelu_new",
        "n_embd": D_MODEL, "n_head": 12, "n_layer": 12, "n_positions": N_CTX, "n_ctx": N_CTX, "vocab_size": 50257,
        "layer_norm_epsilon": 1e-5, "bos_token_id": 0, "eos_token_id": 0, "tie_word_embeddings": true,
    });
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/demo/model");
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        std::fs::copy(demo.join(name), folder.join(name)).unwrap();
    }
    let mut tensors = vec![
        ("transformer.wte.weight".to_owned(), vec![50257, D_MODEL], Fill::Normal(0.02)),
        ("transformer.wpe.weight".to_owned(), vec![N_CTX, D_MODEL], Fill::Normal(0.02)),
        ("transformer.ln_f.weight".to_owned(), vec![D_MODEL], Fill::Constant(1.0)),
        ("transformer.ln_f.bias".to_owned(), vec![D_MODEL], Fill::Constant(0.0)),
    ];
    for i in 0..12 {
        for (name, d_in, d_out) in [
            ("attn.c_attn", D_MODEL, 3 * D_MODEL),
            ("attn.c_proj", D_MODEL, D_MODEL),
            ("mlp.c_fc", D_MODEL, 4 * D_MODEL),
            ("mlp.c_proj", 4 * D_MODEL, D_MODEL),
        ] {
            let name = format!("transformer.h.{i}.{name}");
            tensors.push((format!("{name}.weight"), vec![d_in, d_out], Fill::Normal(0.02)));
            tensors.push((format!("{name}.bias"), vec![d_out], Fill::Constant(0.0)));
        }
        for name in ["ln_1", "ln_2"] {
            tensors.push((format!("transformer.h.{i}.{name}.weight"), vec![D_MODEL], Fill::Constant(1.0)));
            tensors.push((format!("transformer.h.{i}.{name}.bias"), vec![D_MODEL], Fill::Constant(0.0)));
        }
    }
    write_safetensors(&folder.join("model.safetensors"), &tensors, random);
}

/// Writes an SAE whose features are random directions; the bias makes about 14 of them active at a token.
fn make_sae(root: &Path, random: &mut Random) {
    let model = Model::load(&path(root, "gpt2")).unwrap();
    let hook = saescope::HookName::in_block(LAYER, HookPoint::ResidPre).to_string();
    let tokens: Vec<u32> = (0..200).collect();
    let cache = model.run_with_cache(&tokens, &[&hook], &Progress::default()).unwrap();
    let x = cache.get(&hook).unwrap();
    let norms =
        x.broadcast_sub(&x.mean_keepdim(1).unwrap()).unwrap().sqr().unwrap().sum(1).unwrap().sqrt().unwrap();
    let norm = norms.mean(0).unwrap().to_scalar::<f32>().unwrap();
    // A random unit direction gives normal pre-activations with std norm / √d; 14 of 24,576 exceed 3.25 std.
    let deviation = norm / (D_MODEL as f32).sqrt();
    let tensors = [
        ("W_enc".to_owned(), vec![D_MODEL, D_SAE], Fill::Normal(1.0 / (D_MODEL as f32).sqrt())),
        ("W_dec".to_owned(), vec![D_SAE, D_MODEL], Fill::Normal(1.0 / (D_MODEL as f32).sqrt())),
        ("b_enc".to_owned(), vec![D_SAE], Fill::Constant(-3.25 * deviation)),
        ("b_dec".to_owned(), vec![D_MODEL], Fill::Constant(0.0)),
    ];
    write_safetensors(&root.join("sae/sae_weights.safetensors"), &tensors, random);
    let cfg = serde_json::json!({
        "architecture": "standard", "d_in": D_MODEL, "d_sae": D_SAE, "dtype": "float32", "device": "cpu",
        "apply_b_dec_to_input": true, "normalize_activations": "none", "hook_name": hook, "hook_layer": LAYER,
        "activation_fn_str": "relu", "prepend_bos": true, "context_size": N_CTX, "model_name": "gpt2-small",
        "model_from_pretrained_kwargs": { "center_writing_weights": true },
    });
    std::fs::write(root.join("sae/cfg.json"), cfg.to_string()).unwrap();
}

/// Writes documents of lognormal length, put together from the demo's.
fn make_documents(file: &Path, random: &mut Random) {
    let demo = saescope::Dataset::open_with("demo", &Default::default(), &Progress::default()).unwrap();
    let texts: Vec<String> = demo.documents(&Default::default()).map(|text| text.unwrap()).collect();
    let tokenizer_model = Model::load("demo").unwrap();
    let mut writer = BufWriter::new(File::create(file).unwrap());
    for _ in 0..DOCUMENTS {
        const SIGMA: f64 = 0.8;
        let length = MEAN_TOKENS * (SIGMA * f64::from(random.normal()) - SIGMA * SIGMA / 2.0).exp();
        let (mut text, mut tokens) = (String::new(), 1.0);
        while tokens < length.min(N_CTX as f64 - 1.0) {
            let next = &texts[random.below(texts.len())];
            tokens += tokenizer_model.to_tokens(next, Some(false)).unwrap().len() as f64;
            text += next;
            text.push('\n');
        }
        writeln!(writer, "{}", serde_json::json!({ "text": text })).unwrap();
    }
}

#[derive(Clone, Copy)]
enum Fill {
    Normal(f32),
    Constant(f32),
}

/// Writes tensors as they are generated, so that the file is never in memory.
fn write_safetensors(file: &Path, tensors: &[(String, Vec<usize>, Fill)], random: &mut Random) {
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for (name, shape, _) in tensors {
        let start = end;
        end += 4 * shape.iter().product::<usize>();
        let entry = serde_json::json!({ "dtype": "F32", "shape": shape, "data_offsets": [start, end] });
        header.insert(name.clone(), entry);
    }
    let header = serde_json::Value::Object(header).to_string();
    let mut writer = BufWriter::new(File::create(file).unwrap());
    writer.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    writer.write_all(header.as_bytes()).unwrap();
    for (_, shape, fill) in tensors {
        for _ in 0..shape.iter().product::<usize>() {
            let number = match fill {
                Fill::Normal(deviation) => deviation * random.normal(),
                Fill::Constant(number) => *number,
            };
            writer.write_all(&number.to_le_bytes()).unwrap();
        }
    }
    writer.flush().unwrap();
}

/// A random generator with the same numbers on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    fn below(&mut self, n: usize) -> usize {
        self.next() as usize % n
    }

    /// A nearly normal number: the sum of four uniform ones.
    fn normal(&mut self) -> f32 {
        let sum: f32 = (0..4).map(|_| self.next() as f32 / (1u64 << 31) as f32 - 0.5).sum();
        sum * 3f32.sqrt()
    }
}
