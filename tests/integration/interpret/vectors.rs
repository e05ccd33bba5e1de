//! Feature vectors and ghost tokens, token lists, logit lenses and similar features.

use super::trees::text_model;
use crate::util::fixture;
use candle_core::{DType, Device, Tensor};
use saescope::{
    FeatureVector, FeatureWeights, LogitLensOptions, Model, Result, Sae, SaeOptions, ScoredToken,
    TokenFilter, TokenList, TokenListOptions, TokenMethod, TokenOrder, VectorOptions, decoder_logit_lens,
    feature_vector, ghost_token, logit_lens, similar_features, token_list,
};
use serde::Deserialize;

/// A token list of the reference implementation, and its parameters.
#[derive(Deserialize)]
struct Reference {
    params: Params,
    tokens: Vec<Token>,
}

#[derive(Deserialize)]
struct Params {
    feature: usize,
    encoder: f64,
    decoder: f64,
    pca: Vec<f64>,
    no_centroid: bool,
    scale: f64,
    exponent: f64,
    top: usize,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Token {
    token: String,
    token_id: u32,
    score: f64,
}

impl Reference {
    fn read(path: &str) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        serde_json::from_str(&text).unwrap()
    }
}

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

/// Our token list for the reference's parameters; the default scale if `scale` is `None`.
fn list_of(model: &Model, sae: &Sae, params: &Params, scale: Option<f64>) -> TokenList {
    let options = VectorOptions {
        weights: FeatureWeights { encoder: params.encoder, decoder: params.decoder },
        pca_weights: params.pca.clone(),
        use_token_centroid: !params.no_centroid,
        scale,
        renormalize: false,
    };
    let vector = feature_vector(model, sae, params.feature, &options).unwrap();
    let options = TokenListOptions { exponent: params.exponent, top: params.top, ..Default::default() };
    token_list(model, &vector, &options).unwrap()
}

#[test]
fn token_lists_match_the_reference() {
    let golden = |name: &str| format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    let mut cases = Vec::new();
    for (model, lists) in [
        (
            text_model("gemma_text"),
            ["encoder", "mixed"].map(|n| fixture(&format!("models/gemma_text/tokens_{n}.json"))),
        ),
        (
            text_model("gpt2_text"),
            ["encoder", "mixed"].map(|n| fixture(&format!("models/gpt2_text/tokens_{n}.json"))),
        ),
        (demo(), ["tokens_encoder_624.json", "tokens_decoder_1663.json"].map(golden)),
    ] {
        cases.extend(lists.map(|list| (model.clone(), list)));
    }
    for ((model, sae), path) in cases {
        let reference = Reference::read(&path);
        let got = list_of(&model, &sae, &reference.params, Some(reference.params.scale));
        assert_eq!(got.tokens.len(), reference.params.top, "{path}");
        for (i, (got, expected)) in got.tokens.iter().zip(&reference.tokens).enumerate() {
            assert_eq!(got.token_id, expected.token_id, "{path}: {i}");
            // The reference has no string for an embedding row that belongs to no token.
            let known = model.tokenizer().unwrap().has(got.token_id);
            let text = if known { expected.token.clone() } else { format!("<id {}>", got.token_id) };
            assert_eq!(got.token, text, "{path}: {i}");
            close(&path, got.score, expected.score, 1e-5);
            assert_eq!(got.rank, i + 1, "{path}");
        }
        if !path.ends_with("mixed.json") {
            let by_default = list_of(&model, &sae, &reference.params, None);
            close(&path, by_default.params.vector.scale, reference.params.scale, 1e-5);
            assert_eq!(by_default.tokens[0].token_id, reference.tokens[0].token_id);
        }
    }
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
    let first = token_list(&model, &token, &TokenListOptions { top: 1, ..Default::default() }).unwrap();
    assert_eq!((first.tokens[0].token.as_str(), first.tokens[0].rank), (" body", 1));
    let centroid = vector(&model.embedding_stats().unwrap().centroid);
    let nowhere = FeatureVector::of_embedding(&model, &centroid).unwrap();
    assert_eq!((nowhere.params.scale, nowhere.direction[0]), (0.0, 0.0));
}

