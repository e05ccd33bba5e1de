//! What features mean, from their weights.

mod vectors;
