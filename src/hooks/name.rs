//! Hook points and their names, spelled as TransformerLens spells them: `blocks.8.hook_resid_pre`.

use crate::error::{Error, did_you_mean};
use std::fmt;

/// A point in a forward pass at which activations can be read and changed.
///
/// Points inside a block are ordered as a pass reaches them, so that a pass knows when it can stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum HookPoint {
    /// `hook_embed` `[pos, d_model]`: token embeddings.
    Embed,
    /// `hook_pos_embed` `[pos, d_model]`: position embeddings.
    PosEmbed,
    /// `blocks.{i}.hook_resid_pre` `[pos, d_model]`: the residual stream as the block receives it.
    ResidPre,
    /// `blocks.{i}.ln1.hook_in` `[pos, d_model]`: what attention's norm reads.
    Ln1In,
    /// `blocks.{i}.hook_attn_in` `[pos, n_heads, d_model]`: the residual stream, once for each head.
    AttnIn,
    /// `blocks.{i}.hook_q_input` `[pos, n_heads, d_model]`: what each head's queries are made from, before the norm.
    QInput,
    /// `blocks.{i}.hook_k_input` `[pos, n_key_value_heads, d_model]`.
    KInput,
    /// `blocks.{i}.hook_v_input` `[pos, n_key_value_heads, d_model]`.
    VInput,
    /// `blocks.{i}.ln1.hook_scale` `[pos, 1]`: the norm's divisor.
    Ln1Scale,
    /// `blocks.{i}.ln1.hook_normalized` `[pos, d_model]`: normalized, before the norm's weight and bias.
    Ln1Normalized,
    /// `blocks.{i}.attn.hook_in` `[pos, d_model]`: what attention reads, with the norm's weight and bias.
    AttnNormedIn,
    /// `blocks.{i}.attn.hook_q` `[pos, n_heads, d_head]`.
    Q,
    /// `blocks.{i}.attn.hook_k` `[pos, n_key_value_heads, d_head]`.
    K,
    /// `blocks.{i}.attn.hook_v` `[pos, n_key_value_heads, d_head]`.
    V,
    /// `blocks.{i}.attn.q_norm.hook_scale` `[pos, n_heads, 1]`.
    QNormScale,
    /// `blocks.{i}.attn.q_norm.hook_normalized` `[pos, n_heads, d_head]`: before the norm's weight.
    QNormNormalized,
    /// `blocks.{i}.attn.hook_q_normed` `[pos, n_heads, d_head]`: queries after their norm, before the rotation.
    QNormed,
    /// `blocks.{i}.attn.k_norm.hook_scale` `[pos, n_key_value_heads, 1]`.
    KNormScale,
    /// `blocks.{i}.attn.k_norm.hook_normalized` `[pos, n_key_value_heads, d_head]`.
    KNormNormalized,
    /// `blocks.{i}.attn.hook_k_normed` `[pos, n_key_value_heads, d_head]`: keys after their norm, before the rotation.
    KNormed,
    /// `blocks.{i}.attn.hook_rot_q` `[pos, n_heads, d_head]`: queries after the rotation.
    RotQ,
    /// `blocks.{i}.attn.hook_rot_k` `[pos, n_key_value_heads, d_head]`: keys after the rotation.
    RotK,
    /// `blocks.{i}.attn.hook_attn_scores` `[n_heads, query_pos, key_pos]`: before the softmax, -inf where masked.
    AttnScores,
    /// `blocks.{i}.attn.hook_pattern` `[n_heads, query_pos, key_pos]`: after the softmax.
    Pattern,
    /// `blocks.{i}.attn.hook_z` `[pos, n_heads, d_head]`: the values, mixed by the pattern.
    Z,
    /// `blocks.{i}.attn.hook_result` `[pos, n_heads, d_model]`: what each head adds to the residual stream.
    Result,
    /// `blocks.{i}.attn.hook_out` `[pos, d_model]`: the output of attention before `ln1_post`. Only in models that have
    /// this norm; elsewhere the output of attention is `hook_attn_out`.
    AttnPreNormOut,
    /// `blocks.{i}.ln1_post.hook_scale` `[pos, 1]`: the divisor of the norm after attention.
    Ln1PostScale,
    /// `blocks.{i}.ln1_post.hook_normalized` `[pos, d_model]`.
    Ln1PostNormalized,
    /// `blocks.{i}.hook_attn_out` `[pos, d_model]`: what attention adds to the residual stream.
    AttnOut,
    /// `blocks.{i}.hook_resid_mid` `[pos, d_model]`: the residual stream between attention and MLP.
    ResidMid,
    /// `blocks.{i}.hook_mlp_in` `[pos, d_model]`: what the MLP's norm reads.
    MlpIn,
    /// `blocks.{i}.ln2.hook_scale` `[pos, 1]`.
    Ln2Scale,
    /// `blocks.{i}.ln2.hook_normalized` `[pos, d_model]`.
    Ln2Normalized,
    /// `blocks.{i}.mlp.hook_in` `[pos, d_model]`: what the MLP reads, with the norm's weight and bias.
    MlpNormedIn,
    /// `blocks.{i}.mlp.hook_pre` `[pos, d_mlp]`: before the activation function.
    MlpPre,
    /// `blocks.{i}.mlp.hook_pre_linear` `[pos, d_mlp]`: what a gated MLP multiplies its activations by.
    MlpPreLinear,
    /// `blocks.{i}.mlp.hook_post` `[pos, d_mlp]`: after the activation function.
    MlpPost,
    /// `blocks.{i}.mlp.hook_out` `[pos, d_model]`: the output of the MLP before `ln2_post`. Only in models that have
    /// this norm; elsewhere the output of the MLP is `hook_mlp_out`.
    MlpPreNormOut,
    /// `blocks.{i}.ln2_post.hook_scale` `[pos, 1]`: the divisor of the norm after the MLP.
    Ln2PostScale,
    /// `blocks.{i}.ln2_post.hook_normalized` `[pos, d_model]`.
    Ln2PostNormalized,
    /// `blocks.{i}.hook_mlp_out` `[pos, d_model]`: what the MLP adds to the residual stream.
    MlpOut,
    /// `blocks.{i}.hook_resid_post` `[pos, d_model]`: the residual stream as the block leaves it.
    ResidPost,
    /// `ln_final.hook_scale` `[pos, 1]`.
    LnFinalScale,
    /// `ln_final.hook_normalized` `[pos, d_model]`.
    LnFinalNormalized,
    /// `unembed.hook_in` `[pos, d_model]`: what the unembedding reads.
    UnembedIn,
    /// `unembed.hook_out` `[pos, d_vocab]`: the logits, before the model caps them.
    UnembedOut,
}

