//! Tensors: creation, shapes, indexing, and files.

use super::arguments::{self, axis_of, floats, not_empty, range_of, tensors_of};
use super::limits::check_bytes;
use super::names::type_name;
use super::show::ShownType;
use super::{ScriptResult, progress_of, script};
use crate::error::Error;
use crate::large;
use crate::linalg;
use crate::memory;
use crate::tensors::{self, TensorIndex, index_tensor};
use candle_core::{DType, Device, Tensor};
use rhai::plugin::*;
use rhai::{Array, Dynamic, Engine, FLOAT, INT, Map};
use std::ops::{Range, RangeInclusive};
use std::path::Path;

pub(super) const SHOWN: &[ShownType] = &[ShownType::of::<Tensor>("x: &mut Tensor")];

pub(super) fn register(engine: &mut Engine) {
    engine.register_global_module(exported_module!(functions).into());
}

/// Converts the index of one axis.
fn index_of(index: &Dynamic) -> Result<TensorIndex, Error> {
    if let Ok(i) = index.as_int() {
        return Ok(TensorIndex::At(i));
    }
    if let Some(Range { start, end }) = range_of(index) {
        return Ok(TensorIndex::Range { start, end });
    }
    if index.clone().into_string().is_ok_and(|text| text == ":") {
        return Ok(TensorIndex::All);
    }
    Err(Error::invalid("an index", "a whole number, a range, or \":\"", type_name(index)))
}

/// Indexes as numpy does; an element is a number.
fn index(x: &Tensor, indices: &[Dynamic]) -> Result<Dynamic, Error> {
    let indices = indices.iter().map(index_of).collect::<Result<Vec<_>, _>>()?;
    let result = index_tensor(x, &indices)?;
    if result.rank() == 0 { scalar(&result) } else { Ok(Dynamic::from(result)) }
}

/// Returns the element of a tensor without axes, as a number.
fn scalar(x: &Tensor) -> Result<Dynamic, Error> {
    Ok(if x.dtype().is_float() {
        Dynamic::from(x.to_dtype(DType::F64)?.to_scalar::<f64>()?)
    } else {
        Dynamic::from(x.to_dtype(DType::I64)?.to_scalar::<i64>()?)
    })
}

/// Converts a shape from a script.
fn shape_of(shape: &Array) -> Result<Vec<usize>, Error> {
    let wrong =
        || Error::invalid("a shape", "an array of whole numbers, 0 or more", Dynamic::from(shape.clone()));
    let sizes: Option<Vec<usize>> =
        shape.iter().map(|n| n.as_int().ok().and_then(|n| usize::try_from(n).ok())).collect();
    let sizes = sizes.ok_or_else(wrong)?;
    large::check("a shape", &sizes)?;
    Ok(sizes)
}

/// Checks that the result of joining tensors is not too large.
fn check_joined(tensors: &[Tensor]) -> Result<(), Error> {
    large::check("the result", &[tensors.iter().map(Tensor::elem_count).fold(0, usize::saturating_add)])
}

/// Appends the elements of nested arrays to `elements`, and finds their shape.
fn flatten(
    value: &Dynamic,
    depth: usize,
    shape: &mut Vec<usize>,
    elements: &mut Vec<f32>,
) -> Result<(), Error> {
    let ragged = || Error::invalid("the array", "rows of equal length", "rows of different lengths");
    if let Some(array) = value.read_lock::<Array>() {
        match shape.get(depth) {
            None if elements.is_empty() => shape.push(array.len()),
            Some(len) if *len == array.len() => {}
            _ => return Err(ragged()),
        }
        return array.iter().try_for_each(|item| flatten(item, depth + 1, shape, elements));
    }
    let number = value.as_float().ok().or_else(|| value.as_int().ok().map(|n| n as FLOAT));
    let number = number.ok_or_else(|| Error::invalid("the array", "only numbers", type_name(value)))?;
    if depth != shape.len() {
        return Err(ragged());
    }
    elements.push(number as f32);
    Ok(())
}

/// Converts a tensor to nested arrays of numbers.
fn nest(x: &Tensor) -> Result<Dynamic, Error> {
    // Temporarily the elements also exist as f64.
    check_bytes("nested arrays", x.elem_count().saturating_mul(size_of::<Dynamic>() + size_of::<f64>()))?;
    if x.rank() == 0 {
        return scalar(x);
    }
    if x.rank() == 1 {
        let elements = x.to_dtype(DType::F64)?.to_vec1::<f64>()?;
        let is_int = !x.dtype().is_float();
        let number = |n: f64| if is_int { Dynamic::from(n as INT) } else { Dynamic::from(n) };
        return Ok(elements.into_iter().map(number).collect::<Array>().into());
    }
    let rows = (0..x.dim(0)?).map(|i| nest(&x.get(i)?)).collect::<Result<Array, Error>>()?;
    Ok(rows.into())
}

