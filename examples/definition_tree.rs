//! What a feature means by its weights: the model defines it as if it were a word. No document is needed.
//!
//! ```sh
//! cargo run --release --example definition_tree [FEATURE]
//! ```

use saescope::prelude::*;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let feature = std::env::args().nth(1).map_or(Ok(624), |feature| feature.parse())?;
    let model = Model::load("demo")?;
    let sae = Sae::load(("demo", "blocks.0.hook_resid_pre"))?;
    let vector = feature_vector(&model, &sae, feature, &VectorOptions::default())?;

    // Compared with random directions of the same length: what is said of this one rather than of any.
    let options = TreeOptions { cutoff: 1e-3, null_directions: Some(16), ..Default::default() };
    let tree = definition_tree(&model, &vector, &options, &Progress::default())?;
    for definition in tree.contrast()?.definitions().iter().filter(|definition| definition.finished).take(5) {
        println!("{:.4}  {}", definition.cumulative_prob, definition.text);
    }

    println!("\n{}", token_list(&model, &vector, &TokenListOptions { top_k: 8, ..Default::default() })?);
    Ok(())
}
