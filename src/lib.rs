//! saescope is a scripting workbench for finding out what the features of a sparse autoencoder (SAE) mean: language
//! models, SAEs and activation extraction as fast native primitives, for rhai scripts and for Rust.
//!
//! The main task is a *feature dataset*: documents in, the active features of every token out.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use saescope::extract::ExtractOptions;
//! use saescope::{Model, Progress, Sae, create_feature_dataset, read_records};
//!
//! let model = Model::load("demo")?;
//! let sae = Sae::load("demo")?;
//! # let folder = tempfile::tempdir()?;
//! # let output_path = folder.path().join("features.jsonl").to_string_lossy().into_owned();
//! let options = ExtractOptions {
//!     dataset_path: "demo".to_owned(),
//!     output_path: output_path.clone(),
//!     max_examples: Some(20),
//!     activation_threshold: 0.1,
//!     ..Default::default()
//! };
//! let summary = create_feature_dataset(&model, &sae, None, &options, &Progress::default())?;
//! println!("{summary}");
//! for record in read_records(std::path::Path::new(&output_path))? {
//!     let record = record?;
//!     println!("{:?} {:?}", record.text, record.active_features);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! The root has the primary types and what one does with them. Options and results are in the modules, each of which begins
//! with a tour; [`prelude`] has what notebooks need. In reading order:
//!
//! - [`model`]: a [`Model`] turns text into tokens and tokens into activations; [`hooks`] name, read and change them.
//! - [`sae`]: an [`Sae`] turns activations into sparse features and back; [`registry`] lists the published ones.
//! - [`dataset`]: a [`Dataset`] reads documents from local files or the [`hub`].
//! - [`extract`]: [`create_feature_dataset`] combines the three; [`visit_feature_acts`] gives the same features to your own
//!   [`Consumer`](extract::Consumer). [`evaluate`] and [`dashboard`] say what an SAE and its records are like.
//! - [`interpret`]: what a feature means by its weights: [`definition_tree`], [`token_list`], [`logit_lens`].
//! - [`plot`] and [`display`] draw, show and save all of these.
//! - [`script`]: a [`Session`](script::Session) runs scripts that use all of this.
//!
//! Results are those of the unprocessed checkpoint, as Hugging Face computes them, in f32 on the CPU.

mod error;
mod files;
mod guard;
mod progress;
mod threads;
mod yaml;

mod http;
pub mod hub;
mod repo;

mod compute;
pub mod device;
mod label;
mod large;
pub mod linalg;
mod linear;
mod memory;
pub mod tensors;
mod text_table;

mod checkpoint;
mod demo;

pub mod hooks;

mod aliases;

pub mod model;

pub mod registry;

pub mod sae;

pub mod dataset;

pub mod extract;

pub mod dashboard;
pub mod evaluate;

mod feature_dataset;

pub mod interpret;

pub mod plot;

pub mod display;

pub mod script;

mod notebook;

#[cfg(feature = "cli")]
pub mod cli;

pub mod prelude;

/// The tensor library of activations and weights.
pub use candle_core;
pub use candle_core::Tensor;
pub use dashboard::{feature_density, max_activating_examples};
pub use dataset::Dataset;
pub use error::{Error, ErrorKind, Result};
pub use evaluate::check_sae;
pub use extract::{FeatureRecord, feature_acts, read_records, visit_feature_acts};
pub use feature_dataset::create_feature_dataset;
pub use hooks::HookName;
pub use interpret::{
    decoder_logit_lens, definition_tree, definition_trees, feature_vector, ghost_token, logit_lens,
    read_trees, scale_sweep, similar_features, token_list, write_definition_trees,
};
pub use model::Model;
pub use notebook::EvcxrDisplay;
pub use progress::{Progress, ProgressEvent};
pub use registry::{list_releases, list_saes};
pub use repo::Repo;
pub use sae::Sae;
