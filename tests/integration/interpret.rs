//! What features mean, from their weights.

mod characters;
mod depth_first;
mod trees;
mod vectors;
