//! What can be told to the prompt itself: lines that begin with a colon, and questions.

use super::super::question::question;
use crate::error::{Error, Result};
use std::path::PathBuf;

/// What `:help` says.
pub(super) const ABOUT: &str = "\
help            the functions of scripts, a line each
help NAME       what a function does, or what a variable is; also ?NAME and NAME?
:vars           the variables, their types and values
:time SCRIPT    evaluates a script and says how long it took
:load FILE      evaluates a file
:save FILE      writes the statements so far, those that did not fail, to a file
:reset          forgets all variables, functions and imports
:quit           ends saescope; also quit, exit and Ctrl-D
Tab             completes names, options, keys, names of hooks, models and SAEs, and paths
Enter           evaluates a statement that is whole, else begins a new line; Alt-Enter always begins one
Ctrl-R          looks for an earlier statement
Ctrl-C          stops what is running, or forgets what is being typed";

/// The commands, for completion and for the one that was meant.
pub(super) const NAMES: [&str; 7] = [":help", ":load", ":quit", ":reset", ":save", ":time", ":vars"];

/// What a line tells the prompt.
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

/// Whether a line is one for the prompt: it is whole as it is.
pub(super) fn is_command(line: &str) -> bool {
    matches!(parse(line), Ok(Some(_)) | Err(_))
}

/// What a line tells the prompt; nothing if it is a statement.
pub(super) fn parse(line: &str) -> Result<Option<Command>> {
    let line = line.trim();
    if let Some(name) = question(line) {
        return Ok(Some(Command::Help(Some(name.to_owned()).filter(|name| !name.is_empty()))));
    }
    // What other prompts end with.
    if ["exit", "quit", "exit()", "quit()"].contains(&line) {
        return Ok(Some(Command::Quit));
    }
    if !line.starts_with(':') {
        return Ok(None);
    }
    let (name, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let rest = rest.trim();
    let given = |what: &str| {
        let missing = || Error::invalid(format!("`{name}`"), format!("{what} behind it"), "nothing");
        if rest.is_empty() { Err(missing()) } else { Ok(rest.to_owned()) }
    };
    let alone = |command: Command| {
        let more = || Error::invalid(format!("`{name}`"), "nothing behind it", format!("`{rest}`"));
        if rest.is_empty() { Ok(command) } else { Err(more()) }
    };
    match name {
        ":help" | ":h" => alone(Command::AboutPrompt),
        ":load" => given("a file").map(|path| Command::Load(unquoted(&path))),
        ":quit" | ":q" | ":exit" => alone(Command::Quit),
        ":reset" => alone(Command::Reset),
        ":save" => given("a file").map(|path| Command::Save(unquoted(&path))),
        ":time" => given("a script").map(Command::Time),
        ":vars" => alone(Command::Vars),
        _ => Err(Error::unknown("command", name, NAMES)),
    }
    .map(Some)
}

/// A path with or without quotation marks around it.
fn unquoted(path: &str) -> PathBuf {
    let inside = path.strip_prefix('"').and_then(|path| path.strip_suffix('"'));
    PathBuf::from(inside.unwrap_or(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_told_from_statements() {
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
        assert_eq!(
            parse(":load").unwrap_err().to_string(),
            "`:load`: expected a file behind it, got nothing"
        );
        assert_eq!(parse(":vars x").unwrap_err().to_string(), "`:vars`: expected nothing behind it, got `x`");
    }
}
