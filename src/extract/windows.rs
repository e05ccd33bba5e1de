//! Documents to contexts: which tokens a forward pass sees together, and which text they stand for.

use super::bos::Bos;
use super::options::{Contexts, LongDocuments, Packing};
use super::record::FeatureRecord;
use crate::error::{Error, Result};
use crate::model::{Encoding, Tokenizer, char_offsets};

/// Cuts documents into contexts, one document after the other.
pub(super) struct Windows {
    tokenizer: Tokenizer,
    contexts: Contexts,
    /// With [`Packing::Concatenate`], the context that is being filled.
    open: FeatureRecord,
}

impl Windows {
    pub(super) fn new(tokenizer: Tokenizer, contexts: Contexts) -> Self {
        Windows { tokenizer, contexts, open: FeatureRecord::default() }
    }

    /// The contexts that a document completes, as records that have no features yet; `None` for a document without
    /// tokens.
    pub(super) fn cut(&mut self, text: &str) -> Result<Option<Vec<FeatureRecord>>> {
        let document = Document { text, encoding: self.tokenizer.encode(text)? };
        if document.encoding.ids.is_empty() {
            return Ok(None);
        }
        let d_vocab = self.contexts.d_vocab;
        if let Some(id) = document.encoding.ids.iter().find(|id| **id as usize >= d_vocab) {
            let token = self.tokenizer.text_of(*id)?;
            let message = format!(
                "the text has the token `{token}`, whose id {id} is beyond the model's embedding of {d_vocab} tokens"
            );
            return Err(Error::mismatch(
                message,
                "the tokenizer has more tokens than the model was trained on",
            ));
        }
        Ok(Some(match self.contexts.packing {
            Packing::Documents => self.split(&document),
            Packing::Concatenate => self.append(&document),
        }))
    }

    fn split(&self, document: &Document) -> Vec<FeatureRecord> {
        let mut records = Vec::new();
        let mut start = 0;
        while start < document.encoding.ids.len() {
            let mut record = FeatureRecord::default();
            start = self.fill(&mut record, document, start);
            records.push(record);
            if self.contexts.long_documents == LongDocuments::Truncate {
                break;
            }
        }
        records
    }

    fn append(&mut self, document: &Document) -> Vec<FeatureRecord> {
        let mut records = Vec::new();
        let mut start = 0;
        while start < document.encoding.ids.len() {
            let mut open = std::mem::take(&mut self.open);
            start = self.fill(&mut open, document, start);
            if open.tokens.len() == self.contexts.context_size {
                records.push(open);
            } else {
                self.open = open;
            }
        }
        records
    }

    /// Fills a record with tokens of a document from `start`; where it stopped. A record begins with a BOS if contexts
    /// do, and with one only: a document may bring its own, as chat templates write it.
    fn fill(&self, record: &mut FeatureRecord, document: &Document, start: usize) -> usize {
        let Contexts { context_size, bos, prepend_bos, .. } = self.contexts;
        let ids = &document.encoding.ids;
        if record.tokens.is_empty() {
            let is_own = bos.is_some() && ids.get(start) == bos.as_ref();
            if let Some(bos) = bos.filter(|_| prepend_bos && !is_own) {
                record.tokens.push(bos);
                record.offsets.push(0);
            }
            record.bos = if is_own || prepend_bos { Bos::Present } else { Bos::Absent };
        }
        let end = ids.len().min(start + context_size - record.tokens.len());
        let bytes = document.cut_before(start)..document.cut_before(end);
        let before = record.text.chars().count();
        let slice = document.text.get(bytes.clone()).unwrap_or_default();
        record.text.push_str(slice);
        record.tokens.extend_from_slice(&ids[start..end]);
        let starts = document.encoding.bytes[start..end].iter();
        let starts = starts.map(|range| range.start.clamp(bytes.start, bytes.end) - bytes.start);
        record.offsets.extend(char_offsets(slice, starts).into_iter().map(|offset| before + offset));
        end
    }
}

/// A document as text and as tokens.
struct Document<'a> {
    text: &'a str,
    encoding: Encoding,
}

impl Document<'_> {
    /// The byte at which the text is cut so that the second part begins with this token. Spaces go with the token that
    /// stands for them, a character of several tokens with the first of these, and what no token stands for with what
    /// follows it. The first part begins where the text does and the last ends with it: nothing is lost.
    fn cut_before(&self, token: usize) -> usize {
        match token.checked_sub(1).and_then(|last| self.encoding.covered.get(last)) {
            None => 0,
            Some(_) if token >= self.encoding.ids.len() => self.text.len(),
            Some(covered) => *covered,
        }
    }
}
