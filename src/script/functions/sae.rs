//! SAEs: `load_sae`, weights, features, encoding and decoding.

use super::arguments::{index, tokens_of};
use super::completion::{Completion, TypedString};
use super::options::{self, FunctionOptions};
use super::show::ShownType;
use super::{ScriptResult, progress_of, script};
use crate::demo;
use crate::error::Error;
use crate::model::{Model, TokenBatch};
use crate::registry::Registry;
use crate::sae::{Feature, FeatureAct, FeatureActs, Sae, SaeOptions};
use candle_core::Tensor;
use rhai::plugin::*;
use rhai::{Array, Dynamic, Engine, FLOAT, INT, Map};
use saescope_options::Options;

pub(super) const SHOWN: &[ShownType] = &[
    ShownType::of::<Sae>("sae: &mut Sae"),
    ShownType::of::<Feature>("feature: &mut Feature"),
    ShownType::of::<FeatureActs>("features: &mut FeatureActs"),
];
pub(super) const OPTIONS: &[FunctionOptions] = &[("load_sae", SaeOptions::fields)];

pub(super) fn register(engine: &mut Engine) {
    engine.register_global_module(exported_module!(functions).into());
}

/// Completes the names of releases, and the SAE ids of the release that is the first argument.
pub(super) fn names(string: &TypedString) -> Option<Vec<Completion>> {
    let call = string.in_call("load_sae")?;
    let registry = Registry::embedded();
    if call.commas == 0 {
        let releases = registry.releases().iter();
        let releases = releases.map(|release| Completion::name(&release.name, &release.model));
        return Some(releases.chain([Completion::name("demo", "demo")]).collect());
    }
    let first = call.first.trim_matches('"');
    let ids =
        registry.release(first).into_iter().flat_map(|release| &release.saes).map(|sae| sae.id.as_str());
    let demo = demo::SAES.iter().filter(|_| first == "demo").map(|sae| sae.sae_id);
    Some(ids.chain(demo).map(|id| Completion::name(id, "SAE")).collect())
}

fn activation_map(activation: FeatureAct) -> Dynamic {
    let mut map = Map::new();
    map.insert("pos".into(), (activation.pos as INT).into());
    map.insert("feature".into(), (activation.feature as INT).into());
    map.insert("value".into(), FLOAT::from(activation.value).into());
    map.into()
}

#[export_module]
mod functions {
    /// A sparse autoencoder.
    pub type Sae = crate::sae::Sae;
    /// One feature of an SAE: its index and its weights.
    pub type Feature = crate::sae::Feature;
    /// The active features of each token of a sequence, with their activations.
    pub type FeatureActs = crate::sae::FeatureActs;

    /// Loads an SAE: a release and an id of SAELens (`list_saes` finds them); a hub repository and a folder or file in
    /// it; a local folder or file in one of the published layouts (SAELens, Gemma Scope, dictionary_learning, sparsify,
    /// Llama Scope, …; detected from the files), or a folder of several SAEs and the id of one; or "demo". Most options
    /// override the checkpoint.
    ///
    /// ```rhai
    /// let sae = load_sae("demo");
    /// let early = load_sae("demo", "blocks.0.hook_resid_pre");
    /// print(sae);
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn load_sae(context: NativeCallContext, name: &str, options: Map) -> ScriptResult<Sae> {
        script(Sae::load_with(name, &options::parse(options)?, &progress_of(&context)))
    }

    #[rhai_fn(name = "load_sae", return_raw, volatile)]
    pub fn load_sae_id(
        context: NativeCallContext,
        name: &str,
        sae_id: &str,
        options: Map,
    ) -> ScriptResult<Sae> {
        script(Sae::load_with((name, sae_id), &options::parse(options)?, &progress_of(&context)))
    }

    /// The configuration of an SAE, a map with SAELens' names.
    ///
    /// ```rhai
    /// print(load_sae("demo").cfg.hook_name);
    /// ```
    #[rhai_fn(global, get = "cfg", pure, return_raw)]
    pub fn sae_cfg(sae: &mut Sae) -> ScriptResult<Dynamic> {
        rhai::serde::to_dynamic(sae.cfg())
    }

    /// The encoder weights, [d_in, d_sae].
    ///
    /// ```rhai
    /// print(load_sae("demo").W_enc.shape);
    /// ```
    #[rhai_fn(global, get = "W_enc", pure, return_raw)]
    pub fn sae_w_enc(sae: &mut Sae) -> ScriptResult<Tensor> {
        script(sae.W_enc())
    }

