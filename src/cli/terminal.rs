//! The terminal: prints lines, values, errors and help, and reads lines.

use crate::display::Bundle;
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::script::HelpText;
use crate::threads;
use std::io::{BufRead, IsTerminal, Write};
use std::path::Path;
#[cfg(unix)]
use std::time::Duration;

/// Prints a line to standard output.
pub(super) fn print(line: &str) -> Result<()> {
    writeln!(std::io::stdout(), "{line}").map_err(Error::file("write", Path::new("standard output")))
}

/// Prints a line to standard error. A failure is ignored, since there is nowhere to report it.
pub(super) fn to_stderr(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Prints a value to standard output, in color if it has colors and they are wanted there.
pub(super) fn show(bundle: &Bundle) -> Result<()> {
    match &bundle.ansi {
        Some(ansi) if in_color(&std::io::stdout()) => print(ansi),
        _ if std::io::stdout().is_terminal() => print(&escape_controls(&bundle.text)),
        _ => print(&bundle.text),
    }
}

/// Escapes the control characters of a string that may come from elsewhere, such as a file.
pub(super) fn escape_controls(text: &str) -> String {
    let shown = |c: char| match c {
        '\n' | '\t' => c.to_string(),
        c if c.is_control() => c.escape_default().to_string(),
        c => c.to_string(),
    };
    text.chars().map(shown).collect()
}

/// Prints an error with its script excerpt and hint to standard error.
pub(super) fn report(error: &Error) {
    let paint = |code: &str, text: &str| match in_color(&std::io::stderr()) {
        true => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        false => text.to_owned(),
    };
    if error.is_interrupted() {
        return to_stderr("interrupted");
    }
    let shown =
        |text: &str| if std::io::stderr().is_terminal() { escape_controls(text) } else { text.to_owned() };
    to_stderr(&format!("{} {}", paint("1;31", "error:"), shown(&error.to_string())));
    if let Some(excerpt) = error.excerpt() {
        to_stderr(&shown(excerpt));
    }
    if let Some(hint) = error.hint() {
        to_stderr(&format!("{} {}", paint("1;36", "hint:"), shown(&hint)));
    }
}

/// Whether to print colors: on a terminal, unless NO_COLOR is set (<https://no-color.org>).
pub(super) fn in_color(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Help text with its paragraphs wrapped to the terminal's width.
pub(super) fn help(help: &HelpText) -> String {
    let Some(columns) = columns() else { return help.to_string() };
    let mut text = String::new();
    for (signatures, markdown) in help.parts() {
        text += &format!("{signatures}\n");
        // Code between two fences is not wrapped.
        for (i, part) in markdown.split("```").enumerate() {
            if i % 2 == 1 {
                text += &format!("\n```{part}```\n");
                continue;
            }
            for paragraph in part.split("\n\n").map(str::trim).filter(|paragraph| !paragraph.is_empty()) {
                // The items of a list stay on lines of their own.
                let items = paragraph.split("\n- ").map(|item| item.replace('\n', " "));
                let options = textwrap::Options::new(columns).subsequent_indent("  ");
                for (i, item) in items.enumerate() {
                    text += &match i {
                        0 => format!("\n{}\n", textwrap::fill(&item, columns)),
                        _ => format!("{}\n", textwrap::fill(&format!("- {item}"), &options)),
                    };
                }
            }
        }
        text.push('\n');
    }
    text.trim_end().to_owned()
}

/// Cuts lines to the terminal's width.
pub(super) fn cut(text: &str) -> String {
    let Some(columns) = columns() else { return text.to_owned() };
    let cut = |line: &str| match line.char_indices().nth(columns) {
        Some(_) => line.chars().take(columns.saturating_sub(1)).chain(['…']).collect(),
        None => line.to_owned(),
    };
    text.lines().map(cut).collect::<Vec<_>>().join("\n")
}

/// The terminal's width in characters, if standard output is a terminal.
fn columns() -> Option<usize> {
    let size = std::io::stdout().is_terminal().then(crossterm::terminal::size)?;
    size.ok().map(|(columns, _)| usize::from(columns)).filter(|columns| *columns > 0)
}

/// Prints a prompt and reads a line from standard input.
pub(super) fn input(prompt: &str, progress: &Progress) -> Result<String> {
    let mut stdout = std::io::stdout();
    let written = write!(stdout, "{prompt}").and_then(|()| stdout.flush());
    written.map_err(Error::file("write", Path::new("standard output")))?;
    let read = || {
        let mut line = String::new();
        std::io::stdin().lock().read_line(&mut line).map(|_| line)
    };
    let line = match std::io::stdin().is_terminal() {
        // No thread may be left that reads from the terminal.
        true => wait_for_line(progress).map(|()| read())?,
        false => threads::run_cancelable(progress, read)?,
    };
    progress.check()?;
    match line.map_err(Error::file("read", Path::new("standard input")))? {
        line if line.is_empty() => Err(Error::invalid("input", "a line", "the end of standard input")),
        line => Ok(line.trim_end_matches(['\n', '\r']).to_owned()),
    }
}

/// Waits until the terminal has a line to read, or `progress` is canceled.
#[cfg(unix)]
fn wait_for_line(progress: &Progress) -> Result<()> {
    loop {
        progress.check()?;
        if can_read(Duration::from_millis(50)) {
            return Ok(());
        }
    }
}

/// Whether standard input can be read without waiting, now or in less than a second. True if a read would fail.
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
