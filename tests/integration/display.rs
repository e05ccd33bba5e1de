//! Values as files and pages: every format, and tokens that would break it.

use saescope::display::{Part, Shown, page, save};
use saescope::interpret::{
    DefinitionTree, LogitLensOptions, Scales, SimilarOptions, TokenListOptions, TreeNode, TreeOptions,
    TreeParams, VectorOptions,
};
use saescope::{
    Error, Model, Progress, Sae, definition_tree, feature_vector, logit_lens, scale_sweep, similar_features,
    token_list,
};
use std::path::Path;

mod bundles;

/// Tokens that are special in a terminal, HTML, SVG or DOT, or that are invisible.
const ODD: [&str; 14] = [
    "\n",
    "\t",
    " ",
    "",
    "<b>&amp;",
    "\"",
    "\\",
    "</svg>",
    "\u{1b}[31m",
    "\u{202e}",
    "\u{0}",
    "日本語",
    "e\u{301}",
    "\u{fffd}🙂",
];

fn odd_tree() -> DefinitionTree {
    let leaf = |(i, token): (usize, &&str)| TreeNode {
        token: (*token).to_owned(),
        token_id: Some(i as u32),
        prob: [0.1, 0.0, 1e-300, 1.0][i % 4],
        cumulative_prob: [0.1, 0.0, 1e-300, 1.0][i % 4],
        null_log_prob: Some([-3.0, -1e300, 0.0, -700.0][i % 4]),
        children: Vec::new(),
    };
    let children = ODD.iter().enumerate().map(leaf).collect();
    let root = TreeNode {
        token: String::new(),
        token_id: None,
        prob: 1.0,
        cumulative_prob: 1.0,
        null_log_prob: Some(0.0),
        children,
    };
    DefinitionTree { params: TreeParams { prompt: "\u{1}<{}> & \"".to_owned(), ..Default::default() }, root }
}

fn small_tree() -> (Model, Sae, DefinitionTree) {
    let model = Model::load("demo").unwrap();
    let sae = Sae::load(("demo", "blocks.0.hook_resid_pre")).unwrap();
    let vector = feature_vector(&model, &sae, 624, &VectorOptions::default()).unwrap();
    let options = TreeOptions { cutoff: 5e-3, null_directions: Some(2), ..Default::default() };
    let tree = definition_tree(&model, &vector, &options, &Progress::default()).unwrap();
    (model, sae, tree)
}

/// Fails unless the tags, entities and characters of a string are those of well-formed XML.
#[track_caller]
pub fn assert_xml(text: &str) {
    let mut open = Vec::new();
    let void = ["meta", "!DOCTYPE", "?xml", "br"];
    for (i, part) in text.split('<').enumerate().skip(1) {
        let (tag, _) = part.split_once('>').unwrap_or_else(|| panic!("a lone `<`, part {i}: {part:.60}"));
        let name = tag.split([' ', '/']).find(|name| !name.is_empty()).unwrap();
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "part {i}: {part:.60}");
        } else if !tag.ends_with('/') && !void.contains(&name) {
            open.push(name.to_owned());
        }
    }
    assert!(open.is_empty(), "{open:?}");
    let allowed = |c: char| c == '\n' || c == '\t' || !c.is_control() && c != '\u{202e}';
    assert!(text.chars().all(allowed), "a control character");
    for entity in text.split('&').skip(1) {
        let name = entity.split(';').next().unwrap();
        assert!(
            ["amp", "lt", "gt", "quot", "nbsp", "apos"].contains(&name) || name.starts_with('#'),
            "&{name:.20}"
        );
    }
}

