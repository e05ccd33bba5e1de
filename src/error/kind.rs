//! What callers branch on: the kinds of errors, as questions to an [`Error`].

use super::Error;

/// The kinds of errors that callers tell apart.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Any error that the others do not cover.
    #[default]
    Other,
    /// See [`Error::is_not_found`].
    NotFound,
    /// See [`Error::is_offline`].
    Offline,
    /// See [`Error::is_invalid_option`].
    InvalidOption,
}

impl Error {
    /// Returns the kind of the error; for an error in a script, that of its cause.
    pub(crate) fn kind(&self) -> ErrorKind {
        match self {
            Error::NotFound { .. } => ErrorKind::NotFound,
            Error::File { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                ErrorKind::NotFound
            }
            Error::Offline { .. } => ErrorKind::Offline,
            Error::Invalid { .. } | Error::Unknown { kind: "option", .. } => ErrorKind::InvalidOption,
            Error::Unknown { .. } => ErrorKind::NotFound,
            Error::Script { kind, .. } => *kind,
            _ => ErrorKind::Other,
        }
    }

    /// Whether something of the given name does not exist: a file, a model, a repository or a revision on the hub, a
    /// hook, a column. Also for an error in a script, if a function of this crate failed with it.
    pub fn is_not_found(&self) -> bool {
        self.kind() == ErrorKind::NotFound
    }

    /// Whether something could not be downloaded: the hub cannot be reached or does not answer, or `HF_HUB_OFFLINE` is
    /// set. Also for an error in a script, if a function of this crate failed with it.
    pub fn is_offline(&self) -> bool {
        self.kind() == ErrorKind::Offline
    }

    /// Whether an option, or another value that a function was given, is not one that it takes. Also for an error in a
    /// script, if a function of this crate failed with it.
    pub fn is_invalid_option(&self) -> bool {
        self.kind() == ErrorKind::InvalidOption
    }

    /// Whether the user stopped the call, as opposed to a failure.
    pub fn is_interrupted(&self) -> bool {
        matches!(self, Error::Interrupted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn each_error_answers_one_question_at_most() {
        let file = |kind: std::io::ErrorKind| Error::file("open", Path::new("x"))(kind.into());
        let script =
            |kind| Error::Script { message: String::new(), excerpt: String::new(), hint: None, kind };
        let offline = || Error::Offline { message: String::new(), hint: String::new() };
        // Each with its answers: not found, offline, invalid option, interrupted.
        let answers = [
            (Error::not_found("there is no file `x`", "check the name"), [true, false, false, false]),
            (Error::unknown("hook", "x", ["y"]), [true, false, false, false]),
            (file(std::io::ErrorKind::NotFound), [true, false, false, false]),
            (file(std::io::ErrorKind::PermissionDenied), [false; 4]),
            (offline(), [false, true, false, false]),
            (Error::unknown("option", "x", ["y"]), [false, false, true, false]),
            (Error::invalid("`top_k`", "at least 1", 0), [false, false, true, false]),
            (Error::Interrupted, [false, false, false, true]),
            (Error::mismatch("two shapes", "give one"), [false; 4]),
            (Error::failed("start a thread")("no memory"), [false; 4]),
            (script(ErrorKind::Other), [false; 4]),
            (script(ErrorKind::Offline), [false, true, false, false]),
        ];
        for (error, expected) in answers {
            let is =
                [error.is_not_found(), error.is_offline(), error.is_invalid_option(), error.is_interrupted()];
            assert_eq!(is, expected, "{error:?}");
        }
    }
}
