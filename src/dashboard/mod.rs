//! What the records of a feature dataset say of features: where one is most active, how often each is.

mod examples;
mod tokens;

pub use examples::{
    Example, ExampleOptions, FeatureDensity, MaxActivatingExamples, feature_density, max_activating_examples,
};
pub use tokens::ColoredTokens;
