//! Makes feature vectors, and checks that the weights they are made of are directions of the residual stream.

use super::vector::{FeatureVector, FeatureWeights, VectorOptions, VectorParams, at};
use crate::error::{Error, Result};
use crate::hooks::{HookName, Space};
use crate::linalg::{cosine, f32s, map_rows, to_f64, unit, vector_norm};
use crate::model::{EmbeddingStats, Model};
use crate::sae::{Feature, Sae};
use candle_core::Tensor;

/// A direction shorter than this fraction of the summed lengths of its parts counts as zero: the parts cancel.
const LEAST_FRACTION: f64 = 1e-6;

/// Makes the ghost token of a feature from the feature's weights.
///
/// ```
/// # fn main() -> saescope::Result<()> {
/// use saescope::interpret::VectorOptions;
/// use saescope::{Model, Sae, feature_vector};
///
/// let model = Model::load("demo")?;
/// let sae = Sae::load(("demo", "blocks.0.hook_resid_pre"))?;
/// let ghost = feature_vector(&model, &sae, 624, &VectorOptions::default())?;
/// assert_eq!(ghost.vector.len(), model.cfg().d_model);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// `feature` is out of range; the weights are not directions of the model's residual stream; the parts cancel; an
/// option is not finite; there are more `pca_weights` than principal components; a file cannot be read.
pub fn feature_vector(
    model: &Model,
    sae: &Sae,
    feature: usize,
    options: &VectorOptions,
) -> Result<FeatureVector> {
    let FeatureWeights { encoder, decoder } = options.weights;
    sae.check_feature(feature)?;
    options.check()?;
    if encoder != 0.0 {
        check_space(model, sae, Side::Encoder)?;
    }
    if decoder != 0.0 {
        check_space(model, sae, Side::Decoder)?;
    }
    let weights = sae.feature(feature)?;
    let mut direction = vec![0f64; model.cfg().d_model];
    for (side, tensor, weight) in
        [(Side::Encoder, &weights.encoder, encoder), (Side::Decoder, &weights.decoder, decoder)]
    {
        if weight != 0.0 {
            let unit = unit(&f32s(tensor)?)
                .ok_or_else(|| no_direction(&format!("the {} weights of feature {feature}", side.name())))?;
            direction.iter_mut().zip(unit).for_each(|(sum, x)| *sum += weight * x);
        }
    }
    let params = VectorParams {
        sae: Some(sae.cfg().sae_id.clone()),
        feature: Some(feature),
        hook_name: sae.cfg().hook_name.clone(),
        weights: Some(options.weights),
        encoder_decoder_cosine: encoder_decoder_cosine(&weights)?,
        ..Default::default()
    };
    let vector = finish(model, direction, encoder.abs() + decoder.abs(), options, params)?;
    let writes = check_space(model, sae, Side::Decoder).ok().map(|()| f32s(&weights.decoder)).transpose()?;
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
pub(super) fn decoder_row(model: &Model, sae: &Sae, feature: usize) -> Result<FeatureVector> {
    sae.check_feature(feature)?;
    check_space(model, sae, Side::Decoder)?;
    let weights = sae.feature(feature)?;
    let vector = f32s(&weights.decoder)?;
    let scale = vector_norm(&to_f64(&vector));
    let direction = unit(&vector).unwrap_or_else(|| vec![0.0; vector.len()]);
    let params = VectorParams {
        model: model.cfg().model_name.clone(),
        sae: Some(sae.cfg().sae_id.clone()),
        feature: Some(feature),
        hook_name: sae.cfg().hook_name.clone(),
        weights: Some(FeatureWeights::DECODER),
        encoder_decoder_cosine: encoder_decoder_cosine(&weights)?,
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
        let scale = vector_norm(&offset);
        let direction = offset.iter().map(|x| if scale > 0.0 { (x / scale) as f32 } else { 0.0 }).collect();
        let real =
            map_rows(model.embed_rows()?, |row| row == vector)?.into_iter().position(|is_equal| is_equal);
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
        Side::Encoder => (cfg.d_in, "d_in", None),
        Side::Decoder => (cfg.d_out, "d_out", cfg.hook_name_out.as_ref()),
    };
    let hook = hook.or(cfg.hook_name.as_ref());
    let space = hook.and_then(|name| name.parse::<HookName>().ok()).map(|hook| hook.point().space());
    let is_here = matches!(space, None | Some(Space::Residual | Space::ResidualPart | Space::Normalized));
    if width == d_model && is_here {
        return Ok(());
    }
    let at = hook.map_or(String::new(), |hook| format!(" at `{hook}`"));
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
    let length = vector_norm(&direction);
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

fn add_components(model: &Model, direction: &mut [f64], weights: &[f64]) -> Result<()> {
    // If all weights are 0, the components are unused, and computing them takes time.
    if weights.iter().all(|weight| *weight == 0.0) && weights.len() <= direction.len() {
        return Ok(());
    }
    let check = |most: usize| match weights.len() {
        n if n <= most => Ok(()),
        n => {
            let expected =
                format!("at most {most}, one for each principal component of the token embeddings");
            Err(Error::invalid("`pca_weights`", expected, format!("{n} weights")))
        }
    };
    check(model.cfg().d_model)?;
    let components = &model.principal_components()?.directions;
    check(components.dim(0)?)?;
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

/// Whether the requested weights of a feature are not zero.
pub(super) fn has_direction(sae: &Sae, feature: usize, weights: FeatureWeights) -> Result<bool> {
    let Feature { encoder, decoder, .. } = sae.feature(feature)?;
    let points = |tensor: &Tensor, weight: f64| -> Result<bool> {
        Ok(weight == 0.0 || unit(&f32s(tensor)?).is_some())
    };
    Ok(points(&encoder, weights.encoder)? && points(&decoder, weights.decoder)?)
}

fn no_direction(what: &str) -> Error {
    let hint = "a zero vector has no direction; a feature that died in training may have such weights";
    Error::invalid(what, "a non-zero vector", "zeros").with_hint(hint)
}

/// The cosine of the two; `None` if their widths differ or one is zero.
fn encoder_decoder_cosine(feature: &Feature) -> Result<Option<f64>> {
    let (encoder, decoder) = (to_f64(&f32s(&feature.encoder)?), to_f64(&f32s(&feature.decoder)?));
    let norms = [&encoder, &decoder].map(|x| vector_norm(x));
    if encoder.len() != decoder.len() || norms.contains(&0.0) {
        return Ok(None);
    }
    let dot = encoder.iter().zip(&decoder).map(|(a, b)| a * b).sum();
    Ok(Some(cosine(dot, norms[0], norms[1])))
}
