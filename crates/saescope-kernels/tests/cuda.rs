//! The GPU's operators against plain loops, on the first GPU. `tests/cuda/build` makes a driver that runs them on the CPU.
#![cfg(feature = "cuda")]

use candle_core::{DType, Device, Tensor};
use half::bf16;
use saescope_kernels::cuda::{self, Above, Actives, Selector};
use saescope_kernels::{Precision, Scores};
use std::ops::Range;
use std::sync::LazyLock;

/// The device of all tests: tensors of two openings do not work together.
static GPU: LazyLock<Device> = LazyLock::new(|| {
    let hint = "these tests need a GPU, or SAESCOPE_CUDA_LIBS=$(tests/cuda/build FOLDER)";
    cuda::open(0).unwrap_or_else(|error| panic!("{error}\n{hint}"))
});

/// Numbers from -1 to 1 in steps of 1/1000, so that some are equal.
fn random(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % 2001) as f32 / 1000.0 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

fn on_gpu(values: &[f32], shape: &[usize]) -> Tensor {
    Tensor::from_slice(values, shape, &GPU).unwrap()
}

fn values(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[track_caller]
fn assert_near(what: &str, got: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len(), "{what}");
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        let is_near = (f64::from(*got) - expected).abs() <= tolerance * expected.abs().max(1.0);
        assert!(is_near, "{what}, element {i}: expected {expected}, got {got}");
    }
}

/// `x · weight`.
fn product(x: &[f32], weight: &[f32], [n, d_in, d_out]: [usize; 3]) -> Vec<f64> {
    let at = |i: usize, j: usize| -> f64 {
        (0..d_in).map(|k| f64::from(x[i * d_in + k]) * f64::from(weight[k * d_out + j])).sum()
    };
    (0..n * d_out).map(|i| at(i / d_out, i % d_out)).collect()
}

#[test]
fn products_match_plain_loops() {
    for shape @ [n, d_in, d_out] in [[1, 8, 8], [3, 33, 17], [70, 64, 96], [5, 1, 3], [65, 40, 1]] {
        let (x, weight) = (random(n * d_in, 1), random(d_in * d_out, 2));
        let rounded: Vec<f32> = weight.iter().map(|w| bf16::from_f32(*w).to_f32()).collect();
        let scale = (d_in as f64).sqrt();
        let on = on_gpu(&x, &[n, d_in]);
        let by_rows = on_gpu(&weight, &[d_in, d_out]);
        let by_columns = by_rows.t().unwrap().contiguous().unwrap().t().unwrap();
        let wide = Tensor::cat(&[&by_rows, &by_rows, &by_rows], 1).unwrap();
        let layouts = [by_rows, by_columns, wide.narrow(1, d_out, d_out).unwrap()];
        for (layout, on_layout) in layouts.iter().enumerate() {
            let what = format!("{shape:?}, layout {layout}");
            let exact = product(&x, &weight, shape);
            let multiply =
                |weight: &Tensor, precision| values(&cuda::matmul(&on, weight, precision).unwrap());
            assert_near(&what, &multiply(on_layout, Precision::F32), &exact, 1e-6 * scale);
            assert_near(&what, &multiply(on_layout, Precision::Tf32), &exact, 2e-3 * scale);
            assert_near(&what, &multiply(on_layout, Precision::Bf16), &exact, 1e-2 * scale);
            let held = match layout {
                1 => on_layout.t().unwrap().to_dtype(DType::BF16).unwrap().t().unwrap(),
                _ => on_layout.to_dtype(DType::BF16).unwrap(),
            };
            let split = multiply(&held, Precision::F32);
            assert_near(&format!("{what}, split"), &split, &product(&x, &rounded, shape), 1e-6 * scale);
        }
    }
    let (x, weight) = (on_gpu(&[1.0; 6], &[2, 3]), on_gpu(&[1.0; 8], &[4, 2]));
    assert!(cuda::matmul(&x, &weight, Precision::F32).is_err());
    let empty = Tensor::zeros((3, 0), DType::F32, &GPU).unwrap();
    assert_eq!(cuda::matmul(&x, &empty, Precision::F32).unwrap().dims(), [2, 0]);
}

