//! Names from outside that become parts of paths and addresses: any that would lead out of a folder is refused here,
//! before a path is built.

use crate::error::{Error, Result};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// The characters to escape in a part of an address.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The maximum length of a repository's name on the hub.
const MAX_ID: usize = 96;

/// Checks that `name` is a path below its folder; errors call it `what`.
///
/// # Errors
/// `..`, an absolute path, a backslash, a drive letter, a control character, an empty part.
pub(crate) fn check_path(what: &str, name: &str) -> Result<()> {
    let bad_part = |part: &str| part.is_empty() || part == "." || part == "..";
    let bad_char = |c: char| c == '\\' || c.is_control();
    let drive = name.as_bytes().get(1) == Some(&b':');
    if !drive && !name.contains(bad_char) && !name.split('/').any(bad_part) {
        return Ok(());
    }
    let expected = "a path below its folder, without empty parts, `.`, `..`, backslash or drive letter";
    Err(Error::invalid(what, expected, format!("`{}`", name.escape_debug())))
}

/// Whether `id` is a valid repository name: `owner/name`, or an old bare name such as `gpt2`.
pub(super) fn is_repo_id(id: &str) -> bool {
    let part = |part: &str| {
        let known = part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        known && !part.is_empty() && !part.starts_with(['-', '.']) && !part.ends_with(['-', '.'])
    };
    id.len() <= MAX_ID
        && id.split('/').count() <= 2
        && id.split('/').all(part)
        && !id.contains("--")
        && !id.contains("..")
        && !id.ends_with(".git")
}

/// Checks a branch, tag or commit, which becomes a path in the cache.
pub(super) fn check_revision(revision: &str) -> Result<()> {
    check_path("the revision", revision)?;
    if revision.contains(|c: char| c.is_whitespace() || "~^:?*[".contains(c)) {
        let got = format!("`{}`", revision.escape_debug());
        return Err(Error::invalid("the revision", "the name of a branch or tag, or a commit", got));
    }
    Ok(())
}

/// Whether this is the full hash of a commit, as in the name of a snapshot.
pub(super) fn is_commit(text: &str) -> bool {
    is_hex(text, 40)
}

/// Whether this is `length` lower-case hexadecimal digits.
pub(super) fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// Returns the name of a file in the cache from the header with its etag; `None` if it is not a file name.
pub(super) fn etag(header: &str) -> Option<&str> {
    let etag = header.strip_prefix("W/").unwrap_or(header).trim_matches('"');
    let fits = (1..=128).contains(&etag.len())
        && etag.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    fits.then_some(etag)
}

/// Escapes one part of an address.
pub(super) fn escape(part: &str) -> String {
    utf8_percent_encode(part, ESCAPED).to_string()
}

/// Escapes a path in an address, except for its slashes.
pub(super) fn escape_path(path: &str) -> String {
    path.split('/').map(escape).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_out_of_their_folder_are_refused() {
        for good in ["a", "a/b.txt", "a b/ü.json", "..a", "a..", "%2e%2e/a", "layer_0/width_16k/params.npz"]
        {
            assert!(check_path("x", good).is_ok(), "{good}");
        }
        let long = "a/".repeat(2048) + "..";
        for bad in [
            "",
            ".",
            "..",
            "/etc/passwd",
            "a/../../b",
            "a//b",
            "a/",
            "C:\\a",
            "C:a",
            "\\\\?\\C:\\a",
            "a\\..\\b",
        ]
        .into_iter()
        .chain(["a\0b", "a\nb", "../x", "a/..", "./a", "a/./b", "\\\\host\\x", long.as_str()])
        {
            assert!(check_path("x", bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn bad_ids_revisions_and_etags_are_refused() {
        for good in ["gpt2", "google/gemma-2b", "a/b_c.d", "EleutherAI/pythia-70m"] {
            assert!(is_repo_id(good), "{good}");
        }
        let long = "a".repeat(97);
        for bad in
            ["", "/", "a/", "/a", "a/b/c", "../a", "a/..", "a--b/c", ".a", "a/b.git", "a b", "a\\b", "a:b"]
                .into_iter()
                .chain([long.as_str()])
        {
            assert!(!is_repo_id(bad), "{bad}");
        }
        assert!(check_revision("refs/pr/1").is_ok() && check_revision("v1.0").is_ok());
        for bad in ["", "../main", "a b", "/main", "a:b", "a/", "main\n"] {
            assert!(check_revision(bad).is_err(), "{bad:?}");
        }
        assert_eq!(etag("W/\"abc-1\""), Some("abc-1"));
        for bad in ["", "\"\"", "../x", "a/b", "..", "a.b", "\"a b\"", "C:a", "a\\b"] {
            assert_eq!(etag(bad), None, "{bad:?}");
        }
        assert!(is_commit(&"0a".repeat(20)) && !is_commit(&"0A".repeat(20)) && !is_commit("main"));
        assert_eq!(escape_path("a b/ü%2e.txt"), "a%20b/%C3%BC%252e.txt");
    }
}
