//! Feature vectors: the embedding of a token that does not exist, a ghost token, made of a feature's weights.
//!
//! `direction = w_e · ê + w_d · d̂ + Σ_k w_k · PC_k` and `vector = centroid + scale · direction`, where ê and d̂ are the
//! feature's encoder and decoder weights at unit length, the centroid is the mean of the token embeddings, and PC_k are
//! their principal components, of unit norm with their largest component positive. All of it is in the units of the
//! embedding table: a model that scales its embeddings scales this one too.

use serde::{Deserialize, Serialize};

/// How much of the encoder's and of the decoder's direction.
///
/// In options and JSON: `"encoder"`, `"decoder"`, or both with their weights, `{ "encoder": 0.5, "decoder": 0.5 }`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(from = "WeightsInWords")]
pub struct FeatureWeights {
    /// The weight of the direction that the feature reads.
    pub encoder: f64,
    /// The weight of the direction that the feature writes.
    pub decoder: f64,
}

/// How a feature becomes a vector.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct VectorOptions {
    /// Which of the feature's weights: "encoder", "decoder", or a map of both. Default: "encoder".
    pub weights: FeatureWeights,
    /// How much of each principal component of the token embeddings, the first first; signed. Default: none.
    pub pca_weights: Vec<f64>,
    /// Whether the vector starts at the token centroid rather than at zero. Default: true.
    pub use_token_centroid: bool,
    /// How far the vector goes from there. Default: the mean distance of the token embeddings from their centroid.
    pub scale: Option<f64>,
    /// Whether the direction is brought to unit length after its parts have been added up. Default: false.
    pub renormalize: bool,
}

/// What a vector was made of, for whoever reads it later.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct VectorParams {
    /// The model's name.
    pub model: String,
    /// The SAE's name, of a feature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sae: Option<String>,
    /// The feature's index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feature: Option<usize>,
    /// The hook that the SAE reads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook_name: Option<String>,
    /// Which of the feature's weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<FeatureWeights>,
    /// The cosine of the angle between the feature's encoder and decoder directions; a low one says that what the
    /// feature reads and what it writes differ.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoder_decoder_cosine: Option<f64>,
    /// The weights of the principal components.
    pub pca_weights: Vec<f64>,
    /// Whether the vector starts at the token centroid.
    pub use_token_centroid: bool,
    /// How far it goes from there, in units of the direction.
    pub scale: f64,
    /// Whether the direction was brought to unit length.
    pub renormalize: bool,
}

/// A ghost token's embedding, and what it was made of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureVector {
    /// What it was made of.
    pub params: VectorParams,
    /// The direction before the scale, `[d_model]`; of unit length only where nothing was mixed.
    pub direction: Vec<f32>,
    /// Where it starts, `[d_model]`: the token centroid, or zeros.
    pub origin: Vec<f32>,
    /// `origin + scale · direction`, `[d_model]`.
    pub vector: Vec<f32>,
    /// What the feature writes, at unit length, `[d_model]`; of a feature whose SAE reads the residual stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decoder: Option<Vec<f32>>,
}

/// [`FeatureWeights`] as they are written.
#[derive(Deserialize)]
#[serde(untagged)]
enum WeightsInWords {
    Name(WeightsName),
    Both(BothWeights),
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum WeightsName {
    Encoder,
    Decoder,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BothWeights {
    #[serde(default)]
    encoder: f64,
    #[serde(default)]
    decoder: f64,
}

impl From<WeightsInWords> for FeatureWeights {
    fn from(words: WeightsInWords) -> Self {
        match words {
            WeightsInWords::Name(WeightsName::Encoder) => FeatureWeights { encoder: 1.0, decoder: 0.0 },
            WeightsInWords::Name(WeightsName::Decoder) => FeatureWeights { encoder: 0.0, decoder: 1.0 },
            WeightsInWords::Both(BothWeights { encoder, decoder }) => FeatureWeights { encoder, decoder },
        }
    }
}

impl Default for FeatureWeights {
    fn default() -> Self {
        FeatureWeights { encoder: 1.0, decoder: 0.0 }
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

impl VectorParams {
    /// What the vector is of, in a few words: "feature 624 of demo, encoder".
    pub fn title(&self) -> String {
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
