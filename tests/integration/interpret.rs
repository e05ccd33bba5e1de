//! What features mean, from their weights.

mod trees;
mod vectors;
