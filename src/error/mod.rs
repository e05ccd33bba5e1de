//! The error type of this crate: what went wrong, where, what was expected, what was found, and what to do next.
//!
//! [`Error`]'s `Display` is one lower-case sentence for the `error:` line; [`Error::hint`] is the `hint:` line below.

mod kind;

pub use kind::ErrorKind;

use std::path::{Path, PathBuf};

/// The result of any call in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Anything that can go wrong in this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A name that does not exist: a model, hook, column, option, …
    #[error("unknown {kind} `{name}`{}", after(" in ", .place))]
    Unknown {
        /// The kind of name: "hook", "option", "column".
        kind: &'static str,
        /// The name as given.
        name: String,
        /// Where it was looked up; empty if that is obvious.
        place: String,
        /// The valid names.
        known: Vec<String>,
    },
    /// Something of a given name that is nowhere: a model, an SAE, a dataset, a repository, a file in it.
    #[error("{message}")]
    NotFound {
        /// What does not exist, and where it was looked up.
        message: String,
        /// What to do about it.
        hint: String,
    },
    /// A value that cannot be used: an option, an index, a setting of a checkpoint.
    #[error("{what}: expected {expected}, got {got}")]
    Invalid {
        /// The name of the value.
        what: String,
        /// The allowed values.
        expected: String,
        /// The value found.
        got: String,
        /// What to do about it, if known.
        hint: Option<String>,
    },
    /// Two things that do not fit together: a model and an SAE, a tokenizer and a model, two shapes.
    #[error("{message}")]
    Mismatch {
        /// The two sides and how they differ.
        message: String,
        /// What to do about it.
        hint: String,
    },
    /// A file that the operating system refused to open, read or write.
    #[error("cannot {action} `{}`: {source}", path.display())]
    File {
        /// "open", "read", "write", "create" …
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file whose contents do not fit its format.
    #[error("`{}`{}: {message}", path.display(), after(", ", .at))]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The position in it, such as "line 12"; empty for the entire file.
        at: String,
        /// What is wrong there.
        message: String,
        /// What to do about it, if known.
        hint: Option<String>,
    },
    /// A download that failed without a connection to the hub, or because `HF_HUB_OFFLINE` is set.
    #[error("{message}")]
    Offline {
        /// What was requested, and why the hub cannot be asked for it.
        message: String,
        /// What to do about it.
        hint: String,
    },
    /// A request that the hub refused, or answered in a way that cannot be used.
    #[error("{what}: {message}")]
    Hub {
        /// The repository, or whatever else was requested.
        what: String,
        /// Why the request failed.
        message: String,
        /// What to do about it, if known.
        hint: Option<String>,
    },
    /// An action that the system or a library refused: starting a thread, listening on a port, encoding a picture.
    #[error("cannot {action}: {source}")]
    Failed {
        /// The action, such as "start a thread".
        action: String,
        /// The error of the system or the library.
        source: Box<dyn std::error::Error + Send + Sync>,
        /// What to do about it, if known.
        hint: Option<String>,
    },
    /// A state that no input should lead to: a defect of this crate.
    #[error("internal error: {message}")]
    Internal {
        /// What is wrong.
        message: String,
    },
    /// Values that are not finite, where only finite ones are valid.
    #[error("{message}")]
    NotFinite {
        /// Where they were found.
        message: String,
    },
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// A tensor operation that failed: shapes, types.
    #[error("{}", tensor_message(.0))]
    Tensor(candle_core::Error),
    /// A script that does not parse, or that failed: in the language itself or in a function of this crate.
    #[error("{message}")]
    Script {
        /// What went wrong.
        message: String,
        /// The line with the position underlined, to print below the message.
        excerpt: String,
        /// What to do about it, if known.
        hint: Option<String>,
        /// The kind of the error that a function of this crate failed with.
        kind: ErrorKind,
    },
}