#[test]
fn every_format_of_a_tree_is_valid_with_odd_tokens() {
    let tree = odd_tree();
    let text = tree.text();
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    assert_eq!(text.lines().count(), 2 + ODD.len());
    assert_xml(&tree.html().unwrap());
    assert_xml(
        &page("<title> & \"", &[Part::Heading("<h>"), Part::Text("a & b"), Part::Value(&tree)]).unwrap(),
    );
    let figure = tree.figure().unwrap();
    assert_xml(&figure.svg().unwrap());
    assert!(figure.png().unwrap().starts_with(b"\x89PNG"));
    let dot = tree.dot().unwrap();
    assert_eq!(dot.matches(" -> ").count(), ODD.len());
    assert!(
        dot.lines().all(|line| line.replace("\\\\", "").replace("\\\"", "").matches('"').count() % 2 == 0)
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tree.json");
    save(&tree, &path).unwrap();
    assert!(DefinitionTree::load(&path).unwrap() == tree, "the tree changes in its file");
}

#[test]
fn the_extension_selects_the_format() {
    let (model, sae, tree) = small_tree();
    let vector = feature_vector(&model, &sae, 624, &VectorOptions::default()).unwrap();
    let list = token_list(&model, &vector, &TokenListOptions { top_k: 5, ..Default::default() }).unwrap();
    let lens = logit_lens(&model, &vector, &LogitLensOptions::default()).unwrap();
    let similar = similar_features(&sae, 624, None, &SimilarOptions { top_k: 5 }).unwrap();
    let options = TreeOptions { cutoff: 0.05, ..Default::default() };
    let scales = Scales::Given(vec![0.5, 1.0]);
    let sweep = scale_sweep(&model, &vector, &scales, &options, &Progress::default()).unwrap();
    let values: [(&dyn Shown, &[&str]); 6] = [
        (&tree, &["json", "svg", "png", "dot", "txt", "html"]),
        (&list, &["json", "svg", "png", "csv", "txt", "html"]),
        (&lens, &["json", "svg", "png", "txt", "html"]),
        (&similar, &["json", "svg", "png", "txt", "html"]),
        (&sweep, &["json", "svg", "png", "txt", "html"]),
        (&vector, &["json", "txt", "html"]),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (value, known) in values {
        for extension in known {
            let path = folder.path().join(format!("value.{}", extension.to_uppercase()));
            save(value, &path).unwrap();
            let bytes = std::fs::read(&path).unwrap();
            match *extension {
                "png" => assert!(bytes.starts_with(b"\x89PNG")),
                "json" => drop(serde_json::from_slice::<serde_json::Value>(&bytes).unwrap()),
                "svg" | "html" => assert_xml(std::str::from_utf8(&bytes).unwrap()),
                _ => assert!(std::str::from_utf8(&bytes).unwrap().lines().count() > 0),
            }
        }
        let error = save(value, &folder.path().join("value.pdf")).unwrap_err();
        let message = error.to_string();
        assert!(
            message.contains("`value.pdf`") && known.iter().all(|e| message.contains(&format!(".{e}"))),
            "{message}"
        );
    }
    assert!(matches!(save(&tree, Path::new("no such folder/tree.json")), Err(Error::File { .. })));
    let path = folder.path().join("other.json");
    std::fs::write(&path, "{\"params\": {}}").unwrap();
    let message = DefinitionTree::load(&path).unwrap_err().to_string();
    assert!(message.contains("other.json") && message.contains("not a definition tree"), "{message}");
}

#[test]
fn a_printed_tree_shows_the_likeliest_branches() {
    let (_, _, tree) = small_tree();
    let text = tree.text();
    assert!(text.starts_with("feature 624 of demo/blocks.0.hook_resid_pre, encoder\n"), "{text}");
    assert!(text.contains("├─ a\n") && text.contains(" ├─ body"), "{text}");
    // A large tree is cut, with a note.
    let mut large = odd_tree();
    large.root.children = (0..500)
        .map(|i| TreeNode {
            token: format!("t{i}"),
            token_id: Some(i),
            prob: 1.0 / f64::from(i + 2),
            cumulative_prob: 1.0 / f64::from(i + 2),
            null_log_prob: None,
            children: Vec::new(),
        })
        .collect();
    let shown = large.to_string();
    assert!(shown.lines().count() < 130 && shown.ends_with("are not shown)"), "{shown}");
    assert_eq!(large.text().lines().count(), 502);
}
