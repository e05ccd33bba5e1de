//! Pictures: drawn in the terminal if it can show them, else saved to files.
//!
//! kitty's protocol: <https://sw.kovidgoyal.net/kitty/graphics-protocol/>; iTerm2's:
//! <https://iterm2.com/documentation-images.html>; sixel: the terminal's answer to DA1 contains a 4.

use crate::error::{Error, Result};
use crate::plot::Figure;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The variable that names the terminal's protocol, if it is not detected.
const VARIABLE: &str = "SAESCOPE_PICTURES";
/// The assumed width of a character in pixels.
const CHARACTER: u32 = 9;

/// A protocol for pictures in a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Kitty,
    Iterm2,
    Sixel,
    None,
}

/// Draws a picture in the terminal. Returns false if the terminal cannot show one.
pub(super) fn draw(figure: &Figure) -> Result<bool> {
    static PROTOCOL: OnceLock<Protocol> = OnceLock::new();
    let mut stdout = std::io::stdout();
    if !stdout.is_terminal() {
        return Ok(false);
    }
    let protocol = *PROTOCOL.get_or_init(|| from_environment().unwrap_or_else(from_terminal));
    let drawn = match protocol {
        Protocol::None => return Ok(false),
        Protocol::Kitty => kitty(&figure.png()?, columns(figure)),
        Protocol::Iterm2 => iterm2(&figure.png()?, columns(figure)),
        Protocol::Sixel => sixel(figure)?,
    };
    let written = writeln!(stdout, "{drawn}").and_then(|()| stdout.flush());
    written.map_err(Error::file("write", Path::new("standard output")))?;
    Ok(true)
}

/// Saves a picture in a temporary folder and returns its path.
pub(super) fn save(figure: &Figure) -> Result<PathBuf> {
    static NUMBER: AtomicUsize = AtomicUsize::new(1);
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    let new = || Some(tempfile::Builder::new().prefix("saescope-").tempdir().ok()?.keep());
    let folder = FOLDER
        .get_or_init(new)
        .clone()
        .ok_or_else(|| Error::failed("save the picture")("no temporary folder can be created"))?;
    let path = folder.join(format!("figure_{}.png", NUMBER.fetch_add(1, Ordering::Relaxed)));
    crate::files::write_atomic(&path, &figure.png()?)?;
    Ok(path)
}

/// The protocol according to environment variables of the user or the terminal.
fn from_environment() -> Option<Protocol> {
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    match variable(VARIABLE).as_str() {
        "kitty" => return Some(Protocol::Kitty),
        "iterm2" => return Some(Protocol::Iterm2),
        "sixel" => return Some(Protocol::Sixel),
        "none" => return Some(Protocol::None),
        _ => {}
    }
    // In a multiplexer, the multiplexer must support the protocol.
    if !variable("TMUX").is_empty() || variable("TERM").starts_with("screen") {
        return None;
    }
    let program = variable("TERM_PROGRAM").to_lowercase();
    let is_kitty = variable("TERM").contains("kitty") || !variable("KITTY_WINDOW_ID").is_empty();
    match program.as_str() {
        _ if is_kitty => Some(Protocol::Kitty),
        "ghostty" | "wezterm" => Some(Protocol::Kitty),
        "iterm.app" | "mintty" => Some(Protocol::Iterm2),
        _ => None,
    }
}

/// The protocol according to the terminal's answer to DA1 (its attributes), if that comes within 0.2 s.
#[cfg(unix)]
fn from_terminal() -> Protocol {
    use super::super::terminal::can_read;
    use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
    const WAIT: std::time::Duration = std::time::Duration::from_millis(200);
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Protocol::None;
    }
    let Ok(before) = tcgetattr(&stdin) else { return Protocol::None };
    let mut raw = before.clone();
    raw.make_raw();
    let mut answer = Vec::new();
    let ask = || -> std::io::Result<()> {
        tcsetattr(&stdin, OptionalActions::Now, &raw)?;
        let mut stdout = std::io::stdout();
        stdout.write_all(b"\x1b[c")?;
        stdout.flush()
    };
    if ask().is_ok() {
        let mut byte = [0u8; 1];
        while !is_answer(&answer) && answer.len() < 1024 {
            if !can_read(WAIT) || !rustix::io::read(&stdin, &mut byte).is_ok_and(|n| n > 0) {
                break;
            }
            answer.push(byte[0]);
        }
    }
    // If this could fail, setting raw mode would have failed.
    let _ = tcsetattr(&stdin, OptionalActions::Now, &before);
    if has_sixel(&answer) { Protocol::Sixel } else { Protocol::None }
}