impl Error {
    /// An [`Error::Unknown`] without a place.
    pub fn unknown<S: Into<String>>(
        kind: &'static str,
        name: impl Into<String>,
        known: impl IntoIterator<Item = S>,
    ) -> Self {
        let known = known.into_iter().map(Into::into).collect();
        Error::Unknown { kind, name: name.into(), place: String::new(), known }
    }

    /// An [`Error::Invalid`] without a hint.
    pub fn invalid(what: impl Into<String>, expected: impl Into<String>, got: impl ToString) -> Self {
        Error::Invalid { what: what.into(), expected: expected.into(), got: got.to_string(), hint: None }
    }

    /// An [`Error::NotFound`].
    pub fn not_found(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Error::NotFound { message: message.into(), hint: hint.into() }
    }

    /// An [`Error::Mismatch`].
    pub fn mismatch(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Error::Mismatch { message: message.into(), hint: hint.into() }
    }

    /// An [`Error::Malformed`] about an entire file.
    pub fn malformed(path: &Path, message: impl Into<String>) -> Self {
        Error::Malformed { path: path.to_owned(), at: String::new(), message: message.into(), hint: None }
    }

    /// Wraps an I/O error of `action` on `path`: `.map_err(Error::file("read", path))`.
    pub fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Error::File { action, path, source }
    }

    /// Wraps the reason why an action failed: `.map_err(Error::failed("start a thread"))`. Takes any error of another
    /// library, such as one in a hook.
    pub fn failed<E>(action: impl Into<String>) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let action = action.into();
        move |source| Error::Failed { action, source: source.into(), hint: None }
    }

    /// An [`Error::Internal`].
    pub fn internal(message: impl Into<String>) -> Self {
        Error::Internal { message: message.into() }
    }

    /// The same [`Error::Unknown`] with the place where the name was looked up. No effect on other variants.
    pub(crate) fn with_place(mut self, text: impl Into<String>) -> Self {
        if let Error::Unknown { place, .. } = &mut self {
            *place = text.into();
        }
        self
    }

    /// The same error with a hint. No effect on variants without one.
    pub fn with_hint(mut self, text: impl Into<String>) -> Self {
        match &mut self {
            Error::Invalid { hint, .. }
            | Error::Malformed { hint, .. }
            | Error::Hub { hint, .. }
            | Error::Failed { hint, .. }
            | Error::Script { hint, .. } => *hint = Some(text.into()),
            Error::Mismatch { hint, .. } | Error::NotFound { hint, .. } | Error::Offline { hint, .. } => {
                *hint = text.into();
            }
            _ => {}
        }
        self
    }

    /// What the user can do about it, if known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Error::Unknown { kind, name, known, .. } => names_hint(kind, name, known),
            Error::Invalid { hint, .. }
            | Error::Malformed { hint, .. }
            | Error::Hub { hint, .. }
            | Error::Failed { hint, .. }
            | Error::Script { hint, .. } => hint.clone(),
            Error::Mismatch { hint, .. } | Error::NotFound { hint, .. } | Error::Offline { hint, .. } => {
                Some(hint.clone())
            }
            Error::File { action, path, source } => file_hint(action, path, source),
            Error::Internal { .. } => {
                Some("this is a bug in saescope: please report it, with the steps before it".to_owned())
            }
            Error::NotFinite { .. } => Some(
                "check the checkpoint: a weight that is not finite, or a wrong dtype, spreads to every later layer"
                    .to_owned(),
            ),
            Error::Interrupted | Error::Tensor(_) => None,
        }
    }

    /// The script line with the position underlined, for an error in a script.
    pub fn excerpt(&self) -> Option<&str> {
        match self {
            Error::Script { excerpt, .. } if !excerpt.is_empty() => Some(excerpt),
            _ => None,
        }
    }
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        let message = tensor_message(&error);
        if ["CUDA_ERROR_OUT_OF_MEMORY", "CUBLAS_STATUS_ALLOC_FAILED"]
            .iter()
            .any(|code| message.contains(code))
        {
            return Error::mismatch(
                "the memory of the GPU is full",
                "use `dtype: \"bf16\"`; for a dataset a smaller `batch_size` or `context_size`, for trees a smaller `max_memory`; or end \
                 other programs on the GPU (`nvidia-smi`)",
            );
        }
        Error::Tensor(error)
    }
}