/// Every point with its name; for a point inside a block, the part after `blocks.{i}.`.
pub(super) const POINTS: [(HookPoint, &str); 47] = [
    (HookPoint::Embed, "hook_embed"),
    (HookPoint::PosEmbed, "hook_pos_embed"),
    (HookPoint::ResidPre, "hook_resid_pre"),
    (HookPoint::Ln1In, "ln1.hook_in"),
    (HookPoint::AttnIn, "hook_attn_in"),
    (HookPoint::QInput, "hook_q_input"),
    (HookPoint::KInput, "hook_k_input"),
    (HookPoint::VInput, "hook_v_input"),
    (HookPoint::Ln1Scale, "ln1.hook_scale"),
    (HookPoint::Ln1Normalized, "ln1.hook_normalized"),
    (HookPoint::AttnNormedIn, "attn.hook_in"),
    (HookPoint::Q, "attn.hook_q"),
    (HookPoint::K, "attn.hook_k"),
    (HookPoint::V, "attn.hook_v"),
    (HookPoint::QNormScale, "attn.q_norm.hook_scale"),
    (HookPoint::QNormNormalized, "attn.q_norm.hook_normalized"),
    (HookPoint::QNormed, "attn.hook_q_normed"),
    (HookPoint::KNormScale, "attn.k_norm.hook_scale"),
    (HookPoint::KNormNormalized, "attn.k_norm.hook_normalized"),
    (HookPoint::KNormed, "attn.hook_k_normed"),
    (HookPoint::RotQ, "attn.hook_rot_q"),
    (HookPoint::RotK, "attn.hook_rot_k"),
    (HookPoint::AttnScores, "attn.hook_attn_scores"),
    (HookPoint::Pattern, "attn.hook_pattern"),
    (HookPoint::Z, "attn.hook_z"),
    (HookPoint::Result, "attn.hook_result"),
    (HookPoint::AttnPreNormOut, "attn.hook_out"),
    (HookPoint::Ln1PostScale, "ln1_post.hook_scale"),
    (HookPoint::Ln1PostNormalized, "ln1_post.hook_normalized"),
    (HookPoint::AttnOut, "hook_attn_out"),
    (HookPoint::ResidMid, "hook_resid_mid"),
    (HookPoint::MlpIn, "hook_mlp_in"),
    (HookPoint::Ln2Scale, "ln2.hook_scale"),
    (HookPoint::Ln2Normalized, "ln2.hook_normalized"),
    (HookPoint::MlpNormedIn, "mlp.hook_in"),
    (HookPoint::MlpPre, "mlp.hook_pre"),
    (HookPoint::MlpPreLinear, "mlp.hook_pre_linear"),
    (HookPoint::MlpPost, "mlp.hook_post"),
    (HookPoint::MlpPreNormOut, "mlp.hook_out"),
    (HookPoint::Ln2PostScale, "ln2_post.hook_scale"),
    (HookPoint::Ln2PostNormalized, "ln2_post.hook_normalized"),
    (HookPoint::MlpOut, "hook_mlp_out"),
    (HookPoint::ResidPost, "hook_resid_post"),
    (HookPoint::LnFinalScale, "ln_final.hook_scale"),
    (HookPoint::LnFinalNormalized, "ln_final.hook_normalized"),
    (HookPoint::UnembedIn, "unembed.hook_in"),
    (HookPoint::UnembedOut, "unembed.hook_out"),
];

