//! Definition trees as the reference grows them: depth-first, one whole pass over prompt and definition a node.

use candle_core::Tensor;
use saescope::{
    Edits, FeatureVector, HookName, HookPoint, Model, Progress, TreeNode, TreeOptions, softmax, top_k,
};

struct DepthFirst<'a> {
    model: &'a Model,
    vector: &'a FeatureVector,
    before: Vec<u32>,
    after: Vec<u32>,
    options: &'a TreeOptions,
}

impl DepthFirst<'_> {
    fn expand(&self, definition: &[u32], cumulative_prob: f64) -> Vec<TreeNode> {
        if definition.len() >= self.options.max_depth {
            return Vec::new();
        }
        let tokens = [&self.before, &[0][..], &self.after, definition].concat();
        let edits = Edits::new().with(HookName::global(HookPoint::Embed), |embed| {
            let ghost = Tensor::new(self.vector.vector.as_slice(), embed.device())?;
            let ghost = (ghost * self.model.cfg().embed_scale)?.unsqueeze(0)?;
            let (at, n) = (self.before.len(), embed.dim(0)?);
            Ok(Tensor::cat(&[embed.narrow(0, 0, at)?, ghost, embed.narrow(0, at + 1, n - at - 1)?], 0)?)
        });
        let logits = self.model.run_with_hooks(&tokens, edits, &Progress::default()).unwrap();
        let last = logits.get(tokens.len() - 1).unwrap();
        let p = softmax(&last, 0).unwrap().to_vec1::<f32>().unwrap();
        let mut children = Vec::new();
        for (id, prob) in top_k(&p, self.options.top_k) {
            let (id, prob) = (id as u32, f64::from(prob));
            if cumulative_prob * prob < self.options.cutoff {
                continue;
            }
            let token = self.model.tokenizer().unwrap().text_of(id).unwrap();
            let stops = self.options.stop.as_ref().unwrap();
            let ends =
                self.model.tokenizer().unwrap().is_special(id) || stops.iter().any(|s| token.contains(s));
            let definition = [definition, &[id]].concat();
            let cumulative_prob = cumulative_prob * prob;
            let children_of = if ends { Vec::new() } else { self.expand(&definition, cumulative_prob) };
            children.push(TreeNode {
                token,
                token_id: Some(id),
                prob,
                cumulative_prob,
                null_log_prob: None,
                children: children_of,
            });
        }
        children
    }
}

/// The tree of a vector; the prompt has one `{}`, and `stop` is given.
pub fn depth_first(model: &Model, vector: &FeatureVector, options: &TreeOptions) -> TreeNode {
    let (before, after) = options.prompt.split_once("{}").unwrap();
    let ids = |text: &str| model.to_tokens(text, Some(false)).unwrap();
    let bos = model.cfg().default_prepend_bos.then(|| model.bos().unwrap());
    let before = bos.into_iter().chain(ids(before)).collect();
    let search = DepthFirst { model, vector, before, after: ids(after), options };
    let children = search.expand(&[], 1.0);
    TreeNode {
        token: String::new(),
        token_id: None,
        prob: 1.0,
        cumulative_prob: 1.0,
        null_log_prob: None,
        children,
    }
}
