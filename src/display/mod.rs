//! Every shown value in the forms that it has: text for a terminal, HTML for a notebook, pictures, JSON and others for
//! files.
//!
//! Each form is made when it is asked for, and no sooner: the bitmap of a large tree takes a second. What a face shows at
//! once is a [`Bundle`], whose forms are short.

mod html;
mod meaning;
mod records;
mod text;
mod tokens;
mod values;

use crate::error::{Error, Result};
use crate::files;
use crate::interpret::DefinitionTree;
use crate::plot::{Figure, number};
use base64::Engine;
use serde::Serialize;
use std::io::Write;
use std::path::Path;

/// The most bytes of JSON in a bundle.
const MOST_JSON: usize = 1 << 18;

/// A value that can be shown: in a terminal, a notebook, a picture, a file.
pub trait Shown: std::fmt::Debug {
    /// What it is, in a few words.
    fn title(&self) -> String;

    /// For a terminal, whole.
    fn text(&self) -> String;

    /// For a terminal, as much as fits a screen or two.
    fn brief(&self) -> String {
        self.text()
    }

    /// [`Shown::brief`] with the colours of a terminal, if it has any.
    fn ansi(&self) -> Option<String> {
        None
    }

    /// A piece of HTML that needs nothing else: no script, no files, and its style touches nothing around it. None where
    /// the text says it as well.
    fn html(&self) -> Option<String> {
        None
    }

    /// Writes all that it is as JSON, to be read back.
    ///
    /// # Errors
    /// A value that JSON has not; what the writer returns.
    fn write_json(&self, out: &mut dyn Write) -> Result<()>;

    /// As a picture, if it is one.
    fn figure(&self) -> Option<Figure> {
        None
    }

    /// As a picture among other things: of something large the part that matters most.
    fn preview(&self) -> Option<Figure> {
        self.figure()
    }

    /// As a graph in Graphviz' language, if it is one.
    fn dot(&self) -> Option<String> {
        None
    }

    /// As a table, comma-separated, if it is one.
    ///
    /// # Errors
    /// A text that cannot be written.
    fn csv(&self) -> Result<Option<String>> {
        Ok(None)
    }

    /// All that it is as JSON, to be read back.
    ///
    /// # Errors
    /// A value that JSON has not.
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
/// let mut session = saescope::Session::new(saescope::Progress::default(), |_: &str| ());
/// let bundle = session.eval("load_model(\"demo\").W_E[0]")?.unwrap_or_default();
/// assert!(bundle.text.starts_with("Tensor [192] f32"));
/// assert!(bundle.json.is_some_and(|json| json.contains("\"shape\"")));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Bundle {
    /// For a terminal without colours, and for everything that knows nothing else.
    pub text: String,
    /// For a terminal with colours, where these say something.
    pub ansi: Option<String>,
    /// For a notebook, with the picture in it if there is one; none of what is nothing but a picture, and where the text
    /// says it as well.
    pub html: Option<String>,
    /// The picture.
    pub figure: Option<Figure>,
    /// Whether the value is nothing but its picture, which the text only names.
    pub is_picture: bool,
    /// The value as data, where that is at most 256 KiB; [`save`] writes any.
    pub json: Option<String>,
}

impl Bundle {
    /// The forms of a value.
    ///
    /// # Errors
    /// A picture that cannot be drawn.
    pub fn of(value: &dyn Shown) -> Result<Bundle> {
        let mut json = AtMost { bytes: Vec::new() };
        let whole = value.write_json(&mut json).is_ok();
        let (figure, html) = (value.preview(), value.html());
        let is_picture = figure.is_some() && html.is_none();
        Ok(Bundle {
            text: value.brief(),
            ansi: value.ansi(),
            html: if is_picture { None } else { html::with_picture(figure.as_ref(), html)? },
            is_picture,
            figure,
            json: whole.then(|| String::from_utf8_lossy(&json.bytes).into_owned()),
        })
    }

    /// A text as it is.
    pub fn of_text(text: impl Into<String>) -> Bundle {
        Bundle { text: text.into(), ..Default::default() }
    }

