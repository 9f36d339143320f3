//! The order of the modules as `lib.rs` draws it: a module imports from those below its own line, and nothing imports in
//! a circle. Read off the sources: `use` lines, and paths written out that begin with `crate`, `super`, `self` or the name of a
//! module within.
//!
//! A module's `pub use` of what lies within it is its index, and no import unless the module uses the item itself; a path
//! through an index leads to where the item is. Code of tests is not looked at.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test may panic, and says where")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Every module of the library by its path (`token::cache`), with its text.
type Sources = BTreeMap<String, String>;
/// Who imports from whom.
type Imports = BTreeMap<String, BTreeSet<String>>;

#[test]
fn modules_import_from_those_below_them() {
    let layers = drawn(include_str!("../src/lib.rs"));
    assert_eq!(layers, drawn(include_str!("../docs/design.md")), "lib.rs and docs/design.md draw the same");
    let folders = of_folders(&imports(&sources()));
    assert_eq!(rising(&folders, &layers), Vec::<String>::new());
    let below_value = BTreeSet::from(["secret".to_owned()]);
    assert!(folders["value"].is_subset(&below_value), "value imports {:?}", folders["value"]);
}

#[test]
fn no_modules_import_in_a_circle() {
    let imports = imports(&sources());
    assert_eq!(circles(&imports), Vec::<Vec<String>>::new());
    assert_eq!(circles(&of_folders(&imports)), Vec::<Vec<String>>::new());
}

#[test]
fn a_circle_and_a_rising_import_are_found() {
    let sources: Sources = [
        ("low", "pub mod a;\npub mod b;\npub use a::Item;\npub struct Own;"),
        ("low::a", "use super::b::{self, Other as O};\nuse super::Own;"),
        ("low::b", "#[cfg(test)]\nmod tests {\n    use crate::high::Third;\n}\n// crate::high::Third\nfn f() {}"),
        ("high", "use crate::low::{Item, b::{Other}};"),
    ]
    .map(|(name, text)| (name.to_owned(), without_tests(text)))
    .into();
    let layers = [vec!["high".to_owned()], vec!["low".to_owned()]];
    let found = imports(&sources);
    assert_eq!(found["high"], ["low::a", "low::b"].map(str::to_owned).into());
    assert_eq!(found["low::a"], ["low", "low::b"].map(str::to_owned).into());
    assert!(circles(&found).is_empty() && rising(&of_folders(&found), &layers).is_empty());
    for (module, import) in [
        ("low::b", "use super::Item;"),
        ("low::b", "fn f() { super::a::g() }"),
        ("low", "fn f(item: a::Item) {}"),
        ("low::b", "use crate::{\n    high::Third,\n};"),
    ] {
        let mut sources = sources.clone();
        sources.get_mut(module).unwrap().push_str(import);
        assert_eq!(circles(&imports(&sources)).len(), 1, "{import}");
    }
    let mut sources = sources;
    sources.get_mut("low::b").unwrap().push_str("use crate::high;");
    assert_eq!(rising(&of_folders(&imports(&sources)), &layers), ["low imports high"]);
    let named = |text: &str| drawn(&format!("x\n//! ```layers\n{text}//! ```\n"));
    assert_eq!(named("//! a b\n//! c\n"), [vec!["a".to_owned(), "b".to_owned()], vec!["c".to_owned()]]);
}

