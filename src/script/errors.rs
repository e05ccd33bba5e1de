//! Errors in both directions: an error of this crate as one that a script can catch, and an error of a script with its
//! place, its line underlined, and a hint.

use super::help::Help;
use super::limits::Ending;
use crate::error::{Error, did_you_mean};
use rhai::{Dynamic, EvalAltResult, Map, ParseErrorType, Position, Scope};
use std::collections::BTreeMap;
use std::rc::Rc;

/// The text of a script and what it is called.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// A file, a cell, or "input".
    pub(super) name: String,
    pub(super) text: String,
    /// The number of its first line, from 1.
    pub(super) first_line: usize,
}

/// The functions that were written in scripts, by their names.
pub(super) type Origins = BTreeMap<String, Origin>;

/// Where the functions of one name come from.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    /// None if it is not known which of several is called.
    pub(super) source: Option<Rc<Source>>,
    /// How they are called, `name(parameter, …)`.
    pub(super) forms: Vec<String>,
}

/// An error of this crate for a script: `catch (e)` sees a map with `message` and `hint`; an interrupt cannot be caught.
pub(super) fn to_script(error: &Error) -> Box<EvalAltResult> {
    if error.is_interrupted() {
        return Box::new(EvalAltResult::ErrorTerminated(Dynamic::UNIT, Position::NONE));
    }
    let mut map = Map::new();
    map.insert("message".into(), error.to_string().into());
    map.insert("hint".into(), error.hint().map_or(Dynamic::UNIT, Dynamic::from));
    Box::new(EvalAltResult::ErrorRuntime(map.into(), Position::NONE))
}

/// An error of a module while it is imported, as one of the import: what was thrown keeps its message and its hint, with its
/// place in the module; what nothing can catch stays so.
pub(super) fn of_module(error: Box<EvalAltResult>, module: &str, position: Position) -> Box<EvalAltResult> {
    let EvalAltResult::ErrorInModule(_, inner, _) = &*error else { return error };
    let thrown = inner.unwrap_inner();
    match thrown {
        EvalAltResult::ErrorTerminated(why, _) => {
            Box::new(EvalAltResult::ErrorTerminated(why.clone(), position))
        }
        EvalAltResult::ErrorRuntime(value, _) => {
            let (message, _) = runtime_error(value);
            let message = Dynamic::from(format!("{message}{}", place_in(module, inner.position())));
            let map = value.read_lock::<Map>().map(|map| map.clone());
            let value = match map {
                Some(mut map) => {
                    map.insert("message".into(), message);
                    map.into()
                }
                None if value.is_string() => message,
                None => value.clone(),
            };
            Box::new(EvalAltResult::ErrorRuntime(value, position))
        }
        _ => error,
    }
}

/// Where in a module something is wrong: the end of a message.
fn place_in(module: &str, position: Position) -> String {
    match position.line() {
        Some(line) => format!(", in line {line} of the module `{module}`"),
        None => format!(", in the module `{module}`"),
    }
}

/// An error of a script for the user. `origins` has the functions of the script and of those before it.
pub(super) fn describe(
    error: &EvalAltResult,
    source: &Source,
    origins: &Origins,
    help: &Help,
    scope: &Scope,
) -> Error {
    // The place inside the function is what the user wants to see, not the call of the function.
    let (mut place, mut position) = (source, error.position());
    let mut inner = error;
    let mut inside_function = false;
    let mut in_module = String::new();
    loop {
        inner = match inner {
            // The text of the module is not here.
            EvalAltResult::ErrorInModule(module, next, _) => {
                in_module = place_in(module, next.position());
                next
            }
            EvalAltResult::ErrorInFunctionCall(_, _, next, _) if !in_module.is_empty() => next,
            EvalAltResult::ErrorInFunctionCall(name, module, next, _) => {
                let origin = origins.get(name).and_then(|origin| origin.source.as_deref());
                // Functions of an imported module have its path with them, and their text is not here; nor is that of the
                // language's own.
                let is_here = |origin: &&Source| {
                    module.is_empty() || *module == source.name || *module == origin.name || is_closure(name)
                };
                if let Some(origin) = origin.filter(is_here).filter(|_| !next.position().is_none()) {
                    (place, position) = (origin, next.position());
                }
                inside_function = true;
                next
            }
            _ => break,
        };
    }
    let (message, hint) = explain(inner, origins, help, scope, inside_function);
    let message = format!("{message}{in_module}");
    Error::Script { message, excerpt: excerpt(place, position), hint }
}

