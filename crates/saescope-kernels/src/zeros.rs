//! Memory for weights and products.

use pulp::bytemuck::Zeroable;
use std::alloc::{Layout, alloc_zeroed};

/// `n` zeros, in large pages where the system has them: they are faster to touch first and to read in strides. `None` if there
/// is not enough memory.
pub fn zeros<T: Zeroable>(n: usize) -> Option<Vec<T>> {
    let layout = Layout::array::<T>(n).ok()?;
    if layout.size() == 0 {
        return Some(Vec::new());
    }
    // SAFETY: the size is not zero.
    let first = unsafe { alloc_zeroed(layout) };
    if first.is_null() {
        return None;
    }
    advise(first, layout.size());
    // SAFETY: the allocator of `Vec` has allocated `n` elements with this layout, and its zeros are a value.
    Some(unsafe { Vec::from_raw_parts(first.cast(), n, n) })
}

/// A vector of `n` elements that `write` writes, each at least once, through a pointer to the first. `None` if there is not enough
/// memory.
///
/// # Safety
/// `write` writes all `n` elements, and only these.
pub(crate) unsafe fn written(n: usize, write: impl FnOnce(*mut f32)) -> Option<Vec<f32>> {
    /// From here on, the system hands out new pages each time, which are zero.
    const LARGE: usize = 32 << 20;
    if n.checked_mul(size_of::<f32>())? >= LARGE {
        let mut out = zeros::<f32>(n)?;
        write(out.as_mut_ptr());
        return Some(out);
    }
    let mut out = Vec::new();
    out.try_reserve_exact(n).ok()?;
    write(out.as_mut_ptr());
    // SAFETY: the caller speaks for all elements, and there is memory for them.
    unsafe { out.set_len(n) };
    Some(out)
}

/// Asks for large pages. That they are refused changes only the speed.
#[cfg(target_os = "linux")]
fn advise(first: *mut u8, bytes: usize) {
    const LARGE: usize = 2 << 20;
    let skipped = first.align_offset(LARGE);
    let whole = bytes.saturating_sub(skipped) / LARGE * LARGE;
    if whole > 0 {
        // SAFETY: the range is within an allocation, and the advice changes no value in it.
        let _ = unsafe {
            rustix::mm::madvise(first.add(skipped).cast(), whole, rustix::mm::Advice::LinuxHugepage)
        };
    }
}

#[cfg(not(target_os = "linux"))]
fn advise(_: *mut u8, _: usize) {}

#[cfg(test)]
mod tests {
    use super::*;
    use half::bf16;

    #[test]
    fn zeros_are_zero_and_can_be_changed() {
        for n in [0, 1, 1000, 5 << 20] {
            let mut values = zeros::<bf16>(n).unwrap();
            assert!(values.len() == n && values.iter().all(|x| x.to_bits() == 0));
            values.iter_mut().for_each(|x| *x = bf16::ONE);
            values.push(bf16::ONE);
            assert!(values.iter().all(|x| *x == bf16::ONE));
        }
        assert!(zeros::<f32>(usize::MAX / 2).is_none() && zeros::<f32>(usize::MAX / 8).is_none());
    }
}
