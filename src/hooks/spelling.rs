//! Names of hook points in other libraries: TransformerLens 3 (`blocks.5.mlp.hook_out`), Hugging Face modules
//! (`model.layers.5.mlp.down_proj`), nnsight (`model.layers[5].output[0]`), sparsify (`layers.5.mlp`) and
//! dictionary_learning (`resid_post_layer_5`).
//!
//! A module has an input and an output; a norm also has a scale and a normalized activation. The name of a module by
//! itself means its output. Some names mean different points in different models: `post_attention_layernorm` is before
//! the MLP in Llama and after attention in Gemma 2.

use super::name::{HookName, HookPoint, POINTS, unknown_hook};
use crate::error::{Error, Result};
use std::str::FromStr;

/// The properties of a model that decide what a name means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Traits {
    /// Attention and MLP read a norm of the residual stream.
    pub(super) has_pre_norm: bool,
    /// The outputs of attention and MLP are normalized before they are added to the residual stream.
    pub(super) has_post_norm: bool,
    /// The MLP multiplies its activations by a second projection of its input.
    pub(super) is_gated: bool,
}

/// Every kind of model, the most common one first.
const KINDS: [Traits; 4] = [
    Traits { has_pre_norm: true, has_post_norm: false, is_gated: true },
    Traits { has_pre_norm: true, has_post_norm: false, is_gated: false },
    Traits { has_pre_norm: true, has_post_norm: true, is_gated: true },
    Traits { has_pre_norm: false, has_post_norm: true, is_gated: true },
];

/// What a name means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Exactly this point.
    Point(Spelled),
    /// A point that depends on the model; this one in most models.
    Depends(HookPoint),
    /// A module of a model without a hook point.
    NoPoint,
    /// An unknown name.
    Unknown,
}

/// A hook point under another library's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spelled {
    pub(super) name: HookName,
    /// Whether the name is the input of a module that shares this point with others: it can be read under this name,
    /// but not changed for that module only.
    pub(super) is_shared: bool,
    /// A point of the named norm, if any: a model without this point does not have the norm.
    pub(super) norm: Option<HookPoint>,
}

impl Spelled {
    /// A point under its own name.
    pub(super) fn exactly(name: HookName) -> Self {
        Spelled { name, is_shared: false, norm: None }
    }
}

/// Returns TransformerLens' name of a hook point, given its name in Hugging Face (`model.layers.5.output`,
/// `transformer.h.5.mlp.c_proj`), nnsight (`model.layers[5].input`), sparsify (`layers.3`), dictionary_learning
/// (`resid_post_layer_3`) or TransformerLens itself. `None` if it is unknown or depends on the model, as
/// `model.layers.5.post_attention_layernorm` does.
///
/// ```
/// use saescope::hooks::hook_name_of;
///
/// assert_eq!(hook_name_of("model.layers.5").as_deref(), Some("blocks.5.hook_resid_post"));
/// assert_eq!(hook_name_of("layers.5.mlp").as_deref(), Some("blocks.5.mlp.hook_out"));
/// ```
pub fn hook_name_of(spelling: &str) -> Option<String> {
    spelling.parse::<HookName>().ok().map(|name| name.to_string())
}

impl FromStr for HookName {
    type Err = Error;

    /// Parses TransformerLens' name of a point, or another library's.
    ///
    /// # Errors
    /// An unknown name, or one that means different points in different models;
    /// [`HookPoints::find`](super::HookPoints::find) knows the model.
    fn from_str(name: &str) -> Result<Self> {
        if let Some(found) = HookName::exact(name) {
            return Ok(found);
        }
        match meaning(name, None) {
            Meaning::Point(Spelled { name, .. }) => Ok(name),
            Meaning::Depends(_) => Err(Error::mismatch(
                format!("the hook `{name}` means different points in different models"),
                "look it up in a model, or use TransformerLens' name of the point: `hook_names()` lists them",
            )),
            Meaning::NoPoint | Meaning::Unknown => {
                Err(unknown_hook(name, usize::MAX, POINTS.iter().map(|(point, _)| *point)))
            }
        }
    }
}

