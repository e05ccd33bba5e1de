//! How weights are held in memory, and what is computed in.

use crate::progress::{Progress, ProgressEvent};
use candle_core::{DType, Tensor};
use saescope_options::option_words;
use serde::{Deserialize, Serialize};
use std::sync::LazyLock;

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
    /// The weights and the inputs of the blocks' linear layers are rounded to bf16, and their products are added up in f32.
    /// Everything else is in f32: residual stream, norms, attention, unembedding and SAE.
    Bf16,
}

impl Dtype {
    /// The dtype that a processor computes in: [`Dtype::Auto`] in place of [`Dtype::Bf16`], with a warning, if it does not
    /// multiply bf16.
    pub(crate) fn or_fallback(self, has_bf16: bool, progress: &Progress) -> Dtype {
        if self != Dtype::Bf16 || has_bf16 {
            return self;
        }
        progress.report(ProgressEvent::Warning(format!(
            "`dtype: \"bf16\"` computes in f32 here, with the weights held as they are stored: {NO_BF16}"
        )));
        Dtype::Auto
    }

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
            assert_eq!(dtype.or_fallback(false, &progress), dtype);
        }
        assert_eq!(Dtype::Bf16.or_fallback(true, &progress), Dtype::Bf16);
        assert!(warnings.lock().unwrap().is_empty());
        assert_eq!(Dtype::Bf16.or_fallback(false, &progress), Dtype::Auto);
        let warnings = warnings.lock().unwrap();
        assert!(
            warnings.len() == 1 && warnings[0].contains("computes in f32") && warnings[0].contains(NO_BF16)
        );
    }
}
