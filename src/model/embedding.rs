//! Statistics of token embeddings: centroid, distances, principal components. The only user of the `faer` crate.
//!
//! The table may take most of the memory: it is read row by row or in bands of rows, and never copied.

use super::config::ModelConfig;
use super::weights::Weights;
use crate::checkpoint::Lazy;
use crate::error::{Error, Result};
use crate::linalg::{dot, map_bands, map_rows, row_norm, to_f64, with_f32s};
use candle_core::{DType, Device, Tensor};
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par, Side};
use rayon::prelude::*;

/// The number of rows that are processed together.
const BAND: usize = 1024;
/// The number of columns of the covariance per task.
const PANEL: usize = 64;
/// A component with less variance than this, relative to the first, is rounding error.
const MIN_VARIANCE: f64 = 1e-12;

/// Statistics of the token embeddings.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbeddingStats {
    /// The mean of the token embeddings, `[d_model]`: the token centroid.
    pub centroid: Vec<f32>,
    /// The mean distance of the token embeddings from the centroid.
    pub mean_distance: f64,
    /// The mean norm of the token embeddings.
    pub mean_norm: f64,
    /// The norm of the centroid.
    pub(crate) centroid_norm: f64,
    /// The norm of each token embedding, `[d_vocab]`.
    pub(crate) norms: Vec<f64>,
    /// The dot product of each token embedding with the centroid, `[d_vocab]`.
    pub(crate) centroid_dots: Vec<f64>,
}

/// The directions along which token embeddings differ most from their centroid.
#[derive(Debug, Clone)]
pub struct PrincipalComponents {
    /// Unit vectors by falling variance, `[n, d_model]`; the largest element of each is positive. `n` is at most
    /// `d_model`: directions without variance are left out.
    pub directions: Tensor,
    /// The variance along each direction, `[n]`.
    pub variances: Vec<f64>,
}

/// The statistics of a model's embeddings, computed on first use.
#[derive(Default)]
pub(super) struct Embedding {
    stats: Lazy<EmbeddingStats>,
    components: Lazy<PrincipalComponents>,
}

impl Embedding {
    pub(super) fn stats(&self, weights: &Weights, cfg: &ModelConfig) -> Result<&EmbeddingStats> {
        self.stats.get(|| {
            let table = weights.embed_rows()?;
            in_own_pool(|| stats(table, cfg))
        })
    }

    pub(super) fn components(&self, weights: &Weights, cfg: &ModelConfig) -> Result<&PrincipalComponents> {
        let stats = self.stats(weights, cfg)?;
        self.components.get(|| {
            let table = weights.embed_rows()?;
            in_own_pool(|| components(table, &stats.centroid))
        })
    }
}

impl EmbeddingStats {
    /// The distance of a token's embedding from the centroid; 0 if it is within rounding error.
    pub(crate) fn distance(&self, token: usize) -> f64 {
        distance(self.norms[token], self.centroid_dots[token], self.centroid_norm)
    }
}

/// The distance of two vectors, given their norms and dot product; 0 if it is within rounding error.
fn distance(norm: f64, dot: f64, other: f64) -> f64 {
    let (squares, squared) = (norm * norm + other * other, norm * norm - 2.0 * dot + other * other);
    if squared > 1e-14 * squares { squared.sqrt() } else { 0.0 }
}

