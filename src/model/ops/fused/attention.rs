//! Causal attention over a ragged batch.
//!
//! `z[i] = Σ_j softmax_j(scale · q[i]·k[j]) v[j]` over the keys that query `i` sees: no later ones and, with a window,
//! only the latest. Scores may have a soft cap, and several heads of queries may share a head of keys and values. A
//! [`Span`] is the queries and keys of one sequence; its last query is at its last key. Nothing masked is computed, the
//! `[query_pos, key_pos]` matrix is never stored in full, and a sequence's result does not depend on the rest of the
//! batch, to the last bit. `paths.rs` reads keys from a cache.

use super::super::{Scores, Span};
use super::activation::{exp, tanh};
use super::rows::row_stride;
use crate::linalg::with_memory;
use candle_core::{Result, Tensor};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use std::ops::Range;

/// See [`super::super::attention`].
///
/// `q` `[queries, n_heads, d_head]`, `k` and `v` `[keys, n_key_value_heads, d_head]` → z `[queries, n_heads, d_head]`.
/// All three may be slices of one wider tensor if the heads of a row are contiguous.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, spans: &[Span], scores: Scores) -> Result<Tensor> {
    let (n_queries, n_heads, d_head) = q.dims3()?;
    let n_groups = k.dims3()?.1;
    let width = n_heads * d_head;
    let mut z = vec![0f32; n_queries * width];
    let [q_stride, k_stride, v_stride] = [row_stride(q)?, row_stride(k)?, row_stride(v)?];
    with_memory([q, k, v], |[q, k, v]| {
        let rows = |data, stride| Rows { data, stride, d_head };
        let (q, k, v) = (rows(q, q_stride), rows(k, k_stride), rows(v, v_stride));
        let panel = panel_width();
        let packed: Vec<Packed> = spans
            .par_iter()
            .flat_map(|span| (0..n_groups).into_par_iter().map(move |group| (span, group)))
            .map(|(span, group)| Packed::new(k, v, span, group, panel))
            .collect();

        let mut tasks = Vec::new();
        let mut rest = z.as_mut_slice();
        let mut at = 0;
        for (span, packed) in spans.iter().zip(packed.chunks_exact(n_groups)) {
            let skipped = std::mem::take(&mut rest).split_at_mut((span.queries.start - at) * width).1;
            let (mine, after) = skipped.split_at_mut(span.queries.len() * width);
            (rest, at) = (after, span.queries.end);
            for (i, z) in mine.chunks_mut(ROWS_PER_TASK * width).enumerate() {
                tasks.push((span, packed, i * ROWS_PER_TASK, z));
            }
        }
        tasks.into_par_iter().for_each(|(span, packed, first, z)| {
            Arch::new().dispatch(Task { q, span, packed, first, z, scores, n_heads, d_head });
        });
    })?;
    Tensor::from_vec(z, q.shape(), q.device())
}

/// Queries that share a pass over the keys.
const ROWS: usize = 6;
/// SIMD vectors in a panel: with [`ROWS`] rows, as many as the registers of AVX2 can hold.
const VECTORS: usize = 2;
/// Queries per parallel task, for all heads.
const ROWS_PER_TASK: usize = 48;

/// The rows of a `[rows, n_heads, d_head]` tensor, which may be slices of wider rows.
#[derive(Clone, Copy)]
struct Rows<'a> {
    data: &'a [f32],
    stride: usize,
    d_head: usize,
}

impl<'a> Rows<'a> {
    fn head(&self, row: usize, head: usize) -> &'a [f32] {
        let start = row * self.stride + head * self.d_head;
        &self.data[start..start + self.d_head]
    }
}

/// The keys and values of one head of one sequence, in panels of a few SIMD vectors, each contiguous in the order in
/// which it is read. The last is padded with zeros. With panels 4 f32s wide, where `k2.1` is dimension 1 of key 2:
///
/// ```text
/// keys     k0.0 k1.0 k2.0 k3.0 | k0.1 k1.1 k2.1 k3.1 | …   all dimensions of keys 0–3, then of keys 4–7
/// values   v0.0 v0.1 v0.2 v0.3 | v1.0 v1.1 v1.2 v1.3 | …   dimensions 0–3 of all keys, then dimensions 4–7
/// ```
struct Packed {
    /// `[key panels, d_head, panel]`.
    keys: Vec<f32>,
    /// `[d_head panels, key_pos, panel]`.
    values: Vec<f32>,
}

