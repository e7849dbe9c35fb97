//! The rooms of src: a room imports only from rooms below it in one list, and no files import each
//! other in a circle.
//!
//! Every path in the code counts as an import: in a `use`, also in its groups, and in the middle of
//! a line. Modules that are compiled only for tests do not count.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// The rooms. Each may import from those below it.
const ROOMS: [&str; 17] = [
    "main",
    "cli",
    "run",
    "doctor",
    "delivery",
    "home",
    "edge",
    "updates",
    "echo",
    "bot",
    "status",
    "config",
    "telegram",
    "certificate",
    "system",
    "secret",
    "network",
];
/// Rooms that may import from these alone. A name that ends in a slash is a whole room.
const STRICT: [(&str, &[&str]); 3] = [
    ("echo", &["bot.rs", "telegram/types.rs"]),
    ("system", &["system/", "secret.rs"]),
    ("secret", &[]),
];
/// Rooms that only one other room may import from: the doctor looks at everything.
const CALLERS: [(&str, &str); 1] = [("doctor", "cli")];

/// Files by their path below src.
type Sources = BTreeMap<String, String>;
/// A path in the code, as its names.
type Names = Vec<String>;

fn sources(folder: &Path, below: &str, sources: &mut Sources) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let name = format!("{below}{}", entry.file_name().into_string().unwrap());
        if entry.file_type().unwrap().is_dir() {
            self::sources(&entry.path(), &format!("{name}/"), sources);
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
            sources.insert(name, fs::read_to_string(entry.path()).unwrap());
        }
    }
}

fn project() -> Sources {
    let mut found = Sources::new();
    sources(Path::new("src"), "", &mut found);
    found
}

/// What a file says about others: the paths that it uses, the names that it gives to paths, and its
/// child modules.
#[derive(Default)]
struct Mentions {
    paths: Vec<Names>,
    aliases: BTreeMap<String, Names>,
    children: BTreeSet<String>,
}

impl Mentions {
    fn of(source: &str) -> Self {
        let mut mentions = Self::default();
        mentions.read(source.parse().unwrap());
        mentions
    }

    fn read(&mut self, tokens: TokenStream) {
        let tokens: Vec<_> = tokens.into_iter().collect();
        let mut rest = &tokens[..];
        while let [first, later @ ..] = rest {
            rest = later;
            match first {
                TokenTree::Punct(hash) if hash.as_char() == '#' && is_test_only(rest) => {
                    let end = rest
                        .iter()
                        .skip(1)
                        .position(ends_item)
                        .map_or(rest.len(), |end| end + 2);
                    rest = &rest[end..];
                }
                TokenTree::Group(group) => self.read(group.stream()),
                TokenTree::Ident(word) if word == "use" => {
                    let end = rest
                        .iter()
                        .position(|token| is(token, ';'))
                        .unwrap_or(rest.len());
                    self.imported(&Names::new(), &rest[..end]);
                    rest = &rest[end..];
                }
                TokenTree::Ident(word) if word == "mod" => match rest {
                    [_, TokenTree::Group(body), later @ ..] => {
                        self.paths.extend(
                            Self::of(&body.stream().to_string())
                                .paths
                                .into_iter()
                                .map(from_outside),
                        );
                        rest = later;
                    }
                    _ => self.children.extend(rest.first().map(ToString::to_string)),
                },
                TokenTree::Ident(word) => {
                    let mut path = vec![word.to_string()];
                    let mut length = 0;
                    while let [a, b, TokenTree::Ident(next), ..] = &rest[length..]
                        && is(a, ':')
                        && is(b, ':')
                    {
                        path.push(next.to_string());
                        length += 3;
                    }
                    rest = &rest[length..];
                    if path.len() > 1 {
                        self.paths.push(path);
                    }
                }
                _ => {}
            }
        }
    }

    /// One tree of a `use`: a path, and perhaps a group or another name at its end.
    fn imported(&mut self, before: &Names, tree: &[TokenTree]) {
        let mut path = before.clone();
        let mut alias = None;
        for (place, token) in tree.iter().enumerate() {
            match token {
                TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => {
                    let inner: Vec<_> = group.stream().into_iter().collect();
                    return inner
                        .split(|token| is(token, ','))
                        .for_each(|tree| self.imported(&path, tree));
                }
                TokenTree::Ident(word) if word == "as" => {
                    alias = tree.get(place + 1).map(ToString::to_string);
                    break;
                }
                TokenTree::Ident(word) if word == "self" && !path.is_empty() => {}
                TokenTree::Ident(word) => path.push(word.to_string()),
                _ => {}
            }
        }
        if let Some(name) = alias.or_else(|| path.last().cloned()) {
            self.aliases.insert(name, path.clone());
            self.paths.push(path);
        }
    }
}

