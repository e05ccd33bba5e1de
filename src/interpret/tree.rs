//! Definition trees as data: what a model says that a ghost token means, every likely way of saying it.
//!
//! A node is a token of the definition; its children are the tokens that may come next, by falling probability. The
//! root stands for the ghost token and is no token itself.

use super::scale::Scales;
use super::vector::VectorParams;
use crate::error::{Error, Result};
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
    /// `scale · direction` is added.
    Add,
    /// The direction is added, as long as the activation is.
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
    /// How it was put in there, or at the embedding, if it did not take its place.
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
    /// What the model and the SAE were, in a file of many trees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprints: Option<Fingerprints>,
    /// The scales that were tried, where this is the best of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scales: Option<Scales>,
    /// The probability below which nodes have been left out since, by [`DefinitionTree::trim`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trimmed: Option<f64>,
}

/// Hashes that tell apart models or SAEs with the same name, in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprints {
    /// Of the model: [`Model::fingerprint`](crate::Model::fingerprint).
    pub model: String,
    /// Of the SAE: [`Sae::fingerprint`](crate::Sae::fingerprint).
    pub sae: String,
}

/// A way from the root to a leaf: one definition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Definition {
    /// Its text, as far as the `stop` that ends it.
    pub text: String,
    /// The product of the probabilities of its tokens.
    pub cumulative_prob: f64,
    /// Whether a `stop` ended it, rather than the cutoff or the depth.
    pub finished: bool,
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

impl DefinitionTree {
    /// The number of nodes without the root: tokens.
    pub fn len(&self) -> usize {
        self.root.size() - 1
    }

    /// Whether nothing was likely enough.
    pub fn is_empty(&self) -> bool {
        self.root.children.is_empty()
    }

    /// The longest definition, in tokens.
    pub fn depth(&self) -> usize {
        self.root.height()
    }

    /// The tree without the nodes whose cumulative probability is below `cutoff`, and without what follows them. What is
    /// left keeps its probabilities.
    #[must_use]
    pub fn trim(&self, cutoff: f64) -> Self {
        let trimmed = Some(self.params.trimmed.map_or(cutoff, |before| before.max(cutoff)));
        let params = TreeParams { trimmed, ..self.params.clone() };
        DefinitionTree { params, root: self.root.trim(cutoff) }
    }

    /// The tree with the branches that most set it apart from the null first: siblings by the largest logarithm of the
    /// probability ratio in their branch.
    ///
    /// # Errors
    /// A tree that was not compared with a null.
    pub fn contrast(&self) -> Result<Self> {
        if self.root.null_log_prob.is_none() {
            return Err(Error::mismatch(
                "the tree has nothing to be contrasted with",
                "grow it with the option `null_directions`, such as `null_directions: 8`",
            ));
        }
        let (root, _) = self.root.by_ratio();
        Ok(DefinitionTree { params: self.params.clone(), root })
    }

    /// Every definition, a way from the root to a leaf: those that came to their end first, each by falling probability.
    pub fn definitions(&self) -> Vec<Definition> {
        let mut definitions = Vec::new();
        self.root.define("", &self.params.stop, &mut definitions);
        definitions.sort_by(|a, b| {
            b.finished.cmp(&a.finished).then(b.cumulative_prob.total_cmp(&a.cumulative_prob))
        });
        definitions
    }

    /// How much of a tree this is, in a few words: "43 tokens, those above 0.005".
    pub fn extent(&self) -> String {
        match (self.len(), self.params.trimmed) {
            (0, _) => format!("no token is as likely as {}: try a lower cutoff", self.params.cutoff),
            (n, trimmed) => {
                let tokens = if n == 1 { "1 token".to_owned() } else { format!("{n} tokens") };
                // Three digits say enough.
                let short = |cutoff: f64| format!("{cutoff:.2e}").parse().unwrap_or(cutoff);
                let above =
                    trimmed.map(|cutoff| format!(", those above {}", short(cutoff))).unwrap_or_default();
                tokens + above.as_str()
            }
        }
    }

    /// The probability that a definition begins with this text: the sum over the ways of writing it in tokens that the
    /// tree has; 0 if it has none.
    pub fn probability(&self, text: &str) -> f64 {
        if text.is_empty() { 1.0 } else { self.root.probability(text) }
    }
}

impl TreeNode {
    /// The natural logarithm of how much likelier this node is than under the null, where there was a comparison.
    pub fn log_ratio(&self) -> Option<f64> {
        self.null_log_prob.map(|null| self.cumulative_prob.ln() - null)
    }

    fn size(&self) -> usize {
        1 + self.children.iter().map(TreeNode::size).sum::<usize>()
    }

    fn height(&self) -> usize {
        self.children.iter().map(|child| child.height() + 1).max().unwrap_or(0)
    }

    fn trim(&self, cutoff: f64) -> TreeNode {
        let kept = self.children.iter().filter(|child| child.cumulative_prob >= cutoff);
        TreeNode { children: kept.map(|child| child.trim(cutoff)).collect(), ..self.without_children() }
    }

    fn without_children(&self) -> TreeNode {
        TreeNode { token: self.token.clone(), children: Vec::new(), ..*self }
    }

    /// The node with its children by the largest ratio in their branches, and the largest in its own.
    fn by_ratio(&self) -> (TreeNode, f64) {
        let mut children: Vec<_> = self.children.iter().map(TreeNode::by_ratio).collect();
        children.sort_by(|a, b| b.1.total_cmp(&a.1));
        let own = self.log_ratio().unwrap_or(f64::NEG_INFINITY);
        let best = children.first().map_or(own, |(_, ratio)| own.max(*ratio));
        let children = children.into_iter().map(|(child, _)| child).collect();
        (TreeNode { children, ..self.without_children() }, best)
    }

    fn define(&self, before: &str, stop: &[String], definitions: &mut Vec<Definition>) {
        let text = format!("{before}{}", self.token);
        for child in &self.children {
            child.define(&text, stop, definitions);
        }
        if self.children.is_empty() && self.token_id.is_some() {
            // Only the last token may have a stop in it.
            let ends = stop.iter().filter_map(|stop| text[before.len()..].find(stop.as_str())).min();
            let text = ends.map_or(text.as_str(), |end| &text[..before.len() + end]);
            definitions.push(Definition {
                text: text.trim().to_owned(),
                cumulative_prob: self.cumulative_prob,
                finished: ends.is_some(),
                log_ratio: self.log_ratio(),
            });
        }
    }

    fn probability(&self, text: &str) -> f64 {
        let of = |child: &TreeNode| match text.strip_prefix(child.token.as_str()) {
            Some("") => child.cumulative_prob,
            Some(rest) if !child.token.is_empty() => child.probability(rest),
            _ if child.token.starts_with(text) => child.cumulative_prob,
            _ => 0.0,
        };
        self.children.iter().map(of).sum()
    }
}
