//! The language's own lexer, used for what a line editor needs: pieces to color, and whether a statement is
//! complete.

use crate::error::{Error, Result};
use rhai::{Engine, LexError, ParseErrorType, Position, Token};
use std::ops::Range;

/// Whether statements are complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completeness {
    /// They can be evaluated.
    Complete,
    /// More lines are needed.
    Incomplete {
        /// The number of open brackets, for the indentation of the next line.
        depth: usize,
    },
    /// No further line can make them valid.
    Invalid,
}

/// A piece of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The byte range in the script.
    pub range: Range<usize>,
    /// The kind of piece, for its color.
    pub kind: PieceKind,
}

/// The kind of a piece of a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PieceKind {
    /// `let`, `for`, `if`, …
    Keyword,
    /// A number, `true` or `false`.
    Number,
    /// A string or a character, quotation marks included.
    String,
    /// A comment.
    Comment,
    /// A name that is not called.
    Name,
    /// A name that is called.
    Call,
    /// An opening bracket.
    Open,
    /// A closing bracket.
    Close,
    /// Everything else: operators, commas, dots.
    Symbol,
    /// Text that is not part of the language.
    Invalid,
}

/// A kind of bracket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bracket {
    Round,
    Square,
    Curly,
}

/// What is still open at the end of some lines: the state in which the next line is read.
#[derive(Debug, Clone, Default)]
pub struct Unfinished {
    open: Vec<Bracket>,
    /// For each string that an expression `${…}` interrupts, the number of brackets open before the expression.
    interrupted: Vec<usize>,
    /// The nesting depth of `/* … */` comments.
    comments: usize,
    /// The end is inside a multi-line string.
    is_in_text: bool,
    /// The end is inside a one-line string that a backslash continues.
    is_continued: bool,
    /// A closing bracket does not match an open one.
    is_unbalanced: bool,
}

impl Unfinished {
    /// Whether more lines are needed.
    fn is_open(&self) -> bool {
        !self.open.is_empty() || self.is_in_text || self.is_continued || self.comments > 0
    }
}

/// The result of lexing a script: its pieces, and what is open at its end.
struct Lexed {
    pieces: Vec<Piece>,
    end: Unfinished,
}

/// Returns the pieces of a script in order, without the white space between them.
pub(crate) fn pieces(engine: &Engine, script: &str) -> Vec<Piece> {
    lex(engine, script, Unfinished::default()).pieces
}

/// Whether a statement may be complete with this further line; earlier lines are not read again. If so,
/// [`completeness`] decides.
pub(crate) fn may_end(engine: &Engine, before: &mut Unfinished, line: &str) -> bool {
    if before.is_continued {
        // The string began on a line that is not available.
        return true;
    }
    let lexed = lex(engine, line, std::mem::take(before));
    *before = lexed.end;
    let text = |piece: &Piece| &line[piece.range.clone()];
    let last = lexed.pieces.iter().rfind(|piece| piece.kind != PieceKind::Comment);
    // An operator, a comma or a doc comment needs something after it.
    let continues = match last {
        Some(last) => last.kind == PieceKind::Symbol && !matches!(text(last), ";" | "()"),
        None => lexed.pieces.last().is_some_and(|last| is_help(text(last))),
    };
    before.is_unbalanced || !before.is_open() && !continues
}

/// Whether a comment is a doc comment of what follows it.
fn is_help(comment: &str) -> bool {
    let is_line = comment.starts_with("///") && !comment.starts_with("////");
    is_line || comment.starts_with("/**") && !comment.starts_with("/***")
}

/// Checks that a script does not end inside a comment: the language accepts the end of the script as its end.
///
/// # Errors
/// A comment is not closed.
pub(crate) fn check_comments(engine: &Engine, name: &str, script: &str) -> Result<()> {
    let is_open = || lex(engine, script, Unfinished::default()).end.comments > 0;
    if !script.contains("/*") || !is_open() {
        return Ok(());
    }
    let hint = match script.contains("/**/") {
        true => "close it with `*/`; an empty comment is `/* */`, because `/**` begins a doc comment",
        false => "close it with `*/`",
    };
    Err(Error::mismatch(format!("{name}: a comment is not closed"), hint))
}

