//! Operators made of candle's, for every device.

use super::{Paths, Scores, Span};
use crate::linalg::softmax;
use crate::model::config::ActivationFunction;
use candle_core::{D, Result, Tensor};

/// [`super::layer_norm`]. candle's own computes the variance as E\[x²\] − E\[x\]², which loses GPT-2's outliers.
pub fn layer_norm(x: &Tensor, weight: &Tensor, bias: &Tensor, eps: f64) -> Result<Tensor> {
    let centered = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
    rms_norm(&centered, weight, eps)?.broadcast_add(bias)
}

/// [`super::rms_norm`].
pub fn rms_norm(x: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let scale = (x.sqr()?.mean_keepdim(D::Minus1)? + eps)?.sqrt()?; // [..., 1]
    x.broadcast_div(&scale)?.broadcast_mul(weight)
}

/// [`super::activate`].
pub fn activate(x: Tensor, bias: Option<&Tensor>, act_fn: ActivationFunction) -> Result<Tensor> {
    let x = match bias {
        Some(bias) => x.broadcast_add(bias)?,
        None => x,
    };
    match act_fn {
        ActivationFunction::GeluNew => x.gelu(),
        ActivationFunction::Gelu => x.gelu_erf(),
        ActivationFunction::Relu => x.relu(),
        ActivationFunction::Silu => x.silu(),
    }
}

/// [`super::gate`].
pub fn gate(x: &Tensor, act_fn: ActivationFunction) -> Result<Tensor> {
    let d = x.dim(1)? / 2;
    let (gate, linear) = (x.narrow(1, 0, d)?.contiguous()?, x.narrow(1, d, d)?.contiguous()?);
    activate(gate, None, act_fn)? * linear
}

/// [`super::rotate`].
pub fn rotate(x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    let (half, d_head) = (cos.dim(1)?, x.dim(2)?);
    let (cos, sin) = (cos.unsqueeze(1)?, sin.unsqueeze(1)?); // [n, 1, half]
    let part = |start: usize, width: usize| x.narrow(2, start, width)?.contiguous();
    let (a, b) = (part(0, half)?, part(half, half)?); // [n, heads, half]
    let turned_a = (a.broadcast_mul(&cos)? - b.broadcast_mul(&sin)?)?;
    let turned_b = (b.broadcast_mul(&cos)? + a.broadcast_mul(&sin)?)?;
    Tensor::cat(&[turned_a, turned_b, part(2 * half, d_head - 2 * half)?], 2)
}

/// [`super::attention`], sequence by sequence.
pub fn attention(q: &Tensor, k: &Tensor, v: &Tensor, spans: &[Span], scores: Scores) -> Result<Tensor> {
    let mixed = spans.iter().map(|Span { queries, keys }| {
        let [k, v] = [k, v].map(|x| x.narrow(0, keys.start, keys.len()));
        let scores = attention_scores(&q.narrow(0, queries.start, queries.len())?, &k?, scores)?;
        mix_values(&softmax(&scores, 2)?, &v?)
    });
    Tensor::cat(&mixed.collect::<Result<Vec<_>>>()?, 0)
}

/// The attention scores of one sequence, -inf for keys that are not seen.
///
/// `q` `[query_pos, n_heads, d_head]`, `k` `[key_pos, n_key_value_heads, d_head]` → `[n_heads, query_pos, key_pos]`.
pub fn attention_scores(q: &Tensor, k: &Tensor, scores: Scores) -> Result<Tensor> {
    let (n_queries, n_keys) = (q.dim(0)?, k.dim(0)?);
    let past = n_keys - n_queries;
    let q = q.transpose(0, 1)?.contiguous()?; // [n_heads, query_pos, d_head]
    let k = by_head(k, q.dim(0)?)?; // [n_heads, key_pos, d_head]
    let products = scored(q.matmul(&k.t()?)?, scores)?; // [n_heads, query_pos, key_pos]
    let window = scores.window.unwrap_or(usize::MAX);
    let sees = |i: usize, j: usize| j <= i + past && i + past - j < window;
    let mask: Vec<f32> = (0..n_queries)
        .flat_map(|i| (0..n_keys).map(move |j| if sees(i, j) { 0.0 } else { f32::NEG_INFINITY }))
        .collect();
    products.broadcast_add(&Tensor::from_vec(mask, (n_queries, n_keys), q.device())?)
}

/// Mixes values by a pattern: `pattern` `[n_heads, query_pos, key_pos]`, `v` `[key_pos, n_key_value_heads, d_head]` →
/// `[query_pos, n_heads, d_head]`.
pub fn mix_values(pattern: &Tensor, v: &Tensor) -> Result<Tensor> {
    let v = by_head(v, pattern.dim(0)?)?; // [n_heads, key_pos, d_head]
    pattern.contiguous()?.matmul(&v)?.transpose(0, 1)?.contiguous()
}

/// Scales and caps products of queries and keys.
fn scored(products: Tensor, scores: Scores) -> Result<Tensor> {
    let scaled = (products * f64::from(scores.scale))?;
    match scores.soft_cap.map(f64::from) {
        Some(cap) => (scaled / cap)?.tanh()? * cap,
        None => Ok(scaled),
    }
}

/// Repeats keys or values for each head of queries that shares them: `[key_pos, n_key_value_heads, d_head]` →
/// `[n_heads, key_pos, d_head]`.
fn by_head(x: &Tensor, n_heads: usize) -> Result<Tensor> {
    let (n, n_groups, d_head) = x.dims3()?;
    let x = x.transpose(0, 1)?.unsqueeze(1)?.expand((n_groups, n_heads / n_groups, n, d_head))?;
    x.contiguous()?.reshape((n_heads, n, d_head))
}

/// [`super::path_attention`], with all paths padded to the longest.
pub fn path_attention(
    q: &Tensor,
    [keys, values]: &[Tensor; 2],
    n_key_value_heads: usize,
    paths: &Paths,
    scores: Scores,
) -> Result<Tensor> {
    let (n, n_heads, d_head) = q.dims3()?;
    let seen = |i: usize| paths.seen(i, scores.window);
    let longest = (0..n).map(|i| seen(i).len()).max().unwrap_or(0);
    let (mut rows, mut mask) = (Vec::new(), Vec::new());
    for path in (0..n).map(seen) {
        let missing = longest - path.len();
        rows.extend(path.iter().copied().chain(std::iter::repeat_n(0, missing)));
        mask.extend((0..longest).map(|j| if j < path.len() { 0.0 } else { f32::NEG_INFINITY }));
    }
    let rows = Tensor::new(rows.as_slice(), q.device())?;
    let mask = Tensor::from_vec::<_, f32>(mask, (n, 1, 1, longest), q.device())?;
    let store = |data: &Tensor| {
        let rows = data.index_select(&rows, 0)?.reshape((n, longest, n_key_value_heads, d_head))?;
        rows.transpose(1, 2)?.contiguous() // [n, n_key_value_heads, longest, d_head]
    };
    let q = q.contiguous()?.reshape((n, n_key_value_heads, n_heads / n_key_value_heads, d_head))?;
    let products = q.matmul(&store(keys)?.transpose(2, 3)?)?; // [n, n_key_value_heads, heads, longest]
    let pattern = softmax(&scored(products, scores)?.broadcast_add(&mask)?, 3)?;
    pattern.matmul(&store(values)?)?.reshape((n, n_heads, d_head))
}
