//! temporary
pub mod error; pub mod progress; pub mod files; pub mod linalg; pub mod tensors; pub mod checkpoint; pub mod demo; pub mod hooks; pub mod model; pub mod sae; pub mod dataset;
pub use error::*; pub use progress::*; pub use hooks::*; pub use model::{Model,TokenBatch,ModelConfig,char_offsets,Tokenizer,SpecialTokens,GenerateOptions,KeyValueCache}; pub use sae::*;
pub use dataset::*;
