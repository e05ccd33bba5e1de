//! The decoder's operators, in several forms that compute the same: *fused*, for the CPU, reads and writes memory as seldom as
//! possible, with the widest SIMD of the machine; *cuda* does the same with kernels for NVIDIA GPUs; *composed* is made of
//! candle's operators, runs on every device, and says what each operator means. Tests compare them, one by one and over the
//! decoder as a whole.
//!
//! A `dtype` is the type in which a result is read, f32 or bf16. Only the kernels for GPUs write bf16, which saves a conversion
//! before the next product; the other forms write f32 in any case.

pub(super) mod composed;
#[cfg(feature = "cuda")]
mod cuda;
pub(super) mod fused;

pub use composed::{attention_scores, mix_values};

use super::cache::Store;
use super::config::ActivationFunction;
use crate::compute::is_fused;
use candle_core::{DType, Result, Tensor};
use saescope_kernels::Precision;
pub use saescope_kernels::Scores;
use std::ops::Range;

/// Calls the form of an operator for the device of `x`.
macro_rules! by_device {
    ($x:expr, fused: $fused:expr, cuda: $cuda:expr, composed: $composed:expr $(,)?) => {{
        if is_fused($x) {
            $fused
        } else {
            #[cfg(feature = "cuda")]
            if $x.device().is_cuda() {
                return $cuda;
            }
            $composed
        }
    }};
}

/// The rows of the queries and the rows of the keys and values that belong to one sequence; keys before the first query
/// are its past.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// Rows of the queries.
    pub queries: Range<usize>,
    /// Rows of the keys and values, at least as many as of the queries.
    pub keys: Range<usize>,
}

/// For each query, the cached tokens that it sees, its own last.
#[derive(Debug, Default)]
pub struct Paths {
    tokens: Vec<u32>,
    ends: Vec<usize>,
}

impl Paths {
    /// Adds the path of the next query.
    pub fn push(&mut self, path: impl IntoIterator<Item = u32>) {
        self.tokens.extend(path);
        self.ends.push(self.tokens.len());
    }

    /// The path of a query.
    pub fn get(&self, query: usize) -> &[u32] {
        let start = if query == 0 { 0 } else { self.ends[query - 1] };
        &self.tokens[start..self.ends[query]]
    }

    /// The end of a query's path that it sees through a window of this many tokens; all of it without one.
    fn seen(&self, query: usize, window: Option<usize>) -> &[u32] {
        let path = self.get(query);
        &path[path.len().saturating_sub(window.unwrap_or(path.len()))..]
    }

    /// The number of queries.
    fn len(&self) -> usize {
        self.ends.len()
    }
}

/// `(x − mean) / sqrt(var + eps) · weight + bias` over the last dimension.
///
/// `x` `[..., d]`, `weight` `[d]`, `bias` `[d]` → `[..., d]`.
pub fn layer_norm(
    x: &Tensor,
    weight: &Tensor,
    bias: &Tensor,
    eps: f64,
    #[cfg_attr(not(feature = "cuda"), expect(unused_variables))] dtype: DType,
) -> Result<Tensor> {
    by_device!(
        x,
        fused: fused::rows::layer_norm(x, weight, bias, eps),
        cuda: cuda::norm(x, weight, Some(bias), eps, dtype),
        composed: composed::layer_norm(x, weight, bias, eps),
    )
}

/// `x / sqrt(mean(x²) + eps) · weight` over the last dimension.
///
/// `x` `[..., d]`, `weight` `[d]` → `[..., d]`.
pub fn rms_norm(
    x: &Tensor,
    weight: &Tensor,
    eps: f64,
    #[cfg_attr(not(feature = "cuda"), expect(unused_variables))] dtype: DType,
) -> Result<Tensor> {
    by_device!(
        x,
        fused: fused::rows::rms_norm(x, weight, eps),
        cuda: cuda::norm(x, weight, None, eps, dtype),
        composed: composed::rms_norm(x, weight, eps),
    )
}

/// `x + y`, of equal shape. `x` must not be shared: its memory may be used.
pub fn add(x: Tensor, y: &Tensor) -> Result<Tensor> {
    by_device!(
        &x,
        fused: fused::rows::add_in_place(&x, y).map(|()| x),
        cuda: cuda::add(&x, None, Some(y)),
        composed: x + y,
    )
}