#[test]
fn norms_match_plain_loops() {
    for d in [1, 20, 768, 2304] {
        let rows = 3;
        // A large mean must not cancel.
        let x: Vec<f32> = random(rows * d, 3).into_iter().map(|x| x + 300.0).collect();
        let (weight, bias) = (random(d, 4), random(d, 5));
        let (on, weight_on, bias_on) = (on_gpu(&x, &[rows, d]), on_gpu(&weight, &[d]), on_gpu(&bias, &[d]));
        for has_bias in [false, true] {
            let normed = |row: &[f32]| -> Vec<f64> {
                let row: Vec<f64> = row.iter().map(|x| f64::from(*x)).collect();
                let mean = if has_bias { row.iter().sum::<f64>() / d as f64 } else { 0.0 };
                let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / d as f64;
                let shift = |j: usize| if has_bias { f64::from(bias[j]) } else { 0.0 };
                let scaled = |j: usize| (row[j] - mean) / (variance + 1e-5).sqrt() * f64::from(weight[j]);
                (0..d).map(|j| scaled(j) + shift(j)).collect()
            };
            let expected: Vec<f64> = x.chunks(d).flat_map(normed).collect();
            let got = cuda::norm(&on, &weight_on, has_bias.then_some(&bias_on), 1e-5, DType::F32).unwrap();
            assert_near(&format!("a norm of {d}"), &values(&got), &expected, 1e-4);
        }
    }
}

#[test]
fn sums_functions_and_gates_match_plain_loops() {
    let (n, d) = (5, 70);
    let (x, residual, bias) = (random(n * d, 6), random(n * d, 7), random(d, 8));
    let (on, residual_on, bias_on) = (on_gpu(&x, &[n, d]), on_gpu(&residual, &[n, d]), on_gpu(&bias, &[d]));
    let double = |x: &[f32]| x.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
    let (x, residual, bias) = (double(&x), double(&residual), double(&bias));
    let sum: Vec<f64> = x.iter().zip(&residual).enumerate().map(|(i, (x, r))| x + bias[i % d] + r).collect();
    let got = cuda::add(&on, Some(&bias_on), Some(&residual_on)).unwrap();
    assert_near("a sum", &values(&got), &sum, 1e-6);
    // More rows than a grid has.
    let (tall, ones) = (random(70_000, 12), on_gpu(&[1.0], &[1]));
    let got = cuda::add(&on_gpu(&tall, &[70_000, 1]), Some(&ones), None).unwrap();
    assert_near(
        "a tall sum",
        &values(&got),
        &tall.iter().map(|x| f64::from(x + 1.0)).collect::<Vec<_>>(),
        0.0,
    );
    let functions: [fn(f64) -> f64; 4] = [
        |x| 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh()),
        |x| 0.5 * x * (1.0 + candle_core::cpu::erf::erf_f64(x / 2f64.sqrt())),
        |x| x.max(0.0),
        |x| x / (1.0 + (-x).exp()),
    ];
    let wide = (&on * 4.0).unwrap();
    for (number, function) in functions.into_iter().enumerate() {
        let what = format!("function {number}");
        let biased: Vec<f64> = x.iter().enumerate().map(|(i, x)| function(4.0 * x + bias[i % d])).collect();
        let got = cuda::activate(&wide, Some(&bias_on), number as u32, DType::F32).unwrap();
        assert_near(&what, &values(&got), &biased, 1e-6);
        let gate = |row: &[f64]| (0..d / 2).map(|j| function(row[j]) * row[d / 2 + j]).collect::<Vec<_>>();
        let gated: Vec<f64> = x.chunks(d).flat_map(gate).collect();
        let got = cuda::gate(&on, number as u32, DType::F32).unwrap();
        assert_near(&what, &values(&got), &gated, 1e-6);
    }
}

