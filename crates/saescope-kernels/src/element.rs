//! The types in which weights are held in memory. All are exact in f32.

use crate::packed::HalfType;
use half::{bf16, f16};
use pulp::Simd;
use pulp::bytemuck::Zeroable;

/// A type in which weights are held: f32, bf16 or f16.
pub trait Element: sealed::Sealed + Zeroable + Copy + Send + Sync + 'static {
    /// Widens elements to f32, without rounding; `wide` must be as long as `narrow`. Returns `narrow` itself if it is f32, and
    /// leaves `wide` as it is.
    fn widen<'a>(narrow: &'a [Self], wide: &'a mut [f32]) -> &'a [f32];

    /// The elements themselves, if they are f32.
    fn as_f32s(_: &[Self]) -> Option<&[f32]> {
        None
    }
}

mod sealed {
    use super::{HalfType, bf16, f16};

    /// No other type is an element: the kernels rely on what these are.
    pub trait Sealed {
        /// The type of a packed matrix with such elements; `None` for f32.
        const HALF: Option<HalfType>;
        /// The bits of an element of 16 bits.
        fn bits(self) -> u32;
    }

    impl Sealed for f32 {
        const HALF: Option<HalfType> = None;

        fn bits(self) -> u32 {
            self.to_bits()
        }
    }

    impl Sealed for bf16 {
        const HALF: Option<HalfType> = Some(HalfType::Bf16);

        #[inline(always)]
        fn bits(self) -> u32 {
            u32::from(self.to_bits())
        }
    }

    impl Sealed for f16 {
        const HALF: Option<HalfType> = Some(HalfType::F16);

        #[inline(always)]
        fn bits(self) -> u32 {
            u32::from(self.to_bits())
        }
    }
}

/// An element of 16 bits. Two of them are packed in a `u32`, the first in its lower half.
pub(crate) trait Half {
    /// Widens two packed elements.
    fn both(pair: u32) -> [f32; 2];

    /// Widens vectors of packed elements: all the first ones, and all the second ones.
    fn widen_pairs<S: Simd>(simd: S, pairs: S::u32s) -> [S::f32s; 2];
}

impl Half for bf16 {
    #[inline(always)]
    fn both(pair: u32) -> [f32; 2] {
        [pair << 16, pair & 0xffff_0000].map(f32::from_bits)
    }

    #[inline(always)]
    fn widen_pairs<S: Simd>(simd: S, pairs: S::u32s) -> [S::f32s; 2] {
        let low = simd.wrapping_dyn_shl_u32s(pairs, simd.splat_u32s(16));
        let high = simd.and_u32s(pairs, simd.splat_u32s(0xffff_0000));
        [simd.transmute_f32s_u32s(low), simd.transmute_f32s_u32s(high)]
    }
}

impl Half for f16 {
    #[inline(always)]
    fn both(pair: u32) -> [f32; 2] {
        [pair & 0xffff, pair >> 16].map(f16_to_f32)
    }

    #[inline(always)]
    fn widen_pairs<S: Simd>(simd: S, pairs: S::u32s) -> [S::f32s; 2] {
        let low = simd.and_u32s(pairs, simd.splat_u32s(0xffff));
        let high = simd.wrapping_dyn_shr_u32s(pairs, simd.splat_u32s(16));
        [f16s_to_f32s(simd, low), f16s_to_f32s(simd, high)]
    }
}

/// [`f16_to_f32`] for vectors. A function rather than a closure: only what is inlined has the instructions of the processor.
#[inline(always)]
fn f16s_to_f32s<S: Simd>(simd: S, bits: S::u32s) -> S::f32s {
    let exponent = simd.splat_u32s(0x7c00);
    let size = simd.wrapping_dyn_shl_u32s(simd.and_u32s(bits, simd.splat_u32s(0x7fff)), simd.splat_u32s(13));
    let size = simd.mul_f32s(simd.transmute_f32s_u32s(size), simd.splat_f32s(FACTOR));
    let is_infinite = simd.equal_u32s(simd.and_u32s(bits, exponent), exponent);
    let infinite = simd.select_u32s(is_infinite, simd.splat_u32s(INFINITE), simd.splat_u32s(0));
    let sign = simd.wrapping_dyn_shl_u32s(simd.and_u32s(bits, simd.splat_u32s(0x8000)), simd.splat_u32s(16));
    let size = simd.transmute_u32s_f32s(size);
    simd.transmute_f32s_u32s(simd.or_u32s(size, simd.or_u32s(infinite, sign)))
}

/// The difference of the exponents' biases of f32 and f16, as a factor: 2^(127 − 15).
const FACTOR: f32 = f32::from_bits((254 - 15) << 23);
const INFINITE: u32 = 255 << 23;

/// Widens the bits of an f16. Without branches and function calls, so that the compiler vectorizes it.
#[inline(always)]
fn f16_to_f32(bits: u32) -> f32 {
    let size = f32::from_bits((bits & 0x7fff) << 13) * FACTOR;
    let infinite = if bits & 0x7c00 == 0x7c00 { INFINITE } else { 0 };
    f32::from_bits(size.to_bits() | infinite | (bits & 0x8000) << 16)
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
        each(narrow, wide, |x| f16_to_f32(u32::from(x.to_bits())))
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