/// The point that a name means in every model, or in most.
pub(crate) fn usual_point(spelling: &str) -> Option<HookPoint> {
    match (HookName::exact(spelling), meaning(spelling, None)) {
        (Some(name), _) => Some(name.point()),
        (None, Meaning::Point(spelled)) => Some(spelled.name.point()),
        (None, Meaning::Depends(point)) => Some(point),
        (None, Meaning::NoPoint | Meaning::Unknown) => None,
    }
}

/// What a name means in a model of this kind with `n_layers` blocks or, if `traits` is `None`, in every model.
pub(super) fn meaning(spelling: &str, traits: Option<(Traits, usize)>) -> Meaning {
    let spelling = spelling.trim();
    if let Some(name) = dictionary_learning(spelling) {
        return Meaning::Point(Spelled::exactly(name));
    }
    let dotted = spelling.replace('[', ".").replace(']', "").replace("layers_", "layers.");
    let mut path: Vec<&str> = dotted.split('.').collect();
    // An activation in a tuple is its first element.
    while path.len() > 1 && path.last() == Some(&"0") && !is_list(path.get(path.len() - 2)) {
        path.pop();
    }
    let side = path.last().and_then(|last| Side::of(last));
    if side.is_some() {
        path.pop();
    }
    let side = side.unwrap_or(Side::Output);
    let start = path.iter().position(|part| !is_wrapper(part)).unwrap_or(path.len());
    let in_model = |kind| match &path[start..] {
        [list, layer, module @ ..] if is_list(Some(list)) => {
            let layer = layer.bytes().all(|byte| byte.is_ascii_digit()).then(|| layer.parse().ok()).flatten();
            in_block(layer?, &unified(module), side, kind)
        }
        [module] => outside_blocks(module, side, traits.map(|(_, n_layers)| n_layers)),
        _ => None,
    };
    let [usual, others @ ..] = KINDS.map(|kind| in_model(traits.map_or(kind, |(kind, _)| kind)));
    match usual {
        Some(Some(found)) => {
            let point = found.name.point();
            // The number of the last block may not be known.
            let is_complete = found.name.layer().is_some() || !point.is_in_block();
            let is_certain = is_complete && others.iter().all(|other| *other == usual);
            if is_certain { Meaning::Point(found) } else { Meaning::Depends(point) }
        }
        // Not a point in the most common kind of model: a point in another kind, or in none.
        Some(None) => others
            .iter()
            .find_map(|other| other.flatten())
            .map_or(Meaning::NoPoint, |found| Meaning::Depends(found.name.point())),
        None => Meaning::Unknown,
    }
}

/// The activation of a module that a name means; also the index among the four points of a norm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Input,
    /// A norm's divisor.
    Scale,
    /// A norm's output before its weight and bias.
    Normalized,
    Output,
}

impl Side {
    fn of(word: &str) -> Option<Self> {
        Some(match word {
            "input" | "inputs" | "hook_in" => Side::Input,
            "hook_scale" => Side::Scale,
            "hook_normalized" => Side::Normalized,
            "output" | "hook_out" => Side::Output,
            _ => return None,
        })
    }
}

/// Whether a part of a path is the name of a model's list of blocks.
fn is_list(part: Option<&&str>) -> bool {
    matches!(part, Some(&("layers" | "h" | "blocks")))
}

/// Whether a part of a path is the name of a wrapper around the blocks or the language model.
fn is_wrapper(part: &str) -> bool {
    matches!(part, "model" | "base_model" | "language_model" | "text_model" | "transformer" | "gpt_neox")
}

/// A path inside a block, with every name for attention replaced by `attn`.
fn unified<'a>(module: &[&'a str]) -> Vec<&'a str> {
    match module {
        ["attn", "attention", rest @ ..] | ["attn" | "self_attn" | "attention", rest @ ..] => {
            [&["attn"], rest].concat()
        }
        other => other.to_vec(),
    }
}

