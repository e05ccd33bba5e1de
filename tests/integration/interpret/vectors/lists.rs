//! Token lists, logit lenses and similar features.

use super::{close, demo, dot, failure, norm, table, text_model, vector, wide};
use crate::util::fixture;
use candle_core::{DType, Device, Tensor};
use saescope::interpret::{
    FeatureVector, FeatureWeights, LogitLensOptions, ScoredToken, SimilarOptions, TokenFilter, TokenList,
    TokenListOptions, TokenMethod, TokenOrder, VectorOptions,
};
use saescope::{
    Model, Sae, decoder_logit_lens, feature_vector, ghost_token, logit_lens, similar_features, token_list,
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
    let options = TokenListOptions { exponent: params.exponent, top_k: params.top, ..Default::default() };
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
fn token_lists_obey_method_filter_and_order() {
    let (model, sae) = text_model("gemma_text");
    let vector = feature_vector(&model, &sae, 3, &VectorOptions::default()).unwrap();
    let list = |change: &dyn Fn(&mut TokenListOptions)| {
        let mut options = TokenListOptions { top_k: 5000, ..Default::default() };
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

    let few = list(&|o| o.top_k = 2);
    assert_eq!(few.tokens, all.tokens[..2]);
}

#[test]
fn vectors_lists_and_lenses_print_as_tables() {
    let (model, sae) = demo();
    let vector = feature_vector(&model, &sae, 624, &VectorOptions::default()).unwrap();
    let list = token_list(&model, &vector, &TokenListOptions { top_k: 3, ..Default::default() }).unwrap();
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
    let lens = logit_lens(&model, &vector, &LogitLensOptions { top_k: 2, ..Default::default() }).unwrap();
    insta::assert_snapshot!(lens, @r#"
    feature 624 of demo/blocks.0.hook_resid_pre, encoder: logit lens with the final norm's gain
      raises        logit  lowers    logit
      " body"      1.3270  "have"  -0.6883
      " building"  0.7122  "as"    -0.6475
    mean -0.0855, std 0.1605, skewness 0.3000, kurtosis 4.2310
    "#);
    insta::assert_snapshot!(similar_features(&sae, 624, None, &SimilarOptions { top_k: 2 }).unwrap(), @r#"
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
        let options = LogitLensOptions { top_k: 20, final_norm_gain };
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
    let other = Sae::load("demo").unwrap();
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
        let got = similar_features(&sae, 5, among, &SimilarOptions { top_k: 10 }).unwrap();
        assert_eq!(got.features.len(), 10);
        for (got, (feature, cosine)) in got.features.iter().zip(expected) {
            assert_eq!(got.feature, feature);
            close("cosine", got.cosine, cosine, 1e-9);
        }
    }
    let all = similar_features(&sae, 5, None, &SimilarOptions { top_k: usize::MAX }).unwrap();
    assert_eq!(all.features.len(), sae.cfg().d_sae - 1);
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
    insta::assert_snapshot!(failed(&ghost, &|o| o.top_k = 0), @r#"
    `top_k`: expected at least 1, got 0
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
        failure(logit_lens(&model, &ghost, &LogitLensOptions { top_k: 0, ..Default::default() }))
            .contains("`top_k`")
    );
    let other = text_model("gpt2_text").1;
    insta::assert_snapshot!(failure(similar_features(&sae, 1, Some(&other), &SimilarOptions { top_k: 5 })), @r#"
    `demo/blocks.0.hook_resid_pre` writes d_out = 192 values, `models/gpt2_text/sae` writes 32
    hint: compare SAEs of one model that write to the same hook point, or both to the residual stream
    "#);
    assert!(
        failure(similar_features(&sae, 2048, None, &SimilarOptions { top_k: 5 })).contains("d_sae = 2048")
    );
    assert!(failure(similar_features(&sae, 0, None, &SimilarOptions { top_k: 0 })).contains("`top_k`"));
}
