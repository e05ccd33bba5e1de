//! The integration tests, one binary, in reading order.

mod util;

// Models: every hook point, tokenizers, generation, bad checkpoints.
mod model;
// SAEs: every layout and architecture against its reference.
mod sae;
// Datasets: every format, and what is broken.
mod dataset;