/// The point of a module inside a block: `None` for an unknown module, `Some(None)` for one without a point.
fn in_block(layer: usize, module: &[&str], side: Side, kind: Traits) -> Option<Option<Spelled>> {
    use HookPoint::*;
    let norm = |sides: [HookPoint; 4]| Some(sides[side as usize]);
    let linear = |input: HookPoint, output: Option<HookPoint>| match side {
        Side::Input => Some(input),
        Side::Output => output,
        Side::Scale | Side::Normalized => None,
    };
    let mut is_shared = false;
    let mut one_of_several = |input: HookPoint, output: HookPoint| {
        is_shared = side == Side::Input;
        linear(input, Some(output))
    };
    let before_attention = [Ln1In, Ln1Scale, Ln1Normalized, AttnNormedIn];
    let after_attention = [AttnPreNormOut, Ln1PostScale, Ln1PostNormalized, AttnOut];
    let before_mlp = [MlpIn, Ln2Scale, Ln2Normalized, MlpNormedIn];
    let after_mlp = [MlpPreNormOut, Ln2PostScale, Ln2PostNormalized, MlpOut];
    // OLMo 2 has norms only after attention and MLP; TransformerLens calls these ln1 and ln2.
    let only_after = kind.has_post_norm && !kind.has_pre_norm;
    let point = match module {
        [] => linear(ResidPre, Some(ResidPost)),
        ["ln1"] if only_after => norm(after_attention),
        ["ln2"] if only_after => norm(after_mlp),
        ["ln1" | "ln_1" | "input_layernorm"] => norm(before_attention),
        ["ln2" | "ln_2" | "pre_feedforward_layernorm"] => norm(before_mlp),
        ["post_attention_layernorm"] if kind.has_post_norm => norm(after_attention),
        ["post_attention_layernorm"] => norm(before_mlp),
        ["ln1_post"] => norm(after_attention),
        ["ln2_post" | "post_feedforward_layernorm"] => norm(after_mlp),
        ["attn"] => linear(AttnNormedIn, Some(AttnPreNormOut)),
        ["attn", "q" | "q_proj"] => one_of_several(AttnNormedIn, Q),
        ["attn", "k" | "k_proj"] => one_of_several(AttnNormedIn, K),
        ["attn", "v" | "v_proj"] => one_of_several(AttnNormedIn, V),
        ["attn", "c_attn" | "query_key_value"] => linear(AttnNormedIn, None),
        ["attn", "q_norm" | "q_layernorm"] => norm([Q, QNormScale, QNormNormalized, QNormed]),
        ["attn", "k_norm" | "k_layernorm"] => norm([K, KNormScale, KNormNormalized, KNormed]),
        ["attn", "o" | "o_proj" | "c_proj" | "dense" | "out_proj"] => linear(Z, Some(AttnPreNormOut)),
        ["attn", "resid_dropout"] | ["post_attention_dropout"] => {
            linear(AttnPreNormOut, Some(AttnPreNormOut))
        }
        ["mlp"] => linear(MlpNormedIn, Some(MlpPreNormOut)),
        ["mlp", "gate" | "gate_proj"] => one_of_several(MlpNormedIn, MlpPre),
        ["mlp", "up_proj"] => one_of_several(MlpNormedIn, MlpPreLinear),
        ["mlp", "in"] if kind.is_gated => one_of_several(MlpNormedIn, MlpPreLinear),
        ["mlp", "in" | "c_fc" | "fc1" | "dense_h_to_4h"] => linear(MlpNormedIn, Some(MlpPre)),
        ["mlp", "act" | "act_fn" | "activation_fn"] => linear(MlpPre, (!kind.is_gated).then_some(MlpPost)),
        ["mlp", "out" | "down_proj" | "c_proj" | "fc2" | "dense_4h_to_h"] => {
            linear(MlpPost, Some(MlpPreNormOut))
        }
        ["mlp", "dropout"] | ["post_mlp_dropout"] => linear(MlpPreNormOut, Some(MlpPreNormOut)),
        _ => return None,
    };
    // The input of a norm exists without the norm, so its scale is checked, too.
    let norm_scale = || in_block(layer, module, Side::Scale, kind).flatten().map(|found| found.name.point());
    let norm = if side == Side::Input { norm_scale() } else { None };
    Some(point.map(|point| Spelled { name: HookName::in_block(layer, point), is_shared, norm }))
}

