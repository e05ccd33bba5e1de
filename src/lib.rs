//! saescope is a scripting workbench for finding out what the features of a sparse autoencoder (SAE) mean: language
//! models, SAEs and activation extraction as fast native primitives, for rhai scripts and for Rust.
//!
//! The main task is a *feature dataset*: documents in, the active features of every token out.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use saescope::{ExtractOptions, Model, Progress, Sae, SaeOptions, create_feature_dataset, read_records};
//!
//! let model = Model::load("demo")?;
//! let sae = Sae::load("demo", None, &SaeOptions::default())?;
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
//! The tour, in reading order:
//!
//! - [`Model`] turns text into tokens and tokens into activations, which [`HookName`]s name as TransformerLens does;
//!   [`Hooks`] read and change them.
//! - [`Sae`] turns activations into sparse [`FeatureActs`] and back, as SAELens does.
//! - [`Registry`] lists published SAEs, and [`list_saes`] searches them.
//! - [`Dataset`] reads documents from local files or the hub.
//! - [`Repo`] is where models, SAEs and datasets come from: a local folder, or a repository on the Hugging Face hub.
//! - [`create_feature_dataset`] combines a model, an SAE and a dataset; [`FeatureRecord`] is a line of its output.
//!   [`visit_feature_acts`] gives the same features to your own [`Consumer`].
//! - [`Session`] runs scripts that use all of this.
//!
//! Results are those of the unprocessed checkpoint, as Hugging Face computes them, in f32 on the CPU.

mod error;
mod files;
mod guard;
mod progress;
mod threads;

mod yaml;

mod http;
mod hub;
mod repo;

mod label;
mod large;
mod linalg;
mod linear;
mod memory;
mod tensors;
mod text_table;

mod checkpoint;
mod demo;

mod hooks;

mod aliases;

mod model;

mod registry;

mod sae;

mod dataset;

mod extract;

mod dashboard;
mod evaluate;

mod feature_dataset;

mod interpret;

mod plot;

mod display;

mod script;

mod notebook;

#[cfg(feature = "cli")]
pub mod cli;

pub use aliases::{nearest_models, resolve_model};
/// The tensor library of activations and weights.
pub use candle_core;
pub use candle_core::Tensor;
pub use dashboard::{
    ColoredTokens, Example, ExampleOptions, FeatureDensity, MaxActivatingExamples, feature_density,
    max_activating_examples,
};
pub use dataset::{Dataset, DatasetOptions, Documents};
pub use display::{Bundle, Page, PageItem, Part, Shown, page, save, save_page};
pub use error::{Error, ErrorKind, Result};
pub use evaluate::{CheckOptions, SaeEvaluation, check_sae};
pub use extract::{
    Bos, Consumer, Context, ExtractOptions, ExtractSummary, FeatureRecord, LongDocuments, Packing,
    RecordFile, RecordReader, VisitSummary, check_fits, feature_acts, read_records, read_records_of,
    visit_feature_acts,
};
pub use feature_dataset::create_feature_dataset;
pub use hooks::{
    ActivationCache, Edits, HookName, HookPoint, HookPoints, Hooks, Site, SiteRow, Space, TokenBatch,
    hook_name_of,
};
pub use http::RetryPolicy;
pub use hub::{HubSettings, RepoKind};
pub use interpret::{
    Definition, DefinitionTree, FeatureVector, FeatureWeights, Fingerprints, Injection, LogitLens,
    LogitLensOptions, PROMPTS, ScaleScore, ScaleSweep, Scales, ScoredToken, SimilarFeature, SimilarFeatures,
    SimilarOptions, Steer, TokenFilter, TokenList, TokenListOptions, TokenListParams, TokenMethod,
    TokenOrder, TreeFile, TreeNode, TreeOptions, TreeParams, TreeReader, TreesSummary, VectorOptions,
    VectorParams, WriteTreesOptions, decoder_logit_lens, definition_tree, definition_trees, feature_vector,
    ghost_token, logit_lens, read_trees, scale_scores, scale_sweep, similar_features, token_list,
    write_definition_trees,
};
pub use linalg::{cosine_similarity, log_softmax, softmax, top_k};
pub use model::{
    ActivationFunction, AttentionType, EmbeddingStats, Encoding, GenerateOptions, KeyValueCache, Model,
    ModelConfig, ModelOptions, NormKind, PositionalEmbedding, PrincipalComponents, RopeScaling, Rotary,
    SpecialTokens, Tokenizer, TokenizerHints, char_offsets,
};
pub use notebook::EvcxrDisplay;
pub use plot::{
    Color, Colors, Figure, HeatmapOptions, HistogramOptions, PlotOptions, Series, features_figure,
    lens_figure, plot_activations, plot_bars, plot_density, plot_heatmap, plot_histogram, plot_line,
    plot_scatter, tokens_figure, tree_dot, tree_figure,
};
pub use progress::{Progress, ProgressEvent};
pub use registry::{
    Registry, RegistrySae, Release, ReleaseListing, Releases, SaeFilter, SaeListing, SaeTable, list_releases,
    list_saes,
};
pub use repo::Repo;
pub use sae::{
    ActivationNormalization, ActivationRule, Architecture, Feature, FeatureAct, FeatureActs, OutputHook, Sae,
    SaeCard, SaeConfig, SaeOptions, SaeWeights,
};
pub use script::{
    Completeness, Completion, CompletionKind, Completions, Help, HelpEntry, HelpText, Host, Inspection,
    Piece, PieceKind, Session, Unfinished, Variable,
};
pub use tensors::{TensorIndex, index_tensor, load_npy, load_safetensors, save_npy, save_safetensors};
