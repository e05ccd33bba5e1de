//! Hook points and their names, spelled as TransformerLens spells them: `blocks.8.hook_resid_pre`.

use crate::error::{Error, Result, did_you_mean};
use std::fmt;
use std::str::FromStr;

/// A place in a forward pass at which activations can be read and changed.
///
/// Points inside a block come in the order in which a pass reaches them, so that a pass knows when it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum HookPoint {
    /// `hook_embed` `[pos, d_model]`: token embeddings.
    Embed,
    /// `hook_pos_embed` `[pos, d_model]`: position embeddings.
    PosEmbed,
    /// `blocks.{i}.hook_resid_pre` `[pos, d_model]`: the residual stream as the block receives it.
    ResidPre,
    /// `blocks.{i}.hook_attn_in` `[pos, n_heads, d_model]`: the residual stream, once for each head.
    AttnIn,
    /// `blocks.{i}.hook_q_input` `[pos, n_heads, d_model]`: what each head's queries are made from, before the norm.
    QInput,
    /// `blocks.{i}.hook_k_input` `[pos, n_heads, d_model]`.
    KInput,
    /// `blocks.{i}.hook_v_input` `[pos, n_heads, d_model]`.
    VInput,
    /// `blocks.{i}.ln1.hook_scale` `[pos, 1]`: the norm's divisor.
    Ln1Scale,
    /// `blocks.{i}.ln1.hook_normalized` `[pos, d_model]`: normalized, before the norm's weight and bias.
    Ln1Normalized,
    /// `blocks.{i}.attn.hook_q` `[pos, n_heads, d_head]`.
    Q,
    /// `blocks.{i}.attn.hook_k` `[pos, n_heads, d_head]`.
    K,
    /// `blocks.{i}.attn.hook_v` `[pos, n_heads, d_head]`.
    V,
    /// `blocks.{i}.attn.hook_attn_scores` `[n_heads, query_pos, key_pos]`: before the softmax, -inf where masked.
    AttnScores,
    /// `blocks.{i}.attn.hook_pattern` `[n_heads, query_pos, key_pos]`: after the softmax.
    Pattern,
    /// `blocks.{i}.attn.hook_z` `[pos, n_heads, d_head]`: the values, mixed by the pattern.
    Z,
    /// `blocks.{i}.attn.hook_result` `[pos, n_heads, d_model]`: what each head adds to the residual stream.
    Result,
    /// `blocks.{i}.hook_attn_out` `[pos, d_model]`.
    AttnOut,
    /// `blocks.{i}.hook_resid_mid` `[pos, d_model]`: the residual stream between attention and MLP.
    ResidMid,
    /// `blocks.{i}.hook_mlp_in` `[pos, d_model]`: what the MLP's norm reads.
    MlpIn,
    /// `blocks.{i}.ln2.hook_scale` `[pos, 1]`.
    Ln2Scale,
    /// `blocks.{i}.ln2.hook_normalized` `[pos, d_model]`.
    Ln2Normalized,
    /// `blocks.{i}.mlp.hook_pre` `[pos, d_mlp]`: before the activation function.
    MlpPre,
    /// `blocks.{i}.mlp.hook_post` `[pos, d_mlp]`: after it.
    MlpPost,
    /// `blocks.{i}.hook_mlp_out` `[pos, d_model]`.
    MlpOut,
    /// `blocks.{i}.hook_resid_post` `[pos, d_model]`: the residual stream as the block leaves it.
    ResidPost,
    /// `ln_final.hook_scale` `[pos, 1]`.
    LnFinalScale,
    /// `ln_final.hook_normalized` `[pos, d_model]`.
    LnFinalNormalized,
    /// `unembed.hook_in` `[pos, d_model]`: what the unembedding reads.
    UnembedIn,
    /// `unembed.hook_out` `[pos, d_vocab]`: the logits.
    UnembedOut,
}

