//! Definition trees as data: every likely way in which a model defines a ghost token.
//!
//! A node is a token of the definition; its children are the tokens that may come next, most likely first. The root
//! represents the ghost token.

use super::vector::VectorParams;
use crate::error::{Error, Result};
use crate::files;
use saescope_options::options;
use serde::{Deserialize, Serialize};
use std::path::Path;

options! {
    /// Options of [`definition_tree`](super::definition_tree).
    pub struct TreeOptions {
        /// The prompt: a string in which every `{}` is the ghost token, or one of the names "definition", "meaning",
        /// "repeat", "patchscope". Default: "definition", which is `A typical definition of "{}" would be "`.
        pub prompt: String = "definition".to_owned(),
        /// The maximum number of children of a node. Default: 5.
        pub top_k: usize = 5,
        /// The lowest cumulative probability of a node. Default: 5e-5.
        pub cutoff: f64 = 5e-5,
        /// The maximum number of tokens in a definition, up to 60. Default: 25.
        pub max_depth: usize = 25,
        /// A token that contains one of these strings ends its branch. Default: the closing mark of the quotation that
        /// the prompt opens, or a line break if it opens none.
        pub stop: Option<Vec<String>> = None,
        /// Whether the prompt starts with a BOS (beginning-of-sequence token). Default: the model's
        /// `default_prepend_bos`.
        pub prepend_bos: Option<bool> = None,
        /// A direction to add to the residual stream while the model writes definitions. Default: none.
        pub steer: Option<Steer> = None,
        /// The hook at which the vector is injected, such as "blocks.2.hook_resid_pre". Default: `hook_embed`, before
        /// the model scales its embeddings.
        pub inject_at: Option<String> = None,
        /// What happens to the activation there: "replace", "add" or "norm_matched". Default: "replace".
        pub inject: Injection = Injection::default(),
        /// The token at the ghost's positions before the injection. Default: none; the token centroid is there instead.
        pub placeholder: Option<String> = None,
        /// The number of random directions of equal length to compare with, besides the origin. Default: no comparison.
        pub null_directions: Option<usize> = None,
        /// The seed of the random directions. Default: 0.
        pub seed: u64 = 0,
        /// The memory limit for keys, values and logits, in MiB. Lower is slower, with the same tree. Default: 1024.
        pub max_memory: usize = 1024,
    }
}

/// A direction that is added to the residual stream at every position except the BOS.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Steer {
    /// The hook of the residual stream, such as "blocks.6.hook_resid_post".
    pub hook: String,
    /// The factor of the direction.
    pub coefficient: f64,
    /// The direction, `[d_model]`. Default: the feature's decoder weights at unit length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Vec<f32>>,
}

/// How a vector is injected into an activation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Injection {
    /// The vector replaces the activation.
    #[default]
    Replace,
    /// `scale · direction` is added to the activation.
    Add,
    /// The direction is added, scaled to the norm of the activation.
    NormMatched,
}

/// The scales to try: in options a list of numbers, or "auto".
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "serde_json::Value", into = "serde_json::Value")]
pub enum Scales {
    /// 24 scales from a quarter to four times the usual length; the best three get a tree.
    Auto,
    /// The given scales; each gets a tree.
    Given(Vec<f64>),
}

/// A definition tree, and how it was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DefinitionTree {
    /// How the tree was made.
    pub params: TreeParams,
    /// The root, which represents the ghost token.
    pub root: TreeNode,
}

/// A token of a definition, with all that may follow it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TreeNode {
    /// The token as a string; empty for the root.
    pub token: String,
    /// The token id; `None` for the root.
    pub token_id: Option<u32>,
    /// The probability of the token after its parent.
    pub prob: f64,
    /// The product of the probabilities from the root to this node.
    pub cumulative_prob: f64,
    /// The natural logarithm of the cumulative probability under the null, which is the mean over the null vectors.
    /// `None` without a comparison.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub null_log_prob: Option<f64>,
    /// The tokens that may come next, most likely first.
    pub children: Vec<TreeNode>,
}

/// How a tree was made: the parameters of the vector, and the options with their defaults filled in.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct TreeParams {
    /// The version of saescope.
    pub saescope: String,
    /// How the vector was made.
    #[serde(flatten)]
    pub vector: VectorParams,
    /// The prompt, with `{}` for the ghost token.
    pub prompt: String,
    /// The maximum number of children of a node.
    pub top_k: usize,
    /// The lowest cumulative probability of a node.
    pub cutoff: f64,
    /// The maximum number of tokens in a definition.
    pub max_depth: usize,
    /// The strings that end a branch.
    pub stop: Vec<String>,
    /// Whether the prompt started with a BOS.
    pub prepend_bos: bool,
    /// The steering, if there was any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub steer: Option<Steer>,
    /// The hook at which the vector was injected, if not at the embedding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inject_at: Option<String>,
    /// How the vector was injected; `None` if it replaced the embedding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inject: Option<Injection>,
    /// The token at the ghost's positions before the injection, if not the token centroid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub placeholder: Option<String>,
    /// The number of random directions of the null, if there was a comparison.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub null_directions: Option<usize>,
    /// The seed of the random directions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// The hashes of the model and the SAE, in a file of many trees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprints: Option<Fingerprints>,
    /// The scales that were tried, if this tree has the best of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scales: Option<Scales>,
    /// The cutoff of [`DefinitionTree::trim`], if nodes were removed by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trimmed: Option<f64>,
}

