//! The line editor: history, completion, colors, and when Enter ends a statement.

use super::super::engine::Engine;
use super::super::terminal::{in_color, to_stderr};
use super::commands;
use crate::script::{Completeness, PieceKind};
use reedline::{
    ColumnarMenu, Completer, CompletionResult, EditCommand, Emacs, FileBackedHistory, Highlighter, KeyCode,
    KeyModifiers, MenuBuilder, PromptEditMode, PromptHistorySearch, PromptHistorySearchStatus, Reedline,
    ReedlineEvent, ReedlineMenu, Span, StyledText, Suggestion, ValidationResult, Validator,
    default_emacs_keybindings,
};
use reedline::{DefaultHinter, Prompt as ReedlinePrompt};
use std::borrow::Cow;
use std::path::PathBuf;

/// The maximum number of statements in the history.
const KEPT: usize = 10_000;
/// The name of the completion menu.
const MENU: &str = "completions";

/// Creates an editor that asks the session for completions, colors and completeness.
pub(super) fn new(engine: &Engine) -> Reedline {
    let mut keys = default_emacs_keybindings();
    let complete = vec![ReedlineEvent::Menu(MENU.to_owned()), ReedlineEvent::MenuNext];
    keys.add_binding(KeyModifiers::NONE, KeyCode::Tab, ReedlineEvent::UntilFound(complete));
    keys.add_binding(KeyModifiers::SHIFT, KeyCode::BackTab, ReedlineEvent::MenuPrevious);
    let new_line = ReedlineEvent::Edit(vec![EditCommand::InsertNewline]);
    keys.add_binding(KeyModifiers::ALT, KeyCode::Enter, new_line);
    let plain = nu_ansi_term::Style::new();
    let faint = plain.fg(nu_ansi_term::Color::DarkGray);
    let menu = ColumnarMenu::default()
        .with_name(MENU)
        .with_marker("> ")
        .with_columns(4)
        .with_column_padding(2)
        .with_text_style(plain)
        .with_match_text_style(plain.bold())
        .with_selected_text_style(plain.reverse())
        .with_selected_match_text_style(plain.bold().reverse())
        .with_description_text_style(faint);
    let mut editor = Reedline::create()
        .with_edit_mode(Box::new(Emacs::new(keys)))
        .with_completer(Box::new(Session { engine: engine.clone() }))
        .with_highlighter(Box::new(Session { engine: engine.clone() }))
        .with_validator(Box::new(Session { engine: engine.clone() }))
        .with_menu(ReedlineMenu::EngineCompleter(Box::new(menu)))
        .with_hinter(Box::new(DefaultHinter::default().with_style(faint)))
        .with_quick_completions(true)
        .with_partial_completions(true)
        .with_ansi_colors(in_color(&std::io::stdout()))
        .use_bracketed_paste(true);
    match history() {
        Ok(history) => editor = editor.with_history(Box::new(history)),
        Err(error) => to_stderr(&format!("warning: cannot keep the history: {error}")),
    }
    editor
}

/// The statements of earlier sessions, in the user's data folder.
fn history() -> Result<FileBackedHistory, String> {
    let folder = dirs::data_dir().ok_or("the user has no data folder")?.join("saescope");
    std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let path: PathBuf = folder.join("history.txt");
    FileBackedHistory::with_file(KEPT, path.clone()).map_err(|e| format!("{}: {e}", path.display()))
}

/// The session as the editor's completer, highlighter and validator.
struct Session {
    engine: Engine,
}

impl Completer for Session {
    fn complete(&mut self, line: &str, cursor: usize) -> CompletionResult {
        let before = line.get(..cursor).unwrap_or(line);
        if before.starts_with(':') && !before.contains(' ') {
            let span = Span::new(0, before.len());
            let commands = commands::NAMES.iter().filter(|name| name.starts_with(before));
            let suggestion = |name: &&str| Suggestion {
                value: (*name).to_owned(),
                span,
                append_whitespace: true,
                ..Default::default()
            };
            return CompletionResult::fresh(commands.map(suggestion).collect::<Vec<_>>());
        }
        // The argument of a command is a file or a script.
        let (offset, script) = match line.strip_prefix(':') {
            Some(_) => line.find(' ').map_or((line.len(), ""), |space| (space + 1, &line[space + 1..])),
            None => (0, line),
        };
        let is_file = line.starts_with(":load ") || line.starts_with(":save ");
        // A path completes as it does in a string.
        let quote = if is_file && !script.starts_with('"') { "\"" } else { "" };
        let (text, at) = (format!("{quote}{script}"), cursor.saturating_sub(offset) + quote.len());
        let found = self.engine.ask(move |session| session.complete(&text, at)).unwrap_or_default();
        let in_line = |at: usize| (at + offset).saturating_sub(quote.len()).min(line.len());
        let span = Span::new(in_line(found.start), in_line(found.end).max(in_line(found.start)));
        let suggestions: Vec<_> = found
            .completions
            .into_iter()
            .map(|completion| Suggestion {
                value: completion.text,
                description: Some(completion.detail).filter(|detail| !detail.is_empty()),
                span,
                ..Default::default()
            })
            .collect();
        CompletionResult::fresh(suggestions)
    }
}

impl Highlighter for Session {
    fn highlight(&self, line: &str, _cursor: usize) -> StyledText {
        use nu_ansi_term::{Color, Style};
        let text = line.to_owned();
        let pieces = match commands::is_command(line) {
            true => Vec::new(),
            false => self.engine.ask(move |session| session.pieces(&text)).unwrap_or_default(),
        };
        let mut styled = StyledText::new();
        let mut end = 0;
        for piece in pieces {
            let style = match piece.kind {
                PieceKind::Keyword => Style::new().fg(Color::Magenta),
                PieceKind::Number => Style::new().fg(Color::Cyan),
                PieceKind::String => Style::new().fg(Color::Green),
                PieceKind::Comment => Style::new().fg(Color::DarkGray),
                PieceKind::Call => Style::new().fg(Color::Blue),
                PieceKind::Invalid => Style::new().fg(Color::Red),
                PieceKind::Name | PieceKind::Open | PieceKind::Close | PieceKind::Symbol => Style::new(),
            };
            styled.push((Style::new(), line[end..piece.range.start].to_owned()));
            styled.push((style, line[piece.range.clone()].to_owned()));
            end = piece.range.end;
        }
        styled.push((Style::new(), line[end..].to_owned()));
        styled
    }
}

impl Validator for Session {
    fn validate(&self, line: &str) -> ValidationResult {
        if commands::is_command(line) {
            return ValidationResult::Complete;
        }
        let text = line.to_owned();
        match self.engine.ask(move |session| session.completeness(&text)) {
            Ok(Completeness::Incomplete { .. }) => ValidationResult::Incomplete,
            _ => ValidationResult::Complete,
        }
    }
}

/// The prompt before a statement.
pub(super) struct Prompt;

impl ReedlinePrompt for Prompt {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_right(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }

    fn render_prompt_indicator(&self, _mode: PromptEditMode) -> Cow<'_, str> {
        Cow::Borrowed("> ")
    }

    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        Cow::Borrowed("| ")
    }

    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        let failing = if let PromptHistorySearchStatus::Failing = search.status { "failed " } else { "" };
        Cow::Owned(format!("({failing}search: {}) ", search.term))
    }
}
