//! The meaning of features, computed from their weights.

mod branches;
mod characters;
mod depth_first;
mod errors;
mod many;
mod options;
mod trees;
mod vectors;
