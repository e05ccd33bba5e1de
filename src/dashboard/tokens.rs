//! Tokens with one value each, such as the activations of a feature along the text of a record.

use crate::error::{Error, Result};
use crate::extract::FeatureRecord;
use crate::label::visible_line;
use serde::{Deserialize, Serialize};

/// Tokens with one value each, such as the activations of a feature. Shown as text on a colored background, like
/// CircuitsVis' `colored_tokens`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ColoredTokens {
    /// A title for the values; may be empty.
    pub title: String,
    /// The text of each token, `[pos]`.
    pub tokens: Vec<String>,
    /// The value of each token, `[pos]`.
    pub values: Vec<f32>,
}

impl ColoredTokens {
    /// Combines tokens and their values.
    ///
    /// # Errors
    /// `tokens` and `values` of unequal length.
    pub fn new(title: impl Into<String>, tokens: Vec<String>, values: Vec<f32>) -> Result<Self> {
        if tokens.len() != values.len() {
            let message = format!("there are {} tokens and {} values", tokens.len(), values.len());
            let hint = "tokens begin with the BOS if the model has one: model.to_str_tokens(text) has it";
            return Err(Error::mismatch(message, hint));
        }
        Ok(ColoredTokens { title: title.into(), tokens, values })
    }

    /// The largest magnitude of the finite values; 0 if no value is finite.
    pub fn largest(&self) -> f32 {
        self.values.iter().filter(|x| x.is_finite()).fold(0.0, |largest, x| x.abs().max(largest))
    }

    /// The tokens in `start..end`, clamped to the existing ones.
    pub(super) fn slice(&self, start: usize, end: usize) -> Self {
        fn part<T: Clone>(all: &[T], start: usize, end: usize) -> Vec<T> {
            all.iter().take(end).skip(start).cloned().collect()
        }
        let (tokens, values) = (part(&self.tokens, start, end), part(&self.values, start, end));
        ColoredTokens { title: self.title.clone(), tokens, values }
    }
}

impl std::fmt::Display for ColoredTokens {
    /// Writes the text, with each value other than zero in brackets after its token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.title.is_empty() {
            write!(f, "{}, at most {:.3}\n  ", visible_line(&self.title), self.largest())?;
        }
        for (token, value) in self.tokens.iter().zip(&self.values) {
            let token = visible_line(token);
            if *value == 0.0 { write!(f, "{token}")? } else { write!(f, "{token}[{value:.2}]")? }
        }
        Ok(())
    }
}

impl FeatureRecord {
    /// The text of each token, `[pos]`: from its start to the start of the next one. It is empty for a BOS, and for all
    /// but the last of several tokens that share a character.
    pub fn str_tokens(&self) -> Vec<String> {
        let chars: Vec<char> = self.text.chars().collect();
        let ends = self.offsets.iter().skip(1).copied().chain([chars.len()]);
        let token = |(start, end): (&usize, usize)| -> String {
            let end = end.min(chars.len());
            chars[(*start).min(end)..end].iter().collect()
        };
        self.offsets.iter().zip(ends).map(token).collect()
    }

    /// The activation of one feature at every token, `[pos]`: 0 if it is not above the threshold.
    pub fn activations_of(&self, feature: usize) -> Vec<f32> {
        let at = |(features, values): (&Vec<u32>, &Vec<f32>)| {
            features
                .binary_search_by_key(&feature, |one| *one as usize)
                .ok()
                .and_then(|at| values.get(at))
                .copied()
                .unwrap_or(0.0)
        };
        self.active_features.iter().zip(&self.activations).map(at).collect()
    }

    /// The tokens with the activations of one feature.
    pub fn colored_tokens(&self, feature: usize) -> ColoredTokens {
        let values = self.activations_of(feature);
        ColoredTokens { title: format!("feature {feature}"), tokens: self.str_tokens(), values }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract::Bos;

    #[test]
    fn a_record_gives_the_text_and_activations_of_its_tokens() {
        let record = FeatureRecord {
            text: "né 🙂!".to_owned(),
            tokens: vec![0, 1, 2, 3, 4, 5],
            offsets: vec![0, 0, 1, 3, 3, 4],
            active_features: vec![vec![], vec![3, 9], vec![9], vec![], vec![1], vec![]],
            activations: vec![vec![], vec![0.5, 2.0], vec![-3.0], vec![], vec![1.0], vec![]],
            bos: Bos::Present,
        };
        assert!(
            record.begins_with_bos()
                && !FeatureRecord { bos: Bos::Absent, ..record.clone() }.begins_with_bos()
        );
        assert_eq!(record.str_tokens(), ["", "n", "é ", "", "🙂", "!"]);
        assert_eq!(record.activations_of(9), [0.0, 2.0, -3.0, 0.0, 0.0, 0.0]);
        let colored = record.colored_tokens(9);
        assert_eq!(colored.largest(), 3.0);
        assert_eq!(colored.to_string(), "feature 9, at most 3.000\n  n[2.00]é [-3.00]🙂!");
        assert_eq!(colored.slice(4, usize::MAX).tokens, ["🙂", "!"]);
        assert!(ColoredTokens::new("", vec![String::new()], vec![]).is_err());
    }
}