#[test]
fn token_lists_obey_method_filter_and_order() {
    let (model, sae) = text_model("gemma_text");
    let vector = feature_vector(&model, &sae, 3, &VectorOptions::default()).unwrap();
    let list = |change: &dyn Fn(&mut TokenListOptions)| {
        let mut options = TokenListOptions { top: 5000, ..Default::default() };
        change(&mut options);
        token_list(&model, &vector, &options).unwrap()
    };
    let rows = table(&model);
    let stats = model.embedding_stats().unwrap();
    let direction = wide(&vector.direction);

    let cosines = list(&|o| o.method = TokenMethod::CenteredCosine);
    assert_eq!(cosines.tokens.len(), 1536);
    for token in &cosines.tokens {
        let row = &rows[token.token_id as usize];
        let centered: Vec<f64> = row.iter().zip(&stats.centroid).map(|(x, c)| x - f64::from(*c)).collect();
        close("cosine", token.score, dot(&centered, &direction) / norm(&centered) / norm(&direction), 1e-9);
    }
    assert!(cosines.tokens.is_sorted_by(|a, b| a.score >= b.score));
    assert_eq!((cosines.params.method, cosines.params.exponent), (TokenMethod::CenteredCosine, None));

    let gain = wide(&model.ln_final_weight().unwrap().to_vec1::<f32>().unwrap());
    let unembed: Vec<Vec<f64>> =
        model.W_U().unwrap().t().unwrap().to_dtype(DType::F64).unwrap().to_vec2().unwrap();
    for (method, gain) in [(TokenMethod::LogitLens, gain), (TokenMethod::LogitLensRaw, vec![1.0; 32])] {
        let direction: Vec<f64> = direction.iter().zip(&gain).map(|(d, g)| d * g).collect();
        for token in &list(&|o| o.method = method).tokens {
            close("logit", token.score, dot(&unembed[token.token_id as usize], &direction), 1e-9);
        }
    }

    let all = list(&|_| ());
    assert!(all.tokens.is_sorted_by(|a, b| a.score <= b.score));
    assert!(all.tokens.iter().enumerate().all(|(i, token)| token.rank == i + 1));
    let farthest = list(&|o| o.order = TokenOrder::Farthest);
    assert!(farthest.tokens.iter().eq(all.tokens.iter().rev()));

    let tokenizer = model.tokenizer().unwrap();
    let real = list(&|o| o.filter = TokenFilter::NoSpecial);
    let kept: Vec<_> = all
        .tokens
        .iter()
        .filter(|t| tokenizer.has(t.token_id) && !tokenizer.is_special(t.token_id))
        .collect();
    assert!(real.tokens.iter().eq(kept.iter().copied()));
    assert!(real.tokens.len() < all.tokens.len() && all.tokens.iter().any(|t| t.token.starts_with("<id ")));
    assert!(!real.tokens.iter().any(|t| ["<bos>", "<eos>", "<pad>"].contains(&t.token.as_str())));
    let words = list(&|o| o.filter = TokenFilter::WordLike);
    let letters = |text: &str| text.trim_start_matches(' ').chars().filter(|c| c.is_alphabetic()).count();
    assert!(words.tokens.len() > 50);
    for ScoredToken { token, .. } in &words.tokens {
        let spaces = usize::from(token.starts_with(' '));
        assert!(letters(token) >= 3 && letters(token) + spaces == token.chars().count(), "{token:?}");
    }

    let few = list(&|o| o.top = 2);
    assert_eq!(few.tokens, all.tokens[..2]);
}