/// `x + bias + residual`, `x` and `residual` `[..., d]`, `bias` `[d]`. `x` must not be shared: its memory may be used.
pub fn add_bias_residual(x: Tensor, bias: &Tensor, residual: &Tensor) -> Result<Tensor> {
    by_device!(
        &x,
        fused: fused::rows::add_bias_residual_in_place(&x, bias, residual).map(|()| x),
        cuda: cuda::add(&x, Some(bias), Some(residual)),
        composed: x.broadcast_add(bias)? + residual,
    )
}

/// `act_fn(x + bias)`, `x` `[..., d]`, `bias` `[d]`, if there is one. `x` must not be shared: its memory may be used.
pub fn activate(
    x: Tensor,
    bias: Option<&Tensor>,
    act_fn: ActivationFunction,
    #[cfg_attr(not(feature = "cuda"), expect(unused_variables))] dtype: DType,
) -> Result<Tensor> {
    by_device!(
        &x,
        fused: fused::activation::activate_in_place(&x, bias, act_fn).map(|()| x),
        cuda: cuda::activate(&x, bias, act_fn, dtype),
        composed: composed::activate(x, bias, act_fn),
    )
}

/// `act_fn(gate) · linear`, where a row of `x` is `gate` followed by `linear`: `[n, 2 · d]` → `[n, d]`.
pub fn gate(
    x: &Tensor,
    act_fn: ActivationFunction,
    #[cfg_attr(not(feature = "cuda"), expect(unused_variables))] dtype: DType,
) -> Result<Tensor> {
    by_device!(
        x,
        fused: fused::activation::gate(x, act_fn),
        cuda: cuda::gate(x, act_fn, dtype),
        composed: composed::gate(x, act_fn),
    )
}

/// Rotates pairs of dimensions: `x` `[n, heads, d_head]`, whose rows may be slices of wider rows, by the angles of each row with
/// these cosines and sines, `[n, half]` each. Dimension `i` of the first half is paired with dimension `half + i`; those beyond
/// both halves stay.
pub fn rotate(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    by_device!(
        x,
        fused: fused::rows::rotate(x, cos, sin),
        cuda: cuda::rotate(x, cos, sin),
        composed: composed::rotate(x, cos, sin),
    )
}

/// Causal attention over a ragged batch: `z[i] = Σ_j softmax_j(scores[i, j]) v[j]` over the keys that query `i` sees.
///
/// `q` `[queries, n_heads, d_head]`, `k` and `v` `[keys, n_key_value_heads, d_head]` → z `[queries, n_heads, d_head]`.
/// All three may be slices of one wider tensor if the heads of a row are contiguous. NVIDIA GPUs round q, k, v and the pattern
/// to bf16 if the precision is [`Precision::Bf16`]; otherwise everything is in f32.
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    spans: &[Span],
    scores: Scores,
    #[cfg_attr(not(feature = "cuda"), expect(unused_variables))] precision: Precision,
) -> Result<Tensor> {
    by_device!(
        q,
        fused: fused::attention::attention(q, k, v, spans, scores),
        cuda: cuda::attention(q, k, v, spans, scores, precision),
        composed: composed::attention(q, k, v, spans, scores),
    )
}

