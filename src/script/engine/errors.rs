//! Errors in both directions: an error of this crate as one that a script can catch, and an error of a script with its
//! position, its line with the word underlined, and a hint.

use super::help::Help;
use super::names::{first_lower, is_closure, script_types};
use crate::error::{Error, ErrorKind, did_you_mean};
use rhai::{Dynamic, EvalAltResult, Map, ParseErrorType, Position, Scope};
use std::collections::BTreeMap;
use std::rc::Rc;

/// The error that ends a script and that the script cannot catch; an interrupt carries `()` in its place.
#[derive(Debug, Clone)]
pub(super) struct FatalError {
    pub(super) message: String,
    pub(super) hint: Option<String>,
    pub(super) kind: ErrorKind,
}

/// The source text of a script and its name.
#[derive(Debug, Clone)]
pub(crate) struct Source {
    /// A file, a cell, or "input", as errors print it.
    pub(crate) name: String,
    pub(crate) text: String,
    /// The line number of the first line, from 1.
    pub(crate) first_line: usize,
}

/// The functions defined in scripts, by name.
pub(crate) type Origins = BTreeMap<String, Origin>;

/// Where the functions with one name come from.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    /// The script; `None` if different scripts define the name, so that it is unknown which function is called.
    pub(crate) source: Option<Rc<Source>>,
    /// Their signatures: `name(parameter, …)`.
    pub(crate) signatures: Vec<String>,
}

/// Converts an error for a script: `catch (e)` sees a map with `message` and `hint`, whose tag is the kind of the error.
/// An interrupt cannot be caught.
pub(crate) fn to_script(error: &Error) -> Box<EvalAltResult> {
    if error.is_interrupted() {
        return Box::new(EvalAltResult::ErrorTerminated(Dynamic::UNIT, Position::NONE));
    }
    let mut map = Map::new();
    map.insert("message".into(), error.to_string().into());
    map.insert("hint".into(), error.hint().map_or(Dynamic::UNIT, Dynamic::from));
    let mut thrown = Dynamic::from(map);
    thrown.set_tag(error.kind() as _);
    Box::new(EvalAltResult::ErrorRuntime(thrown, Position::NONE))
}

/// Turns an error during an import into an error of the `import` statement: a thrown value keeps its message and hint,
/// with its line in the module; an error that cannot be caught stays uncatchable.
pub(super) fn at_import(error: Box<EvalAltResult>, module: &str, position: Position) -> Box<EvalAltResult> {
    let EvalAltResult::ErrorInModule(_, inner, _) = &*error else { return error };
    let thrown = inner.unwrap_inner();
    match thrown {
        EvalAltResult::ErrorTerminated(why, _) => {
            Box::new(EvalAltResult::ErrorTerminated(why.clone(), position))
        }
        EvalAltResult::ErrorRuntime(value, _) => {
            let (message, _) = runtime_error(value);
            let message = Dynamic::from(format!("{message}{}", place_in_module(module, inner.position())));
            let map = value.read_lock::<Map>().map(|map| map.clone());
            let mut at_import = match map {
                Some(mut map) => {
                    map.insert("message".into(), message);
                    map.into()
                }
                None if value.is_string() => message,
                None => value.clone(),
            };
            at_import.set_tag(value.tag());
            Box::new(EvalAltResult::ErrorRuntime(at_import, position))
        }
        _ => error,
    }
}

/// Returns the end of a message: the line in a module.
fn place_in_module(module: &str, position: Position) -> String {
    match position.line() {
        Some(line) => format!(", in line {line} of the module `{module}`"),
        None => format!(", in the module `{module}`"),
    }
}

