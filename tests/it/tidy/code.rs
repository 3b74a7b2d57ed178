//! Rust, read roughly: enough to see what a file imports and how long its functions are.

use std::ops::Range;

/// The text without comments and literals: blanks in their place, so that lines stay where they are.
pub fn code_only(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let blank = comment(rest).or_else(|| literal(rest));
        // Words are taken whole: the last letter of one does not begin a raw string.
        let length = blank.unwrap_or_else(|| word_length(rest).max(first.len_utf8()));
        let (taken, left) = rest.split_at(length);
        if blank.is_some() {
            code.extend(taken.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
        } else {
            code.push_str(taken);
        }
        rest = left;
    }
    code
}

/// The length of the comment that `rest` begins with.
fn comment(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if !rest.starts_with("/*") {
        return None;
    }
    let mut depth = 0_usize;
    for (at, _) in rest.char_indices() {
        if rest[at..].starts_with("/*") {
            depth += 1;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            if depth == 0 {
                return Some(at + 2);
            }
        }
    }
    Some(rest.len())
}

/// The length of the string or character literal that `rest` begins with.
fn literal(rest: &str) -> Option<usize> {
    let plain = rest.trim_start_matches(['b', 'c']);
    let prefix = rest.len() - plain.len();
    if prefix > 1 {
        return None;
    }
    let length = if let Some(raw) = plain.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        let content = raw[hashes..].strip_prefix('"')?;
        let end = format!("\"{}", "#".repeat(hashes));
        1 + hashes + 1 + content.find(&end).map_or(content.len(), |at| at + end.len())
    } else if let Some(content) = plain.strip_prefix('"') {
        1 + up_to(content, '"')
    } else {
        let content = plain.strip_prefix('\'')?;
        let first = content.chars().next()?;
        // Otherwise it is a lifetime.
        let is_literal = first == '\\' || content[first.len_utf8()..].starts_with('\'');
        1 + is_literal.then(|| up_to(content, '\''))?
    };
    Some(prefix + length)
}

/// The length of what ends with `end`, where a backslash takes away the next character's meaning.
fn up_to(content: &str, end: char) -> usize {
    let mut escaped = false;
    for (at, c) in content.char_indices() {
        if c == end && !escaped {
            return at + c.len_utf8();
        }
        escaped = c == '\\' && !escaped;
    }
    content.len()
}

fn word_length(rest: &str) -> usize {
    rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len())
}

/// Every word of the code and where it begins.
pub fn words(code: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        at += code[at..].find(|c: char| c.is_alphanumeric() || c == '_')?;
        let (from, length) = (at, word_length(&code[at..]));
        at += length;
        Some((from, &code[from..from + length]))
    })
}

/// The number of the line that `at` is in, from 1.
pub fn line(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

/// The top-level modules of the crate that the code names: by `crate::`, by the crate's own name, or by as many `super`s
/// as lead up there from a file `depth` modules below.
pub fn rooms_named(code: &str, depth: usize) -> Vec<(usize, &str)> {
    let inner = inner_modules(code);
    let mut named = Vec::new();
    let mut chain_end = 0;
    for (at, word) in words(code) {
        let path = match word {
            "crate" | "onceward" => code[at + word.len()..].strip_prefix("::"),
            "super" if at >= chain_end => {
                let (supers, path) = supers(&code[at..]);
                chain_end = code.len() - path.len();
                let depth = depth + inner.iter().filter(|module| module.contains(&at)).count();
                (supers == depth).then_some(path)
            }
            _ => None,
        };
        named.extend(path.into_iter().flat_map(first_names).map(|name| (at, name)));
    }
    named
}

/// The paths of modules and of what is in them that the code of a module names, from the crate's root: by `crate::`, or by `super::`.
pub fn paths_named(code: &str, own: &str) -> Vec<String> {
    let mut named = Vec::new();
    let mut chain_end = 0;
    for (at, word) in words(code) {
        let (base, path) = match word {
            "crate" => match code[at + word.len()..].strip_prefix("::") {
                Some(path) => (String::new(), path),
                None => continue,
            },
            "super" if at >= chain_end => {
                let (supers, path) = supers(&code[at..]);
                chain_end = code.len() - path.len();
                let up: Vec<&str> = own.split("::").collect();
                (up[..up.len().saturating_sub(supers)].join("::"), path)
            }
            _ => continue,
        };
        spell_out(&base, path, &mut named);
    }
    named
}

/// Puts together what a path leads to: `a::{b, c::d}` is two.
fn spell_out(base: &str, path: &str, named: &mut Vec<String>) {
    let join = |base: &str, name: &str| if base.is_empty() { name.to_owned() } else { format!("{base}::{name}") };
    if let Some(inside) = path.strip_prefix('{') {
        let group = &inside[..closing(path, 0).saturating_sub(2)];
        let mut depth = 0;
        let parts = group.split(|c| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            c == ',' && depth == 0
        });
        return parts.for_each(|part| spell_out(base, part.trim(), named));
    }
    let name = first_name(path);
    match path[name.len()..].strip_prefix("::") {
        Some(rest) if !name.is_empty() => spell_out(&join(base, name), rest, named),
        _ if name.is_empty() || matches!(name, "self" | "*") => named.push(base.to_owned()),
        _ => named.push(join(base, name)),
    }
}