/// What happened, and what to do about it.
fn explain(
    error: &EvalAltResult,
    origins: &Origins,
    help: &Help,
    scope: &Scope,
    inside_function: bool,
) -> (String, Option<String>) {
    match error {
        EvalAltResult::ErrorRuntime(value, _) => runtime_error(value),
        EvalAltResult::ErrorFunctionNotFound(signature, _) => unknown_function(signature, origins, help),
        EvalAltResult::ErrorVariableNotFound(name, _) => {
            let known: Vec<&str> = scope.iter().map(|(name, _, _)| name).collect();
            let hint = if let Some(nearest) = did_you_mean(name, known.iter().copied()) {
                if inside_function && nearest == name {
                    format!("a function does not see variables outside it: pass `{name}` as an argument")
                } else {
                    format!("did you mean `{nearest}`?")
                }
            } else if inside_function {
                "a function sees its arguments only: pass the variable as one".to_owned()
            } else {
                "define it first with `let`".to_owned()
            };
            (format!("unknown variable `{name}`"), Some(hint))
        }
        EvalAltResult::ErrorTerminated(why, _) if why.is::<Ending>() => {
            why.clone().try_cast::<Ending>().map(|ending| (ending.message, ending.hint)).unwrap_or_default()
        }
        EvalAltResult::ErrorDotExpr(message, _) => {
            let quoted: Vec<&str> = message.split('\'').collect();
            match quoted.as_slice() {
                [_, property, _, type_name, ..] => {
                    let known = help.properties_of(type_name);
                    let error = Error::Unknown {
                        kind: "property",
                        name: (*property).to_owned(),
                        place: type_name.to_string(),
                        known,
                    };
                    (error.to_string(), error.hint())
                }
                _ => (first_lower(message), None),
            }
        }
        EvalAltResult::ErrorDataRace(..) => {
            let message = "a closure uses the variable that its method is called on";
            let hint = "call the method as a function, f(model, …) for model.f(…), or give the closure another name \
                        for the value: let m = model;";
            (message.to_owned(), Some(hint.to_owned()))
        }
        EvalAltResult::ErrorIndexingType(text, _) if text.contains("Tensor") => {
            let hint = "a tensor is read by a number, a range or an array of these, and not changed in place: join a new \
                        one, as in cat([x[0..2], v.unsqueeze(0), x[3..x.len()]], 0)";
            (format!("no such index: {text}"), Some(hint.to_owned()))
        }
        EvalAltResult::ErrorParsing(kind, _) => (first_lower(&kind.to_string()), parse_hint(kind)),
        EvalAltResult::ErrorMismatchDataType(expected, got, _) if !expected.is_empty() => {
            (format!("expected a value of type {expected}, got {got}"), None)
        }
        other => {
            // rhai appends the position, which the excerpt shows.
            let text = other.to_string();
            let text = text.rsplit_once(" (line ").map_or(text.as_str(), |(text, _)| text);
            (first_lower(text), None)
        }
    }
}

/// A value that was thrown: by this crate a map with a message and a hint, by a script anything.
fn runtime_error(value: &Dynamic) -> (String, Option<String>) {
    let map = value.read_lock::<Map>();
    let text = |key: &str| map.as_ref()?.get(key)?.clone().into_string().ok();
    match text("message") {
        Some(message) => (message, text("hint")),
        None => (value.to_string(), None),
    }
}

