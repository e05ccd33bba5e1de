//! Encoding with a screen: pre-activations in bf16, at twice the rate of f32, show which features may be active, and only
//! those are computed in f32.
//!
//! Let `x̂` and `ŵ` be `x` and `w` rounded to bf16, `s` the computed sum of the products `x̂ · ŵ`, and `v` the one of `x · w` in
//! f32. By Cauchy and Schwarz,
//!
//! ```text
//! |s − v| ≤ ‖x − x̂‖ · ‖ŵ‖ + ‖x‖ · ‖w − ŵ‖ + γ · (‖x‖ + ‖x − x̂‖) · (‖ŵ‖ + ‖w − ŵ‖),   γ = n u / (1 − n u)
//! ```
//!
//! with `u = 2⁻²⁴` and `n` the number of roundings in both sums (Higham, "Accuracy and Stability of Numerical Algorithms", 3.1;
//! products of two bf16 are exact in f32). The norms of the differences are computed, not estimated: they are about `0.4 · 2⁻⁸`
//! times those of `x` and `w`, so the bound is about `2⁻⁸ · ‖x‖ · ‖w‖`. A feature is left out if no error within the bound lets it
//! pass its threshold, or be among the `k` largest. The others are computed in f32, each by sums in one order, so that neither the
//! number of tokens nor the number of threads changes a value.

#![expect(clippy::neg_cmp_op_on_partial_ord, reason = "a number that is NaN must not be left out")]

use super::rule::{Kind, Row, Rule};
use crate::checkpoint::zeros;
use crate::error::{Error, Result};
use crate::linalg::with_f32s;
use crate::memory;
use crate::progress::Progress;
use crate::threads::in_runs;
use candle_core::Tensor;
use half::bf16;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use saescope_kernels::{Bf16Rows, COLUMNS, Matrix, Packed};
use std::ops::Range;

/// The number of panels between two checks for an interrupt.
const CHECKED: usize = 64;
/// The number of sums of a dot product that grow side by side.
const LANES: usize = 64;
/// More than what the roundings in the computation of the bound can take from it.
const INFLATED: f32 = 1.0001;
/// More than what subnormal products can add up to, which the instruction takes for zero.
const LEAST: f32 = 1e-30;

/// The encoder's weights, prepared for the screen.
pub(super) struct Screen {
    /// `[d_in, d_sae]`, bf16.
    rounded: Packed,
    /// `[d_sae, d_in]`, f32.
    rows: Tensor,
    /// `‖ŵ‖` of each feature, `[d_sae]`.
    norms: Vec<f32>,
    /// `‖w − ŵ‖` of each feature, `[d_sae]`.
    errors: Vec<f32>,
}

impl Screen {
    /// Rounds the weights `[d_in, d_sae]`. They are copied, unless their columns are contiguous. Uses no threads of the pool.
    pub(super) fn new(w_enc: &Tensor) -> Result<Self> {
        memory::check(
            "the screen of the SAE",
            (w_enc.elem_count() * (size_of::<f32>() + 2 * size_of::<bf16>())) as u64,
        )?;
        let rows = w_enc.t()?.contiguous()?; // [d_sae, d_in]
        let (d_sae, d_in) = rows.dims2()?;
        let prepared = with_f32s(&rows, |rows| {
            let mut rounded = zeros::<bf16>(rows.len())?;
            rounded.iter_mut().zip(rows).for_each(|(rounded, w)| *rounded = bf16::from_f32(*w));
            let all = in_runs(rows.chunks_exact(d_in.max(1)), |rows| {
                rows.into_iter().map(norms).collect::<Vec<_>>()
            });
            let (norms, errors) = all.into_iter().flatten().unzip();
            let matrix = Matrix::new(&rounded, [d_in, d_sae], [1, d_in]);
            let packed = matrix.and_then(|matrix| Packed::new(&[matrix]));
            let none = || {
                Error::mismatch(
                    "there is not enough memory for the screen",
                    "load the SAE with `screen: false`",
                )
            };
            Ok::<_, Error>((packed.ok_or_else(none)?, norms, errors))
        });
        let (rounded, norms, errors) = prepared??;
        Ok(Screen { rounded, rows, norms, errors })
    }

    /// The features of tokens `[pos, d_in]` that a rule finds.
    pub(super) fn select(&self, x: &Tensor, rule: &Rule<'_>, progress: &Progress) -> Result<Vec<Row>> {
        let (n, d_in) = x.dims2()?;
        let x = x.contiguous()?;
        with_f32s(&x, |x| {
            with_f32s(&self.rows, |weights| {
                let rounded = Matrix::new(x, [n, d_in], [d_in, 1]).and_then(Bf16Rows::new);
                let rounded =
                    rounded.ok_or_else(|| Error::internal("a screen on a processor without bf16"))?;
                let bounds = x.par_chunks_exact(d_in.max(1)).map(|x| Bound::new(x, d_in)).collect();
                let pass = Pass { screen: self, rule, x, weights, d_in, rounded, bounds };
                let panels = self.rounded.panels();
                let each = panels.div_ceil(rayon::current_num_threads()).max(1);
                let parts: Vec<_> = (0..panels).step_by(each).map(|i| i..panels.min(i + each)).collect();
                let parts: Vec<Vec<Found>> =
                    parts.into_par_iter().map(|part| pass.scan(part, progress)).collect::<Result<_>>()?;
                let row = |i: usize| pass.finish(i, parts.iter().map(|part| &part[i]));
                Ok((0..n).into_par_iter().map(row).collect())
            })?
        })?
    }
}