/// Converts an error of a script for the user. `origins` has the functions of this script and of earlier ones.
pub(crate) fn describe(
    error: &EvalAltResult,
    source: &Source,
    origins: &Origins,
    help: &Help,
    scope: &Scope,
) -> Error {
    // The user wants to see the position inside the function, not the call of the function.
    let (mut place, mut position) = (source, error.position());
    let mut inner = error;
    let mut inside_function = false;
    let mut in_module = String::new();
    loop {
        inner = match inner {
            // The source of the module is not available.
            EvalAltResult::ErrorInModule(module, next, _) => {
                in_module = place_in_module(module, next.position());
                next
            }
            EvalAltResult::ErrorInFunctionCall(_, _, next, _) if !in_module.is_empty() => next,
            EvalAltResult::ErrorInFunctionCall(name, module, next, _) => {
                let origin = origins.get(name).and_then(|origin| origin.source.as_deref());
                // The source is not available for functions of an imported module, which carry its path, nor for the
                // language's own functions.
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
    Error::Script { message, excerpt: excerpt(place, position), hint, kind: kind_of(inner) }
}

/// Returns the kind of the error that a function of this crate failed with.
fn kind_of(error: &EvalAltResult) -> ErrorKind {
    let tag = match error {
        EvalAltResult::ErrorRuntime(value, _) => value.tag(),
        EvalAltResult::ErrorTerminated(why, _) => {
            return why.read_lock::<FatalError>().map_or(ErrorKind::Other, |ending| ending.kind);
        }
        _ => return ErrorKind::Other,
    };
    let kinds = [ErrorKind::Other, ErrorKind::NotFound, ErrorKind::Offline, ErrorKind::InvalidOption];
    kinds.get(tag as usize).copied().unwrap_or_default()
}

/// Returns what happened (the message) and what to do about it (the hint).
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
                "a function sees only its arguments: pass the variable as one".to_owned()
            } else {
                "define it first with `let`".to_owned()
            };
            (format!("unknown variable `{name}`"), Some(hint))
        }
        EvalAltResult::ErrorTerminated(why, _) if why.is::<FatalError>() => why
            .clone()
            .try_cast::<FatalError>()
            .map(|ending| (ending.message, ending.hint))
            .unwrap_or_default(),
        EvalAltResult::ErrorDotExpr(message, _) => {
            let quoted: Vec<&str> = message.split('\'').collect();
            match quoted.as_slice() {
                [_, property, _, type_name, ..] => {
                    let members = help.members_of(Some(type_name)).into_iter();
                    if members.clone().any(|member| member.text == *property) {
                        let hint = "values of this type are not changed in place: make a new one";
                        return (
                            format!("the property `{property}` of {type_name} cannot be set"),
                            Some(hint.to_owned()),
                        );
                    }
                    let error = Error::Unknown {
                        kind: "property",
                        name: (*property).to_owned(),
                        place: type_name.to_string(),
                        known: members.map(|member| member.text).collect(),
                    };
                    (error.to_string(), error.hint())
                }
                _ => (first_lower(message), None),
            }
        }
        EvalAltResult::ErrorDataRace(..) => {
            let message = "a closure captures the variable that its method is called on";
            let hint = "call the method as a function, f(model, …) instead of model.f(…), or let the closure \
                        capture a copy: let m = model;";
            (message.to_owned(), Some(hint.to_owned()))
        }
        EvalAltResult::ErrorIndexingType(text, _) if text.contains("Tensor") => {
            let hint = "index a tensor by a number, a range or an array of these; it is not changed in place, so \
                        join a new one: cat([x[0..2], v.unsqueeze(0), x[3..x.len()]], 0)";
            (format!("unsupported index: {text}"), Some(hint.to_owned()))
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

/// Returns the message and hint of a thrown value: a map with both if this crate threw it, any value if a script did.
fn runtime_error(value: &Dynamic) -> (String, Option<String>) {
    let map = value.read_lock::<Map>();
    let text = |key: &str| map.as_ref()?.get(key)?.clone().into_string().ok();
    match text("message") {
        Some(message) => (message, text("hint")),
        None => (value.to_string(), None),
    }
}

/// Explains that `name (type, type)` matched no function: the name is unknown, or no form takes these types.
fn unknown_function(signature: &str, origins: &Origins, help: &Help) -> (String, Option<String>) {
    let (name, types) = signature.split_once(" (").unwrap_or((signature, ""));
    let types = types.trim_end_matches(')');
    if let Some(property) = name.strip_prefix("get$") {
        return (format!("unknown property `{property}`"), None);
    }
    if is_closure(name) {
        let n = if types.is_empty() { 0 } else { types.split(", ").count() };
        let message = format!("the closure takes the wrong number of arguments: it is called with {n}");
        return (
            message,
            Some("a hook's closure takes one argument, |x| …; that of `sort` takes two, |a, b| …".to_owned()),
        );
    }
    let mut forms = help.signatures_of(name);
    forms.extend(origins.get(name).into_iter().flat_map(|origin| origin.signatures.iter().cloned()));
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
        let types = script_types(types);
        (format!("no `{name}` takes ({types})"), Some(format!("known forms: {}", forms.join(", "))))
    }
}

fn parse_hint(kind: &ParseErrorType) -> Option<String> {
    match kind {
        ParseErrorType::UnexpectedEOF => {
            Some("a value, a closing bracket or a closing quotation mark is missing at the end".to_owned())
        }
        ParseErrorType::MissingToken(token, _) => Some(format!("is a `{token}` missing before this?")),
        ParseErrorType::Reserved(word) => Some(format!("`{word}` is reserved: choose another name")),
        _ => None,
    }
}

/// Returns the line at `position`, with the word there underlined.
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
    // The language counts lines and columns in 16 bits: beyond that the position is unknown.
    const LIMIT: usize = u16::MAX as usize;
    if line >= LIMIT || column >= LIMIT {
        return String::new();
    }
    let Some((line, column)) = shown_position(&source.text, line, column) else { return String::new() };
    let text = source.text.lines().nth(line - 1).unwrap_or_default();
    let (place, line) = (&source.name, source.first_line + line - 1);
    // Of a long line only the part around the position is shown.
    const CONTEXT: usize = 80;
    let first = if text.chars().count() > 2 * CONTEXT { column.saturating_sub(CONTEXT) } else { 0 };
    let text: String = text.chars().skip(first).take(2 * CONTEXT).collect();
    let shown = column - first;
    let before: String = text.chars().take(shown - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
    let word = text.chars().skip(shown - 1).take_while(|c| c.is_alphanumeric() || *c == '_').count();
    let margin = " ".repeat(line.to_string().len());
    format!(
        "{margin}--> {place}:{line}:{column}\n{margin} |\n{line} | {text}\n{margin} | {before}{}",
        "^".repeat(word.max(1))
    )
}

/// Returns the line and the column to point at: of a position in or below the blank lines at the end of a script, the end
/// of the last line that is not blank.
fn shown_position(text: &str, line: usize, column: usize) -> Option<(usize, usize)> {
    let (last, end) = text.lines().enumerate().filter(|(_, text)| !text.trim().is_empty()).last()?;
    let is_after = line > last + 1;
    Some(if is_after { (last + 1, end.trim_end().chars().count() + 1) } else { (line, column) })
}