/// The point of a module outside the blocks, like [`in_block`]; a point in the last block, whose number is not known, is
/// global.
fn outside_blocks(module: &str, side: Side, n_layers: Option<usize>) -> Option<Option<Spelled>> {
    use HookPoint::*;
    let point = match (module, side) {
        ("embed" | "wte" | "embed_tokens" | "embed_in", Side::Output) => Some(Embed),
        ("pos_embed" | "wpe", Side::Output) => Some(PosEmbed),
        ("drop" | "emb_dropout" | "embed_dropout", Side::Input | Side::Output) => Some(ResidPre),
        ("ln_final" | "ln_f" | "final_layer_norm" | "final_layernorm" | "norm", side) => {
            Some([ResidPost, LnFinalScale, LnFinalNormalized, UnembedIn][side as usize])
        }
        ("unembed" | "lm_head" | "embed_out", Side::Input) => Some(UnembedIn),
        ("unembed" | "lm_head" | "embed_out" | "hook_unembed", Side::Output) => Some(UnembedOut),
        ("embed" | "wte" | "embed_tokens" | "embed_in" | "pos_embed" | "wpe" | "rotary_emb", _) => None,
        _ => return None,
    };
    let layer = match point {
        Some(ResidPre) => Some(0),
        Some(ResidPost) => n_layers.and_then(|n| n.checked_sub(1)),
        _ => None,
    };
    let name = |point| layer.map_or(HookName::global(point), |layer| HookName::in_block(layer, point));
    Some(point.map(|point| Spelled::exactly(name(point))))
}

