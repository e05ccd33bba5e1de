//! Hook points and their names, spelled as TransformerLens spells them: `blocks.8.hook_resid_pre`.

use crate::error::{Error, did_you_mean};
use std::fmt;

/// Defines [`HookPoint`], and [`POINTS`] with the name of each.
macro_rules! hook_points {
    ($($(#[$doc:meta])* $point:ident = $name:literal,)*) => {
        /// A point in a forward pass at which activations can be read and changed.
        ///
        /// Points inside a block are ordered as a pass reaches them, so that a pass knows when it can stop.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum HookPoint {
            $($(#[$doc])* $point,)*
        }

        /// Every point with its name; for a point inside a block, the part after `blocks.{i}.`.
        pub(super) const POINTS: &[(HookPoint, &str)] = &[$((HookPoint::$point, $name)),*];
    };
}

hook_points! {
    /// `hook_embed` `[pos, d_model]`: token embeddings.
    Embed = "hook_embed",
    /// `hook_pos_embed` `[pos, d_model]`: position embeddings.
    PosEmbed = "hook_pos_embed",
    /// `blocks.{i}.hook_resid_pre` `[pos, d_model]`: the residual stream as the block receives it.
    ResidPre = "hook_resid_pre",
    /// `blocks.{i}.ln1.hook_in` `[pos, d_model]`: what attention's norm reads.
    Ln1In = "ln1.hook_in",
    /// `blocks.{i}.hook_attn_in` `[pos, n_heads, d_model]`: the residual stream, once for each head.
    AttnIn = "hook_attn_in",
    /// `blocks.{i}.hook_q_input` `[pos, n_heads, d_model]`: what each head's queries are made from, before the norm.
    QInput = "hook_q_input",
    /// `blocks.{i}.hook_k_input` `[pos, n_key_value_heads, d_model]`.
    KInput = "hook_k_input",
    /// `blocks.{i}.hook_v_input` `[pos, n_key_value_heads, d_model]`.
    VInput = "hook_v_input",
    /// `blocks.{i}.ln1.hook_scale` `[pos, 1]`: the norm's divisor.
    Ln1Scale = "ln1.hook_scale",
    /// `blocks.{i}.ln1.hook_normalized` `[pos, d_model]`: normalized, before the norm's weight and bias.
    Ln1Normalized = "ln1.hook_normalized",
    /// `blocks.{i}.attn.hook_in` `[pos, d_model]`: what attention reads, with the norm's weight and bias.
    AttnNormedIn = "attn.hook_in",
    /// `blocks.{i}.attn.hook_q` `[pos, n_heads, d_head]`.
    Q = "attn.hook_q",
    /// `blocks.{i}.attn.hook_k` `[pos, n_key_value_heads, d_head]`.
    K = "attn.hook_k",
    /// `blocks.{i}.attn.hook_v` `[pos, n_key_value_heads, d_head]`.
    V = "attn.hook_v",
    /// `blocks.{i}.attn.q_norm.hook_scale` `[pos, n_heads, 1]`.
    QNormScale = "attn.q_norm.hook_scale",
    /// `blocks.{i}.attn.q_norm.hook_normalized` `[pos, n_heads, d_head]`: before the norm's weight.
    QNormNormalized = "attn.q_norm.hook_normalized",
    /// `blocks.{i}.attn.hook_q_normed` `[pos, n_heads, d_head]`: queries after their norm, before the rotation.
    QNormed = "attn.hook_q_normed",
    /// `blocks.{i}.attn.k_norm.hook_scale` `[pos, n_key_value_heads, 1]`.
    KNormScale = "attn.k_norm.hook_scale",
    /// `blocks.{i}.attn.k_norm.hook_normalized` `[pos, n_key_value_heads, d_head]`.
    KNormNormalized = "attn.k_norm.hook_normalized",
    /// `blocks.{i}.attn.hook_k_normed` `[pos, n_key_value_heads, d_head]`: keys after their norm, before the rotation.
    KNormed = "attn.hook_k_normed",
    /// `blocks.{i}.attn.hook_rot_q` `[pos, n_heads, d_head]`: queries after the rotation.
    RotQ = "attn.hook_rot_q",
    /// `blocks.{i}.attn.hook_rot_k` `[pos, n_key_value_heads, d_head]`: keys after the rotation.
    RotK = "attn.hook_rot_k",
    /// `blocks.{i}.attn.hook_attn_scores` `[n_heads, query_pos, key_pos]`: before the softmax, -inf where masked.
    AttnScores = "attn.hook_attn_scores",
    /// `blocks.{i}.attn.hook_pattern` `[n_heads, query_pos, key_pos]`: after the softmax.
    Pattern = "attn.hook_pattern",
    /// `blocks.{i}.attn.hook_z` `[pos, n_heads, d_head]`: the values, mixed by the pattern.
    Z = "attn.hook_z",
    /// `blocks.{i}.attn.hook_result` `[pos, n_heads, d_model]`: what each head adds to the residual stream.
    Result = "attn.hook_result",
    /// `blocks.{i}.attn.hook_out` `[pos, d_model]`: the output of attention before `ln1_post`. Only in models that have
    /// this norm; elsewhere the output of attention is `hook_attn_out`.
    AttnPreNormOut = "attn.hook_out",
    /// `blocks.{i}.ln1_post.hook_scale` `[pos, 1]`: the divisor of the norm after attention.
    Ln1PostScale = "ln1_post.hook_scale",
    /// `blocks.{i}.ln1_post.hook_normalized` `[pos, d_model]`.
    Ln1PostNormalized = "ln1_post.hook_normalized",
    /// `blocks.{i}.hook_attn_out` `[pos, d_model]`: what attention adds to the residual stream.
    AttnOut = "hook_attn_out",
    /// `blocks.{i}.hook_resid_mid` `[pos, d_model]`: the residual stream between attention and MLP.
    ResidMid = "hook_resid_mid",
    /// `blocks.{i}.hook_mlp_in` `[pos, d_model]`: what the MLP's norm reads.
    MlpIn = "hook_mlp_in",
    /// `blocks.{i}.ln2.hook_scale` `[pos, 1]`.
    Ln2Scale = "ln2.hook_scale",
    /// `blocks.{i}.ln2.hook_normalized` `[pos, d_model]`.
    Ln2Normalized = "ln2.hook_normalized",
    /// `blocks.{i}.mlp.hook_in` `[pos, d_model]`: what the MLP reads, with the norm's weight and bias.
    MlpNormedIn = "mlp.hook_in",
    /// `blocks.{i}.mlp.hook_pre` `[pos, d_mlp]`: before the activation function.
    MlpPre = "mlp.hook_pre",
    /// `blocks.{i}.mlp.hook_pre_linear` `[pos, d_mlp]`: what a gated MLP multiplies its activations by.
    MlpPreLinear = "mlp.hook_pre_linear",
    /// `blocks.{i}.mlp.hook_post` `[pos, d_mlp]`: after the activation function.
    MlpPost = "mlp.hook_post",
    /// `blocks.{i}.mlp.hook_out` `[pos, d_model]`: the output of the MLP before `ln2_post`. Only in models that have
    /// this norm; elsewhere the output of the MLP is `hook_mlp_out`.
    MlpPreNormOut = "mlp.hook_out",
    /// `blocks.{i}.ln2_post.hook_scale` `[pos, 1]`: the divisor of the norm after the MLP.
    Ln2PostScale = "ln2_post.hook_scale",
    /// `blocks.{i}.ln2_post.hook_normalized` `[pos, d_model]`.
    Ln2PostNormalized = "ln2_post.hook_normalized",
    /// `blocks.{i}.hook_mlp_out` `[pos, d_model]`: what the MLP adds to the residual stream.
    MlpOut = "hook_mlp_out",
    /// `blocks.{i}.hook_resid_post` `[pos, d_model]`: the residual stream as the block leaves it.
    ResidPost = "hook_resid_post",
    /// `ln_final.hook_scale` `[pos, 1]`.
    LnFinalScale = "ln_final.hook_scale",
    /// `ln_final.hook_normalized` `[pos, d_model]`.
    LnFinalNormalized = "ln_final.hook_normalized",
    /// `unembed.hook_in` `[pos, d_model]`: what the unembedding reads.
    UnembedIn = "unembed.hook_in",
    /// `unembed.hook_out` `[pos, d_vocab]`: the logits, before the model caps them.
    UnembedOut = "unembed.hook_out",
}

impl HookPoint {
    /// Whether the point is inside a block.
    pub fn is_in_block(self) -> bool {
        (HookPoint::ResidPre..=HookPoint::ResidPost).contains(&self)
    }

    /// Whether TransformerLens computes this point only when a flag such as `use_attn_result` is set. Here
    /// its full name requests it, and a pattern such as `blocks.*` leaves it out.
    pub fn is_opt_in(self) -> bool {
        use HookPoint::*;
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
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HookName {
    part: Part,
    point: HookPoint,
}

/// A part of a model, in the order of a pass.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Part {
    BeforeBlocks,
    Block(usize),
    AfterBlocks,
}

impl HookName {
    /// The name of a point outside the blocks, such as `hook_embed`.
    pub const fn global(point: HookPoint) -> Self {
        let is_before = (point as usize) < HookPoint::ResidPre as usize;
        HookName { part: if is_before { Part::BeforeBlocks } else { Part::AfterBlocks }, point }
    }

    /// The name of a point in block `layer`.
    pub const fn in_block(layer: usize, point: HookPoint) -> Self {
        HookName { part: Part::Block(layer), point }
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
        match self.part {
            Part::Block(layer) => Some(layer),
            Part::BeforeBlocks | Part::AfterBlocks => None,
        }
    }
}

impl fmt::Display for HookName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.layer() {
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
