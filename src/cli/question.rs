//! Questions at the prompt or in a cell: `?name`, `name?`, `help name` or `help`.

/// The name that the input asks about, empty for plain `help`. `None` if the input is not a question.
pub(super) fn question(text: &str) -> Option<&str> {
    let text = text.trim();
    let is_name = |name: &str| name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '.');
    let marked = text.strip_prefix('?').or_else(|| text.strip_suffix('?'));
    let asked = || text.strip_prefix("help").filter(|rest| rest.is_empty() || rest.starts_with(' '));
    marked.or_else(asked).map(str::trim).filter(|name| is_name(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_distinguished_from_statements() {
        let questions = [
            ("help", ""),
            ("?", ""),
            ("help load_sae", "load_sae"),
            ("?load_sae", "load_sae"),
            (" load_sae ? ", "load_sae"),
            ("?model.W_E", "model.W_E"),
        ];
        for (text, name) in questions {
            assert_eq!(question(text), Some(name), "{text}");
        }
        for text in ["help(\"load_sae\")", "help + 1", "helper", "x ?? 1", "let a = b ? c", "1 + 1", ""] {
            assert_eq!(question(text), None, "{text}");
        }
    }
}
