//! saescope for Rust notebooks: the entire library as one shared object that cells link to.
//!
//! ```text
//! use saescope::prelude::*;
//!
//! let model: Model = Model::load("demo")?;
//! model
//! ```

pub use saescope::*;