/// `name (type, type)` matched nothing: either no function has the name, or none takes these types.
fn unknown_function(signature: &str, origins: &Origins, help: &Help) -> (String, Option<String>) {
    let (name, types) = signature.split_once(" (").unwrap_or((signature, ""));
    let types = types.trim_end_matches(')');
    if let Some(property) = name.strip_prefix("get$") {
        return (format!("unknown property `{property}`"), None);
    }
    if is_closure(name) {
        let n = if types.is_empty() { 0 } else { types.split(", ").count() };
        let message = format!("the closure does not take what it is called with: expected {n} arguments");
        return (
            message,
            Some("a hook's closure takes one argument, |x| …, and that of `sort` two, |a, b| …".to_owned()),
        );
    }
    let mut forms = help.signatures_of(name);
    forms.extend(origins.get(name).into_iter().flat_map(|origin| origin.forms.iter().cloned()));
    if forms.is_empty() {
        let written = origins.keys().map(String::as_str).filter(|name| !is_closure(name));
        let known: Vec<&str> = help.names().chain(written).collect();
        let error = Error::unknown("function", name, known.iter().copied());
        let hint = did_you_mean(name, known).map_or_else(
            || "`help()` lists the functions".to_owned(),
            |nearest| format!("did you mean `{nearest}`?"),
        );
        (error.to_string(), Some(hint))
    } else {
        let forms: Vec<_> = forms.iter().map(|form| format!("`{form}`")).collect();
        let types = super::help::plain_types(types);
        (format!("no `{name}` takes ({types})"), Some(format!("known forms: {}", forms.join(", "))))
    }
}

fn parse_hint(kind: &ParseErrorType) -> Option<String> {
    match kind {
        ParseErrorType::UnexpectedEOF => {
            Some("something is missing at the end: a value, or what closes a bracket or a text".to_owned())
        }
        ParseErrorType::MissingToken(token, _) => Some(format!("is a `{token}` missing before this?")),
        ParseErrorType::Reserved(word) => Some(format!("`{word}` is reserved: choose another name")),
        _ => None,
    }
}

/// The line of `position`, with what is there underlined.
///
/// ```text
///  --> scripts/x.rhai:6:1
///   |
/// 6 | create_feature_dataset(model, sae, #{
///   | ^^^^^^^^^^^^^^^^^^^^^^
/// ```
fn excerpt(source: &Source, position: Position) -> String {
    let (Some(line), column) = (position.line(), position.position().unwrap_or(1)) else {
        return String::new();
    };
    // The language counts in 16 bits: what is beyond has no place.
    const BEYOND: usize = u16::MAX as usize;
    if line >= BEYOND || column >= BEYOND {
        return String::new();
    }
    let Some(text) = source.text.lines().nth(line - 1) else { return String::new() };
    let (place, line) = (&source.name, source.first_line + line - 1);
    // Of a long line, what is around the place.
    const AROUND: usize = 80;
    let first = if text.chars().count() > 2 * AROUND { column.saturating_sub(AROUND) } else { 0 };
    let text: String = text.chars().skip(first).take(2 * AROUND).collect();
    let shown = column - first;
    let before: String = text.chars().take(shown - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    let word = text.chars().skip(shown - 1).take_while(|c| c.is_alphanumeric() || *c == '_').count();
    let margin = " ".repeat(line.to_string().len());
    format!(
        "{margin}--> {place}:{line}:{column}\n{margin} |\n{line} | {text}\n{margin} | {before}{}",
        "^".repeat(word.max(1))
    )
}

/// Whether a function is a closure, whose name is the language's own.
pub(super) fn is_closure(name: &str) -> bool {
    name.starts_with("anon$")
}

/// A text with its first letter small.
pub(super) fn first_lower(text: &str) -> String {
    let mut chars = text.chars();
    match chars.next() {
        Some(first) => first.to_lowercase().chain(chars).collect(),
        None => String::new(),
    }
}
