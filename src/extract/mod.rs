//! Feature extraction: documents in, the active features of every token out, to any [`Consumer`].
//!
//! Contexts are batched end to end in the order of the documents, so that every matmul is over about a thousand tokens.
//! The features do not depend on the batching.

mod bos;
mod consumer;
mod counts;
mod options;
mod record;
mod record_file;
mod run;
mod sae_input;
mod summary;
mod windows;
mod write;

pub use bos::Bos;
pub use consumer::Consumer;
pub(crate) use counts::{CountFeatures, FeatureCounts};
pub(crate) use options::USUAL_CONTEXT;
pub use options::{ExtractOptions, LongDocuments, Packing};
pub use record::{FeatureRecord, RecordReader, read_records, read_records_of};
pub use record_file::RecordFile;
pub(crate) use run::{Job, run};
pub use run::{VisitSummary, visit_feature_acts};
pub(crate) use sae_input::{activation, prepare};
pub use sae_input::{check_fits, feature_acts};
pub use summary::ExtractSummary;
pub(crate) use summary::{meta, meta_path};
pub use windows::Context;
pub(crate) use windows::Windows;
pub(crate) use write::{JsonlFile, JsonlWriter};
