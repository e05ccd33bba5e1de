//! Tokens with colored backgrounds, in HTML and in a terminal: blue above zero, red below, darker farther from zero.

use super::html::{escape, piece};
use crate::dashboard::ColoredTokens;
use crate::label::{number, visible_line};
use std::fmt::Write;

/// The colors of values above and below zero.
const ABOVE: (u8, u8, u8) = (0x2a, 0x3f, 0xb5);
const BELOW: (u8, u8, u8) = (0xd0, 0x39, 0x2b);
/// The shade from which the text on a background is white.
const DARK: f32 = 0.5;

/// The shade `|value| / largest`, from 0 to 1, and the color.
fn shade(value: f32, largest: f32) -> (f32, (u8, u8, u8)) {
    let part = if value.is_finite() && largest > 0.0 { (value.abs() / largest).min(1.0) } else { 0.0 };
    (part, if value < 0.0 { BELOW } else { ABOVE })
}

/// The tokens as spans, each with its value as the tooltip, or its note if there are `notes`.
pub(super) fn spans(tokens: &ColoredTokens, largest: f32, notes: Option<&[String]>) -> String {
    let mut html = String::new();
    for (i, (token, value)) in tokens.tokens.iter().zip(&tokens.values).enumerate() {
        let (part, (red, green, blue)) = shade(*value, largest);
        let note = notes.and_then(|notes| notes.get(i)).cloned();
        let note = escape(&note.unwrap_or_else(|| format!("token {i}: {}", number(f64::from(*value)))));
        // An empty token with a value gets a dot, so that it can be pointed at.
        let text = if token.is_empty() && part > 0.0 { "·" } else { token };
        let (visible, breaks) = (escape(&visible_line(text)), "<br>".repeat(text.matches('\n').count()));
        if part == 0.0 {
            let _ = write!(html, "<span title=\"{note}\">{visible}</span>{breaks}");
            continue;
        }
        let ink = if part >= DARK { ";color:#fff" } else { "" };
        // Even the smallest value stays visible.
        let alpha = 0.08 + 0.92 * part;
        let _ = write!(
            html,
            "<span title=\"{note}\" style=\"background-color:rgba({red},{green},{blue},{alpha:.2}){ink}\">{visible}</span>\
             {breaks}"
        );
    }
    format!("<span style=\"white-space:pre-wrap;line-height:1.9\">{html}</span>")
}

/// A title and the tokens below it.
pub(super) fn html(tokens: &ColoredTokens) -> String {
    let spans = spans(tokens, tokens.largest(), None);
    if tokens.title.is_empty() {
        return piece(&spans);
    }
    let (title, most) = (escape(&visible_line(&tokens.title)), number(f64::from(tokens.largest())));
    piece(&format!("<div><b>{title}</b> <span style=\"opacity:.6\">at most {most}</span></div>{spans}"))
}

/// The tokens as text with 24-bit color codes for a terminal.
pub(super) fn ansi(tokens: &ColoredTokens, largest: f32) -> String {
    let mut text = String::new();
    for (token, value) in tokens.tokens.iter().zip(&tokens.values) {
        let (part, color) = shade(*value, largest);
        let token = visible_line(if token.is_empty() && part > 0.0 { "·" } else { token });
        if part == 0.0 {
            text += &token;
            continue;
        }
        let pale = |channel: u8| {
            let pale = 0.85 * 255.0 + 0.15 * f32::from(channel);
            (pale + (f32::from(channel) - pale) * part).round() as u8
        };
        let ink = if part >= DARK { "97" } else { "30" };
        let (red, green, blue) = (pale(color.0), pale(color.1), pale(color.2));
        let _ = write!(text, "\u{1b}[48;2;{red};{green};{blue};{ink}m{token}\u{1b}[0m");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_far_from_zero_are_dark_and_tokens_are_escaped() {
        let tokens = ["", "<b>", " a\nb", "\u{1b}[31m"].map(str::to_owned).to_vec();
        let colored = ColoredTokens { title: "f".to_owned(), tokens, values: vec![1.0, 0.0, -2.0, 0.5] };
        let html = html(&colored);
        assert!(html.contains("<span title=\"token 1: 0\">&lt;b&gt;</span>"), "{html}");
        assert!(html.contains("rgba(208,57,43,1.00);color:#fff\"> a⏎b</span><br>"), "{html}");
        assert!(html.contains("rgba(42,63,181,0.54);color:#fff\">·</span>"), "{html}");
        assert!(!html.contains('\u{1b}'));
        let ansi = ansi(&colored, 2.0);
        assert!(ansi.contains("<b>\u{1b}[48;2;208;57;43;97m a⏎b\u{1b}[0m"), "{ansi:?}");
        assert!(ansi.contains(";30m␛[31m\u{1b}[0m"), "{ansi:?}");
        assert_eq!(colored.to_string(), "f, at most 2.000\n  [1.00]<b> a⏎b[-2.00]␛[31m[0.50]");
    }
}
