//! Hook points in the words of other libraries.

/// The TransformerLens name of a hook point that is named as Hugging Face modules (`model.layers.5.output`,
/// `transformer.h.5.mlp`), nnsight (`model.layers[5].input`), sparsify (`layers.3`), dictionary_learning
/// (`resid_post_layer_3`) or TransformerLens itself do; `None` where it cannot be told.
///
/// The names are not checked against those that a model here has.
pub fn hook_name_of(spelling: &str) -> Option<String> {
    let spelling = spelling.trim();
    // What an MLP gives back is what it adds: no model for which this is said has a norm in between.
    if let Some(block) = spelling.strip_suffix(".mlp.hook_out").filter(|block| block.starts_with("blocks.")) {
        return Some(format!("{block}.hook_mlp_out"));
    }
    if spelling.starts_with("blocks.") || spelling.starts_with("hook_") || spelling.starts_with("ln_final.") {
        return Some(spelling.to_owned());
    }
    if let Some((site, layer)) = spelling.rsplit_once("_layer_") {
        let site = match site {
            "resid_pre" => "hook_resid_pre",
            "resid_mid" => "hook_resid_mid",
            "resid_post" => "hook_resid_post",
            "mlp_out" => "hook_mlp_out",
            "attention_out" | "attn_out" => "hook_attn_out",
            _ => return None,
        };
        return in_block(layer, site);
    }
    let dotted = spelling.replace('[', ".").replace(']', "").replace("layers_", "layers.");
    let path: Vec<&str> = dotted.split('.').collect();
    let list = path.iter().position(|part| matches!(*part, "layers" | "h" | "blocks"));
    let Some((layer, module)) = list.and_then(|at| path.get(at + 1..)?.split_first()) else {
        let embeds = |part: &&str| matches!(*part, "embed_tokens" | "embed_in" | "wte");
        return path.iter().any(embeds).then(|| "hook_embed".to_owned());
    };
    // An output that is a tuple has the activation in front.
    let module = module.strip_suffix(&["0"]).unwrap_or(module);
    in_block(layer, site_in_block(module)?)
}

fn in_block(layer: &str, site: &str) -> Option<String> {
    layer.parse::<usize>().ok().map(|layer| format!("blocks.{layer}.{site}"))
}

/// What a path of modules inside a block is called.
fn site_in_block(module: &[&str]) -> Option<&'static str> {
    Some(match module {
        [] | ["output"] => "hook_resid_post",
        ["input"] => "hook_resid_pre",
        ["mlp"] | ["mlp" | "post_feedforward_layernorm", "output"] => "hook_mlp_out",
        ["mlp", "input"] | ["pre_feedforward_layernorm", "output"] => "mlp.hook_in",
        ["self_attn" | "attn" | "attention"] | ["self_attn" | "attn" | "attention", "output"] => {
            "hook_attn_out"
        }
        ["self_attn", "o_proj", "input"] | ["attn", "c_proj", "input"] | ["attention", "dense", "input"] => {
            "attn.hook_z"
        }
        ["mlp", "down_proj" | "c_proj" | "dense_4h_to_h", "input"] => "mlp.hook_post",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_a_point() {
        for (spelling, name) in [
            ("blocks.8.hook_resid_pre", "blocks.8.hook_resid_pre"),
            ("blocks.8.mlp.hook_out", "blocks.8.hook_mlp_out"),
            ("model.layers.5.output", "blocks.5.hook_resid_post"),
            ("model.model.layers[5].input", "blocks.5.hook_resid_pre"),
            ("model.layers[5].output[0]", "blocks.5.hook_resid_post"),
            ("layers.3", "blocks.3.hook_resid_post"),
            ("layers.3.mlp", "blocks.3.hook_mlp_out"),
            ("layers.0.attention", "blocks.0.hook_attn_out"),
            ("gpt_neox.layers.2.attention.dense.input", "blocks.2.attn.hook_z"),
            ("transformer.h.5", "blocks.5.hook_resid_post"),
            ("h.5.mlp", "blocks.5.hook_mlp_out"),
            ("embed_tokens", "hook_embed"),
            ("transformer.wte", "hook_embed"),
            ("resid_post_layer_12", "blocks.12.hook_resid_post"),
            ("attention_out_layer_3", "blocks.3.hook_attn_out"),
            ("model.layers.7.self_attn.o_proj.input", "blocks.7.attn.hook_z"),
            ("model.layers.7.pre_feedforward_layernorm.output", "blocks.7.mlp.hook_in"),
            ("model.layers.7.post_feedforward_layernorm.output", "blocks.7.hook_mlp_out"),
        ] {
            assert_eq!(hook_name_of(spelling).as_deref(), Some(name), "{spelling}");
        }
        for spelling in
            ["", "lm_head", "layers.x", "model.layers.5.post_attention_layernorm", "oddity_layer_3"]
        {
            assert_eq!(hook_name_of(spelling), None, "{spelling}");
        }
    }
}
