//! Hooks of one's own: which token each attention head of a block looks at most, without keeping any pattern.
//!
//! ```sh
//! cargo run --release --example custom_hook
//! ```

use saescope::prelude::*;

/// Sees the attention pattern of one block.
struct LooksAt {
    pattern: HookName,
    /// For each head, the position that the last token looks at, and how much.
    found: Vec<(usize, f32)>,
}

impl Hooks for LooksAt {
    fn wants(&self, name: &HookName) -> bool {
        *name == self.pattern
    }

    fn on(&mut self, _: &Site, pattern: Tensor) -> Result<Tensor> {
        for head in pattern.to_vec3::<f32>()? {
            let weights = head.last().into_iter().flatten().copied().enumerate();
            self.found.extend(weights.max_by(|a, b| a.1.total_cmp(&b.1)));
        }
        Ok(pattern)
    }

    // Blocks after this one are not computed.
    fn last(&self) -> Option<HookName> {
        Some(self.pattern)
    }
}

fn main() -> Result<()> {
    let model = Model::load("demo")?;
    let tokens = model.to_tokens("a small boat on the lake", None)?;
    for block in 0..model.cfg().n_layers {
        let mut hooks = LooksAt { pattern: HookName::in_block(block, HookPoint::Pattern), found: Vec::new() };
        model.run_until(&TokenBatch::single(&tokens), None, &mut hooks, &Progress::default())?;
        let texts = model.to_str_tokens(&tokens)?;
        let heads = hooks.found.iter().map(|(pos, weight)| format!("{:?} {weight:.2}", texts[*pos]));
        println!("block {block}: {}", heads.collect::<Vec<_>>().join(", "));
    }
    Ok(())
}