/// Runs `compute` in a thread pool of its own. A rayon worker that waits takes other work meanwhile; if that work
/// needed the result of `compute`, it would wait for itself.
fn in_own_pool<T: Send>(compute: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(rayon::current_num_threads()).build();
    let pool = pool.map_err(Error::failed("start threads"))?;
    let joined = std::thread::scope(|scope| scope.spawn(|| pool.install(compute)).join());
    joined.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn stats(table: &Tensor, cfg: &ModelConfig) -> Result<EmbeddingStats> {
    let (n, d) = table.dims2()?;
    // Bands are added in order, so that the sum is the same on any number of threads.
    let bands: Vec<Vec<f64>> = map_bands(table, BAND, |band| {
        let mut sum = vec![0f64; d];
        for row in band.chunks_exact(d.max(1)) {
            sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += f64::from(*x));
        }
        sum
    })?;
    let mut mean = vec![0f64; d];
    for band in bands {
        mean.iter_mut().zip(band).for_each(|(mean, sum)| *mean += sum / n as f64);
    }
    let centroid: Vec<f32> = mean.iter().map(|x| *x as f32).collect();
    let mean = to_f64(&centroid);
    let (norms, centroid_dots): (Vec<f64>, Vec<f64>) =
        map_rows(table, |row| (row_norm(row), dot(row, &mean)))?.into_iter().unzip();
    if let Some(token) = norms.iter().position(|norm| !norm.is_finite()) {
        let message = format!("the embedding of token {token} of `{}` is not finite", cfg.model_name);
        return Err(Error::NotFinite { message });
    }
    let centroid_norm = row_norm(&centroid);
    let distances = norms.iter().zip(&centroid_dots).map(|(norm, dot)| distance(*norm, *dot, centroid_norm));
    let mean_distance = distances.sum::<f64>() / n as f64;
    let mean_norm = norms.iter().sum::<f64>() / n as f64;
    Ok(EmbeddingStats { centroid, mean_distance, mean_norm, centroid_norm, norms, centroid_dots })
}

/// The eigenvectors of the covariance, which is summed in f64: if variances are close, the last digits of f32 would
/// decide which direction is which.
fn components(table: &Tensor, centroid: &[f32]) -> Result<PrincipalComponents> {
    let (_, d) = table.dims2()?;
    let covariance = covariance(table, centroid)?;
    let eigen = MatRef::from_column_major_slice(&covariance, d, d).self_adjoint_eigen(Side::Lower);
    let eigen = eigen.map_err(|e| Error::NotFinite {
        message: format!("cannot compute the principal components of the token embeddings: {e:?}"),
    })?;
    let variance = |k: usize| eigen.S()[k];
    // faer sorts them by rising eigenvalue.
    let least = MIN_VARIANCE * d.checked_sub(1).map_or(0.0, variance);
    let kept: Vec<usize> = (0..d).rev().take_while(|k| variance(*k) > least).collect();
    let mut directions = Vec::with_capacity(kept.len() * d);
    for &k in &kept {
        let component: Vec<f64> = eigen.U().col(k).iter().copied().collect();
        let norm = component.iter().map(|x| x * x).sum::<f64>().sqrt();
        let largest = component.iter().fold(0f64, |most, x| if x.abs() > most.abs() { *x } else { most });
        directions.extend(component.iter().map(|x| (x / norm * largest.signum()) as f32));
    }
    let variances = kept.iter().map(|k| variance(*k)).collect();
    Ok(PrincipalComponents {
        directions: Tensor::from_vec(directions, (kept.len(), d), &Device::Cpu)?,
        variances,
    })
}

/// The covariance of the rows of a table, `[d, d]`, column by column; only the lower triangle is valid.
fn covariance(table: &Tensor, centroid: &[f32]) -> Result<Vec<f64>> {
    let (n, d) = table.dims2()?;
    let mut covariance = vec![0f64; d * d];
    let mut centered = vec![0f64; BAND.min(n) * d];
    for first in (0..n).step_by(BAND) {
        let band = table.narrow(0, first, BAND.min(n - first))?.to_dtype(DType::F32)?;
        let centered = &mut centered[..band.elem_count()];
        with_f32s(&band, |band| {
            centered.par_chunks_exact_mut(d).zip(band.par_chunks_exact(d)).for_each(|(centered, row)| {
                let away = row.iter().zip(centroid).map(|(x, c)| f64::from(*x) - f64::from(*c));
                centered.iter_mut().zip(away).for_each(|(centered, x)| *centered = x);
            });
        })?;
        let columns = MatRef::from_column_major_slice(centered, d, centered.len() / d); // [d, rows]
        covariance.par_chunks_mut(PANEL * d).enumerate().for_each(|(i, panel)| {
            let (start, width) = (i * PANEL, panel.len() / d);
            let panel = MatMut::from_column_major_slice_mut(panel, d, width).subrows_mut(start, d - start);
            let (below, own) = (columns.subrows(start, d - start), columns.subrows(start, width));
            matmul(panel, Accum::Add, below, own.transpose(), 1.0 / n as f64, Par::Seq);
        });
    }
    Ok(covariance)
}
