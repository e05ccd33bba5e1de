//! Linear layers of a block: read, put side by side, and held as the device multiplies them.

use super::{LinearNames, Weights, held, tensor};
use crate::checkpoint::{Held, zeros};
use crate::compute::Dtype;
use crate::error::{Error, Result};
use crate::linear::Linear;
use candle_core::{DType, Device, Tensor};
use half::{bf16, f16};
use saescope_kernels::{Matrix, Packed};

impl Weights {
    /// Reads layers with the same input as one, side by side; they may be stored as one. `by_head`: whether this one has a query,
    /// a key and a value of each head in turn, which are sorted.
    pub(super) fn linear(
        &self,
        names: &[LinearNames],
        d_in: usize,
        widths: &[usize],
        by_head: bool,
    ) -> Result<Linear> {
        let d_out = widths.iter().sum::<usize>();
        let widths = if names.len() == 1 { &[d_out] } else { widths };
        let bias_of = |(names, width): (&LinearNames, &usize)| match &names.bias {
            Some(name) => self.checkpoint.read(name, &[*width]),
            None => Ok(vec![0f32; *width]),
        };
        let has_bias = names.iter().any(|names| names.bias.is_some());
        let bias = has_bias.then(|| {
            let parts: Vec<_> = names.iter().zip(widths).map(bias_of).collect::<Result<_>>()?;
            Ok::<_, Error>(Tensor::from_vec(parts.concat(), d_out, &Device::Cpu)?)
        });
        let d_head = self.cfg.d_head;
        let sort = |x: Tensor| {
            if !by_head {
                return Ok(x);
            }
            let by_head = x.reshape((x.elem_count() / d_out, d_out / (3 * d_head), 3, d_head))?;
            by_head.transpose(1, 2)?.contiguous()?.reshape(x.shape())
        };
        let bias = bias.transpose()?.map(|bias| self.moved(sort(bias)?)).transpose()?;
        let held = self.held_in_block(names);
        let linear = match held {
            _ if !self.compute.device.is_cpu() => {
                Linear::new(sort(self.in_rows(names, d_in, widths, held)?)?, bias)
            }
            DType::BF16 => Linear::packed(self.packed::<bf16>(names, d_in, widths, by_head)?, bias),
            DType::F16 => Linear::packed(self.packed::<f16>(names, d_in, widths, by_head)?, bias),
            _ => Linear::new(sort(self.side_by_side(names, d_in, widths)?)?, bias),
        };
        Ok(linear.in_precision(self.compute.dtype.precision()))
    }

    /// The weights of layers with the same input on a GPU, `[d_in, Σ widths]`; in memory the outputs are rows, as in most
    /// checkpoints.
    fn in_rows(&self, names: &[LinearNames], d_in: usize, widths: &[usize], dtype: DType) -> Result<Tensor> {
        let parts = names.iter().zip(widths).map(|(names, width)| {
            let shape = if names.in_first { [d_in, *width] } else { [*width, d_in] };
            let stored = Dtype::Auto.held(&self.stored(&names.weight));
            let part = held!(stored, |T| tensor(self.checkpoint.read::<T>(&names.weight, &shape)?, shape)?);
            let part = self.moved(part)?.to_dtype(dtype)?;
            Ok(if names.in_first { part.t()?.contiguous()? } else { part })
        });
        Ok(Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 0)?.t()?)
    }

    /// The weights of layers with the same input in f32, `[d_in, Σ widths]`.
    fn side_by_side(&self, names: &[LinearNames], d_in: usize, widths: &[usize]) -> Result<Tensor> {
        let d_out = widths.iter().sum::<usize>();
        if let [LinearNames { weight, in_first: true, .. }] = names {
            return tensor(self.checkpoint.read::<f32>(weight, &[d_in, d_out])?, [d_in, d_out]);
        }
        let mut weight = zeros::<f32>(d_in * d_out)?;
        let mut start = 0;
        for (names, width) in names.iter().zip(widths) {
            if names.in_first {
                let part = self.checkpoint.read::<f32>(&names.weight, &[d_in, *width])?;
                for (row, part) in weight.chunks_exact_mut(d_out).zip(part.chunks_exact(*width)) {
                    row[start..start + width].copy_from_slice(part);
                }
            } else {
                self.checkpoint.read_transposed_into(&names.weight, [*width, d_in], &mut weight, start)?;
            }
            start += width;
        }
        tensor(weight, [d_in, d_out])
    }

    /// The weights of layers with the same input, packed side by side; `by_head` as for [`Weights::linear`].
    fn packed<T: Held>(
        &self,
        names: &[LinearNames],
        d_in: usize,
        widths: &[usize],
        by_head: bool,
    ) -> Result<Packed> {
        let parts = names.iter().zip(widths).map(|(names, width)| {
            let stored = if names.in_first { [d_in, *width] } else { [*width, d_in] };
            self.checkpoint.read::<T>(&names.weight, &stored)
        });
        let parts: Vec<Vec<T>> = parts.collect::<Result<_>>()?;
        let d_head = self.cfg.d_head;
        let parts = parts.iter().zip(names).zip(widths).flat_map(|((values, names), width)| {
            let steps = if names.in_first { [*width, 1] } else { [1, d_in] };
            let columns = move |start: usize, n| Matrix::new(&values[start * steps[1]..], [d_in, n], steps);
            if !by_head {
                return vec![columns(0, *width)];
            }
            let heads = width / (3 * d_head);
            let starts = (0..3).flat_map(|part| (0..heads).map(move |head| (3 * head + part) * d_head));
            starts.map(|start| columns(start, d_head)).collect()
        });
        let packed = parts.collect::<Option<Vec<_>>>().and_then(|parts| Packed::new(&parts));
        packed.ok_or_else(|| {
            Error::mismatch(
                format!(
                    "there is not enough memory for {d_in} times {} weights",
                    widths.iter().sum::<usize>()
                ),
                "close other programs, or use a smaller model",
            )
        })
    }

    /// The type in which the weights of layers are held that are parts of one.
    fn held_in_block(&self, names: &[LinearNames]) -> DType {
        let mut held =
            names.iter().map(|names| self.compute.dtype.held_in_block(&self.stored(&names.weight)));
        let first = held.next().unwrap_or(DType::F32);
        if held.all(|held| held == first) { first } else { DType::F32 }
    }
}
