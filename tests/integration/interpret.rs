//! What features mean, from their weights.

mod characters;
mod depth_first;
mod many;
mod options;
mod trees;
mod vectors;