/// The modules of each line between ` ```layers ` and ` ``` `.
fn drawn(page: &str) -> Vec<Vec<String>> {
    let lines = page.lines().map(|line| line.trim_start_matches("//!").trim());
    let lines = lines.skip_while(|line| *line != "```layers").skip(1).take_while(|line| *line != "```");
    lines.map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

/// What imports from a module that does not lie below it, or is not drawn.
fn rising(imports: &Imports, layers: &[Vec<String>]) -> Vec<String> {
    let height = |name: &String| layers.iter().rev().position(|layer| layer.contains(name));
    let mut found = Vec::new();
    for (from, targets) in imports {
        if height(from).is_none() {
            found.push(format!("{from} is not drawn"));
        }
        found.extend(targets.iter().filter(|to| height(to) >= height(from)).map(|to| format!("{from} imports {to}")));
    }
    found
}

fn of_folders(imports: &Imports) -> Imports {
    let folder = |name: &str| name.split("::").next().unwrap_or_default().to_owned();
    let mut folders = Imports::new();
    for (from, targets) in imports {
        let own = folders.entry(folder(from)).or_default();
        own.extend(targets.iter().map(|to| folder(to)).filter(|to| *to != folder(from)));
    }
    folders
}

/// Groups of modules each of which imports, by whatever way, from every other.
fn circles(imports: &Imports) -> Vec<Vec<String>> {
    let reached = |from: &String| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(targets) = next.pop().map(|name| imports.get(name)) {
            next.extend(targets.into_iter().flatten().filter(|to| seen.insert((*to).clone())));
        }
        seen
    };
    let reach: BTreeMap<&String, BTreeSet<String>> = imports.keys().map(|name| (name, reached(name))).collect();
    let mut groups = BTreeSet::new();
    for (name, seen) in reach.iter().filter(|(name, seen)| seen.contains(**name)) {
        let group: Vec<String> = seen.iter().filter(|other| reach[other].contains(*name)).cloned().collect();
        groups.insert(group);
    }
    groups.into_iter().collect()
}

fn sources() -> Sources {
    let mut sources = Sources::new();
    read(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")), "", &mut sources);
    assert!(sources.len() > 100, "the sources are found");
    sources
}

fn read(folder: &Path, prefix: &str, sources: &mut Sources) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let name = if prefix.is_empty() { stem.clone() } else { format!("{prefix}::{stem}") };
        if path.is_dir() {
            read(&path, &name, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !is_of_tests(&stem) {
            let name = if stem == "mod" { prefix.to_owned() } else { name };
            if !matches!(name.as_str(), "lib" | "main") {
                sources.insert(name, without_tests(&fs::read_to_string(&path).unwrap()));
            }
        }
    }
}

fn is_of_tests(stem: &str) -> bool {
    matches!(stem, "tests" | "testing" | "model") || stem.ends_with("_tests")
}

/// The text without comments and without items under `#[cfg(test)]`, which end where their indentation returns.
fn without_tests(text: &str) -> String {
    let mut kept = String::new();
    let mut lines = text.lines().map(|line| line.split("//").next().unwrap_or_default());
    while let Some(line) = lines.next() {
        if !line.trim_start().starts_with("#[cfg(test)]") {
            kept.push_str(line);
            kept.push('\n');
            continue;
        }
        let indentation = line.len() - line.trim_start().len();
        let mut open = false;
        for line in lines.by_ref() {
            let outside = line.len() - line.trim_start().len() <= indentation;
            let ends = line.trim_end().ends_with([';', '}', ',']);
            if outside && ends && (!open || line.trim_start().starts_with('}')) {
                break;
            }
            open |= line.contains('{');
        }
    }
    kept
}

fn imports(sources: &Sources) -> Imports {
    let texts: BTreeMap<&String, _> = sources.iter().map(|(name, text)| (name, uses(text))).collect();
    let mut indices = BTreeMap::new();
    for (name, (uses, _)) in &texts {
        for (_, path) in uses.iter().filter(|(public, _)| *public) {
            if let (Some((target, Some(item))), name) = (absolute(sources, name, path), (*name).clone()) {
                indices.insert((name, item), target);
            }
        }
    }
    let followed = |from: &String, path: &str| {
        let (mut module, item) = absolute(sources, from, path)?;
        while let Some(inner) = item.as_ref().and_then(|item| indices.get(&(module.clone(), item.clone()))) {
            module.clone_from(inner);
        }
        (module != *from).then_some(module)
    };
    let mut imports = Imports::new();
    for (name, (uses, rest)) in &texts {
        let within = format!("{name}::");
        let own = imports.entry((*name).clone()).or_default();
        for (public, path) in uses {
            let item = path.rsplit("::").next().unwrap_or_default();
            let of_word = |letter: char| letter.is_alphanumeric() || letter == '_';
            let only_index = *public && !rest.split(|letter| !of_word(letter)).any(|word| word == item);
            own.extend(followed(name, path).filter(|target| !(only_index && target.starts_with(&within))));
        }
        own.extend(written_out(sources, name, rest).iter().filter_map(|path| followed(name, path)));
    }
    imports
}

/// The paths of all `use` lines and whether they are public, and the text without those lines.
fn uses(text: &str) -> (Vec<(bool, String)>, String) {
    let (mut found, mut rest) = (Vec::new(), String::new());
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let begin = match line.trim_start().split_once("use ") {
            Some((before @ ("" | "pub " | "pub(super) " | "pub(crate) "), begin)) => Some((!before.is_empty(), begin)),
            _ => None,
        };
        let Some((public, begin)) = begin else {
            // A declaration of a module uses nothing of it.
            if line.trim_end().ends_with(';') && line.split_whitespace().rev().nth(1) == Some("mod") {
                continue;
            }
            rest.push_str(line);
            rest.push('\n');
            continue;
        };
        let mut tree = begin.to_owned();
        while !tree.contains(';') {
            tree.push_str(lines.next().expect("a `use` that ends"));
        }
        let (tree, behind) = tree.split_once(';').unwrap();
        rest.push_str(behind);
        rest.push('\n');
        found.extend(expanded(tree).into_iter().map(|path| (public, path)));
    }
    (found, rest)
}

