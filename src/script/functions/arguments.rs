//! Conversions of arguments that several files share.

use super::names::type_name;
use super::{ScriptResult, TYPES, options, script};
use crate::error::Error;
use crate::extract::{FeatureRecord, RecordFile, read_records_of};
use crate::interpret::{FeatureVector, Scales};
use crate::memory;
use crate::model::Model;
use crate::sae::Sae;
use crate::tensors;
use candle_core::{DType, Tensor};
use rhai::{Array, Dynamic, Engine, EvalAltResult, FLOAT, INT, Map, Variant};
use serde::{Deserialize, Serialize};
use std::ops::{Range, RangeInclusive};

/// Registers every field of a type as a property.
pub(super) fn register_properties<T: Serialize + Default + Variant + Clone>(engine: &mut Engine) {
    let fields = serde_json::to_value(T::default()).unwrap_or_default();
    for name in fields.as_object().into_iter().flat_map(|fields| fields.keys().cloned()) {
        let key = name.clone();
        engine.register_get(name, move |value: &mut T| {
            let map = rhai::serde::to_dynamic(value)?;
            let value = map.read_lock::<Map>().and_then(|map| map.get(key.as_str()).cloned());
            Ok::<_, Box<EvalAltResult>>(value.unwrap_or_default())
        });
    }
}

/// Converts an index from a script. A negative index is an error; it does not count from the end.
pub(super) fn index(what: &str, index: INT) -> Result<usize, Error> {
    usize::try_from(index).map_err(|_| Error::invalid(what, "0 or more", index))
}

/// Returns the index of a feature, which fits into the 32 bits that records have for it.
pub(super) fn feature_index(feature: INT) -> Result<usize, Error> {
    let feature = index("the feature index", feature)?;
    let fits = u32::try_from(feature).is_ok();
    fits.then_some(feature).ok_or_else(|| Error::invalid("the feature index", "at most 2^32 - 1", feature))
}

/// Checks that there is memory to draw a tensor: `each` bytes per element, for its f64 value and its position.
pub(super) fn check_memory(tensor: &Tensor, each: usize) -> Result<(), Error> {
    memory::check("values to draw", tensor.elem_count().saturating_mul(each) as u64)
}

/// Returns the values of a tensor [n] or of an array of numbers.
pub(super) fn values_of(what: &str, value: &Dynamic) -> Result<Vec<f64>, Error> {
    let wrong = |got: String| Error::invalid(what, "a tensor [n] or an array of numbers", got);
    if let Some(tensor) = value.read_lock::<Tensor>() {
        if tensor.rank() != 1 {
            let hint = "take one row, x[0], or all elements, x.reshape([-1])";
            return Err(wrong(format!("a tensor {:?}", tensor.dims())).with_hint(hint));
        }
        check_memory(&tensor, 64)?;
        return Ok(tensor.to_dtype(DType::F64)?.to_vec1()?);
    }
    let number = |x: &Dynamic| x.as_float().or_else(|_| x.as_int().map(|x| x as FLOAT)).ok();
    let array = value.read_lock::<Array>().ok_or_else(|| wrong(type_name(value)))?;
    let numbers =
        array.iter().map(|x| number(x).ok_or_else(|| wrong(format!("an array with {}", type_name(x)))));
    numbers.collect()
}

/// Converts a tensor to f32, the type of all arithmetic in scripts.
pub(super) fn floats(x: &Tensor) -> candle_core::Result<Tensor> {
    x.to_dtype(DType::F32)
}

pub(super) fn not_empty(x: &Tensor, name: &str) -> Result<(), Error> {
    let wrong = || Error::invalid(name, "a tensor with elements", "an empty one");
    if x.elem_count() > 0 { Ok(()) } else { Err(wrong()) }
}

/// Converts an axis from a script, counted from 0, or from −1 backwards.
pub(super) fn axis_of(x: &Tensor, axis: INT) -> Result<usize, Error> {
    tensors::wrap(axis, x.rank()).ok_or_else(|| {
        let expected = format!("-{} to {} for a tensor {:?}", x.rank(), x.rank() as INT - 1, x.dims());
        Error::invalid("the axis", expected, axis)
    })
}

/// Converts token ids or indices of features to an array of numbers.
pub(super) fn integers(numbers: &[u32]) -> Array {
    numbers.iter().map(|number| INT::from(*number).into()).collect()
}

/// Returns the token ids of a string, or of an array of token ids.
pub(super) fn tokens_of(model: &Model, input: &Dynamic, prepend_bos: Option<bool>) -> ScriptResult<Vec<u32>> {
    if let Ok(text) = input.clone().into_immutable_string() {
        return script(model.to_tokens(&text, prepend_bos));
    }
    script(ids_of(input))
}