/// Hashes that distinguish models or SAEs with the same name, in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprints {
    /// The hash of the model, [`Model::fingerprint`](crate::Model::fingerprint).
    pub model: String,
    /// The hash of the SAE, [`Sae::fingerprint`](crate::Sae::fingerprint).
    pub sae: String,
}

/// One definition: a path from the root to a leaf.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Definition {
    /// The text, up to the `stop` that ends it.
    pub text: String,
    /// The product of the probabilities of the tokens.
    pub cumulative_prob: f64,
    /// Whether a `stop` ended the definition, rather than the cutoff or the depth.
    pub finished: bool,
    /// `ln(probability / probability under the null)`; `None` without a comparison.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_ratio: Option<f64>,
}

impl TryFrom<serde_json::Value> for Scales {
    type Error = String;

    fn try_from(value: serde_json::Value) -> Result<Self, String> {
        let wrong = || format!("expected a list of numbers or \"auto\", got {value}");
        if value == "auto" {
            return Ok(Scales::Auto);
        }
        let numbers = value.as_array().ok_or_else(wrong)?.iter().map(serde_json::Value::as_f64);
        Ok(Scales::Given(numbers.collect::<Option<_>>().ok_or_else(wrong)?))
    }
}

impl From<Scales> for serde_json::Value {
    fn from(scales: Scales) -> Self {
        match scales {
            Scales::Auto => "auto".into(),
            Scales::Given(scales) => scales.into(),
        }
    }
}

impl DefinitionTree {
    /// Reads a tree that [`save`](crate::display::save) has written as JSON.
    ///
    /// # Errors
    /// A file that is missing, or that does not hold a definition tree.
    pub fn load(path: &Path) -> Result<Self> {
        let bytes = files::read(path)?;
        serde_json::from_slice(&bytes).map_err(|error| {
            Error::malformed(path, format!("not a definition tree: {error}")).with_hint(
                "`tree.save(\"tree.json\")` writes one; `read_trees` reads a .jsonl file of several",
            )
        })
    }

    /// The number of nodes without the root, which is the number of tokens.
    pub fn len(&self) -> usize {
        self.root.size() - 1
    }

    /// Whether no token was likely enough.
    pub fn is_empty(&self) -> bool {
        self.root.children.is_empty()
    }

    /// The length of the longest definition, in tokens.
    pub fn depth(&self) -> usize {
        self.root.height()
    }

    /// Returns the tree without nodes whose cumulative probability is below `cutoff`. Other nodes are unchanged.
    #[must_use]
    pub fn trim(&self, cutoff: f64) -> Self {
        let trimmed = Some(self.params.trimmed.map_or(cutoff, |before| before.max(cutoff)));
        let params = TreeParams { trimmed, ..self.params.clone() };
        DefinitionTree { params, root: self.root.trim(cutoff) }
    }

    /// Returns the tree with the branches first that differ most from the null: siblings are sorted by the highest
    /// [`TreeNode::log_ratio`] in their branch.
    ///
    /// # Errors
    /// The tree was not compared with a null.
    pub fn contrast(&self) -> Result<Self> {
        if self.root.null_log_prob.is_none() {
            return Err(Error::mismatch(
                "the tree was not compared with random directions",
                "grow it with the option `null_directions`, such as `null_directions: 8`",
            ));
        }
        let (root, _) = self.root.by_ratio();
        Ok(DefinitionTree { params: self.params.clone(), root })
    }

    /// Returns the definition of each leaf: finished ones before unfinished ones, each group most likely first.
    pub fn definitions(&self) -> Vec<Definition> {
        let mut definitions = Vec::new();
        self.root.define("", &self.params.stop, &mut definitions);
        definitions.sort_by(|a, b| {
            b.finished.cmp(&a.finished).then(b.cumulative_prob.total_cmp(&a.cumulative_prob))
        });
        definitions
    }

    /// A short description of the size: "43 tokens, those above 0.005".
    pub fn extent(&self) -> String {
        match (self.len(), self.params.trimmed) {
            (0, _) => format!("no token is as likely as {}: try a lower cutoff", self.params.cutoff),
            (n, trimmed) => {
                let tokens = if n == 1 { "1 token".to_owned() } else { format!("{n} tokens") };
                // Three digits are enough.
                let short = |cutoff: f64| format!("{cutoff:.2e}").parse().unwrap_or(cutoff);
                let above =
                    trimmed.map(|cutoff| format!(", those above {}", short(cutoff))).unwrap_or_default();
                tokens + above.as_str()
            }
        }
    }

    /// Returns the probability that a definition begins with this text: the sum over all paths that spell it, or 0
    /// if there are none.
    pub fn probability(&self, text: &str) -> f64 {
        if text.is_empty() { 1.0 } else { self.root.probability(text) }
    }
}

impl TreeNode {
    /// `ln(cumulative_prob / cumulative probability under the null)`; `None` without a comparison.
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

    /// Returns the node with its children sorted by the highest log ratio in their branches, and its branch's highest.
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
            // Only the last token can contain a stop.
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
