//! The integration tests, one binary, in reading order.

mod util;

// Models: every hook point, tokenizers, generation, bad checkpoints.
mod model;
// SAEs: every layout and architecture against its reference.
mod sae;
mod sae_layouts;
// Datasets: every format, and what is broken.
mod dataset;
// Feature datasets, whole.
mod extract;
// Scripts: values, errors, sessions.
mod script;
// The program.
mod cli;
// README, guide and scripts.
mod docs;
// Who imports whom.
mod tidy;
