//! Steering: adds the decoder direction of a feature to the residual stream while the model writes.
//!
//! ```sh
//! cargo run --release --example steer
//! ```

use saescope::prelude::*;

fn main() -> Result<()> {
    let (model, sae) = (Model::load("demo")?, Sae::load("demo")?);
    let hook = sae.hook_in(&model.cfg().hook_points())?;
    let prompt = model.to_tokens("A typical definition of \"ship\" would be \"", None)?;
    let options = GenerateOptions { max_new_tokens: 16, temperature: 0.0, ..Default::default() };
    for strength in [0.0, 15.0, 30.0] {
        let direction = (sae.feature(1919)?.decoder * strength)?;
        let mut edits = Edits::new().with(hook, move |resid| Ok(resid.broadcast_add(&direction)?));
        let tokens = model.generate(&prompt, &options, &mut edits, &Progress::default())?;
        println!("{strength:4.1}  {}", model.to_string(&tokens)?);
    }
    Ok(())
}
