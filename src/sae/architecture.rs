//! The architecture of an SAE: how features become active, and which activation the output stands for.

use serde::{Serialize, Serializer};
use std::mem::discriminant;

/// The architecture of an SAE. Serialized as in SAELens: `architecture` and the settings of the rule.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Architecture {
    /// How pre-activations become feature activations.
    pub rule: ActivationRule,
    /// The activation that the output reconstructs or predicts.
    pub output: OutputHook,
}

/// How pre-activations become feature activations. Serialized as its settings, without the rescaling, which is in an
/// [`Architecture`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ActivationRule {
    /// `relu(x · W_enc + b_enc)`.
    Standard,
    /// `1[x · W_enc + b_gate > 0] · relu(x · W_enc · exp(r_mag) + b_mag)`.
    Gated,
    /// `relu(h) · 1[h > threshold]` of `h = x · W_enc + b_enc`.
    JumpRelu,
    /// The positive ones among the `k` largest pre-activations.
    TopK {
        /// The number of features kept per token.
        k: usize,
        /// Whether pre-activations are multiplied by the norm of their decoder row before the selection; decoding
        /// divides by it again.
        #[serde(skip)]
        rescale_acts_by_decoder_norm: bool,
    },
    /// The `k` pre-activations of largest magnitude, with their signs: activations may be negative.
    AbsTopK {
        /// The number of features kept per token.
        k: usize,
        /// See [`ActivationRule::TopK`].
        #[serde(skip)]
        rescale_acts_by_decoder_norm: bool,
    },
    /// One feature at a time: the one whose decoder row fits the residual best, which is then subtracted from it.
    MatchingPursuit {
        /// Stops when the norm of the residual is below this; 0 for no limit.
        residual_threshold: f64,
        /// The maximum number of steps; `d_in` if not given.
        max_iterations: Option<usize>,
        /// Whether to stop when a feature is selected again.
        stop_on_duplicate_support: bool,
    },
    /// Features of the part of a token that attention over the earlier tokens of the sequence does not predict.
    Temporal {
        /// The number of attention heads.
        n_heads: usize,
        /// The number of attention layers; each predicts from what the ones before left.
        n_attn_layers: usize,
        /// The factor by which queries and keys are narrower than `d_sae`.
        bottleneck_factor: usize,
        /// The maximum number of features kept per token, the largest; `None` for no limit.
        kval_topk: Option<usize>,
        /// Whether the encoder is the transposed decoder.
        tied_weights: bool,
    },
}

/// The activation that the output of an SAE reconstructs or predicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputHook {
    /// The one that the SAE reads.
    Same,
    /// That of another hook point. The SAE is then a transcoder, which replaces a part of the model: it reads the input
    /// of an MLP and predicts the output.
    Other {
        /// Whether a linear map of the transcoder's input is added to the output.
        skip: bool,
    },
}

const TOPK: ActivationRule = ActivationRule::TopK { k: 100, rescale_acts_by_decoder_norm: false };
const ABS_TOPK: ActivationRule = ActivationRule::AbsTopK { k: 100, rescale_acts_by_decoder_norm: false };
const MATCHING_PURSUIT: ActivationRule = ActivationRule::MatchingPursuit {
    residual_threshold: 1e-2,
    max_iterations: None,
    stop_on_duplicate_support: true,
};
const TEMPORAL: ActivationRule = ActivationRule::Temporal {
    n_heads: 8,
    n_attn_layers: 1,
    bottleneck_factor: 64,
    kval_topk: None,
    tied_weights: true,
};
const TRANSCODER: OutputHook = OutputHook::Other { skip: false };
const SKIP_TRANSCODER: OutputHook = OutputHook::Other { skip: true };

