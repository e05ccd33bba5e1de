//! How pre-activations become feature activations: the thresholds, gates and selections of the architectures.

use super::architecture::ActivationRule;
use super::config::SaeConfig;
use super::weights::{Encoder, Weights};
use crate::error::Result;

/// The number of features that are compared at once: only a group with a candidate is searched one by one.
const GROUP: usize = 16;

/// The features of one token found so far, in ascending order.
#[derive(Default)]
pub(super) struct Row {
    pub(super) active: Vec<(u32, f32)>,
    /// Top-k only: a candidate whose magnitude is not above this cannot be among the `k` largest.
    floor: f32,
}

/// How pre-activations become feature activations.
pub(super) struct Rule<'a> {
    pub(super) bias: &'a [f32],
    /// Feature `j` is a candidate if `pre[j] + bias[j] > cut[j]`.
    pub(super) cut: Vec<f32>,
    /// An activation must be above this.
    pub(super) threshold: f32,
    pub(super) kind: Kind<'a>,
}

pub(super) enum Kind<'a> {
    /// The activation is `pre + bias`.
    Plain,
    Gated {
        factor: &'a [f32],
        bias: &'a [f32],
    },
    TopK {
        k: usize,
        norms: Option<&'a [f32]>,
        /// Whether negative values count as well (`abstopk`).
        signed: bool,
    },
}

impl<'a> Rule<'a> {
    pub(super) fn new(encoder: &'a Encoder, weights: &'a Weights, threshold: f32) -> Result<Self> {
        let SaeConfig { d_sae, architecture, .. } = weights.cfg;
        let least = threshold.max(0.0);
        let (cut, kind) = match (&encoder.threshold, &encoder.magnitude, architecture.rule.k()) {
            (Some(jump), ..) => (jump.iter().map(|t| t.max(least)).collect(), Kind::Plain),
            (_, Some((factor, bias)), _) => (vec![0.0; d_sae], Kind::Gated { factor, bias }),
            (_, _, Some(k)) => {
                let norms = architecture.rule.rescales().then(|| weights.decoder_norms()).transpose()?;
                let signed = matches!(architecture.rule, ActivationRule::AbsTopK { .. });
                (vec![0.0; d_sae], Kind::TopK { k, norms, signed })
            }
            _ => (vec![least; d_sae], Kind::Plain),
        };
        Ok(Rule { bias: &encoder.b_enc, cut, threshold: least, kind })
    }

    /// Whether negative pre-activations count by their magnitude.
    pub(super) fn is_signed(&self) -> bool {
        matches!(self.kind, Kind::TopK { signed: true, .. })
    }

    /// Adds the candidates among the pre-activations of features `start` and up.
    #[inline(always)]
    pub(super) fn select(&self, row: &mut Row, pre: &[f32], start: usize) {
        if self.is_signed() {
            self.scan(row, pre, start, f32::abs);
        } else {
            self.scan(row, pre, start, |sum| sum);
        }
        if let Kind::TopK { k, .. } = self.kind
            && row.active.len() / 4 > k.max(64)
        {
            keep_largest(row, k);
        }
    }

    /// Adds the features with `size(pre + bias) > cut`; `size` is the identity, or `abs` for `abstopk`.
    #[inline(always)]
    fn scan(&self, row: &mut Row, pre: &[f32], start: usize, size: impl Fn(f32) -> f32) {
        let bias = &self.bias[start..start + pre.len()];
        let cut = &self.cut[start..start + pre.len()];
        let groups = pre.chunks(GROUP).zip(bias.chunks(GROUP)).zip(cut.chunks(GROUP));
        // One row with GROUP = 4, no bias, and the thresholds of a JumpReLU SAE as cut:
        //   pre  0.2  1.5  1.7  0.1 |  0.3 -1.0  0.9  0.0     group 0: 1.5 > 1.0, so it is searched: feature start + 1
        //   cut  1.0  1.0  2.0  1.0 |  1.0  1.0  1.0  1.0     group 1: all are at most 1.0, so it is skipped
        for (i, ((pre, bias), cut)) in groups.enumerate() {
            let each = || pre.iter().zip(bias).zip(cut).map(|((p, b), c)| (p, p + b, c));
            // What is NaN is kept, for an error that names it.
            let passes = |sum: f32, cut: f32| (size(sum) > cut) | sum.is_nan();
            if !each().fold(false, |any, (_, sum, cut)| any | passes(sum, *cut)) {
                continue;
            }
            for (j, (pre, sum, cut)) in each().enumerate() {
                if passes(sum, *cut) {
                    self.add(row, start + i * GROUP + j, *pre, sum);
                }
            }
        }
    }

    /// Adds a candidate, whose sum `pre + bias` is above the cut.
    pub(super) fn add(&self, row: &mut Row, feature: usize, pre: f32, sum: f32) {
        let value = match self.kind {
            Kind::Plain => sum,
            Kind::Gated { factor, bias } => pre * factor[feature] + bias[feature],
            Kind::TopK { norms, .. } => sum * norms.map_or(1.0, |norms| norms[feature]),
        };
        let is_active = match self.kind {
            Kind::TopK { .. } => value.abs() > row.floor,
            _ => value > self.threshold,
        };
        if is_active || value.is_nan() {
            row.active.push((feature as u32, value));
        }
    }

    /// Drops what is not active after all.
    pub(super) fn finish(&self, row: &mut Row) {
        if let Kind::TopK { k, .. } = self.kind {
            keep_largest(row, k);
            row.active.retain(|(_, value)| value.abs() > self.threshold || value.is_nan());
        }
    }
}

/// Keeps the `k` candidates of largest magnitude, in ascending order of index. Ties go to the lower index.
fn keep_largest(row: &mut Row, k: usize) {
    if row.active.len() <= k {
        return;
    }
    row.active.select_nth_unstable_by(k, |a, b| b.1.abs().total_cmp(&a.1.abs()).then(a.0.cmp(&b.0)));
    row.active.truncate(k);
    row.floor = row.active.iter().map(|(_, value)| value.abs()).fold(f32::INFINITY, f32::min);
    row.active.sort_unstable_by_key(|(index, _)| *index);
}