/// Every point with its name: the whole name, or for a block's point the part behind `blocks.{i}.`.
const POINTS: [(HookPoint, &str); 29] = [
    (HookPoint::Embed, "hook_embed"),
    (HookPoint::PosEmbed, "hook_pos_embed"),
    (HookPoint::ResidPre, "hook_resid_pre"),
    (HookPoint::AttnIn, "hook_attn_in"),
    (HookPoint::QInput, "hook_q_input"),
    (HookPoint::KInput, "hook_k_input"),
    (HookPoint::VInput, "hook_v_input"),
    (HookPoint::Ln1Scale, "ln1.hook_scale"),
    (HookPoint::Ln1Normalized, "ln1.hook_normalized"),
    (HookPoint::Q, "attn.hook_q"),
    (HookPoint::K, "attn.hook_k"),
    (HookPoint::V, "attn.hook_v"),
    (HookPoint::AttnScores, "attn.hook_attn_scores"),
    (HookPoint::Pattern, "attn.hook_pattern"),
    (HookPoint::Z, "attn.hook_z"),
    (HookPoint::Result, "attn.hook_result"),
    (HookPoint::AttnOut, "hook_attn_out"),
    (HookPoint::ResidMid, "hook_resid_mid"),
    (HookPoint::MlpIn, "hook_mlp_in"),
    (HookPoint::Ln2Scale, "ln2.hook_scale"),
    (HookPoint::Ln2Normalized, "ln2.hook_normalized"),
    (HookPoint::MlpPre, "mlp.hook_pre"),
    (HookPoint::MlpPost, "mlp.hook_post"),
    (HookPoint::MlpOut, "hook_mlp_out"),
    (HookPoint::ResidPost, "hook_resid_post"),
    (HookPoint::LnFinalScale, "ln_final.hook_scale"),
    (HookPoint::LnFinalNormalized, "ln_final.hook_normalized"),
    (HookPoint::UnembedIn, "unembed.hook_in"),
    (HookPoint::UnembedOut, "unembed.hook_out"),
];

impl HookPoint {
    /// Whether every block has one of these.
    pub fn is_in_block(self) -> bool {
        (HookPoint::ResidPre..=HookPoint::ResidPost).contains(&self)
    }

    /// Whether TransformerLens computes this point only when a flag such as `use_attn_result` is set; here asking for
    /// it by its whole name is the flag, and a pattern such as `blocks.*` leaves it out.
    pub fn is_opt_in(self) -> bool {
        use HookPoint::{AttnIn, KInput, MlpIn, QInput, Result, VInput};
        matches!(self, AttnIn | QInput | KInput | VInput | Result | MlpIn)
    }

    /// Whether what is here is written into the residual stream or is the stream itself: the points whose mean over
    /// `d_model` a LayerNorm model does not see.
    pub fn is_residual(self) -> bool {
        use HookPoint::{
            AttnIn, AttnOut, Embed, KInput, MlpIn, MlpOut, PosEmbed, QInput, ResidMid, ResidPost, ResidPre,
            Result, VInput,
        };
        let written = matches!(self, Embed | PosEmbed | Result | AttnOut | MlpOut);
        written || matches!(self, ResidPre | AttnIn | QInput | KInput | VInput | ResidMid | MlpIn | ResidPost)
    }

    fn stem(self) -> &'static str {
        POINTS.iter().find(|(point, _)| *point == self).map_or("", |(_, stem)| stem)
    }
}

/// The name of a hook point in a model: a point, and for a block's point the number of the block.
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

    /// The point.
    pub fn point(&self) -> HookPoint {
        self.point
    }

    /// The number of the block, for a point in a block.
    pub fn layer(&self) -> Option<usize> {
        self.layer
    }

    /// All names of a model with so many blocks, in the order of a pass.
    pub fn all(n_layers: usize) -> Vec<HookName> {
        let globals = POINTS.iter().filter(|(p, _)| !p.is_in_block()).map(|(p, _)| HookName::global(*p));
        let in_blocks = (0..n_layers).flat_map(|layer| {
            POINTS.iter().filter(|(p, _)| p.is_in_block()).map(move |(p, _)| HookName::in_block(layer, *p))
        });
        let mut names: Vec<_> = globals.chain(in_blocks).collect();
        names.sort();
        names
    }

    /// The names that a list of names and patterns means in a model with so many blocks, in the order of a pass.
    /// In a pattern `*` stands for anything.
    ///
    /// # Errors
    /// A name that is no hook point, that lies beyond the last block, or a pattern that fits nothing.
    pub fn select<S: AsRef<str>>(patterns: &[S], n_layers: usize) -> Result<Vec<HookName>> {
        let all = HookName::all(n_layers);
        let mut selected = Vec::new();
        for pattern in patterns {
            let pattern = pattern.as_ref();
            if pattern.contains('*') {
                let before = selected.len();
                selected.extend(
                    all.iter().filter(|n| !n.point.is_opt_in() && matches_pattern(pattern, &n.to_string())),
                );
                if selected.len() == before {
                    return Err(unknown_hook(pattern, n_layers));
                }
            } else {
                let name: HookName = pattern.parse().map_err(|_| unknown_hook(pattern, n_layers))?;
                name.check(n_layers)?;
                selected.push(name);
            }
        }
        selected.sort();
        selected.dedup();
        Ok(selected)
    }

    /// Checks that a model with so many blocks has this point.
    ///
    /// # Errors
    /// Names the last block.
    pub fn check(&self, n_layers: usize) -> Result<()> {
        match self.layer {
            Some(layer) if layer >= n_layers => Err(Error::Invalid {
                what: format!("hook `{self}`"),
                expected: format!("a block from 0 to {}", n_layers.saturating_sub(1)),
                got: layer.to_string(),
                hint: Some(format!("the model has {n_layers} blocks, counted from 0")),
            }),
            _ => Ok(()),
        }
    }

    /// The place of this name in a pass.
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

