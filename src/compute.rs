//! Where tensors are, how weights are held in memory, and what is computed in.

use crate::device;
use crate::error::Result;
use crate::progress::{Progress, ProgressEvent};
use candle_core::{DType, Device, DeviceLocation, Tensor};
use saescope_kernels::{Precision, has_bf16};
use saescope_options::option_words;
use serde::{Deserialize, Serialize};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

option_words!(Dtype);

/// Why something is not computed in bf16.
pub(crate) const NO_BF16: &str = "this processor does not multiply bf16 (AVX512-BF16)";

/// The type in which the weights of a model are held and in which it computes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dtype {
    /// Weights are held as the checkpoint stores them, in bf16, f16 or f32. Computation is in f32: results are those of "f32".
    #[default]
    Auto,
    /// Weights are held in f32. Computation is in f32.
    F32,
    /// Weights are held in f32. On NVIDIA GPUs, the weights and inputs of products are rounded to 10 bits of mantissa.
    Tf32,
    /// The weights and the inputs of the blocks' linear layers are rounded to bf16, and their products are added up in f32.
    /// Everything else is in f32: residual stream, norms, attention, unembedding and SAE. On NVIDIA GPUs, attention rounds its
    /// inputs to bf16 too, and the SAE its input and weights to TF32.
    Bf16,
}

impl Dtype {
    /// The type in which a matrix is held that a checkpoint stores in this type.
    pub(crate) fn held(self, stored: &str) -> DType {
        match (self, stored) {
            (Dtype::Auto | Dtype::Bf16, "bf16") => DType::BF16,
            (Dtype::Auto | Dtype::Bf16, "f16") => DType::F16,
            _ => DType::F32,
        }
    }

    /// [`Dtype::held`] for the weights of a block's linear layer.
    pub(crate) fn held_in_block(self, stored: &str) -> DType {
        if self == Dtype::Bf16 { DType::BF16 } else { self.held(stored) }
    }

    /// What the products of the blocks' linear layers are computed in.
    pub(crate) fn precision(self) -> Precision {
        match self {
            Dtype::Auto | Dtype::F32 => Precision::F32,
            Dtype::Tf32 => Precision::Tf32,
            Dtype::Bf16 => Precision::Bf16,
        }
    }
}

/// Where a model's tensors are, and what it computes in.
#[derive(Debug, Clone)]
pub struct Compute {
    /// The processor or GPU.
    pub device: Device,
    /// The type in which weights are held and blocks compute.
    pub dtype: Dtype,
}

impl Compute {
    /// The device with a name, see [`device::open`], and what it computes in. If it cannot compute in `dtype`, then it computes
    /// in f32, and a warning says so.
    ///
    /// # Errors
    /// As [`device::open`].
    pub(crate) fn new(device: Option<&str>, dtype: Dtype, progress: &Progress) -> Result<Self> {
        let device = device::open(device)?;
        let dtype = match &device {
            Device::Cpu => on_cpu(dtype, has_bf16(), progress),
            Device::Metal(_) if dtype == Dtype::Tf32 => {
                in_f32(dtype, Dtype::F32, "Metal has no TF32", progress)
            }
            _ => dtype,
        };
        Ok(Compute { device, dtype })
    }

    /// What is computed in and where, "bf16" or "f32 on cuda"; `None` for f32 on the CPU.
    pub(crate) fn in_words(&self) -> Option<String> {
        let dtype = match self.dtype {
            Dtype::Auto | Dtype::F32 => "f32",
            Dtype::Tf32 => "tf32",
            Dtype::Bf16 => "bf16",
        };
        match self.device {
            Device::Cpu => (dtype != "f32").then(|| dtype.to_owned()),
            Device::Cuda(_) => Some(format!("{dtype} on cuda")),
            Device::Metal(_) => Some(format!("{dtype} on metal")),
        }
    }

    /// Prepares this thread for work on the device.
    ///
    /// # Errors
    /// Errors of the driver of a GPU.
    pub(crate) fn bind(&self) -> Result<()> {
        #[cfg(feature = "cuda")]
        if self.device.is_cuda() {
            saescope_kernels::cuda::bind(&self.device)?;
        }
        Ok(())
    }

