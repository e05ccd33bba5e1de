//! The text of a script value.

use super::display::Page;
use super::extract::RecordFile;
use super::trees::TreeFile;
use crate::dataset::Dataset;
use crate::extract::{ExtractSummary, FeatureRecord, SaeCheck};
use crate::hooks::ActivationCache;
use crate::interpret::{
    DefinitionTree, FeatureVector, LogitLens, ScaleSweep, SimilarFeatures, TokenList, TreesSummary,
};
use crate::model::Model;
use crate::registry::Saes;
use crate::sae::{Feature, Features, Sae};
use candle_core::Tensor;
use rhai::{Array, Dynamic, Engine, Map};

/// How many elements of an array or a map are shown.
const SHOWN: usize = 100;

/// Arrays and maps look the same in `print`, in interpolated texts and as the value of a line.
pub(super) fn register(engine: &mut Engine) {
    for name in ["print", "to_string", "debug", "to_debug"] {
        engine.register_fn(name, |array: Array| nested(&array.into(), true));
        engine.register_fn(name, |map: Map| nested(&map.into(), true));
    }
}

/// The text of a value; nothing for the unit value.
pub(super) fn text(value: &Dynamic) -> Option<String> {
    if value.is_unit() { None } else { Some(nested(value, false)) }
}

fn nested(value: &Dynamic, quoted: bool) -> String {
    let own = of::<Model>(value)
        .or_else(|| of::<Sae>(value))
        .or_else(|| of::<Features>(value))
        .or_else(|| of::<ActivationCache>(value))
        .or_else(|| of::<Saes>(value))
        .or_else(|| of::<Dataset>(value))
        .or_else(|| of::<FeatureRecord>(value))
        .or_else(|| of::<RecordFile>(value))
        .or_else(|| of::<SaeCheck>(value))
        .or_else(|| of::<ExtractSummary>(value))
        .or_else(|| of::<FeatureVector>(value))
        .or_else(|| of::<TokenList>(value))
        .or_else(|| of::<LogitLens>(value))
        .or_else(|| of::<SimilarFeatures>(value))
        .or_else(|| of::<DefinitionTree>(value))
        .or_else(|| of::<ScaleSweep>(value))
        .or_else(|| of::<Page>(value))
        .or_else(|| of::<TreeFile>(value))
        .or_else(|| of::<TreesSummary>(value));
    if let Some(text) = own {
        return text;
    }
    if let Some(tensor) = value.read_lock::<Tensor>() {
        return tensor_text(&tensor);
    }
    if let Some(feature) = value.read_lock::<Feature>() {
        return feature_text(&feature);
    }
    if let Some(array) = value.read_lock::<Array>() {
        let items = array.iter().take(SHOWN).map(|item| nested(item, true));
        return format!("[{}]", join(items, array.len()));
    }
    if let Some(map) = value.read_lock::<Map>() {
        let items = map.iter().take(SHOWN).map(|(name, item)| format!("{name}: {}", nested(item, true)));
        return format!("#{{ {} }}", join(items, map.len()));
    }
    if value.is_unit() {
        return "()".to_owned();
    }
    match value.clone().into_string() {
        Ok(text) if quoted => format!("{text:?}"),
        Ok(text) => text,
        Err(_) => value.to_string(),
    }
}

/// A feature in one line.
pub(super) fn feature_text(feature: &Feature) -> String {
    let (encoder, decoder) = (feature.encoder.dims(), feature.decoder.dims());
    format!("Feature {}: encoder {encoder:?}, decoder {decoder:?}", feature.index)
}

/// A tensor's shape, type, summary and corner.
pub(super) fn tensor_text(tensor: &Tensor) -> String {
    crate::tensors::describe(tensor).unwrap_or_else(|_| format!("Tensor {:?}", tensor.dims()))
}

fn of<T: std::fmt::Display + Clone + 'static>(value: &Dynamic) -> Option<String> {
    value.read_lock::<T>().map(|value| value.to_string())
}

fn join(items: impl Iterator<Item = String>, len: usize) -> String {
    let mut text = items.collect::<Vec<_>>().join(", ");
    if len > SHOWN {
        text += &format!(", … {} more", len - SHOWN);
    }
    text
}