impl HookPoint {
    /// Whether the point is inside a block.
    pub fn is_in_block(self) -> bool {
        (HookPoint::ResidPre..=HookPoint::ResidPost).contains(&self)
    }

    /// Whether TransformerLens computes this point only when a flag such as `use_attn_result` is set. Here
    /// its full name requests it, and a pattern such as `blocks.*` leaves it out.
    pub fn is_opt_in(self) -> bool {
        use HookPoint::{AttnIn, AttnNormedIn, KInput, Ln1In, MlpIn, MlpNormedIn, QInput, Result, VInput};
        matches!(
            self,
            AttnIn | QInput | KInput | VInput | Ln1In | AttnNormedIn | Result | MlpIn | MlpNormedIn
        )
    }

    fn stem(self) -> &'static str {
        POINTS.iter().find(|(point, _)| *point == self).map_or("", |(_, stem)| stem)
    }
}

/// The name of a hook point in a model: the point and, inside a block, the number of the block.
///
/// Names compare in the order in which a forward pass reaches them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct HookName {
    point: HookPoint,
    layer: Option<usize>,
}

impl HookName {
    /// The name of a point outside the blocks, such as `hook_embed`.
    pub const fn global(point: HookPoint) -> Self {
        HookName { point, layer: None }
    }

    /// The name of a point in block `layer`.
    pub const fn in_block(layer: usize, point: HookPoint) -> Self {
        HookName { point, layer: Some(layer) }
    }

    /// Parses a name that is spelled exactly as [`HookName`] prints it.
    pub(super) fn exact(name: &str) -> Option<Self> {
        match name.strip_prefix("blocks.").and_then(|rest| rest.split_once('.')) {
            Some((layer, stem)) => {
                let point = point_of(stem).filter(|p| p.is_in_block())?;
                let layer = layer.bytes().all(|b| b.is_ascii_digit()).then(|| layer.parse().ok())??;
                Some(HookName::in_block(layer, point))
            }
            None => point_of(name).filter(|p| !p.is_in_block()).map(HookName::global),
        }
    }

    /// The point, without the block.
    pub fn point(&self) -> HookPoint {
        self.point
    }

    /// The number of the block, or `None` for a point outside the blocks.
    pub fn layer(&self) -> Option<usize> {
        self.layer
    }

    /// The position of this name in the order of a pass.
    fn rank(&self) -> (usize, HookPoint) {
        match self.layer {
            Some(layer) => (layer.saturating_add(1), self.point),
            None if self.point < HookPoint::ResidPre => (0, self.point),
            None => (usize::MAX, self.point),
        }
    }
}

impl PartialOrd for HookName {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for HookName {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.rank().cmp(&other.rank())
    }
}

impl fmt::Display for HookName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.layer {
            Some(layer) => write!(f, "blocks.{layer}.{}", self.point.stem()),
            None => f.write_str(self.point.stem()),
        }
    }
}

impl fmt::Debug for HookName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn point_of(stem: &str) -> Option<HookPoint> {
    POINTS.iter().find(|(_, s)| *s == stem).map(|(point, _)| *point)
}

/// The error for a name that is not one of the `known` points; the suggestion keeps the block of the name, or is in block
/// `last_layer` if that is lower.
pub(super) fn unknown_hook(name: &str, last_layer: usize, known: impl Iterator<Item = HookPoint>) -> Error {
    let layer = name.split('.').nth(1).and_then(|l| l.parse().ok()).unwrap_or(0).min(last_layer);
    let mut known: Vec<String> = known
        .map(|p| if p.is_in_block() { HookName::in_block(layer, p) } else { HookName::global(p) })
        .map(|n| n.to_string())
        .collect();
    // A misspelled or bare point, `resid_pre` for `blocks.0.hook_resid_pre`, is closer to the stem than to the name.
    let stem = name.rsplit('.').next().unwrap_or(name);
    let nearest = did_you_mean(name, known.iter().map(String::as_str));
    if nearest.is_none()
        && let Some(at) = known.iter().position(|k| k.ends_with(stem))
    {
        known = vec![known.swap_remove(at)];
    } else if name.split('.').count() == 3
        && let Some(newer) = ["hook_in", "hook_out"].into_iter().find(|newer| stem.starts_with(newer))
    {
        // The newer name of the residual stream, with extra characters after it.
        known = vec![format!("blocks.{layer}.{newer}")];
    }
    Error::unknown("hook", name, known)
}
