//! Completion and inspection: what can be typed at the cursor, and what is known about the name there.

use super::completion::{Completion, CompletionKind, Completions, NamesInString, TypedCall, TypedString};
use super::help::{Help, HelpText, strip_comment};
use super::lexer::{self, Piece, PieceKind};
use super::names::{is_word, script_types};
use super::options::{self, FunctionOptions};
use super::show::Types;
use rhai::{Dynamic, Engine, Map, Scope, ScriptFnMetadata};
use saescope_options::Field;
use std::path::Path;

/// The keywords of the language.
const KEYWORDS: [&str; 24] = [
    "let", "const", "if", "else", "switch", "do", "while", "until", "loop", "for", "in", "fn", "return",
    "break", "continue", "throw", "try", "catch", "import", "export", "as", "private", "true", "false",
];
/// Properties that are evaluated to complete their keys: small maps. Of other properties only the type is looked up.
const EVALUATED: [&str; 2] = ["cfg", "params"];
/// The name under which the language has the function of `value[index]`.
const INDEX: &str = "index$get$";
/// The maximum number of completions.
const MAX_COMPLETIONS: usize = 500;

/// The information about a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inspection {
    /// The help of a function, a property or a method.
    Help(HelpText),
    /// The name, the type and the value of a variable.
    Variable(String),
}

impl std::fmt::Display for Inspection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Inspection::Help(help) => write!(f, "{help}"),
            Inspection::Variable(text) => f.write_str(text),
        }
    }
}

/// A function that was defined in the session.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ScriptFunction {
    name: String,
    signature: String,
    comment: String,
}

impl ScriptFunction {
    pub(crate) fn of(function: ScriptFnMetadata) -> Self {
        let (name, signature) = (function.name.to_owned(), signature(&function));
        ScriptFunction { name, signature, comment: strip_comment(&function.comments) }
    }
}

/// Formats how a function defined in a script is called: `name(parameter, …)`.
pub(crate) fn signature(function: &ScriptFnMetadata) -> String {
    format!("{}({})", function.name, function.params.join(", "))
}

/// The parts of a session that completion reads.
pub(crate) struct CompletionContext<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) scope: &'a Scope<'static>,
    pub(crate) help: &'a Help,
    pub(crate) written: Vec<ScriptFunction>,
    pub(crate) types: Types,
    pub(crate) options: &'static [&'static [FunctionOptions]],
    /// What completes names in strings; the first that knows the place is asked.
    pub(crate) names: &'static [NamesInString],
}

