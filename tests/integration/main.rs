//! The integration tests, one binary, in reading order.

mod util;

// The hub, and a hub on this machine for all that loads by name.
mod hub;
// Models: every hook point, tokenizers, generation, bad checkpoints.
mod model;
mod tokenizers;
// Model families against Hugging Face, TransformerLens and candle-transformers, also by the names of modules.
mod families;
mod modules;
// Checkpoints that leave tensors out.
mod checkpoints;
mod oracle;
// SAEs: every layout and architecture against its reference.
mod sae;
mod sae_layouts;
// Published SAEs: the list, and looking through it.
mod registry;
// Datasets: every format, and what is broken.
mod dataset;
// Feature datasets, whole.
mod contexts;
mod extract;
// All of these by name, from a hub.
mod by_name;
// What holds for any batch, and for files that are damaged anywhere.
mod properties;
// Where outputs go.
mod outputs;
// What features mean: vectors, token lists, logit lenses, trees.
mod interpret;
// Values as text, HTML, pictures and files.
mod display;
mod plot;
// Scripts: values, errors, sessions.
mod script;
// What the user reads when something is wrong.
mod errors;
// The program.
mod cli;
// What a script or a file makes of memory, and what stops a run.
#[cfg(unix)]
mod limits;
// The Jupyter kernel, over its sockets.
mod kernel;
// README, guide and scripts.
mod docs;
// Who imports whom.
mod tidy;
