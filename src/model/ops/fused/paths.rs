//! Attention of tokens whose past is in a key-value cache, each along its own path.
//!
//! ```text
//! The ─ old ─ mill ─ is         cache rows 0 1 2 3; the path of `is` is 0 1 2 3
//!         └── man ─ was         cache rows 4 5; the path of `was` is 0 1 4 5
//! ```
//!
//! Branches share the keys and values of their common beginning. There is one path for each query and each is short:
//! keys are read in place, not packed. The result of a query does not depend on the others, to the last bit.

use super::super::{Paths, Scores};
use super::attention::softmax;
use crate::linalg::{rows_per_task, with_all_f32s};
use candle_core::{Result, Tensor};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

/// `q` `[queries, n_heads, d_head]`, `keys`, `values` `[cached, n_key_value_heads, d_head]` → z as `q`.
pub fn path_attention(
    q: &Tensor,
    [keys, values]: [&[f32]; 2],
    n_key_value_heads: usize,
    paths: &Paths,
    scores: Scores,
) -> Result<Tensor> {
    let (n_queries, n_heads, d_head) = q.dims3()?;
    if paths.len() != n_queries {
        candle_core::bail!("{} paths for {n_queries} queries", paths.len());
    }
    let op = &PathAttention { keys, values, n_key_value_heads, paths, scores };
    let width = n_heads * d_head;
    let mut z = vec![0f32; q.elem_count()];
    let rows = rows_per_task(width).div_ceil(16);
    with_all_f32s([&q.contiguous()?], |[q]| {
        z.par_chunks_mut(rows * width).enumerate().for_each(|(i, z)| {
            let first = i * rows;
            let q = &q[first * width..][..z.len()];
            Arch::new().dispatch(Task { op, q, first, z, n_heads, d_head });
        });
    })?;
    Tensor::from_vec(z, q.shape(), q.device())
}

struct PathAttention<'a> {
    keys: &'a [f32],
    values: &'a [f32],
    n_key_value_heads: usize,
    paths: &'a Paths,
    scores: Scores,
}

/// A few queries, for all heads.
struct Task<'a> {
    op: &'a PathAttention<'a>,
    /// `[rows, n_heads · d_head]`.
    q: &'a [f32],
    first: usize,
    /// `[rows, n_heads · d_head]`.
    z: &'a mut [f32],
    n_heads: usize,
    d_head: usize,
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Task { op, q, first, z, n_heads, d_head } = self;
        let width = op.n_key_value_heads * d_head;
        let mut pattern = Vec::new();
        for (row, z) in z.chunks_exact_mut(n_heads * d_head).enumerate() {
            let path = op.paths.seen(first + row, op.scores.window);
            let q = &q[row * n_heads * d_head..][..n_heads * d_head];
            for (head, (z, q)) in z.chunks_exact_mut(d_head).zip(q.chunks_exact(d_head)).enumerate() {
                let start = head * op.n_key_value_heads / n_heads * d_head;
                // Loops, not closures: a closure that is not inlined is compiled without this machine's SIMD.
                pattern.clear();
                for token in path {
                    pattern.push(dot(q, &op.keys[*token as usize * width + start..][..d_head]));
                }
                softmax(simd, &mut pattern, 0..path.len(), op.scores);
                for (p, token) in pattern.iter().zip(path) {
                    let v = &op.values[*token as usize * width + start..][..d_head];
                    for (z, v) in z.iter_mut().zip(v) {
                        *z = p.mul_add(*v, *z);
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    let mut strands = [0f32; 16];
    for (a, b) in a.iter().zip(b) {
        for (strand, (x, y)) in strands.iter_mut().zip(a.iter().zip(b)) {
            *strand = x.mul_add(*y, *strand);
        }
    }
    let mut sum: f32 = strands.iter().sum();
    for (x, y) in a_rest.iter().zip(b_rest) {
        sum += x * y;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::super::super::{attention_scores, mix_values};
    use super::*;
    use crate::tensors::randn;

    #[test]
    fn agrees_with_the_definition_on_branches_that_share_a_beginning() {
        const CACHED: usize = 40;
        let (d_head, n_groups) = (20, 2);
        let run = crate::progress::Progress::default();
        let k = randn(&[CACHED, n_groups, d_head], 1, &run).unwrap();
        let v = randn(&[CACHED, n_groups, d_head], 2, &run).unwrap();
        let q = randn(&[3, 6, d_head], 3, &run).unwrap();
        let all: [Vec<u32>; 3] =
            [vec![0, 1, 2, 3, 4, 5, 37], vec![0, 1, 2, 9, 11, 20, 21, 22, 30, 38], vec![39]];
        let mut paths = Paths::default();
        all.iter().for_each(|path| paths.push(path.iter().copied()));
        let flat = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let (keys, values) = (flat(&k), flat(&v));
        for (soft_cap, window) in [(None, None), (Some(2.0), None), (None, Some(4))] {
            let scores = Scores { scale: 0.3, soft_cap, window };
            let z = path_attention(&q, [&keys, &values], n_groups, &paths, scores).unwrap();
            for (i, path) in all.iter().enumerate() {
                let path = Tensor::new(path.as_slice(), q.device()).unwrap();
                let [k, v] = [&k, &v].map(|x| x.index_select(&path, 0).unwrap());
                let of_query = |x: &Tensor| x.narrow(0, i, 1).unwrap();
                let pattern =
                    crate::linalg::softmax(&attention_scores(&of_query(&q), &k, scores).unwrap(), 2).unwrap();
                let expected = mix_values(&pattern, &v).unwrap();
                for (x, y) in flat(&of_query(&z)).iter().zip(flat(&expected)) {
                    assert!((x - y).abs() < 2e-6, "{x} and {y}");
                }
            }
        }
    }
}
