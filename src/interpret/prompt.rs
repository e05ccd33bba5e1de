//! Prompts that ask a model about a ghost token, and the ghost's positions in them.

use super::tree::TreeOptions;
use crate::error::{Error, Result};
use crate::model::{Model, Tokenizer};

/// The named prompts. `repeat` is the self-explanation prompt of Kharlapenko et al. without its chat markup;
/// `patchscope` is the token identity prompt of Ghandeharioun et al. (arXiv 2401.06102).
pub const PROMPTS: [(&str, &str); 4] = [
    ("definition", "A typical definition of \"{}\" would be \""),
    ("meaning", "The meaning of the word \"{}\" is \""),
    ("repeat", "Repeat \"{}\" four times exactly as it is written.\n1. \"{}\"\n2. \"{}\"\n3. \"{}\"\n4. \""),
    ("patchscope", "cat -> cat\n1135 -> 1135\nhello -> hello\n{} ->"),
];

/// Marks the ghost token in the text of a prompt.
const GHOST: &str = "{}";

/// A prompt in the tokens of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Prompt {
    /// The text, with `{}` for the ghost token.
    pub(super) text: String,
    /// The token ids; a ghost has the placeholder's id, or 0.
    pub(super) tokens: Vec<u32>,
    /// The positions of the ghosts.
    pub(super) ghosts: Vec<usize>,
    /// Whether the first token is a BOS.
    pub(super) has_bos: bool,
}

impl Prompt {
    /// Tokenizes the prompt that the options name or contain.
    ///
    /// # Errors
    /// The text has no `{}`; the placeholder is not a single token; the model has no tokenizer.
    pub(super) fn new(model: &Model, options: &TreeOptions) -> Result<Self> {
        let named = PROMPTS.iter().find(|(name, _)| *name == options.prompt);
        let text = named.map_or(options.prompt.as_str(), |(_, text)| text);
        let Some((before, after)) = text.split_once(GHOST) else {
            let names: Vec<_> = PROMPTS.iter().map(|(name, _)| format!("\"{name}\"")).collect();
            return Err(Error::invalid(
                "`prompt`",
                "a string with {} for the ghost token",
                format!("{text:?}"),
            )
            .with_hint(format!("put {{}} into it, or name one of the prompts {}", names.join(", "))));
        };
        let tokenizer = model.tokenizer()?;
        let placeholder = match &options.placeholder {
            None => 0,
            Some(placeholder) => match tokenizer.encode(placeholder)?.ids[..] {
                [id] => id,
                ref ids => {
                    let got = format!("{placeholder:?}, which is {} tokens", ids.len());
                    return Err(Error::invalid("`placeholder`", "a string of one token", got));
                }
            },
        };
        let has_bos = options.prepend_bos.unwrap_or(model.cfg().default_prepend_bos);
        let mut tokens = Vec::new();
        if has_bos {
            tokens.push(model.bos()?);
        }
        tokens.extend(tokenizer.encode(before)?.ids);
        let mut ghosts = Vec::new();
        for part in after.split(GHOST) {
            ghosts.push(tokens.len());
            tokens.push(placeholder);
            tokens.extend(encode_inside(tokenizer, part)?);
        }
        Ok(Prompt { text: text.to_owned(), tokens, ghosts, has_bos })
    }

    /// The default `stop`: the closing mark of the quotation that the prompt opens, else a line break.
    pub(super) fn closing(&self) -> String {
        let last = self.text.chars().next_back();
        match last {
            Some(quote @ ('"' | '\'' | '`')) => quote.to_string(),
            Some('“') => "”".to_owned(),
            Some('«') => "»".to_owned(),
            _ => "\n".to_owned(),
        }
    }
}

/// Tokenizes text that continues other text. Some tokenizers put a space before every string, which would be one too
/// many here. So the text is tokenized after a line break, whose tokens are dropped if they can be separated.
fn encode_inside(tokenizer: &Tokenizer, piece: &str) -> Result<Vec<u32>> {
    let isolated = tokenizer.encode(piece)?.ids;
    let after_break = tokenizer.encode(&format!("\n{piece}"))?;
    let bytes = &after_break.bytes;
    let first = bytes.iter().position(|bytes| bytes.end > 1).unwrap_or(bytes.len());
    let separable = bytes[first..].iter().all(|bytes| bytes.start >= 1);
    Ok(if separable { after_break.ids[first..].to_vec() } else { isolated })
}
