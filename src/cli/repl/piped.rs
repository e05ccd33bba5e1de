//! Statements from a pipe or a file: evaluated one after another until one fails.

use super::super::engine::Engine;
use super::super::interrupts::Interrupts;
use super::super::output::Output;
#[cfg(unix)]
use super::super::terminal::can_read;
use super::super::terminal::show;
use crate::error::{Error, Result};
use crate::script::{Completeness, Unfinished, strip_preamble};
use std::io::{ErrorKind, Read};
use std::path::Path;
#[cfg(unix)]
use std::time::Duration;

/// The maximum length of a statement in bytes.
const MAX_BYTES: usize = 1 << 26;

/// Evaluates standard input to its end.
pub(super) fn run(interrupts: &Interrupts) -> Result<()> {
    let output = Output::new(interrupts.progress()).without_input();
    let engine = Engine::start(interrupts.progress(), output.clone())?;
    let mut input = Input::default();
    let mut statement = String::new();
    let mut open = Unfinished::default();
    let mut line = 1;
    loop {
        interrupts.progress().check()?;
        let start = statement.len();
        let is_over = !interrupts.idle(|| input.read_line(&mut statement))?;
        if statement.len() > MAX_BYTES {
            return Err(Error::invalid("a statement", format!("at most {MAX_BYTES} bytes"), "more"));
        }
        if line == 1 && start == 0 {
            statement = strip_preamble(&statement);
        }
        let new = statement[start..].to_owned();
        let mut before = std::mem::take(&mut open);
        let (may_end, after) = engine.ask(move |session| (session.may_end(&mut before, &new), before))?;
        open = after;
        let is_complete = may_end && {
            let text = statement.clone();
            let found = engine.ask(move |session| session.completeness(&text))?;
            !matches!(found, Completeness::Incomplete { .. }) && !continues(&engine, &statement, &mut input)?
        };
        // An incomplete statement at the end is evaluated too: its error says what is missing.
        if is_over || is_complete {
            let script = std::mem::take(&mut statement);
            open = Unfinished::default();
            let first_line = line;
            line += script.matches('\n').count();
            // Nothing resets the progress here, so a signal between two statements is not lost.
            let value = engine.ask(move |session| session.eval_named("input", first_line, &script))?;
            if let Some(bundle) = output.result(value)? {
                show(&bundle)?;
            }
        }
        if is_over || engine.ask(|session| session.has_exited())? {
            return Ok(());
        }
    }
}

/// Standard input with lookahead.
#[derive(Default)]
struct Input {
    ahead: Vec<u8>,
    is_over: bool,
}

impl Input {
    /// Adds the next line to a statement, up to one byte more than the limit. Returns false at the end of the input.
    fn read_line(&mut self, statement: &mut String) -> Result<bool> {
        let most = (MAX_BYTES + 1).saturating_sub(statement.len());
        let mut looked = 0;
        let end = loop {
            let end = self.ahead[looked..].iter().position(|byte| *byte == b'\n');
            if let Some(end) = end {
                break looked + end + 1;
            }
            looked = self.ahead.len();
            if looked >= most || !self.read_more()? {
                break looked;
            }
        };
        let line: Vec<u8> = self.ahead.drain(..end.min(most)).collect();
        let line = String::from_utf8(line)
            .map_err(|_| Error::malformed(Path::new("standard input"), "expected statements in UTF-8"))?;
        statement.push_str(&line);
        Ok(!line.is_empty())
    }

    /// Reads the next bytes. Returns false at the end of the input.
    fn read_more(&mut self) -> Result<bool> {
        let mut chunk = [0; 1 << 16];
        while !self.is_over {
            match std::io::stdin().read(&mut chunk) {
                Ok(n) => {
                    self.ahead.extend_from_slice(&chunk[..n]);
                    self.is_over = n == 0;
                    return Ok(n > 0);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::file("read", Path::new("standard input"))(error)),
            }
        }
        Ok(false)
    }