    /// The decoder weights, [d_sae, d_out]; d_out equals d_in except in a transcoder.
    ///
    /// ```rhai
    /// print(load_sae("demo").W_dec.shape);
    /// ```
    #[rhai_fn(global, get = "W_dec", pure, return_raw)]
    pub fn sae_w_dec(sae: &mut Sae) -> ScriptResult<Tensor> {
        script(sae.W_dec())
    }

    /// The encoder bias, [d_sae]; for a gated SAE, the bias of the gate.
    ///
    /// ```rhai
    /// print(load_sae("demo").b_enc.shape);
    /// ```
    #[rhai_fn(global, get = "b_enc", pure, return_raw)]
    pub fn sae_b_enc(sae: &mut Sae) -> ScriptResult<Tensor> {
        script(sae.b_enc())
    }

    /// The decoder bias, [d_out].
    ///
    /// ```rhai
    /// print(load_sae("demo").b_dec.shape);
    /// ```
    #[rhai_fn(global, get = "b_dec", pure, return_raw)]
    pub fn sae_b_dec(sae: &mut Sae) -> ScriptResult<Tensor> {
        script(sae.b_dec())
    }

    /// One feature of an SAE: `index`, `encoder` [d_in], `decoder` [d_out].
    ///
    /// ```rhai
    /// let feature = load_sae("demo").feature(624);
    /// print(feature.decoder.norm());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn feature(sae: &mut Sae, feature: INT) -> ScriptResult<Feature> {
        script(sae.feature(script(index("the feature index", feature))?))
    }

    /// The active features of each token of a tensor of activations at the SAE's hook: [pos, d_in], or
    /// [pos, n_heads, d_head] at a hook with heads. A temporal SAE reads the tokens as one sequence.
    ///
    /// ```rhai
    /// let model = load_model("demo");
    /// let sae = load_sae("demo");
    /// let cache = model.run_with_cache("a small boat", [sae.cfg.hook_name]);
    /// print(sae.encode(cache[sae.cfg.hook_name]).l0);
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn encode(context: NativeCallContext, sae: &mut Sae, x: Tensor) -> ScriptResult<FeatureActs> {
        script(sae.encode_above(&x, 0.0, &progress_of(&context)))
    }

    /// The reconstruction from feature activations, [pos, d_out]: decoder rows weighted by activations, plus the bias.
    ///
    /// ```rhai
    /// let sae = load_sae("demo");
    /// let acts = feature_acts(load_model("demo"), sae, "a small boat");
    /// print(sae.decode(acts).shape);
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn decode(sae: &mut Sae, features: FeatureActs) -> ScriptResult<Tensor> {
        script(sae.decode(&features))
    }

    /// The SAE's reconstruction of a tensor, in the same shape: encodes, decodes and undoes the normalization. For a
    /// transcoder, its prediction of the output hook, [pos, d_out], including the skip connection.
    ///
    /// ```rhai
    /// let model = load_model("demo");
    /// let sae = load_sae("demo");
    /// let x = model.run_with_cache("a small boat", sae.cfg.hook_name)[sae.cfg.hook_name];
    /// print((x - sae.forward(x))[1..4].norm() / x[1..4].norm());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn forward(sae: &mut Sae, x: Tensor) -> ScriptResult<Tensor> {
        script(sae.forward(&x))
    }

    /// The active features of each token of a string or an array of token ids: runs the model up to the SAE's hook and
    /// encodes. A string gets a BOS before it if the SAE was trained with one.
    ///
    /// ```rhai
    /// let acts = feature_acts(load_model("demo"), load_sae("demo"), "a small boat");
    /// print(acts.top(3));
    /// print(acts.at(1));
    /// ```
    #[rhai_fn(return_raw)]
    pub fn feature_acts(
        context: NativeCallContext,
        model: Model,
        sae: Sae,
        input: Dynamic,
    ) -> ScriptResult<FeatureActs> {
        let tokens = tokens_of(&model, &input, Some(sae.cfg().prepend_bos))?;
        let batch = TokenBatch::single(&tokens);
        script(crate::extract::feature_acts(&model, &sae, &batch, 0.0, &progress_of(&context)))
    }

    /// The mean number of active features per token.
    ///
    /// ```rhai
    /// let acts = feature_acts(load_model("demo"), load_sae("demo"), "a small boat");
    /// print(acts.l0);
    /// ```
    #[rhai_fn(global, get = "l0", pure)]
    pub fn features_l0(features: &mut FeatureActs) -> FLOAT {
        features.l0()
    }

    /// The number of tokens (positions).
    ///
    /// ```rhai
    /// let acts = feature_acts(load_model("demo"), load_sae("demo"), "a small boat");
    /// print(acts.len);
    /// ```
    #[rhai_fn(global, name = "len", get = "len", pure)]
    pub fn features_len(features: &mut FeatureActs) -> INT {
        features.len() as INT
    }

    /// The active features at a position, by ascending index: an array of maps with `pos`, `feature` and `value`.
    ///
    /// ```rhai
    /// let acts = feature_acts(load_model("demo"), load_sae("demo"), "a small boat");
    /// print(acts.at(2).map(|a| a.feature));
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn at(features: &mut FeatureActs, pos: INT) -> ScriptResult<Array> {
        let n = features.len();
        let wrong = || Error::invalid("the position", format!("0 to {}", n.saturating_sub(1)), pos);
        let pos = script(usize::try_from(pos).ok().filter(|pos| *pos < n).ok_or_else(wrong))?;
        let (indices, values) = features.at(pos);
        let act =
            |(feature, value): (&u32, &f32)| FeatureAct { pos, feature: *feature as usize, value: *value };
        Ok(indices.iter().zip(values).map(act).map(activation_map).collect())
    }

    /// The `k` largest activations by magnitude, largest first: an array of maps with `pos`, `feature` and `value`.
    ///
    /// ```rhai
    /// let acts = feature_acts(load_model("demo"), load_sae("demo"), "a small boat");
    /// print(acts.top(3));
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn top(features: &mut FeatureActs, k: INT) -> ScriptResult<Array> {
        let top = features.top(script(index("`k`", k))?);
        Ok(top.into_iter().map(activation_map).collect())
    }

    /// The activation of one feature at every token, [pos].
    ///
    /// ```rhai
    /// let acts = feature_acts(load_model("demo"), load_sae("demo"), "a small boat");
    /// print(acts.of(acts.top(1)[0].feature));
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn of(features: &mut FeatureActs, feature: INT) -> ScriptResult<Tensor> {
        let values = script(features.of(script(index("the feature index", feature))?))?;
        script(Tensor::new(values, &candle_core::Device::Cpu))
    }

    /// The activations as a dense tensor, [pos, d_sae].
    ///
    /// ```rhai
    /// let acts = feature_acts(load_model("demo"), load_sae("demo"), "a small boat");
    /// print(acts.to_tensor().shape);
    /// ```
    #[rhai_fn(global, name = "to_tensor", pure, return_raw)]
    pub fn features_to_tensor(features: &mut FeatureActs) -> ScriptResult<Tensor> {
        script(features.to_tensor())
    }

    /// The index of a feature in its SAE.
    ///
    /// ```rhai
    /// print(load_sae("demo").feature(624).index);
    /// ```
    #[rhai_fn(global, get = "index", pure)]
    pub fn feature_index(feature: &mut Feature) -> INT {
        feature.index as INT
    }

    /// The encoder direction of a feature, which it reads, [d_in].
    ///
    /// ```rhai
    /// let feature = load_sae("demo").feature(624);
    /// print(feature.encoder.cosine_similarity(feature.decoder));
    /// ```
    #[rhai_fn(global, get = "encoder", pure)]
    pub fn feature_encoder(feature: &mut Feature) -> Tensor {
        feature.encoder.clone()
    }

    /// The decoder direction of a feature, which it writes, [d_out].
    ///
    /// ```rhai
    /// print(load_sae("demo").feature(624).decoder.norm());
    /// ```
    #[rhai_fn(global, get = "decoder", pure)]
    pub fn feature_decoder(feature: &mut Feature) -> Tensor {
        feature.decoder.clone()
    }

    /// What was loaded and how it is used, as a map: `hook_name`, `preprocessing`, `files`, `warnings`, …
    ///
    /// ```rhai
    /// print(load_sae("demo").report().preprocessing);
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn report(sae: &mut Sae) -> ScriptResult<Dynamic> {
        rhai::serde::to_dynamic(sae.report())
    }
}
