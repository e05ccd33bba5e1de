//! Completions as data, and what a function is told about a string in which it completes a name.

use rhai::{Dynamic, Scope};

/// The completions at a cursor, and the range of the text that they replace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Completions {
    /// The byte offset where the replaced text starts.
    pub start: usize,
    /// The byte offset where it ends: the cursor.
    pub end: usize,
    /// The completions, sorted by kind and then by text.
    pub completions: Vec<Completion>,
}

/// One completion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// The text to insert.
    pub text: String,
    /// The kind of thing that the text names.
    pub kind: CompletionKind,
    /// The signature, the type, the default of an option or a category; may be empty.
    pub detail: String,
}

/// The kind of thing that a completion names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CompletionKind {
    /// An option in an options map.
    Option,
    /// A variable.
    Variable,
    /// A property of a value, or a key of a map.
    Property,
    /// A method: a function that is called on a value.
    Method,
    /// A function.
    Function,
    /// A name inside a string: of a hook, a model or an SAE.
    Name,
    /// A file or a folder.
    Path,
    /// A keyword of the language.
    Keyword,
}

impl CompletionKind {
    /// Returns the name of this kind that Jupyter's front ends know.
    pub fn name(self) -> &'static str {
        match self {
            CompletionKind::Option => "param",
            CompletionKind::Variable => "instance",
            CompletionKind::Property => "property",
            CompletionKind::Method | CompletionKind::Function => "function",
            CompletionKind::Name => "text",
            CompletionKind::Path => "path",
            CompletionKind::Keyword => "keyword",
        }
    }
}

impl Completion {
    pub(super) fn of(kind: CompletionKind, text: impl Into<String>, detail: impl Into<String>) -> Self {
        Completion { text: text.into(), kind, detail: detail.into() }
    }

    /// A name inside a string.
    pub(crate) fn name(text: impl Into<String>, detail: &str) -> Self {
        Completion::of(CompletionKind::Name, text, detail)
    }
}

/// Returns the names that can be typed in a string; `None` if it is not known what belongs there.
pub(crate) type NamesInString = fn(&TypedString) -> Option<Vec<Completion>>;

/// A string that is being typed, and its place in the script.
pub(crate) struct TypedString<'a> {
    /// The string up to the cursor, without the quotation mark.
    pub(crate) text: &'a str,
    /// The value that the string is an index of: `cache["`.
    pub(crate) indexed: Option<Dynamic>,
    /// The call that has the string as an argument, or in an array or a map as an argument.
    pub(crate) call: Option<TypedCall<'a>>,
    /// The variables of the session.
    pub(crate) scope: &'a Scope<'static>,
}

/// A call whose arguments are being typed.
pub(crate) struct TypedCall<'a> {
    /// The name of the function.
    pub(crate) function: &'a str,
    /// Whether the function is called as a method.
    pub(crate) is_method: bool,
    /// The first piece of the first argument: the argument itself if that is a string.
    pub(crate) first: &'a str,
    /// The number of commas between the opening parenthesis and the string.
    pub(crate) commas: usize,
    /// Whether the string is in an array or a map.
    pub(crate) is_nested: bool,
}

impl TypedString<'_> {
    /// Returns the call of `function` if the string is one of its arguments and not a path.
    pub(crate) fn in_call(&self, function: &str) -> Option<&TypedCall<'_>> {
        let is_path = self.text.starts_with(['/', '.', '~']);
        self.call.as_ref().filter(|call| call.function == function && !call.is_nested && !is_path)
    }
}