/// A path in a module within a file, as the file would write it.
fn from_outside(mut path: Names) -> Names {
    if path[0] == "super" {
        path.remove(0);
        if path.first().is_none_or(|name| name != "super") {
            path.insert(0, "self".into());
        }
    }
    path
}

fn is(token: &TokenTree, character: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == character)
}

/// Whether this is the rest of `#[cfg(test)]`.
fn is_test_only(tokens: &[TokenTree]) -> bool {
    tokens
        .first()
        .is_some_and(|token| token.to_string().replace(' ', "") == "[cfg(test)]")
}

fn ends_item(token: &TokenTree) -> bool {
    is(token, ';')
        || matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace)
}

/// The module that a file is: `edge/slots.rs` is `edge::slots`.
fn module(file: &str) -> Names {
    let path = file.trim_end_matches(".rs").trim_end_matches("/mod");
    path.split('/')
        .filter(|name| !matches!(*name, "lib" | "main"))
        .map(str::to_owned)
        .collect()
}

/// The path from the root of the crate, if it is one of this crate.
fn absolute(file: &str, mentions: &Mentions, path: &[String], depth: usize) -> Option<Names> {
    let mut base = module(file);
    let mut rest = path;
    match rest.first()?.as_str() {
        "crate" | "pihook" => (base, rest) = (Names::new(), &rest[1..]),
        "self" => rest = &rest[1..],
        "super" => {
            while rest.first().is_some_and(|name| name == "super") {
                base.pop();
                rest = &rest[1..];
            }
        }
        name if mentions.children.contains(name) => {}
        name => {
            let aliased = mentions
                .aliases
                .get(name)
                .filter(|aliased| depth > 0 && aliased[..] != path[..1])?;
            base = absolute(file, mentions, aliased, depth - 1)?;
            rest = &rest[1..];
        }
    }
    base.extend(rest.iter().cloned());
    Some(base)
}

/// Which files each file imports from.
fn arrows(sources: &Sources) -> BTreeMap<&str, BTreeSet<&str>> {
    let modules: BTreeMap<_, _> = sources
        .keys()
        .map(|file| (module(file), file.as_str()))
        .collect();
    let owner = |path: &Names| {
        (0..=path.len())
            .rev()
            .find_map(|end| modules.get(&path[..end]).copied())
    };
    let of_file = |file: &str, source: &str| {
        let mentions = Mentions::of(source);
        let paths = mentions
            .paths
            .iter()
            .filter_map(|path| absolute(file, &mentions, path, 4));
        paths
            .filter_map(|path| owner(&path))
            .filter(|other| *other != file)
            .collect()
    };
    sources
        .iter()
        .map(|(file, source)| (file.as_str(), of_file(file, source)))
        .collect()
}

fn room(file: &str) -> &str {
    file.split(['/', '.']).next().unwrap()
}

fn complaints(sources: &Sources) -> Vec<String> {
    let arrows = arrows(sources);
    let mut complaints = Vec::new();
    let place = |file: &str| ROOMS.iter().position(|name| *name == room(file));
    for (file, others) in &arrows {
        if *file == "lib.rs" {
            continue;
        }
        let Some(from) = place(file) else {
            complaints.push(format!("{file} stands in no room that ROOMS names"));
            continue;
        };
        for other in others {
            let strict = STRICT
                .iter()
                .find(|(name, _)| *name == room(file))
                .map(|(_, allowed)| allowed);
            let is_allowed = |allowed: &&str| {
                other == allowed || (allowed.ends_with('/') && other.starts_with(allowed))
            };
            let callers = CALLERS
                .iter()
                .find(|(name, _)| *name == room(other) && *name != room(file));
            if place(other).is_none_or(|to| to < from)
                || strict.is_some_and(|strict| !strict.iter().any(is_allowed))
                || callers.is_some_and(|(_, caller)| *caller != room(file))
            {
                complaints.push(format!("{file} may not know {other}"));
            }
        }
    }
    complaints.extend(arrows.keys().filter_map(|file| circle(&arrows, file)));
    complaints
}

