//! Tables as text with aligned columns.

use std::fmt;

/// Writes a table, each row on a new, indented line; columns marked in `right` are right-aligned. The titles are the
/// first row.
pub fn write<const N: usize>(
    f: &mut fmt::Formatter<'_>,
    titles: Option<[&str; N]>,
    rows: impl Iterator<Item = [String; N]>,
    right: [bool; N],
) -> fmt::Result {
    let rows: Vec<_> = titles.map(|titles| titles.map(str::to_owned)).into_iter().chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; N] = std::array::from_fn(width);
    for row in &rows {
        let cells = row.iter().zip(widths).zip(right).map(|((cell, width), right)| match right {
            true => format!("{cell:>width$}"),
            false => format!("{cell:<width$}"),
        });
        write!(f, "\n  {}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}