/// `‖x̂‖` and `‖x − x̂‖`, inflated.
fn norms(x: &[f32]) -> (f32, f32) {
    let squares = x.iter().map(|x| {
        let rounded = bf16::from_f32(*x).to_f32();
        let rounded = if rounded.is_subnormal() { 0.0 } else { f64::from(rounded) };
        (rounded.powi(2), (f64::from(*x) - rounded).powi(2))
    });
    let (rounded, error) = squares.fold((0.0, 0.0), |sums, squares| (sums.0 + squares.0, sums.1 + squares.1));
    (rounded.sqrt() as f32 * INFLATED, error.sqrt() as f32 * INFLATED)
}

/// The bound of one token: `|s − v| ≤ norm · ‖ŵ‖ + error · ‖w − ŵ‖`.
#[derive(Clone, Copy)]
struct Bound {
    norm: f32,
    error: f32,
}

impl Bound {
    fn new(x: &[f32], d_in: usize) -> Self {
        let (norm, error) = norms(x);
        // `s` has `d_in` roundings one after another, `v` at most `d_in / LANES + 7`.
        let n = (2 * d_in + LANES) as f32 * (f32::EPSILON / 2.0);
        let gamma = if n < 1.0 { INFLATED * n / (1.0 - n) } else { f32::INFINITY };
        let size = norm + error;
        Bound {
            norm: INFLATED * (error + gamma * (size + error)),
            error: INFLATED * (size + gamma * (size + error)),
        }
    }

    /// The bound for a feature, and a little more for the roundings in comparisons with `cut`.
    #[inline(always)]
    fn margin(self, norm: f32, error: f32, cut: f32) -> f32 {
        self.norm * norm + self.error * error + f32::EPSILON * cut.abs() + LEAST
    }
}

/// What a part of the features has for one token.
#[derive(Default)]
struct Found {
    /// Features with their activations.
    row: Row,
    /// Top-k only: features that may be among the `k` largest, with the limits of their magnitudes.
    likely: Vec<(u32, [f32; 2])>,
    /// A feature whose magnitude is certainly below this is not among them.
    floor: f32,
}

/// Tokens, features and what decides about them.
struct Pass<'a> {
    screen: &'a Screen,
    rule: &'a Rule<'a>,
    /// `[pos, d_in]`.
    x: &'a [f32],
    /// `[d_sae, d_in]`.
    weights: &'a [f32],
    d_in: usize,
    /// `x` in bf16.
    rounded: Bf16Rows,
    bounds: Vec<Bound>,
}

