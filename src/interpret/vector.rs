//! Feature vectors: the embedding of a *ghost token*, a token that does not exist, made from a feature's weights.
//!
//! `direction = w_e · ê + w_d · d̂ + Σ_k w_k · PC_k` and `vector = centroid + scale · direction`, where ê and d̂ are the
//! feature's encoder and decoder weights at unit length, the centroid is the mean of the token embeddings, and PC_k are
//! their principal components, at unit norm and with their largest element positive. Units are those of the embedding
//! table: a model that scales its embeddings scales the vector too.

use crate::error::{Error, Result};
use crate::model::{Model, ModelConfig};
use saescope_options::options;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;

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

options! {
    /// Options of [`feature_vector`](super::feature_vector).
    pub struct VectorOptions {
        /// The weights of the feature to use: "encoder", "decoder", or a map of both. Default: "encoder".
        pub weights: FeatureWeights = FeatureWeights::default(),
        /// The signed weights of the first principal components of the token embeddings. Default: none.
        pub pca_weights: Vec<f64> = Vec::new(),
        /// Whether the vector starts at the token centroid instead of zero. Default: true.
        pub use_token_centroid: bool = true,
        /// The factor of the direction. Default: the mean distance of the token embeddings from their centroid.
        pub scale: Option<f64> = None,
        /// Whether the sum of the parts is scaled to unit length. Default: false.
        pub renormalize: bool = false,
    }
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
    pub(super) const ENCODER: Self = FeatureWeights { encoder: 1.0, decoder: 0.0 };
    pub(super) const DECODER: Self = FeatureWeights { encoder: 0.0, decoder: 1.0 };
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

impl FeatureVector {
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
        FeatureVector { vector, direction, decoder: None, ..self.clone() }
    }

    /// Checks that the vector has the model's width and is finite: it may come from a file or a script.
    ///
    /// # Errors
    /// The width differs, or a value is not finite.
    pub(crate) fn check(&self, model: &Model) -> Result<()> {
        let ModelConfig { d_model, model_name, .. } = model.cfg();
        for (name, part) in
            [("vector", &self.vector), ("direction", &self.direction), ("origin", &self.origin)]
        {
            if part.len() != *d_model {
                return Err(Error::mismatch(
                    format!("the {name} has {} values, `{model_name}` has d_model = {d_model}", part.len()),
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

impl VectorParams {
    /// A short title: "feature 624 of demo, encoder".
    pub fn title(&self) -> String {
        if let Some(token) = &self.token {
            return format!("the token {token:?} of {}", self.model);
        }
        let Some(feature) = self.feature else { return format!("a vector of {}", self.model) };
        let of = self.sae.as_ref().map_or(String::new(), |sae| format!(" of {sae}"));
        let weights = match self.weights {
            Some(FeatureWeights::ENCODER) => ", encoder".to_owned(),
            Some(FeatureWeights::DECODER) => ", decoder".to_owned(),
            Some(FeatureWeights { encoder, decoder }) => format!(", {encoder} encoder + {decoder} decoder"),
            None => String::new(),
        };
        format!("feature {feature}{of}{weights}")
    }
}

/// `origin + scale · direction`.
pub(super) fn at(origin: &[f32], scale: f64, direction: &[f32]) -> Vec<f32> {
    origin.iter().zip(direction).map(|(o, x)| (f64::from(*o) + scale * f64::from(*x)) as f32).collect()
}
