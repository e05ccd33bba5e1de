//! Feature vectors: the embedding of a *ghost token*, a token that does not exist, made from a feature's weights.
//!
//! `direction = w_e · ê + w_d · d̂ + Σ_k w_k · PC_k` and `vector = centroid + scale · direction`, where ê and d̂ are the
//! feature's encoder and decoder weights at unit length, the centroid is the mean of the token embeddings, and PC_k are
//! their principal components, at unit norm and with their largest element positive. Units are those of the embedding
//! table: a model that scales its embeddings scales the vector too.

use crate::error::{Error, Result};
use crate::hooks::{HookName, HookPoint};
use crate::linalg::{cosine, map_rows};
use crate::model::{EmbeddingStats, Model};
use crate::sae::{Feature, Sae};
use candle_core::{DType, Tensor};
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;

/// A direction shorter than this fraction of the summed lengths of its parts counts as zero: the parts cancel.
const LEAST_FRACTION: f64 = 1e-6;

/// The weights of a feature's encoder and decoder directions.
///
/// In options and JSON: `"encoder"`, `"decoder"`, or both with their weights, `{ "encoder": 0.5, "decoder": 0.5 }`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct FeatureWeights {
    /// The weight of the direction that the feature reads.
    pub encoder: f64,
    /// The weight of the direction that the feature writes.
    pub decoder: f64,
}

/// Options of [`feature_vector`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VectorOptions {
    /// The weights of the feature to use: "encoder", "decoder", or a map of both. Default: "encoder".
    pub weights: FeatureWeights,
    /// The signed weights of the first principal components of the token embeddings. Default: none.
    pub pca_weights: Vec<f64>,
    /// Whether the vector starts at the token centroid instead of zero. Default: true.
    pub use_token_centroid: bool,
    /// The factor of the direction. Default: the mean distance of the token embeddings from their centroid.
    pub scale: Option<f64>,
    /// Whether the sum of the parts is scaled to unit length. Default: false.
    pub renormalize: bool,
}

/// How a vector was made, stored with it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct VectorParams {
    /// The model's name.
    pub model: String,
    /// The SAE's id, if the vector is a feature's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sae: Option<String>,
    /// The feature's index, if the vector is a feature's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feature: Option<usize>,
    /// The hook that the SAE reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook_name: Option<String>,
    /// The token whose embedding the vector is, if it is a real one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The weights of the feature's encoder and decoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<FeatureWeights>,
    /// The cosine of the feature's encoder and decoder directions. If it is low, the feature reads and writes different
    /// directions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder_decoder_cosine: Option<f64>,
    /// The weights of the principal components.
    pub pca_weights: Vec<f64>,
    /// Whether the vector starts at the token centroid.
    pub use_token_centroid: bool,
    /// The factor of the direction.
    pub scale: f64,
    /// Whether the direction was scaled to unit length.
    pub renormalize: bool,
}

/// The embedding of a ghost token, and how it was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureVector {
    /// How the vector was made.
    pub params: VectorParams,
    /// The direction before the scale, `[d_model]`; of unit length unless it is weighted or mixed.
    pub direction: Vec<f32>,
    /// The starting point, `[d_model]`: the token centroid, or zeros.
    pub origin: Vec<f32>,
    /// `origin + scale · direction`, `[d_model]`.
    pub vector: Vec<f32>,
    /// The feature's decoder weights at unit length, `[d_model]`, if they are a direction of the residual stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoder: Option<Vec<f32>>,
}

/// The map form of [`FeatureWeights`].
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct BothWeights {
    encoder: f64,
    decoder: f64,
}

impl FeatureWeights {
    const ENCODER: Self = FeatureWeights { encoder: 1.0, decoder: 0.0 };
    const DECODER: Self = FeatureWeights { encoder: 0.0, decoder: 1.0 };
}

