//! Cuts documents into contexts: the tokens that a forward pass reads together, and the text they represent.

use super::options::{ContextOptions, LongDocuments, Packing};
use crate::error::{Error, Result};
use crate::model::{Encoding, Tokenizer, char_offsets};
use std::ops::Range;

/// Tokens that a forward pass reads together, and the text they represent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Context {
    /// The number of the document, from 0 and with damaged rows counted; the last one if there are several.
    pub document: u64,
    /// The exact slice of the document.
    pub text: String,
    /// The token ids, `[pos]`, including a BOS if one was prepended.
    pub tokens: Vec<u32>,
    /// The character offset (in Unicode scalars) of each token in `text`, `[pos]`; 0 for a BOS.
    pub offsets: Vec<usize>,
    /// Whether the first token is a BOS.
    pub begins_with_bos: bool,
    /// The row of the first token in the activations of the batch.
    pub start: usize,
}

impl Context {
    /// The rows of the tokens in the activations of the batch.
    pub fn rows(&self) -> Range<usize> {
        self.start..self.start + self.tokens.len()
    }

    /// The rows without that of a BOS, whose activations are the same in every context.
    pub fn rows_after_bos(&self) -> Range<usize> {
        self.start + usize::from(self.begins_with_bos)..self.rows().end
    }
}

/// Cuts documents into contexts, one document after another.
pub(crate) struct Windows {
    tokenizer: Tokenizer,
    contexts: ContextOptions,
    /// The incomplete context, for [`Packing::Concatenate`].
    open: Context,
}

impl Windows {
    pub(crate) fn new(tokenizer: Tokenizer, contexts: ContextOptions) -> Self {
        Windows { tokenizer, contexts, open: Context::default() }
    }

    /// Returns the contexts that a document completes; `None` if it has no tokens.
    pub(crate) fn cut(&mut self, text: &str) -> Result<Option<Vec<Context>>> {
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
        let ContextOptions { context_size, long_documents, packing, .. } = self.contexts;
        let mut contexts = Vec::new();
        let mut start = 0;
        while start < document.encoding.ids.len() {
            let mut context = std::mem::take(&mut self.open);
            start = self.fill(&mut context, &document, start);
            if packing == Packing::Concatenate && context.tokens.len() < context_size {
                self.open = context;
                break;
            }
            contexts.push(context);
            if packing == Packing::Documents && long_documents == LongDocuments::Truncate {
                break;
            }
        }
        Ok(Some(contexts))
    }

    /// Fills a context with tokens of a document from `start` and returns the end. It begins with a BOS if contexts do,
    /// but with only one: a document may bring its own, as chat templates do.
    fn fill(&self, context: &mut Context, document: &Document, start: usize) -> usize {
        let ContextOptions { context_size, bos, prepend_bos, .. } = self.contexts;
        let ids = &document.encoding.ids;
        if context.tokens.is_empty() {
            let is_own = bos.is_some() && ids.get(start) == bos.as_ref();
            if let Some(bos) = bos.filter(|_| prepend_bos && !is_own) {
                context.tokens.push(bos);
                context.offsets.push(0);
            }
            context.begins_with_bos = is_own || prepend_bos;
        }
        let end = ids.len().min(start + context_size - context.tokens.len());
        let bytes = document.cut_before(start)..document.cut_before(end);
        let before = context.text.chars().count();
        let slice = document.text.get(bytes.clone()).unwrap_or_default();
        context.text.push_str(slice);
        context.tokens.extend_from_slice(&ids[start..end]);
        let starts = document.encoding.bytes[start..end].iter();
        let starts = starts.map(|range| range.start.clamp(bytes.start, bytes.end) - bytes.start);
        context.offsets.extend(char_offsets(slice, starts).into_iter().map(|offset| before + offset));
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
