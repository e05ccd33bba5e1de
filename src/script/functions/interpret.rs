//! The meaning of features: `feature_vector`, `token_list`, `logit_lens`, `similar_features`.

use super::arguments::{index, register_properties, vector_of};
use super::options::{self, FunctionOptions};
use super::show::ShownType;
use super::{ScriptResult, script};
use crate::error::Error;
use crate::interpret::{
    self, FeatureVector, LogitLens, LogitLensOptions, SimilarFeatures, SimilarOptions, TokenList,
    TokenListOptions, VectorOptions,
};
use crate::model::Model;
use crate::sae::{Feature, Sae};
use candle_core::{Device, Tensor};
use rhai::plugin::*;
use rhai::{Dynamic, Engine, FLOAT, INT, Map};
use saescope_options::Options;

pub(super) const SHOWN: &[ShownType] = &[
    ShownType::of::<FeatureVector>("vector: &mut FeatureVector").saved(),
    ShownType::of::<TokenList>("list: &mut TokenList").saved(),
    ShownType::of::<LogitLens>("lens: &mut LogitLens").saved(),
    ShownType::of::<SimilarFeatures>("similar: &mut SimilarFeatures").saved(),
];
pub(super) const OPTIONS: &[FunctionOptions] = &[
    ("decoder_logit_lens", LogitLensOptions::fields),
    ("feature_vector", VectorOptions::fields),
    ("ghost_token", || VectorOptions::fields().into_iter().filter(|field| field.name != "weights").collect()),
    ("logit_lens", LogitLensOptions::fields),
    ("similar_features", SimilarOptions::fields),
    ("token_list", TokenListOptions::fields),
];

pub(super) fn register(engine: &mut Engine) {
    engine.register_global_module(exported_module!(functions).into());
    register_properties::<TokenList>(engine);
    register_properties::<LogitLens>(engine);
    register_properties::<SimilarFeatures>(engine);
}

/// Like [`vector_of`], but a tensor, or the decoder weights of a feature, is used as a direction, unchanged.
fn direction_of(model: &Model, vector: &Dynamic) -> Result<FeatureVector, Error> {
    if let Some(feature) = vector.read_lock::<Feature>() {
        let mut vector = FeatureVector::of_direction(model, &feature.decoder)?;
        vector.params.feature = Some(feature.index);
        return Ok(vector);
    }
    if let Some(direction) = vector.read_lock::<Tensor>() {
        return FeatureVector::of_direction(model, &direction);
    }
    vector_of(model, vector)
}

fn tensor(values: &[f32]) -> ScriptResult<Tensor> {
    script(Tensor::new(values, &Device::Cpu))
}

fn similar(sae: &Sae, feature: INT, other: Option<&Sae>, options: Map) -> ScriptResult<SimilarFeatures> {
    let feature = script(index("the feature index", feature))?;
    script(interpret::similar_features(sae, feature, other, &options::parse(options)?))
}

#[export_module]
mod functions {
    /// A ghost token: the embedding of a token that does not exist.
    pub type FeatureVector = interpret::FeatureVector;
    /// A list of tokens with their scores.
    pub type TokenList = interpret::TokenList;
    /// The next tokens that a direction raises and lowers.
    pub type LogitLens = interpret::LogitLens;
    /// The features that are most similar to a feature.
    pub type SimilarFeatures = interpret::SimilarFeatures;

    /// The vector of a feature: a ghost token, whose embedding is made from the feature's weights. It is the mean of
    /// the token embeddings plus `scale` times the direction of the weights.
    ///
    /// ```rhai
    /// let model = load_model("demo");
    /// let sae = load_sae("demo", "blocks.0.hook_resid_pre");
    /// let v = feature_vector(model, sae, 624);
    /// print(v);
    /// let mixed = feature_vector(model, sae, 624, #{ weights: #{ encoder: 0.5, decoder: 0.5 }, pca_weights: [0.1] });
    /// print(mixed.direction.norm());
    /// ```
    #[rhai_fn(return_raw)]
    pub fn feature_vector(model: Model, sae: Sae, feature: INT, options: Map) -> ScriptResult<FeatureVector> {
        let feature = script(super::index("the feature index", feature))?;
        script(interpret::feature_vector(&model, &sae, feature, &options::parse(options)?))
    }

