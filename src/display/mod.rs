//! The forms in which values are shown and saved: text for a terminal, HTML for a notebook, pictures, data for files.
//!
//! A form is made only when it is requested: the bitmap of a large tree takes a second. A front end shows a [`Bundle`],
//! whose forms are short.

/// [`Shown::text`] and [`Shown::write_json`] of a type that says both itself, by `Display` and `Serialize`.
macro_rules! own_text_and_json {
    () => {
        fn text(&self) -> String {
            self.to_string()
        }

        fn write_json(&self, out: &mut dyn std::io::Write) -> crate::error::Result<()> {
            crate::display::to_json(self, out)
        }
    };
}

mod data_files;
mod features;
mod html;
mod page;
mod records;
mod tokens;
mod values;

pub use html::page;
pub use page::{Page, PageItem};

#[cfg(feature = "cli")]
pub(crate) use html::escape;
pub(crate) use html::{inline, more, parts as inline_parts, preformatted};

use crate::error::{Error, Result};
use crate::files;
use crate::label::number;
use crate::plot::Figure;
use base64::Engine;
use serde::Serialize;
use std::io::Write;
use std::path::Path;

/// The largest JSON in a bundle, in bytes.
const MAX_JSON: usize = 1 << 18;

/// A value that can be shown: in a terminal, a notebook, a picture, a file.
pub trait Shown: std::fmt::Debug {
    /// What the value is, in a few words: "the model demo".
    fn title(&self) -> String;

    /// The complete value as text for a terminal.
    fn text(&self) -> String;

    /// The value as text that fits on a screen or two. Default: [`Shown::text`].
    fn brief(&self) -> String {
        self.text()
    }

    /// [`Shown::brief`] with color codes for a terminal. Default: `None`, no colors.
    fn ansi(&self) -> Option<String> {
        None
    }

    /// A self-contained HTML fragment: no scripts, no files, and styles that affect nothing around it. `None` if the
    /// text says everything.
    fn html(&self) -> Option<String> {
        None
    }

    /// Writes the complete value as JSON, so that it can be read back.
    ///
    /// # Errors
    /// A value that JSON cannot represent; an error of the writer.
    fn write_json(&self, out: &mut dyn Write) -> Result<()>;

    /// The value as a picture. Default: `None`, no picture.
    fn figure(&self) -> Option<Figure> {
        None
    }

    /// The picture to show beside other forms: for a large value, only its most important part.
    fn preview(&self) -> Option<Figure> {
        self.figure()
    }

    /// The value as a graph in Graphviz' language, DOT. Default: `None`, not a graph.
    fn dot(&self) -> Option<String> {
        None
    }

    /// The value as comma-separated values. Default: `None`, not a table.
    ///
    /// # Errors
    /// A table that cannot be written as CSV.
    fn csv(&self) -> Result<Option<String>> {
        Ok(None)
    }

