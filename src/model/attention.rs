//! Causal attention over a ragged batch.
//!
//! `z[i] = Σ_j softmax_j(scale · q[i]·k[j]) v[j]` over the keys that query `i` may see. One function serves a plain
//! pass and a key-value cache: each sequence says which queries and which keys are its own, and its last query is at
//! its last key. Nothing masked is computed, the `[query_pos, key_pos]` matrix never exists as a whole, and a
//! sequence's result does not depend on what else is in the batch, to the last bit.

use candle_core::{CpuStorage, CustomOp3, Error, Layout, Result, Shape, Tensor};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use std::ops::Range;

/// Which rows of the queries and which rows of the keys and values belong to one sequence; keys that come before the
/// first query are its past.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Rows of the queries.
    pub queries: Range<usize>,
    /// Rows of the keys and values, at least as many.
    pub keys: Range<usize>,
}

/// Fused causal attention.
///
/// `q` `[queries, n_heads, d_head]`, `k` and `v` `[keys, n_heads, d_head]` → z `[queries, n_heads, d_head]`. The three
/// may be slices of one wider tensor as long as a row's heads lie together.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, spans: &[Span], scale: f32) -> Result<Tensor> {
    q.apply_op3_no_bwd(k, v, &Attention { spans, scale })
}

/// The attention scores of one sequence, -inf where a key is later than its query.
///
/// `q` `[query_pos, n_heads, d_head]`, `k` `[key_pos, n_heads, d_head]` → `[n_heads, query_pos, key_pos]`.
pub fn attention_scores(q: &Tensor, k: &Tensor, scale: f32) -> Result<Tensor> {
    let (n_queries, n_keys) = (q.dim(0)?, k.dim(0)?);
    let past = n_keys - n_queries;
    let q = q.transpose(0, 1)?.contiguous()?; // [n_heads, query_pos, d_head]
    let k = k.transpose(0, 1)?.contiguous()?; // [n_heads, key_pos, d_head]
    let scores = (q.matmul(&k.t()?)? * f64::from(scale))?; // [n_heads, query_pos, key_pos]
    let mask: Vec<f32> = (0..n_queries)
        .flat_map(|i| (0..n_keys).map(move |j| if j > i + past { f32::NEG_INFINITY } else { 0.0 }))
        .collect();
    scores.broadcast_add(&Tensor::from_vec(mask, (n_queries, n_keys), q.device())?)
}

/// Mixes values by a pattern: `pattern` `[n_heads, query_pos, key_pos]`, `v` `[key_pos, n_heads, d_head]` →
/// `[query_pos, n_heads, d_head]`.
pub fn mix_values(pattern: &Tensor, v: &Tensor) -> Result<Tensor> {
    let v = v.transpose(0, 1)?.contiguous()?; // [n_heads, key_pos, d_head]
    pattern.contiguous()?.matmul(&v)?.transpose(0, 1)?.contiguous()
}

/// Queries that share a pass over the keys.
const ROWS: usize = 6;
/// SIMD vectors in a panel: with [`ROWS`] rows, what the registers of AVX2 can hold.
const VECTORS: usize = 2;
/// Queries that one parallel task takes, for all heads.
const ROWS_PER_TASK: usize = 48;

struct Attention<'a> {
    spans: &'a [Span],
    scale: f32,
}

/// The rows of a `[rows, n_heads, d_head]` tensor, which may be slices of wider rows.
#[derive(Clone, Copy)]
struct Rows<'a> {
    numbers: &'a [f32],
    stride: usize,
    d_head: usize,
}

impl<'a> Rows<'a> {
    fn new(storage: &'a CpuStorage, layout: &Layout) -> Result<Self> {
        let (_, n_heads, d_head) = layout.shape().dims3()?;
        match *layout.stride() {
            [stride, head, 1] if head == d_head || n_heads == 1 => {
                Ok(Rows { numbers: &storage.as_slice::<f32>()?[layout.start_offset()..], stride, d_head })
            }
            _ => Err(Error::RequiresContiguous { op: "attention" }.bt()),
        }
    }