    /// The ghost token of any direction [d_model], which is normalized to unit length and then treated like the weights
    /// of a feature.
    ///
    /// ```rhai
    /// let model = load_model("demo");
    /// let sae = load_sae("demo", "blocks.0.hook_resid_pre");
    /// let between = sae.feature(624).decoder + sae.feature(687).decoder;
    /// print(ghost_token(model, between, #{ scale: 3.0 }));
    /// ```
    #[rhai_fn(return_raw)]
    pub fn ghost_token(model: Model, direction: Tensor, options: Map) -> ScriptResult<FeatureVector> {
        script(interpret::ghost_token(&model, &direction, &options::parse(options)?))
    }

    /// The embedding of a ghost token, [d_model]: `origin + scale · direction`.
    ///
    /// ```rhai
    /// let v = feature_vector(load_model("demo"), load_sae("demo", "blocks.0.hook_resid_pre"), 624);
    /// print(v.vector.norm());
    /// ```
    #[rhai_fn(global, get = "vector", pure, return_raw)]
    pub fn vector_vector(vector: &mut FeatureVector) -> ScriptResult<Tensor> {
        tensor(&vector.vector)
    }

    /// The direction of a feature vector before the scale, [d_model].
    ///
    /// ```rhai
    /// let v = feature_vector(load_model("demo"), load_sae("demo", "blocks.0.hook_resid_pre"), 624);
    /// print(v.direction.norm());
    /// ```
    #[rhai_fn(global, get = "direction", pure, return_raw)]
    pub fn vector_direction(vector: &mut FeatureVector) -> ScriptResult<Tensor> {
        tensor(&vector.direction)
    }

    /// The starting point of a feature vector, [d_model]: the token centroid, or zeros.
    ///
    /// ```rhai
    /// let v = feature_vector(load_model("demo"), load_sae("demo", "blocks.0.hook_resid_pre"), 624);
    /// print((v.vector - v.origin).norm() / v.scale);
    /// ```
    #[rhai_fn(global, get = "origin", pure, return_raw)]
    pub fn vector_origin(vector: &mut FeatureVector) -> ScriptResult<Tensor> {
        tensor(&vector.origin)
    }

    /// The factor of the direction of a feature vector: `vector = origin + scale · direction`.
    ///
    /// ```rhai
    /// let v = feature_vector(load_model("demo"), load_sae("demo", "blocks.0.hook_resid_pre"), 624);
    /// print(v.scale);
    /// ```
    #[rhai_fn(global, get = "scale", pure)]
    pub fn vector_scale(vector: &mut FeatureVector) -> FLOAT {
        vector.params.scale
    }

    /// How a feature vector was made, as a map: `model`, `sae`, `feature`, `weights`, `scale`, …
    ///
    /// ```rhai
    /// let v = feature_vector(load_model("demo"), load_sae("demo", "blocks.0.hook_resid_pre"), 624);
    /// print(v.params.feature);
    /// ```
    #[rhai_fn(global, get = "params", pure, return_raw)]
    pub fn vector_params(vector: &mut FeatureVector) -> ScriptResult<Dynamic> {
        rhai::serde::to_dynamic(&vector.params)
    }

    /// The feature vector with the same direction and another scale.
    ///
    /// ```rhai
    /// let v = feature_vector(load_model("demo"), load_sae("demo", "blocks.0.hook_resid_pre"), 624);
    /// print(v.at_scale(2.0 * v.scale));
    /// ```
    #[rhai_fn(global, pure)]
    pub fn at_scale(vector: &mut FeatureVector, scale: FLOAT) -> FeatureVector {
        vector.at_scale(scale)
    }

