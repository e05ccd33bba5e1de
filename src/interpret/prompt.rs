//! What a model is asked about a ghost token: prompts, and where in them the ghost is.

use super::tree::TreeOptions;
use crate::error::{Error, Result};
use crate::model::{Model, Tokenizer};

/// The prompts that have a name. `repeat` is that of Kharlapenko et al.'s self-explanations without its chat markup,
/// `patchscope` the token identity prompt of Ghandeharioun et al. (arXiv 2401.06102).
pub const PROMPTS: [(&str, &str); 4] = [
    ("definition", "A typical definition of \"{}\" would be \""),
    ("meaning", "The meaning of the word \"{}\" is \""),
    ("repeat", "Repeat \"{}\" four times exactly as it is written.\n1. \"{}\"\n2. \"{}\"\n3. \"{}\"\n4. \""),
    ("patchscope", "cat -> cat\n1135 -> 1135\nhello -> hello\n{} ->"),
];

/// What stands for the ghost token in a prompt.
const GHOST: &str = "{}";

/// A prompt as a model reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Prompt {
    /// The text with `{}`.
    pub(super) text: String,
    /// The token ids; at the ghosts' places those of the placeholder.
    pub(super) tokens: Vec<u32>,
    /// Where the ghosts are.
    pub(super) ghosts: Vec<usize>,
    /// Whether the first token is a BOS.
    pub(super) has_bos: bool,
}

impl Prompt {
    /// The prompt that the options name or give, in the model's tokens.
    ///
    /// # Errors
    /// A text without `{}`, a placeholder that is no single token; a model without tokenizer.
    pub(super) fn new(model: &Model, options: &TreeOptions) -> Result<Self> {
        let named = PROMPTS.iter().find(|(name, _)| *name == options.prompt);
        let text = named.map_or(options.prompt.as_str(), |(_, text)| text);
        if !text.contains(GHOST) {
            let names: Vec<_> = PROMPTS.iter().map(|(name, _)| format!("\"{name}\"")).collect();
            return Err(Error::invalid(
                "`prompt`",
                "a text with {} where the ghost token is",
                format!("{text:?}"),
            )
            .with_hint(format!("write {{}} into it, or name one of {}", names.join(", "))));
        }
        let tokenizer = model.tokenizer()?;
        let placeholder = match &options.placeholder {
            None => 0,
            Some(placeholder) => match tokenizer.encode(placeholder)?.ids[..] {
                [id] => id,
                ref ids => {
                    let got = format!("{placeholder:?}, which is {} tokens", ids.len());
                    return Err(Error::invalid("`placeholder`", "a text that is one token", got));
                }
            },
        };
        let has_bos = options.prepend_bos.unwrap_or(model.cfg().default_prepend_bos);
        let mut tokens = Vec::new();
        if has_bos {
            tokens.push(model.bos()?);
        }
        let mut ghosts = Vec::new();
        for (i, part) in text.split(GHOST).enumerate() {
            if i == 0 {
                tokens.extend(tokenizer.encode(part)?.ids);
            } else {
                ghosts.push(tokens.len());
                tokens.push(placeholder);
                tokens.extend(encode_inside(tokenizer, part)?);
            }
        }
        Ok(Prompt { text: text.to_owned(), tokens, ghosts, has_bos })
    }

    /// What ends a definition unless the options say: the quotation mark that the prompt opens, else a line break.
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

/// The tokens of a piece of text that others come before. Some tokenizers put a space in front of every text; here that
/// would be one too many, so the piece is read behind a line break, where the two come apart.
fn encode_inside(tokenizer: &Tokenizer, piece: &str) -> Result<Vec<u32>> {
    let alone = tokenizer.encode(piece)?.ids;
    let behind = tokenizer.encode(&format!("\n{piece}"))?;
    let first = behind.bytes.iter().position(|bytes| bytes.end > 1).unwrap_or(behind.bytes.len());
    let apart = behind.bytes[first..].iter().all(|bytes| bytes.start >= 1);
    let inside = &behind.ids[first..];
    Ok(if apart { inside.to_vec() } else { alone })
}
