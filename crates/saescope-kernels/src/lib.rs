//! saescope's kernels: products of f32 matrices with weights held in f32, bf16 or f16, and, with the feature `cuda`, operators
//! on NVIDIA GPUs. They use `unsafe`; the public functions are safe and check their arguments.

mod bf16;
#[cfg(feature = "cuda")]
pub mod cuda;
mod element;
mod few_rows;
mod matmul;
mod packed;
mod packed_rows;
mod product;
mod zeros;

pub use bf16::{Bf16Rows, has_bf16, product_bf16};
pub use element::Element;
pub use matmul::{Matrix, matmul};
pub use packed::{COLUMNS, Packed};
pub use product::{product, product_packed};
pub use zeros::zeros;

/// How products of queries and keys become scores, and how many keys a query sees.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scores {
    /// The factor of the products.
    pub scale: f32,
    /// The cap `c` of the scores, if any: `c · tanh(score / c)`.
    pub soft_cap: Option<f32>,
    /// The number of keys that a query sees, its own included; `None` for all that are not later.
    pub window: Option<usize>,
}

/// What products are computed in. Sums are in f32 in any case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Precision {
    /// f32.
    #[default]
    F32,
    /// Both factors rounded to 10 bits of mantissa, on tensor cores. Only on NVIDIA GPUs.
    Tf32,
    /// Both factors rounded to bf16.
    Bf16,
}
