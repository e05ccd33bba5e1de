//! Values as HTML: no scripts, styles for its own class only, colors for light and for dark backgrounds.

use super::{Part, Shown};
use crate::error::Result;
use crate::interpret::{
    DefinitionTree, LogitLens, ScaleSweep, ScoredToken, SimilarFeatures, TreeNode, chain,
};
use crate::label::{number, percent, ratio, spaced_label, visible_line};
use crate::memory;
use crate::plot::Figure;
use std::fmt::Write;

/// The style sheet of every fragment.
const STYLE: &str = "<style>\
.saescope{font-family:ui-sans-serif,system-ui,'DejaVu Sans',sans-serif;font-size:14px;line-height:1.5}\
.saescope details{margin-left:1.1em}.saescope summary{cursor:pointer;margin-left:-1.1em}\
.saescope .leaf{margin-left:0}.saescope .p{display:inline-block;min-width:3.6em;text-align:right;opacity:.6;\
font-size:12px;margin-right:.6em;font-variant-numeric:tabular-nums}\
.saescope .r{color:#d0392b;font-size:12px;margin-left:.6em}.saescope .same{color:inherit;opacity:.5}\
.saescope.saescope table{border-collapse:collapse;font-size:13px;margin:0}\
.saescope.saescope td,.saescope.saescope th{padding:1px 14px 1px 0;text-align:left;border:0;background:none;\
max-width:60em;white-space:pre-wrap;vertical-align:top}.saescope.saescope tr{background:none}\
.saescope.saescope .n{text-align:right;font-variant-numeric:tabular-nums;opacity:.75}\
.saescope code{font-family:ui-monospace,'DejaVu Sans Mono',monospace;font-size:13px;white-space:pre;background:none;color:inherit}\
.saescope .bar{display:inline-block;height:9px;background:#3f51b5;border-radius:1px}\
.saescope .neg{background:#d0392b}.saescope .row{display:flex;flex-wrap:wrap;gap:2.5em}\
.saescope pre{font-size:13px;background:none;color:inherit}\
</style>";

/// The least probability at which a branch is unfolded at first.
const OPEN: f64 = 0.02;

pub(super) fn piece(body: &str) -> String {
    format!("<div class=\"saescope\">{STYLE}{body}</div>")
}

/// Escapes text for use in HTML.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Text as HTML that keeps its line breaks.
pub(crate) fn preformatted(text: &str) -> String {
    piece(&format!("<pre>{}</pre>", escape(text)))
}

/// A table of cells of HTML, without a header row if `header` is empty. `is_number` columns are aligned to the right.
pub(super) fn table(header: &[&str], rows: &[Vec<String>], is_number: impl Fn(usize) -> bool) -> String {
    let class = |i: usize| if is_number(i) { " class=\"n\"" } else { "" };
    let mut table = "<table>".to_owned();
    let mut row = |tag: &str, cells: &mut dyn Iterator<Item = &str>| {
        table += "<tr>";
        for (i, cell) in cells.enumerate() {
            let _ = write!(table, "<{tag}{}>{cell}</{tag}>", class(i));
        }
        table += "</tr>";
    };
    if !header.is_empty() {
        row("th", &mut header.iter().copied());
    }
    for cells in rows {
        row("td", &mut cells.iter().map(String::as_str));
    }
    table + "</table>"
}

/// A line that unfolds to a table of names and values.
pub(super) fn details(line: &str, rows: &[(String, String)]) -> String {
    let rows: Vec<_> = rows.iter().map(|(name, value)| vec![escape(name), escape(value)]).collect();
    let table = table(&[], &rows, |_| false);
    piece(&format!("<details><summary>{}</summary>{table}</details>", escape(line)))
}