/// Returns whether a script is complete.
pub(crate) fn completeness(engine: &Engine, script: &str) -> Completeness {
    // The lexer counts columns in 16 bits: it cannot read a longer line.
    if script.lines().any(|line| line.len() > usize::from(u16::MAX)) {
        let is_right = engine.compile(script).is_ok();
        return if is_right { Completeness::Complete } else { Completeness::Invalid };
    }
    let Lexed { pieces, end } = lex(engine, script, Unfinished::default());
    if end.is_unbalanced {
        return Completeness::Invalid;
    }
    let more = Completeness::Incomplete { depth: end.open.len() };
    if end.is_open() {
        return more;
    }
    let Err(error) = engine.compile(script) else { return Completeness::Complete };
    let is_comment = |piece: &Piece| piece.kind == PieceKind::Comment;
    if matches!(*error.0, ParseErrorType::WrongDocComment) && pieces.iter().all(is_comment) {
        return more;
    }
    // What is missing at the end can still follow.
    let end = script.trim_end().len();
    let at_end = Offsets::of(script).byte(error.1).is_none_or(|at| at >= end);
    let is_eof = matches!(*error.0, ParseErrorType::UnexpectedEOF);
    if is_eof || at_end && !script.trim().is_empty() { more } else { Completeness::Invalid }
}

/// Returns the functions that a script defines, each as `name/number of parameters` with its byte range, which includes
/// its doc comments.
pub(crate) fn functions(engine: &Engine, script: &str) -> Vec<(String, Range<usize>)> {
    let pieces = pieces(engine, script);
    let text = |piece: &Piece| &script[piece.range.clone()];
    let mut functions = Vec::new();
    for (i, _) in pieces.iter().enumerate().filter(|(_, piece)| text(piece) == "fn") {
        // The brackets of the parameters come first, then those of the body.
        let Some(start) = pieces[i..].iter().position(|p| p.kind == PieceKind::Open || text(p) == "()")
        else {
            break;
        };
        // Without parameters, the brackets are one piece.
        let parameters = match text(&pieces[i + start]) {
            "()" => start..start + 1,
            _ => brackets(&pieces[i..]).unwrap_or(start..start),
        };
        let parameters = i + parameters.start..i + parameters.end;
        let Some(body) = brackets(&pieces[parameters.end..]) else { break };
        let name: String = pieces[i + 1..parameters.start].iter().map(text).collect();
        let names = &pieces[parameters.clone()];
        let count = names.iter().filter(|piece| piece.kind == PieceKind::Name).count();
        let is_before = |piece: &&Piece| text(piece) == "private" || is_help(text(piece));
        let first = pieces[..i].iter().rev().take_while(is_before).last().unwrap_or(&pieces[i]);
        let last = &pieces[parameters.end + body.end - 1];
        functions.push((format!("{name}/{count}"), first.range.start..last.range.end));
    }
    functions
}

/// Returns the range of pieces from the first opening bracket to its closing bracket, inclusive.
fn brackets(pieces: &[Piece]) -> Option<Range<usize>> {
    let start = pieces.iter().position(|piece| piece.kind == PieceKind::Open)?;
    let mut depth = 0usize;
    let end = pieces[start..].iter().position(|piece| {
        depth += usize::from(piece.kind == PieceKind::Open);
        depth -= usize::from(piece.kind == PieceKind::Close);
        depth == 0
    })?;
    Some(start..start + end + 1)
}