impl CompletionContext<'_> {
    /// Returns the completions at `cursor`, a byte offset.
    pub(crate) fn complete(&self, script: &str, cursor: usize) -> Completions {
        let cursor = script.floor_char_boundary(cursor);
        let before = &script[..cursor];
        let pieces = lexer::pieces(self.engine, before);
        let last = pieces.last().filter(|piece| piece.range.end == cursor);
        let (start, mut found) = match last {
            Some(text) if text.kind == PieceKind::String && is_open(&before[text.range.clone()]) => {
                let start = text.range.start + 1;
                self.in_text(before, &pieces[..pieces.len() - 1], start)
            }
            Some(piece) if piece.kind == PieceKind::Comment => return Completions::default(),
            Some(piece) if matches!(piece.kind, PieceKind::Name | PieceKind::Call | PieceKind::Keyword) => {
                (piece.range.start, self.names(before, &pieces[..pieces.len() - 1]))
            }
            _ => (cursor, self.names(before, &pieces)),
        };
        let typed = &before[start..];
        found.retain(|completion| completion.text.starts_with(typed) && completion.text != typed);
        found.sort_by(|a, b| (a.kind, &a.text).cmp(&(b.kind, &b.text)));
        found.dedup_by(|a, b| a.text == b.text);
        found.truncate(MAX_COMPLETIONS);
        Completions { start, end: cursor, completions: found }
    }

    /// Returns what is known about the name at `cursor`, a byte offset, or about the function called there.
    pub(crate) fn inspect(&self, script: &str, cursor: usize) -> Option<Inspection> {
        let cursor = script.floor_char_boundary(cursor);
        let pieces = lexer::pieces(self.engine, script);
        let is_name = |piece: &&Piece| matches!(piece.kind, PieceKind::Name | PieceKind::Call);
        let at = pieces
            .iter()
            .filter(is_name)
            .find(|piece| piece.range.contains(&cursor) || piece.range.end == cursor);
        // Inside the arguments of a call, or of a map in them, the user wants to know about the function; after a call,
        // about the function just called.
        let is_call = |piece: &&Piece| piece.kind == PieceKind::Call && piece.range.end <= cursor;
        let called = || self.called(script, &pieces, cursor).or_else(|| pieces.iter().rfind(is_call));
        at.and_then(|piece| self.explain(script, &pieces, piece))
            .or_else(|| called().and_then(|piece| self.explain(script, &pieces, piece)))
    }

    /// Returns the name of the function whose arguments contain `cursor`.
    fn called<'a>(&self, script: &str, pieces: &'a [Piece], cursor: usize) -> Option<&'a Piece> {
        let text = |piece: &Piece| &script[piece.range.clone()];
        // Empty parentheses are one piece.
        let is_in = |piece: &Piece| piece.range.start < cursor && cursor < piece.range.end;
        if let Some(empty) = pieces.iter().position(|piece| is_in(piece) && text(piece) == "()") {
            return pieces[..empty].last();
        }
        let mut before = &pieces[..pieces.iter().take_while(|piece| piece.range.end <= cursor).count()];
        for open in ["#{", "["] {
            before = enclosing(script, before, open).map_or(before, |at| &before[..at]);
        }
        let open = enclosing(script, before, "(")?;
        before[..open].last().filter(|piece| piece.kind == PieceKind::Call)
    }

    /// Returns what is known about the name in a piece.
    fn explain(&self, script: &str, pieces: &[Piece], piece: &Piece) -> Option<Inspection> {
        let name = &script[piece.range.clone()];
        let before = &pieces[..pieces.iter().position(|p| p == piece)?];
        let owner = before.split_last().filter(|(point, _)| is_point(&script[point.range.clone()]));
        let mut of_type = None;
        let value = match owner {
            None => self.scope.get(name).cloned(),
            Some((_, owner)) => match self.known(script, owner) {
                Some(Known::Value(owner)) => {
                    of_type = Some(type_of(self.engine, &owner));
                    owner.read_lock::<Map>().and_then(|map| map.get(name).cloned())
                }
                Some(Known::Type(type_name)) => {
                    of_type = Some(type_name);
                    None
                }
                None => None,
            },
        };
        if let Some(value) = value {
            let text = format!("{name}: {}\n\n{}", type_of(self.engine, &value), self.types.text(&value));
            return Some(Inspection::Variable(text));
        }
        let mut written = self.written.iter().filter(|function| function.name == name).peekable();
        let help = match written.peek() {
            Some(_) => {
                HelpText::of(written.map(|function| (function.signature.clone(), function.comment.clone())))
            }
            None => {
                let own = of_type.and_then(|of_type| self.help.get(&format!("{of_type}.{name}")).ok());
                own.or_else(|| self.help.get(name).ok())?
            }
        };
        Some(Inspection::Help(help))
    }

    /// Returns the names that can follow these pieces.
    fn names(&self, script: &str, before: &[Piece]) -> Vec<Completion> {
        if let Some(last) = before.last()
            && is_point(&script[last.range.clone()])
        {
            return self.members(script, &before[..before.len() - 1]);
        }
        let mut found = self.options(script, before);
        if !found.is_empty() {
            return found;
        }
        let variable = |(name, _, value): (&str, bool, Dynamic)| {
            Completion::of(CompletionKind::Variable, name, type_of(self.engine, &value))
        };
        found.extend(self.scope.iter().map(variable));
        let written =
            self.written.iter().map(|function| (function.name.as_str(), function.signature.as_str()));
        let functions = self.help.functions().chain(written);
        found.extend(functions.map(|(name, form)| Completion::of(CompletionKind::Function, name, form)));
        found.extend(KEYWORDS.iter().map(|word| Completion::of(CompletionKind::Keyword, *word, "")));
        found
    }

    /// Returns the members of the value that these pieces end with.
    fn members(&self, script: &str, before: &[Piece]) -> Vec<Completion> {
        let (type_name, keys) = match self.known(script, before) {
            Some(Known::Value(value)) => {
                // Other keys can only be written as `map["a key"]`.
                let is_name = |key: &str| {
                    let is_plain =
                        key.is_ascii() && is_word(key) && !key.starts_with(|c: char| c.is_numeric());
                    is_plain && !key.is_empty() && !KEYWORDS.contains(&key)
                };
                let keys: Vec<_> = value.read_lock::<Map>().map_or(Vec::new(), |map| {
                    let keys = map.iter().filter(|(key, _)| is_name(key));
                    keys.map(|(key, value)| (key.to_string(), type_of(self.engine, value))).collect()
                });
                (type_of(self.engine, &value), keys)
            }
            Some(Known::Type(type_name)) => (type_name, Vec::new()),
            None => return self.help.members_of(None),
        };
        let keys = keys.into_iter().map(|(key, of)| Completion::of(CompletionKind::Property, key, of));
        keys.chain(self.help.members_of(Some(&type_name))).collect()
    }

    /// Returns the value or type of what these pieces end with: `name`, `name.property`, `name["key"]`, `call(…)`.
    fn known(&self, script: &str, pieces: &[Piece]) -> Option<Known> {
        let text = |piece: &Piece| &script[piece.range.clone()];
        let (last, before) = pieces.split_last()?;
        match last.kind {
            PieceKind::Name | PieceKind::Call => {
                let name = text(last);
                let Some((_, owner)) = before.split_last().filter(|(point, _)| is_point(text(point))) else {
                    return self.scope.get(name).cloned().map(Known::Value);
                };
                match self.known(script, owner)? {
                    Known::Value(value) => {
                        if let Some(map) = value.read_lock::<Map>() {
                            return map.get(name).cloned().map(Known::Value);
                        }
                        let type_name = type_of(self.engine, &value);
                        if EVALUATED.contains(&name) {
                            let mut scope = Scope::new();
                            scope.push_dynamic("x", value.clone());
                            let held = self
                                .engine
                                .eval_expression_with_scope::<Dynamic>(&mut scope, &format!("x.{name}"));
                            return held.ok().map(Known::Value);
                        }
                        self.help.type_of(Some(&type_name), name).map(Known::Type)
                    }
                    Known::Type(type_name) => self.help.type_of(Some(&type_name), name).map(Known::Type),
                }
            }
            PieceKind::Close if text(last) == "]" => {
                let open = opening(script, pieces)?;
                let inside = &pieces[open + 1..pieces.len() - 1];
                let Known::Value(value) = self.known(script, &pieces[..open])? else { return None };
                let [index] = inside else { return None };
                let key = text(index).trim_matches('"');
                if let Some(map) = value.read_lock::<Map>() {
                    return map.get(key).cloned().map(Known::Value);
                }
                // Of `any` nothing is known.
                let element = self.help.type_of(Some(&type_of(self.engine, &value)), INDEX);
                element.filter(|name| name != "any").map(Known::Type)
            }
            PieceKind::Close if text(last) == ")" => {
                let open = opening(script, pieces)?;
                let (name, owner) = pieces[..open].split_last()?;
                let is_method = owner.last().is_some_and(|point| is_point(text(point)));
                let owner = if is_method { self.known(script, &owner[..owner.len() - 1]) } else { None };
                let owner = owner.map(|owner| match owner {
                    Known::Value(value) => type_of(self.engine, &value),
                    Known::Type(type_name) => type_name,
                });
                self.help.type_of(owner.as_deref(), text(name)).map(Known::Type)
            }
            PieceKind::String => Some(Known::Type("String".to_owned())),
            _ => None,
        }
    }

    /// Returns the options of the function in whose `#{ … }` argument these pieces end.
    fn options(&self, script: &str, before: &[Piece]) -> Vec<Completion> {
        let text = |piece: &Piece| &script[piece.range.clone()];
        let expects_key = before.last().is_some_and(|last| ["#{", ","].contains(&text(last)));
        let Some(function) = enclosing(script, before, "#{").filter(|_| expects_key).and_then(|map| {
            let call = enclosing(script, &before[..map], "(")?;
            before[..call].last().map(text)
        }) else {
            return Vec::new();
        };
        let option = |field: Field| {
            let default = field.default.map_or_else(String::new, |default| default.to_string());
            Completion::of(CompletionKind::Option, format!("{}: ", field.name), default)
        };
        options::of_function(self.options, function).into_iter().map(option).collect()
    }

    /// Returns what can be typed in a string that starts at `start`, after these pieces (names if the function is
    /// known, else files), and the offset where the replaced text starts.
    fn in_text(&self, script: &str, before: &[Piece], start: usize) -> (usize, Vec<Completion>) {
        let typed = &script[start..];
        let indexed = before.split_last().filter(|(open, _)| &script[open.range.clone()] == "[");
        let indexed = match indexed.and_then(|(_, owner)| self.known(script, owner)) {
            Some(Known::Value(value)) => Some(value),
            _ => None,
        };
        if let Some(map) = indexed.as_ref().and_then(|value| value.read_lock::<Map>()) {
            return (start, map.keys().map(|key| Completion::name(key.as_str(), "key")).collect());
        }
        let call = call_around(script, before);
        let string = TypedString { text: typed, indexed, call, scope: self.scope };
        if let Some(names) = self.names.iter().find_map(|names| names(&string)) {
            return (start, names);
        }
        let folder = typed.rfind('/').map_or(0, |slash| slash + 1);
        (start + folder, paths(&typed[..folder]))
    }
}