/// A table of the lines of `text`, each a name and a value with at least two spaces in between.
pub(super) fn lines(text: &str) -> String {
    let cells = |line: &str| {
        let (name, value) = line.split_once("  ").unwrap_or((line, ""));
        vec![escape(name.trim()), escape(value.trim())]
    };
    piece(&table(&[], &text.lines().map(cells).collect::<Vec<_>>(), |_| false))
}

/// The note below a table that shows `shown` of `n` rows; empty if it shows all.
pub(crate) fn more(n: usize, shown: usize, what: &str) -> String {
    if n <= shown {
        String::new()
    } else {
        format!("<div style=\"opacity:.6\">… {} more {what}</div>", n - shown)
    }
}

/// A tree with branches that fold; only the nodes of `shown`, which is `tree` or a part of it, are listed.
pub(super) fn tree(tree: &DefinitionTree, shown: &DefinitionTree) -> String {
    let mut body = format!(
        "<div><b>{}</b></div><div style=\"opacity:.6\">{} &nbsp; {}</div>",
        escape(&visible_line(&tree.params.vector.title())),
        escape(&visible_line(&tree.params.prompt.replace("{}", "*"))),
        escape(&tree.extent())
    );
    branches(&shown.root, &mut body);
    if shown.len() < tree.len() {
        let _ =
            write!(body, "<div style=\"opacity:.6\">(the {} likeliest of {})</div>", shown.len(), tree.len());
    }
    piece(&body)
}

fn branches(node: &TreeNode, body: &mut String) {
    for child in &node.children {
        let (text, end) = chain(child);
        let ratio = end.log_ratio().map_or(String::new(), |log_ratio| {
            let class = if log_ratio > std::f64::consts::LN_2 { "r" } else { "r same" };
            format!("<span class=\"{class}\">{}</span>", ratio(log_ratio))
        });
        let line =
            format!("<span class=\"p\">{}</span>{}{ratio}", percent(end.cumulative_prob), escape(&text));
        if end.children.is_empty() {
            let _ = write!(body, "<div class=\"leaf\">{line}</div>");
        } else {
            let open = if end.cumulative_prob >= OPEN { " open" } else { "" };
            let _ = write!(body, "<details{open}><summary>{line}</summary>");
            branches(end, body);
            body.push_str("</details>");
        }
    }
}

/// A table of tokens with their ranks and scores.
pub(super) fn tokens(tokens: &[ScoredToken]) -> String {
    piece(&token_table(tokens))
}

fn token_table(tokens: &[ScoredToken]) -> String {
    let rows = tokens.iter().map(|token| {
        (token.rank.to_string(), format!("<code>{}</code>", escape(&spaced_label(&token.token))), token.score)
    });
    bars(["rank", "token", "score"], &rows.collect::<Vec<_>>())
}

/// A table of ranks, names and scores, with a bar for the size of each score.
fn bars([first, second, third]: [&str; 3], rows: &[(String, String, f64)]) -> String {
    let longest = rows.iter().map(|row| row.2.abs()).filter(|x| x.is_finite()).fold(0.0, f64::max);
    let rows = rows.iter().map(|(rank, name, score)| {
        let part = if longest > 0.0 { (score.abs() / longest * 120.0).round() } else { 0.0 };
        let sign = if *score < 0.0 { " neg" } else { "" };
        let bar = format!("<span class=\"bar{sign}\" style=\"width:{part}px\"></span>");
        vec![rank.clone(), name.clone(), number(*score), bar]
    });
    table(&[first, second, third, ""], &rows.collect::<Vec<_>>(), |i| i == 0 || i == 2)
}

pub(super) fn lens(lens: &LogitLens) -> String {
    let facts = format!(
        "<div style=\"opacity:.6\">mean {}, std {}, skewness {}, kurtosis {}</div>",
        number(lens.mean),
        number(lens.std),
        number(lens.skewness),
        number(lens.kurtosis)
    );
    let sides = [("raises", &lens.top), ("lowers", &lens.bottom)];
    let sides = sides.map(|(name, tokens)| format!("<div><b>{name}</b>{}</div>", token_table(tokens)));
    piece(&format!("{facts}<div class=\"row\">{}</div>", sides.concat()))
}

