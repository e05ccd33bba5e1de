//! The types in which weights are held in memory. All are exact in f32.

use half::{bf16, f16};

/// A type in which weights are held: f32, bf16 or f16. All of its bits being zero is the value 0.
pub trait Element: sealed::Sealed + Copy + Send + Sync + 'static {
    /// Widens elements to f32, without rounding; `wide` must be as long as `narrow`. Returns `narrow` itself if it is f32, and
    /// leaves `wide` as it is.
    fn widen<'a>(narrow: &'a [Self], wide: &'a mut [f32]) -> &'a [f32];

    /// The elements themselves, if they are f32.
    fn as_f32s(_: &[Self]) -> Option<&[f32]> {
        None
    }
}

mod sealed {
    /// No other type is an element: the kernels rely on what these are.
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for half::bf16 {}
    impl Sealed for half::f16 {}
}

impl Element for f32 {
    #[inline(always)]
    fn widen<'a>(narrow: &'a [f32], _: &'a mut [f32]) -> &'a [f32] {
        narrow
    }

    fn as_f32s(values: &[f32]) -> Option<&[f32]> {
        Some(values)
    }
}

impl Element for bf16 {
    #[inline(always)]
    fn widen<'a>(narrow: &'a [bf16], wide: &'a mut [f32]) -> &'a [f32] {
        each(narrow, wide, |x| f32::from_bits(u32::from(x.to_bits()) << 16))
    }
}

impl Element for f16 {
    #[inline(always)]
    fn widen<'a>(narrow: &'a [f16], wide: &'a mut [f32]) -> &'a [f32] {
        /// The difference of the exponents' biases, as a factor: 2^(127 − 15).
        const FACTOR: f32 = f32::from_bits((254 - 15) << 23);
        const INFINITE: u32 = 255 << 23;
        // Without branches and function calls, so that the compiler vectorizes it.
        each(narrow, wide, |x| {
            let bits = u32::from(x.to_bits());
            let size = f32::from_bits((bits & 0x7fff) << 13) * FACTOR;
            let infinite = if bits & 0x7c00 == 0x7c00 { INFINITE } else { 0 };
            f32::from_bits(size.to_bits() | infinite | (bits & 0x8000) << 16)
        })
    }
}

#[inline(always)]
fn each<'a, T: Copy>(narrow: &[T], wide: &'a mut [f32], f: impl Fn(T) -> f32) -> &'a [f32] {
    wide.iter_mut().zip(narrow).for_each(|(wide, narrow)| *wide = f(*narrow));
    wide
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_widened_exactly() {
        let bits: Vec<u16> = (0..=u16::MAX).collect();
        let (b, h): (Vec<_>, Vec<_>) = bits.iter().map(|x| (bf16::from_bits(*x), f16::from_bits(*x))).unzip();
        let mut wide = vec![0f32; bits.len()];
        let is_same = |wide: f32, narrow: f32| wide == narrow || (wide.is_nan() && narrow.is_nan());
        for (wide, narrow) in bf16::widen(&b, &mut wide).iter().zip(&b) {
            assert!(is_same(*wide, narrow.to_f32()), "{narrow:?}");
        }
        for (wide, narrow) in f16::widen(&h, &mut wide).iter().zip(&h) {
            assert!(is_same(*wide, narrow.to_f32()), "{narrow:?}");
        }
    }
}
