//! Where a tensor's elements are in a file, and in which order.

use super::source::{Source, Span};
use crate::error::Result;
use ::safetensors::Dtype;

/// The position and layout of one tensor's elements.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) source: usize,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    /// The stride of each axis, in elements; `None` for row-major order.
    pub(super) strides: Option<Vec<usize>>,
    pub(super) span: Span,
    /// The byte offset of the first element in the span's contents.
    pub(super) offset: u64,
}

/// The memory order of a tensor.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Order {
    /// Row-major.
    Rows,
    /// Column-major, for a matrix.
    Columns,
    /// Any other order.
    Strided,
}

impl Entry {
    /// A tensor that fills a span in row-major order.
    pub(super) fn new(dtype: Dtype, shape: Vec<usize>, span: Span) -> Self {
        Entry { source: 0, dtype, shape, strides: None, span, offset: 0 }
    }

    /// The number of elements from the first to the last in memory, inclusive; `None` if it overflows or they overlap.
    pub(super) fn reach(&self) -> Option<u64> {
        let count = byte_count(&self.shape, self.dtype)? / width(self.dtype) as u64;
        let Some(strides) = &self.strides else { return Some(count) };
        if strides.len() != self.shape.len() {
            return None;
        }
        if count == 0 {
            return Some(0);
        }
        let mut reach = 1u64;
        for (n, stride) in self.shape.iter().zip(strides) {
            reach = reach.checked_add((*n as u64 - 1).checked_mul(*stride as u64)?)?;
        }
        // A tensor that repeats an element in memory could claim any size.
        (reach >= count).then_some(reach)
    }

    /// Checks that all elements are inside the span.
    pub(super) fn check(&self, source: &Source, name: &str) -> Result<()> {
        let end = self.reach().and_then(|reach| reach.checked_mul(width(self.dtype) as u64));
        if end.and_then(|end| end.checked_add(self.offset)).is_some_and(|end| end <= self.span.size) {
            return Ok(());
        }
        let message = format!("tensor `{name}` of shape {:?}: elements are missing", self.shape);
        Err(source.damaged(message))
    }

    pub(super) fn order(&self) -> Order {
        let Some(strides) = &self.strides else { return Order::Rows };
        let mut next = 1;
        let by_rows = self.shape.iter().zip(strides).rev().all(|(n, stride)| {
            let fits = *stride == next || *n == 1;
            next *= n;
            fits
        });
        match (self.shape.as_slice(), strides.as_slice()) {
            _ if by_rows => Order::Rows,
            ([rows, columns], [1, stride]) if stride == rows || *columns == 1 => Order::Columns,
            _ => Order::Strided,
        }
    }
}

/// The size of one element in bytes.
pub(super) fn width(dtype: Dtype) -> usize {
    dtype.bitsize().div_ceil(8)
}

/// The size of a tensor in bytes; `None` if it overflows.
pub(super) fn byte_count(shape: &[usize], dtype: Dtype) -> Option<u64> {
    // Zeros are filtered out first, so that they do not hide other sizes that overflow.
    let sizes = shape.iter().map(|n| *n as u64);
    let product = sizes.clone().filter(|n| *n > 0).try_fold(width(dtype) as u64, u64::checked_mul)?;
    Some(if sizes.clone().any(|n| n == 0) { 0 } else { product })
}
