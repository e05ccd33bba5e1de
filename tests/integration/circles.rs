//! The house: no file imports, however indirectly, a file that imports it. A `mod.rs` is the face of its folder: what it takes
//! from the files in there does not count.

use crate::tidy::{code, sources};
use std::collections::{BTreeMap, BTreeSet};

/// A module's path: `["model", "block"]`.
type Module = Vec<String>;

/// Every module of the crate, with its code: no comments, no tests.
fn modules() -> BTreeMap<Module, String> {
    let module = |(name, text): (String, String)| {
        let path = name.trim_end_matches(".rs").split('/').filter(|part| !["mod", "lib"].contains(part));
        (path.map(str::to_owned).collect(), code(&text))
    };
    sources().into_iter().map(module).collect()
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The paths that a piece of code names from where `text` begins: `a::{b, c::d}` names `a::b` and `a::c::d`.
fn paths(text: &str, before: &[String], found: &mut Vec<Vec<String>>) -> usize {
    let mut path = before.to_vec();
    let mut at = 0;
    loop {
        let rest = &text[at..];
        if let Some(inner) = rest.strip_prefix('{') {
            at += text[at..].len() - inner.len();
            loop {
                at += text[at..].len() - text[at..].trim_start_matches([',', ' ', '\n']).len();
                if at >= text.len() || text[at..].starts_with('}') {
                    return at + 1;
                }
                let read = paths(&text[at..], &path, found);
                at += read.max(1);
            }
        }
        let word: String = rest.chars().take_while(|c| is_word(*c)).collect();
        at += word.len();
        if !word.is_empty() {
            path.push(word);
        }
        if text[at..].starts_with("::") {
            at += 2;
        } else {
            found.push(path);
            // An alias says nothing about where the name comes from.
            let alias = text[at..]
                .strip_prefix(" as ")
                .map(|rest| " as ".len() + rest.find(|c| !is_word(c)).unwrap_or(rest.len()));
            return at + alias.unwrap_or(0);
        }
    }
}

/// The full paths, from the root of the crate, that a module names; in `exported` those that it only hands on.
fn named(
    module: &Module,
    code: &str,
    modules: &BTreeMap<Module, String>,
    exported: bool,
) -> Vec<Vec<String>> {
    let mut named = Vec::new();
    let mut at = 0;
    while let Some(found) = code[at..].find("::") {
        let end = at + found;
        let start = code[..end].rfind(|c| !is_word(c)).map_or(0, |i| i + 1);
        at = end + 2;
        let is_inner = code[..start].ends_with("::");
        let line = code[..start].rfind(['\n', ';']).map_or(0, |i| i + 1);
        let hands_on =
            code[line..start].trim_start().starts_with("pub") && code[line..start].contains(" use ");
        let first = &code[start..end];
        let child = [module.as_slice(), &[first.to_owned()]].concat();
        let is_ours = ["crate", "super", "self"].contains(&first) || modules.contains_key(&child);
        if is_inner || !is_ours || hands_on != exported || first.is_empty() {
            continue;
        }
        let mut found = Vec::new();
        at = start + paths(&code[start..], &[], &mut found).max(1);
        for path in found {
            let mut full = module.clone();
            let mut rest = path.as_slice();
            while let Some((first, inner)) = rest.split_first() {
                match first.as_str() {
                    "crate" => full.clear(),
                    "super" => drop(full.pop()),
                    "self" => {}
                    _ => break,
                }
                rest = inner;
            }
            named.push([full.as_slice(), rest].concat());
        }
    }
    named
}

/// The module in which the thing with this full path is written, past modules that only hand it on.
fn home(path: &[String], modules: &BTreeMap<Module, String>) -> Module {
    let depth = (0..=path.len()).rev().find(|n| modules.contains_key(&path[..*n])).unwrap_or(0);
    let module = path[..depth].to_vec();
    let Some(name) = path.get(depth) else { return module };
    let handed_on = named(&module, &modules[&module], modules, true);
    match handed_on.into_iter().find(|handed| handed.last() == Some(name) && handed[..] != path[..]) {
        Some(handed) => home(&handed, modules),
        None => module,
    }
}

#[test]
fn no_circle_of_files() {
    let modules = modules();
    let imports: BTreeMap<&Module, BTreeSet<Module>> = modules
        .iter()
        .map(|(module, code)| {
            let named = named(module, code, &modules, false);
            let homes = named.iter().map(|path| home(path, &modules));
            (module, homes.filter(|home| !home.starts_with(module)).collect())
        })
        .collect();
    assert!(imports.values().map(BTreeSet::len).sum::<usize>() > 500, "the test sees too few imports");
    let reached = |from: &Module| {
        let mut reached = BTreeSet::new();
        let mut open = vec![from];
        while let Some(module) = open.pop() {
            for next in &imports[module] {
                if reached.insert(next) {
                    open.push(next);
                }
            }
        }
        reached
    };
    let reached: BTreeMap<&Module, _> = modules.keys().map(|module| (module, reached(module))).collect();
    let mut circles = String::new();
    for (module, next) in &imports {
        for next in next.iter().filter(|next| reached[next].contains(module)) {
            circles += &format!("{} imports {}\n", module.join("/"), next.join("/"));
        }
    }
    assert!(circles.is_empty(), "these imports close a circle:\n{circles}");
}
