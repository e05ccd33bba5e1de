//! A feature dataset: the active features of every token of the embedded documents.
//!
//! ```sh
//! cargo run --release --example extract [OUTPUT.jsonl]
//! ```

use saescope::prelude::*;
use std::path::Path;

fn main() -> Result<()> {
    let output_path = std::env::args().nth(1).unwrap_or_else(|| "features.jsonl".to_owned());
    let (model, sae) = (Model::load("demo")?, Sae::load("demo")?);
    let options = ExtractOptions {
        dataset_path: "demo".to_owned(),
        output_path,
        max_examples: Some(20),
        ..Default::default()
    };
    println!("{}\n", create_feature_dataset(&model, &sae, None, &options, &Progress::default())?);

    // The strongest feature of each document, and the token where it fires.
    for record in read_records(Path::new(&options.output_path))?.take(5) {
        let record = record?;
        let active = record.active_features.iter().zip(&record.activations).enumerate().skip(1);
        let all =
            active.flat_map(|(pos, (features, values))| features.iter().zip(values).map(move |a| (pos, a)));
        if let Some((pos, (feature, value))) = all.max_by(|a, b| a.1.1.total_cmp(b.1.1)) {
            println!("feature {feature:4} at {value:5.2} on {:?}: {}", record.str_tokens()[pos], record.text);
        }
    }
    Ok(())
}
