//! Where each weight of an SAE is: its name, and how it is stored.

use super::config::SaeConfig;
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::files;
use crate::linalg::with_f32s;
use crate::progress::Progress;
use candle_core::Tensor;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;

/// The tensors of an SAE by name.
pub(super) enum Tensors {
    /// In files, read when they are needed.
    Stored(Checkpoint),
    /// In memory: f32, contiguous and finite.
    Memory(BTreeMap<String, Tensor>),
}

/// Where the weights of an SAE are among its tensors, and how they are stored.
#[derive(Debug)]
pub(super) struct Parts {
    /// `[d_in, d_sae]`; `None` if the encoder is the transposed decoder.
    pub(super) w_enc: Option<Matrix>,
    /// `[d_sae, d_out]`.
    pub(super) w_dec: Matrix,
    /// The bias of the pre-activations, `[d_sae]`: `b_enc`, or `b_gate` of a gated SAE. `None` means 0.
    pub(super) b_enc: Option<String>,
    /// `[d_out]`.
    pub(super) b_dec: String,
    /// JumpReLU only.
    pub(super) threshold: Option<Threshold>,
    /// Whether the threshold applies to the pre-activation times the norm of its decoder row.
    pub(super) threshold_times_norm: bool,
    /// `r_mag` and `b_mag`, `[d_sae]` each. Gated SAEs only.
    pub(super) magnitude: Option<[String; 2]>,
    /// `[d_in, d_out]`. Transcoders with a skip only.
    pub(super) w_skip: Option<Matrix>,
    /// The factor from activations to the scale of the weights; outputs are divided by it.
    pub(super) input_scale: f64,
}

impl Parts {
    /// The parts of an SAE with only encoder, decoder and their biases.
    pub(super) fn new(
        w_enc: Matrix,
        w_dec: Matrix,
        b_enc: impl Into<String>,
        b_dec: impl Into<String>,
    ) -> Self {
        Parts { w_enc: Some(w_enc), b_enc: Some(b_enc.into()), ..Parts::tied(w_dec, b_dec) }
    }

    /// The parts of an SAE with only a decoder and its bias.
    pub(super) fn tied(w_dec: Matrix, b_dec: impl Into<String>) -> Self {
        Parts {
            w_enc: None,
            w_dec,
            b_enc: None,
            b_dec: b_dec.into(),
            threshold: None,
            threshold_times_norm: false,
            magnitude: None,
            w_skip: None,
            input_scale: 1.0,
        }
    }

    /// Returns the names of the tensors with the shapes in which they are stored.
    pub(super) fn shapes(&self, cfg: &SaeConfig) -> Vec<(String, Vec<usize>)> {
        let SaeConfig { d_in, d_sae, d_out, .. } = *cfg;
        let matrix = |matrix: &Matrix, shape| (matrix.name.clone(), matrix.stored_shape(shape));
        let thresholds = self.threshold.iter().filter_map(|threshold| match threshold {
            Threshold::PerFeature(name) | Threshold::Log(name) => Some(name),
            Threshold::Shared(_) => None,
        });
        let of_features = self.b_enc.iter().chain(self.magnitude.iter().flatten()).chain(thresholds);
        let mut shapes: Vec<_> = self.w_enc.iter().map(|w_enc| matrix(w_enc, [d_in, d_sae])).collect();
        shapes.push(matrix(&self.w_dec, [d_sae, d_out]));
        shapes.push((self.b_dec.clone(), vec![d_out]));
        shapes.extend(of_features.map(|name| (name.clone(), vec![d_sae])));
        shapes.extend(self.w_skip.iter().map(|w_skip| matrix(w_skip, [d_in, d_out])));
        shapes
    }
}

impl Tensors {
    /// Checks that these tensors are there in these shapes, and in memory that no others are. Reads none.
    pub(super) fn check(&self, shapes: &[(String, Vec<usize>)], architecture: &str) -> Result<()> {
        let tensors = match self {
            Tensors::Stored(checkpoint) => {
                return shapes.iter().try_for_each(|(name, shape)| checkpoint.require(name, shape));
            }
            Tensors::Memory(tensors) => tensors,
        };
        for (name, shape) in shapes {
            let got = match tensors.get(name) {
                Some(tensor) if tensor.dims() == shape => continue,
                Some(tensor) => format!("{:?}", tensor.dims()),
                None => "none".to_owned(),
            };
            let what = format!("the tensor `{name}` of a {architecture} SAE");
            return Err(Error::invalid(what, format!("shape {shape:?}"), got));
        }
        match tensors.iter().find(|(name, _)| shapes.iter().all(|(known, _)| known != *name)) {
            None => Ok(()),
            Some((other, tensor)) => {
                let names: Vec<_> = shapes.iter().map(|(name, _)| name.as_str()).collect();
                let expected = format!("only {}", names.join(", "));
                let got = format!("also `{other}` of shape {:?}", tensor.dims());
                Err(Error::invalid(format!("the tensors of a {architecture} SAE"), expected, got))
            }
        }
    }

    /// Reads a tensor that is not a matrix of [`Parts`]; refuses elements that are not finite.
    pub(super) fn vector(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        finite(name, self.read(name, shape)?)
    }

    fn read(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        match self {
            Tensors::Stored(checkpoint) => checkpoint.read(name, shape),
            Tensors::Memory(tensors) => Ok(of(tensors, name)?.flatten_all()?.to_vec1()?),
        }
    }