/// The way from a file back to itself, if there is one and the file is the first in it by its name.
fn circle(arrows: &BTreeMap<&str, BTreeSet<&str>>, start: &str) -> Option<String> {
    let mut ways = vec![vec![start]];
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop() {
        for next in arrows.get(way.last()?)? {
            if *next == start {
                return (Some(&start) == way.iter().min())
                    .then(|| format!("{} -> {start} is a circle", way.join(" -> ")));
            }
            if seen.insert(*next) {
                ways.push([&way[..], &[next]].concat());
            }
        }
    }
    None
}

#[test]
fn imports_point_one_way_and_in_no_circle() {
    let found = complaints(&project());
    assert!(found.is_empty(), "{found:#?}");
}

/// A file, a line that it must not have, and the complaint.
const FORBIDDEN: [(&str, &str, &str); 13] = [
    (
        "telegram/client.rs",
        "use crate::updates::retry::Outage;",
        "telegram/client.rs may not know updates/retry.rs",
    ),
    (
        "telegram/client.rs",
        "use super::super::updates::retry;",
        "telegram/client.rs may not know updates/retry.rs",
    ),
    (
        "secret.rs",
        "use crate::{network::Network};",
        "secret.rs may not know network.rs",
    ),
    (
        "system/files.rs",
        "use crate::{secret, network as net};",
        "system/files.rs may not know network.rs",
    ),
    (
        "echo.rs",
        "use crate::{telegram::{types, token::{self}}};",
        "echo.rs may not know telegram/token.rs",
    ),
    (
        "echo.rs",
        "fn f() { crate::config::load(); }",
        "echo.rs may not know config/mod.rs",
    ),
    (
        "config/mod.rs",
        "fn f() { println!(\"{}\", crate::run::run()); }",
        "config/mod.rs may not know run/mod.rs",
    ),
    (
        "run/mod.rs",
        "use crate::doctor;",
        "run/mod.rs may not know doctor/mod.rs",
    ),
    (
        "network.rs",
        "use crate as root; use root::secret::Secret;",
        "network.rs may not know secret.rs",
    ),
    (
        "edge/slots.rs",
        "use crate::edge; type E = edge::accept::Edge;",
        "is a circle",
    ),
    (
        "edge/slots.rs",
        "mod inner { use super::super::accept::Edge; }",
        "is a circle",
    ),
    ("certificate/load.rs", "use super::*;", "is a circle"),
    ("attic.rs", "", "attic.rs stands in no room"),
];

#[test]
fn a_forbidden_import_is_found_however_it_is_written() {
    for (file, line, expected) in FORBIDDEN {
        let mut sources = project();
        let source = sources.entry(file.to_owned()).or_default();
        source.push_str(line);
        let found = complaints(&sources);
        assert!(
            found.iter().any(|complaint| complaint.contains(expected)),
            "{file}: {line}: {found:#?}"
        );
    }
}

/// Another program must see no terminal, and its output must not reach the user: `system::program`
/// does both, so nobody else may start one.
#[test]
fn system_program_alone_starts_other_programs() {
    let starts = |source: &str| {
        let command = ["process", "Command"].map(str::to_owned);
        Mentions::of(source)
            .paths
            .iter()
            .any(|path| path.windows(2).any(|names| *names == command))
    };
    assert!(
        starts("use std::{fs, process::{self, Command as Program}};")
            && starts("fn f() { process::Command::new() }")
    );
    let project = project();
    let files: Vec<_> = project
        .iter()
        .filter(|(_, source)| starts(source))
        .map(|(file, _)| file.as_str())
        .collect();
    // process.rs executes this program again, and no other.
    assert_eq!(files, ["system/process.rs", "system/program.rs"]);
}

#[test]
fn imports_of_test_modules_do_not_count() {
    let mut sources = project();
    let source = sources.get_mut("secret.rs").unwrap();
    source.push_str(
        "#[cfg(test)] mod more { use crate::network::Network; } #[cfg(test)] use crate::run; // crate::run\n",
    );
    assert_eq!(complaints(&sources), [""; 0]);
}