/// Written by hand: for a misspelled name, an untagged enum would only report that no variant matched.
impl<'de> Deserialize<'de> for FeatureWeights {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WeightsVisitor;
        impl<'de> Visitor<'de> for WeightsVisitor {
            type Value = FeatureWeights;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("`encoder`, `decoder`, or a map of both with their weights")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<FeatureWeights, E> {
                match name {
                    "encoder" => Ok(FeatureWeights::ENCODER),
                    "decoder" => Ok(FeatureWeights::DECODER),
                    _ => Err(E::invalid_value(Unexpected::Str(name), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<FeatureWeights, A::Error> {
                let BothWeights { encoder, decoder } =
                    BothWeights::deserialize(MapAccessDeserializer::new(map))?;
                Ok(FeatureWeights { encoder, decoder })
            }
        }
        deserializer.deserialize_any(WeightsVisitor)
    }
}

impl Default for FeatureWeights {
    fn default() -> Self {
        FeatureWeights::ENCODER
    }
}

impl Default for VectorOptions {
    fn default() -> Self {
        VectorOptions {
            weights: FeatureWeights::default(),
            pca_weights: Vec::new(),
            use_token_centroid: true,
            scale: None,
            renormalize: false,
        }
    }
}

/// Makes the ghost token of a feature from the feature's weights.
///
/// ```
/// # fn main() -> saescope::Result<()> {
/// use saescope::{Model, Sae, SaeOptions, VectorOptions, feature_vector};
///
/// let model = Model::load("demo")?;
/// let sae = Sae::load("demo", Some("blocks.0.hook_resid_pre"), &SaeOptions::default())?;
/// let ghost = feature_vector(&model, &sae, 624, &VectorOptions::default())?;
/// assert_eq!(ghost.vector.len(), model.cfg().d_model);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// `index` is out of range; the weights are not directions of the model's residual stream; the parts cancel; an option
/// is not finite; there are more `pca_weights` than principal components; a file cannot be read.
pub fn feature_vector(
    model: &Model,
    sae: &Sae,
    index: usize,
    options: &VectorOptions,
) -> Result<FeatureVector> {
    let FeatureWeights { encoder, decoder } = options.weights;
    sae.check_feature(index)?;
    options.check()?;
    if encoder != 0.0 {
        check_space(model, sae, Side::Encoder)?;
    }
    if decoder != 0.0 {
        check_space(model, sae, Side::Decoder)?;
    }
    let feature = sae.feature(index)?;
    let mut direction = vec![0f64; model.cfg().d_model];
    for (side, tensor, weight) in
        [(Side::Encoder, &feature.encoder, encoder), (Side::Decoder, &feature.decoder, decoder)]
    {
        if weight != 0.0 {
            let unit = unit(&f32s(tensor)?)
                .ok_or_else(|| no_direction(&format!("the {} weights of feature {index}", side.name())))?;
            direction.iter_mut().zip(unit).for_each(|(sum, x)| *sum += weight * x);
        }
    }
    let params = VectorParams {
        sae: Some(sae.cfg().sae_id.clone()),
        feature: Some(index),
        hook_name: sae.cfg().hook_name.clone(),
        weights: Some(options.weights),
        encoder_decoder_cosine: encoder_decoder_cosine(&feature)?,
        ..Default::default()
    };
    let vector = finish(model, direction, encoder.abs() + decoder.abs(), options, params)?;
    let writes = check_space(model, sae, Side::Decoder).ok().map(|()| f32s(&feature.decoder)).transpose()?;
    let unit_f32 = |row: Vec<f32>| Some(unit(&row)?.into_iter().map(|x| x as f32).collect());
    Ok(FeatureVector { decoder: writes.and_then(unit_f32), ..vector })
}

/// Makes the ghost token of any direction `[d_model]`, which is scaled to unit length and then treated like a feature's
/// weights.
///
/// # Errors
/// The shape is another; the direction is zero or not finite; `weights` is not the default, since a direction has no
/// encoder and decoder; and as [`feature_vector`].
pub fn ghost_token(model: &Model, direction: &Tensor, options: &VectorOptions) -> Result<FeatureVector> {
    options.check()?;
    if options.weights != FeatureWeights::default() {
        return Err(Error::mismatch(
            "`weights` applies to the vector of a feature, not to the ghost token of a direction",
            "leave `weights` out",
        ));
    }
    let direction = unit(&residual_vector(model, direction)?).ok_or_else(|| no_direction("the tensor"))?;
    finish(model, direction, 1.0, options, VectorParams::default())
}

/// The decoder row of a feature as it is, for the logit lens of Neuronpedia and others: the vector starts at zero, and
/// its scale is the norm of the row.
pub(super) fn decoder_row(model: &Model, sae: &Sae, index: usize) -> Result<FeatureVector> {
    sae.check_feature(index)?;
    check_space(model, sae, Side::Decoder)?;
    let feature = sae.feature(index)?;
    let vector = f32s(&feature.decoder)?;
    let scale = norm(vector.iter().map(|x| f64::from(*x)));
    let direction = unit(&vector).unwrap_or_else(|| vec![0.0; vector.len()]);
    let params = VectorParams {
        model: model.cfg().model_name.clone(),
        sae: Some(sae.cfg().sae_id.clone()),
        feature: Some(index),
        hook_name: sae.cfg().hook_name.clone(),
        weights: Some(FeatureWeights::DECODER),
        encoder_decoder_cosine: encoder_decoder_cosine(&feature)?,
        scale,
        ..Default::default()
    };
    let direction: Vec<f32> = direction.into_iter().map(|x| x as f32).collect();
    Ok(FeatureVector {
        params,
        decoder: Some(direction.clone()),
        direction,
        origin: vec![0.0; vector.len()],
        vector,
    })
}

impl FeatureVector {
    /// Wraps an embedding, `[d_model]`, of a real token or made by other means. Its direction is the one from the
    /// centroid, its scale the distance from it.
    ///
    /// # Errors
    /// The shape is another; a value is not finite; a file cannot be read.
    pub fn of_embedding(model: &Model, embedding: &Tensor) -> Result<Self> {
        let vector = residual_vector(model, embedding)?;
        let EmbeddingStats { centroid, .. } = model.embedding_stats()?;
        let offset: Vec<f64> =
            vector.iter().zip(centroid).map(|(x, c)| f64::from(*x) - f64::from(*c)).collect();
        let scale = norm(offset.iter().copied());
        let direction = offset.iter().map(|x| if scale > 0.0 { (x / scale) as f32 } else { 0.0 }).collect();
        let real = map_rows(&model.W_E()?, |row| row == vector)?.into_iter().position(|is_equal| is_equal);
        let text = |id: usize| model.tokenizer().and_then(|t| t.token_text(id as u32)).ok();
        let params = VectorParams {
            model: model.cfg().model_name.clone(),
            token: real.and_then(text),
            use_token_centroid: true,
            scale,
            ..Default::default()
        };
        Ok(FeatureVector { params, direction, origin: centroid.clone(), vector, decoder: None })
    }

    /// Wraps a direction, `[d_model]`, at its own length: the vector starts at zero, and its scale is 1.
    ///
    /// # Errors
    /// The shape is another; a value is not finite.
    pub fn of_direction(model: &Model, direction: &Tensor) -> Result<Self> {
        let vector = residual_vector(model, direction)?;
        let params = VectorParams { model: model.cfg().model_name.clone(), scale: 1.0, ..Default::default() };
        let origin = vec![0.0; vector.len()];
        Ok(FeatureVector { params, direction: vector.clone(), origin, vector, decoder: None })
    }

    /// Returns the vector with the same origin and direction at another scale.
    pub fn at_scale(&self, scale: f64) -> Self {
        let token = self.params.token.clone().filter(|_| scale == self.params.scale);
        let params = VectorParams { scale, token, ..self.params.clone() };
        let vector = at(&self.origin, scale, &self.direction);
        FeatureVector { vector, params, ..self.clone() }
    }

    /// Returns the vector with the same origin and scale in another direction, `[d_model]`, which is not a feature's.
    pub(super) fn in_direction(&self, direction: Vec<f32>) -> Self {
        let vector = at(&self.origin, self.params.scale, &direction);
        FeatureVector {
            vector,
            direction,
            params: self.params.clone(),
            origin: self.origin.clone(),
            decoder: None,
        }
    }

    /// Checks that the vector has the model's width and is finite: it may come from a file or a script.
    ///
    /// # Errors
    /// The width differs, or a value is not finite.
    pub(crate) fn check(&self, model: &Model) -> Result<()> {
        let d_model = model.cfg().d_model;
        for (name, part) in
            [("vector", &self.vector), ("direction", &self.direction), ("origin", &self.origin)]
        {
            if part.len() != d_model {
                return Err(Error::mismatch(
                    format!(
                        "the {name} has {} values, `{}` has d_model = {d_model}",
                        part.len(),
                        model.cfg().model_name
                    ),
                    "use a vector with the model that it was made for",
                ));
            }
            if part.iter().any(|x| !x.is_finite()) {
                let error = Error::invalid(format!("the {name}"), "finite values", "NaN or infinity");
                return Err(error.with_hint("make it again; a scale may have been too large"));
            }
        }
        Ok(())
    }
}

impl fmt::Display for FeatureVector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let VectorParams { pca_weights, use_token_centroid, scale, renormalize, .. } = &self.params;
        let from = if *use_token_centroid { "the token centroid" } else { "zero" };
        write!(f, "{} [{}], {scale:.4} from {from}", self.params.title(), self.vector.len())?;
        if !pca_weights.is_empty() {
            write!(f, ", principal components {pca_weights:?}")?;
        }
        if *renormalize {
            f.write_str(", renormalized")?;
        }
        match self.params.encoder_decoder_cosine {
            Some(cosine) => write!(f, ", cos(encoder, decoder) {cosine:.4}"),
            None => Ok(()),
        }
    }
}

impl VectorOptions {
    fn check(&self) -> Result<()> {
        let FeatureWeights { encoder, decoder } = self.weights;
        let finite = |what: &str, x: f64| match x.is_finite() {
            true => Ok(()),
            false => Err(Error::invalid(format!("`{what}`"), "a finite number", x)),
        };
        finite("weights", encoder).and(finite("weights", decoder))?;
        self.pca_weights.iter().try_for_each(|weight| finite("pca_weights", *weight))?;
        finite("scale", self.scale.unwrap_or_default())
    }
}

/// The side of an SAE that a vector is made from.
#[derive(Clone, Copy)]
enum Side {
    Encoder,
    Decoder,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Side::Encoder => "encoder",
            Side::Decoder => "decoder",
        }
    }
}