    /// Waits for the turn of this thread to run a pass, until the result is dropped: on a GPU one pass runs at a time, so that the
    /// memory of one is enough, and the next is sent while the result of the last is used. On the CPU there are no turns.
    pub(crate) fn turn(&self) -> Option<MutexGuard<'static, ()>> {
        static TURNS: [Mutex<()>; 16] = [const { Mutex::new(()) }; 16];
        let gpu = match self.device.location() {
            DeviceLocation::Cpu => return None,
            DeviceLocation::Cuda { gpu_id } | DeviceLocation::Metal { gpu_id } => gpu_id,
        };
        Some(TURNS[gpu % TURNS.len()].lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The maximum number of tokens in a pass over a dataset, unless a single context is longer: enough for matmuls to run at full
    /// speed, few enough to need only tens of megabytes on the CPU, and half of the free memory of a GPU. A power of two, so that
    /// a little more or less free memory makes no difference. `floats` is the number of f32 that a pass keeps at a time for each
    /// token.
    pub(crate) fn batch_tokens(&self, floats: usize) -> usize {
        match &self.device {
            Device::Cpu => 1 << 10,
            device => {
                let fitting = free_memory(device) / 2 / (floats * size_of::<f32>()) as u64;
                1 << fitting.clamp(1 << 10, 1 << 14).ilog2()
            }
        }
    }
}

/// The free memory of a GPU in bytes; that of a small one if it is not known.
fn free_memory(device: &Device) -> u64 {
    const SMALL: u64 = 4 << 30;
    #[cfg(feature = "cuda")]
    if let Ok(free) = saescope_kernels::cuda::free_memory(device) {
        return free;
    }
    let _ = device;
    SMALL
}

/// The dtype that a processor computes in.
fn on_cpu(dtype: Dtype, has_bf16: bool, progress: &Progress) -> Dtype {
    match dtype {
        Dtype::Bf16 if !has_bf16 => in_f32(dtype, Dtype::Auto, NO_BF16, progress),
        Dtype::Tf32 => in_f32(dtype, Dtype::F32, "TF32 is a type of NVIDIA GPUs", progress),
        _ => dtype,
    }
}

/// Warns that a dtype is replaced by another that computes in f32.
fn in_f32(asked: Dtype, instead: Dtype, why: &str, progress: &Progress) -> Dtype {
    let name = if asked == Dtype::Bf16 { "bf16" } else { "tf32" };
    let held = if instead == Dtype::Auto { ", with the weights held as they are stored" } else { "" };
    progress.report(ProgressEvent::Warning(format!("`dtype: \"{name}\"` computes in f32 here{held}: {why}")));
    instead
}

/// Whether operators on `x` are fused: on the CPU, unless a test sets `SAESCOPE_COMPOSED` to run everything as on other devices.
pub(crate) fn is_fused(x: &Tensor) -> bool {
    static COMPOSED: LazyLock<bool> = LazyLock::new(|| std::env::var_os("SAESCOPE_COMPOSED").is_some());
    x.device().is_cpu() && !*COMPOSED
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[test]
    fn a_processor_without_bf16_computes_in_f32_and_says_so() {
        let warnings = Arc::new(Mutex::new(Vec::new()));
        let seen = warnings.clone();
        let progress = Progress::default().reporting_to(move |event| {
            if let ProgressEvent::Warning(text) = event {
                seen.lock().unwrap().push(text.clone());
            }
        });
        for dtype in [Dtype::Auto, Dtype::F32] {
            assert_eq!(on_cpu(dtype, false, &progress), dtype);
        }
        assert_eq!(on_cpu(Dtype::Bf16, true, &progress), Dtype::Bf16);
        assert!(warnings.lock().unwrap().is_empty());
        assert_eq!(on_cpu(Dtype::Bf16, false, &progress), Dtype::Auto);
        assert_eq!(on_cpu(Dtype::Tf32, true, &progress), Dtype::F32);
        let warnings = warnings.lock().unwrap();
        assert!(warnings.len() == 2 && warnings.iter().all(|warning| warning.contains("computes in f32")));
        assert!(warnings[0].contains(NO_BF16) && warnings[1].contains("TF32"));
    }
}
