//! JSON as Python's `json` writes it, with the extra values NaN, Infinity and -Infinity.

use std::io::{BufRead, Read, Result};

/// JSON bytes with each such word outside of strings replaced by `null`.
pub(super) struct PythonJson<R> {
    bytes: R,
    in_string: bool,
    is_escaped: bool,
    /// The bytes still to be returned for a word that has been read.
    rest: &'static [u8],
}

impl<R: BufRead> PythonJson<R> {
    pub(super) fn new(bytes: R) -> Self {
        PythonJson { bytes, in_string: false, is_escaped: false, rest: &[] }
    }

    /// The next byte; `None` at the end.
    fn advance(&mut self) -> Result<Option<u8>> {
        if let [first, rest @ ..] = self.rest {
            self.rest = rest;
            return Ok(Some(*first));
        }
        let Some(byte) = self.peek()? else { return Ok(None) };
        self.bytes.consume(1);
        if self.in_string {
            self.in_string = byte != b'"' || self.is_escaped;
            self.is_escaped = byte == b'\\' && !self.is_escaped;
            return Ok(Some(byte));
        }
        match byte {
            b'"' => self.in_string = true,
            b'N' => return self.word(b'N', b"aN"),
            b'I' => return self.word(b'I', b"nfinity"),
            // The sign of -Infinity is dropped.
            b'-' if self.peek()? == Some(b'I') => return self.advance(),
            _ => {}
        }
        Ok(Some(byte))
    }

    /// Returns the first byte of `null` if the word continues with `letters`, otherwise the word itself.
    fn word(&mut self, first: u8, letters: &'static [u8]) -> Result<Option<u8>> {
        for (i, letter) in letters.iter().enumerate() {
            if self.peek()? != Some(*letter) {
                self.rest = &letters[..i];
                return Ok(Some(first));
            }
            self.bytes.consume(1);
        }
        self.rest = b"ull";
        Ok(Some(b'n'))
    }

    fn peek(&mut self) -> Result<Option<u8>> {
        Ok(self.bytes.fill_buf()?.first().copied())
    }
}

impl<R: BufRead> Read for PythonJson<R> {
    fn read(&mut self, into: &mut [u8]) -> Result<usize> {
        // One byte at a time, so that the bytes after a value are not consumed.
        let Some(first) = into.first_mut() else { return Ok(0) };
        let Some(byte) = self.advance()? else { return Ok(0) };
        *first = byte;
        Ok(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_outside_of_strings_are_null() {
        for (python, json) in [
            (
                r#"{"a": NaN, "b": -Infinity, "c": [Infinity,NaN]}"#,
                r#"{"a": null, "b": null, "c": [null,null]}"#,
            ),
            (r#"{"NaN": "NaN \" -Infinity \\", "x": NaN}"#, r#"{"NaN": "NaN \" -Infinity \\", "x": null}"#),
            (r#"[-1, -I, Infinit, Na, N]"#, r#"[-1, I, Infinit, Na, N]"#),
            ("Na", "Na"),
        ] {
            let mut read = String::new();
            PythonJson::new(python.as_bytes()).read_to_string(&mut read).unwrap();
            assert_eq!(read, json);
        }
    }
}