/// Checks that the weights of a side are directions of the residual stream. The width may match by chance, as that of
/// GPT-2's `hook_z` does, so the hook is checked too.
fn check_space(model: &Model, sae: &Sae, side: Side) -> Result<()> {
    let (cfg, d_model) = (sae.cfg(), model.cfg().d_model);
    let (width, letter, hook) = match side {
        Side::Encoder => (cfg.d_in, "d_in", &cfg.hook_name),
        Side::Decoder => {
            (cfg.d_out, "d_out", cfg.hook_name_out.as_ref().map_or(&cfg.hook_name, |_| &cfg.hook_name_out))
        }
    };
    let elsewhere = hook.as_deref().and_then(|name| name.parse::<HookName>().ok()).is_some_and(|hook| {
        matches!(
            hook.point(),
            HookPoint::Q | HookPoint::K | HookPoint::V | HookPoint::Z | HookPoint::RotQ | HookPoint::RotK
        ) || matches!(hook.point(), HookPoint::MlpPre | HookPoint::MlpPreLinear | HookPoint::MlpPost)
    });
    if width == d_model && !elsewhere {
        return Ok(());
    }
    let at = hook.as_ref().map_or(String::new(), |hook| format!(" at `{hook}`"));
    Err(Error::mismatch(
        format!(
            "the {} weights of `{}` ({letter} = {width}{at}) are not directions of the residual stream of `{}` \
             (d_model = {d_model})",
            side.name(),
            cfg.sae_id,
            model.cfg().model_name
        ),
        "a ghost token lives where token embeddings do: use an SAE of the same model on the residual stream, or on what \
         attention or an MLP adds to it; SAEs on hook_z, hook_q, hook_k, hook_v or inside an MLP read another space",
    ))
}

