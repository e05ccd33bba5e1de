//! The integration tests, one binary, in reading order.

mod util;

// The hub client, and the local hub server that other tests use.
mod hub;
// Models: every hook point, tokenizers, generation, bad checkpoints.
mod model;
mod tokenizers;
// Model families against Hugging Face, TransformerLens and candle-transformers, and hook points by module name.
mod bf16;
mod families;
mod held;
mod modules;
// Checkpoints that leave tensors out.
mod checkpoints;
mod oracle;
// The same on a GPU.
#[cfg(feature = "cuda")]
mod gpu;
// SAEs: every layout and architecture against its reference.
mod sae;
mod sae_layouts;
mod screen;
// Published SAEs: the registry, and searching it.
mod registry;
// Datasets: every format, and broken files.
mod dataset;
// Feature datasets, end to end.
mod contexts;
mod extract;
// All of the above by name, from a hub.
mod by_name;
// What holds for any batch, and for files that are damaged anywhere.
mod properties;
// Output files.
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
// The command line.
mod cli;
// Limits on memory and time, and interrupts.
#[cfg(unix)]
mod limits;
// The Jupyter kernel, over its sockets.
mod kernel;
// README, guide and scripts.
mod docs;
// Layers and the form of source files.
mod circles;
mod tidy;
