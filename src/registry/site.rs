//! The hook point and the number of features of a published SAE, inferred from its names.
//!
//! Used for lists, and for checkpoints that do not say it themselves.

use super::{RegistrySae, Release};
use crate::hooks::HookName;

/// Returns the hook point that an SAE reads, if its names say so.
pub(super) fn hook(release: &Release, sae: &RegistrySae) -> Option<String> {
    native(&sae.id).or_else(|| {
        let (id, path) = (sae.id.to_lowercase(), sae.path.to_lowercase());
        let point = match release.conversion_func.as_deref()? {
            "gemma_2" if id.starts_with("embedding") => return Some("hook_embed".to_owned()),
            "gemma_2" => of_kind(release.repo_id.rsplit('-').next()?)?,
            "gemma_2_transcoder" => "ln2.hook_normalized",
            "gemma_3" => of_kind(path.split('/').next()?.trim_end_matches("_all"))?,
            "llama_scope" | "llama_scope_r1_distill" => match letter_after_layer(&id)? {
                'r' => "hook_resid_post",
                'a' => "hook_attn_out",
                'm' => "hook_mlp_out",
                _ => return None,
            },
            "mwhanna_transcoder" => "mlp.hook_in",
            "mntss_clt_layer_transcoder" => "hook_resid_mid",
            "dictionary_learning_1" | "goodfire" | "qwen_scope" | "deepseek_r1" | "temporal" => {
                "hook_resid_post"
            }
            _ => return None,
        };
        Some(format!("blocks.{}.{point}", layer(&id)?))
    })
}

/// Returns the number of features of an SAE, if its names say so.
pub(super) fn width(release: &Release, sae: &RegistrySae) -> Option<usize> {
    let neuronpedia = sae.neuronpedia.as_deref().unwrap_or_default();
    // The page's name ends in the width, before any suffix that distinguishes SAEs of equal width.
    let of_page = || short(neuronpedia.split("__").next()?.rsplit('-').next()?);
    match release.conversion_func.as_deref() {
        Some("gemma_2" | "gemma_2_transcoder" | "gemma_3") => {
            short(sae.path.split("width_").nth(1)?.split(['_', '/']).next()?)
        }
        Some("dictionary_learning_1") => match release.name.split("2pow").nth(1) {
            Some(rest) => 1_usize.checked_shl(number(rest)?.try_into().ok()?),
            None => of_page(),
        },
        Some("llama_scope" | "llama_scope_r1_distill" | "deepseek_r1") => of_page(),
        Some("connor_rob_hook_z") => number(sae.path.split("_ds").nth(1)?),
        Some("qwen_scope") => release
            .repo_id
            .split('-')
            .find_map(|part| part.strip_prefix('W')?.strip_suffix('K')?.parse::<usize>().ok())?
            .checked_mul(1024),
        None => [&sae.id, &sae.path, &release.repo_id].into_iter().find_map(|name| {
            let mut parts = name.split(['_', '-', ':', '/']);
            // `70m` is the size of a model.
            let of = |part: &str| short(part).filter(|_| !part.ends_with('m'));
            parts.find_map(|part| of(part).or_else(|| part.parse().ok().filter(|n| *n >= 512)))
        }),
        Some(_) => None,
    }
}

/// Returns the hook point at the start of an id in SAELens' own style, `blocks.3.hook_resid_post__trainer_0`.
fn native(id: &str) -> Option<String> {
    if !id.starts_with("blocks.") && !id.starts_with("hook_") {
        return None;
    }
    let id = id.to_lowercase().replace(".hook_z", ".attn.hook_z").replace(".attn.attn.", ".attn.");
    let ends = id.match_indices('_').map(|(at, _)| at).chain([id.len()]).rev();
    ends.filter_map(|end| id.get(..end)?.parse::<HookName>().ok()).next().map(|hook| hook.to_string())
}

/// Returns the hook point of a kind of SAE, by the names of both generations of Gemma Scope.
fn of_kind(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "res" | "resid_post" => "hook_resid_post",
        "mlp" | "mlp_out" => "hook_mlp_out",
        "att" | "attn_out" => "attn.hook_z",
        "transcoder" => "mlp.hook_in",
        _ => return None,
    })
}

/// Returns the number after `layer_`, `layer` or a leading `l`.
fn layer(id: &str) -> Option<usize> {
    let rest = match id.split("layer").nth(1) {
        Some(rest) => rest.trim_start_matches('_'),
        None => id.strip_prefix('l')?,
    };
    number(rest)
}

/// Returns the `r` of `l5r_8x`.
fn letter_after_layer(id: &str) -> Option<char> {
    id.strip_prefix('l')?.trim_start_matches(|c: char| c.is_ascii_digit()).chars().next()
}

/// Returns the number at the start of a string.
fn number(text: &str) -> Option<usize> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    text.get(..digits)?.parse().ok()
}

/// Parses an abbreviated width: 16384 from `16k`, 1048576 from `1m`. All of them are powers of two.
fn short(text: &str) -> Option<usize> {
    let text = text.to_lowercase();
    let (digits, unit) = match (text.strip_suffix('k'), text.strip_suffix('m')) {
        (Some(digits), _) => (digits, 1000),
        (_, Some(digits)) => (digits, 1_000_000),
        _ => return None,
    };
    digits.parse::<usize>().ok()?.checked_mul(unit)?.checked_next_power_of_two()
}