impl Architecture {
    /// Every architecture by its name, SAELens' if it has one, with SAELens' default settings.
    pub const NAMES: [(&'static str, ActivationRule, OutputHook); 13] = [
        ("standard", ActivationRule::Standard, OutputHook::Same),
        ("gated", ActivationRule::Gated, OutputHook::Same),
        ("jumprelu", ActivationRule::JumpRelu, OutputHook::Same),
        ("topk", TOPK, OutputHook::Same),
        ("abstopk", ABS_TOPK, OutputHook::Same),
        ("matching_pursuit", MATCHING_PURSUIT, OutputHook::Same),
        ("temporal", TEMPORAL, OutputHook::Same),
        ("transcoder", ActivationRule::Standard, TRANSCODER),
        ("skip_transcoder", ActivationRule::Standard, SKIP_TRANSCODER),
        ("jumprelu_transcoder", ActivationRule::JumpRelu, TRANSCODER),
        ("jumprelu_skip_transcoder", ActivationRule::JumpRelu, SKIP_TRANSCODER),
        ("topk_transcoder", TOPK, TRANSCODER),
        ("topk_skip_transcoder", TOPK, SKIP_TRANSCODER),
    ];

    /// Returns the architecture of this name, with SAELens' default settings; `None` for an unknown name.
    pub fn named(name: &str) -> Option<Self> {
        let found = Self::NAMES.into_iter().find(|(known, ..)| *known == name);
        found.map(|(_, rule, output)| Architecture { rule, output })
    }

    /// Returns the name in [`Architecture::NAMES`]; "unnamed" for another combination, which no SAE can have.
    pub fn name(&self) -> &'static str {
        let is_this = |rule: &ActivationRule, output: &OutputHook| {
            discriminant(rule) == discriminant(&self.rule) && *output == self.output
        };
        let found = Self::NAMES.into_iter().find(|(_, rule, output)| is_this(rule, output));
        found.map_or("unnamed", |(name, ..)| name)
    }
}

impl ActivationRule {
    /// Returns the maximum number of active features per token, if there is one.
    pub fn k(&self) -> Option<usize> {
        match *self {
            ActivationRule::TopK { k, .. } | ActivationRule::AbsTopK { k, .. } => Some(k),
            ActivationRule::Temporal { kval_topk, .. } => kval_topk,
            _ => None,
        }
    }

    /// Whether pre-activations are multiplied by the norm of their decoder row.
    pub fn rescales(&self) -> bool {
        use ActivationRule::{AbsTopK, TopK};
        matches!(
            self,
            TopK { rescale_acts_by_decoder_norm: true, .. }
                | AbsTopK { rescale_acts_by_decoder_norm: true, .. }
        )
    }

    /// Whether the encoder is the transposed decoder.
    pub fn is_tied(&self) -> bool {
        use ActivationRule::{MatchingPursuit, Temporal};
        matches!(self, MatchingPursuit { .. } | Temporal { tied_weights: true, .. })
    }
}

impl Serialize for Architecture {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        /// What SAELens writes: the settings of transcoders do not include a rescaling, which few have.
        #[derive(Serialize)]
        struct Written {
            architecture: &'static str,
            #[serde(flatten)]
            rule: ActivationRule,
            #[serde(skip_serializing_if = "Option::is_none")]
            rescale_acts_by_decoder_norm: Option<bool>,
        }
        use ActivationRule::{AbsTopK, TopK};
        let rescales = self.rule.rescales();
        let says =
            matches!(self.rule, TopK { .. } | AbsTopK { .. } if self.output == OutputHook::Same || rescales);
        let (architecture, rule) = (self.name(), self.rule);
        Written { architecture, rule, rescale_acts_by_decoder_norm: says.then_some(rescales) }
            .serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_settings_are_serialized_as_in_saelens() {
        for (name, rule, output) in Architecture::NAMES {
            let architecture = Architecture { rule, output };
            assert_eq!((architecture.name(), Architecture::named(name)), (name, Some(architecture)));
            let settings = match name {
                "topk" | "abstopk" => r#","k":100,"rescale_acts_by_decoder_norm":false"#,
                "topk_transcoder" | "topk_skip_transcoder" => r#","k":100"#,
                "matching_pursuit" => {
                    r#","residual_threshold":0.01,"max_iterations":null,"stop_on_duplicate_support":true"#
                }
                "temporal" => {
                    r#","n_heads":8,"n_attn_layers":1,"bottleneck_factor":64,"kval_topk":null,"tied_weights":true"#
                }
                _ => "",
            };
            let json = serde_json::to_string(&architecture).unwrap();
            assert_eq!(json, format!(r#"{{"architecture":"{name}"{settings}}}"#));
        }
    }
}
