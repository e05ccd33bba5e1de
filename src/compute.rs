//! How weights are held in memory, and what is computed in.

use saescope_options::option_words;
use serde::{Deserialize, Serialize};

option_words!(Dtype);

/// The type in which the weights of a model are held. It changes memory and speed, not results: computation is in f32.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Dtype {
    /// As the checkpoint stores them, in bf16, f16 or f32.
    #[default]
    Auto,
    /// In f32.
    F32,
}