impl Pass<'_> {
    /// Searches some panels of features.
    fn scan(&self, panels: Range<usize>, progress: &Progress) -> Result<Vec<Found>> {
        let mut found = Vec::new();
        found.resize_with(self.bounds.len(), Found::default);
        let mut block = Vec::new();
        for panel in panels {
            if panel % CHECKED == 0 {
                progress.check()?;
            }
            self.rounded.times_panel(&self.screen.rounded, panel, &mut block);
            Arch::new().dispatch(Search {
                pass: self,
                start: panel * COLUMNS,
                block: &block,
                found: &mut found,
            });
        }
        Ok(found)
    }

    /// Searches the features from `start` on for token `i`, whose pre-activations in bf16 are `sums`.
    #[inline(always)]
    fn search(&self, i: usize, start: usize, sums: &[f32; COLUMNS], found: &mut Found) {
        if self.rule.is_signed() {
            self.search_by(i, start, sums, found, f32::abs);
        } else {
            self.search_by(i, start, sums, found, |sum| sum);
        }
    }

    #[inline(always)]
    fn search_by(
        &self,
        i: usize,
        start: usize,
        sums: &[f32; COLUMNS],
        found: &mut Found,
        size: impl Fn(f32) -> f32,
    ) {
        let (screen, rule, bound) = (self.screen, self.rule, self.bounds[i]);
        let end = rule.bias.len().min(start + COLUMNS);
        let columns = rule.bias[start..end].iter().zip(&rule.cut[start..end]);
        let lengths = screen.norms[start..end].iter().zip(&screen.errors[start..end]);
        let mut may_pass = [false; COLUMNS];
        let mut any = false;
        for (((may_pass, sum), (bias, cut)), (norm, error)) in
            may_pass.iter_mut().zip(sums).zip(columns).zip(lengths)
        {
            // A sum that overflows says nothing: the feature is computed.
            *may_pass = !(size(sum + bias) + bound.margin(*norm, *error, *cut) < *cut && sum.is_finite());
            any |= *may_pass;
        }
        if !any {
            return;
        }
        for (j, _) in may_pass.iter().enumerate().filter(|(_, may_pass)| **may_pass) {
            let feature = start + j;
            let Kind::TopK { k, norms, .. } = rule.kind else {
                self.compute(i, feature, &mut found.row);
                continue;
            };
            let margin = bound.margin(screen.norms[feature], screen.errors[feature], 0.0);
            let (size, norm) =
                (size(sums[j] + rule.bias[feature]), norms.map_or(1.0, |norms| norms[feature]));
            let limits = match sums[j].is_finite() {
                true => [(size - margin).max(0.0) * norm / INFLATED, (size + margin) * norm * INFLATED],
                false => [0.0, f32::INFINITY],
            };
            if limits[1] < found.floor {
                continue;
            }
            found.likely.push((feature as u32, limits));
            if found.likely.len() / 4 > k.max(COLUMNS) {
                self.prune(i, k, found);
            }
        }
    }

    /// Drops features of token `i` that are certainly not among the `k` largest. If the bounds say too little, computes them.
    fn prune(&self, i: usize, k: usize, found: &mut Found) {
        found.floor = keep_likely(&mut found.likely, k);
        if found.likely.len() / 2 > k.max(COLUMNS) {
            let mut row = Row::default();
            Arch::new().dispatch(Compute { pass: self, i, likely: &found.likely, row: &mut row });
            self.rule.finish(&mut row);
            let exact = row.active.iter().map(|(feature, value)| (*feature, [value.abs(); 2]));
            found.likely = exact.collect();
            let least = found.likely.iter().map(|(_, [low, _])| *low).fold(f32::INFINITY, f32::min);
            found.floor = if found.likely.len() == k { least } else { 0.0 };
        }
    }

    /// Computes a feature of token `i` in f32.
    #[inline(always)]
    fn compute(&self, i: usize, feature: usize, row: &mut Row) {
        let [x, w] =
            [(self.x, i), (self.weights, feature)].map(|(all, i)| &all[i * self.d_in..][..self.d_in]);
        let pre = dot(x, w);
        let sum = pre + self.rule.bias[feature];
        let size = if self.rule.is_signed() { sum.abs() } else { sum };
        if !(size <= self.rule.cut[feature]) {
            self.rule.add(row, feature, pre, sum);
        }
    }

    /// Puts the parts of token `i` together.
    fn finish<'p>(&self, i: usize, parts: impl Iterator<Item = &'p Found>) -> Row {
        let mut row = Row::default();
        let mut likely = Vec::new();
        for part in parts {
            row.active.extend_from_slice(&part.row.active);
            likely.extend_from_slice(&part.likely);
        }
        if let Kind::TopK { k, .. } = self.rule.kind {
            keep_likely(&mut likely, k);
            Arch::new().dispatch(Compute { pass: self, i, likely: &likely, row: &mut row });
        }
        self.rule.finish(&mut row);
        row
    }
}

/// Searches the features of one panel for all tokens.
struct Search<'a> {
    pass: &'a Pass<'a>,
    /// The first feature.
    start: usize,
    /// The pre-activations in bf16.
    block: &'a [[f32; COLUMNS]],
    found: &'a mut [Found],
}

impl WithSimd for Search<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (i, (sums, found)) in self.block.iter().zip(self.found).enumerate() {
            self.pass.search(i, self.start, sums, found);
        }
    }
}

/// Computes the likely features of token `i`.
struct Compute<'a> {
    pass: &'a Pass<'a>,
    i: usize,
    likely: &'a [(u32, [f32; 2])],
    row: &'a mut Row,
}

impl WithSimd for Compute<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        for (feature, _) in self.likely {
            self.pass.compute(self.i, *feature as usize, self.row);
        }
    }
}

/// Drops features that are certainly not among the `k` largest, and returns the limit that they do not reach.
fn keep_likely(likely: &mut Vec<(u32, [f32; 2])>, k: usize) -> f32 {
    if likely.len() <= k {
        return 0.0;
    }
    let mut low: Vec<f32> = likely.iter().map(|(_, [low, _])| *low).collect();
    let (_, floor, _) = low.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
    let floor = *floor;
    likely.retain(|(_, [_, high])| !(*high < floor));
    floor
}

/// The dot product of two vectors, in an order that depends on their length alone.
#[inline(always)]
fn dot(x: &[f32], w: &[f32]) -> f32 {
    let mut sums = [0f32; LANES];
    let ((whole_x, rest_x), (whole_w, rest_w)) = (x.as_chunks::<LANES>(), w.as_chunks::<LANES>());
    whole_x.iter().zip(whole_w).for_each(|(x, w)| add_products(&mut sums, x, w));
    add_products(&mut sums, rest_x, rest_w);
    let mut n = LANES;
    while n > 1 {
        n /= 2;
        let (low, high) = sums.split_at_mut(n);
        low.iter_mut().zip(high).for_each(|(low, high)| *low += *high);
    }
    sums[0]
}

#[inline(always)]
fn add_products(sums: &mut [f32; LANES], x: &[f32], w: &[f32]) {
    for ((sum, x), w) in sums.iter_mut().zip(x).zip(w) {
        *sum = x.mul_add(*w, *sum);
    }
}
