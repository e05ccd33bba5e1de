//! Detects the layout of a place from its files.

use super::place::{CheckpointFiles, number_after};
use super::{
    Open, deepseek, dictionary_learning, gemma_scope, gemma_scope_2, goodfire, hook_z, llama_scope, mntss,
    mwhanna, openai, qwen_scope, saelens, sparsify, temporal,
};
use crate::error::{Error, Result};
use std::collections::BTreeSet;

/// The layouts of folders, by files in them; the last file has the weights.
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

/// The maximum number of names in a message.
const SHOWN: usize = 12;

/// Returns the place of the SAE, and the function that opens it.
pub(super) fn sniff<'a>(place: &CheckpointFiles<'a>) -> Result<(CheckpointFiles<'a>, Open)> {
    if let Some(open) = folder_layout(place)? {
        return Ok((place.clone(), open));
    }
    if !place.file.is_empty() {
        return Ok((place.clone(), file_layout(place)?));
    }
    // A layer of a cross-layer transcoder is named by its number only.
    let (parent, last) = place.folder.rsplit_once('/').unwrap_or(("", &place.folder));
    if let Ok(layer) = last.parse::<usize>() {
        let above = CheckpointFiles { folder: parent.to_owned(), ..place.clone() };
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
    Err(not_an_sae(place, &names)?)
}

/// Returns the layout whose files are all in the folder. If the place names a file, it must be one of them.
fn folder_layout(place: &CheckpointFiles) -> Result<Option<Open>> {
    for (files, open) in FOLDERS {
        let is_one = place.file.is_empty() || files.contains(&place.file.as_str());
        if files.iter().try_fold(is_one, |all, file| Ok::<_, Error>(all && place.has(file)?))? {
            return Ok(Some(open));
        }
    }
    Ok(None)
}

/// Returns the layout of one file, by its name and its tensors.
fn file_layout(place: &CheckpointFiles) -> Result<Open> {
    let file = place.file.as_str();
    match () {
        _ if file.ends_with(".npz") => return Ok(gemma_scope::open),
        _ if number_after(file, "W_enc_").is_some() => return Ok(mntss::open),
        _ if file.ends_with(".sae.pt") => return Ok(qwen_scope::open),
        _ if place.has(&hook_z::config_name(file))? => return Ok(hook_z::open),
        _ => {}
    }
    let (_, checkpoint) = place.checkpoint(file)?;
    let has = |name: &str| checkpoint.shape(name).is_some();
    match () {
        _ if has("encoder_linear.weight") => return Ok(goodfire::open),
        _ if has("pre_bias") => return Ok(openai::open),
        _ if has("encoder.weight") && has("decoder.weight") && has("decoder.bias") => {
            return Ok(deepseek::open);
        }
        // Both are [f, d]: only this layout stores the encoder like that.
        _ if has("W_enc") && checkpoint.shape("W_enc") == checkpoint.shape("W_dec") => {
            return Ok(mwhanna::open);
        }
        _ => {}
    }
    let there = checkpoint.names().take(SHOWN).collect::<Vec<_>>().join("`, `");
    Err(Error::mismatch(
        format!("`{}` is not an SAE in a known layout: it contains `{there}`", place.full_name()),
        "if you know the layout, give its name as the option `conversion`; otherwise convert the SAE to SAELens' layout",
    ))
}

/// Whether this is the name of a file that is an SAE without other files.
fn is_weights(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name);
    let numbered = |start: &str| file.starts_with(start) && number_after(file, start).is_some();
    let safetensors = file.ends_with(".safetensors");
    (file.ends_with(".pt") || file.ends_with(".pth")) && file != "ae.pt"
        || safetensors && (numbered("layer_") || numbered("W_enc_"))
}

/// Returns the ids of the SAEs below a folder, sorted.
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
        match number_after(file, "W_enc_") {
            _ if !is_weights(name) => None,
            Some(layer) if folder.is_empty() => Some(layer.to_string()),
            Some(layer) => Some(format!("{folder}/{layer}")),
            None => Some(name.clone()),
        }
    };
    names.iter().filter_map(id).filter(|id| !id.is_empty()).collect()
}

/// Returns the error for a folder that is not an SAE.
fn not_an_sae(place: &CheckpointFiles, names: &[String]) -> Result<Error> {
    let below = ids(names);
    if !below.is_empty() {
        let shown = below.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join("`, `");
        let more = if below.len() > SHOWN { ", …" } else { "" };
        return Ok(Error::mismatch(
            format!("`{}` is not an SAE, but a folder of SAEs ({})", place.full_name(), below.len()),
            format!("give the id of one of them as well: `{shown}`{more}"),
        ));
    }
    let all = ids(&place.repo.names(place.progress)?);
    if !place.folder.is_empty() && !all.is_empty() && names.is_empty() {
        let error = Error::unknown("SAE id", &place.folder, all);
        return Ok(error.with_place(format!("`{}`", place.repo.name())));
    }
    let there = match names.len() {
        0 => "there are no files".to_owned(),
        n if n > SHOWN => format!("it contains `{}`, …", names[..SHOWN].join("`, `")),
        _ => format!("it contains `{}`", names.join("`, `")),
    };
    let looked_for = FOLDERS.map(|(files, _)| format!("`{}`", files.join("` with `")));
    let error = Error::mismatch(
        format!("unknown SAE `{}`: not in a known layout; {there}", place.full_name()),
        format!("looked for {}, or a single `.pt` or `layer_0.safetensors` file", looked_for.join(", ")),
    );
    // A missing file of a layout that has other files here: the cache may be incomplete.
    let is_here = |file: &&&str| names.iter().any(|name| name == **file);
    let begun = FOLDERS.iter().rev().find(|(files, _)| files.iter().any(|file| is_here(&file)));
    let missing = begun.and_then(|(files, _)| files.iter().find(|file| !is_here(file)));
    let missing = missing.map_or("cfg.json", |file| *file);
    Ok(place.repo.missing_file_error(&place.name(missing), error, place.progress))
}