    /// The forms that a notebook can choose from, each under its MIME type: text, and HTML with the picture in it; or, of
    /// what is nothing but a picture, SVG, and PNG (in base64) for where SVG is not trusted. A very long SVG is left out.
    ///
    /// # Errors
    /// A picture that cannot be drawn.
    pub fn forms(&self) -> Result<Vec<(&'static str, String)>> {
        const MOST_SVG: usize = 1 << 20;
        let mut forms = vec![("text/plain", self.text.clone())];
        if let (true, Some(figure)) = (self.is_picture, &self.figure) {
            let svg = figure.svg()?;
            if svg.len() <= MOST_SVG {
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

/// What takes so many bytes and no more.
struct AtMost {
    bytes: Vec<u8>,
}

impl Write for AtMost {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.bytes.len() + bytes.len() > MOST_JSON {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Writes a value to a file, in the form that the extension names: .json, .txt and .html for every value; .svg and .png for
/// what has a picture, .dot for trees, .csv for token lists.
///
/// # Errors
/// An extension that the value has no form for; a file that cannot be written.
pub fn save(value: &dyn Shown, path: &Path) -> Result<()> {
    let bytes = match extension(path).as_str() {
        "json" => value.json()?.into_bytes(),
        "txt" => (value.text() + "\n").into_bytes(),
        "html" => page(&value.title(), &[Part::Value(value)])?.into_bytes(),
        "svg" => figure_of(value, path)?.svg()?.into_bytes(),
        "png" => figure_of(value, path)?.png()?,
        "dot" => value.dot().ok_or_else(|| no_form(value, path))?.into_bytes(),
        "csv" => value.csv()?.ok_or_else(|| no_form(value, path))?.into_bytes(),
        _ => return Err(no_form(value, path)),
    };
    files::write_whole(path, &bytes)
}

/// The extension of a name in lower case, empty if it has none.
fn extension(path: &Path) -> String {
    path.extension().map(|extension| extension.to_string_lossy().to_lowercase()).unwrap_or_default()
}

/// Checks that a name ends in a form that [`save`] knows, before there is a value.
///
/// # Errors
/// Another extension, or none.
#[cfg(feature = "cli")]
pub(crate) fn check_extension(path: &Path) -> Result<()> {
    const FORMS: [&str; 7] = ["json", "txt", "html", "svg", "png", "dot", "csv"];
    if FORMS.contains(&extension(path).as_str()) {
        return Ok(());
    }
    let expected = format!("a name that ends in .{}", FORMS.join(", ."));
    let error = Error::invalid("the output", expected, format!("`{}`", path.display()));
    Err(error.with_hint("the ending says what is written"))
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

/// A whole HTML page, in one file.
///
/// # Errors
/// A picture that cannot be drawn.
pub fn page(title: &str, parts: &[Part]) -> Result<String> {
    html::page(title, parts)
}

/// Writes a whole HTML page to a file.
///
/// # Errors
/// A file that does not end in .html, or that cannot be written; and as [`page`].
pub fn save_page(title: &str, parts: &[Part], path: &Path) -> Result<()> {
    if path.extension().is_none_or(|extension| !extension.eq_ignore_ascii_case("html")) {
        let got = format!("`{}`", path.display());
        return Err(Error::invalid("the file of a page", "a name that ends in .html", got));
    }
    files::write_whole(path, page(title, parts)?.as_bytes())
}

fn figure_of(value: &dyn Shown, path: &Path) -> Result<Figure> {
    value.figure().ok_or_else(|| no_form(value, path))
}

fn no_form(value: &dyn Shown, path: &Path) -> Error {
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
    .with_hint(format!("the extension says what to write: this is {}", value.title()))
}

/// A text inside of HTML.
#[cfg(feature = "cli")]
pub(crate) fn escape(text: &str) -> String {
    html::escape(text)
}

/// A value among other things, as HTML; none where the text says it as well.
///
/// # Errors
/// A picture that cannot be drawn.
pub(crate) fn inline(value: &dyn Shown) -> Result<Option<String>> {
    html::inline(value)
}

/// A text as HTML, in its lines.
pub(crate) fn preformatted(text: &str) -> String {
    html::preformatted(text)
}

/// How many of `n` elements are not among the first `shown`, as HTML; empty if all are.
pub(crate) fn more(n: usize, shown: usize) -> String {
    html::more(n, shown, "elements")
}

/// Parts one below another, as HTML.
///
/// # Errors
/// A picture that cannot be drawn.
pub(crate) fn inline_parts(parts: &[Part]) -> Result<String> {
    html::parts(parts)
}

/// What stands in a table.
pub(crate) enum Cell {
    /// As it is.
    Text(String),
    /// Of about four digits.
    Number(f64),
    /// HTML, such as a picture.
    Html(String),
}

/// A table as HTML, the first of `n` rows.
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
    html::piece(&format!("{}{}", html::grid(&header, &cells, is_number), html::more(n, rows.len(), "rows")))
}

/// Writes what serde makes of a value.
pub(crate) fn to_json(value: &(impl Serialize + ?Sized), mut out: &mut dyn Write) -> Result<()> {
    let written = serde_json::to_writer_pretty(&mut out, value);
    written.map_err(|e| Error::invalid("a value", "one that can be written as JSON", e))?;
    out.write_all(b"\n").map_err(|e| Error::invalid("JSON", "room to write it to", e))
}

/// Reads a tree that [`save`] has written as JSON.
///
/// # Errors
/// A file that is not there, or is no definition tree.
pub fn load_tree(path: &Path) -> Result<DefinitionTree> {
    let bytes = files::read(path)?;
    serde_json::from_slice(&bytes).map_err(|error| {
        Error::malformed(path, format!("not a definition tree: {error}"))
            .with_hint("`tree.save(\"tree.json\")` writes one; a .jsonl file of many is read by `read_trees`")
    })
}
