//! Feature vectors and ghost tokens.

mod lists;

use super::trees::text_model;
use crate::util::fixture;
use candle_core::{DType, Device, Tensor};
use saescope::interpret::{FeatureVector, FeatureWeights, LogitLensOptions, TokenListOptions, VectorOptions};
use saescope::sae::SaeOptions;
use saescope::{Model, Progress, Result, Sae, decoder_logit_lens, feature_vector, ghost_token, token_list};

fn demo() -> (Model, Sae) {
    super::trees::demo("blocks.0.hook_resid_pre")
}

fn table(model: &Model) -> Vec<Vec<f64>> {
    let rows = model.W_E().unwrap().to_dtype(DType::F64).unwrap();
    rows.to_vec2().unwrap()
}

fn vector(values: &[f32]) -> Tensor {
    Tensor::new(values, &Device::Cpu).unwrap()
}

fn norm(x: &[f64]) -> f64 {
    dot(x, x).sqrt()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|x| f64::from(*x)).collect()
}

#[track_caller]
fn close(what: &str, got: f64, expected: f64, tolerance: f64) {
    let difference = (got - expected).abs();
    assert!(difference <= tolerance * expected.abs().max(1.0), "{what}: expected {expected}, got {got}");
}

/// The message and the hint of an error.
#[track_caller]
fn failure<T: std::fmt::Debug>(result: Result<T>) -> String {
    let error = result.unwrap_err();
    format!("{error}\nhint: {}", error.hint().unwrap_or_default()).replace(&fixture(""), "")
}

#[test]
fn embedding_statistics_are_means_over_the_rows() {
    let (model, _) = text_model("gemma_text");
    let (rows, stats) = (table(&model), model.embedding_stats().unwrap());
    let n = rows.len() as f64;
    let centroid: Vec<f64> =
        (0..model.cfg().d_model).map(|i| rows.iter().map(|row| row[i]).sum::<f64>() / n).collect();
    for (got, expected) in stats.centroid.iter().zip(&centroid) {
        close("centroid", f64::from(*got), *expected, 1e-7);
    }
    let away = |row: &Vec<f64>| norm(&row.iter().zip(&centroid).map(|(x, c)| x - c).collect::<Vec<_>>());
    close("distance", stats.mean_distance, rows.iter().map(away).sum::<f64>() / n, 1e-7);
    close("norm", stats.mean_norm, rows.iter().map(|row| norm(row)).sum::<f64>() / n, 1e-12);
}

#[test]
fn principal_components_are_eigenvectors_of_the_covariance() {
    for (model, _) in [text_model("gemma_text"), text_model("gpt2_text"), demo()] {
        let name = &model.cfg().model_name;
        let components = model.principal_components().unwrap();
        let rows = table(&model);
        let stats = model.embedding_stats().unwrap();
        let centered: Vec<Vec<f64>> = rows
            .iter()
            .map(|row| row.iter().zip(&stats.centroid).map(|(x, c)| x - f64::from(*c)).collect())
            .collect();
        assert_eq!(components.directions.dims(), [model.cfg().d_model, model.cfg().d_model]);
        let directions: Vec<Vec<f64>> =
            components.directions.to_vec2::<f32>().unwrap().iter().map(|row| wide(row)).collect();
        for (k, direction) in directions.iter().enumerate().take(5) {
            // C · v, row by row.
            let mut image = vec![0f64; direction.len()];
            for row in &centered {
                let along = dot(row, direction) / rows.len() as f64;
                image.iter_mut().zip(row).for_each(|(sum, x)| *sum += along * x);
            }
            let variance = components.variances[k];
            let off = norm(&image.iter().zip(direction).map(|(i, d)| i - variance * d).collect::<Vec<_>>());
            assert!(off <= 2e-7 * components.variances[0], "{name}: component {k} is off by {off}");
            let largest = direction.iter().fold(0f64, |m, x| if x.abs() > m.abs() { *x } else { m });
            assert!(largest > 0.0, "{name}: component {k} has the wrong sign");
            close("norm", norm(direction), 1.0, 1e-6);
            for other in &directions[..k] {
                close("angle", dot(direction, other), 0.0, 1e-6);
            }
        }
        assert!(components.variances.is_sorted_by(|a, b| a >= b), "{name}");
        let total: f64 = centered.iter().map(|row| dot(row, row)).sum::<f64>() / rows.len() as f64;
        close("total variance", components.variances.iter().sum(), total, 1e-6);
    }
}

