//! The language's own lexer, for what a line editor asks: which pieces have which colour, and whether a statement is
//! whole.

use crate::error::{Error, Result};
use rhai::{Engine, LexError, ParseErrorType, Position, Token};
use std::ops::Range;

/// Whether statements are whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completeness {
    /// They can be evaluated.
    Complete,
    /// More lines are needed; so many brackets are open.
    Incomplete {
        /// How deep the next line stands.
        depth: usize,
    },
    /// No further line makes them right.
    Invalid,
}

/// A piece of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Its place, in bytes.
    pub range: Range<usize>,
    /// What it is.
    pub kind: PieceKind,
}

/// What a piece of a script is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PieceKind {
    /// `let`, `for`, `if`, …
    Keyword,
    /// A number, `true` or `false`.
    Number,
    /// A text or a character, quotation marks included.
    Text,
    /// A comment.
    Comment,
    /// The name of something.
    Name,
    /// A name that is called.
    Call,
    /// A bracket that opens.
    Open,
    /// A bracket that closes.
    Close,
    /// Everything else: operators, commas, points.
    Symbol,
    /// What is no piece of the language.
    Wrong,
}

/// A kind of brackets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bracket {
    Round,
    Square,
    Curly,
}

/// What is open at a place of a script, for what comes after it.
#[derive(Debug, Clone, Default)]
pub struct Unfinished {
    open: Vec<Bracket>,
    /// The texts that an expression `${…}` interrupts, by how many brackets were open before it.
    interrupted: Vec<usize>,
    /// How many comments of several lines lie in one another.
    comments: usize,
    /// The end is in a text of several lines.
    is_in_text: bool,
    /// The end is in a text of one line that a backslash continues.
    is_continued: bool,
    /// A bracket that closes none, or another.
    is_unbalanced: bool,
}

impl Unfinished {
    /// Whether more lines are needed.
    fn is_open(&self) -> bool {
        !self.open.is_empty() || self.is_in_text || self.is_continued || self.comments > 0
    }
}

/// What the lexer says of a script.
struct Lexed {
    pieces: Vec<Piece>,
    end: Unfinished,
}

/// The pieces of a script, in order, without the white between them.
pub(super) fn pieces(engine: &Engine, script: &str) -> Vec<Piece> {
    lex(engine, script, Unfinished::default()).pieces
}

/// Whether a statement may be whole with this further line; the lines before it are not read again. [`completeness`] says
/// whether it is.
pub(super) fn may_end(engine: &Engine, before: &mut Unfinished, line: &str) -> bool {
    if before.is_continued {
        // The text began on a line that is not here.
        return true;
    }
    let lexed = lex(engine, line, std::mem::take(before));
    *before = lexed.end;
    let text = |piece: &Piece| &line[piece.range.clone()];
    let last = lexed.pieces.iter().rfind(|piece| piece.kind != PieceKind::Comment);
    // An operator or a comma wants something after it, and so does the help of a function.
    let goes_on = match last {
        Some(last) => last.kind == PieceKind::Symbol && !matches!(text(last), ";" | "()"),
        None => lexed.pieces.last().is_some_and(|last| is_help(text(last))),
    };
    before.is_unbalanced || !before.is_open() && !goes_on
}

/// Whether a comment is the help of what comes after it.
fn is_help(comment: &str) -> bool {
    let is_line = comment.starts_with("///") && !comment.starts_with("////");
    is_line || comment.starts_with("/**") && !comment.starts_with("/***")
}

/// Checks that a script does not end inside of a comment: the language takes the end of the script for that of the comment.
///
/// # Errors
/// A comment without an end.
pub(super) fn check_comments(engine: &Engine, name: &str, script: &str) -> Result<()> {
    let is_open = || lex(engine, script, Unfinished::default()).end.comments > 0;
    if !script.contains("/*") || !is_open() {
        return Ok(());
    }
    let hint = match script.contains("/**/") {
        true => "close it with `*/`; an empty comment is `/* */`, as `/**` begins the help of a function",
        false => "close it with `*/`",
    };
    Err(Error::mismatch(format!("{name}: a comment is open at the end"), hint))
}

/// Whether a script is whole.
pub(super) fn completeness(engine: &Engine, script: &str) -> Completeness {
    // The lexer counts columns in 16 bits: of a longer line it tells nothing.
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
    // What is missing at the end can still come.
    let end = script.trim_end().len();
    let at_end = Places::of(script).byte(error.1).is_none_or(|at| at >= end);
    let is_eof = matches!(*error.0, ParseErrorType::UnexpectedEOF);
    if is_eof || at_end && !script.trim().is_empty() { more } else { Completeness::Invalid }
}