#[test]
fn vectors_lists_and_lenses_print_as_tables() {
    let (model, sae) = demo();
    let vector = feature_vector(&model, &sae, 624, &VectorOptions::default()).unwrap();
    let list = token_list(&model, &vector, &TokenListOptions { top: 3, ..Default::default() }).unwrap();
    insta::assert_snapshot!(vector, @"feature 624 of demo/blocks.0.hook_resid_pre, encoder [192], 1.0260 from the token centroid, cos(encoder, decoder) 0.6445");
    insta::assert_snapshot!(list, @r#"
    feature 624 of demo/blocks.0.hook_resid_pre, encoder: nearest tokens by ratio, exponent 1.4
      rank  token         score
         1  " body"      0.4954
         2  " building"  0.7088
         3  " blood"     0.7162
    "#);
    insta::assert_snapshot!(list.to_csv().unwrap(), @r#"
    rank,token,token_id,score
    1, body,723,0.49541692489019323
    2, building,2082,0.7087801819867366
    3, blood,981,0.7161746383566625
    "#);
    let odd = ScoredToken { token: "\n\"\u{200b}".to_owned(), token_id: 1, score: 0.5, rank: 4 };
    assert_eq!(odd.quoted(), r#""\n\"\u{200b}""#);
    let json: serde_json::Value = serde_json::to_value(&list).unwrap();
    assert_eq!(json["params"]["feature"], 624);
    assert_eq!(json["params"]["method"], "ratio");
    assert_eq!(json["tokens"][0]["token"], " body");
    let lens = logit_lens(&model, &vector, &LogitLensOptions { top: 2, ..Default::default() }).unwrap();
    insta::assert_snapshot!(lens, @r#"
    feature 624 of demo/blocks.0.hook_resid_pre, encoder: logit lens with the final norm's gain
      raises        logit  lowers    logit
      " body"      1.3270  "have"  -0.6883
      " building"  0.7122  "as"    -0.6475
    mean -0.0855, std 0.1605, skewness 0.3000, kurtosis 4.2310
    "#);
    insta::assert_snapshot!(similar_features(&sae, 624, None, 2).unwrap(), @r#"
    feature 624 of demo/blocks.0.hook_resid_pre: nearest features of demo/blocks.0.hook_resid_pre
      feature  cosine
          992  0.2985
          641  0.2936
    "#);
}

#[test]
fn logit_lenses_are_the_direction_times_the_unembedding() {
    let (model, sae) = demo();
    let vector = feature_vector(&model, &sae, 1663, &VectorOptions::default()).unwrap();
    let w_u = model.W_U().unwrap();
    let gain = model.ln_final_weight().unwrap();
    let logits = |direction: &Tensor, gain: Option<&Tensor>| -> Vec<f64> {
        let direction = gain.map_or(direction.clone(), |gain| (direction * gain).unwrap());
        wide(
            &direction
                .unsqueeze(0)
                .unwrap()
                .matmul(&w_u)
                .unwrap()
                .squeeze(0)
                .unwrap()
                .to_vec1::<f32>()
                .unwrap(),
        )
    };
    let row = sae.feature(1663).unwrap().decoder;
    let direction = Tensor::new(vector.direction.as_slice(), &Device::Cpu).unwrap();
    for (expected, final_norm_gain, of_row) in [
        (logits(&direction, Some(&gain)), true, false),
        (logits(&direction, None), false, false),
        (logits(&row, None), false, true),
    ] {
        let options = LogitLensOptions { top: 20, final_norm_gain };
        let lens = match of_row {
            true => decoder_logit_lens(&model, &sae, 1663, &options).unwrap(),
            false => logit_lens(&model, &vector, &options).unwrap(),
        };
        let n = expected.len() as f64;
        let mean = expected.iter().sum::<f64>() / n;
        let moment = |k| expected.iter().map(|x| (x - mean).powi(k)).sum::<f64>() / n;
        let std = moment(2).sqrt();
        close("mean", lens.mean, mean, 1e-6);
        close("std", lens.std, std, 1e-6);
        close("skewness", lens.skewness, moment(3) / std.powi(3), 1e-5);
        close("kurtosis", lens.kurtosis, moment(4) / std.powi(4), 1e-5);
        let mut sorted: Vec<f64> = expected.clone();
        sorted.sort_by(|a, b| b.total_cmp(a));
        for (i, (top, bottom)) in lens.top.iter().zip(&lens.bottom).enumerate() {
            close("top", top.score, sorted[i], 1e-5);
            close("bottom", bottom.score, sorted[sorted.len() - 1 - i], 1e-5);
            close("id", expected[top.token_id as usize], top.score, 1e-5);
            assert_eq!((top.rank, bottom.rank), (i + 1, expected.len() - i));
        }
        assert_eq!((lens.top.len(), lens.bottom.len(), lens.histogram.len()), (20, 20, 60));
        assert_eq!((lens.max, lens.min), (lens.top[0].score, lens.bottom[0].score));
        assert_eq!(lens.histogram.iter().sum::<u64>(), expected.len() as u64);
        let middle = (0.0 - lens.min) / (lens.max - lens.min) * 60.0;
        let below =
            expected.iter().filter(|x| **x < lens.min + middle.floor() / 60.0 * (lens.max - lens.min));
        assert!(below.count().abs_diff(lens.histogram[..middle as usize].iter().sum::<u64>() as usize) <= 2);
    }
}

#[test]
fn similar_features_are_ranked_by_decoder_cosine() {
    let (_, sae) = demo();
    let other = Sae::load("demo", None, &SaeOptions::default()).unwrap();
    for among in [None, Some(&other)] {
        let rows: Vec<Vec<f64>> =
            among.unwrap_or(&sae).W_dec().unwrap().to_dtype(DType::F64).unwrap().to_vec2().unwrap();
        let one = wide(&sae.feature(5).unwrap().decoder.to_vec1::<f32>().unwrap());
        let mut expected: Vec<(usize, f64)> = rows
            .iter()
            .enumerate()
            .filter(|(i, _)| among.is_some() || *i != 5)
            .map(|(i, row)| (i, dot(row, &one) / norm(row) / norm(&one)))
            .collect();
        expected.sort_by(|a, b| b.1.total_cmp(&a.1));
        let got = similar_features(&sae, 5, among, 10).unwrap();
        assert_eq!(got.features.len(), 10);
        for (got, (feature, cosine)) in got.features.iter().zip(expected) {
            assert_eq!(got.feature, feature);
            close("cosine", got.cosine, cosine, 1e-9);
        }
    }
    let all = similar_features(&sae, 5, None, usize::MAX).unwrap();
    assert_eq!(all.features.len(), sae.cfg().d_sae - 1);
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
    let z = Sae::load("demo", None, &options).unwrap();
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
    ghost_token: expected a vector of d_model = 192 values for `demo`, got shape [3]
    hint: give one direction of the residual stream; a row of a matrix is matrix[i]
    "#);
    insta::assert_snapshot!(ghost(&[0.0; 192], &default), @r#"
    the tensor: expected a non-zero vector, got zeros
    hint: a zero vector has no direction; a feature that died in training may have such weights
    "#);
    insta::assert_snapshot!(ghost(&[f32::INFINITY; 192], &default), @r#"
    ghost_token: value 0: expected a finite number, got inf
    hint:
    "#);
    let weights = FeatureWeights { encoder: 0.0, decoder: 1.0 };
    insta::assert_snapshot!(ghost(&[1.0; 192], &VectorOptions { weights, ..default.clone() }), @r#"
    `weights` applies to the vector of a feature, not to the ghost token of a direction
    hint: leave `weights` out
    "#);
    insta::assert_snapshot!(failure(FeatureVector::of_embedding(&model, &vector(&[1.0]))), @r#"
    of_embedding: expected a vector of d_model = 192 values for `demo`, got shape [1]
    hint: give one direction of the residual stream; a row of a matrix is matrix[i]
    "#);
}

#[test]
fn lists_and_lenses_reject_zero_vectors_and_bad_options() {
    let (model, sae) = demo();
    let ghost = feature_vector(&model, &sae, 624, &VectorOptions::default()).unwrap();
    let failed = |vector: &FeatureVector, change: &dyn Fn(&mut TokenListOptions)| {
        let mut options = TokenListOptions::default();
        change(&mut options);
        failure(token_list(&model, vector, &options))
    };
    insta::assert_snapshot!(failed(&ghost, &|o| o.top = 0), @r#"
    `top`: expected at least 1, got 0
    hint:
    "#);
    insta::assert_snapshot!(failed(&ghost, &|o| o.exponent = -1.0), @r#"
    `exponent`: expected a number above 0, got -1
    hint:
    "#);
    assert!(failed(&ghost, &|o| o.exponent = f64::NAN).contains("`exponent`"));
    let bare = VectorOptions { use_token_centroid: false, scale: Some(0.0), ..Default::default() };
    let nothing = feature_vector(&model, &sae, 624, &bare).unwrap();
    insta::assert_snapshot!(failed(&nothing, &|_| ()), @r#"
    the vector: expected a non-zero vector, got zeros
    hint: a scale of 0 without the token centroid gives zeros, and the centroid itself has no direction
    "#);
    let centroid = vector(&model.embedding_stats().unwrap().centroid);
    let nowhere = FeatureVector::of_embedding(&model, &centroid).unwrap();
    insta::assert_snapshot!(failed(&nowhere, &|o| o.method = TokenMethod::CenteredCosine), @r#"
    the direction: expected a non-zero vector, got zeros
    hint: a scale of 0 without the token centroid gives zeros, and the centroid itself has no direction
    "#);
    // By the default method the centroid itself has a list.
    assert_eq!(token_list(&model, &nowhere, &TokenListOptions::default()).unwrap().tokens.len(), 100);
    let broken = FeatureVector { vector: vec![f32::NAN; 192], ..ghost.clone() };
    insta::assert_snapshot!(failed(&broken, &|_| ()), @r#"
    the vector: expected finite values, got NaN or infinity
    hint: make it again; a scale may have been too large
    "#);
    insta::assert_snapshot!(failure(token_list(&text_model("gpt2_text").0, &ghost, &TokenListOptions::default())), @r#"
    the vector has 192 values, `models/gpt2_text` has d_model = 32
    hint: use a vector with the model that it was made for
    "#);
    let no_tokenizer = Model::load(&fixture("models/gpt2")).unwrap();
    let d_model = no_tokenizer.cfg().d_model;
    let one = ghost_token(&no_tokenizer, &vector(&vec![1.0; d_model]), &VectorOptions::default()).unwrap();
    assert!(
        failure(token_list(&no_tokenizer, &one, &TokenListOptions::default())).contains("has no tokenizer")
    );
    assert!(
        failure(logit_lens(&no_tokenizer, &one, &LogitLensOptions::default())).contains("has no tokenizer")
    );
    assert!(
        failure(logit_lens(&model, &ghost, &LogitLensOptions { top: 0, ..Default::default() }))
            .contains("`top`")
    );
    let other = text_model("gpt2_text").1;
    insta::assert_snapshot!(failure(similar_features(&sae, 1, Some(&other), 5)), @r#"
    `demo/blocks.0.hook_resid_pre` writes d_out = 192 values, `models/gpt2_text/sae` writes 32
    hint: compare SAEs of one model that write to the same hook point, or both to the residual stream
    "#);
    assert!(failure(similar_features(&sae, 2048, None, 5)).contains("d_sae = 2048"));
    assert!(failure(similar_features(&sae, 0, None, 0)).contains("`top`"));
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
