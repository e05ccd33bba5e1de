//! Definition trees as the reference grows them: depth-first, one full pass over prompt and definition per node.

use candle_core::{Device, Tensor};
use saescope::hooks::{Edits, HookPoint};
use saescope::interpret::{FeatureVector, TreeNode, TreeOptions};
use saescope::linalg::{softmax, top_k};
use saescope::{HookName, Model, Progress};

/// Changes the activation `[d_model]` at a position; the flag says whether the ghost token is there.
pub type Edit<'a> = &'a dyn Fn(usize, bool, &mut [f32]);

/// A model with a prompt that contains ghost tokens, run in full passes.
pub struct FullPass<'a> {
    model: &'a Model,
    prompt: Vec<u32>,
    ghosts: Vec<usize>,
    edits: Vec<(HookName, Edit<'a>)>,
}

impl<'a> FullPass<'a> {
    /// Puts the token `placeholder` where the prompt has `{}`.
    pub fn new(model: &'a Model, prompt: &str, placeholder: u32) -> Self {
        let ids = |text: &str| model.to_tokens(text, Some(false)).unwrap();
        let mut parts = prompt.split("{}");
        let bos = model.cfg().default_prepend_bos.then(|| model.bos().unwrap());
        let mut tokens: Vec<u32> = bos.into_iter().chain(ids(parts.next().unwrap())).collect();
        let mut ghosts = Vec::new();
        for part in parts {
            ghosts.push(tokens.len());
            tokens.push(placeholder);
            tokens.extend(ids(part));
        }
        FullPass { model, prompt: tokens, ghosts, edits: Vec::new() }
    }

    /// Adds an edit at a hook.
    pub fn with(mut self, hook: &str, edit: Edit<'a>) -> Self {
        self.edits.push((hook.parse().unwrap(), edit));
        self
    }

    /// The logits `[pos, d_vocab]` of the prompt followed by a definition.
    pub fn logits(&self, definition: &[u32]) -> Tensor {
        let tokens = [&self.prompt[..], definition].concat();
        let edits = self.edits.iter().fold(Edits::new(), |edits, (hook, edit)| {
            edits.with(*hook, |activation| {
                let (n, d_model) = activation.dims2()?;
                let mut values = activation.flatten_all()?.to_vec1::<f32>()?;
                for (pos, x) in values.chunks_exact_mut(d_model).enumerate() {
                    edit(pos, self.ghosts.contains(&pos), x);
                }
                Ok(Tensor::from_vec(values, (n, d_model), &Device::Cpu)?)
            })
        });
        self.model.run_with_hooks(&tokens, edits, &Progress::default()).unwrap()
    }

    /// The last row of [`FullPass::logits`].
    pub fn next(&self, definition: &[u32]) -> Tensor {
        let logits = self.logits(definition);
        logits.get(logits.dim(0).unwrap() - 1).unwrap()
    }

    /// Grows the tree; `options.stop` must be given.
    pub fn tree(&self, options: &TreeOptions) -> TreeNode {
        TreeNode {
            token: String::new(),
            token_id: None,
            prob: 1.0,
            cumulative_prob: 1.0,
            null_log_prob: None,
            children: self.expand(options, &[], 1.0),
        }
    }

    fn expand(&self, options: &TreeOptions, definition: &[u32], cumulative_prob: f64) -> Vec<TreeNode> {
        if definition.len() >= options.max_depth {
            return Vec::new();
        }
        let p = softmax(&self.next(definition), 0).unwrap().to_vec1::<f32>().unwrap();
        let mut children = Vec::new();
        for (id, prob) in top_k(&p, options.top_k) {
            let (id, prob) = (id as u32, f64::from(prob));
            if cumulative_prob * prob < options.cutoff {
                continue;
            }
            let token = self.model.tokenizer().unwrap().token_text(id).unwrap();
            let stops = options.stop.as_ref().unwrap();
            let ends =
                self.model.tokenizer().unwrap().is_special(id) || stops.iter().any(|s| token.contains(s));
            let definition = [definition, &[id]].concat();
            let cumulative_prob = cumulative_prob * prob;
            let children_of =
                if ends { Vec::new() } else { self.expand(options, &definition, cumulative_prob) };
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

/// An edit that puts a vector in place of the ghost token.
pub fn replace(vector: Vec<f32>) -> impl Fn(usize, bool, &mut [f32]) {
    move |_, is_ghost, x| {
        if is_ghost {
            x.copy_from_slice(&vector);
        }
    }
}

/// A vector times a factor.
pub fn times(x: &[f32], factor: f64) -> Vec<f32> {
    x.iter().map(|x| (f64::from(*x) * factor) as f32).collect()
}

/// The tree of a vector that is injected as an embedding; `options.stop` must be given.
pub fn depth_first(model: &Model, vector: &FeatureVector, options: &TreeOptions) -> TreeNode {
    let embedding = replace(times(&vector.vector, model.cfg().embed_scale));
    let hook = HookName::global(HookPoint::Embed).to_string();
    FullPass::new(model, &options.prompt, 0).with(&hook, &embedding).tree(options)
}
