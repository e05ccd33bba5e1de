//! Options that a command line writes as one word: `encoder=0.5,decoder=0.5`, `blocks.3.hook_resid_post=8`, `0.5,1,2`.

use super::ranking::TokenFilter;
use super::token_list::{TokenMethod, TokenOrder};
use super::tree::{Injection, Scales, Steer};
use super::vector::FeatureWeights;
use saescope_options::{Kind, OptionType, option_words};
use serde_json::{Map, Value, json};

option_words!(Injection, TokenFilter, TokenMethod, TokenOrder);

impl OptionType for FeatureWeights {
    fn kind() -> Kind {
        Kind::Compact { form: "WEIGHTS", parse: weights }
    }
}

impl OptionType for Scales {
    fn kind() -> Kind {
        Kind::Compact { form: "X,X", parse: scales }
    }
}

impl OptionType for Steer {
    fn kind() -> Kind {
        Kind::Compact { form: "HOOK=X", parse: steer }
    }
}

/// Parses `encoder`, or `encoder=0.5,decoder=0.5`.
fn weights(word: &str) -> Result<Value, String> {
    let mut map = Map::new();
    for part in word.split(',').filter(|_| word.contains('=')) {
        let (name, number) = part.split_once('=').ok_or_else(|| format!("`{part}` has no `=`"))?;
        map.insert(name.to_owned(), parse_number(number)?);
    }
    let value = if map.is_empty() { Value::from(word) } else { Value::Object(map) };
    serde_json::from_value::<FeatureWeights>(value.clone()).map_err(|error| error.to_string())?;
    Ok(value)
}

/// Parses `auto`, or numbers separated by commas.
fn scales(word: &str) -> Result<Value, String> {
    if word == "auto" {
        return Ok(word.into());
    }
    let number = |text| parse_number(text).map_err(|_| format!("expected numbers or auto, got `{text}`"));
    word.split(',').map(number).collect()
}

/// Parses `blocks.3.hook_resid_post=8`.
fn steer(word: &str) -> Result<Value, String> {
    let wrong = || "expected a hook and a number, such as blocks.3.hook_resid_post=8".to_owned();
    let (hook, coefficient) = word.split_once('=').ok_or_else(wrong)?;
    Ok(json!({ "hook": hook, "coefficient": parse_number(coefficient).map_err(|_| wrong())? }))
}

fn parse_number(text: &str) -> Result<Value, String> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
    number.map(Value::from).ok_or_else(|| format!("`{text}` is not a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_values_or_say_what_is_wrong() {
        assert_eq!(weights("decoder"), Ok("decoder".into()));
        assert_eq!(weights("encoder=0.5,decoder=-1"), Ok(json!({ "encoder": 0.5, "decoder": -1.0 })));
        for (wrong, says) in [
            ("encodr", "encod"),
            ("encodr=1", "encod"),
            ("encoder=x", "is not a number"),
            ("encoder=1,2", "has no `=`"),
        ] {
            assert!(weights(wrong).unwrap_err().contains(says), "{wrong}");
        }
        assert_eq!(scales("auto"), Ok("auto".into()));
        assert_eq!(scales("0.5,2"), Ok(json!([0.5, 2.0])));
        assert!(scales("big").is_err() && scales("0.5,nan").is_err() && scales("1e400").is_err());
        assert_eq!(
            steer("blocks.3.hook_resid_post=-8"),
            Ok(json!({ "hook": "blocks.3.hook_resid_post", "coefficient": -8.0 }))
        );
        assert!(steer("blocks.3.hook_resid_post").is_err() && steer("blocks.3.hook_resid_post=inf").is_err());
    }
}
