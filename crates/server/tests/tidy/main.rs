//! The rules that can be checked on the source tree itself.
//!
//! Each finding names the file, the line and the cure.

mod shape;
mod words;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// The root of the repository.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors()
        .nth(2)
        .expect("crates/server lies two levels below the root")
        .to_owned()
}

/// All files below `folder` whose names end so, without those in `target`.
fn files(folder: &Path, ending: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the checkout") {
            let path = entry.expect("an entry of the checkout").path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if path.is_dir() && name != "target" && !name.starts_with('.') {
                folders.push(path);
            } else if name.ends_with(ending) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root())
        .unwrap_or(path)
        .display()
        .to_string()
}

fn assert_none(findings: Vec<String>) {
    assert!(findings.is_empty(), "\n{}\n", findings.join("\n"));
}

#[test]
fn every_file_begins_with_its_purpose() {
    let heads = files(&root(), ".rs")
        .into_iter()
        .filter(|path| !read(path).starts_with("//!"));
    let findings = heads.map(|path| {
        format!(
            "{}:1: open with `//!` and what this file is, in a sentence",
            shown(&path)
        )
    });
    assert_none(findings.collect());
}

#[test]
fn nothing_is_unfinished() {
    // Put together here, so that the test does not find them in this file.
    let marks: Vec<String> = ["todo", "unimplemented", "dbg"]
        .map(|mark| format!("{mark}!("))
        .into_iter()
        .chain(["FIX".to_owned() + "ME"])
        .collect();
    let mut findings = Vec::new();
    for path in files(&root(), ".rs") {
        for (number, line) in read(&path).lines().enumerate() {
            if let Some(mark) = marks.iter().find(|mark| line.contains(mark.as_str())) {
                let place = format!("{}:{}", shown(&path), number + 1);
                findings.push(format!(
                    "{place}: {mark} must be built, or refused with a clear error"
                ));
            }
        }
    }
    assert_none(findings);
}

#[test]
fn unsafe_is_in_the_ring_only() {
    let mut findings = Vec::new();
    for path in files(&root().join("crates"), "Cargo.toml") {
        let manifest = read(&path);
        if !manifest.contains("name = \"headwater-ring\"")
            && !manifest.contains("[lints]\nworkspace = true")
        {
            findings.push(format!(
                "{}: add `[lints] workspace = true`, which forbids unsafe",
                shown(&path)
            ));
        }
    }
    assert_none(findings);
}

/// The rooms of `crates/engine/src/db`, from the outermost in: a room names only rooms of later rows.
const ROOMS: &[&[&str]] = &[
    &["recovery"],
    &["statements", "shutdown"],
    &["ddl"],
    &["connectors", "lifecycle", "query"],
    &["dead_letters", "checkpoint", "backfill"],
    &["engine"],
    &["catalog"],
    &["options", "sink_task"],
];

/// What each file or folder of `crates/engine/src` does not name, and what to do if it does.
fn boundaries() -> Vec<(String, Vec<String>, &'static str)> {
    let sql = ["crate::sql", "super::sql"].map(str::to_owned).to_vec();
    let mut boundaries = vec![("dataflow".to_owned(), sql, "move this to sql/plan")];
    for below in [
        "dataflow", "durable", "ingest", "record", "sql", "store", "worker",
    ] {
        let db = vec!["crate::db".to_owned()];
        boundaries.push((below.to_owned(), db, "pass what it needs as an argument"));
    }
    for (row, rooms) in ROOMS.iter().enumerate() {
        for room in *rooms {
            let others = ROOMS[..=row].iter().copied().flatten();
            let others = others.filter(|other| *other != room);
            let named = others.flat_map(|it| [format!("db::{it}"), format!("super::{it}")]);
            let cure = "move it further out: the head of db.rs draws the rooms";
            boundaries.push((format!("db/{room}"), named.collect(), cure));
        }
    }
    boundaries
}

#[test]
fn rooms_name_only_what_is_below_them() {
    let mut findings = Vec::new();
    let engine = root().join("crates/engine/src");
    let sources = files(&engine, ".rs");
    for (room, unknown, cure) in boundaries() {
        let (file, folder) = (engine.join(format!("{room}.rs")), engine.join(&room));
        let inside: Vec<_> = sources
            .iter()
            .filter(|path| **path == file || path.starts_with(&folder))
            .collect();
        assert!(!inside.is_empty(), "{room} is a file or folder");
        for path in inside {
            for (number, line) in read(path).lines().enumerate() {
                if let Some(name) = unknown.iter().find(|it| line.contains(it.as_str())) {
                    let place = format!("{}:{}", shown(path), number + 1);
                    findings.push(format!("{place}: {room} does not name {name}; {cure}"));
                }
            }
        }
    }
    assert_none(findings);
}

#[test]
fn the_maps_name_what_exists() {
    let sources: Vec<String> = files(&root().join("crates"), ".rs")
        .iter()
        .map(|path| read(path))
        .collect();
    let mut findings = Vec::new();
    for name in ["ARCHITECTURE.md", "CONTRIBUTING.md"] {
        let path = root().join(name);
        for (number, line) in read(&path).lines().enumerate() {
            for word in backticked(line) {
                if !exists(&word, &sources) {
                    let place = format!("{name}:{}", number + 1);
                    findings.push(format!(
                        "{place}: `{word}` is neither a path nor a type of the tree"
                    ));
                }
            }
        }
    }
    assert_none(findings);
}

/// Words in backticks that look like a path or a type.
fn backticked(line: &str) -> BTreeSet<String> {
    let words = line.split('`').skip(1).step_by(2);
    let is_path = |word: &str| {
        !word.contains(' ')
            && !word.starts_with('/')
            && (word.ends_with('/')
                || word.contains('/')
                || word.ends_with(".rs")
                || word.ends_with(".md"))
    };
    let is_type = |word: &str| {
        word.len() > 3
            && word.starts_with(char::is_uppercase)
            && word.chars().any(char::is_lowercase)
            && word.chars().all(char::is_alphanumeric)
    };
    words
        .filter(|word| is_path(word) || is_type(word))
        .map(str::to_owned)
        .collect()
}

fn exists(word: &str, sources: &[String]) -> bool {
    if word.contains('/') || word.contains('.') {
        // As ARCHITECTURE.md writes them: a crate stands for its sources.
        let of_crate = ["engine", "connect"].into_iter().find_map(|name| {
            let path = word.strip_prefix(name)?.strip_prefix('/')?;
            Some(root().join(format!("crates/{name}/src")).join(path))
        });
        let engine = root().join("crates/engine/src").join(word);
        let paths = [Some(root().join(word)), Some(engine), of_crate];
        return paths.into_iter().flatten().any(|path| path.exists());
    }
    let declared = ["struct", "enum", "trait", "type"].map(|kind| format!("{kind} {word}"));
    sources.iter().any(|source| {
        declared.iter().any(|declaration| {
            source.match_indices(declaration).any(|(at, found)| {
                !source[at + found.len()..].starts_with(|next: char| next.is_alphanumeric())
            })
        })
    })
}