    fn head(&self, row: usize, head: usize) -> &'a [f32] {
        let start = row * self.stride + head * self.d_head;
        &self.numbers[start..start + self.d_head]
    }
}

impl CustomOp3 for Attention<'_> {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn cpu_fwd(
        &self,
        q: &CpuStorage,
        q_layout: &Layout,
        k: &CpuStorage,
        k_layout: &Layout,
        v: &CpuStorage,
        v_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (n_queries, n_heads, d_head) = q_layout.shape().dims3()?;
        let (q, k, v) = (Rows::new(q, q_layout)?, Rows::new(k, k_layout)?, Rows::new(v, v_layout)?);
        let panel = panel_width();
        let packed: Vec<Packed> = self
            .spans
            .par_iter()
            .flat_map(|span| (0..n_heads).into_par_iter().map(move |head| (span, head)))
            .map(|(span, head)| Packed::new(k, v, span, head, panel))
            .collect();

        let width = n_heads * d_head;
        let mut z = vec![0f32; n_queries * width];
        let mut tasks = Vec::new();
        let mut rest = z.as_mut_slice();
        let mut at = 0;
        for (span, packed) in self.spans.iter().zip(packed.chunks_exact(n_heads)) {
            let skipped = std::mem::take(&mut rest).split_at_mut((span.queries.start - at) * width).1;
            let (mine, behind) = skipped.split_at_mut(span.queries.len() * width);
            (rest, at) = (behind, span.queries.end);
            for (i, z) in mine.chunks_mut(ROWS_PER_TASK * width).enumerate() {
                tasks.push((span, packed, i * ROWS_PER_TASK, z));
            }
        }
        tasks.into_par_iter().for_each(|(span, packed, first, z)| {
            Arch::new().dispatch(Task { q, span, packed, first, z, scale: self.scale, d_head });
        });
        Ok((CpuStorage::F32(z), Shape::from((n_queries, n_heads, d_head))))
    }
}

/// The keys and values of one head of one sequence, in panels of a few SIMD vectors, each panel contiguous in the
/// order in which it is read; what is missing at the end of the last panel is zero.
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

/// The floats in a panel on this machine.
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
    packed: &'a [Packed],
    first: usize,
    /// `[rows, n_heads · d_head]`.
    z: &'a mut [f32],
    scale: f32,
    d_head: usize,
}

