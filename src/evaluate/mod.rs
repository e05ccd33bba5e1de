//! How good an SAE is on real tokens.

mod check;

pub use check::{CheckOptions, SaeEvaluation, check_sae};