/// Lexes what comes after `before`.
fn lex(engine: &Engine, script: &str, before: Unfinished) -> Lexed {
    let inputs = [script];
    // Tokens are left unchanged: a limit that stops the parser has no effect here.
    let same = |token, _, _: &_| token;
    let (mut tokens, control) = engine.lex_with_map(&inputs, &same);
    tokens.state.include_comments = true;
    tokens.state.comment_level = before.comments;
    let mut is_within = before.is_in_text;
    control.borrow_mut().is_within_text = is_within;
    let mut lexed = Lexed { pieces: Vec::new(), end: Unfinished { is_in_text: false, ..before } };
    let mut offsets = Offsets::of(script);
    for (token, position) in tokens.by_ref() {
        // The empty end of a string has no position of its own: it follows the bracket.
        let after_last = lexed.pieces.last().map_or(0, |last| last.range.start + 1);
        let was_within = std::mem::take(&mut is_within);
        let is_left_open =
            matches!(&token, Token::LexError(error) if matches!(**error, LexError::UnterminatedString));
        let start = offsets.byte(position).unwrap_or_else(|| script.ceil_char_boundary(after_last));
        // Only strings in backticks can have several lines.
        let is_of_one_line = || script.get(start..).is_some_and(|rest| rest.starts_with(['"', '\'']));
        let is_of_several = is_left_open && (was_within || !is_of_one_line());
        lexed.end.is_in_text |= is_of_several;
        lexed.end.is_continued |= is_left_open && !is_of_several && is_continued(script);
        // After an unterminated string the lexer may return the same token forever.
        if matches!(token, Token::EOF) || start >= script.len() || start < after_last {
            break;
        }
        if matches!(token, Token::InterpolatedString(_)) {
            lexed.end.interrupted.push(lexed.end.open.len());
        }
        match bracket(&token) {
            Some((bracket, true)) => lexed.end.open.push(bracket),
            Some((bracket, false)) => {
                lexed.end.is_unbalanced |= lexed.end.open.pop() != Some(bracket);
                if lexed.end.interrupted.last() == Some(&lexed.end.open.len()) {
                    lexed.end.interrupted.pop();
                    // The string continues.
                    control.borrow_mut().is_within_text = true;
                    is_within = true;
                }
            }
            None => {}
        }
        let kind = kind_of(&token);
        // A piece ends where the next one begins; the white space between them is trimmed below.
        if let Some(last) = lexed.pieces.last_mut() {
            last.range.end = start.max(last.range.start);
        }
        if kind == PieceKind::Open && script[start..].starts_with('(') {
            let call = lexed.pieces.last_mut().filter(|last| last.kind == PieceKind::Name);
            if let Some(last) = call {
                last.kind = PieceKind::Call;
            }
        }
        lexed.pieces.push(Piece { range: start..script.len(), kind });
    }
    lexed.end.comments = tokens.state.comment_level;
    lexed.end.is_in_text |= tokens.state.is_within_text_terminated_by.is_some();
    for piece in &mut lexed.pieces {
        let text = &script[piece.range.clone()];
        piece.range.end = piece.range.start + text.trim_end().len();
    }
    lexed.pieces.retain(|piece| !piece.range.is_empty());
    lexed
}

/// Whether the last line ends with an odd number of backslashes, so that the last one continues the string.
fn is_continued(script: &str) -> bool {
    let line = script.strip_suffix('\n').unwrap_or(script);
    let line = line.strip_suffix('\r').unwrap_or(line);
    (line.len() - line.trim_end_matches('\\').len()) % 2 == 1
}

/// Returns the kind of a bracket, and whether it opens.
fn bracket(token: &Token) -> Option<(Bracket, bool)> {
    Some(match token {
        Token::LeftParen => (Bracket::Round, true),
        Token::LeftBracket | Token::QuestionBracket => (Bracket::Square, true),
        Token::LeftBrace | Token::MapStart => (Bracket::Curly, true),
        Token::RightParen => (Bracket::Round, false),
        Token::RightBracket => (Bracket::Square, false),
        Token::RightBrace => (Bracket::Curly, false),
        _ => return None,
    })
}