impl Packed {
    fn new(k: Rows, v: Rows, span: &Span, head: usize, panel: usize) -> Self {
        let (n, d) = (span.keys.len(), k.d_head);
        let mut keys = vec![0f32; n.div_ceil(panel) * d * panel];
        let mut values = vec![0f32; d.div_ceil(panel) * n * panel];
        for (j, row) in span.keys.clone().enumerate() {
            let start = (j / panel) * d * panel + j % panel;
            for (cell, x) in keys[start..].iter_mut().step_by(panel).zip(k.head(row, head)) {
                *cell = *x;
            }
            for (p, part) in v.head(row, head).chunks(panel).enumerate() {
                let start = (p * n + j) * panel;
                values[start..start + part.len()].copy_from_slice(part);
            }
        }
        Packed { keys, values }
    }
}

/// The number of f32s in a panel on this machine.
fn panel_width() -> usize {
    struct Width;
    impl WithSimd for Width {
        type Output = usize;
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> usize {
            S::F32_LANES * VECTORS
        }
    }
    Arch::new().dispatch(Width)
}

/// A few rows of queries of one sequence, for all heads.
struct Task<'a> {
    q: Rows<'a>,
    span: &'a Span,
    /// One for each head of keys and values.
    packed: &'a [Packed],
    first: usize,
    /// `[rows, n_heads · d_head]`.
    z: &'a mut [f32],
    scores: Scores,
    n_heads: usize,
    d_head: usize,
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Task { q, span, packed, first, z, scores: rule, n_heads, d_head } = self;
        let panel = S::F32_LANES * VECTORS;
        let width = n_heads * d_head;
        let n_keys = span.keys.len();
        let past = n_keys - span.queries.len();
        let padded = n_keys.div_ceil(panel) * panel;
        let mut scores = vec![0f32; ROWS * padded];
        let n_rows = z.len() / width;
        for row in (0..n_rows).step_by(ROWS) {
            let rows = ROWS.min(n_rows - row);
            // The number of keys that the last of these queries sees; the others see fewer, as the softmax is told.
            // Missing rows are filled with copies of the last one, whose results are dropped.
            let visible = past + first + row + rows;
            let query = |r: usize| span.queries.start + first + row + r.min(rows - 1);
            let sees = |r: usize| {
                let end = visible - rows + r.min(rows - 1) + 1;
                end.saturating_sub(rule.window.unwrap_or(end))..end
            };
            // The first panel that any of them sees: keys are counted from there.
            let skipped = sees(0).start / panel;
            let (base, visible) = (skipped * panel, visible - skipped * panel);
            for head in 0..n_heads {
                let packed = &packed[head * packed.len() / n_heads];
                let queries: [&[f32]; ROWS] = std::array::from_fn(|r| q.head(query(r), head));
                for p in 0..visible.div_ceil(panel) {
                    let keys = &packed.keys[(skipped + p) * d_head * panel..][..d_head * panel];
                    let products = rows_by_panel(simd, queries, keys);
                    for (r, product) in products.iter().enumerate() {
                        store::<S>(product, &mut scores[r * padded + p * panel..][..panel]);
                    }
                }
                for r in 0..ROWS {
                    let seen = sees(r).start - base..sees(r).end - base;
                    softmax(simd, &mut scores[r * padded..][..visible], seen, rule);
                }
                let pattern: [&[f32]; ROWS] =
                    std::array::from_fn(|r| &scores[r * padded..r * padded + visible]);
                for p in 0..d_head.div_ceil(panel) {
                    let start = (p * n_keys + base) * panel;
                    let values = &packed.values[start..start + visible * panel];
                    let mixed = rows_by_panel(simd, pattern, values);
                    for (r, mixed) in mixed.iter().take(rows).enumerate() {
                        let start = (row + r) * width + head * d_head + p * panel;
                        let len = panel.min(d_head - p * panel);
                        let mixed: &[f32] = pulp::bytemuck::cast_slice(mixed);
                        z[start..start + len].copy_from_slice(&mixed[..len]);
                    }
                }
            }
        }
    }
}

/// `rows[r] · panel` for each row: rows `[k]`, panel `[k, VECTORS · lanes]`.
#[inline(always)]
fn rows_by_panel<S: Simd>(simd: S, rows: [&[f32]; ROWS], panel: &[f32]) -> [[S::f32s; VECTORS]; ROWS] {
    let (panel, _) = S::as_simd_f32s(panel);
    let mut sums = [[simd.splat_f32s(0.0); VECTORS]; ROWS];
    let depth = panel.len() / VECTORS;
    let rows = rows.map(|row| &row[..depth]);
    for (i, vectors) in panel.chunks_exact(VECTORS).enumerate() {
        for (sums, row) in sums.iter_mut().zip(rows) {
            let x = simd.splat_f32s(row[i]);
            for (sum, vector) in sums.iter_mut().zip(vectors) {
                *sum = simd.mul_add_e_f32s(x, *vector, *sum);
            }
        }
    }
    sums
}

#[inline(always)]
fn store<S: Simd>(vectors: &[S::f32s; VECTORS], into: &mut [f32]) {
    S::as_mut_simd_f32s(into).0.copy_from_slice(vectors);
}

