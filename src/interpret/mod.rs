//! What a feature means, judged by its weights: the *ghost token* made of it, how the model defines that token
//! (definition trees), and the tokens nearest to it (token lists).
//!
//! Everything here is plain data with serde and `PartialEq`; `plot` draws it and `display` shows it.

mod ghost;
mod grow;
mod logit_lens;
mod make_vector;
mod prompt;
mod ranking;
mod scale;
mod similar;
mod token_list;
mod tree;
mod tree_file;
mod tree_text;
mod trees;
mod vector;
mod walk;
mod words;

pub use grow::{definition_tree, definition_trees};
pub use logit_lens::{LogitLens, LogitLensOptions, decoder_logit_lens, logit_lens};
pub use make_vector::{feature_vector, ghost_token};
pub use prompt::PROMPTS;
pub use ranking::{ScoredToken, TokenFilter};
pub use scale::{ScaleScore, ScaleSweep, scale_scores, scale_sweep};
pub use similar::{SimilarFeature, SimilarFeatures, SimilarOptions, similar_features};
pub use token_list::{TokenList, TokenListOptions, TokenListParams, TokenMethod, TokenOrder, token_list};
pub use tree::{
    Definition, DefinitionTree, Fingerprints, Injection, Scales, Steer, TreeNode, TreeOptions, TreeParams,
};
pub use tree_file::TreeFile;
pub(crate) use tree_text::chain;
pub use trees::{TreeReader, TreesSummary, WriteTreesOptions, read_trees, write_definition_trees};
pub use vector::{FeatureVector, FeatureWeights, VectorOptions, VectorParams};
