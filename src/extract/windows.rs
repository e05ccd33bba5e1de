//! Cuts documents into contexts: the tokens that a forward pass reads together, and the text they represent.

use super::bos::Bos;
use super::options::{Contexts, LongDocuments, Packing};
use super::record::FeatureRecord;
use crate::error::{Error, Result};
use crate::model::{Encoding, Tokenizer, char_offsets};

/// Cuts documents into contexts, one document after another.
pub(crate) struct Windows {
    tokenizer: Tokenizer,
    contexts: Contexts,
    /// The incomplete context, for [`Packing::Concatenate`].
    open: FeatureRecord,
}

impl Windows {
    pub(crate) fn new(tokenizer: Tokenizer, contexts: Contexts) -> Self {
        Windows { tokenizer, contexts, open: FeatureRecord::default() }
    }

    /// Returns the contexts that a document completes, as records without features; `None` if it has no tokens.
    pub(crate) fn cut(&mut self, text: &str) -> Result<Option<Vec<FeatureRecord>>> {
        let document = Document { text, encoding: self.tokenizer.encode(text)? };
        if document.encoding.ids.is_empty() {
            return Ok(None);
        }
        let d_vocab = self.contexts.d_vocab;
        if let Some(id) = document.encoding.ids.iter().find(|id| **id as usize >= d_vocab) {
            let token = self.tokenizer.token_text(*id)?;
            let message = format!(
                "the text contains the token `{token}`, whose id {id} is not below the model's d_vocab = {d_vocab}"
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

    /// Fills a record with tokens of a document from `start` and returns the end. A record begins with a BOS if
    /// contexts do, but with only one: a document may bring its own, as chat templates do.
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

/// A document with its text and its tokens.
struct Document<'a> {
    text: &'a str,
    encoding: Encoding,
}

impl Document<'_> {
    /// The byte offset at which to cut the text so that the second part begins with this token. Spaces belong to the
    /// token that contains them, a character of several tokens to the first of them, and bytes of no token to the next
    /// one. The first part begins and the last ends with the text, so nothing is lost.
    fn cut_before(&self, token: usize) -> usize {
        match token.checked_sub(1).and_then(|last| self.encoding.covered.get(last)) {
            None => 0,
            Some(_) if token >= self.encoding.ids.len() => self.text.len(),
            Some(covered) => *covered,
        }
    }
}
