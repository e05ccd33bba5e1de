//! Values and errors as notebooks show them.

use crate::display::Bundle;
use crate::error::{Error, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jupyter_protocol::{ErrorOutput, Media, MediaType};
use serde_json::{Map, Value, json};

/// The longest SVG that a page is given; of a longer one the PNG is enough.
const MOST_SVG: usize = 1 << 20;

/// The richest forms of a value, and a text for front ends that know no other. Of a value that is a picture: SVG, and
/// PNG for where SVG is not trusted. HTML has its picture in it.
pub(super) fn media(bundle: &Bundle) -> Result<(Media, Map<String, Value>)> {
    let mut forms = vec![MediaType::Plain(bundle.text.clone())];
    let mut metadata = Map::new();
    if let (true, Some(figure)) = (bundle.is_picture, &bundle.figure) {
        let svg = figure.svg()?;
        if svg.len() <= MOST_SVG {
            forms.push(MediaType::Svg(svg));
        }
        forms.push(MediaType::Png(STANDARD.encode(figure.png()?)));
        // It has more pixels than it is to take.
        let (width, height) = figure.size();
        metadata.insert("image/png".to_owned(), json!({ "width": width, "height": height }));
    } else if let Some(html) = &bundle.html {
        forms.push(MediaType::Html(html.clone()));
    }
    Ok((Media::new(forms), metadata))
}

/// The same for a program: with the value as data.
pub(super) fn data(bundle: &Bundle) -> Result<Media> {
    let (mut media, _) = media(bundle)?;
    let json = bundle.json.as_ref().and_then(|json| serde_json::from_str(json).ok());
    if let Some(json) = json {
        media.content.push(MediaType::Other(("application/json".to_owned(), json)));
    }
    Ok(media)
}

/// A text in Markdown, and as it is.
pub(super) fn markdown(text: String) -> Media {
    Media::new(vec![MediaType::Plain(text.clone()), MediaType::Markdown(text)])
}

/// An error as a notebook shows it: what, where, and what to do, in a terminal's colours.
pub(super) fn error_output(error: &Error) -> ErrorOutput {
    let (name, value) = if error.is_interrupted() {
        ("Interrupted", "the cell was stopped".to_owned())
    } else {
        ("Error", error.to_string())
    };
    let mut traceback = vec![format!("\u{1b}[1;31merror:\u{1b}[0m {value}")];
    traceback.extend(error.excerpt().into_iter().flat_map(str::lines).map(str::to_owned));
    traceback.extend(error.hint().map(|hint| format!("\u{1b}[1;36mhint:\u{1b}[0m {hint}")));
    ErrorOutput { ename: name.to_owned(), evalue: value, traceback }
}