/// Returns the type of a value as signatures spell it.
pub(crate) fn type_of(engine: &Engine, value: &Dynamic) -> String {
    match value.type_name() {
        "array" => "Array".to_owned(),
        "map" => "Map".to_owned(),
        "string" => "String".to_owned(),
        other => script_types(engine.map_type_name(other)),
    }
}

/// A value, or only its type if the value would have to be computed.
enum Known {
    Value(Dynamic),
    Type(String),
}

fn is_point(text: &str) -> bool {
    text == "." || text == "?."
}

/// Whether a string, opening quotation mark included, is still unterminated.
fn is_open(text: &str) -> bool {
    let Some(quote) = text.chars().next().filter(|quote| ['"', '`'].contains(quote)) else { return false };
    let mut escaped = false;
    !text.chars().skip(1).any(|c| {
        let is_end = c == quote && !escaped;
        escaped = c == '\\' && !escaped;
        is_end
    })
}

/// Returns the index of the bracket that the last piece, a closing bracket, matches.
fn opening(script: &str, pieces: &[Piece]) -> Option<usize> {
    let (last, before) = pieces.split_last()?;
    let open = if &script[last.range.clone()] == ")" { "(" } else { "[" };
    enclosing(script, before, open)
}

/// Returns the index of the innermost bracket that is still open, if it is `open`.
fn enclosing(script: &str, pieces: &[Piece], open: &str) -> Option<usize> {
    let mut depth = 0usize;
    for (i, piece) in pieces.iter().enumerate().rev() {
        match piece.kind {
            PieceKind::Close => depth += 1,
            PieceKind::Open if depth > 0 => depth -= 1,
            PieceKind::Open => return (&script[piece.range.clone()] == open).then_some(i),
            _ => {}
        }
    }
    None
}