#[export_module]
mod functions {
    /// A multi-dimensional array of numbers.
    pub type Tensor = candle_core::Tensor;

    /// Creates a tensor from nested arrays of numbers, f32.
    ///
    /// ```rhai
    /// let x = tensor([[1, 2, 3], [4, 5, 6]]);
    /// print(x.shape);
    /// print(x[0] * 10 + 1);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn tensor(numbers: Array) -> ScriptResult<Tensor> {
        let (mut shape, mut flat) = (Vec::new(), Vec::new());
        script(flatten(&Dynamic::from(numbers), 0, &mut shape, &mut flat))?;
        script(Tensor::from_vec(flat, shape, &Device::Cpu))
    }

    /// A tensor of zeros with the given shape: `zeros([2, 3])`.
    ///
    /// ```rhai
    /// print(zeros([2, 3]));
    /// ```
    #[rhai_fn(return_raw)]
    pub fn zeros(shape: Array) -> ScriptResult<Tensor> {
        script(Tensor::zeros(script(shape_of(&shape))?, DType::F32, &Device::Cpu))
    }

    /// A tensor of ones with the given shape: `ones([2, 3])`.
    ///
    /// ```rhai
    /// print(ones([2, 3]) * 0.5);
    /// ```
    #[rhai_fn(return_raw)]
    pub fn ones(context: NativeCallContext, shape: Array) -> ScriptResult<Tensor> {
        let shape = script(shape_of(&shape))?;
        script(large::filled(&shape, &progress_of(&context), |_, part| part.fill(1.0)))
    }

    /// A tensor [n] of the numbers 0, 1, 2, … below `n`.
    ///
    /// ```rhai
    /// print(arange(5));
    /// ```
    #[rhai_fn(return_raw)]
    pub fn arange(context: NativeCallContext, n: INT) -> ScriptResult<Tensor> {
        let shape = script(shape_of(&vec![n.into()]))?;
        script(large::filled(&shape, &progress_of(&context), |first, part| {
            part.iter_mut().enumerate().for_each(|(i, element)| *element = (first + i) as f32);
        }))
    }

    /// A tensor of normally distributed random numbers; the same seed gives the same numbers: `randn([2, 3], 0)`.
    ///
    /// ```rhai
    /// print(randn([2, 3], 0));
    /// ```
    #[rhai_fn(return_raw)]
    pub fn randn(context: NativeCallContext, shape: Array, seed: INT) -> ScriptResult<Tensor> {
        let shape = script(shape_of(&shape))?;
        script(tensors::randn(&shape, seed as u64, &progress_of(&context)))
    }

    /// The sizes of the axes of a tensor, an array.
    ///
    /// ```rhai
    /// print(zeros([2, 3]).shape);
    /// ```
    #[rhai_fn(global, get = "shape", pure)]
    pub fn shape(x: &mut Tensor) -> Array {
        x.dims().iter().map(|n| Dynamic::from(*n as INT)).collect()
    }

    /// The type of the elements of a tensor: "f32", "u32", …
    ///
    /// ```rhai
    /// print(zeros([2, 3]).dtype);
    /// ```
    #[rhai_fn(global, get = "dtype", pure)]
    pub fn dtype(x: &mut Tensor) -> String {
        x.dtype().as_str().to_owned()
    }

    /// The size of the first axis of a tensor; 1 if it has no axes.
    ///
    /// ```rhai
    /// print(zeros([2, 3]).len());
    /// ```
    #[rhai_fn(global, name = "len", get = "len", pure)]
    pub fn tensor_len(x: &mut Tensor) -> INT {
        x.dims().first().map_or(1, |n| *n as INT)
    }

    #[rhai_fn(global, index_get, pure, return_raw)]
    pub fn get_one(x: &mut Tensor, i: INT) -> ScriptResult<Dynamic> {
        script(index(x, &[i.into()]))
    }

    #[rhai_fn(global, index_get, pure, return_raw)]
    pub fn get_range(x: &mut Tensor, range: Range<INT>) -> ScriptResult<Dynamic> {
        script(index(x, &[Dynamic::from(range)]))
    }

    #[rhai_fn(global, index_get, pure, return_raw)]
    pub fn get_inclusive(x: &mut Tensor, range: RangeInclusive<INT>) -> ScriptResult<Dynamic> {
        script(index(x, &[Dynamic::from(range)]))
    }

    #[rhai_fn(global, index_get, pure, return_raw)]
    pub fn get_several(x: &mut Tensor, indices: Array) -> ScriptResult<Dynamic> {
        script(index(x, &indices))
    }

    /// The product of two matrices, of a matrix and a vector, or of batches of matrices.
    ///
    /// ```rhai
    /// let a = tensor([[1, 2], [3, 4]]);
    /// print(a.matmul(a.t()));
    /// print(a.matmul(tensor([1, -1])));
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn matmul(context: NativeCallContext, a: &mut Tensor, b: Tensor) -> ScriptResult<Tensor> {
        script(large::matmul(a, &b, &progress_of(&context)))
    }

    /// The transpose of a tensor: swaps the last two axes.
    ///
    /// ```rhai
    /// print(tensor([[1, 2, 3], [4, 5, 6]]).t());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn t(x: &mut Tensor) -> ScriptResult<Tensor> {
        script(if x.rank() < 2 { Ok(x.clone()) } else { x.t() })
    }

    /// The same elements in another shape; one size may be -1, which means the rest.
    ///
    /// ```rhai
    /// print(arange(6).reshape([2, -1]));
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn reshape(x: &mut Tensor, shape: Array) -> ScriptResult<Tensor> {
        let open = shape.iter().position(|n| n.as_int() == Ok(-1));
        let mut shape = shape;
        if let Some(at) = open {
            shape[at] = Dynamic::ONE;
            let rest: usize = script(shape_of(&shape))?.iter().product();
            shape[at] = ((x.elem_count() / rest.max(1)) as INT).into();
        }
        let shape = script(shape_of(&shape))?;
        if shape.iter().product::<usize>() != x.elem_count() {
            let expected = format!("a shape of {} elements, like {:?}", x.elem_count(), x.dims());
            return script(Err(Error::invalid("reshape", expected, format!("{shape:?}"))));
        }
        script(x.reshape(shape))
    }

    /// The tensor without `axis`, which must have size 1.
    ///
    /// ```rhai
    /// print(zeros([1, 3]).squeeze(0).shape);
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn squeeze(x: &mut Tensor, axis: INT) -> ScriptResult<Tensor> {
        script(x.squeeze(script(axis_of(x, axis))?))
    }

    /// The tensor with a new axis of size 1 before `axis`.
    ///
    /// ```rhai
    /// print(zeros([3]).unsqueeze(0).shape);
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn unsqueeze(x: &mut Tensor, axis: INT) -> ScriptResult<Tensor> {
        let axis = if axis == x.rank() as INT { x.rank() } else { script(axis_of(x, axis))? };
        script(x.unsqueeze(axis))
    }

    /// The index of the largest element of the flattened tensor, or a tensor of indices along an axis; ties: the first.
    ///
    /// ```rhai
    /// print(tensor([[1, 5], [7, 2]]).argmax());
    /// print(tensor([[1, 5], [7, 2]]).argmax(1));
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn argmax(x: &mut Tensor) -> ScriptResult<INT> {
        script(not_empty(x, "argmax"))?;
        script(memory::check("argmax", (2 * x.elem_count() * size_of::<f32>()) as u64))?;
        let elements = script(x.flatten_all().and_then(|x| floats(&x)?.to_vec1::<f32>()))?;
        Ok(linalg::top_k(&elements, 1).first().map_or(0, |(at, _)| *at as INT))
    }

    #[rhai_fn(global, name = "argmax", pure, return_raw)]
    pub fn argmax_axis(x: &mut Tensor, axis: INT) -> ScriptResult<Tensor> {
        script(not_empty(x, "argmax"))?;
        let axis = script(axis_of(x, axis))?;
        script(floats(x).and_then(|x| x.argmax(axis)))
    }

    /// The `k` largest elements of a tensor [n], largest first: an array of maps with `index` and `value`.
    ///
    /// ```rhai
    /// print(tensor([0.5, 3, 1, 3]).topk(3));
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn topk(x: &mut Tensor, k: INT) -> ScriptResult<Array> {
        if x.rank() != 1 {
            let got = format!("{:?}", x.dims());
            return script(Err(
                Error::invalid("topk", "a tensor [n]", got).with_hint("take one row first: x[0].topk(5)")
            ));
        }
        /// The approximate size of a map of two numbers, in bytes.
        const ENTRY: usize = 1 << 9;
        let k = script(arguments::index("`k`", k))?.min(x.elem_count());
        script(check_bytes("the largest elements", k.saturating_mul(ENTRY)))?;
        let elements = script(floats(x).and_then(|x| x.to_vec1::<f32>()))?;
        let entry = |(index, value): (usize, f32)| {
            let mut map = Map::new();
            map.insert("index".into(), (index as INT).into());
            map.insert("value".into(), FLOAT::from(value).into());
            map.into()
        };
        Ok(linalg::top_k(&elements, k).into_iter().map(entry).collect())
    }

    /// The cosine similarity along the last axis; a tensor [n] is compared with each row of a tensor [rows, n].
    ///
    /// ```rhai
    /// let sae = load_sae("demo");
    /// print(sae.W_dec.cosine_similarity(sae.feature(700).decoder).topk(3));
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn cosine_similarity(a: &mut Tensor, b: Tensor) -> ScriptResult<Dynamic> {
        let cosine = script(linalg::cosine_similarity(a, &b))?;
        if cosine.rank() == 0 { script(scalar(&cosine)) } else { Ok(Dynamic::from(cosine)) }
    }

    /// Tensors concatenated along an existing axis: `cat([a, b], 0)`.
    ///
    /// ```rhai
    /// print(cat([tensor([1, 2]), tensor([3])], 0));
    /// ```
    #[rhai_fn(return_raw)]
    pub fn cat(tensors: Array, axis: INT) -> ScriptResult<Tensor> {
        let tensors = script(tensors_of(tensors))?;
        let axis = tensors.first().map_or(Ok(0), |first| axis_of(first, axis));
        script(check_joined(&tensors))?;
        script(Tensor::cat(&tensors, script(axis)?))
    }

    /// Tensors of equal shape, joined along a new axis: `stack([a, b], 0)`.
    ///
    /// ```rhai
    /// print(stack([tensor([1, 2]), tensor([3, 4])], 0));
    /// ```
    #[rhai_fn(return_raw)]
    pub fn stack(tensors: Array, axis: INT) -> ScriptResult<Tensor> {
        let tensors = script(tensors_of(tensors))?;
        let rank = tensors.first().map_or(0, Tensor::rank);
        let wrong = || Error::invalid("the axis", format!("0 to {rank}"), axis);
        let axis = script(usize::try_from(axis).ok().filter(|axis| *axis <= rank).ok_or_else(wrong))?;
        script(check_joined(&tensors))?;
        script(Tensor::stack(&tensors, axis))
    }

    /// The elements as nested arrays, which suits small tensors.
    ///
    /// ```rhai
    /// print(tensor([[1, 2], [3, 4]]).to_array());
    /// ```
    #[rhai_fn(global, pure, return_raw)]
    pub fn to_array(x: &mut Tensor) -> ScriptResult<Dynamic> {
        script(nest(x))
    }

    /// Writes a map of tensors to a .safetensors file, or one tensor to an .npy file.
    ///
    /// ```rhai
    /// save_tensors(#{ a: tensor([1, 2]), b: zeros([3]) }, "tensors.safetensors");
    /// print(load_tensors("tensors.safetensors").a);
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn save_tensors(tensors: Map, path: &str) -> ScriptResult<()> {
        let names: Vec<String> = tensors.keys().map(ToString::to_string).collect();
        let tensors = script(tensors_of(tensors.into_values().collect()))?;
        script(tensors::save_safetensors(names.into_iter().zip(tensors), Path::new(path)))
    }

    #[rhai_fn(name = "save_tensors", return_raw, volatile)]
    pub fn save_tensor(tensor: Tensor, path: &str) -> ScriptResult<()> {
        script(tensors::save_npy(&tensor, Path::new(path)))
    }

    /// Reads a .safetensors file as a map of tensors, or an .npy file as one tensor.
    ///
    /// ```rhai
    /// save_tensors(tensor([1, 2]), "x.npy");
    /// print(load_tensors("x.npy"));
    /// ```
    #[rhai_fn(return_raw, volatile)]
    pub fn load_tensors(path: &str) -> ScriptResult<Dynamic> {
        let path = Path::new(path);
        match path.extension().and_then(|e| e.to_str()) {
            Some("npy") => script(tensors::load_npy(path)).map(Dynamic::from),
            Some("safetensors") => {
                let tensors = script(tensors::load_safetensors(path))?;
                let map: Map = tensors.into_iter().map(|(name, t)| (name.into(), Dynamic::from(t))).collect();
                Ok(map.into())
            }
            _ => script(Err(Error::invalid(
                "the file",
                "a name ending in .safetensors or .npy",
                path.display(),
            ))),
        }
    }
}