/// The functions that a script defines, each as `name/number of parameters`, with its place in bytes, comments that are its
/// help included.
pub(super) fn functions(engine: &Engine, script: &str) -> Vec<(String, Range<usize>)> {
    let pieces = pieces(engine, script);
    let text = |piece: &Piece| &script[piece.range.clone()];
    let mut functions = Vec::new();
    for (i, _) in pieces.iter().enumerate().filter(|(_, piece)| text(piece) == "fn") {
        // The brackets of the parameters and of the body.
        let Some(start) = pieces[i..].iter().position(|p| p.kind == PieceKind::Open || text(p) == "()")
        else {
            break;
        };
        // Without any the brackets are one piece.
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

/// The first bracket that opens and what is behind the one that closes it.
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

/// The pieces of what comes after `before`.
fn lex(engine: &Engine, script: &str, before: Unfinished) -> Lexed {
    let inputs = [script];
    // As they are: what stops a parser in the middle does not concern colours.
    let same = |token, _, _: &_| token;
    let (mut tokens, control) = engine.lex_with_map(&inputs, &same);
    tokens.state.include_comments = true;
    tokens.state.comment_level = before.comments;
    let mut is_within = before.is_in_text;
    control.borrow_mut().is_within_text = is_within;
    let mut lexed = Lexed { pieces: Vec::new(), end: Unfinished { is_in_text: false, ..before } };
    let mut places = Places::of(script);
    for (token, position) in tokens.by_ref() {
        // An empty end of a text has no place of its own: it is behind the bracket.
        let behind = lexed.pieces.last().map_or(0, |last| last.range.start + 1);
        let was_within = std::mem::take(&mut is_within);
        let is_left_open =
            matches!(&token, Token::LexError(error) if matches!(**error, LexError::UnterminatedString));
        let start = places.byte(position).unwrap_or_else(|| script.ceil_char_boundary(behind));
        // Of texts, those in backticks have several lines.
        let is_of_one_line = || script.get(start..).is_some_and(|rest| rest.starts_with(['"', '\'']));
        let is_of_several = is_left_open && (was_within || !is_of_one_line());
        lexed.end.is_in_text |= is_of_several;
        lexed.end.is_continued |= is_left_open && !is_of_several && is_continued(script);
        // Where something is left open the lexer may say the same for ever.
        if matches!(token, Token::EOF) || start >= script.len() || start < behind {
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
                    // The text goes on.
                    control.borrow_mut().is_within_text = true;
                    is_within = true;
                }
            }
            None => {}
        }
        let kind = kind_of(&token);
        // A piece ends where the next one begins; the white in between is cut off below.
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

/// Whether the last line ends with an odd number of backslashes, so that the last one continues the text.
fn is_continued(script: &str) -> bool {
    let line = script.strip_suffix('\n').unwrap_or(script);
    let line = line.strip_suffix('\r').unwrap_or(line);
    (line.len() - line.trim_end_matches('\\').len()) % 2 == 1
}

/// The kind of a bracket, and whether it opens.
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
        Token::StringConstant(_) | Token::InterpolatedString(_) | Token::CharConstant(_) => PieceKind::Text,
        Token::Identifier(_) | Token::Custom(_) => PieceKind::Name,
        // `print`, `type_of` and the like are functions to those who call them.
        Token::Reserved(name) if !name.starts_with(|c: char| c.is_alphabetic()) => PieceKind::Symbol,
        Token::Reserved(_) => PieceKind::Name,
        Token::Comment(_) => PieceKind::Comment,
        Token::LexError(error) if matches!(**error, LexError::UnterminatedString) => PieceKind::Text,
        Token::LexError(_) | Token::UnprocessedRawChar(_) => PieceKind::Wrong,
        token if bracket(token).is_some_and(|(_, opens)| opens) => PieceKind::Open,
        token if bracket(token).is_some() => PieceKind::Close,
        token if token.is_standard_keyword() => PieceKind::Keyword,
        _ => PieceKind::Symbol,
    }
}

/// The bytes at places of a script that follow one another.
struct Places<'a> {
    script: &'a str,
    /// The line and the column, in characters from 1, of the last place.
    place: (usize, usize),
    at: usize,
}

impl<'a> Places<'a> {
    fn of(script: &'a str) -> Self {
        Places { script, place: (1, 1), at: 0 }
    }

    /// The byte at a place; none for no place.
    fn byte(&mut self, position: Position) -> Option<usize> {
        let wanted = (position.line()?, position.position().unwrap_or(1));
        if wanted < self.place {
            *self = Places::of(self.script);
        }
        for c in self.script[self.at..].chars() {
            if self.place >= wanted {
                break;
            }
            self.at += c.len_utf8();
            self.place = if c == '\n' { (self.place.0 + 1, 1) } else { (self.place.0, self.place.1 + 1) };
        }
        Some(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_whole_or_waits_for_more() {
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
            // To the language the help of a function, which goes on.
            ("/**/", Completeness::Incomplete { depth: 0 }),
            ("let s = \"one \\\n", Completeness::Incomplete { depth: 0 }),
            ("let s = \"one \\\n  two \\\r\n", Completeness::Incomplete { depth: 0 }),
            ("let s = \"one \\\n  two\";", Completeness::Complete),
            ("let s = \"one \\\\\n", Completeness::Invalid),
        ];
        // Longer than the lexer can count: it is evaluated, and says itself what is wrong.
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
    fn many_lines_take_no_long_time() {
        let engine = Engine::new();
        let script = "let x = f(\"é\", 1);\n".repeat(20_000);
        let start = std::time::Instant::now();
        assert_eq!(pieces(&engine, &script).len(), 10 * 20_000);
        assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
    }

    /// Line by line, what may be whole is what is whole, and no line is read twice.
    #[test]
    fn lines_add_up_to_statements() {
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
    fn pieces_are_found_where_they_are() {
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
            ("\"é // b\"", Text),
            (")", Close),
            (";", Symbol),
            ("// nöte", Comment),
            ("`x $", Text),
            ("{", Open),
            ("e", Name),
            ("+", Symbol),
            ("1", Number),
            ("}", Close),
            (" y`", Text),
            ("// end", Comment),
        ];
        assert_eq!(pieces, expected);
        // Whatever is typed has places inside of it.
        for script in ["\"", "`", "'", "/*", "#\"", "0x", "é$", "\u{0}", "a\n\n\tb`${", "🙂🙂", "1..", "#{"]
        {
            for piece in self::pieces(&engine, script) {
                assert!(script.get(piece.range).is_some(), "{script:?}");
            }
        }
    }
}
