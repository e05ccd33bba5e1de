//! Statements from a pipe or a file: evaluated one after another, up to the first that fails.

use super::super::engine::Engine;
use super::super::interrupts::Interrupts;
use super::super::output::Output;
use super::super::terminal::show;
use super::evaluated;
use crate::error::{Error, Result};
use crate::script::{Completeness, Unfinished, plain};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// The most bytes of a statement.
const MOST_BYTES: usize = 1 << 26;

/// Reads the standard input to its end.
pub(super) fn run(interrupts: &Interrupts) -> Result<()> {
    let output = Output::new(interrupts.progress()).without_input();
    let engine = Engine::start(interrupts.progress(), output.clone())?;
    let mut input = BufReader::new(std::io::stdin().lock());
    let mut statement = String::new();
    let mut open = Unfinished::default();
    let mut line = 1;
    loop {
        interrupts.progress().check()?;
        let start = statement.len();
        let mut rest = (&mut input).take((MOST_BYTES + 1).saturating_sub(start) as u64);
        let read = interrupts.idle(|| rest.read_line(&mut statement));
        let read = read.map_err(Error::file("read", Path::new("standard input")))?;
        if statement.len() > MOST_BYTES {
            return Err(Error::invalid("a statement", format!("at most {MOST_BYTES} bytes"), "more"));
        }
        if line == 1 && start == 0 {
            statement = plain(&statement);
        }
        let new = statement[start..].to_owned();
        let mut before = std::mem::take(&mut open);
        let (may_end, after) = engine.ask(move |session| (session.may_end(&mut before, &new), before))?;
        open = after;
        let is_whole = may_end && !goes_on(&statement, input.buffer()) && {
            let text = statement.clone();
            let whole = engine.ask(move |session| session.completeness(&text))?;
            !matches!(whole, Completeness::Incomplete { .. })
        };
        // What is not whole at the end says what it lacks.
        if read == 0 || is_whole {
            let script = std::mem::take(&mut statement);
            open = Unfinished::default();
            let first_line = line;
            line += script.matches('\n').count();
            let value = evaluated(&engine, interrupts, move |session| {
                session.eval_named("input", first_line, &script)
            });
            if let Some(bundle) = output.result(value)? {
                show(&bundle)?;
            }
        }
        if read == 0 || engine.ask(|session| session.has_exited())? {
            return Ok(());
        }
    }
}

/// Whether what comes next, as far as it is here already, goes on with a statement that could be whole, as it does in a
/// file: after white and comments a branch, a method, or, where no semicolon or bracket ends the statement, an operator.
fn goes_on(statement: &str, next: &[u8]) -> bool {
    let next = code(next);
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || *byte == b'_';
    let is_else = next.strip_prefix(b"else").is_some_and(|rest| !rest.first().is_some_and(is_word));
    let is_ended = statement.trim_end().ends_with([';', '}']) || statement.trim().is_empty();
    let is_operator = next.first().is_some_and(|first| b"+-*/%=&|^<>".contains(first));
    is_else || next.starts_with(b"?.") || next.starts_with(b".") || is_operator && !is_ended
}

/// What is left of a text without the white and the comments at its beginning.
fn code(mut text: &[u8]) -> &[u8] {
    loop {
        text = text.trim_ascii_start();
        let end = match text {
            [b'/', b'/', ..] => text.iter().position(|byte| *byte == b'\n'),
            [b'/', b'*', ..] => text[2..].windows(2).position(|two| two == b"*/").map(|end| end + 4),
            _ => return text,
        };
        text = end.map_or(&[], |end| &text[end..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_and_a_method_belong_to_what_is_before_them() {
        for next in [
            "else { 1 }\n",
            "  else if x {",
            "\n    .len()",
            "?.x",
            "else",
            "// note\n/* more */ else {}",
            "// a\n\n// b\n.x",
        ] {
            assert!(goes_on("if x { }\n", next.as_bytes()), "{next}");
        }
        for next in ["", "\n", "elsewhere()", "else_1", "x", "1.5", "// else", "/* .x", "- 1", "|x| x"] {
            assert!(!goes_on("f();\n", next.as_bytes()), "{next}");
        }
        for next in ["- 1;", "\n  * 2", "// note\n&& b", "== 3"] {
            assert!(goes_on("let x = 10\n", next.as_bytes()), "{next}");
        }
    }
}
