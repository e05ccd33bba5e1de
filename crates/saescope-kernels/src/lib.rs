//! saescope's kernels: products of f32 matrices with weights held in f32, bf16 or f16. They use `unsafe`; the public functions
//! are safe and check their arguments.

mod bf16;
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