    #[rhai_fn(global, name = "at_scale", pure)]
    pub fn at_int_scale(vector: &mut FeatureVector, scale: INT) -> FeatureVector {
        vector.at_scale(scale as FLOAT)
    }

    /// The tokens nearest to a feature vector, with their scores; no forward pass is needed. A tensor [d_model] is used
    /// as a token embedding. The list has `tokens`, an array of maps (`token`, `token_id`, `score`, `rank`), and
    /// `params`.
    ///
    /// ```rhai
    /// let model = load_model("demo");
    /// let v = feature_vector(model, load_sae("demo", "blocks.0.hook_resid_pre"), 624);
    /// print(token_list(model, v, #{ top_k: 5 }));
    /// print(token_list(model, v, #{ method: "centered_cosine", filter: "word_like" }).tokens[0].token);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn token_list(model: Model, vector: Dynamic, options: Map) -> ScriptResult<TokenList> {
        let vector = script(vector_of(&model, &vector))?;
        script(interpret::token_list(&model, &vector, &options::parse(options)?))
    }

    /// A token list as comma-separated values (CSV).
    ///
    /// ```rhai
    /// let model = load_model("demo");
    /// let v = feature_vector(model, load_sae("demo", "blocks.0.hook_resid_pre"), 624);
    /// print(token_list(model, v, #{ top_k: 3 }).to_csv());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn to_csv(list: &mut TokenList) -> ScriptResult<String> {
        script(list.to_csv())
    }

    /// The next tokens that a direction promotes and suppresses. The direction is that of a feature vector, without its
    /// scale; a tensor [d_model], unchanged; or the decoder weights of a feature (`sae.feature(624)`), unchanged. The
    /// result has `top` and `bottom`, arrays of maps (`token`, `token_id`, `score`, `rank`), and the `mean`, `std`,
    /// `skewness`, `kurtosis` and `histogram` (from `min` to `max`) of all logits.
    ///
    /// ```rhai
    /// let model = load_model("demo");
    /// let sae = load_sae("demo");
    /// print(logit_lens(model, sae.feature(700), #{ final_norm_gain: false }));
    /// print(logit_lens(model, feature_vector(model, sae, 700)).skewness);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn logit_lens(model: Model, vector: Dynamic, options: Map) -> ScriptResult<LogitLens> {
        let vector = script(direction_of(&model, &vector))?;
        script(interpret::logit_lens(&model, &vector, &options::parse(options)?))
    }

    /// The logit lens of a feature's decoder weights: `logit_lens(model, sae.feature(feature))`, labeled with the names
    /// of the SAE and the feature. It is an error if the SAE does not write to the residual stream.
    ///
    /// ```rhai
    /// print(decoder_logit_lens(load_model("demo"), load_sae("demo"), 700));
    /// ```
    #[rhai_fn(return_raw)]
    pub fn decoder_logit_lens(model: Model, sae: Sae, feature: INT, options: Map) -> ScriptResult<LogitLens> {
        let feature = script(super::index("the feature index", feature))?;
        script(interpret::decoder_logit_lens(&model, &sae, feature, &options::parse(options)?))
    }

    /// The features whose decoder directions are most similar to that of a feature, in its own SAE or in another that
    /// writes to the same space. `features` is an array of maps, `feature` and `cosine`.
    ///
    /// ```rhai
    /// let sae = load_sae("demo");
    /// print(similar_features(sae, 700));
    /// print(similar_features(sae, 700, load_sae("demo", "blocks.0.hook_resid_pre"), #{ top_k: 3 }).features[0].cosine);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn similar_features(sae: Sae, feature: INT, options: Map) -> ScriptResult<SimilarFeatures> {
        super::similar(&sae, feature, None, options)
    }

    #[rhai_fn(name = "similar_features", return_raw)]
    pub fn similar_features_of(
        sae: Sae,
        feature: INT,
        other: Sae,
        options: Map,
    ) -> ScriptResult<SimilarFeatures> {
        super::similar(&sae, feature, Some(&other), options)
    }
}