#[test]
fn rotations_match_plain_loops() {
    // Heads 1 and 2 of 3, of which 6 of 8 dimensions are rotated.
    let (n, heads, d_head, half) = (5, 3, 8, 3);
    let x = random(n * heads * d_head, 9);
    let (cos, sin) = (random(n * half, 10), random(n * half, 11));
    let part = on_gpu(&x, &[n, heads, d_head]).narrow(1, 1, 2).unwrap();
    let got = cuda::rotate(&part, &on_gpu(&cos, &[n, half]), &on_gpu(&sin, &[n, half])).unwrap();
    let mut expected = Vec::new();
    for row in 0..n {
        let angle = |j: usize| (f64::from(cos[row * half + j]), f64::from(sin[row * half + j]));
        for head in 1..3 {
            let at = |j: usize| f64::from(x[(row * heads + head) * d_head + j]);
            let rotated = |j: usize| match j {
                0..3 => at(j) * angle(j).0 - at(j + half) * angle(j).1,
                3..6 => at(j) * angle(j - half).0 + at(j - half) * angle(j - half).1,
                _ => at(j),
            };
            expected.extend((0..d_head).map(rotated));
        }
    }
    assert_near("a rotation", &values(&got), &expected, 1e-6);
}

/// The active features of one row after the other.
fn rows_of(actives: &Actives) -> Vec<Vec<(u32, f32)>> {
    let starts = std::iter::once(&0).chain(&actives.ends);
    let row = |(start, end): (&u32, &u32)| {
        let row = *start as usize..*end as usize;
        actives.features[row.clone()].iter().copied().zip(actives.values[row].iter().copied()).collect()
    };
    starts.zip(&actives.ends).map(row).collect()
}

#[test]
fn selections_match_plain_loops() {
    let rows = 21;
    for (width, is_gated) in [(1, false), (31, true), (100, false), (2048, true)] {
        let mut selector = Selector::new(&GPU, rows, 3 * width).unwrap();
        let mut tight = Selector::new(&GPU, rows, 1).unwrap();
        let mut expected = vec![Vec::new(); rows];
        for tile in 0..3 {
            let [pre, bias, cut, factor, offset] = [0, 3, 6, 9, 12].map(|kind| {
                let n = if kind == 0 { rows * width } else { width };
                random(n, 20 + tile as u64 + kind)
            });
            for (i, pre) in pre.iter().enumerate() {
                let j = i % width;
                let sum = pre + bias[j];
                let value = if is_gated { pre * factor[j] + offset[j] } else { sum };
                if sum > cut[j] && (!is_gated || value > 0.5) {
                    expected[i / width].push(((tile * width + j) as u32, value));
                }
            }
            let [bias, cut, factor, offset] = [bias, cut, factor, offset].map(|x| on_gpu(&x, &[width]));
            let magnitude = is_gated.then_some([&factor, &offset]);
            let rule = Above { bias: &bias, cut: &cut, magnitude, threshold: 0.5 };
            let pre = on_gpu(&pre, &[rows, width]);
            selector.add(&pre, tile * width, &rule).unwrap();
            tight.add(&pre, tile * width, &rule).unwrap();
        }
        assert!(expected.iter().any(|row| row.len() > 1));
        assert_eq!(tight.finish().unwrap().unwrap_err(), expected.iter().map(Vec::len).max().unwrap());
        assert_eq!(rows_of(&selector.finish().unwrap().unwrap()), expected, "{width}");
    }
    // What is NaN is kept.
    let mut selector = Selector::new(&GPU, 1, 4).unwrap();
    let zero = on_gpu(&[0.0; 3], &[3]);
    let rule = Above { bias: &zero, cut: &zero, magnitude: None, threshold: 0.0 };
    selector.add(&on_gpu(&[-1.0, f32::NAN, 2.0], &[1, 3]), 0, &rule).unwrap();
    assert_eq!(selector.finish().unwrap().unwrap().features, [1, 2]);
}