impl WithSimd for Task<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Task { q, span, packed, first, z, scale, d_head } = self;
        let panel = S::F32_LANES * VECTORS;
        let width = packed.len() * d_head;
        let past = span.keys.len() - span.queries.len();
        let padded = span.keys.len().div_ceil(panel) * panel;
        let mut scores = vec![0f32; ROWS * padded];
        let n_rows = z.len() / width;
        for row in (0..n_rows).step_by(ROWS) {
            let rows = ROWS.min(n_rows - row);
            // What the last of these queries sees; the others see less, which the softmax looks after. Where rows
            // are missing, the last one stands in for them, and its copies are thrown away.
            let visible = past + first + row + rows;
            let query = |r: usize| span.queries.start + first + row + r.min(rows - 1);
            for (head, packed) in packed.iter().enumerate() {
                let queries: [&[f32]; ROWS] = std::array::from_fn(|r| q.head(query(r), head));
                for p in 0..visible.div_ceil(panel) {
                    let keys = &packed.keys[p * d_head * panel..(p + 1) * d_head * panel];
                    let products = rows_by_panel(simd, queries, keys);
                    for (r, product) in products.iter().enumerate() {
                        store::<S>(product, &mut scores[r * padded + p * panel..][..panel]);
                    }
                }
                for r in 0..ROWS {
                    let sees = visible - rows + r.min(rows - 1) + 1;
                    softmax(simd, &mut scores[r * padded..(r + 1) * padded], sees, visible, scale);
                }
                let pattern: [&[f32]; ROWS] =
                    std::array::from_fn(|r| &scores[r * padded..r * padded + visible]);
                for p in 0..d_head.div_ceil(panel) {
                    let start = p * span.keys.len() * panel;
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

/// Turns the first `sees` scores into a pattern and sets those up to `visible` to zero.
#[inline(always)]
fn softmax<S: Simd>(simd: S, scores: &mut [f32], sees: usize, visible: usize, scale: f32) {
    let (seen, unseen) = scores[..visible].split_at_mut(sees);
    unseen.fill(0.0);
    let (vectors, rest) = S::as_simd_f32s(seen);
    let mut largest = simd.splat_f32s(f32::NEG_INFINITY);
    for v in vectors {
        largest = simd.max_f32s(largest, *v);
    }
    let largest = rest.iter().fold(simd.reduce_max_f32s(largest), |m, x| m.max(*x));
    let shift = -largest * scale;
    for x in seen.iter_mut() {
        *x = super::ops::exp(x.mul_add(scale, shift));
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
    use super::*;
    use candle_core::Device;

    fn random(shape: (usize, usize, usize), seed: u32) -> Tensor {
        let mut state = seed;
        let numbers: Vec<f32> = (0..shape.0 * shape.1 * shape.2)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 8) as f32 / (1 << 23) as f32 - 1.0
            })
            .collect();
        Tensor::from_vec(numbers, shape, &Device::Cpu).unwrap()
    }

    fn reference(q: &Tensor, k: &Tensor, v: &Tensor, scale: f32) -> Tensor {
        let scores = attention_scores(q, k, scale).unwrap();
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
        for (d_head, lengths) in [(8, vec![1, 5, 33]), (64, vec![70, 2, 129]), (20, vec![40])] {
            let n: usize = lengths.iter().sum();
            let wide = random((n, 3, 3 * d_head), 7); // q, k and v as slices of one tensor per head group
            let part = |i: usize| random((n, 3, d_head), 11 + i as u32);
            let (q, k, v) = (part(0), part(1), part(2));
            drop(wide);
            let mut spans = Vec::new();
            let mut start = 0;
            for length in &lengths {
                spans.push(Span { queries: start..start + length, keys: start..start + length });
                start += length;
            }
            let z = attention(&q, &k, &v, &spans, 0.7).unwrap();
            for span in &spans {
                let take = |t: &Tensor| t.narrow(0, span.queries.start, span.queries.len()).unwrap();
                let alone = Span { queries: 0..span.queries.len(), keys: 0..span.queries.len() };
                let expected = reference(&take(&q), &take(&k), &take(&v), 0.7);
                assert!(largest_difference(&take(&z), &expected) < 1e-5);
                let single = attention(
                    &take(&q).contiguous().unwrap(),
                    &take(&k).contiguous().unwrap(),
                    &take(&v).contiguous().unwrap(),
                    std::slice::from_ref(&alone),
                    0.7,
                );
                assert_eq!(
                    largest_difference(&take(&z), &single.unwrap()),
                    0.0,
                    "the batch changes a sequence"
                );
                if span.queries.len() > 3 {
                    let past = span.queries.len() - 2;
                    let late = take(&q).narrow(0, past, 2).unwrap().contiguous().unwrap();
                    let cached = Span { queries: 0..2, keys: 0..span.keys.len() };
                    let z_late = attention(
                        &late,
                        &take(&k).contiguous().unwrap(),
                        &take(&v).contiguous().unwrap(),
                        std::slice::from_ref(&cached),
                        0.7,
                    );
                    let expected = take(&z).narrow(0, past, 2).unwrap();
                    assert!(largest_difference(&z_late.unwrap(), &expected) < 1e-6);
                }
            }
        }
    }
}
