//! How an SAE computes pre-activations: where, in what, and whether with a screen.

use super::Sae;
use super::architecture::ActivationRule;
use super::screen::Screen;
use crate::compute::{Compute, Dtype};
use crate::error::{Error, Result};
use candle_core::{Device, Tensor};
use saescope_kernels::{Precision, has_bf16};
use std::sync::atomic::AtomicUsize;

/// How [`super::encode`] computes pre-activations.
pub(super) struct Encoding<'a> {
    /// `W_enc`, `[d_in, d_sae]`, on the device of the activations.
    pub(super) w_enc: &'a Tensor,
    /// What its product with the activations is computed in on a GPU.
    #[cfg_attr(not(feature = "cuda"), expect(dead_code, reason = "read only on GPUs"))]
    pub(super) precision: Precision,
    /// The screen, if there is one.
    pub(super) screen: Option<&'a Screen>,
    /// The largest number of active features of a token so far, on a GPU.
    #[cfg_attr(not(feature = "cuda"), expect(dead_code, reason = "read only on GPUs"))]
    pub(super) room: &'a AtomicUsize,
}

impl Sae {
    /// Returns an SAE with the same weights that encodes with a screen or without; see [`super::SaeOptions::screen`]. On a processor
    /// that does not multiply bf16 it makes no difference.
    pub fn with_screen(&self, screen: bool) -> Self {
        Sae { screen: Some(screen), ..self.clone() }
    }

    /// Returns the SAE as it encodes the activations of a model. With a model in bf16 on the CPU it encodes with a screen, unless
    /// the SAE was loaded without; with a model in bf16 or TF32 on a GPU, pre-activations are computed in TF32.
    pub(crate) fn for_model(&self, Compute { device, dtype }: &Compute) -> Self {
        let is_exact = matches!(dtype, Dtype::Auto | Dtype::F32);
        let screen = device.is_cpu() && self.screen.unwrap_or(*dtype == Dtype::Bf16);
        let precision = if is_exact || device.is_cpu() { Precision::F32 } else { Precision::Tf32 };
        Sae { precision, ..self.with_screen(screen) }
    }

    /// Whether [`Sae::encode`] uses a screen.
    pub fn has_screen(&self) -> bool {
        self.screen == Some(true) && has_bf16()
    }

    /// Whether activations on this device are encoded there; those of temporal SAEs and of matching pursuit always on the CPU.
    pub(crate) fn encodes_on(&self, device: &Device) -> bool {
        let rule = self.cfg().architecture.rule;
        let is_slow =
            matches!(rule, ActivationRule::Temporal { .. } | ActivationRule::MatchingPursuit { .. });
        device.is_cuda() && !is_slow
    }

    /// Returns how activations on this device are encoded.
    pub(super) fn encoding(&self, device: &Device) -> Result<Encoding<'_>> {
        let (w_enc, precision, room) =
            (&self.inner.weights.encoder()?.w_enc, self.precision, &self.inner.room);
        if device.is_cpu() {
            let screen = || self.inner.screen.get(|| Screen::new(w_enc));
            let screen = self.has_screen().then(screen).transpose()?;
            return Ok(Encoding { w_enc, precision, screen, room });
        }
        let w_enc = self.inner.on_gpu.get(|| Ok(w_enc.to_device(device)?))?;
        if !w_enc.device().same_device(device) {
            return Err(Error::mismatch(
                format!("the SAE `{}` is on another GPU than the activations", self.cfg().sae_id),
                "load the SAE once for each GPU",
            ));
        }
        Ok(Encoding { w_enc, precision, screen: None, room })
    }
}
