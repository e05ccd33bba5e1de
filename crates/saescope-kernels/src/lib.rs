//! saescope's kernels: products of f32 matrices with weights held in f32, bf16 or f16. They use `unsafe`; the public functions
//! are safe and check their arguments.

mod element;
mod few_rows;
mod matmul;
mod product;
mod zeros;

pub use element::Element;
pub use matmul::{Matrix, matmul};
pub use product::product;
pub use zeros::zeros;
