//! The space that the activations at each hook point are vectors of.

use super::name::HookPoint;

/// A space of activations. [`ModelConfig::width`](crate::model::ModelConfig::width) is the width of its vectors in a model.
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
        use HookPoint::*;
        match self {
            Embed | ResidPre | ResidMid | ResidPost | AttnOut | MlpOut => Space::Residual,
            AttnIn | QInput | KInput | VInput | Ln1In | MlpIn => Space::ResidualPart,
            PosEmbed | Result | AttnPreNormOut | MlpPreNormOut => Space::ResidualPart,
            Ln1Normalized | AttnNormedIn | Ln1PostNormalized => Space::Normalized,
            Ln2Normalized | MlpNormedIn | Ln2PostNormalized => Space::Normalized,
            LnFinalNormalized | UnembedIn => Space::Normalized,
            Q | QNormNormalized | QNormed | RotQ | Z => Space::Heads,
            K | V | KNormNormalized | KNormed | RotK => Space::KeyValueHeads,
            MlpPre | MlpPreLinear | MlpPost => Space::Mlp,
            Ln1Scale | QNormScale | KNormScale | Ln1PostScale => Space::Scale,
            Ln2Scale | Ln2PostScale | LnFinalScale => Space::Scale,
            AttnScores | Pattern | UnembedOut => Space::NoFeatures,
        }
    }

    /// Whether the activation is the residual stream or is added to it: the points whose mean over `d_model` a
    /// LayerNorm model does not see.
    pub fn is_residual(self) -> bool {
        matches!(self.space(), Space::Residual | Space::ResidualPart)
    }
}