/// Returns the token ids of an array of token ids, or of a single one.
pub(super) fn ids_of(input: &Dynamic) -> Result<Vec<u32>, Error> {
    let id = |value: &Dynamic| value.as_int().ok().and_then(|id| u32::try_from(id).ok());
    if let Some(id) = id(input) {
        return Ok(vec![id]);
    }
    let ids = input.read_lock::<Array>().map(|array| array.iter().map(id).collect::<Option<Vec<_>>>());
    ids.flatten().ok_or_else(|| {
        let is_array = input.is_array();
        let got = if is_array { "an array with other elements".to_owned() } else { type_name(input) };
        Error::invalid("the input", "a string or an array of token ids", got)
    })
}

/// Returns the records of a file (its path, or a value of `read_records`), or of an array of records.
pub(super) fn records_of(
    records: &Dynamic,
    model_name: Option<&str>,
) -> Result<Box<dyn Iterator<Item = crate::error::Result<FeatureRecord>>>, Error> {
    if let Ok(path) = records.clone().into_string() {
        return Ok(Box::new(read_records_of(path.as_ref(), model_name)?));
    }
    if let Some(file) = records.read_lock::<RecordFile>() {
        return Ok(file.records_of(model_name));
    }
    let record = |record: &Dynamic| record.read_lock::<FeatureRecord>().map(|record| record.clone());
    let array =
        records.read_lock::<Array>().and_then(|array| array.iter().map(record).collect::<Option<Vec<_>>>());
    let wrong = || {
        Error::invalid(
            "the records",
            "a path, a value of read_records or an array of records",
            type_name(records),
        )
    };
    Ok(Box::new(array.ok_or_else(wrong)?.into_iter().map(Ok)))
}

/// Returns a feature vector: `vector` itself, or a tensor used as a token embedding.
pub(super) fn vector_of(model: &Model, vector: &Dynamic) -> Result<FeatureVector, Error> {
    if let Some(vector) = vector.read_lock::<FeatureVector>() {
        return Ok(vector.clone());
    }
    let embedding = vector.read_lock::<Tensor>().ok_or_else(|| {
        let expected = "a value of feature_vector or ghost_token, or a tensor";
        Error::invalid("the vector", expected, type_name(vector))
            .with_hint("the vector of a feature is feature_vector(model, sae, index)")
    })?;
    FeatureVector::of_embedding(model, &embedding)
}

/// Returns a range from a script, `a..b` or `a..=b`; `None` if the value is not a range.
pub(super) fn range_of(value: &Dynamic) -> Option<Range<INT>> {
    let inclusive = || value.read_lock::<RangeInclusive<INT>>();
    let range = value.read_lock::<Range<INT>>().map(|range| range.clone());
    range.or_else(|| inclusive().map(|range| *range.start()..range.end().saturating_add(1)))
}

/// Converts "all", a range, or an array of feature indices to indices.
pub(super) fn features_of(sae: &Sae, features: &Dynamic) -> Result<Vec<usize>, Error> {
    let d_sae = sae.cfg().d_sae;
    let wrong = || {
        let got = TYPES.text(features);
        Error::invalid("the features", "\"all\", a range 0..10, or an array of indices, 0 or more", got)
    };
    if features.clone().into_string().is_ok_and(|text| text == "all") {
        return Ok((0..d_sae).collect());
    }
    if let Some(range) = range_of(features) {
        let bound = |i: INT| usize::try_from(i).map_err(|_| wrong());
        // One more than there are, so that a range that is too long is an error later.
        return Ok((bound(range.start)?..bound(range.end)?).take(d_sae + 1).collect());
    }
    let index = |i: &Dynamic| i.as_int().ok().and_then(|i| usize::try_from(i).ok()).ok_or_else(wrong);
    features.read_lock::<Array>().ok_or_else(wrong)?.iter().map(index).collect()
}

/// The option `scale` of trees, if it is not a number.
#[derive(Deserialize)]
struct ScaleOptions {
    scale: Scales,
}

/// Parses the scales to try: an array or "auto".
pub(super) fn scales_of(scale: Dynamic) -> ScriptResult<Scales> {
    Ok(options::parse::<ScaleOptions>([("scale".into(), scale)].into())?.scale)
}

/// Converts an array of tensors.
pub(super) fn tensors_of(array: Array) -> Result<Vec<Tensor>, Error> {
    let tensor = |value: Dynamic| {
        let got = type_name(&value);
        value.try_cast::<Tensor>().ok_or_else(|| Error::invalid("the array", "only tensors", got))
    };
    array.into_iter().map(tensor).collect()
}
