//! What is written to a terminal: lines, errors, and colours where they are wanted.

use crate::display::Bundle;
use crate::error::{Error, Result};
use crate::progress::Progress;
use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;

/// A line to the standard output.
pub(super) fn print(line: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{line}").map_err(Error::file("write", Path::new("standard output")))
}

/// A line to the standard error; where that is closed there is nobody to tell.
pub(super) fn to_stderr(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// A value to the standard output, in colours if it has any and they are wanted there.
pub(super) fn show(bundle: &Bundle) -> Result<()> {
    match &bundle.ansi {
        Some(ansi) if in_colours(&std::io::stdout()) => print(ansi),
        _ => print(&bundle.text),
    }
}

/// An error with its place and what to do about it, to the standard error.
pub(super) fn report(error: &Error) {
    let paint = |code: &str, text: &str| match in_colours(&std::io::stderr()) {
        true => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        false => text.to_owned(),
    };
    if error.is_interrupted() {
        return to_stderr("interrupted");
    }
    to_stderr(&format!("{} {error}", paint("1;31", "error:")));
    if let Some(excerpt) = error.excerpt() {
        to_stderr(excerpt);
    }
    if let Some(hint) = error.hint() {
        to_stderr(&format!("{} {hint}", paint("1;36", "hint:")));
    }
}

/// Whether colours are wanted: by a terminal, unless NO_COLOR is set (<https://no-color.org>).
pub(super) fn in_colours(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A line from the standard input.
pub(super) fn input(prompt: &str, progress: &Progress) -> Result<String> {
    let mut stdout = std::io::stdout();
    let written = write!(stdout, "{prompt}").and_then(|()| stdout.flush());
    written.map_err(Error::file("write", Path::new("standard output")))?;
    let mut line = String::new();
    let read = std::io::stdin().lock().read_line(&mut line);
    progress.check()?;
    match read.map_err(Error::file("read", Path::new("standard input")))? {
        0 => Err(Error::invalid("input", "a line", "the end of the standard input")),
        _ => Ok(line.trim_end_matches(['\n', '\r']).to_owned()),
    }
}