    /// The code that comes next, from the input that has arrived. Does not wait for more: the program that writes may
    /// itself be waiting for an answer.
    fn code_ahead(&mut self) -> Result<&[u8]> {
        const LONGEST_WORD: usize = 8;
        while code(&self.ahead).len() < LONGEST_WORD
            && self.ahead.len() < MAX_BYTES
            && is_more_here()
            && self.read_more()?
        {}
        Ok(code(&self.ahead))
    }
}

/// Whether more input can be read without waiting.
fn is_more_here() -> bool {
    #[cfg(unix)]
    let is_here = can_read(Duration::ZERO);
    #[cfg(not(unix))]
    let is_here = false;
    is_here
}

/// Whether the input that has arrived continues a statement that could be complete, as it would in a file: with a
/// branch, a method or, if nothing ends the statement, an operator. White space and comments before it are skipped.
fn continues(engine: &Engine, statement: &str, input: &mut Input) -> Result<bool> {
    let next = input.code_ahead()?;
    if is_part(next) {
        return Ok(true);
    }
    if !is_operator(next) || statement.trim().is_empty() {
        return Ok(false);
    }
    // A statement that has an end can be followed by another.
    let followed = format!("{statement}\n0");
    let found = engine.ask(move |session| session.completeness(&followed))?;
    Ok(!matches!(found, Completeness::Complete))
}

/// Whether code can only continue what is before it: a branch, a property, a method.
fn is_part(next: &[u8]) -> bool {
    begins_with_word(next, b"else") || next.starts_with(b"?.") || next.starts_with(b".")
}

/// Whether code begins with an operator between two values.
fn is_operator(next: &[u8]) -> bool {
    let is_sign = next.first().is_some_and(|first| b"+-*/%=&|^<>".contains(first));
    let is_word = [&b"in"[..], b"!in", b"as"].iter().any(|word| begins_with_word(next, word));
    is_sign || is_word || [&b"??"[..], b"?[", b"!="].iter().any(|sign| next.starts_with(sign))
}

fn begins_with_word(text: &[u8], word: &[u8]) -> bool {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    text.strip_prefix(word).is_some_and(|rest| !rest.first().is_some_and(is_word))
}

/// Strips white space and comments from the start of a string.
fn code(mut text: &[u8]) -> &[u8] {
    loop {
        text = text.trim_ascii_start();
        let end = match text {
            [b'/', b'/', ..] => text.iter().position(|byte| *byte == b'\n'),
            [b'/', b'*', ..] => comment(text),
            _ => return text,
        };
        text = end.map_or(&[], |end| &text[end..]);
    }
}

/// The length of the block comment at the start of a string; comments can be nested. `None` if it is not closed.
fn comment(text: &[u8]) -> Option<usize> {
    let (mut depth, mut at) = (0usize, 0);
    while let Some(two) = text.get(at..at + 2) {
        match two {
            b"/*" => depth += 1,
            b"*/" => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn continuations_are_recognized_by_their_start() {
        let part = |next: &str| is_part(code(next.as_bytes()));
        for next in [
            "else { 1 }\n",
            "  else if x {",
            "\n    .len()",
            "?.x",
            "else",
            "// note\n/* more */ else {}",
            "// a\n\n// b\n.x",
            "/* a /* b */ c */ else",
        ] {
            assert!(part(next), "{next}");
        }
        for next in ["", "\n", "elsewhere()", "else_1", "x", "1.5", "// else", "/* .x", "- 1", "|x| x"] {
            assert!(!part(next), "{next}");
        }
        for next in ["- 1;", "\n  * 2", "// note\n&& b", "== 3", "in a", "!in a", "?? 1", "!= 2", "as x"] {
            assert!(is_operator(code(next.as_bytes())), "{next}");
        }
        for next in ["x", "!x", "inside", "assert()", "[1]", "(1)", "// - 1"] {
            assert!(!is_operator(code(next.as_bytes())), "{next}");
        }
    }
}
