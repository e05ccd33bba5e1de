//! Values and errors as notebooks show them.

use crate::display::Bundle;
use crate::error::{Error, Result};
use crate::script::Inspection;
use jupyter_protocol::{ErrorOutput, Media, MediaType};
use serde_json::{Map, Value, json};

/// The forms of a value, and metadata with the display size of its picture.
pub(super) fn media(bundle: &Bundle) -> Result<(Media, Map<String, Value>)> {
    let typed = |(mime, form)| match mime {
        "text/plain" => MediaType::Plain(form),
        "text/html" => MediaType::Html(form),
        "image/svg+xml" => MediaType::Svg(form),
        "image/png" => MediaType::Png(form),
        other => MediaType::Other((other.to_owned(), Value::String(form))),
    };
    let forms = bundle.forms()?.into_iter().map(typed).collect();
    let mut metadata = Map::new();
    if let (true, Some(figure)) = (bundle.is_picture, &bundle.figure) {
        // The picture has more pixels than its display size.
        let (width, height) = figure.size();
        metadata.insert("image/png".to_owned(), json!({ "width": width, "height": height }));
    }
    Ok((Media::new(forms), metadata))
}

/// The forms of a value, with JSON for programs.
pub(super) fn data(bundle: &Bundle) -> Result<Media> {
    let (mut media, _) = media(bundle)?;
    let json = bundle.json.as_ref().and_then(|json| serde_json::from_str(json).ok());
    if let Some(json) = json {
        media.content.push(MediaType::Other(("application/json".to_owned(), json)));
    }
    Ok(media)
}

/// The description of a name: `text`, and Markdown too if `found` is help.
pub(super) fn about(found: Option<Inspection>, text: String) -> Media {
    let mut media = Media::new(vec![MediaType::Plain(text)]);
    if let Some(Inspection::Help(help)) = found {
        media.content.push(MediaType::Markdown(help.markdown()));
    }
    media
}

/// An error as a notebook shows it: message, script excerpt and hint, in ANSI colors.
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