impl FromStr for HookName {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let parsed = match name.strip_prefix("blocks.").and_then(|rest| rest.split_once('.')) {
            Some((layer, stem)) => layer.parse().ok().and_then(|layer| {
                let point = point_of(stem).filter(|p| p.is_in_block())?;
                Some(HookName::in_block(layer, point))
            }),
            None => point_of(name).filter(|p| !p.is_in_block()).map(HookName::global),
        };
        parsed.ok_or_else(|| unknown_hook(name, usize::MAX))
    }
}

fn point_of(stem: &str) -> Option<HookPoint> {
    POINTS.iter().find(|(_, s)| *s == stem).map(|(point, _)| *point)
}

/// The error for a name that is no hook point; the suggestion keeps the block that was meant.
fn unknown_hook(name: &str, n_layers: usize) -> Error {
    let layer =
        name.split('.').nth(1).and_then(|l| l.parse().ok()).unwrap_or(0).min(n_layers.saturating_sub(1));
    let mut known: Vec<String> = POINTS
        .iter()
        .map(|(p, _)| if p.is_in_block() { HookName::in_block(layer, *p) } else { HookName::global(*p) })
        .map(|n| n.to_string())
        .collect();
    // A misspelt or bare point, `resid_pre` for `blocks.0.hook_resid_pre`, is nearer to its stem than to its name.
    let stem = name.rsplit('.').next().unwrap_or(name);
    if did_you_mean(name, known.iter().map(String::as_str)).is_none()
        && let Some(at) = known.iter().position(|k| k.ends_with(stem))
    {
        known = vec![known.swap_remove(at)];
    }
    Error::unknown("hook", name, known)
}

/// Whether `name` fits `pattern`, in which `*` stands for any run of characters.
fn matches_pattern(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let mut last = "";
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
        last = part;
    }
    rest.is_empty() || last.is_empty() || name.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_sort_as_a_pass_runs() {
        let names = HookName::all(2);
        for name in &names {
            assert_eq!(&name.to_string().parse::<HookName>().unwrap(), name);
        }
        let text: Vec<_> = names.iter().map(ToString::to_string).collect();
        assert_eq!(text.first().map(String::as_str), Some("hook_embed"));
        assert_eq!(text.last().map(String::as_str), Some("unembed.hook_out"));
        let at = |n: &str| text.iter().position(|t| t == n).unwrap();
        assert!(at("blocks.0.hook_resid_post") < at("blocks.1.hook_resid_pre"));
        assert!(at("blocks.1.hook_resid_post") < at("ln_final.hook_scale"));
    }

    #[test]
    fn patterns() {
        assert!(matches_pattern("blocks.*.hook_resid_pre", "blocks.11.hook_resid_pre"));
        assert!(!matches_pattern("blocks.*.hook_resid_pre", "blocks.11.hook_resid_post"));
        assert!(matches_pattern("*hook_z", "blocks.1.attn.hook_z"));
        assert!(matches_pattern("blocks.1.*", "blocks.1.attn.hook_z"));
        let some = HookName::select(&["blocks.*.hook_resid_pre", "hook_embed"], 3).unwrap();
        assert_eq!(some.len(), 4);
        let block = HookName::select(&["blocks.0.*"], 3).unwrap();
        assert!(block.iter().all(|n| !n.point().is_opt_in()));
    }

    #[test]
    fn unknown_names_get_a_suggestion() {
        for (wrong, right) in [
            ("blocks.2.hook_resid_pree", "blocks.2.hook_resid_pre"),
            ("resid_mid", "blocks.0.hook_resid_mid"),
            ("blocks.1.hook_z", "blocks.1.attn.hook_z"),
        ] {
            let error = HookName::select(&[wrong], 3).unwrap_err();
            let hint = error.hint().unwrap_or_default();
            assert!(hint.contains(right), "{wrong}: {error} {hint}");
        }
        let error = HookName::select(&["blocks.7.hook_resid_pre"], 3).unwrap_err();
        assert!(error.to_string().contains("from 0 to 2"), "{error}");
    }
}