/// Turns the products of one query with the keys that it sees into a pattern; sets the other scores to zero.
#[inline(always)]
pub(super) fn softmax<S: Simd>(simd: S, scores: &mut [f32], sees: Range<usize>, rule: Scores) {
    let (early, rest) = scores.split_at_mut(sees.start);
    let (seen, late) = rest.split_at_mut(sees.len());
    early.fill(0.0);
    late.fill(0.0);
    let mut scale = rule.scale;
    if let Some(cap) = rule.soft_cap {
        let inverse = scale / cap;
        seen.iter_mut().for_each(|x| *x = cap * tanh(*x * inverse));
        scale = 1.0;
    }
    let (vectors, rest) = S::as_simd_f32s(seen);
    let mut largest = simd.splat_f32s(f32::NEG_INFINITY);
    for v in vectors {
        largest = simd.max_f32s(largest, *v);
    }
    let largest = rest.iter().fold(simd.reduce_max_f32s(largest), |m, x| m.max(*x));
    let shift = -largest * scale;
    for x in seen.iter_mut() {
        *x = exp(x.mul_add(scale, shift));
    }
    let (vectors, rest) = S::as_simd_f32s(seen);
    let mut sum = simd.splat_f32s(0.0);
    for v in vectors {
        sum = simd.add_f32s(sum, *v);
    }
    let inverse = 1.0 / (simd.reduce_sum_f32s(sum) + rest.iter().sum::<f32>());
    for x in seen.iter_mut() {
        *x *= inverse;
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::{attention_scores, mix_values};
    use super::*;
    use candle_core::Device;

    fn random(shape: (usize, usize, usize), seed: u32) -> Tensor {
        let mut state = seed;
        let values: Vec<f32> = (0..shape.0 * shape.1 * shape.2)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect();
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
    }

    fn reference(q: &Tensor, k: &Tensor, v: &Tensor, scores: Scores) -> Tensor {
        let scores = attention_scores(q, k, scores).unwrap();
        mix_values(&candle_core_softmax(&scores), v).unwrap()
    }

    fn candle_core_softmax(x: &Tensor) -> Tensor {
        crate::linalg::softmax(x, 2).unwrap()
    }

    fn largest_difference(a: &Tensor, b: &Tensor) -> f32 {
        let difference = (a - b).unwrap().abs().unwrap().flatten_all().unwrap();
        difference.max(0).unwrap().to_scalar::<f32>().unwrap()
    }

    #[test]
    fn agrees_with_the_definition_for_ragged_batches_and_a_past() {
        let plain = Scores { scale: 0.7, soft_cap: None, window: None };
        let kinds = [
            (3, plain),
            (1, plain),
            (6, Scores { soft_cap: Some(0.6), ..plain }),
            (2, Scores { window: Some(4), ..plain }),
            (2, Scores { window: Some(37), soft_cap: Some(3.0), ..plain }),
        ];
        for (d_head, lengths) in [(8, vec![1, 5, 33]), (64, vec![70, 2, 129]), (20, vec![40])] {
            for (n_groups, scores) in kinds {
                check(d_head, &lengths, n_groups, scores);
            }
        }
    }

    fn check(d_head: usize, lengths: &[usize], n_groups: usize, scores: Scores) {
        let n: usize = lengths.iter().sum();
        let (q, k, v) = (
            random((n, 6, d_head), 11),
            random((n, n_groups, d_head), 12),
            random((n, n_groups, d_head), 13),
        );
        let mut spans = Vec::new();
        let mut start = 0;
        for length in lengths {
            spans.push(Span { queries: start..start + length, keys: start..start + length });
            start += length;
        }
        let z = attention(&q, &k, &v, &spans, scores).unwrap();
        for span in &spans {
            let take = |t: &Tensor| {
                t.narrow(0, span.queries.start, span.queries.len()).unwrap().contiguous().unwrap()
            };
            let n = span.queries.len();
            let (keys, values) = (take(&k), take(&v));
            let expected = reference(&take(&q), &keys, &values, scores);
            assert!(largest_difference(&take(&z), &expected) < 1e-5, "{scores:?}");
            let only = Span { queries: 0..n, keys: 0..n };
            let single = attention(&take(&q), &keys, &values, &[only], scores).unwrap();
            assert_eq!(largest_difference(&take(&z), &single), 0.0, "the batch changes a sequence");
            if n > 3 {
                let late = take(&q).narrow(0, n - 2, 2).unwrap().contiguous().unwrap();
                let cached = Span { queries: 0..2, keys: 0..n };
                let late = attention(&late, &keys, &values, &[cached], scores).unwrap();
                assert!(largest_difference(&late, &take(&z).narrow(0, n - 2, 2).unwrap()) < 1e-6);
            }
        }
    }
}
