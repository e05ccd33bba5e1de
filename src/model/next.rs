//! The next token: the likeliest tokens of a row of logits.

use super::ops::fused::activation::exp;
use crate::linalg::top_k;
use pulp::{Arch, Simd, WithSimd};

/// `ln Σ exp(logits)`; a logit minus this is the logarithm of a probability.
pub fn log_sum_exp(logits: &[f32]) -> f64 {
    Arch::new().dispatch(LogSumExp(logits))
}

struct LogSumExp<'a>(&'a [f32]);

impl WithSimd for LogSumExp<'_> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f64 {
        let largest = strands(self.0, f32::NEG_INFINITY, |a, x| if x > a { x } else { a });
        let largest = largest.into_iter().fold(f32::NEG_INFINITY, f32::max);
        if !largest.is_finite() {
            return f64::from(largest);
        }
        let mut sum = 0f64;
        // f32 sums of short parts, added in f64: an f32 has too few digits for the sum over a large vocabulary.
        for part in self.0.chunks(4096) {
            let sums = strands(part, 0.0, |sum, x| sum + exp(x - largest));
            sum += f64::from(sums.into_iter().sum::<f32>());
        }
        f64::from(largest) + sum.ln()
    }
}

/// Folds the values in 32 strands, which fit a few SIMD registers.
#[inline(always)]
fn strands(values: &[f32], start: f32, fold: impl Fn(f32, f32) -> f32) -> [f32; 32] {
    let (chunks, rest) = values.as_chunks::<32>();
    let mut strands = [start; 32];
    for chunk in chunks {
        for (strand, x) in strands.iter_mut().zip(chunk) {
            *strand = fold(*strand, *x);
        }
    }
    for (strand, x) in strands.iter_mut().zip(rest) {
        *strand = fold(*strand, *x);
    }
    strands
}

/// The `k` likeliest tokens with their probabilities, the likeliest first. Ties go to the lower id.
pub fn next_tokens(logits: &[f32], k: usize) -> Vec<(u32, f64)> {
    let total = log_sum_exp(logits);
    let probability = |(id, logit): (usize, f32)| (id as u32, (f64::from(logit) - total).exp());
    top_k(logits, k).into_iter().map(probability).collect()
}
