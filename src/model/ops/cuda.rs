//! Operators on NVIDIA GPUs: they convert and call the kernels, which check.

use super::{Paths, Scores, Span, composed};
use crate::model::config::ActivationFunction;
use candle_core::{DType, Result, Tensor};
use saescope_kernels::{Precision, cuda};

use cuda::MAX_D_HEAD;
pub use cuda::{add, rotate};

/// [`super::layer_norm`] with a bias, [`super::rms_norm`] without.
pub fn norm(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, eps: f64, dtype: DType) -> Result<Tensor> {
    cuda::norm(&x.contiguous()?, weight, bias, eps, dtype)
}

/// [`super::activate`].
pub fn activate(
    x: &Tensor,
    bias: Option<&Tensor>,
    act_fn: ActivationFunction,
    dtype: DType,
) -> Result<Tensor> {
    cuda::activate(&x.contiguous()?, bias, number(act_fn), dtype)
}

/// [`super::gate`].
pub fn gate(x: &Tensor, act_fn: ActivationFunction, dtype: DType) -> Result<Tensor> {
    cuda::gate(&x.contiguous()?, number(act_fn), dtype)
}

/// The number of an activation function in the kernels.
fn number(act_fn: ActivationFunction) -> u32 {
    match act_fn {
        ActivationFunction::GeluNew => 0,
        ActivationFunction::Gelu => 1,
        ActivationFunction::Relu => 2,
        ActivationFunction::Silu => 3,
    }
}

/// [`super::attention`].
pub fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    spans: &[Span],
    scores: Scores,
    precision: Precision,
) -> Result<Tensor> {
    if q.dim(2)? > MAX_D_HEAD {
        return composed::attention(q, k, v, spans, scores);
    }
    let spans: Vec<_> = spans.iter().map(|span| [span.queries.clone(), span.keys.clone()]).collect();
    cuda::attention(q, k, v, &spans, scores, precision)
}

/// [`super::path_attention`]; `keys` and `values` are `[cached, n_key_value_heads · d_head]`.
pub fn path_attention(
    q: &Tensor,
    [keys, values]: &[Tensor; 2],
    n_key_value_heads: usize,
    paths: &Paths,
    scores: Scores,
) -> Result<Tensor> {
    if q.dim(2)? > MAX_D_HEAD {
        return composed::path_attention(
            q,
            &[keys.clone(), values.clone()],
            n_key_value_heads,
            paths,
            scores,
        );
    }
    let ends = paths.ends.iter().map(|end| *end as u32).collect::<Vec<_>>();
    cuda::path_attention(&q.contiguous()?, [keys, values], &paths.tokens, &ends, scores)
}
