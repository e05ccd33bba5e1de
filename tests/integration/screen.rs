//! Encoding with a screen finds the features that f32 finds, but for those at a threshold.

use candle_core::{DType, Device, Tensor};
use saescope::hooks::TokenBatch;
use saescope::sae::{ActivationRule, Architecture, FeatureActs, OutputHook, SaeConfig, SaeWeights};
use saescope::{Dataset, Model, Progress, Sae, feature_acts};

const D_IN: usize = 100;
const D_SAE: usize = 1000;

fn random(seed: u64, n: usize) -> Vec<f32> {
    let mut state = seed;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..n).map(|_| (0..4).map(|_| uniform()).sum::<f32>() * 3f32.sqrt()).collect()
}

fn tensor(seed: u64, shape: &[usize], scale: f32) -> Tensor {
    let values = random(seed, shape.iter().product()).into_iter().map(|x| scale * x).collect();
    Tensor::from_vec::<_, f32>(values, shape, &Device::Cpu).unwrap()
}

/// An SAE of random directions with norms from 0.5 to 1.5.
fn sae(rule: ActivationRule) -> Sae {
    let norms = Tensor::arange(0u32, D_SAE as u32, &Device::Cpu).unwrap().to_dtype(DType::F32).unwrap();
    let norms = ((norms / D_SAE as f64).unwrap() + 0.5).unwrap();
    let w_enc = tensor(1, &[D_IN, D_SAE], 0.1).broadcast_mul(&norms).unwrap();
    let mut weights = SaeWeights::new(
        w_enc,
        tensor(2, &[D_SAE, D_IN], 0.1),
        tensor(3, &[D_SAE], 0.5),
        tensor(4, &[D_IN], 0.1),
    );
    let positive = |seed| tensor(seed, &[D_SAE], 1.0).abs().unwrap();
    match rule {
        ActivationRule::JumpRelu => weights.threshold = Some(positive(5)),
        ActivationRule::Gated => {
            weights.b_gate = weights.b_enc.take();
            weights.r_mag = Some(tensor(6, &[D_SAE], 0.3));
            weights.b_mag = Some(tensor(7, &[D_SAE], 0.3));
        }
        _ => {}
    }
    let architecture = Architecture { rule, output: OutputHook::Same };
    Sae::from_weights(SaeConfig::new(architecture, D_IN, D_SAE), weights).unwrap()
}

fn rules() -> Vec<ActivationRule> {
    vec![
        ActivationRule::Standard,
        ActivationRule::JumpRelu,
        ActivationRule::Gated,
        ActivationRule::TopK { k: 1, rescale_acts_by_decoder_norm: false },
        ActivationRule::TopK { k: 30, rescale_acts_by_decoder_norm: true },
        ActivationRule::AbsTopK { k: 30, rescale_acts_by_decoder_norm: false },
        ActivationRule::TopK { k: D_SAE, rescale_acts_by_decoder_norm: false },
    ]
}

/// Checks that `a` and `b` have the same features, but for some that are at most `least` above `threshold`, with activations that
/// differ by rounding errors of numbers of this size. Returns their number.
fn assert_equal_features(
    what: &str,
    a: &FeatureActs,
    b: &FeatureActs,
    threshold: f32,
    least: f32,
    size: f32,
) -> usize {
    assert_eq!(a.len(), b.len(), "{what}");
    let mut active = 0;
    for pos in 0..a.len() {
        let ((a, a_values), (b, b_values)) = (a.at(pos), b.at(pos));
        for [(a, a_values), (b, b_values)] in [[(a, a_values), (b, b_values)], [(b, b_values), (a, a_values)]]
        {
            for (feature, value) in a.iter().zip(a_values) {
                match b.binary_search(feature) {
                    Ok(i) => {
                        assert!((value - b_values[i]).abs() <= 2e-6 * size, "{what}: {feature} at {pos}")
                    }
                    Err(_) => assert!(value.abs() - threshold < least, "{what}: {feature}, {value} at {pos}"),
                }
            }
        }
        active += a.len();
    }
    active
}

#[test]
fn every_rule_finds_the_same_features_with_a_screen() {
    let x = tensor(8, &[700, D_IN], 1.0);
    for rule in rules() {
        let sae = sae(rule);
        for threshold in [0.0, 0.5] {
            let encode = |screen: bool| {
                sae.with_screen(screen).encode_above(&x, threshold, &Progress::default()).unwrap()
            };
            let (plain, screened) = (encode(false), encode(true));
            let what = format!("{rule:?}, threshold {threshold}");
            // Of features that compete, two may change places.
            let competes = matches!(rule, ActivationRule::TopK { .. } | ActivationRule::AbsTopK { .. });
            let least = if competes { f32::INFINITY } else { 1e-5 };
            let active = assert_equal_features(&what, &plain, &screened, threshold, least, 5.0);
            assert!(active > 100, "{what}: only {active} features are active");
        }
    }
}