fn kind_of(token: &Token) -> PieceKind {
    match token {
        Token::IntegerConstant(_) | Token::FloatConstant(_) | Token::True | Token::False => PieceKind::Number,
        Token::StringConstant(_) | Token::InterpolatedString(_) | Token::CharConstant(_) => PieceKind::String,
        Token::Identifier(_) | Token::Custom(_) => PieceKind::Name,
        // `print`, `type_of` and the like are reserved, but they are called like functions.
        Token::Reserved(name) if !name.starts_with(|c: char| c.is_alphabetic()) => PieceKind::Symbol,
        Token::Reserved(_) => PieceKind::Name,
        Token::Comment(_) => PieceKind::Comment,
        Token::LexError(error) if matches!(**error, LexError::UnterminatedString) => PieceKind::String,
        Token::LexError(_) | Token::UnprocessedRawChar(_) => PieceKind::Invalid,
        token if bracket(token).is_some_and(|(_, opens)| opens) => PieceKind::Open,
        token if bracket(token).is_some() => PieceKind::Close,
        token if token.is_standard_keyword() => PieceKind::Keyword,
        _ => PieceKind::Symbol,
    }
}

/// Converts positions to byte offsets, fastest if each position follows the last one.
struct Offsets<'a> {
    script: &'a str,
    /// The line and the column of the last position, in characters from 1.
    last: (usize, usize),
    at: usize,
}

impl<'a> Offsets<'a> {
    fn of(script: &'a str) -> Self {
        Offsets { script, last: (1, 1), at: 0 }
    }

