//! The space that the activations at each hook point are vectors of.

use super::name::HookPoint;

/// A space of activations. [`ModelConfig::width`](crate::ModelConfig::width) is the width of its vectors in a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Space {
    /// `d_model`: the residual stream, the token embeddings, and what attention or an MLP adds to it.
    Residual,
    /// `d_model`: other vectors of the residual stream's space: position embeddings, what one head adds, outputs before
    /// a norm, and copies of the stream for one reader.
    ResidualPart,
    /// `d_model`: the residual stream after a norm.
    Normalized,
    /// `n_heads · d_head`: queries and mixed values.
    Heads,
    /// `n_key_value_heads · d_head`: keys and values.
    KeyValueHeads,
    /// `d_mlp`: inside an MLP.
    Mlp,
    /// 1: a norm's divisor.
    Scale,
    /// No vector that an SAE could read: attention scores and patterns, logits.
    NoFeatures,
}

impl HookPoint {
    /// The space of the activations at this point.
    pub fn space(self) -> Space {
        match self {
            HookPoint::Embed
            | HookPoint::ResidPre
            | HookPoint::ResidMid
            | HookPoint::ResidPost
            | HookPoint::AttnOut
            | HookPoint::MlpOut => Space::Residual,
            HookPoint::PosEmbed
            | HookPoint::Ln1In
            | HookPoint::AttnIn
            | HookPoint::QInput
            | HookPoint::KInput
            | HookPoint::VInput
            | HookPoint::Result
            | HookPoint::AttnPreNormOut
            | HookPoint::MlpIn
            | HookPoint::MlpPreNormOut => Space::ResidualPart,
            HookPoint::Ln1Normalized
            | HookPoint::AttnNormedIn
            | HookPoint::Ln1PostNormalized
            | HookPoint::Ln2Normalized
            | HookPoint::MlpNormedIn
            | HookPoint::Ln2PostNormalized
            | HookPoint::LnFinalNormalized
            | HookPoint::UnembedIn => Space::Normalized,
            HookPoint::Q
            | HookPoint::QNormNormalized
            | HookPoint::QNormed
            | HookPoint::RotQ
            | HookPoint::Z => Space::Heads,
            HookPoint::K
            | HookPoint::V
            | HookPoint::KNormNormalized
            | HookPoint::KNormed
            | HookPoint::RotK => Space::KeyValueHeads,
            HookPoint::MlpPre | HookPoint::MlpPreLinear | HookPoint::MlpPost => Space::Mlp,
            HookPoint::Ln1Scale
            | HookPoint::QNormScale
            | HookPoint::KNormScale
            | HookPoint::Ln1PostScale
            | HookPoint::Ln2Scale
            | HookPoint::Ln2PostScale
            | HookPoint::LnFinalScale => Space::Scale,
            HookPoint::AttnScores | HookPoint::Pattern | HookPoint::UnembedOut => Space::NoFeatures,
        }
    }

    /// Whether the activation is the residual stream or is added to it: the points whose mean over `d_model` a
    /// LayerNorm model does not see.
    pub fn is_residual(self) -> bool {
        matches!(self.space(), Space::Residual | Space::ResidualPart)
    }
}
