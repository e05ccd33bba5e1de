//! The activation functions of MLPs, in forms that the compiler vectorizes.

use crate::linalg::{change_f32s, rows_per_task, with_all_f32s};
use crate::model::config::ActivationFunction;
use candle_core::{Device, Result, Tensor};
use pulp::Arch;
use rayon::prelude::*;

/// Calls a generic function with the function of an [`ActivationFunction`].
macro_rules! with_function {
    ($act_fn:expr, $call:ident($($argument:expr),*)) => {
        match $act_fn {
            ActivationFunction::GeluNew => $call($($argument,)* gelu_new),
            ActivationFunction::Gelu => $call($($argument,)* gelu),
            ActivationFunction::Relu => $call($($argument,)* |x: f32| x.max(0.0)),
            ActivationFunction::Silu => $call($($argument,)* |x: f32| x / (1.0 + exp(-x))),
        }
    };
}

/// Adds `bias` `[d]`, if there is one, to `x` `[..., d]` and applies the function, in place. `x` must not be shared.
pub fn activate_in_place(x: &Tensor, bias: Option<&Tensor>, act_fn: ActivationFunction) -> Result<()> {
    match bias {
        Some(bias) => change_f32s(x, [bias], |x, [bias]| with_function!(act_fn, activate(x, bias))),
        None => change_f32s(x, [], |x, []| with_function!(act_fn, activate(x, &[]))),
    }
}

fn activate(x: &mut [f32], bias: &[f32], f: impl Fn(f32) -> f32 + Sync) {
    if bias.is_empty() {
        x.par_chunks_mut(rows_per_task(1)).for_each(|x| {
            Arch::new().dispatch(|| x.iter_mut().for_each(|x| *x = f(*x)));
        });
        return;
    }
    let d = bias.len();
    x.par_chunks_mut(rows_per_task(d) * d).for_each(|x| {
        Arch::new().dispatch(|| {
            for x in x.chunks_exact_mut(d) {
                x.iter_mut().zip(bias).for_each(|(x, b)| *x = f(*x + b));
            }
        });
    });
}

/// `act_fn(gate) · linear`, where a row of `x` is `gate` followed by `linear`: `[n, 2 · d]` → `[n, d]`.
pub fn gate(x: &Tensor, act_fn: ActivationFunction) -> Result<Tensor> {
    let (n, width) = x.dims2()?;
    let mut out = vec![0f32; n * (width / 2)];
    with_all_f32s([&x.contiguous()?], |[x]| with_function!(act_fn, gate_rows(x, width, &mut out)))?;
    Tensor::from_vec(out, (n, width / 2), &Device::Cpu)
}

fn gate_rows(x: &[f32], width: usize, out: &mut [f32], f: impl Fn(f32) -> f32 + Sync) {
    let d = width / 2;
    let rows = rows_per_task(width);
    out.par_chunks_mut(rows * d).zip(x.par_chunks(rows * width)).for_each(|(out, x)| {
        Arch::new().dispatch(|| {
            for (out, x) in out.chunks_exact_mut(d).zip(x.chunks_exact(width)) {
                let (gate, linear) = x.split_at(d);
                for ((out, gate), linear) in out.iter_mut().zip(gate).zip(linear) {
                    *out = f(*gate) * linear;
                }
            }
        });
    });
}

/// `e^x`, to 2 units in the last place for `x` from -87 to 88; smaller results are about 2e-38, larger ones about 2e38.
/// The compiler vectorizes this form.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // 1.5 · 2²³: adding it leaves the rounded integer in the low bits of the sum.
    const MAGIC: f32 = 12_582_912.0;
    const LN_2_HI: f32 = 0.693_359_4;
    const LN_2_LO: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x.mul_add(std::f32::consts::LOG2_E, MAGIC);
    let n = shifted - MAGIC;
    let r = n.mul_add(-LN_2_LO, n.mul_add(-LN_2_HI, x));
    // Cephes' minimax polynomial of (e^r − 1 − r) / r² on [−ln 2 / 2, ln 2 / 2].
    let p = 1.987_569_1e-4_f32
        .mul_add(r, 1.398_2e-3)
        .mul_add(r, 8.333_452e-3)
        .mul_add(r, 4.166_579_6e-2)
        .mul_add(r, 1.666_666_5e-1)
        .mul_add(r, 0.5);
    let e = (p * r).mul_add(r, r) + 1.0;
    let scale = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    e * scale
}

