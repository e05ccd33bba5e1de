//! The flags of the commands that make a vector of a feature.

use crate::interpret::{FeatureWeights, VectorOptions};
use clap::{ArgAction, Args};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Every option of `feature_vector` under its name.
#[derive(Args)]
pub(super) struct VectorArguments {
    /// Which of the feature's weights: encoder, decoder, or both with how much of each, as encoder=0.5,decoder=0.5
    #[arg(long, value_parser = weights, default_value = "encoder", allow_hyphen_values = true)]
    weights: FeatureWeights,
    /// How much of each principal component of the token embeddings, the first first, with commas [default: none]
    #[arg(long, value_name = "X,X", value_delimiter = ',', allow_hyphen_values = true)]
    pca_weights: Vec<f64>,
    /// Whether the vector starts at the mean of the token embeddings rather than at zero
    #[arg(long, value_name = "BOOL", num_args = 0..=1, action = ArgAction::Set, default_value_t = true, default_missing_value = "true")]
    use_token_centroid: bool,
    /// How far the vector goes from there [default: the mean distance of the token embeddings from their mean]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    scale: Option<f64>,
    /// Whether the direction is brought to unit length after its parts have been added up
    #[arg(long, value_name = "BOOL", num_args = 0..=1, action = ArgAction::Set, default_value_t = false, default_missing_value = "true")]
    renormalize: bool,
}

impl From<VectorArguments> for VectorOptions {
    fn from(arguments: VectorArguments) -> Self {
        let VectorArguments { weights, pca_weights, use_token_centroid, scale, renormalize } = arguments;
        VectorOptions { weights, pca_weights, use_token_centroid, scale, renormalize }
    }
}

/// An option of a few words, as scripts have it.
pub(super) fn word<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    read(Value::from(text))
}

/// `encoder`, or `encoder=0.5,decoder=0.5`.
fn weights(text: &str) -> Result<FeatureWeights, String> {
    if !text.contains('=') {
        return word(text);
    }
    let mut map = Map::new();
    for part in text.split(',') {
        let (name, number) = part.split_once('=').ok_or_else(|| format!("`{part}` has no `=`"))?;
        let number: f64 = number.parse().map_err(|_| format!("`{number}` is no number"))?;
        map.insert(name.to_owned(), number.into());
    }
    read(Value::Object(map))
}

fn read<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::super::source::tests::{check_flags, names_of};
    use super::*;
    use clap::{CommandFactory, Parser};

    #[derive(Parser)]
    struct Only {
        #[command(flatten)]
        arguments: VectorArguments,
    }

    fn options(line: &str) -> VectorOptions {
        Only::parse_from(line.split(' ')).arguments.into()
    }

    #[test]
    fn every_option_is_a_flag_with_the_same_default() {
        check_flags(&Only::command(), &names_of(&VectorOptions::default()));
        assert_eq!(options("x"), VectorOptions::default());
    }

    #[test]
    fn weights_have_names_and_numbers() {
        let options = options(
            "x --weights encoder=0.5,decoder=-1 --pca-weights -0.5,2 --use-token-centroid false --renormalize",
        );
        assert_eq!(options.weights, FeatureWeights { encoder: 0.5, decoder: -1.0 });
        assert_eq!(
            (options.pca_weights, options.use_token_centroid, options.renormalize),
            (vec![-0.5, 2.0], false, true)
        );
        for wrong in ["encodr", "encodr=1", "encoder=x", "encoder=1,2"] {
            let error = weights(wrong).unwrap_err();
            assert!(
                error.contains("encod") || error.contains("is no number") || error.contains("has no `=`"),
                "{error}"
            );
        }
    }
}
