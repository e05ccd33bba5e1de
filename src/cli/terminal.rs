//! What is written to a terminal: lines, errors, and colours where they are wanted.

use crate::display::Bundle;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::script::HelpText;
use crate::threads;
use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;
#[cfg(unix)]
use std::time::Duration;

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
        _ if std::io::stdout().is_terminal() => print(&harmless(&bundle.text)),
        _ => print(&bundle.text),
    }
}

/// A text without what a terminal would obey, such as a value that came out of a file.
pub(super) fn harmless(text: &str) -> String {
    let shown = |c: char| match c {
        '\n' | '\t' => c.to_string(),
        c if c.is_control() => c.escape_default().to_string(),
        c => c.to_string(),
    };
    text.chars().map(shown).collect()
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
    let shown = |text: &str| if std::io::stderr().is_terminal() { harmless(text) } else { text.to_owned() };
    to_stderr(&format!("{} {}", paint("1;31", "error:"), shown(&error.to_string())));
    if let Some(excerpt) = error.excerpt() {
        to_stderr(&shown(excerpt));
    }
    if let Some(hint) = error.hint() {
        to_stderr(&format!("{} {}", paint("1;36", "hint:"), shown(&hint)));
    }
}

/// Whether colours are wanted: by a terminal, unless NO_COLOR is set (<https://no-color.org>).
pub(super) fn in_colours(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Help, its paragraphs as wide as the terminal.
pub(super) fn help(help: &HelpText) -> String {
    let Some(columns) = columns() else { return help.to_string() };
    let mut text = String::new();
    for (signatures, markdown) in help.parts() {
        text += &format!("{signatures}\n");
        // What is between two fences is code.
        for (i, part) in markdown.split("```").enumerate() {
            if i % 2 == 1 {
                text += &format!("\n```{part}```\n");
                continue;
            }
            for paragraph in part.split("\n\n").map(str::trim).filter(|paragraph| !paragraph.is_empty()) {
                text += &format!("\n{}\n", textwrap::fill(&paragraph.replace('\n', " "), columns));
            }
        }
        text.push('\n');
    }
    text.trim_end().to_owned()
}

/// Lines that are no longer than the terminal is wide.
pub(super) fn cut(text: &str) -> String {
    let Some(columns) = columns() else { return text.to_owned() };
    let cut = |line: &str| match line.char_indices().nth(columns) {
        Some(_) => line.chars().take(columns.saturating_sub(1)).chain(['…']).collect(),
        None => line.to_owned(),
    };
    text.lines().map(cut).collect::<Vec<_>>().join("\n")
}

/// How wide the terminal is that the standard output is, if it is one.
fn columns() -> Option<usize> {
    let size = std::io::stdout().is_terminal().then(crossterm::terminal::size)?;
    size.ok().map(|(columns, _)| usize::from(columns)).filter(|columns| *columns > 0)
}

/// A line from the standard input.
pub(super) fn input(prompt: &str, progress: &Progress) -> Result<String> {
    let mut stdout = std::io::stdout();
    let written = write!(stdout, "{prompt}").and_then(|()| stdout.flush());
    written.map_err(Error::file("write", Path::new("standard output")))?;
    let read = || {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map(|_| line)
    };
    let line = match std::io::stdin().is_terminal() {
        // Nobody else may read from there afterwards.
        true => wait_for_line(progress).map(|()| read())?,
        false => threads::waiting_for(progress, read)?,
    };
    progress.check()?;
    match line.map_err(Error::file("read", Path::new("standard input")))? {
        line if line.is_empty() => Err(Error::invalid("input", "a line", "the end of the standard input")),
        line => Ok(line.trim_end_matches(['\n', '\r']).to_owned()),
    }
}

/// Waits until the terminal has a line to read, or somebody stops it.
#[cfg(unix)]
fn wait_for_line(progress: &Progress) -> Result<()> {
    loop {
        progress.check()?;
        if can_read(Duration::from_millis(50)) {
            return Ok(());
        }
    }
}

/// Whether a read of the standard input would not wait, now or within some time. If the input is broken, the read says so.
#[cfg(unix)]
pub(super) fn can_read(within: Duration) -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let within = Timespec { tv_sec: 0, tv_nsec: within.subsec_nanos().into() };
    let stdin = std::io::stdin();
    !matches!(
        poll(&mut [PollFd::new(&stdin, PollFlags::IN)], Some(&within)),
        Ok(0) | Err(rustix::io::Errno::INTR)
    )
}

#[cfg(not(unix))]
fn wait_for_line(progress: &Progress) -> Result<()> {
    progress.check()
}