    /// Returns the JSON that [`Shown::write_json`] writes.
    ///
    /// # Errors
    /// A value that JSON cannot represent.
    fn json(&self) -> Result<String> {
        let mut bytes = Vec::new();
        self.write_json(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// A value in the forms that notebooks and terminals show: made once, sent anywhere.
///
/// ```
/// # fn main() -> saescope::Result<()> {
/// let mut session = saescope::script::Session::new(saescope::Progress::default(), |_: &str| ());
/// let bundle = session.eval("load_model(\"demo\").W_E[0]")?.unwrap_or_default();
/// assert!(bundle.text.starts_with("Tensor [192] f32"));
/// assert!(bundle.json.is_some_and(|json| json.contains("\"shape\"")));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Bundle {
    /// Text without colors, which every front end can show.
    pub text: String,
    /// Text with color codes for a terminal; `None` if the value does not use colors.
    pub ansi: Option<String>,
    /// HTML for a notebook, picture included. `None` if the value is only a picture, or if `text` already says
    /// everything.
    pub html: Option<String>,
    /// The picture, if there is one: of a large value, only its most important part.
    pub figure: Option<Figure>,
    /// Whether the value is only a picture, so that `text` merely names it.
    pub is_picture: bool,
    /// The value as JSON, if that is at most 256 KiB; [`save`] writes any size.
    pub json: Option<String>,
}

impl Bundle {
    /// Makes the forms of a value.
    ///
    /// # Errors
    /// A picture that cannot be drawn.
    pub fn of(value: &dyn Shown) -> Result<Bundle> {
        let mut json = vec![0; MAX_JSON];
        let mut room = json.as_mut_slice();
        // Fails if there is too little room.
        let is_complete = value.write_json(&mut room).is_ok();
        let unused = room.len();
        json.truncate(MAX_JSON - unused);
        let (figure, html) = (value.preview(), value.html());
        let is_picture = figure.is_some() && html.is_none();
        Ok(Bundle {
            text: value.brief(),
            ansi: value.ansi(),
            html: if is_picture { None } else { html::with_picture(figure.as_ref(), html)? },
            is_picture,
            figure,
            json: is_complete.then(|| String::from_utf8_lossy(&json).into_owned()),
        })
    }

    /// A bundle with only a text.
    pub fn of_text(text: impl Into<String>) -> Bundle {
        Bundle { text: text.into(), ..Default::default() }
    }

    /// The forms that a notebook can choose from, with their MIME types: text and, if there is any, HTML. For a value
    /// that is only a picture: text, SVG (if at most 1 MiB), and PNG in base64 for notebooks that do not trust SVG.
    ///
    /// # Errors
    /// A picture that cannot be drawn.
    pub fn forms(&self) -> Result<Vec<(&'static str, String)>> {
        const MAX_SVG: usize = 1 << 20;
        let mut forms = vec![("text/plain", self.text.clone())];
        if let (true, Some(figure)) = (self.is_picture, &self.figure) {
            let svg = figure.svg()?;
            if svg.len() <= MAX_SVG {
                forms.push(("image/svg+xml", svg));
            }
            let png = base64::engine::general_purpose::STANDARD.encode(figure.png()?);
            forms.push(("image/png", png));
        } else if let Some(html) = &self.html {
            forms.push(("text/html", html.clone()));
        }
        Ok(forms)
    }
}

/// Writes a value to a file; the extension selects the format: .json, .txt and .html for every value, .svg and .png for
/// values with a picture, .dot for trees, .csv for token lists.
///
/// ```
/// # fn main() -> saescope::Result<()> {
/// use saescope::{Model, display};
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("model.html");
/// display::save(&Model::load("demo")?, &path)?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// An extension that does not fit the value; a file that cannot be written.
pub fn save(value: &dyn Shown, path: &Path) -> Result<()> {
    let bytes = match extension(path).as_str() {
        "json" => value.json()?.into_bytes(),
        "txt" => (value.text() + "\n").into_bytes(),
        "html" => page(&value.title(), &[Part::Value(value)])?.into_bytes(),
        "svg" => figure_of(value, path)?.svg()?.into_bytes(),
        "png" => figure_of(value, path)?.png()?,
        "dot" => value.dot().ok_or_else(|| unknown_extension(value, path))?.into_bytes(),
        "csv" => value.csv()?.ok_or_else(|| unknown_extension(value, path))?.into_bytes(),
        _ => return Err(unknown_extension(value, path)),
    };
    files::write_atomic(path, &bytes)
}

/// The extension of a file name in lower case; empty if there is no extension.
fn extension(path: &Path) -> String {
    path.extension().map(|extension| extension.to_string_lossy().to_lowercase()).unwrap_or_default()
}

/// Checks that [`save`] knows the extension, before there is a value to save.
///
/// # Errors
/// An unknown extension, or a name without one.
#[cfg(feature = "cli")]
pub(crate) fn check_extension(path: &Path) -> Result<()> {
    const FORMS: [&str; 7] = ["json", "txt", "html", "svg", "png", "dot", "csv"];
    if FORMS.contains(&extension(path).as_str()) {
        return Ok(());
    }
    let expected = format!("a name that ends in .{}", FORMS.join(", ."));
    let error = Error::invalid("the output", expected, format!("`{}`", path.display()));
    Err(error.with_hint("the extension selects the format"))
}

/// A part of a page.
#[derive(Debug)]
pub enum Part<'a> {
    /// The heading of what follows.
    Heading(&'a str),
    /// A paragraph.
    Text(&'a str),
    /// A value, with its picture if it has one.
    Value(&'a dyn Shown),
}

/// Writes a complete HTML page to a file.
///
/// # Errors
/// A name that does not end in .html, a file that cannot be written, and the errors of [`page`].
pub fn save_page(title: &str, parts: &[Part], path: &Path) -> Result<()> {
    if path.extension().is_none_or(|extension| !extension.eq_ignore_ascii_case("html")) {
        let got = format!("`{}`", path.display());
        return Err(Error::invalid("the file of the page", "a name that ends in .html", got));
    }
    files::write_atomic(path, page(title, parts)?.as_bytes())
}

fn figure_of(value: &dyn Shown, path: &Path) -> Result<Figure> {
    value.figure().ok_or_else(|| unknown_extension(value, path))
}

fn unknown_extension(value: &dyn Shown, path: &Path) -> Error {
    let mut known = vec![".json", ".txt", ".html"];
    if value.figure().is_some() {
        known.extend([".svg", ".png"]);
    }
    if value.dot().is_some() {
        known.push(".dot");
    }
    if value.csv().is_ok_and(|csv| csv.is_some()) {
        known.push(".csv");
    }
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    Error::invalid(
        "the file to save to",
        format!("a name that ends in {}", known.join(", ")),
        format!("`{name}`"),
    )
    .with_hint(format!("the extension selects the format; the value is {}", value.title()))
}

/// A cell of a table.
pub(crate) enum Cell {
    /// Text, shown as it is.
    Text(String),
    /// A number: a whole one in full, others with about four digits.
    Number(f64),
    /// HTML, such as a picture.
    Html(String),
}

/// A table as HTML; `rows` are the first of `n` rows.
pub(crate) fn table(header: &[&str], rows: &[Vec<Cell>], n: usize) -> String {
    let cell = |cell: &Cell| match cell {
        Cell::Text(text) => html::escape(text),
        Cell::Html(html) => html.clone(),
        Cell::Number(x) if x.fract() == 0.0 && x.abs() < 1e15 => x.to_string(),
        Cell::Number(x) => number(*x),
    };
    let is_number = |i: usize| rows.iter().all(|row| matches!(row.get(i), Some(Cell::Number(_))));
    let cells: Vec<Vec<_>> = rows.iter().map(|row| row.iter().map(cell).collect()).collect();
    let header: Vec<_> = header.iter().map(|name| html::escape(name)).collect();
    let header: Vec<_> = header.iter().map(String::as_str).collect();
    html::piece(&format!("{}{}", html::table(&header, &cells, is_number), html::more(n, rows.len(), "rows")))
}

/// The strongest features of a token: `feature at value, …`, with the values as `text` writes them.
fn strongest(features: &[u32], values: &[f32], text: impl Fn(f32) -> String) -> String {
    const SHOWN: usize = 5;
    let mut order: Vec<_> = features.iter().zip(values).collect();
    order.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()));
    let shown = order.iter().take(SHOWN).map(|(feature, value)| format!("{feature} at {}", text(**value)));
    shown.collect::<Vec<_>>().join(", ")
}

/// Writes a value as indented JSON.
pub(crate) fn to_json(value: &(impl Serialize + ?Sized), mut out: &mut dyn Write) -> Result<()> {
    let written = serde_json::to_writer_pretty(&mut out, value);
    written.map_err(Error::failed("write JSON"))?;
    out.write_all(b"\n").map_err(Error::failed("write JSON"))
}