    /// Returns the byte offset of a position; `None` if the position is unknown.
    fn byte(&mut self, position: Position) -> Option<usize> {
        let wanted = (position.line()?, position.position().unwrap_or(1));
        if wanted < self.last {
            *self = Offsets::of(self.script);
        }
        for c in self.script[self.at..].chars() {
            if self.last >= wanted {
                break;
            }
            self.at += c.len_utf8();
            self.last = if c == '\n' { (self.last.0 + 1, 1) } else { (self.last.0, self.last.1 + 1) };
        }
        Some(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_complete_or_needs_more_lines() {
        let engine = Engine::new();
        let cases = [
            ("", Completeness::Complete),
            ("  \n", Completeness::Complete),
            ("1 + 1", Completeness::Complete),
            ("let x = 1; x", Completeness::Complete),
            ("fn f(x) {", Completeness::Incomplete { depth: 1 }),
            ("fn f(x) {\n    g(x, [1,", Completeness::Incomplete { depth: 3 }),
            ("fn f(x) { x }", Completeness::Complete),
            ("let m = #{ a: 1,", Completeness::Incomplete { depth: 1 }),
            ("1 +", Completeness::Incomplete { depth: 0 }),
            ("let x =", Completeness::Incomplete { depth: 0 }),
            ("x.", Completeness::Incomplete { depth: 0 }),
            ("`two\nlines", Completeness::Incomplete { depth: 0 }),
            ("`a ${1 + ", Completeness::Incomplete { depth: 1 }),
            ("`a ${1} b", Completeness::Incomplete { depth: 0 }),
            ("`a ${`b ${1}`} c`", Completeness::Complete),
            ("/* note", Completeness::Incomplete { depth: 0 }),
            ("1 // note", Completeness::Complete),
            ("\"open", Completeness::Invalid),
            ("let s = \"a { b\";", Completeness::Complete),
            ("'{'", Completeness::Complete),
            ("f)", Completeness::Invalid),
            ("f(]", Completeness::Invalid),
            ("let 5 = 3;", Completeness::Invalid),
            ("1 +* 2", Completeness::Invalid),
            ("x ?[", Completeness::Incomplete { depth: 1 }),
            ("if true { 1 } else {", Completeness::Incomplete { depth: 1 }),
            ("/// Twice.", Completeness::Incomplete { depth: 0 }),
            ("/** Twice. */\n/// And more.\n", Completeness::Incomplete { depth: 0 }),
            ("/// Twice.\nfn f(x) { 2 * x }", Completeness::Complete),
            ("/// Twice.\nlet x = 2;", Completeness::Invalid),
            ("//// A line.", Completeness::Complete),
            // The language reads this as the beginning of a doc comment.
            ("/**/", Completeness::Incomplete { depth: 0 }),
            ("let s = \"one \\\n", Completeness::Incomplete { depth: 0 }),
            ("let s = \"one \\\n  two \\\r\n", Completeness::Incomplete { depth: 0 }),
            ("let s = \"one \\\n  two\";", Completeness::Complete),
            ("let s = \"one \\\\\n", Completeness::Invalid),
        ];
        // A line too long for the lexer: only the parser decides.
        let long = "1, ".repeat(30_000);
        let long =
            [(format!("[{long}]"), Completeness::Complete), (format!("[{long}"), Completeness::Invalid)];
        for (script, expected) in
            long.iter().map(|(script, expected)| (script.as_str(), *expected)).chain(cases)
        {
            assert_eq!(completeness(&engine, script), expected, "{script:.80}");
        }
    }

    #[test]
    fn many_lines_are_read_in_linear_time() {
        let engine = Engine::new();
        let script = "let x = f(\"é\", 1);\n".repeat(20_000);
        let start = std::time::Instant::now();
        assert_eq!(pieces(&engine, &script).len(), 10 * 20_000);
        assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
    }

    /// `may_end`, which reads no line twice, agrees with `completeness` after every line.
    #[test]
    fn statements_are_recognized_line_by_line() {
        let engine = Engine::new();
        for script in [
            "let a = [\n1,\n2\n];",
            "fn f(x) {\n    if x { // {\n        1\n    } else { 2 }\n}",
            "let t = `a\n${1 +\n[2, 3].len()} } b\n\"c\n`;",
            "/* a\n/* b\n*/ } \n*/ 1",
            "let s = `x ${`y\n${1}`\n}\n`",
            "1 +\n2 -\n3",
            "let m = #{\n\"a\": `}`,\n};",
            "/// Twice.\n/** x */\nfn f(x) { 2 * x }",
            "let s = \"one \\\ntwo\";",
        ] {
            let (mut lines, mut so_far) = (Unfinished::default(), String::new());
            let n = script.split_inclusive('\n').count();
            for (i, line) in script.split_inclusive('\n').enumerate() {
                so_far += line;
                let may_end = may_end(&engine, &mut lines, line);
                assert_eq!(may_end, i + 1 == n, "{so_far}");
                assert_eq!(completeness(&engine, &so_far) == Completeness::Complete, may_end, "{so_far}");
            }
        }
        for wrong in ["f(]\n", "1)\n", "let 5 = 3;\n", "\"open\n"] {
            assert!(may_end(&engine, &mut Unfinished::default(), wrong), "{wrong}");
        }
    }

    #[test]
    fn pieces_have_the_right_ranges() {
        let engine = Engine::new();
        let script = "let e = f(\"é // b\"); // nöte\n`x ${e + 1} y` // end";
        let pieces = pieces(&engine, script);
        let pieces: Vec<_> = pieces.iter().map(|p| (&script[p.range.clone()], p.kind)).collect();
        use PieceKind::*;
        let expected = [
            ("let", Keyword),
            ("e", Name),
            ("=", Symbol),
            ("f", Call),
            ("(", Open),
            ("\"é // b\"", String),
            (")", Close),
            (";", Symbol),
            ("// nöte", Comment),
            ("`x $", String),
            ("{", Open),
            ("e", Name),
            ("+", Symbol),
            ("1", Number),
            ("}", Close),
            (" y`", String),
            ("// end", Comment),
        ];
        assert_eq!(pieces, expected);
        // Every piece of any input is in range and at character boundaries.
        for script in ["\"", "`", "'", "/*", "#\"", "0x", "é$", "\u{0}", "a\n\n\tb`${", "🙂🙂", "1..", "#{"]
        {
            for piece in self::pieces(&engine, script) {
                assert!(script.get(piece.range).is_some(), "{script:?}");
            }
        }
    }
}