#[test]
fn a_feature_vector_is_the_weighted_sum_of_its_parts() {
    let (model, sae) = text_model("gpt2_text");
    let feature = sae.feature(7).unwrap();
    let [e, d] = [&feature.encoder, &feature.decoder].map(|x| wide(&x.to_vec1::<f32>().unwrap()));
    let components = model.principal_components().unwrap().directions.to_vec2::<f32>().unwrap();
    let stats = model.embedding_stats().unwrap();
    let options = VectorOptions {
        weights: FeatureWeights { encoder: 0.75, decoder: -0.5 },
        pca_weights: vec![0.0, -0.25],
        scale: Some(2.5),
        ..Default::default()
    };
    let got = feature_vector(&model, &sae, 7, &options).unwrap();
    let direction: Vec<f64> = (0..32)
        .map(|i| 0.75 * e[i] / norm(&e) - 0.5 * d[i] / norm(&d) - 0.25 * f64::from(components[1][i]))
        .collect();
    for (i, expected) in direction.iter().enumerate() {
        close("direction", f64::from(got.direction[i]), *expected, 1e-6);
        close("vector", f64::from(got.vector[i]), f64::from(stats.centroid[i]) + 2.5 * expected, 1e-6);
    }
    assert_eq!(got.origin, stats.centroid);
    close("cosine", got.params.encoder_decoder_cosine.unwrap(), dot(&e, &d) / norm(&e) / norm(&d), 1e-9);
    assert_eq!(got.params.feature, Some(7));
    assert_eq!(got.params.hook_name.as_deref(), Some("blocks.1.hook_resid_post"));

    let unit =
        feature_vector(&model, &sae, 7, &VectorOptions { renormalize: true, ..options.clone() }).unwrap();
    close("unit", norm(&wide(&unit.direction)), 1.0, 1e-6);
    close("same way", dot(&wide(&unit.direction), &direction), norm(&direction), 1e-6);
    let bare =
        feature_vector(&model, &sae, 7, &VectorOptions { use_token_centroid: false, ..options }).unwrap();
    assert_eq!(bare.origin, vec![0.0; 32]);
    close("from zero", f64::from(bare.vector[3]), 2.5 * direction[3], 1e-6);

    let json = serde_json::to_string(&got).unwrap();
    let back: FeatureVector = serde_json::from_str(&json).unwrap();
    assert_eq!((&back.vector, &back.direction, &back.origin), (&got.vector, &got.direction, &got.origin));
    assert_eq!(back.params.weights, got.params.weights);
}

#[test]
fn a_vector_at_another_scale_points_the_same_way() {
    let (model, sae) = demo();
    let options = VectorOptions { scale: Some(0.0), ..Default::default() };
    let centroid = feature_vector(&model, &sae, 624, &options).unwrap();
    assert_eq!(centroid.vector, model.embedding_stats().unwrap().centroid);
    let far = feature_vector(&model, &sae, 624, &VectorOptions { scale: Some(-3.5), ..options }).unwrap();
    assert_eq!(centroid.at_scale(-3.5), far);
    assert_eq!(far.at_scale(0.0), centroid);
}

#[test]
fn ghost_tokens_come_from_directions_and_embeddings() {
    let (model, sae) = demo();
    let encoder = sae.feature(624).unwrap().encoder;
    let options = VectorOptions { pca_weights: vec![0.5], scale: Some(2.0), ..Default::default() };
    let feature = feature_vector(&model, &sae, 624, &options).unwrap();
    let ghost = ghost_token(&model, &(encoder * 17.0).unwrap(), &options).unwrap();
    for (got, expected) in ghost.vector.iter().zip(&feature.vector) {
        close("ghost", f64::from(*got), f64::from(*expected), 1e-6);
    }
    assert_eq!((ghost.params.feature, ghost.params.weights), (None, None));

    let body = model.to_tokens(" body", Some(false)).unwrap()[0] as usize;
    let embedding = model.W_E().unwrap().get(body).unwrap();
    let token = FeatureVector::of_embedding(&model, &embedding).unwrap();
    assert_eq!(token.vector, embedding.to_vec1::<f32>().unwrap());
    close("unit", norm(&wide(&token.direction)), 1.0, 1e-6);
    for (got, expected) in token.at_scale(token.params.scale).vector.iter().zip(&token.vector) {
        close("back", f64::from(*got), f64::from(*expected), 1e-6);
    }
    let first = token_list(&model, &token, &TokenListOptions { top_k: 1, ..Default::default() }).unwrap();
    assert_eq!((first.tokens[0].token.as_str(), first.tokens[0].rank), (" body", 1));
    let centroid = vector(&model.embedding_stats().unwrap().centroid);
    let nowhere = FeatureVector::of_embedding(&model, &centroid).unwrap();
    assert_eq!((nowhere.params.scale, nowhere.direction[0]), (0.0, 0.0));
}