    fn read_transposed(&self, name: &str, stored: [usize; 2]) -> Result<Vec<f32>> {
        match self {
            Tensors::Stored(checkpoint) => checkpoint.read_transposed(name, stored),
            Tensors::Memory(tensors) => Ok(of(tensors, name)?.t()?.flatten_all()?.to_vec1()?),
        }
    }

    /// Returns a matrix that is in memory as it is needed.
    pub(super) fn shared(&self, matrix: &Matrix) -> Option<Tensor> {
        match self {
            Tensors::Memory(tensors) if matrix.stored == Stored::AsIs => tensors.get(&matrix.name).cloned(),
            _ => None,
        }
    }

    /// Returns the files that the tensors are in.
    pub(super) fn paths(&self) -> impl Iterator<Item = &Path> {
        let checkpoint = match self {
            Tensors::Stored(checkpoint) => Some(checkpoint),
            Tensors::Memory(_) => None,
        };
        checkpoint.into_iter().flat_map(Checkpoint::paths)
    }

    /// Returns a hash of the files, or of the tensors in memory, in hexadecimal.
    pub(super) fn sha256(&self, progress: &Progress) -> Result<String> {
        /// The number of elements hashed at a time.
        const PART: usize = 1 << 20;
        let tensors = match self {
            Tensors::Stored(checkpoint) => return checkpoint.sha256(progress).map(str::to_owned),
            Tensors::Memory(tensors) => tensors,
        };
        let hash = |part: &[f32]| {
            progress.check()?;
            let bytes: Vec<u8> = part.iter().flat_map(|x| x.to_le_bytes()).collect();
            Ok::<_, Error>(files::sha256(&[&bytes]))
        };
        let mut hashes = Vec::new();
        for (name, tensor) in tensors {
            hashes.push(format!("{name} {:?}", tensor.dims()));
            let parts = with_f32s(tensor, |values| values.par_chunks(PART).map(hash).collect::<Result<_>>());
            hashes.extend::<Vec<_>>(parts??);
        }
        Ok(files::sha256(&hashes.iter().map(String::as_bytes).collect::<Vec<_>>()))
    }
}

fn of<'a>(tensors: &'a BTreeMap<String, Tensor>, name: &str) -> Result<&'a Tensor> {
    tensors.get(name).ok_or_else(|| Error::internal(format!("there is no tensor `{name}`")))
}

/// A matrix among the tensors.
#[derive(Debug)]
pub(super) struct Matrix {
    pub(super) name: String,
    pub(super) stored: Stored,
}

/// How a matrix `[rows, columns]` is stored.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Stored {
    /// As `[rows, columns]`.
    AsIs,
    /// As `[columns, rows]`.
    Transposed,
    /// As `[rows, n, columns]`, summed over `n` when it is read.
    InLayers(usize),
}

/// How the thresholds of a JumpReLU SAE are stored.
#[derive(Debug)]
pub(super) enum Threshold {
    /// A tensor `[d_sae]`.
    PerFeature(String),
    /// A tensor `[d_sae]` of logarithms.
    Log(String),
    /// One value for all features.
    Shared(f64),
}

impl Matrix {
    pub(super) fn plain(name: impl Into<String>) -> Self {
        Matrix { name: name.into(), stored: Stored::AsIs }
    }

    pub(super) fn transposed(name: impl Into<String>) -> Self {
        Matrix { name: name.into(), stored: Stored::Transposed }
    }

    /// Returns the sizes `[rows, columns]` of a matrix in a checkpoint; errors name the file `path`.
    pub(super) fn sizes(&self, checkpoint: &Checkpoint, path: &Path) -> Result<[usize; 2]> {
        let name = &self.name;
        match checkpoint.shape(name) {
            Some([columns, rows]) if self.stored == Stored::Transposed => Ok([*rows, *columns]),
            Some([rows, columns]) => Ok([*rows, *columns]),
            Some(other) => {
                let message = format!("tensor `{name}`: expected a matrix, got shape {other:?}");
                Err(Error::malformed(path, message))
            }
            None => Err(Error::malformed(path, format!("there is no tensor `{name}`"))
                .with_hint(format!("its tensors: {}", checkpoint.names().collect::<Vec<_>>().join(", ")))),
        }
    }

    /// Returns the shape in which a matrix `[rows, columns]` is stored.
    fn stored_shape(&self, [rows, columns]: [usize; 2]) -> Vec<usize> {
        match self.stored {
            Stored::AsIs => vec![rows, columns],
            Stored::Transposed => vec![columns, rows],
            Stored::InLayers(n) => vec![rows, n, columns],
        }
    }

    pub(super) fn read(&self, tensors: &Tensors, [rows, columns]: [usize; 2]) -> Result<Vec<f32>> {
        let values = match self.stored {
            Stored::AsIs => tensors.read(&self.name, &[rows, columns])?,
            Stored::Transposed => tensors.read_transposed(&self.name, [columns, rows])?,
            Stored::InLayers(n) => {
                let layers = tensors.read(&self.name, &[rows, n, columns])?;
                let rows = layers.chunks_exact((n * columns).max(1));
                rows.flat_map(|row| (0..columns).map(|c| row.iter().skip(c).step_by(columns).sum())).collect()
            }
        };
        finite(&self.name, values)
    }
}

/// Refuses weights that are not finite: a feature with NaN would never be active, without any message.
pub(super) fn finite(name: &str, values: Vec<f32>) -> Result<Vec<f32>> {
    if values.iter().all(|x| x.is_finite()) {
        return Ok(values);
    }
    Err(Error::NotFinite { message: format!("`{name}` of the SAE contains NaN or infinity") })
}