#[cfg(not(unix))]
fn from_terminal() -> Protocol {
    Protocol::None
}

/// Whether there is a complete answer, after anything typed meanwhile.
fn is_answer(read: &[u8]) -> bool {
    let start = read.windows(3).position(|bytes| bytes == b"\x1b[?");
    start.is_some_and(|start| read[start..].contains(&b'c'))
}

/// Whether an answer such as `ESC [ ? 62 ; 4 c` has the attribute 4.
fn has_sixel(answer: &[u8]) -> bool {
    let answer = String::from_utf8_lossy(answer);
    let attributes = answer.rsplit('?').next().unwrap_or_default().trim_end_matches('c');
    // The first number is the kind of terminal.
    attributes.split(';').skip(1).any(|attribute| attribute == "4")
}

/// The display width of a picture in characters, at most the terminal's.
fn columns(figure: &Figure) -> u32 {
    let terminal = crossterm::terminal::size().map_or(80, |(columns, _)| u32::from(columns));
    (figure.size().0 / CHARACTER).clamp(1, terminal.max(1))
}

fn kitty(png: &[u8], columns: u32) -> String {
    const CHUNK: usize = 4096;
    let data = STANDARD.encode(png);
    let chunks: Vec<_> = data.as_bytes().chunks(CHUNK).map(String::from_utf8_lossy).collect();
    let mut text = String::new();
    for (i, chunk) in chunks.iter().enumerate() {
        let first = if i == 0 { format!("a=T,f=100,q=2,c={columns},") } else { String::new() };
        let more = u8::from(i + 1 < chunks.len());
        text += &format!("\u{1b}_G{first}m={more};{chunk}\u{1b}\\");
    }
    text
}

fn iterm2(png: &[u8], columns: u32) -> String {
    let data = STANDARD.encode(png);
    format!("\u{1b}]1337;File=inline=1;preserveAspectRatio=1;size={};width={columns}:{data}\u{7}", png.len())
}

fn sixel(figure: &Figure) -> Result<String> {
    let (width, height, pixels) = figure.rgba()?;
    let options = icy_sixel::EncodeOptions { diffusion: 0.0, ..Default::default() };
    icy_sixel::sixel_encode(&pixels, width, height, &options)
        .map_err(Error::failed("encode the picture as sixel"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typed_characters_are_not_an_answer() {
        for read in ["", "c", "abc", "cc\x1b[?62;4", "\x1b[c"] {
            assert!(!is_answer(read.as_bytes()), "{read}");
        }
        assert!(is_answer(b"cc\x1b[?62;4c") && has_sixel(b"cc\x1b[?62;4c"));
    }
    use crate::plot::{PlotOptions, Series, plot_line};

    #[test]
    fn pictures_are_written_as_the_protocols_say() {
        let figure = plot_line(&[Series::of("", vec![1.0, 2.0])], &PlotOptions::default()).unwrap();
        let png = figure.png().unwrap();
        let kitty = kitty(&png, 71);
        let chunks: Vec<_> = kitty.split_terminator("\u{1b}\\").collect();
        assert!(chunks[0].starts_with("\u{1b}_Ga=T,f=100,q=2,c=71,m=1;"));
        assert!(chunks[1..].iter().all(|chunk| chunk.starts_with("\u{1b}_Gm=")));
        let payload: String = chunks.iter().map(|chunk| chunk.split_once(';').unwrap().1).collect();
        assert_eq!(STANDARD.decode(payload).unwrap(), png);
        assert!(chunks.last().unwrap().starts_with("\u{1b}_Gm=0;"));
        let iterm2 = iterm2(&png, 71);
        let (_, payload) = iterm2.trim_end_matches('\u{7}').split_once(':').unwrap();
        assert_eq!(STANDARD.decode(payload).unwrap(), png);
        let sixel = sixel(&figure).unwrap();
        assert!(sixel.starts_with("\u{1b}P") && sixel.ends_with("\u{1b}\\"));
        assert_eq!(columns(&figure), 71);
    }

    #[test]
    fn sixel_is_detected_from_the_answer() {
        assert!(has_sixel(b"\x1b[?62;4c") && has_sixel(b"\x1b[?64;1;2;4;6;9c"));
        assert!(
            !has_sixel(b"\x1b[?4c") && !has_sixel(b"\x1b[?62;22c") && !has_sixel(b"") && !has_sixel(b"\xff")
        );
    }
}
