//! What comes next: the likeliest tokens of a row of logits.

use super::activation::exp;
use crate::linalg::top_k;
use pulp::Arch;

/// `ln Σ exp(logits)`: what logits are less to be logarithms of probabilities.
pub fn log_sum_exp(logits: &[f32]) -> f64 {
    let largest = Arch::new().dispatch(|| logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    if !largest.is_finite() {
        return f64::from(largest);
    }
    let sum: f64 = logits.chunks(4096).map(|part| f64::from(sum_of_exp(part, largest))).sum();
    f64::from(largest) + sum.ln()
}

fn sum_of_exp(logits: &[f32], largest: f32) -> f32 {
    Arch::new().dispatch(|| {
        let (chunks, rest) = logits.as_chunks::<16>();
        let mut strands = [0f32; 16];
        for chunk in chunks {
            for (strand, x) in strands.iter_mut().zip(chunk) {
                *strand += exp(x - largest);
            }
        }
        strands.iter().sum::<f32>() + rest.iter().map(|x| exp(x - largest)).sum::<f32>()
    })
}

/// The `k` likeliest tokens with their probabilities, the likeliest first; of equal ones the lower id.
pub fn next_tokens(logits: &[f32], k: usize) -> Vec<(u32, f64)> {
    let total = log_sum_exp(logits);
    let probability = |(id, logit): (usize, f32)| (id as u32, (f64::from(logit) - total).exp());
    top_k(logits, k).into_iter().map(probability).collect()
}