fn finish(
    model: &Model,
    mut direction: Vec<f64>,
    mut parts: f64,
    options: &VectorOptions,
    params: VectorParams,
) -> Result<FeatureVector> {
    let stats = model.embedding_stats()?;
    add_components(model, &mut direction, &options.pca_weights)?;
    parts += options.pca_weights.iter().map(|weight| weight.abs()).sum::<f64>();
    let length = norm(direction.iter().copied());
    if length <= LEAST_FRACTION * parts {
        return Err(no_direction("the sum of the weighted directions").with_hint(
            "give some weight to the encoder, the decoder or a principal component; opposite parts cancel",
        ));
    }
    if options.renormalize {
        direction.iter_mut().for_each(|x| *x /= length);
    }
    let scale = options.scale.unwrap_or(stats.mean_distance);
    let origin = match options.use_token_centroid {
        true => stats.centroid.clone(),
        false => vec![0.0; direction.len()],
    };
    let direction: Vec<f32> = direction.iter().map(|x| *x as f32).collect();
    let vector = at(&origin, scale, &direction);
    let params = VectorParams {
        model: model.cfg().model_name.clone(),
        pca_weights: options.pca_weights.clone(),
        use_token_centroid: options.use_token_centroid,
        scale,
        renormalize: options.renormalize,
        ..params
    };
    if vector.iter().any(|x| !x.is_finite()) {
        let what = "`scale` times the weights";
        return Err(Error::invalid(what, "a vector whose values f32 can hold", format!("scale {scale:e}")));
    }
    Ok(FeatureVector { params, direction, origin, vector, decoder: None })
}

/// `origin + scale · direction`.
fn at(origin: &[f32], scale: f64, direction: &[f32]) -> Vec<f32> {
    origin.iter().zip(direction).map(|(o, x)| (f64::from(*o) + scale * f64::from(*x)) as f32).collect()
}

