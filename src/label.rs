//! Tokens and numbers as short, visible text.

/// The longest label, in characters.
const LONGEST: usize = 40;

/// A token within text: without its leading space, every other character visible, at most 40 characters.
pub fn label(token: &str) -> String {
    visible(after_space(token).unwrap_or(token))
}

/// A token by itself: `␣` for its leading space, every other character visible, at most 40 characters.
pub fn spaced_label(token: &str) -> String {
    after_space(token).map_or_else(|| visible(token), |rest| format!("␣{}", visible(rest)))
}

/// What follows a token's leading space, unless it is blank.
fn after_space(token: &str) -> Option<&str> {
    token.strip_prefix(' ').filter(|rest| !rest.trim().is_empty())
}

fn visible(token: &str) -> String {
    match token {
        "" => "␣".to_owned(),
        blank if blank.trim().is_empty() => shorten(token, LONGEST).replace('\u{a0}', "␣"),
        _ => shorten(token, LONGEST),
    }
}

/// Replaces invisible characters by visible signs, and cuts after `longest` characters.
fn shorten(token: &str, longest: usize) -> String {
    let mut shown = String::new();
    for (i, c) in token.chars().enumerate() {
        if i == longest {
            shown.push('…');
            break;
        }
        match c {
            '\n' => shown.push('⏎'),
            '\r' => shown.push('␍'),
            '\t' => shown.push('⇥'),
            '\u{0}'..='\u{1f}' => shown.extend(char::from_u32(0x2400 + c as u32)),
            '\u{7f}' => shown.push('␡'),
            _ if is_invisible(c) => shown.push_str(&format!("⟨{:x}⟩", c as u32)),
            // SVG would merge neighboring spaces, and drop those at the ends.
            _ if c.is_whitespace() => shown.push('\u{a0}'),
            _ => shown.push(c),
        }
    }
    shown
}

/// Text in one line: every character visible, at most 200 of them, with ordinary spaces that can be searched for.
pub fn visible_line(text: &str) -> String {
    shorten(text, 200).replace('\u{a0}', " ")
}

/// Whether `c` is a control or format character, which fonts do not draw and which may reverse the text around it, or
/// is not allowed in XML.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}')
        || matches!(c, '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}' | '\u{e0000}'..='\u{e007f}')
}

/// A probability: "42%", "4.2%", "0.042%", "4.2e-5%".
pub fn percent(probability: f64) -> String {
    let percent = probability * 100.0;
    match percent {
        _ if percent >= 99.95 => "100%".to_owned(),
        _ if percent >= 9.95 => format!("{percent:.0}%"),
        _ if percent >= 0.995 => format!("{percent:.1}%"),
        _ if percent >= 0.0995 => format!("{percent:.2}%"),
        _ if percent >= 0.00995 => format!("{percent:.3}%"),
        _ if percent > 0.0 => format!("{percent:.1e}%"),
        _ if percent == 0.0 => "0%".to_owned(),
        _ => "?".to_owned(),
    }
}

/// A probability ratio, from its natural logarithm: "×12", "×0.5".
pub fn ratio(log_ratio: f64) -> String {
    let times = log_ratio.exp();
    match times {
        _ if times >= 1e5 || (times < 0.01 && times > 0.0) => format!("×{times:.0e}"),
        _ if times >= 9.95 => format!("×{times:.0}"),
        _ if times >= 0.995 => format!("×{times:.1}"),
        _ => format!("×{times:.2}"),
    }
}

/// A number with about four digits.
pub fn number(x: f64) -> String {
    match x.abs() {
        0.0 => "0".to_owned(),
        size if !(0.001..100_000.0).contains(&size) => format!("{x:.2e}"),
        size if size < 1.0 => format!("{x:.4}"),
        size if size < 100.0 => format!("{x:.3}"),
        _ => format!("{x:.0}"),
    }
}

/// A number with four decimals, or in scientific notation if its magnitude is below 0.001.
pub fn decimals(x: f64) -> String {
    if x != 0.0 && x.abs() < 1e-3 { format!("{x:.3e}") } else { format!("{x:.4}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_visible() {
        let long = "x".repeat(200);
        let cases = [
            (" body", "body", "␣body"),
            ("body", "body", "body"),
            ("", "␣", "␣"),
            (" ", "␣", "␣"),
            ("  ", "␣␣", "␣␣"),
            ("\n", "⏎", "⏎"),
            (" \n", "␣⏎", "␣⏎"),
            ("a\tb\r", "a⇥b␍", "a⇥b␍"),
            ("\u{0}\u{1b}[1m", "␀␛[1m", "␀␛[1m"),
            ("\u{202e}abc", "⟨202e⟩abc", "⟨202e⟩abc"),
            ("\u{85}", "⟨85⟩", "⟨85⟩"),
            ("\u{fffd}", "\u{fffd}", "\u{fffd}"),
            (" 日本", "日本", "␣日本"),
        ];
        for (token, bare, spaced) in cases {
            assert_eq!((label(token).as_str(), spaced_label(token).as_str()), (bare, spaced), "{token:?}");
        }
        assert_eq!(label(&long).chars().count(), 41);
    }

    #[test]
    fn numbers_are_short() {
        let percents = [1.0, 0.42, 0.042, 0.0042, 0.00042, 0.000042, 0.0, f64::NAN].map(percent);
        assert_eq!(percents, ["100%", "42%", "4.2%", "0.42%", "0.042%", "4.2e-3%", "0%", "?"]);
        assert_eq!([0.0, 2.5, -1.0, 20.0].map(ratio), ["×1.0", "×12", "×0.37", "×5e8"]);
        assert_eq!([0.0, 0.5, -12.3456, 1e-9].map(number), ["0", "0.5000", "-12.346", "1.00e-9"]);
    }
}