#[test]
fn top_k_takes_the_largest_and_of_equal_ones_the_first() {
    let cases = [(1, false, true), (32, true, false), (100, false, false), (100, true, true)];
    for (width, (k, is_signed, has_norms)) in
        [5, 200, 1000, 4096].into_iter().flat_map(|w| cases.map(|c| (w, c)))
    {
        let rows = 4;
        let mut pre = random(rows * width, width as u64);
        if k == 100 {
            // Few are above 0.
            pre.iter_mut().for_each(|x| *x = if *x > 0.9 { *x } else { -1.5 });
        }
        let (bias, norms) = (random(width, 30), random(width, 31));
        let norms: Vec<f32> = norms.into_iter().map(f32::abs).collect();
        let value = |i: usize| {
            let sum = pre[i] + bias[i % width];
            if has_norms { sum * norms[i % width] } else { sum }
        };
        let size = |i: usize| if is_signed { value(i).abs() } else { value(i) };
        let largest = |row: usize| {
            let mut order: Vec<usize> = (row * width..(row + 1) * width).filter(|i| size(*i) > 0.0).collect();
            order.sort_by(|a, b| size(*b).total_cmp(&size(*a)));
            order.truncate(k);
            order.sort_unstable();
            order.into_iter().map(|i| ((i % width) as u32, value(i))).collect()
        };
        let expected: Vec<Vec<(u32, f32)>> = (0..rows).map(largest).collect();
        let (pre, bias) = (on_gpu(&pre, &[rows, width]), on_gpu(&bias, &[width]));
        let norms = has_norms.then(|| on_gpu(&norms, &[width]));
        let got = cuda::top_k(&pre, &bias, norms.as_ref(), k, is_signed).unwrap();
        assert_eq!(rows_of(&got), expected, "{width}, {k}");
    }
}

#[test]
fn the_first_number_that_is_not_finite_is_found() {
    let mut x = random(5000, 40);
    assert_eq!(cuda::first_not_finite(&on_gpu(&x, &[5000])).unwrap(), None);
    for (at, bad) in [(4999, f32::NAN), (1234, f32::NEG_INFINITY), (1000, f32::INFINITY)] {
        x[at] = bad;
        assert_eq!(cuda::first_not_finite(&on_gpu(&x, &[50, 100])).unwrap(), Some(at));
    }
    let largest = on_gpu(&[f32::MAX, f32::MIN, 0.0], &[3]);
    assert_eq!(cuda::first_not_finite(&largest).unwrap(), None);
}

/// The attention of one query to rows of keys, for one head.
fn attend(q: &[f32], keys: &[&[f32]], values: &[&[f32]], Scores { scale, soft_cap, .. }: Scores) -> Vec<f64> {
    let dot = |k: &[f32]| q.iter().zip(k).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum::<f64>();
    let cap = |x: f64| soft_cap.map_or(x, |cap| f64::from(cap) * (x / f64::from(cap)).tanh());
    let scores: Vec<f64> = keys.iter().map(|k| cap(dot(k) * f64::from(scale))).collect();
    let most = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = scores.iter().map(|score| (score - most).exp()).collect();
    let total: f64 = weights.iter().sum();
    let mixed = |i: usize| weights.iter().zip(values).map(|(w, v)| w * f64::from(v[i])).sum::<f64>() / total;
    (0..q.len()).map(mixed).collect()
}