#[test]
fn vectors_reject_bad_options_and_other_spaces() {
    let (model, sae) = demo();
    let failed = |change: &dyn Fn(&mut VectorOptions)| {
        let mut options = VectorOptions::default();
        change(&mut options);
        failure(feature_vector(&model, &sae, 624, &options))
    };
    let default = VectorOptions::default();
    insta::assert_snapshot!(failure(feature_vector(&model, &sae, 2048, &default)), @r#"
    the feature index: expected 0 to 2047 (d_sae = 2048), got 2048
    hint: features are counted from 0
    "#);
    insta::assert_snapshot!(failed(&|o| o.scale = Some(f64::NAN)), @r#"
    `scale`: expected a finite number, got NaN
    hint:
    "#);
    insta::assert_snapshot!(failed(&|o| o.scale = Some(1e300)), @r#"
    `scale` times the weights: expected a vector whose values f32 can hold, got scale 1e300
    hint:
    "#);
    insta::assert_snapshot!(failed(&|o| o.pca_weights = vec![0.0; 193]), @r#"
    `pca_weights`: expected at most 192, one for each principal component of the token embeddings, got 193 weights
    hint:
    "#);
    insta::assert_snapshot!(failed(&|o| o.weights.encoder = 0.0), @r#"
    the sum of the weighted directions: expected a non-zero vector, got zeros
    hint: give some weight to the encoder, the decoder or a principal component; opposite parts cancel
    "#);
    let (narrow, wide_sae) = (text_model("gpt2_text").0, &sae);
    insta::assert_snapshot!(failure(feature_vector(&narrow, wide_sae, 1, &default)), @r#"
    the encoder weights of `demo/blocks.0.hook_resid_pre` (d_in = 192 at `blocks.0.hook_resid_pre`) are not directions of the residual stream of `models/gpt2_text` (d_model = 32)
    hint: a ghost token lives where token embeddings do: use an SAE of the same model on the residual stream, or on what attention or an MLP adds to it; SAEs on hook_z, hook_q, hook_k, hook_v or inside an MLP read another space
    "#);
    let options = SaeOptions { hook_name: Some("blocks.0.attn.hook_z".to_owned()), ..Default::default() };
    let z = Sae::load_with("demo", &options, &Progress::default()).unwrap();
    insta::assert_snapshot!(failure(feature_vector(&model, &z, 1, &default)), @r#"
    the encoder weights of `demo/blocks.4.hook_resid_pre` (d_in = 192 at `blocks.0.attn.hook_z`) are not directions of the residual stream of `demo` (d_model = 192)
    hint: a ghost token lives where token embeddings do: use an SAE of the same model on the residual stream, or on what attention or an MLP adds to it; SAEs on hook_z, hook_q, hook_k, hook_v or inside an MLP read another space
    "#);
    insta::assert_snapshot!(failure(decoder_logit_lens(&model, &z, 1, &LogitLensOptions::default())), @r#"
    the decoder weights of `demo/blocks.4.hook_resid_pre` (d_out = 192 at `blocks.0.attn.hook_z`) are not directions of the residual stream of `demo` (d_model = 192)
    hint: a ghost token lives where token embeddings do: use an SAE of the same model on the residual stream, or on what attention or an MLP adds to it; SAEs on hook_z, hook_q, hook_k, hook_v or inside an MLP read another space
    "#);

    let ghost =
        |values: &[f32], options: &VectorOptions| failure(ghost_token(&model, &vector(values), options));
    insta::assert_snapshot!(ghost(&[1.0; 3], &default), @r#"
    the tensor: expected d_model = 192 values for `demo`, got shape [3]
    hint: give one direction of the residual stream; a row of a matrix is matrix[i]
    "#);
    insta::assert_snapshot!(ghost(&[0.0; 192], &default), @r#"
    the tensor: expected a non-zero vector, got zeros
    hint: a zero vector has no direction; a feature that died in training may have such weights
    "#);
    insta::assert_snapshot!(ghost(&[f32::INFINITY; 192], &default), @r#"
    the tensor: value 0: expected a finite number, got inf
    hint:
    "#);
    let weights = FeatureWeights { encoder: 0.0, decoder: 1.0 };
    insta::assert_snapshot!(ghost(&[1.0; 192], &VectorOptions { weights, ..default.clone() }), @r#"
    `weights` applies to the vector of a feature, not to the ghost token of a direction
    hint: leave `weights` out
    "#);
    insta::assert_snapshot!(failure(FeatureVector::of_embedding(&model, &vector(&[1.0]))), @r#"
    the tensor: expected d_model = 192 values for `demo`, got shape [1]
    hint: give one direction of the residual stream; a row of a matrix is matrix[i]
    "#);
}

/// All threads of a pool request the same statistics; none may deadlock on itself.
#[test]
fn threads_share_the_embedding_statistics() {
    use rayon::prelude::*;
    let (model, sae) = text_model("gpt2_text");
    let options = VectorOptions { pca_weights: vec![1.0], ..Default::default() };
    let vectors: Vec<_> = (0..64usize)
        .into_par_iter()
        .map(|index| feature_vector(&model, &sae, index, &options).unwrap().vector)
        .collect();
    let again = text_model("gpt2_text");
    for (index, vector) in vectors.iter().enumerate() {
        assert_eq!(*vector, feature_vector(&again.0, &again.1, index, &options).unwrap().vector);
    }
}