/// GELU in the tanh form: `x / (1 + exp(−2 √(2/π) (x + 0.044715 x³)))`.
#[inline(always)]
fn gelu_new(x: f32) -> f32 {
    const MINUS_2_SQRT_2_OVER_PI: f32 = -1.595_769_2;
    let inner = (0.044_715 * x * x).mul_add(x, x);
    x / (1.0 + exp(MINUS_2_SQRT_2_OVER_PI * inner))
}

/// GELU with the error function: `x · erfc(−x / √2) / 2`, with erfc to 1.5e-7 by Abramowitz and Stegun 7.1.26.
#[inline(always)]
fn gelu(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / 0.327_591_1_f32.mul_add(z, 1.0);
    let p = 1.061_405_4_f32
        .mul_add(t, -1.453_152)
        .mul_add(t, 1.421_413_7)
        .mul_add(t, -0.284_496_74)
        .mul_add(t, 0.254_829_6);
    let tail = 0.5 * p * t * exp(-z * z);
    x * if x < 0.0 { tail } else { 1.0 - tail }
}

/// `tanh(x)` to a relative error of 5e-7: by [`exp`], and near zero, where that loses digits, by Cephes' polynomial.
#[inline(always)]
pub(super) fn tanh(x: f32) -> f32 {
    let z = x * x;
    let p = (-5.704_988_7e-3_f32)
        .mul_add(z, 2.063_909e-2)
        .mul_add(z, -5.373_971_6e-2)
        .mul_add(z, 1.333_144_2e-1)
        .mul_add(z, -3.333_328e-1);
    let near_zero = (p * z).mul_add(x, x);
    if x.abs() < 0.625 { near_zero } else { 1.0 - 2.0 / (1.0 + exp(2.0 * x)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_accurate() {
        for i in -8700..8800 {
            let x = i as f32 / 100.0 + 0.003;
            let expected = f64::from(x.clamp(-87.0, 88.0)).exp();
            let error = (f64::from(exp(x)) - expected).abs() / expected;
            assert!(error < 2.5e-7, "exp({x}): relative error {error}");
        }
        assert!((exp(0.0) - 1.0).abs() == 0.0);
    }

    #[test]
    fn gelu_agrees_with_the_definition() {
        for i in -1200..1200 {
            let x = f64::from(i) / 100.0;
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            let expected = 0.5 * x * (1.0 + inner.tanh());
            let got = f64::from(gelu_new(x as f32));
            assert!(
                (got - expected).abs() < 1e-6 * expected.abs().max(0.1),
                "gelu({x}) = {got}, not {expected}"
            );
        }
    }

    /// A soft cap of 50 multiplies an error near zero by 50.
    #[test]
    fn tanh_is_accurate_near_zero_too() {
        for i in -4000..4000 {
            let x = i as f32 / 400.0 + 1e-4;
            for x in [x, x * 1e-3] {
                let expected = f64::from(x).tanh();
                let error = (f64::from(tanh(x)) - expected).abs() / expected.abs();
                assert!(error < 5e-7, "tanh({x}): relative error {error}");
            }
        }
        assert!(tanh(0.0) == 0.0 && tanh(100.0) == 1.0 && tanh(-100.0) == -1.0);
    }

    #[test]
    fn gelu_by_the_error_function_and_tanh() {
        // From Python's math.erf and math.tanh.
        let known = [
            (-6.0, -5.919_525e-9, -0.999_987_7),
            (-3.0, -0.004_049_694, -0.995_054_8),
            (-1.0, -0.158_655_25, -0.761_594_2),
            (-0.1, -0.046_017_215, -0.099_667_99),
            (0.0, 0.0, 0.0),
            (0.5, 0.345_731_23, 0.462_117_16),
            (2.0, 1.954_499_7, 0.964_027_6),
            (9.0, 9.0, 1.0),
        ];
        for (x, expected, tangent) in known {
            assert!((gelu(x) - expected).abs() < 6e-7 * x.abs().max(1.0), "gelu({x}) = {}", gelu(x));
            assert!((tanh(x) - tangent).abs() < 3e-7, "tanh({x}) = {}", tanh(x));
        }
    }
}
