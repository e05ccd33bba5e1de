//! The history of executed cells, for front ends that let the user browse it.

use jupyter_protocol::{HistoryEntry, HistoryReply, HistoryRequest};
use std::collections::VecDeque;

/// The maximum number of cells kept.
const KEPT: usize = 10_000;
/// The maximum length of a cell's output in bytes.
const LONGEST: usize = 10_000;

/// The cells of this session, which has number 0. Earlier sessions are not kept.
#[derive(Default)]
pub(super) struct History {
    cells: VecDeque<Cell>,
}

struct Cell {
    number: usize,
    input: String,
    output: String,
}

impl History {
    /// Adds a cell with the text of its value.
    pub(super) fn push(&mut self, number: usize, input: &str, output: Option<&str>) {
        let output = output.unwrap_or_default();
        let output = output[..output.floor_char_boundary(LONGEST)].to_owned();
        self.cells.push_back(Cell { number, input: input.to_owned(), output });
        if self.cells.len() > KEPT {
            self.cells.pop_front();
        }
    }

    /// Answers a front end's request.
    pub(super) fn reply(&self, request: &HistoryRequest) -> HistoryReply {
        let count = |n: i32| usize::try_from(n).unwrap_or(0);
        let (found, output) = match request {
            HistoryRequest::Range { session, start, stop, output, .. } => {
                let stop = if *stop <= 0 { usize::MAX } else { count(*stop) };
                let is_ours = session.is_none_or(|session| session == 0);
                let inside = |cell: &&Cell| is_ours && (count(*start)..stop).contains(&cell.number);
                (self.cells.iter().filter(inside).collect(), *output)
            }
            HistoryRequest::Tail { n, output, .. } => (last(count(*n), self.cells.iter().collect()), *output),
            HistoryRequest::Search { pattern, unique, output, n, .. } => {
                let pattern = glob::Pattern::new(pattern).unwrap_or_default();
                let mut found: Vec<_> =
                    self.cells.iter().filter(|cell| pattern.matches(&cell.input)).collect();
                if *unique {
                    let all = found.clone();
                    let mut i = 0;
                    // Of equal inputs, keep the last.
                    found.retain(|cell| {
                        i += 1;
                        all[i..].iter().all(|later| later.input != cell.input)
                    });
                }
                (if *n > 0 { last(count(*n), found) } else { found }, *output)
            }
        };
        let entry = |cell: &&Cell| match output {
            true => HistoryEntry::InputOutput(0, cell.number, (cell.input.clone(), cell.output.clone())),
            false => HistoryEntry::Input(0, cell.number, cell.input.clone()),
        };
        HistoryReply::new(found.iter().map(entry).collect())
    }
}

/// The last `n` cells.
fn last(n: usize, mut cells: Vec<&Cell>) -> Vec<&Cell> {
    cells.split_off(cells.len().saturating_sub(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_found_by_number_from_the_end_and_by_pattern() {
        let mut history = History::default();
        for (i, input) in ["let a = 1;", "a + 1", "load_model(\"demo\")", "a + 1"].iter().enumerate() {
            history.push(i + 1, input, Some("x"));
        }
        let numbers = |request: HistoryRequest| -> Vec<usize> {
            let number = |entry: &HistoryEntry| match entry {
                HistoryEntry::Input(_, number, _) | HistoryEntry::InputOutput(_, number, _) => *number,
            };
            history.reply(&request).history.iter().map(number).collect()
        };
        let range =
            |session, start, stop| HistoryRequest::Range { session, start, stop, output: true, raw: true };
        assert_eq!(numbers(range(None, 2, 4)), [2, 3]);
        assert_eq!(numbers(range(Some(0), 1, 0)), [1, 2, 3, 4]);
        assert_eq!(numbers(range(Some(7), 1, 9)), [0usize; 0]);
        assert_eq!(numbers(HistoryRequest::Tail { n: 2, output: false, raw: true }), [3, 4]);
        assert_eq!(numbers(HistoryRequest::Tail { n: -1, output: false, raw: true }), [0usize; 0]);
        let search = |pattern: &str, unique, n| {
            let pattern = pattern.to_owned();
            HistoryRequest::Search { pattern, unique, output: false, raw: true, n }
        };
        assert_eq!(numbers(search("a*", false, 0)), [2, 4]);
        assert_eq!(numbers(search("a*", true, 0)), [4]);
        assert_eq!(numbers(search("*", false, 1)), [4]);
        assert_eq!(numbers(search("[", false, 1)), [0usize; 0]);
    }
}
