//! The kernels of saescope that need `unsafe`, behind functions that check their arguments: products of f32 matrices with
//! weights held in f32, bf16 or f16.

mod element;
mod few_rows;
mod matmul;
mod product;
mod zeros;

pub use element::Element;
pub use matmul::{Matrix, matmul};
pub use product::product;
pub use zeros::zeros;
