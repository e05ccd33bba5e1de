//! Feature extraction: documents in, records with the active features of every token out.
//!
//! Contexts are batched end to end in the order of the documents, so that every matmul is over about a thousand tokens.
//! The records do not depend on the batching.

mod bos;
mod options;
mod record;
mod run;
mod sae_input;
mod summary;
mod windows;

pub use bos::Bos;
pub(crate) use options::USUAL_CONTEXT;
pub use options::{ExtractOptions, LongDocuments, Packing};
pub use record::{FeatureRecord, RecordReader, read_records, read_records_of};
pub(crate) use run::{Counts, Job, run};
pub(crate) use sae_input::{activation, warm_up};
pub use sae_input::{check_fits, feature_acts};
pub use summary::ExtractSummary;
pub(crate) use summary::{Run, meta, meta_path};
pub(crate) use windows::Windows;