#[test]
fn attention_matches_plain_loops() {
    let cases = [
        (8, 2, 1, None, None),
        (20, 6, 2, Some(1.5), None),
        (64, 4, 4, None, Some(5)),
        (64, 2, 1, Some(2.0), Some(70)),
        (80, 1, 1, None, None),
        (128, 2, 1, None, None),
        (256, 2, 1, Some(3.0), Some(33)),
    ];
    for (d_head, n_heads, n_groups, soft_cap, window) in cases {
        let scores = Scores { scale: 1.5 / (d_head as f32).sqrt(), soft_cap, window };
        // The queries, keys and values of a row are slices of one; the last sequence has a past of five keys.
        let (rows, heads) = (160, n_heads + 2 * n_groups);
        let all = random(rows * heads * d_head, d_head as u64);
        let on = on_gpu(&all, &[rows, heads, d_head]);
        let part = |start: usize, len: usize| on.narrow(1, start, len).unwrap();
        let (k, v) = (part(n_heads, n_groups), part(n_heads + n_groups, n_groups));
        let q = part(0, n_heads).narrow(0, 0, 155).unwrap();
        let spans: [[Range<usize>; 2]; 4] =
            [[0..1, 0..1], [1..66, 1..66], [66..130, 66..130], [130..155, 130..160]];
        let head = |row: usize, head: usize| &all[(row * heads + head) * d_head..][..d_head];
        let mut expected = Vec::new();
        for [queries, keys] in &spans {
            for i in 0..queries.len() {
                let end = keys.end - queries.len() + i + 1;
                let seen = end.saturating_sub(window.unwrap_or(usize::MAX)).max(keys.start)..end;
                for h in 0..n_heads {
                    let of = |start: usize| {
                        seen.clone().map(|row| head(row, start + h * n_groups / n_heads)).collect::<Vec<_>>()
                    };
                    let (keys, values) = (of(n_heads), of(n_heads + n_groups));
                    expected.extend(attend(head(queries.start + i, h), &keys, &values, scores));
                }
            }
        }
        for (precision, tolerance) in
            [(Precision::F32, 2e-6), (Precision::Tf32, 2e-6), (Precision::Bf16, 2e-2)]
        {
            let got = cuda::attention(&q, &k, &v, &spans, scores, precision).unwrap();
            let what = format!("attention, {d_head}, {precision:?}");
            assert_near(&what, &values(&got), &expected, tolerance);
        }
        let outside = [[0..1, 0..161]];
        assert!(cuda::attention(&q, &k, &v, &outside, scores, Precision::F32).is_err());
    }
}

#[test]
fn attention_along_paths_matches_plain_loops() {
    let cases = [
        (8, 2, 1, None, None),
        (20, 6, 2, Some(1.5), Some(7)),
        (64, 4, 4, None, None),
        (256, 2, 1, None, Some(40)),
    ];
    for (d_head, n_heads, n_groups, soft_cap, window) in cases {
        let scores = Scores { scale: 1.5 / (d_head as f32).sqrt(), soft_cap, window };
        let (n, cached, width) = (13, 300, n_groups * d_head);
        let q = random(n * n_heads * d_head, 50);
        let store = [51, 52].map(|seed| random(cached * width, seed));
        let (mut tokens, mut ends, mut expected) = (Vec::new(), Vec::new(), Vec::new());
        for i in 0..n {
            let path: Vec<u32> = (0..1 + i * 23 % 280).map(|j| ((7 * i + 11 * j) % cached) as u32).collect();
            let seen = &path[path.len().saturating_sub(window.unwrap_or(usize::MAX))..];
            for h in 0..n_heads {
                let start = h * n_groups / n_heads * d_head;
                let [keys, values] = [0, 1].map(|part| {
                    let row = |token: &u32| &store[part][*token as usize * width + start..][..d_head];
                    seen.iter().map(row).collect::<Vec<&[f32]>>()
                });
                expected.extend(attend(&q[(i * n_heads + h) * d_head..][..d_head], &keys, &values, scores));
            }
            tokens.extend(path);
            ends.push(tokens.len() as u32);
        }
        let q = on_gpu(&q, &[n, n_heads, d_head]);
        let [keys, all] = [0, 1].map(|part| on_gpu(&store[part], &[cached, width]));
        let got = cuda::path_attention(&q, [&keys, &all], &tokens, &ends, scores).unwrap();
        assert_near(&format!("paths, {d_head}"), &values(&got), &expected, 2e-6);
        tokens[3] = cached as u32;
        assert!(cuda::path_attention(&q, [&keys, &all], &tokens, &ends, scores).is_err());
    }
}
