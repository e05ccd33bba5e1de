//! An SAE of one's own: made of tensors, used like any other, and saved in SAELens' layout.
//!
//! ```sh
//! cargo run --release --example sae_from_tensors [FOLDER]
//! ```

use saescope::candle_core::{DType, Device};
use saescope::prelude::*;
use saescope::sae::{ActivationRule, Architecture, OutputHook};
use std::path::Path;

fn main() -> Result<()> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| "my_sae".to_owned());
    let model = Model::load("demo")?;
    let d_model = model.cfg().d_model;

    // One feature for each direction of the residual stream and its opposite: it loses nothing, and is far from sparse.
    let identity = Tensor::eye(d_model, DType::F32, &Device::Cpu)?;
    let both = Tensor::cat(&[&identity, &identity.neg()?], 0)?; // [2 · d_model, d_model]
    let zeros = |n: usize| Tensor::zeros(n, DType::F32, &Device::Cpu);
    let weights = SaeWeights::new(both.t()?, both, zeros(2 * d_model)?, zeros(d_model)?);
    let standard = Architecture { rule: ActivationRule::Standard, output: OutputHook::Same };
    let mut cfg = SaeConfig::new(standard, d_model, 2 * d_model);
    cfg.hook_name = Some("blocks.3.hook_resid_pre".to_owned());
    let sae = Sae::from_weights(cfg, weights)?;

    let tokens = model.to_tokens("a small boat on the lake", None)?;
    let acts = feature_acts(&model, &sae, &TokenBatch::single(&tokens), 0.0, &Progress::default())?;
    println!("{sae}\n{acts}");

    sae.save(Path::new(&folder))?;
    println!("{}", Sae::load(&folder)?);
    Ok(())
}
