//! Which layout a place has, by the files that are there.

use super::place::{Place, number_behind};
use super::{
    Open, deepseek, dictionary_learning, gemma_scope, gemma_scope_2, goodfire, hook_z, llama_scope, mntss,
    mwhanna, openai, qwen_scope, saelens, sparsify, temporal,
};
use crate::error::{Error, Result};
use std::collections::BTreeSet;

/// Layouts that are a folder, by files in it; the last is the one with the weights.
const FOLDERS: [(&[&str], Open); 8] = [
    (&["cfg.json", "sae.safetensors"], sparsify::open),
    (&["cfg.json", "sae_weights.safetensors"], saelens::open),
    (&["params.npz"], gemma_scope::open),
    (&["params.safetensors"], gemma_scope_2::open),
    (&["config.json", "ae.pt"], dictionary_learning::open),
    (&["hyperparams.json", "checkpoints/final.safetensors"], llama_scope::open),
    (&["config.json", "sae_weights.safetensors"], llama_scope::open_r1_distill),
    (&["conf.yaml", "latest_ckpt.safetensors"], temporal::open),
];

/// How many names a message lists.
const SHOWN: usize = 12;

/// The place of the SAE that is meant, and how to read it.
pub(super) fn sniff<'a>(place: &Place<'a>) -> Result<(Place<'a>, Open)> {
    if let Some(open) = folder_layout(place)? {
        return Ok((place.clone(), open));
    }
    if !place.file.is_empty() {
        return Ok((place.clone(), file_layout(place)?));
    }
    // A layer of a cross-layer transcoder goes by its number alone.
    let (parent, last) = place.folder.rsplit_once('/').unwrap_or(("", &place.folder));
    if let Ok(layer) = last.parse::<usize>() {
        let above = Place { folder: parent.to_owned(), ..place.clone() };
        let file = format!("W_enc_{layer}.safetensors");
        if above.has(&file)? {
            return Ok((above.with_file(file), mntss::open));
        }
    }
    let names = place.names()?;
    let here: Vec<_> = names.iter().filter(|name| !name.contains('/') && is_weights(name)).collect();
    if let [only] = here.as_slice() {
        let place = place.with_file(only.as_str());
        let open = file_layout(&place)?;
        return Ok((place, open));
    }
    Err(none_here(place, &names)?)
}

/// The layout of the folder, if it is one that is a folder. A file that is named must be one of the layout's.
fn folder_layout(place: &Place) -> Result<Option<Open>> {
    for (files, open) in FOLDERS {
        if !place.file.is_empty() && !files.contains(&place.file.as_str()) {
            continue;
        }
        let mut complete = true;
        for file in files {
            complete = complete && place.has(file)?;
        }
        if complete {
            return Ok(Some(open));
        }
    }
    Ok(None)
}

/// The layout of one file, by its name and what it holds.
fn file_layout(place: &Place) -> Result<Open> {
    let file = place.file.as_str();
    if file.ends_with(".npz") {
        return Ok(gemma_scope::open);
    }
    if number_behind(file, "W_enc_").is_some() {
        return Ok(mntss::open);
    }
    if file.ends_with(".sae.pt") {
        return Ok(qwen_scope::open);
    }
    if place.has(&hook_z::config_name(file))? {
        return Ok(hook_z::open);
    }
    let checkpoint = place.checkpoint(file)?;
    let has = |name: &str| checkpoint.shape(name).is_some();
    if has("encoder_linear.weight") {
        return Ok(goodfire::open);
    }
    if has("pre_bias") {
        return Ok(openai::open);
    }
    if has("encoder.weight") && has("decoder.weight") && has("decoder.bias") {
        return Ok(deepseek::open);
    }
    // Both [f, d]: only these keep the encoder like that.
    if has("W_enc") && checkpoint.shape("W_enc") == checkpoint.shape("W_dec") {
        return Ok(mwhanna::open);
    }
    let there = checkpoint.names().take(SHOWN).collect::<Vec<_>>().join("`, `");
    Err(Error::mismatch(
        format!("`{}` is not an SAE in a layout that is known: it holds `{there}`", place.whole_name()),
        "if you know the layout, give its name as the option `conversion`; otherwise convert the SAE to SAELens' layout",
    ))
}

/// Whether a file is an SAE by itself, by its name.
fn is_weights(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name);
    let numbered = |start: &str| file.starts_with(start) && number_behind(file, start).is_some();
    let safetensors = file.ends_with(".safetensors");
    (file.ends_with(".pt") || file.ends_with(".pth")) && file != "ae.pt"
        || safetensors && (numbered("layer_") || numbered("W_enc_"))
}

/// The ids of the SAEs below a folder, sorted.
fn ids(names: &[String]) -> BTreeSet<String> {
    let id = |name: &String| {
        let (folder, file) = name.rsplit_once('/').unwrap_or(("", name));
        let weights = FOLDERS.iter().filter_map(|(files, _)| files.last());
        for weights in weights {
            let (below, weights) = weights.rsplit_once('/').unwrap_or(("", weights));
            if file == weights
                && let Some(folder) = folder.strip_suffix(below)
            {
                return Some(folder.trim_end_matches('/').to_owned());
            }
        }
        match number_behind(file, "W_enc_") {
            _ if !is_weights(name) => None,
            Some(layer) if folder.is_empty() => Some(layer.to_string()),
            Some(layer) => Some(format!("{folder}/{layer}")),
            None => Some(name.clone()),
        }
    };
    names.iter().filter_map(id).filter(|id| !id.is_empty()).collect()
}

/// The error for a folder that is no SAE.
fn none_here(place: &Place, names: &[String]) -> Result<Error> {
    let below = ids(names);
    if !below.is_empty() {
        let shown = below.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join("`, `");
        let more = if below.len() > SHOWN { ", …" } else { "" };
        return Ok(Error::mismatch(
            format!("`{}` is not an SAE, but a folder of {}", place.whole_name(), below.len()),
            format!("give the id of one of them as well: `{shown}`{more}"),
        ));
    }
    let all = ids(&place.repo.names(place.progress)?);
    if !place.folder.is_empty() && !all.is_empty() && names.is_empty() {
        return Ok(Error::Unknown {
            kind: "SAE id",
            name: place.folder.clone(),
            place: format!("`{}`", place.repo.name()),
            known: all.into_iter().collect(),
        });
    }
    let there = match names.len() {
        0 => "there is nothing".to_owned(),
        n if n > SHOWN => format!("there is `{}`, …", names[..SHOWN].join("`, `")),
        _ => format!("there is `{}`", names.join("`, `")),
    };
    let looked_for = FOLDERS.map(|(files, _)| format!("`{}`", files.join("` with `")));
    let error = Error::mismatch(
        format!("unknown SAE `{}`: in no layout that is known; {there}", place.whole_name()),
        format!("looked for {}, or one `.pt` or `layer_0.safetensors`", looked_for.join(", ")),
    );
    // Of the layouts that have a file here, a file that is missing: the cache may have a part only.
    let is_here = |file: &&&str| names.iter().any(|name| name == **file);
    let begun = FOLDERS.iter().rev().find(|(files, _)| files.iter().any(|file| is_here(&file)));
    let missing = begun.and_then(|(files, _)| files.iter().find(|file| !is_here(file)));
    let missing = missing.map_or("cfg.json", |file| *file);
    Ok(place.repo.lacking(&place.name(missing), error, place.progress))
}
