//! Documents to contexts: which tokens a forward pass sees together, and which text they stand for.

use super::options::{Contexts, LongDocuments, Packing};
use super::record::FeatureRecord;
use crate::error::Result;
use crate::model::{Encoding, Tokenizer, char_offsets};
use std::ops::Range;

/// Cuts documents into contexts, one document after the other.
pub(super) struct Windows {
    tokenizer: Tokenizer,
    contexts: Contexts,
    /// With [`Packing::Concatenate`], the context that is being filled.
    open: FeatureRecord,
}

impl Windows {
    pub(super) fn new(tokenizer: Tokenizer, contexts: Contexts) -> Self {
        Windows { tokenizer, open: begin(contexts.bos), contexts }
    }

    /// The contexts that a document completes, as records that have no features yet; `None` for a document without
    /// tokens.
    pub(super) fn cut(&mut self, text: &str) -> Result<Option<Vec<FeatureRecord>>> {
        let encoding = self.tokenizer.encode(text)?;
        if encoding.ids.is_empty() {
            return Ok(None);
        }
        Ok(Some(match self.contexts.packing {
            Packing::Documents => self.split(text, &encoding),
            Packing::Concatenate => self.append(text, &encoding),
        }))
    }

    fn split(&self, text: &str, encoding: &Encoding) -> Vec<FeatureRecord> {
        let Contexts { window, bos, long_documents, .. } = self.contexts;
        let n = encoding.ids.len();
        let mut records = Vec::new();
        for start in (0..n).step_by(window) {
            let end = n.min(start + window);
            // The first window begins where the document does and the last ends with it, so that nothing that the
            // tokenizer passed over is lost.
            let from = if start == 0 { 0 } else { encoding.bytes[start].start };
            let to = if end == n { text.len() } else { encoding.bytes[end - 1].end };
            let mut record = begin(bos);
            add(&mut record, text, from..to, encoding, start..end);
            records.push(record);
            if long_documents == LongDocuments::Truncate {
                break;
            }
        }
        records
    }

    fn append(&mut self, text: &str, encoding: &Encoding) -> Vec<FeatureRecord> {
        let Contexts { window, bos, .. } = self.contexts;
        let full = window + usize::from(bos.is_some());
        let mut records = Vec::new();
        let mut start = 0;
        while start < encoding.ids.len() {
            let end = encoding.ids.len().min(start + full - self.open.tokens.len());
            let bytes = encoding.bytes[start].start..encoding.bytes[end - 1].end;
            add(&mut self.open, text, bytes, encoding, start..end);
            if self.open.tokens.len() == full {
                records.push(std::mem::replace(&mut self.open, begin(bos)));
            }
            start = end;
        }
        records
    }
}

/// A record with nothing but its BOS, if it has one.
fn begin(bos: Option<u32>) -> FeatureRecord {
    let (tokens, offsets) = (bos.into_iter().collect(), bos.iter().map(|_| 0).collect());
    FeatureRecord { tokens, offsets, ..Default::default() }
}

/// Adds a range of a document's tokens to a record, and the bytes that they stand for.
fn add(
    record: &mut FeatureRecord,
    text: &str,
    bytes: Range<usize>,
    encoding: &Encoding,
    tokens: Range<usize>,
) {
    let before = record.text.chars().count();
    let slice = text.get(bytes.clone()).unwrap_or_default();
    record.text.push_str(slice);
    record.tokens.extend_from_slice(&encoding.ids[tokens.clone()]);
    let starts = encoding.bytes[tokens].iter().map(|b| b.start.saturating_sub(bytes.start));
    record.offsets.extend(char_offsets(slice, starts).into_iter().map(|offset| before + offset));
}
