//! The flags of commands that build a feature vector.

use crate::interpret::{FeatureWeights, VectorOptions};
use clap::{ArgAction, Args};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// Every option of `feature_vector` under its name.
#[derive(Args)]
pub(super) struct VectorArguments {
    /// The feature's weights to use: encoder, decoder, or a mix such as encoder=0.5,decoder=0.5
    #[arg(long, value_parser = weights, default_value = "encoder", allow_hyphen_values = true)]
    weights: FeatureWeights,
    /// The weights of the token embeddings' first principal components, comma-separated [default: none]
    #[arg(long, value_name = "X,X", value_delimiter = ',', allow_hyphen_values = true)]
    pca_weights: Vec<f64>,
    /// Whether the vector starts at the mean of the token embeddings instead of zero
    #[arg(long, value_name = "BOOL", num_args = 0..=1, action = ArgAction::Set, default_value_t = true, default_missing_value = "true")]
    use_token_centroid: bool,
    /// The vector's distance from its start [default: the mean distance of the token embeddings from their mean]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    scale: Option<f64>,
    /// Whether to normalize the direction to unit length after its parts are added
    #[arg(long, value_name = "BOOL", num_args = 0..=1, action = ArgAction::Set, default_value_t = false, default_missing_value = "true")]
    renormalize: bool,
}

impl From<VectorArguments> for VectorOptions {
    fn from(arguments: VectorArguments) -> Self {
        let VectorArguments { weights, pca_weights, use_token_centroid, scale, renormalize } = arguments;
        VectorOptions { weights, pca_weights, use_token_centroid, scale, renormalize }
    }
}

/// Parses an option that is one of a few words, as spelled in scripts.
pub(super) fn word<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    read(Value::from(text))
}

/// Parses `encoder`, or `encoder=0.5,decoder=0.5`.
fn weights(text: &str) -> Result<FeatureWeights, String> {
    if !text.contains('=') {
        return word(text);
    }
    let mut map = Map::new();
    for part in text.split(',') {
        let (name, number) = part.split_once('=').ok_or_else(|| format!("`{part}` has no `=`"))?;
        let number: f64 = number.parse().map_err(|_| format!("`{number}` is not a number"))?;
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
                error.contains("encod") || error.contains("is not a number") || error.contains("has no `=`"),
                "{error}"
            );
        }
    }
}