/// Returns the call with an argument at the end of these pieces, or with an array or a map there as an argument.
fn call_around<'a>(script: &'a str, before: &[Piece]) -> Option<TypedCall<'a>> {
    let text = |piece: &Piece| &script[piece.range.clone()];
    let inner = enclosing(script, before, "[").or_else(|| enclosing(script, before, "#{"));
    let before = inner.map_or(before, |inner| &before[..inner]);
    let open = enclosing(script, before, "(")?;
    let (function, owner) = before[..open].split_last()?;
    Some(TypedCall {
        function: text(function),
        is_method: owner.last().is_some_and(|point| is_point(text(point))),
        first: before.get(open + 1).map_or("", text),
        commas: before[open..].iter().filter(|piece| text(piece) == ",").count(),
        is_nested: inner.is_some(),
    })
}

/// Returns the files and folders in a folder; names of folders end with a slash.
fn paths(folder: &str) -> Vec<Completion> {
    let at = if folder.is_empty() { Path::new(".") } else { Path::new(folder) };
    let Ok(entries) = std::fs::read_dir(at) else { return Vec::new() };
    let entries = entries.flatten().filter_map(|entry| {
        let name = entry.file_name().into_string().ok().filter(|name| !name.starts_with('.'))?;
        let is_folder = entry.path().is_dir();
        // Escaped as in a string.
        let name = name.replace('\\', "\\\\").replace('"', "\\\"");
        let text = if is_folder { name + "/" } else { name };
        Some(Completion::of(CompletionKind::Path, text, ""))
    });
    entries.collect()
}
