//! The speed of products with weights `[2048, 16384]`, as large as those of a model with two billion parameters.
//!
//! `cargo bench -p saescope-kernels --bench products` prints for numbers of rows the milliseconds of each product and, for few
//! rows, how many times as long as reading the weights once that is; for many rows GFLOP/s.

use half::{bf16, f16};
use rayon::prelude::*;
use saescope_kernels::{Matrix, Packed, product, product_bf16, product_packed, zeros};
use std::time::Instant;

const K: usize = 2048;
const N: usize = 16384;
const RUNS: usize = 9;

fn main() {
    let mut wide = zeros::<f32>(K * N).unwrap();
    wide.iter_mut().enumerate().for_each(|(i, w)| *w = (i * 7919 % 1009) as f32 / 1009.0 - 0.5);
    let mut narrow = zeros::<bf16>(K * N).unwrap();
    narrow.iter_mut().zip(&wide).for_each(|(narrow, wide)| *narrow = bf16::from_f32(*wide));
    let x: Vec<f32> = (0..1024 * K).map(|i| (i * 7919 % 10007) as f32 / 5000.0 - 1.0).collect();
    let packed = Packed::new(&[Matrix::new(&narrow, [K, N], [1, K]).unwrap()]).unwrap();
    let halves: Vec<f16> = wide.iter().map(|w| f16::from_f32(*w)).collect();
    let packed_f16 = Packed::new(&[Matrix::new(&halves, [K, N], [1, K]).unwrap()]).unwrap();
    drop(halves);
    let [reading_f32, reading_bf16] = [4, 2].map(|bytes| milliseconds(|| sum(&wide[..K * N * bytes / 4])));
    println!("reading the weights once: {reading_f32:.2} ms in f32, {reading_bf16:.2} ms in 16 bits");
    println!(
        "rows   f32 in rows        bf16 in columns    bf16 packed        f16 packed         computed in bf16"
    );
    for m in [1, 2, 4, 8, 12, 16, 17, 32, 64, 256, 1024] {
        let a = || Matrix::new(&x, [m, K], [K, 1]).unwrap();
        let times = [
            (milliseconds(|| drop(product(a(), Matrix::new(&wide, [K, N], [N, 1]).unwrap()))), reading_f32),
            (
                milliseconds(|| drop(product(a(), Matrix::new(&narrow, [K, N], [1, K]).unwrap()))),
                reading_bf16,
            ),
            (milliseconds(|| drop(product_packed(a(), &packed))), reading_bf16),
            (milliseconds(|| drop(product_packed(a(), &packed_f16))), reading_bf16),
            (milliseconds(|| drop(product_bf16(a(), &packed))), reading_bf16),
        ];
        let shown = times.map(|(time, reading)| match m {
            ..64 => format!("{time:8.2} ms {:5.1} ×", time / reading),
            _ => format!("{time:8.2} ms {:5.0}  ", 2e-6 * (m * K * N) as f64 / time),
        });
        println!("{m:4} {}", shown.join(" "));
    }
}

/// The sum of all elements, by all threads.
fn sum(values: &[f32]) {
    let part = |part: &[f32]| {
        let (lanes, _) = part.as_chunks::<64>();
        let add = |mut sums: [f32; 64], lanes: &[f32; 64]| {
            sums.iter_mut().zip(lanes).for_each(|(sum, x)| *sum += x);
            sums
        };
        lanes.iter().fold([0.0; 64], add).iter().sum::<f32>()
    };
    std::hint::black_box(values.par_chunks(1 << 16).map(part).sum::<f32>());
}

/// The median of some runs.
fn milliseconds(mut work: impl FnMut()) -> f64 {
    let mut times: Vec<f64> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            work();
            1e3 * start.elapsed().as_secs_f64()
        })
        .collect();
    times.sort_by(f64::total_cmp);
    times[RUNS / 2]
}