/// Parses dictionary_learning's `resid_post_layer_12`, or `mlp_out_layer3` as in the folders of its first dictionaries.
fn dictionary_learning(spelling: &str) -> Option<HookName> {
    let (site, layer) = spelling.rsplit_once("_layer")?;
    let layer = layer.strip_prefix('_').unwrap_or(layer);
    let point = match site {
        "resid_pre" => HookPoint::ResidPre,
        "resid_mid" => HookPoint::ResidMid,
        "resid_post" | "resid_out" => HookPoint::ResidPost,
        "mlp_out" => HookPoint::MlpPreNormOut,
        "attention_out" | "attn_out" => HookPoint::AttnPreNormOut,
        _ => return None,
    };
    let is_number = !layer.is_empty() && layer.bytes().all(|byte| byte.is_ascii_digit());
    layer.parse().ok().filter(|_| is_number).map(|layer| HookName::in_block(layer, point))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_point() {
        for (spelling, name) in [
            ("blocks.8.hook_resid_pre", "blocks.8.hook_resid_pre"),
            ("blocks.8.mlp.hook_out", "blocks.8.mlp.hook_out"),
            ("blocks.8.hook_in", "blocks.8.hook_resid_pre"),
            ("blocks.8.hook_out", "blocks.8.hook_resid_post"),
            ("blocks.8.ln2_post.hook_in", "blocks.8.mlp.hook_out"),
            ("embed.hook_out", "hook_embed"),
            ("model.layers.5.output", "blocks.5.hook_resid_post"),
            ("model.layers.0", "blocks.0.hook_resid_post"),
            ("model.model.layers[5].input", "blocks.5.hook_resid_pre"),
            ("model.layers[5].inputs[0][0]", "blocks.5.hook_resid_pre"),
            ("model.layers[5].output[0]", "blocks.5.hook_resid_post"),
            ("model.language_model.layers.5", "blocks.5.hook_resid_post"),
            ("layers.3", "blocks.3.hook_resid_post"),
            ("layers.3.mlp", "blocks.3.mlp.hook_out"),
            ("layers.0.attention", "blocks.0.attn.hook_out"),
            ("gpt_neox.layers.2.attention.dense.input", "blocks.2.attn.hook_z"),
            ("transformer.h.2.attn.attention.out_proj", "blocks.2.attn.hook_out"),
            ("transformer.h.5", "blocks.5.hook_resid_post"),
            ("h.5.mlp", "blocks.5.mlp.hook_out"),
            ("embed_tokens", "hook_embed"),
            ("transformer.wte", "hook_embed"),
            ("lm_head", "unembed.hook_out"),
            ("model.norm", "unembed.hook_in"),
            ("transformer.drop", "blocks.0.hook_resid_pre"),
            ("resid_post_layer_12", "blocks.12.hook_resid_post"),
            ("mlp_out_layer3", "blocks.3.mlp.hook_out"),
            ("attention_out_layer_3", "blocks.3.attn.hook_out"),
            ("model.layers.7.self_attn.o_proj.input", "blocks.7.attn.hook_z"),
            ("model.layers.7.self_attn.q_proj", "blocks.7.attn.hook_q"),
            ("model.layers.7.mlp.down_proj", "blocks.7.mlp.hook_out"),
            ("model.layers.7.pre_feedforward_layernorm.output", "blocks.7.mlp.hook_in"),
            ("model.layers.7.post_feedforward_layernorm.output", "blocks.7.hook_mlp_out"),
        ] {
            assert_eq!(hook_name_of(spelling).as_deref(), Some(name), "{spelling}");
        }
        for spelling in [
            "",
            "layers.x",
            "layers.+3",
            "model.layers.5.output.1",
            "model.layers.5.post_attention_layernorm",
            "oddity_layer_3",
            "resid_post_layer_+3",
            "vision_tower.encoder.layers.3",
            "model.layers.5.self_attn.rotary_emb",
        ] {
            assert_eq!(hook_name_of(spelling), None, "{spelling}");
        }
    }

    #[test]
    fn some_names_depend_on_the_model() {
        let [llama, gpt2, gemma2, olmo2] = KINDS;
        for (spelling, points) in [
            (
                "model.layers.1.post_attention_layernorm",
                [(llama, "blocks.1.mlp.hook_in"), (gemma2, "blocks.1.hook_attn_out")],
            ),
            ("blocks.1.ln1.hook_in", [(llama, "blocks.1.ln1.hook_in"), (olmo2, "blocks.1.attn.hook_out")]),
            (
                "blocks.1.ln2.hook_scale",
                [(gemma2, "blocks.1.ln2.hook_scale"), (olmo2, "blocks.1.ln2_post.hook_scale")],
            ),
            (
                "blocks.1.mlp.in.hook_out",
                [(llama, "blocks.1.mlp.hook_pre_linear"), (gpt2, "blocks.1.mlp.hook_pre")],
            ),
            ("model.norm.input", [(llama, "blocks.6.hook_resid_post"), (gpt2, "blocks.6.hook_resid_post")]),
        ] {
            assert!(matches!(meaning(spelling, None), Meaning::Depends(_)), "{spelling}");
            for (kind, name) in points {
                let Meaning::Point(spelled) = meaning(spelling, Some((kind, 7))) else {
                    panic!("{spelling}: no point")
                };
                assert_eq!(spelled.name.to_string(), name, "{spelling}");
            }
        }
        assert_eq!(meaning("layers.1.mlp.act_fn.output", Some((llama, 7))), Meaning::NoPoint);
        assert_eq!(meaning("transformer.h.1.attn.c_attn", None), Meaning::NoPoint);
        assert!(matches!(
            meaning("model.layers.1.self_attn.q_proj.input", None),
            Meaning::Point(Spelled { is_shared: true, .. })
        ));
    }
}
