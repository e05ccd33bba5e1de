//! The time and memory that a large model takes from its files to its first logits.
//!
//! Writes a model of gemma-2b's shape with random bf16 weights (5 GB) to a folder, and measures in separate processes:
//! the minimum, which is reading the files once and converting their values to f32; loading the model and computing the
//! logits of eight tokens; and a pass up to block 6, which reads only the weights that it needs.
//!
//! `cargo bench --bench loading -- DIR` keeps the model in DIR; without DIR, it is in the system's temporary folder.

mod memory;

use memory::peak_megabytes;
use rayon::prelude::*;
use saescope::{Model, Progress};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

const D_MODEL: usize = 2048;
const D_MLP: usize = 16_384;
const D_HEAD: usize = 256;
const N_HEADS: usize = 8;
const N_LAYERS: usize = 18;
const D_VOCAB: usize = 256_000;
const RUNS: usize = 3;
const TOKENS: [u32; 8] = [2, 651, 4320, 8426, 25_341, 1163, 573, 235];

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    if let [role, folder] = arguments.as_slice() {
        return measure(role, Path::new(folder));
    }
    let temporary = tempfile::tempdir().unwrap();
    let folder = arguments.first().map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    if !folder.join("config.json").is_file() {
        println!("writing a model of gemma-2b's shape with random bf16 weights to {}", folder.display());
        std::fs::create_dir_all(&folder).unwrap();
        make(&folder);
    }
    let bytes: u64 = shards(&folder).iter().map(|path| std::fs::metadata(path).unwrap().len()).sum();
    println!("weight files: {:.2} GB; as f32s: {:.2} GB", bytes as f64 / 1e9, 2.0 * bytes as f64 / 1e9);
    for role in ["least", "logits", "block-6"] {
        for _ in 0..RUNS {
            let output =
                Command::new(std::env::current_exe().unwrap()).arg(role).arg(&folder).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            print!("{}", String::from_utf8_lossy(&output.stdout));
        }
    }
}

/// Measures one role in this process.
fn measure(role: &str, folder: &Path) {
    let start = Instant::now();
    let what = match role {
        "least" => {
            read_once(folder);
            "reading and converting every value once, into memory"
        }
        "logits" => {
            let model = Model::load(&folder.to_string_lossy()).unwrap();
            let logits = model.logits(&TOKENS, &Progress::default()).unwrap();
            assert_eq!(logits.dims(), [TOKENS.len(), D_VOCAB]);
            let first = start.elapsed().as_secs_f64();
            let again = Instant::now();
            model.logits(&TOKENS, &Progress::default()).unwrap();
            println!(
                "first logits after {first:.2} s, second logits {:.2} s later",
                again.elapsed().as_secs_f64()
            );
            "loading and two passes"
        }
        _ => {
            let model = Model::load(&folder.to_string_lossy()).unwrap();
            model.run_with_cache(&TOKENS, &["blocks.6.hook_resid_pre"], &Progress::default()).unwrap();
            "loading and a pass to blocks.6.hook_resid_pre"
        }
    };
    let peak = peak_megabytes().map_or_else(String::new, |peak| format!(", peak memory {peak} MB"));
    println!("{what}: {:.2} s{peak}", start.elapsed().as_secs_f64());
}

/// Reads every file once and converts its values to f32s that stay in memory, on all cores.
fn read_once(folder: &Path) {
    const PIECE: usize = 1 << 20;
    let files = shards(folder).into_iter().map(|path| {
        let file = File::open(path).unwrap();
        let mut values = vec![0f32; file.metadata().unwrap().len() as usize / 2];
        values.par_chunks_mut(PIECE / 2).enumerate().for_each_init(Vec::new, |bytes, (i, values)| {
            bytes.resize(2 * values.len(), 0u8);
            file.read_exact_at(bytes, (i * PIECE) as u64).unwrap();
            for (value, pair) in values.iter_mut().zip(bytes.chunks_exact(2)) {
                *value = f32::from_bits(u32::from(u16::from_le_bytes([pair[0], pair[1]])) << 16);
            }
        });
        values
    });
    std::hint::black_box(files.collect::<Vec<_>>());
}

fn shards(folder: &Path) -> Vec<PathBuf> {
    (1..=2).map(|i| folder.join(format!("model-{i:05}-of-00002.safetensors"))).collect()
}

/// Writes the model in two shards with an index, as gemma-2b is published.
fn make(folder: &Path) {
    let mut tensors = vec![
        ("model.embed_tokens.weight".to_owned(), vec![D_VOCAB, D_MODEL]),
        ("model.norm.weight".to_owned(), vec![D_MODEL]),
    ];
    for i in 0..N_LAYERS {
        let heads = N_HEADS * D_HEAD;
        for (name, shape) in [
            ("self_attn.q_proj", vec![heads, D_MODEL]),
            ("self_attn.k_proj", vec![D_HEAD, D_MODEL]),
            ("self_attn.v_proj", vec![D_HEAD, D_MODEL]),
            ("self_attn.o_proj", vec![D_MODEL, heads]),
            ("mlp.gate_proj", vec![D_MLP, D_MODEL]),
            ("mlp.up_proj", vec![D_MLP, D_MODEL]),
            ("mlp.down_proj", vec![D_MODEL, D_MLP]),
            ("input_layernorm", vec![D_MODEL]),
            ("post_attention_layernorm", vec![D_MODEL]),
        ] {
            tensors.push((format!("model.layers.{i}.{name}.weight"), shape));
        }
    }
    let mut weight_map = serde_json::Map::new();
    let (first, second) = tensors.split_at(tensors.len() / 2);
    for (path, tensors) in shards(folder).iter().zip([first, second]) {
        write_safetensors(path, tensors);
        let file = path.file_name().unwrap().to_string_lossy();
        tensors.iter().for_each(|(name, _)| drop(weight_map.insert(name.clone(), file.clone().into())));
    }
    let index = serde_json::json!({ "weight_map": weight_map });
    std::fs::write(folder.join("model.safetensors.index.json"), index.to_string()).unwrap();
    let config = serde_json::json!({
        "model_type": "gemma", "architectures": ["GemmaForCausalLM"], "hidden_size": D_MODEL,
        "intermediate_size": D_MLP, "num_hidden_layers": N_LAYERS, "num_attention_heads": N_HEADS,
        "num_key_value_heads": 1, "head_dim": D_HEAD, "vocab_size": D_VOCAB, "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "hidden_act": "gelu", "torch_dtype": "bfloat16",
        "bos_token_id": 2, "eos_token_id": 1,
    });
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
}

/// Writes bf16 tensors of values between −0.02 and 0.02 as they are generated, so that the file is never in memory.
fn write_safetensors(file: &Path, tensors: &[(String, Vec<usize>)]) {
    let mut header = serde_json::Map::new();
    let mut end = 0;
    for (name, shape) in tensors {
        let start = end;
        end += 2 * shape.iter().product::<usize>();
        let entry = serde_json::json!({ "dtype": "BF16", "shape": shape, "data_offsets": [start, end] });
        header.insert(name.clone(), entry);
    }
    let header = serde_json::Value::Object(header).to_string();
    let mut writer = BufWriter::with_capacity(1 << 20, File::create(file).unwrap());
    writer.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    writer.write_all(header.as_bytes()).unwrap();
    let mut state = end as u64;
    for _ in 0..end / 2 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let number = ((state >> 40) as f32 / (1u64 << 23) as f32 - 1.0) * 0.02;
        writer.write_all(&((number.to_bits() >> 16) as u16).to_le_bytes()).unwrap();
    }
    writer.flush().unwrap();
}