fn add_components(model: &Model, direction: &mut [f64], weights: &[f64]) -> Result<()> {
    // If all weights are 0, the components are unused, and computing them takes time.
    if weights.iter().all(|weight| *weight == 0.0) && weights.len() <= direction.len() {
        return Ok(());
    }
    let d_model = model.cfg().d_model;
    let too_many = |least: usize| {
        let got = format!("{} weights", weights.len());
        let expected = format!("at most {least}, one for each principal component of the token embeddings");
        Error::invalid("`pca_weights`", expected, got)
    };
    if weights.len() > d_model {
        return Err(too_many(d_model));
    }
    let components = &model.principal_components()?.directions;
    if weights.len() > components.dim(0)? {
        return Err(too_many(components.dim(0)?));
    }
    for (k, weight) in weights.iter().enumerate() {
        let component = components.get(k)?.to_vec1::<f32>()?;
        direction.iter_mut().zip(component).for_each(|(sum, x)| *sum += weight * f64::from(x));
    }
    Ok(())
}

/// Returns the values of a tensor `[d_model]`, all finite.
fn residual_vector(model: &Model, tensor: &Tensor) -> Result<Vec<f32>> {
    let d_model = model.cfg().d_model;
    if tensor.dims() != [d_model] {
        return Err(Error::mismatch(
            format!(
                "the tensor: expected d_model = {d_model} values for `{}`, got shape {:?}",
                model.cfg().model_name,
                tensor.dims()
            ),
            "give one direction of the residual stream; a row of a matrix is matrix[i]",
        ));
    }
    let values = f32s(tensor)?;
    match values.iter().position(|x| !x.is_finite()) {
        None => Ok(values),
        Some(i) => Err(Error::invalid(format!("the tensor: value {i}"), "a finite number", values[i])),
    }
}

fn f32s(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(tensor.to_dtype(DType::F32)?.to_vec1::<f32>()?)
}

/// Scales a vector to unit length. `None` if it is zero.
fn unit(vector: &[f32]) -> Option<Vec<f64>> {
    let length = norm(vector.iter().map(|x| f64::from(*x)));
    let unit = || vector.iter().map(|x| f64::from(*x) / length).collect();
    (length > 0.0).then(unit)
}

fn norm(vector: impl Iterator<Item = f64>) -> f64 {
    vector.map(|x| x * x).sum::<f64>().sqrt()
}

/// Whether the requested weights of a feature are not zero.
pub(super) fn has_direction(sae: &Sae, index: usize, weights: FeatureWeights) -> Result<bool> {
    let feature = sae.feature(index)?;
    let points = |tensor: &Tensor, weight: f64| -> Result<bool> {
        Ok(weight == 0.0 || unit(&f32s(tensor)?).is_some())
    };
    Ok(points(&feature.encoder, weights.encoder)? && points(&feature.decoder, weights.decoder)?)
}

fn no_direction(what: &str) -> Error {
    let hint = "a zero vector has no direction; a feature that died in training may have such weights";
    Error::invalid(what, "a non-zero vector", "zeros").with_hint(hint)
}

/// The cosine of the two; `None` if their widths differ or one is zero.
fn encoder_decoder_cosine(feature: &Feature) -> Result<Option<f64>> {
    let (encoder, decoder) = (f32s(&feature.encoder)?, f32s(&feature.decoder)?);
    let norms = [&encoder, &decoder].map(|x| norm(x.iter().map(|x| f64::from(*x))));
    if encoder.len() != decoder.len() || norms.contains(&0.0) {
        return Ok(None);
    }
    let dot = encoder.iter().zip(&decoder).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    Ok(Some(cosine(dot, norms[0], norms[1])))
}

impl VectorParams {
    /// A short title: "feature 624 of demo, encoder".
    pub fn title(&self) -> String {
        if let Some(token) = &self.token {
            return format!("the token {token:?} of {}", self.model);
        }
        let Some(feature) = self.feature else { return format!("a vector of {}", self.model) };
        let of = self.sae.as_ref().map_or(String::new(), |sae| format!(" of {sae}"));
        let weights = match self.weights {
            Some(FeatureWeights { encoder, decoder }) if decoder == 0.0 && encoder == 1.0 => {
                ", encoder".to_owned()
            }
            Some(FeatureWeights { encoder, decoder }) if encoder == 0.0 && decoder == 1.0 => {
                ", decoder".to_owned()
            }
            Some(FeatureWeights { encoder, decoder }) => format!(", {encoder} encoder + {decoder} decoder"),
            None => String::new(),
        };
        format!("feature {feature}{of}{weights}")
    }
}