pub(super) fn features(similar: &SimilarFeatures) -> String {
    let rows = similar.features.iter().enumerate();
    let rows = rows.map(|(i, other)| ((i + 1).to_string(), other.feature.to_string(), other.cosine));
    piece(&bars(["", "feature", "cosine"], &rows.collect::<Vec<_>>()))
}

/// The scores of the scales, and their trees side by side.
pub(super) fn sweep(sweep: &ScaleSweep) -> String {
    let mut body = format!("<pre>{}</pre><div class=\"row\">", escape(&sweep.to_string()));
    for (i, tree) in sweep.trees.iter().enumerate() {
        let best = if i == sweep.best { " (best)" } else { "" };
        let _ = write!(body, "<div><b>scale {:.3}{best}</b>", tree.params.vector.scale);
        branches(&tree.root, &mut body);
        body.push_str("</div>");
    }
    piece(&(body + "</div>"))
}

/// The parts of a page as HTML, one below the other.
///
/// # Errors
/// A picture that cannot be drawn.
pub(crate) fn parts(parts: &[Part]) -> Result<String> {
    /// The most bytes for one byte of text: 6 if escaped, twice that for growth, twice again in the finished page.
    const EACH: usize = 24;
    let bytes = parts.iter().map(|part| match part {
        Part::Heading(text) | Part::Text(text) => text.len(),
        Part::Value(_) => 0,
    });
    memory::check("the page", bytes.sum::<usize>().saturating_mul(EACH) as u64)?;
    let mut body = String::new();
    for part in parts {
        // Writing to a string does not fail.
        let _ = match part {
            Part::Heading(heading) => write!(body, "<h2>{}</h2>", escape(heading)),
            Part::Text(text) => write!(body, "<p>{}</p>", escape(text)),
            Part::Value(value) => {
                let html = inline(*value)?.unwrap_or_else(|| preformatted(&value.text()));
                write!(body, "{html}")
            }
        };
    }
    Ok(body)
}

/// Returns a complete HTML page that needs no other files.
///
/// # Errors
/// A picture that cannot be drawn.
pub fn page(title: &str, parts: &[Part]) -> Result<String> {
    Ok(format!(
        "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title><style>\
         body{{font-family:ui-sans-serif,system-ui,'DejaVu Sans',sans-serif;color:#1a1a1a;background:#fff;margin:2em auto;\
         max-width:75em;padding:0 1.5em}}h1{{font-size:1.6em}}h2{{font-size:1.15em;margin-top:2em;border-bottom:1px solid \
         #d9dce1;padding-bottom:.3em}}svg{{display:block}}summary{{cursor:pointer;color:#555}}\
         </style></head><body><h1>{title}</h1>{body}</body></html>\n",
        title = escape(title),
        body = self::parts(parts)?
    ))
}

/// A value as HTML inside other HTML: its picture, if there is one, and its own HTML. `None` if the text says
/// everything.
///
/// # Errors
/// A picture that cannot be drawn.
pub(crate) fn inline(value: &dyn Shown) -> Result<Option<String>> {
    with_picture(value.preview().as_ref(), value.html())
}

/// A picture, with the HTML of the same value folded below it; only the HTML if there is no picture.
pub(super) fn with_picture(figure: Option<&Figure>, html: Option<String>) -> Result<Option<String>> {
    let Some(figure) = figure else { return Ok(html) };
    let svg = figure.svg()?;
    let svg = &svg[svg.find("<svg").unwrap_or_default()..];
    let picture = format!("<div style=\"overflow:auto;max-height:46em\">{svg}</div>");
    Ok(Some(match html {
        Some(html) => format!("{picture}<details><summary>as text</summary>{html}</details>"),
        None => picture,
    }))
}
