//! Connects a model and an SAE: the activation at the SAE's hook, as the SAE was trained to read it.

use crate::error::{Error, Result};
use crate::hooks::{ActivationCache, HookPoint, Space, usual_point};
use crate::model::{Model, NormKind, TokenBatch};
use crate::progress::{Progress, ProgressEvent};
use crate::sae::{FeatureActs, Sae};
use candle_core::Tensor;

/// Returns the features whose activation exceeds `threshold` in magnitude at each token of a batch, BOS included.
///
/// Runs the model up to the SAE's hook and gives the SAE the input it was trained on. Only this module knows both.
///
/// # Errors
/// An SAE that does not fit the model; see [`Model::run_until`] and [`Sae::encode_sequences`].
pub fn feature_acts(
    model: &Model,
    sae: &Sae,
    batch: &TokenBatch,
    threshold: f32,
    progress: &Progress,
) -> Result<FeatureActs> {
    check_fits(model, sae)?;
    let hook = sae.hook_in(&model.cfg().hook_points())?;
    let turn = model.compute().turn();
    let mut cache = ActivationCache::new(vec![hook]).on_device();
    model.run_until(batch, None, &mut cache, progress)?;
    let x = activation(model, sae, &cache)?;
    drop(cache);
    let sequences: Vec<_> = batch.sequences().collect();
    // Who has the turn must not wait for threads of a pool, which may wait for the turn.
    let turn = turn.filter(|_| sae.encodes_on(x.device()));
    let features = sae.for_model(model.compute()).encode_sequences(&x, &sequences, threshold, progress);
    drop(turn);
    features
}

/// The input of an SAE, `[tokens, …]`: the activation at its hook, minus the value bias if the SAE was trained so.
pub(crate) fn activation(model: &Model, sae: &Sae, cache: &ActivationCache) -> Result<Tensor> {
    let hook = sae.hook_in(&model.cfg().hook_points())?;
    let x = cache.get(&hook.to_string())?;
    Ok(match (hook.point(), sae.cfg().fold_value_biases) {
        (HookPoint::Z | HookPoint::V, true) => {
            x.broadcast_sub(&model.value_bias(&hook, sae.cfg().fold_ln)?.to_device(x.device())?)?
        }
        _ => x.clone(),
    })
}

/// Checks that an SAE fits a model: that the model has the SAE's hook, with `d_in` dimensions.
///
/// # Errors
/// [`Error::Mismatch`] with the hook and both sizes.
pub fn check_fits(model: &Model, sae: &Sae) -> Result<()> {
    let (cfg, sae_cfg) = (model.cfg(), sae.cfg());
    let trained_on = match &sae_cfg.model_name {
        Some(trained_on) => format!("this SAE was trained on `{trained_on}`: load that model"),
        None => "load the model that the SAE was trained on".to_owned(),
    };
    let hook = match (&sae_cfg.hook_name, sae.hook_in(&cfg.hook_points())) {
        (_, Ok(hook)) => hook,
        // For a name that no model has, the error of the name itself is returned.
        (Some(name), Err(error)) if usual_point(name).is_some() => {
            let message = format!("the SAE `{}` does not fit `{}`: {error}", sae_cfg.sae_id, cfg.model_name);
            return Err(Error::mismatch(message, trained_on));
        }
        (_, Err(error)) => return Err(error),
    };
    if let Some(head) = sae_cfg.hook_head_index.filter(|head| *head >= cfg.n_heads) {
        return Err(Error::invalid(
            "`hook_head_index`",
            format!("a head from 0 to {}", cfg.n_heads - 1),
            head,
        ));
    }
    if sae.reads_centered() && cfg.normalization_type == NormKind::Rms {
        return Err(Error::mismatch(
            format!(
                "the SAE `{}` reads a centered residual stream, and that of `{}` cannot be centered: its norms do not \
                 subtract the mean",
                sae_cfg.sae_id, cfg.model_name
            ),
            "load the SAE with `center_writing_weights: false`, or the model that it was trained on",
        ));
    }
    let (name, width) = match (hook.point().space(), sae_cfg.hook_head_index) {
        (Space::Heads | Space::KeyValueHeads, Some(_)) => ("d_head", cfg.d_head),
        (space, _) => cfg.width(space),
    };
    if width == sae_cfg.d_in {
        return Ok(());
    }
    if width == 0 {
        return Err(Error::mismatch(
            format!("an SAE cannot read `{hook}`: there is no vector for each token"),
            "give `hook_name` a point such as `blocks.0.hook_resid_pre`",
        ));
    }
    Err(Error::mismatch(
        format!(
            "the SAE `{}` reads d_in = {} dimensions at `{hook}`, the model `{}` has {name} = {width} there",
            sae_cfg.sae_id, sae_cfg.d_in, cfg.model_name
        ),
        trained_on,
    ))
}

/// Reports what is uncertain about an SAE, and loads the weights that a run needs, by running one token.
pub(crate) fn prepare(model: &Model, sae: &Sae, progress: &Progress) -> Result<()> {
    for doubt in sae.warnings() {
        progress.report(ProgressEvent::Warning(doubt));
    }
    match feature_acts(model, sae, &TokenBatch::single(&[0]), 0.0, progress) {
        // The run itself will name the document.
        Ok(_) | Err(Error::NotFinite { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}
