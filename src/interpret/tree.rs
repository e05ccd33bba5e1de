//! Definition trees as data: what a model says that a ghost token means, every likely way of saying it.
//!
//! A node is a token of the definition; its children are the tokens that may come next, by falling probability. The
//! root stands for the ghost token and is no token itself.

use super::vector::VectorParams;
use serde::{Deserialize, Serialize};

/// How a definition tree grows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TreeOptions {
    /// What the model is asked: a text in which every `{}` is the ghost token, or the name of one: "definition",
    /// "meaning", "repeat", "patchscope". Default: "definition", which is `A typical definition of "{}" would be "`.
    pub prompt: String,
    /// The most children of a node. Default: 5.
    pub top_k: usize,
    /// A node is kept if its cumulative probability is at least this. Default: 5e-5.
    pub cutoff: f64,
    /// The most tokens of a definition, at most 60. Default: 25.
    pub max_depth: usize,
    /// A token with one of these texts in it ends its branch. Default: the quotation mark that the prompt opens; of a
    /// prompt that opens none, a line break.
    pub stop: Option<Vec<String>>,
    /// Whether a beginning-of-sequence token goes in front of the prompt; default: as the model has it.
    pub prepend_bos: Option<bool>,
    /// A direction that is added to the residual stream while the model defines. Default: none.
    pub steer: Option<Steer>,
    /// The hook at which the vector is put in, such as "blocks.2.hook_resid_pre". Default: `hook_embed`, before a
    /// model's own scale of embeddings.
    pub inject_at: Option<String>,
    /// What happens to the activation there: "replace", "add" or "norm_matched". Default: "replace".
    pub inject: Injection,
    /// The token that is at the ghost's place before something is put there; default: none, the token centroid.
    pub placeholder: Option<String>,
    /// How many random directions of the same scale the tree is compared with, beside the centroid alone. Default: no
    /// comparison.
    pub null_directions: Option<usize>,
    /// Of the random directions: the same seed gives the same ones. Default: 0.
    pub seed: u64,
    /// The most memory for keys and values and for logits, in MiB. A smaller one is slower, and gives the same tree.
    /// Default: 1024.
    pub max_memory: usize,
}

/// A direction that is added to the residual stream at every position but that of the BOS.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Steer {
    /// Where, such as "blocks.6.hook_resid_post".
    pub hook: String,
    /// What the direction is multiplied with.
    pub coefficient: f64,
    /// The direction, `[d_model]`. Default: the feature's decoder weights at unit length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Vec<f32>>,
}

/// How a vector is put into an activation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Injection {
    /// It takes the activation's place.
    #[default]
    Replace,
    /// It is added.
    Add,
    /// Its direction is added, as long as the activation is.
    NormMatched,
}

/// A definition tree, and how it came about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DefinitionTree {
    /// How it came about.
    pub params: TreeParams,
    /// The ghost token.
    pub root: TreeNode,
}

/// A token of a definition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TreeNode {
    /// Its text; empty for the root.
    pub token: String,
    /// Its id; none for the root.
    pub token_id: Option<u32>,
    /// Its probability behind its parent.
    pub prob: f64,
    /// The product of the probabilities from the root down to it.
    pub cumulative_prob: f64,
    /// Where there was a comparison: the natural logarithm of the cumulative probability under the null, which is the
    /// mean over the null vectors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub null_log_prob: Option<f64>,
    /// What may come next, by falling probability.
    pub children: Vec<TreeNode>,
}

/// How a tree came about: the vector's parameters, and the options with their defaults filled in.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TreeParams {
    /// The version of this program.
    pub saescope: String,
    /// Of the vector.
    #[serde(flatten)]
    pub vector: VectorParams,
    /// The text with `{}` for the ghost token.
    pub prompt: String,
    /// The most children of a node.
    pub top_k: usize,
    /// The least cumulative probability.
    pub cutoff: f64,
    /// The most tokens of a definition.
    pub max_depth: usize,
    /// What ends a branch.
    pub stop: Vec<String>,
    /// Whether a BOS stood in front.
    pub prepend_bos: bool,
    /// What was added on the way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steer: Option<Steer>,
    /// Where the vector was put in, if not at the embedding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inject_at: Option<String>,
    /// How it was put in there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inject: Option<Injection>,
    /// What stood at the ghost's place before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placeholder: Option<String>,
    /// How many random directions the null has, where there was a comparison.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub null_directions: Option<usize>,
    /// Of the random directions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// The probability below which nodes have been left out since, by [`DefinitionTree::trim`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trimmed: Option<f64>,
}

/// A way from the root to a leaf: one definition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Definition {
    /// Its text, without the token that ends it if that is only the closing quotation mark.
    pub text: String,
    /// The product of the probabilities of its tokens.
    pub cumulative_prob: f64,
    /// The natural logarithm of how much likelier it is than under the null, where there was a comparison.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_ratio: Option<f64>,
}

impl Default for TreeOptions {
    fn default() -> Self {
        TreeOptions {
            prompt: "definition".to_owned(),
            top_k: 5,
            cutoff: 5e-5,
            max_depth: 25,
            stop: None,
            prepend_bos: None,
            steer: None,
            inject_at: None,
            inject: Injection::default(),
            placeholder: None,
            null_directions: None,
            seed: 0,
            max_memory: 1024,
        }
    }
}

impl TreeNode {
    /// The natural logarithm of how much likelier this node is than under the null, where there was a comparison.
    pub fn log_ratio(&self) -> Option<f64> {
        self.null_log_prob.map(|null| self.cumulative_prob.ln() - null)
    }
}