/// Attention of queries to cached keys and values, each along its own path: `q` `[queries, n_heads, d_head]`, `keys` and `values`
/// `[cached, n_key_value_heads, d_head]` → z as `q`.
pub fn path_attention(
    q: &Tensor,
    [keys, values]: &[Store; 2],
    n_key_value_heads: usize,
    paths: &Paths,
    scores: Scores,
) -> Result<Tensor> {
    let tensors = || -> Result<_> {
        let width = n_key_value_heads * q.dim(2)?;
        Ok([keys.tensor(width)?, values.tensor(width)?])
    };
    by_device!(
        q,
        fused: {
            let store = [keys.host(), values.host()];
            fused::paths::path_attention(q, store, n_key_value_heads, paths, scores)
        },
        cuda: cuda::path_attention(q, &tensors()?, n_key_value_heads, paths, scores),
        composed: composed::path_attention(q, &tensors()?, n_key_value_heads, paths, scores),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Progress;
    use crate::tensors::randn;

    fn random(shape: &[usize], seed: u64) -> Tensor {
        randn(shape, seed, &Progress::default()).unwrap()
    }

    fn assert_near(what: &str, fused: Result<Tensor>, composed: Result<Tensor>) {
        let (fused, composed) = (fused.unwrap(), composed.unwrap());
        assert_eq!(fused.dims(), composed.dims(), "{what}");
        let furthest = (fused - composed).unwrap().abs().unwrap().flatten_all().unwrap().max(0).unwrap();
        let furthest = furthest.to_scalar::<f32>().unwrap();
        assert!(furthest < 1e-5, "{what}: {furthest}");
    }

    const FUNCTIONS: [ActivationFunction; 4] = [
        ActivationFunction::GeluNew,
        ActivationFunction::Gelu,
        ActivationFunction::Relu,
        ActivationFunction::Silu,
    ];

    #[test]
    fn operators_on_rows_agree() {
        for [n, d] in [[1, 6], [5, 70], [33, 768]] {
            let (x, y) = (random(&[n, d], 1), random(&[n, d], 2));
            let (weight, bias) = (random(&[d], 3), random(&[d], 4));
            let shifted = (&x + 3.0).unwrap();
            assert_near(
                "layer norm",
                fused::rows::layer_norm(&shifted, &weight, &bias, 1e-5),
                composed::layer_norm(&shifted, &weight, &bias, 1e-5),
            );
            assert_near(
                "RMS norm",
                fused::rows::rms_norm(&x, &weight, 1e-6),
                composed::rms_norm(&x, &weight, 1e-6),
            );
            let copy = || x.copy().unwrap();
            assert_near("add", add(copy(), &y), &x + &y);
            let sum = x.broadcast_add(&bias).unwrap() + &y;
            assert_near("add bias and residual", add_bias_residual(copy(), &bias, &y), sum);
            for act_fn in FUNCTIONS {
                for bias in [None, Some(&bias)] {
                    let what = format!("{act_fn:?}, {n} rows of {d}");
                    assert_near(
                        &what,
                        activate(copy(), bias, act_fn, DType::F32),
                        composed::activate(copy(), bias, act_fn),
                    );
                }
                let what = format!("gate with {act_fn:?}");
                assert_near(&what, fused::activation::gate(&x, act_fn), composed::gate(&x, act_fn));
            }
        }
    }

    #[test]
    fn rotations_agree_on_slices_too() {
        let wide = random(&[7, 9, 20], 5);
        for (first, heads, half) in [(0, 9, 10), (2, 4, 10), (8, 1, 3), (3, 6, 8)] {
            let x = wide.narrow(1, first, heads).unwrap();
            let (cos, sin) = (random(&[7, half], 6), random(&[7, half], 7));
            assert_near("rotation", fused::rows::rotate(&x, &cos, &sin), composed::rotate(&x, &cos, &sin));
        }
    }

    #[test]
    fn attention_agrees_on_ragged_batches() {
        let span = |queries: Range<usize>, keys| Span { queries, keys };
        for (n_groups, soft_cap, window) in [(6, None, None), (2, Some(1.5), None), (3, None, Some(4))] {
            let scores = Scores { scale: 0.4, soft_cap, window };
            let (q, k) = (random(&[52, 6, 20], 8), random(&[57, n_groups, 20], 9));
            let v = random(&[57, n_groups, 20], 10);
            let spans = [span(0..1, 0..1), span(1..42, 1..42), span(42..52, 42..57)];
            assert_near(
                "attention",
                fused::attention::attention(&q, &k, &v, &spans, scores),
                composed::attention(&q, &k, &v, &spans, scores),
            );
            let mut paths = Paths::default();
            (0..52).for_each(|i| paths.push((0..1 + i % 13).map(|j| ((7 * i + 11 * j) % 57) as u32)));
            let flat = |x: &Tensor| x.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            let (keys, values) = (flat(&k), flat(&v));
            assert_near(
                "attention along paths",
                fused::paths::path_attention(&q, [&keys, &values], n_groups, &paths, scores),
                composed::path_attention(
                    &q,
                    &[k.flatten_from(1).unwrap(), v.flatten_from(1).unwrap()],
                    n_groups,
                    &paths,
                    scores,
                ),
            );
        }
    }
}
