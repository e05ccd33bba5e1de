//! Indexing of tensors as in numpy.

use crate::error::{Error, Result};
use candle_core::Tensor;

/// An index into one axis of a tensor. Negative numbers count from the end: −1 is the last element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TensorIndex {
    /// One element; the axis is removed.
    At(i64),
    /// The elements from `start` up to but without `end`; both are cut to the size of the axis.
    Range {
        /// The first element.
        start: i64,
        /// The element after the last one.
        end: i64,
    },
    /// All elements.
    All,
}

/// Indexes as numpy does: one index for each of the first axes, the others are kept.
///
/// ```
/// # fn main() -> saescope::Result<()> {
/// use saescope::tensors::{TensorIndex, index_tensor};
/// use saescope::Tensor;
///
/// let x = Tensor::new(&[[1f32, 2.0, 3.0], [4.0, 5.0, 6.0]], &saescope::candle_core::Device::Cpu)?;
/// let last_two = index_tensor(&x, &[TensorIndex::At(-1), TensorIndex::Range { start: 1, end: 3 }])?;
/// assert_eq!(last_two.to_vec1::<f32>()?, [5.0, 6.0]);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// More indices than axes; an index that is out of range.
pub fn index_tensor(x: &Tensor, indices: &[TensorIndex]) -> Result<Tensor> {
    let mut result = x.clone();
    let mut axis = 0;
    for index in indices {
        result = take(&result, axis, *index)?;
        if let TensorIndex::At(_) = index {
            result = result.squeeze(axis)?;
        } else {
            axis += 1;
        }
    }
    Ok(result)
}

/// Selects one index, or a range of indices, of an axis of `x`.
fn take(x: &Tensor, axis: usize, index: TensorIndex) -> Result<Tensor> {
    let len = x.dims().get(axis).copied().ok_or_else(|| {
        Error::invalid("the indices", format!("at most {} for a tensor {:?}", x.rank(), x.dims()), "more")
    })?;
    match index {
        TensorIndex::At(i) => {
            let out_of_range =
                || Error::invalid("the index", format!("-{len} to {}", len as i64 - 1), i.to_string());
            Ok(x.narrow(axis, wrap(i, len).ok_or_else(out_of_range)?, 1)?)
        }
        TensorIndex::Range { start, end } => {
            let bound =
                |i: i64| if i < 0 { i.saturating_add(len as i64) } else { i }.clamp(0, len as i64) as usize;
            let (start, end) = (bound(start), bound(end));
            // Where nothing is left, the view begins at the beginning: candle's operators fail on one after the last element.
            let (start, n) = if start < end { (start, end - start) } else { (0, 0) };
            Ok(x.narrow(axis, start, n)?)
        }
        TensorIndex::All => Ok(x.clone()),
    }
}

/// Converts an index into `len` items, counted from 0, or from −1 backwards; `None` if it is out of range.
pub(crate) fn wrap(index: i64, len: usize) -> Option<usize> {
    let index = if index < 0 { index.checked_add(len as i64)? } else { index };
    usize::try_from(index).ok().filter(|index| *index < len)
}