/// How many `super::` there are, and what comes after them.
fn supers(mut path: &str) -> (usize, &str) {
    let mut supers = 0;
    while let Some(rest) = path.strip_prefix("super::") {
        (supers, path) = (supers + 1, rest);
    }
    (supers, path)
}

/// The first names of a path: one, or several in braces.
fn first_names(path: &str) -> Vec<&str> {
    if !path.starts_with('{') {
        return vec![first_name(path)];
    }
    let group = &path[1..closing(path, 0) - 1];
    let mut depth = 0;
    let parts = group.split(|c| {
        depth += i32::from(c == '{') - i32::from(c == '}');
        c == ',' && depth == 0
    });
    parts.map(|part| first_name(part.trim())).filter(|name| !name.is_empty()).collect()
}

fn first_name(path: &str) -> &str {
    if path.starts_with('*') { "*" } else { &path[..word_length(path)] }
}

/// The modules that are written inside this file, such as `mod tests { … }`.
fn inner_modules(code: &str) -> Vec<Range<usize>> {
    let opening = |at: usize| {
        let name = code[at + "mod".len()..].trim_start();
        let brace = name[word_length(name)..].trim_start();
        brace.starts_with('{').then(|| code.len() - brace.len())
    };
    let opened = words(code).filter(|(_, word)| *word == "mod").filter_map(|(at, _)| opening(at));
    opened.map(|brace| brace..closing(code, brace)).collect()
}

/// The end of the block that the brace at `open` begins.
fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0;
    for (at, c) in code[open..].char_indices() {
        depth += i32::from(c == '{') - i32::from(c == '}');
        if depth == 0 {
            return open + at + 1;
        }
    }
    code.len()
}

/// A function with a body.
#[derive(Debug, PartialEq, Eq)]
pub struct Function<'a> {
    /// Its name.
    pub name: &'a str,
    /// The line that it begins in.
    pub line: usize,
    /// From `fn` to the closing brace.
    pub lines: usize,
}

/// All functions with a body.
pub fn functions(code: &str) -> Vec<Function<'_>> {
    let keywords = words(code).filter(|(_, word)| *word == "fn");
    keywords.filter_map(|(at, _)| function(code, at)).collect()
}

fn function(code: &str, at: usize) -> Option<Function<'_>> {
    let signature = code[at + "fn".len()..].trim_start();
    let name = &signature[..word_length(signature)];
    let begin = code.len() - signature.len();
    let mut depth = 0;
    let body = signature.find(|c| {
        depth += i32::from("([".contains(c)) - i32::from(")]".contains(c));
        depth == 0 && "{;".contains(c)
    })?;
    let has_body = !name.is_empty() && signature[body..].starts_with('{');
    let line_of = |at| line(code, at);
    has_body.then(|| Function {
        name,
        line: line_of(at),
        lines: line_of(closing(code, begin + body)) - line_of(at) + 1,
    })
}

#[test]
fn comments_and_literals_are_no_code() {
    let table = [
        ("a // b\nc", "a     \nc"),
        ("a /* b /* c */ d */ e", "a                   e"),
        (r#"a "b \" // c" d"#, "a             d"),
        (r##"a r#"b " c"# d"##, "a            d"),
        ("a b'x' c\"x\" br\"x\" d", "a                 d"),
        (r"a '\'' 'b' 'é' d", "a              d"),
        ("fn a<'b>(c: &'b str)", "fn a<'b>(c: &'b str)"),
        ("for bar in r#type", "for bar in r#type"),
    ];
    for (text, code) in table {
        assert_eq!(code_only(text), code, "{text}");
    }
}

#[test]
fn rooms_are_found_however_a_path_is_written() {
    let table: [(&str, usize, &[&str]); 9] = [
        ("use crate::store::Lease;", 1, &["store"]),
        ("use crate::{broker::{a, b}, store::{self, c},\n settle};", 1, &["broker", "store", "settle"]),
        ("fn f() -> crate::store::Lease { onceward::app::run() }", 1, &["store", "app"]),
        ("use super::store::Lease;", 1, &["store"]),
        ("use super::store::Lease;", 2, &[]),
        ("use super::super::{store, broker as b};", 2, &["store", "broker"]),
        (
            "mod tests { use super::*; use super::super::store; mod more { super::super::super::settle() } }",
            1,
            &["store", "settle"],
        ),
        ("use super::*;", 1, &["*"]),
        ("pub(crate) fn f() {} pub(super) fn g() {}", 1, &[]),
    ];
    for (code, depth, rooms) in table {
        let named: Vec<_> = rooms_named(code, depth).into_iter().map(|(_, room)| room).collect();
        assert_eq!(named, rooms, "{code}");
    }
}

#[test]
fn functions_are_measured_from_their_name_to_their_end() {
    let code = "trait T {\n fn none(&self);\n}\nconst fn one() {}\nfn five(\n a: [u8; 2],\n) -> fn(u8) {\n {}\n}";
    let measured: Vec<_> = functions(code).into_iter().map(|f| (f.name, f.line, f.lines)).collect();
    assert_eq!(measured, [("one", 4, 1), ("five", 5, 5)]);
}