/// The name in `known` that `name` most likely meant: equal except for case, or at most a third of its letters apart.
pub fn did_you_mean<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = name.to_lowercase();
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&wanted, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| {
            let letters = candidate.chars().count();
            *distance <= letters.max(3) / 3 && *distance < letters
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// The `n` names in `known` that are most similar to `name`, nearest first.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>, n: usize) -> Vec<&'a str> {
    let wanted = name.to_lowercase();
    let distance = |candidate: &str| strsim::damerau_levenshtein(&wanted, &candidate.to_lowercase());
    let mut known: Vec<_> = known.into_iter().map(|candidate| (distance(candidate), candidate)).collect();
    known.sort_by_key(|(distance, _)| *distance);
    known.into_iter().take(n).map(|(_, candidate)| candidate).collect()
}

/// `did you mean … or …? `, to put before another hint. Empty without names.
pub fn did_you_mean_any(names: &[&str]) -> String {
    let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    if names.is_empty() { String::new() } else { format!("did you mean {}? ", names.join(" or ")) }
}

fn names_hint(kind: &str, name: &str, known: &[String]) -> Option<String> {
    const SHOWN: usize = 40;
    if known.is_empty() {
        return None;
    }
    let nearest = did_you_mean(name, known.iter().map(String::as_str));
    if let Some(nearest) = nearest.filter(|_| known.len() == 1 || known.len() > 8) {
        return Some(format!("did you mean `{nearest}`?"));
    }
    let list = known.iter().take(SHOWN).map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ");
    let more = if known.len() > SHOWN { ", …" } else { "" };
    let plural = match kind.strip_suffix('y') {
        Some(stem) => format!("{stem}ies"),
        None if kind.ends_with('s') => kind.to_owned(),
        None => format!("{kind}s"),
    };
    let question = did_you_mean_any(nearest.as_slice());
    Some(format!("{question}known {plural}: {list}{more}"))
}

fn file_hint(action: &str, path: &Path, source: &std::io::Error) -> Option<String> {
    use std::io::ErrorKind;
    match source.kind() {
        ErrorKind::NotFound if action == "create" => {
            let folder = path.parent().filter(|p| !p.as_os_str().is_empty() && !p.exists())?;
            Some(format!("the folder `{}` does not exist: create it first", folder.display()))
        }
        ErrorKind::NotFound => Some("check the path; it is relative to the current folder".to_owned()),
        ErrorKind::PermissionDenied => Some("check the permissions of the file and its folder".to_owned()),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Some(
            "the disk is full: free some space or choose another output; nothing was left half-written"
                .to_owned(),
        ),
        _ => None,
    }
}

/// A part of a message with what comes before it; empty if the part is.
fn after(before: &str, part: &str) -> String {
    if part.is_empty() { String::new() } else { format!("{before}{part}") }
}

/// candle's message without the backtrace that it appends when `RUST_BACKTRACE` is set.
fn tensor_message(error: &candle_core::Error) -> String {
    match error {
        candle_core::Error::WithBacktrace { inner, .. } => tensor_message(inner),
        candle_core::Error::Context { inner, context } => format!("{context}: {}", tensor_message(inner)),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_name_the_nearest() {
        let error = Error::unknown("option", "max_exmples", ["max_examples", "batch_size"]);
        assert_eq!(error.to_string(), "unknown option `max_exmples`");
        let hint = error.hint().unwrap_or_default();
        assert!(hint.starts_with("did you mean `max_examples`?"), "{hint}");
        assert_eq!(
            did_you_mean("Blocks.3.hook_resid_pre", ["blocks.3.hook_resid_pre"]),
            Some("blocks.3.hook_resid_pre")
        );
        assert_eq!(did_you_mean("zebra", ["blocks.3.hook_resid_pre"]), None);
    }
}
