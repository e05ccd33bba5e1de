//! Commands to the prompt itself: lines that start with a colon, and questions.

use super::super::question::question;
use crate::error::{Error, Result};
use std::path::PathBuf;

/// The text of `:help`.
pub(super) const ABOUT: &str = "\
help            lists the script functions
help NAME       describes a function or a variable; also ?NAME and NAME?
:vars           lists the variables, their types and values
:time SCRIPT    evaluates a script and prints the time it took
:load FILE      evaluates a file
:save FILE      writes the statements so far to a file, without those that failed
:reset          deletes all variables, functions and imports
:quit           ends saescope; also quit, exit and Ctrl-D
Tab             completes names, options, keys, paths, and the names of hooks, models and SAEs
Enter           evaluates a complete statement, else begins a new line; Alt-Enter always begins one
Ctrl-R          searches the earlier statements
Ctrl-C          stops what is running, or discards what is being typed";

/// The commands, for completion and hints.
pub(super) const NAMES: [&str; 7] = [":help", ":load", ":quit", ":reset", ":save", ":time", ":vars"];

/// A command to the prompt.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command {
    AboutPrompt,
    Help(Option<String>),
    Load(PathBuf),
    Quit,
    Reset,
    Save(PathBuf),
    Time(String),
    Vars,
}

/// Whether a line is a command, valid or not. A command is always complete.
pub(super) fn is_command(line: &str) -> bool {
    matches!(parse(line), Ok(Some(_)) | Err(_))
}

/// Parses a line. `None` if it is a statement.
pub(super) fn parse(line: &str) -> Result<Option<Command>> {
    let line = line.trim();
    if let Some(name) = question(line) {
        return Ok(Some(Command::Help(Some(name.to_owned()).filter(|name| !name.is_empty()))));
    }
    // The words that end other prompts.
    if ["exit", "quit", "exit()", "quit()"].contains(&line) {
        return Ok(Some(Command::Quit));
    }
    if !line.starts_with(':') {
        return Ok(None);
    }
    let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    let argument = |what: &str| {
        let missing = || Error::invalid(format!("`{name}`"), format!("{what} after it"), "nothing");
        if rest.is_empty() { Err(missing()) } else { Ok(rest.to_owned()) }
    };
    let no_argument = |command: Command| {
        let more = || Error::invalid(format!("`{name}`"), "nothing after it", format!("`{rest}`"));
        if rest.is_empty() { Ok(command) } else { Err(more()) }
    };
    match name {
        ":help" | ":h" => no_argument(Command::AboutPrompt),
        ":load" => argument("a file").map(|path| Command::Load(unquoted(&path))),
        ":quit" | ":q" | ":exit" => no_argument(Command::Quit),
        ":reset" => no_argument(Command::Reset),
        ":save" => argument("a file").map(|path| Command::Save(unquoted(&path))),
        ":time" => argument("a script").map(Command::Time),
        ":vars" => no_argument(Command::Vars),
        _ => Err(Error::unknown("command", name, NAMES)),
    }
    .map(Some)
}

/// Removes quotation marks around a path.
fn unquoted(path: &str) -> PathBuf {
    let inside = path.strip_prefix('"').and_then(|path| path.strip_suffix('"'));
    PathBuf::from(inside.unwrap_or(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_distinguished_from_statements() {
        let help = |name: &str| Command::Help(Some(name.to_owned()));
        let cases = [
            ("help", Some(Command::Help(None))),
            ("?load_sae", Some(help("load_sae"))),
            ("help(\"load_sae\")", None),
            ("quit", Some(Command::Quit)),
            ("exit()", Some(Command::Quit)),
            ("exit(1)", None),
            (":vars", Some(Command::Vars)),
            (":q", Some(Command::Quit)),
            (":time 1 + 1", Some(Command::Time("1 + 1".to_owned()))),
            (":load \"a b.rhai\"", Some(Command::Load("a b.rhai".into()))),
            (":save x.rhai", Some(Command::Save("x.rhai".into()))),
            ("1 + 1", None),
        ];
        for (line, expected) in cases {
            assert_eq!(parse(line).unwrap(), expected, "{line}");
        }
        assert_eq!(
            parse(":var").unwrap_err().hint().unwrap(),
            "did you mean `:vars`? known commands: `:help`, `:load`, `:quit`, `:reset`, `:save`, `:time`, `:vars`"
        );
        assert_eq!(parse(":load").unwrap_err().to_string(), "`:load`: expected a file after it, got nothing");
        assert_eq!(parse(":vars x").unwrap_err().to_string(), "`:vars`: expected nothing after it, got `x`");
    }
}