#[test]
fn activations_with_a_screen_depend_neither_on_other_tokens_nor_on_threads() {
    let x = tensor(9, &[1500, D_IN], 1.0);
    for rule in rules() {
        let sae = sae(rule).with_screen(true);
        let all = sae.encode(&x).unwrap();
        let pool = rayon::ThreadPoolBuilder::new().num_threads(5).build().unwrap();
        let with_threads = pool.install(|| sae.encode(&x).unwrap());
        for pos in 0..all.len() {
            assert!(all.at(pos) == with_threads.at(pos), "{rule:?}, 5 threads, token {pos}");
        }
        for pos in [0, 1, 777, 1499] {
            let alone = sae.encode(&x.narrow(0, pos, 1).unwrap()).unwrap();
            assert!(alone.at(0) == all.at(pos), "{rule:?}, token {pos}");
        }
    }
}

#[test]
fn activations_that_overflow_are_errors_with_a_screen_too() {
    let x = Tensor::full(1e38f32, (2, D_IN), &Device::Cpu).unwrap();
    for rule in rules() {
        for screen in [false, true] {
            let got = sae(rule).with_screen(screen).encode(&(&x * 3.0).unwrap());
            assert!(got.is_err_and(|error| error.to_string().contains("infinite")), "{rule:?}, {screen}");
        }
    }
}

#[test]
fn sums_that_overflow_in_bf16_alone_are_computed() {
    // The products of two dimensions overflow before those of two others take them away again.
    let sign = Tensor::new(&[[-1f32], [-1.0], [1.0], [1.0]], &Device::Cpu).unwrap();
    let w_enc = (sign * (1.5 * 2f64.powi(63))).unwrap();
    let x = Tensor::full(2f32.powi(64), (1, 4), &Device::Cpu).unwrap();
    for rule in [ActivationRule::Standard, ActivationRule::TopK { k: 1, rescale_acts_by_decoder_norm: false }]
    {
        let one = Tensor::ones(1, DType::F32, &Device::Cpu).unwrap();
        let zeros = Tensor::zeros(4, DType::F32, &Device::Cpu).unwrap();
        let weights = SaeWeights::new(w_enc.clone(), w_enc.t().unwrap().contiguous().unwrap(), one, zeros);
        let architecture = Architecture { rule, output: OutputHook::Same };
        let sae = Sae::from_weights(SaeConfig::new(architecture, 4, 1), weights).unwrap().with_screen(true);
        // Without a screen the order of the sums decides whether it overflows.
        assert_eq!(sae.encode(&x).unwrap().at(0), (&[0u32][..], &[1f32][..]), "{rule:?}");
    }
}

#[test]
fn equal_features_are_selected_as_without_a_screen_in_little_time() {
    // All pre-activations are equal, so that the bounds tell no feature apart.
    let (d_in, d_sae) = (8, 60_000);
    let ones = |shape: &[usize]| Tensor::ones(shape, DType::F32, &Device::Cpu).unwrap();
    let weights = SaeWeights::new(ones(&[d_in, d_sae]), ones(&[d_sae, d_in]), ones(&[d_sae]), ones(&[d_in]));
    let rule = ActivationRule::TopK { k: 50, rescale_acts_by_decoder_norm: false };
    let architecture = Architecture { rule, output: OutputHook::Same };
    let sae = Sae::from_weights(SaeConfig::new(architecture, d_in, d_sae), weights).unwrap();
    let x = tensor(10, &[40, d_in], 1.0);
    let encode = |screen: bool| sae.with_screen(screen).encode(&x).unwrap();
    let start = std::time::Instant::now();
    let (plain, screened) = (encode(false), encode(true));
    for pos in 0..plain.len() {
        assert_eq!(plain.at(pos).0, screened.at(pos).0, "token {pos}");
    }
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}

#[test]
fn the_demo_has_the_same_features_with_a_screen() {
    let model = Model::load("demo").unwrap();
    let dataset = Dataset::open("demo").unwrap();
    let texts: Vec<String> =
        dataset.documents(&Progress::default()).take(200).collect::<Result<_, _>>().unwrap();
    for id in ["blocks.0.hook_resid_pre", "blocks.4.hook_resid_pre"] {
        let sae = Sae::load(("demo", id)).unwrap();
        let mut active = 0;
        for text in &texts {
            let tokens = TokenBatch::single(&model.to_tokens(text, None).unwrap());
            let acts = |screen: bool| {
                feature_acts(&model, &sae.with_screen(screen), &tokens, 0.0, &Progress::default()).unwrap()
            };
            active += assert_equal_features(id, &acts(false), &acts(true), 0.0, 1e-4, 50.0);
        }
        assert!(active > 10_000, "{id}: only {active} features are active");
    }
}
