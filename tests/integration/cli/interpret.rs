//! `saescope tree` and `saescope tokens`.

use super::{saescope, text};
use std::path::Path;

/// The standard output of a command that must succeed.
#[track_caller]
fn printed(folder: &Path, line: &str) -> String {
    let output = saescope(folder, &line.split(' ').collect::<Vec<_>>());
    assert_eq!(output.status.code(), Some(0), "{line}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// The standard error of a command that must fail with `code`.
#[track_caller]
fn refused(folder: &Path, line: &str, code: i32) -> String {
    let output = saescope(folder, &line.split(' ').collect::<Vec<_>>());
    assert_eq!(output.status.code(), Some(code), "{line}: {}", text(&output.stdout));
    text(&output.stderr)
}

const DEMO: &str = "--model demo --sae demo --sae-id blocks.0.hook_resid_pre";

#[test]
fn a_tree_is_printed_as_text_and_saved_by_extension() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let tree = format!("tree {DEMO} --feature 624 --cutoff 1e-2");
    let shown = printed(here, &tree);
    assert!(
        shown.contains("feature 624 of demo/blocks.0.hook_resid_pre, encoder") && shown.contains("body of"),
        "{shown}"
    );
    for (name, start) in [("t.json", "{"), ("t.svg", "<"), ("t.dot", "digraph"), ("t.html", "<!")] {
        let said = printed(here, &format!("{tree} --output {name}"));
        assert!(said.contains(name), "{said}");
        let written = std::fs::read_to_string(here.join(name)).unwrap();
        assert!(written.to_lowercase().starts_with(start), "{name}: {written:.50}");
    }
    let stderr = refused(here, &format!("{tree} --output t.xyz"), 1);
    assert!(stderr.contains(".svg"), "{stderr}");
}

#[test]
fn every_option_of_a_tree_is_a_flag() {
    let folder = tempfile::tempdir().unwrap();
    let line = format!(
        "tree {DEMO} --feature 687 --weights encoder=0.5,decoder=0.5 --pca-weights -0.1,0.2 --use-token-centroid true \
         --scale 1.5 --renormalize --prompt meaning --top-k 3 --cutoff 0.01 --max-depth 4 --stop . --stop , --prepend-bos \
         --steer blocks.3.hook_resid_post=2 --inject-at blocks.1.hook_resid_pre --inject add --placeholder dog \
         --null-directions 2 --seed 3 --max-memory 100 --output t.json"
    );
    printed(folder.path(), &line);
    let tree = saescope::interpret::DefinitionTree::load(&folder.path().join("t.json")).unwrap();
    let params = &tree.params;
    assert_eq!(params.vector.pca_weights, [-0.1, 0.2]);
    assert_eq!((params.top_k, params.max_depth, params.seed, params.vector.scale), (3, 4, Some(3), 1.5));
    assert_eq!(params.stop, [".", ","]);
    assert!(tree.depth() <= 4 && params.prompt.starts_with("The meaning") && params.steer.is_some());
}

#[test]
fn tokens_are_printed_as_a_table_or_saved() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = format!("tokens {DEMO} --feature 624 --top-k 3");
    let shown = printed(folder.path(), &tokens);
    assert!(shown.contains("1  \" body\"") && shown.lines().count() == 5, "{shown}");
    let words = printed(
        folder.path(),
        &format!("{tokens} --method centered_cosine --filter word_like --order farthest"),
    );
    assert!(words.contains("farthest tokens by centered_cosine"), "{words}");
    printed(folder.path(), &format!("{tokens} --output list.csv"));
    let csv = std::fs::read_to_string(folder.path().join("list.csv")).unwrap();
    assert!(csv.starts_with("rank,token,token_id,score\n1, body,"), "{csv}");
}

#[test]
fn invalid_flag_values_name_the_valid_ones() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let stderr = refused(here, &format!("tokens {DEMO} --feature 624 --method rato"), 2);
    assert!(stderr.contains("ratio, centered_cosine"), "{stderr}");
    let stderr = refused(here, &format!("tree {DEMO} --feature 624 --weights encodr"), 2);
    assert!(stderr.contains("`encoder`, `decoder`"), "{stderr}");
    let stderr = refused(here, &format!("tree {DEMO} --feature 5000"), 1);
    assert!(stderr.contains("0 to 2047"), "{stderr}");
    let stderr = refused(here, &format!("tree {DEMO} --feature 624 --cutoff 0"), 1);
    assert!(stderr.contains("`cutoff`"), "{stderr}");
}

#[test]
fn several_features_go_to_one_file_and_several_scales_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let trees = |features: &str, more: &str| format!("tree {DEMO} --feature {features} --cutoff 1e-2 {more}");
    let said = printed(here, &trees("624,5..7", "--output trees.jsonl --batch-size 2"));
    assert!(said.starts_with("trees     3\n"), "{said}");
    let features: Vec<_> = saescope::read_trees(&here.join("trees.jsonl"))
        .unwrap()
        .map(|tree| tree.unwrap().params.vector.feature)
        .collect();
    assert_eq!(features, [Some(624), Some(5), Some(6)]);
    let said = printed(here, &trees("624,7", "--output trees.jsonl"));
    assert!(said.starts_with("trees     1 (1 more from an earlier run)\n"), "{said}");
    let stderr = refused(here, &trees("1,2", "--top-k 1"), 1);
    assert!(stderr.contains("--output trees.jsonl"), "{stderr}");
    let said = printed(here, &trees("624", "--scales 1,2 --output best.svg"));
    assert!(said.contains("self-similarity") && here.join("best.svg").is_file(), "{said}");
}
