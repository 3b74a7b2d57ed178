//! Files that import one another in a circle can't be read by themselves: there are none.

use std::collections::{BTreeMap, BTreeSet};

use super::{Source, code};

/// Of each module, those that its file names: by `crate::` or by `super::`, as far as there is a file of that name.
fn imports(sources: &[Source]) -> BTreeMap<String, BTreeSet<String>> {
    let modules: BTreeSet<String> = sources.iter().filter_map(|source| Some(source.modules()?.join("::"))).collect();
    let file_of = |path: &str| {
        let mut path = path;
        while !modules.contains(path) {
            path = path.rsplit_once("::")?.0;
        }
        Some(path.to_owned())
    };
    let mut all = BTreeMap::new();
    for source in sources {
        let Some(own) = source.modules().map(|modules| modules.join("::")) else { continue };
        // What tests import is no matter of the program.
        let text = code::code_only(source.text.split("#[cfg(test)]").next().unwrap_or_default());
        let named = code::paths_named(&text, &own).into_iter().filter_map(|path| file_of(&path));
        // A room is one with its parts.
        let others = named.filter(|named| *named != own && !is_part(named, &own) && !is_part(&own, named));
        all.insert(own.clone(), others.collect());
    }
    all
}

fn is_part(inner: &str, outer: &str) -> bool {
    inner.strip_prefix(outer).is_some_and(|rest| rest.starts_with("::"))
}

/// The shortest circle through each module, if there is one.
fn circles(imports: &BTreeMap<String, BTreeSet<String>>) -> BTreeSet<Vec<String>> {
    imports.keys().filter_map(|start| circle_through(imports, start)).collect()
}

fn circle_through(imports: &BTreeMap<String, BTreeSet<String>>, start: &str) -> Option<Vec<String>> {
    let mut ways = vec![vec![start.to_owned()]];
    let mut seen = BTreeSet::new();
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for way in ways {
            for next in imports.get(way.last()?).into_iter().flatten() {
                if next == start {
                    // The same circle is found from each of its files.
                    let mut circle = way;
                    circle.sort();
                    return Some(circle);
                }
                if seen.insert(next.clone()) {
                    longer.push([way.as_slice(), std::slice::from_ref(next)].concat());
                }
            }
        }
        ways = longer;
    }
    None
}

#[test]
fn no_files_import_one_another_in_a_circle() {
    let found = circles(&imports(&super::sources()));
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_circle_is_found_whatever_leads_around_it() {
    let source = |path: &str, code: &str| Source { path: path.into(), text: code.into() };
    let sources = [
        source("src/a.rs", "use crate::b::c::Thing;"),
        source("src/b/mod.rs", "mod c;\nmod d;"),
        source("src/b/c.rs", "use super::d::{More, Less};"),
        source("src/b/d.rs", "use crate::{clock, a::Thing};\n#[cfg(test)]\nmod tests { use crate::e; }"),
        source("src/e.rs", "use super::a; // use crate::b;"),
        source("src/clock.rs", ""),
    ];
    let around = ["a", "b::c", "b::d"].map(String::from).to_vec();
    assert_eq!(circles(&imports(&sources)), BTreeSet::from([around]));
}
