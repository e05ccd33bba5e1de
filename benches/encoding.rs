//! The speed of encoding with a screen and without, and what the screen leaves out.
//!
//! Random SAEs of 24,576 and 131,072 features, `d_in` 768, read random activations; a bias makes about 60 features active at a
//! token. `cargo bench --bench encoding -- [TOKENS]` encodes TOKENS tokens (default: 16,384) of each, batch by batch, both ways
//! in turns. It prints the medians, and the activations that only one way has, which must be at the threshold.

use candle_core::{DType, Device, Tensor};
use saescope::sae::{ActivationRule, Architecture, OutputHook, SaeConfig, SaeWeights};
use saescope::{Progress, Sae};
use std::time::Instant;

const D_IN: usize = 768;
const BATCH: usize = 1024;

fn main() {
    // cargo passes `--bench`.
    let tokens = std::env::args().skip(1).find(|a| !a.starts_with('-'));
    let batches = tokens.map_or(16, |tokens| tokens.parse::<usize>().unwrap().div_ceil(BATCH));
    for d_sae in [24_576, 131_072] {
        let sae = random_sae(d_sae);
        let both = [false, true].map(|screen| sae.with_screen(screen));
        let (mut times, mut alone, mut active, mut furthest) =
            ([const { Vec::new() }; 2], [const { Vec::new() }; 2], 0, 0f32);
        for batch in 0..=batches {
            let x = Tensor::randn(0f32, 1.0, (BATCH, D_IN), &Device::Cpu).unwrap();
            let [plain, screened] = [0, 1].map(|i| {
                let start = Instant::now();
                let acts = both[i].encode_above(&x, 0.0, &Progress::default()).unwrap();
                // The first batch reads and prepares the weights.
                if batch > 0 {
                    times[i].push(start.elapsed().as_secs_f64());
                }
                acts
            });
            for token in 0..BATCH {
                let [(a, a_values), (b, b_values)] = [plain.at(token), screened.at(token)];
                active += a.len();
                for (i, (these, values), (others, other_values)) in
                    [(0, (a, a_values), (b, b_values)), (1, (b, b_values), (a, a_values))]
                {
                    for (feature, value) in these.iter().zip(values) {
                        match others.binary_search(feature) {
                            Ok(j) => furthest = furthest.max((value - other_values[j]).abs()),
                            Err(_) => alone[i].push(*value),
                        }
                    }
                }
            }
        }
        let [plain, screened] = times.map(median);
        let rate = |seconds: f64| 2e-9 * (BATCH * D_IN * d_sae) as f64 / seconds;
        println!(
            "{d_sae} features, {:.1} active: f32 {:.0} tokens/s ({:.0} GFLOP/s), screened {:.0} tokens/s, {:.2} times as fast\n  \
             of {active} activations {} only in f32 {}, {} only with the screen {}; the others differ by at most {furthest:.1e}",
            active as f64 / ((batches + 1) * BATCH) as f64,
            BATCH as f64 / plain,
            rate(plain),
            BATCH as f64 / screened,
            plain / screened,
            alone[0].len(),
            largest(&alone[0]),
            alone[1].len(),
            largest(&alone[1]),
        );
    }
}

/// An SAE whose features are random directions: pre-activations of normal activations have a deviation of 1.
fn random_sae(d_sae: usize) -> Sae {
    let deviation = 1.0 / (D_IN as f32).sqrt();
    let random = |shape: (usize, usize)| Tensor::randn(0f32, deviation, shape, &Device::Cpu).unwrap();
    // The normal distribution's tails with 60 of the features.
    let bias = if d_sae < 100_000 { -2.814f32 } else { -3.316 };
    let zeros = Tensor::zeros(D_IN, DType::F32, &Device::Cpu).unwrap();
    let weights = SaeWeights::new(
        random((D_IN, d_sae)),
        random((d_sae, D_IN)),
        Tensor::full(bias, d_sae, &Device::Cpu).unwrap(),
        zeros,
    );
    let standard = Architecture { rule: ActivationRule::Standard, output: OutputHook::Same };
    Sae::from_weights(SaeConfig::new(standard, D_IN, d_sae), weights).unwrap()
}

/// The largest of some activations, in parentheses.
fn largest(values: &[f32]) -> String {
    values.iter().copied().reduce(f32::max).map_or_else(String::new, |value| format!("(at most {value:.1e})"))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