/// The single paths of a `use` tree, without `as` and `self`.
fn expanded(tree: &str) -> Vec<String> {
    let Some((before, inner)) = tree.split_once('{') else {
        let path = tree.split(" as ").next().unwrap_or_default().trim();
        return vec![path.trim_end_matches("::self").to_owned()];
    };
    let inner = inner.trim_end().strip_suffix('}').unwrap_or(inner);
    let (mut parts, mut depth) = (vec![String::new()], 0);
    for letter in inner.chars() {
        depth += i32::from(letter == '{') - i32::from(letter == '}');
        match letter {
            ',' if depth == 0 => parts.push(String::new()),
            other => parts.last_mut().unwrap().push(other),
        }
    }
    let parts = parts.iter().map(|part| part.trim()).filter(|part| !part.is_empty());
    parts.flat_map(|part| expanded(&format!("{}{part}", before.trim()))).collect()
}

/// Paths in the code that lead out of the module: from `crate`, `super`, `self`, or into a module within.
fn written_out(sources: &Sources, name: &str, text: &str) -> Vec<String> {
    let of_path = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | ':');
    let paths = text.split(|letter| !of_path(letter)).filter(|path| path.contains("::"));
    let leads = |path: &&str| {
        let first = path.split("::").next().unwrap_or_default();
        matches!(first, "crate" | "super" | "self") || sources.contains_key(&format!("{name}::{first}"))
    };
    paths.filter(leads).map(str::to_owned).collect()
}

/// The module in which a path ends, and the item's name if it names one. `None` for a path into another crate.
fn absolute(sources: &Sources, from: &str, path: &str) -> Option<(String, Option<String>)> {
    let mut parts: Vec<&str> = path.split("::").collect();
    let mut base: Vec<&str> = from.split("::").collect();
    match *parts.first()? {
        "crate" => base.clear(),
        "super" | "self" => {}
        first if sources.contains_key(&format!("{from}::{first}")) => parts.insert(0, "self"),
        _ => return None,
    }
    for part in &parts {
        match *part {
            "super" => drop(base.pop()),
            "crate" | "self" => {}
            part => base.push(part),
        }
    }
    let known = (1..=base.len()).rev().find(|length| sources.contains_key(&base[..*length].join("::")))?;
    Some((base[..known].join("::"), base.get(known).map(|item| (*item).to_owned())))
}
