//! What Rust notebooks and short programs need: `use saescope::prelude::*;`.
//!
//! The primary types and functions, the options and results of these, hooks, and charts.

pub use crate::dashboard::{ColoredTokens, ExampleOptions, FeatureDensity, MaxActivatingExamples};
pub use crate::dataset::DatasetOptions;
pub use crate::evaluate::{CheckOptions, SaeEvaluation};
pub use crate::extract::{Consumer, Context, ExtractOptions, ExtractSummary, LongDocuments, Packing};
pub use crate::hooks::{ActivationCache, Edits, HookPoint, Hooks, Site, TokenBatch};
pub use crate::interpret::{
    DefinitionTree, FeatureVector, FeatureWeights, LogitLens, LogitLensOptions, ScaleSweep, Scales,
    SimilarFeatures, SimilarOptions, Steer, TokenList, TokenListOptions, TokenMethod, TreeOptions,
    TreesSummary, VectorOptions, WriteTreesOptions,
};
pub use crate::linalg::cosine_similarity;
pub use crate::model::{GenerateOptions, KeyValueCache, ModelOptions};
pub use crate::plot::{
    Figure, HeatmapOptions, HistogramOptions, PlotOptions, Series, plot_activations, plot_bars, plot_density,
    plot_heatmap, plot_histogram, plot_line, plot_scatter,
};
pub use crate::registry::SaeFilter;
pub use crate::sae::{Feature, FeatureActs, SaeConfig, SaeOptions, SaeWeights};
pub use crate::{
    Dataset, Error, EvcxrDisplay, FeatureRecord, HookName, Model, Progress, Result, Sae, Tensor, check_sae,
    create_feature_dataset, decoder_logit_lens, definition_tree, definition_trees, feature_acts,
    feature_density, feature_vector, ghost_token, list_saes, logit_lens, max_activating_examples,
    read_records, read_trees, scale_sweep, similar_features, token_list, visit_feature_acts,
    write_definition_trees,
};
