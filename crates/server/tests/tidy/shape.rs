//! The shape of the code: how long a function and a file may be, and that a name means one type.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::{assert_none, files, read, root, shown};

/// The longest function of the product, lines.
const FUNCTION_LINES_MAX: usize = 60;

/// The longest file of the product, lines.
const FILE_LINES_MAX: usize = 500;

/// The shortest doc comment that says more than the name, words.
const DOC_WORDS_MIN: usize = 4;

/// Names that several crates have on purpose: each crate has its error, and both the connector's
/// `Source` (with its settings) and the program's are what their users call them.
const NAMES_OF_SEVERAL: [&str; 4] = ["Error", "Result", "Source", "SourceConfig"];

/// The files of the product with their text up to the tests within.
fn product() -> Vec<(PathBuf, String)> {
    let sources = files(&root().join("crates"), ".rs");
    let in_src = sources.into_iter().filter(|path| {
        let path = shown(path);
        path.contains("/src/") && !path.contains("/tests/") && !path.ends_with("tests.rs")
    });
    in_src
        .map(|path| {
            let text = read(&path);
            let tests = text.find("\n#[cfg(test)]\nmod tests {");
            let product = text[..tests.unwrap_or(text.len())].to_owned();
            (path, product)
        })
        .collect()
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// What stands behind the modifiers of a declaration, if it is one of `kind`: `fn`, `struct`, ...
fn declared<'a>(line: &'a str, kind: &str) -> Option<&'a str> {
    let mut words = line.trim_start();
    loop {
        let (word, rest) = words.split_once(' ')?;
        if word == kind {
            let end = rest.find(|next: char| !next.is_alphanumeric() && next != '_');
            return Some(&rest[..end.unwrap_or(rest.len())]);
        }
        let modifier = matches!(word, "const" | "async" | "unsafe");
        if !modifier && !word.starts_with("pub") && !word.ends_with(')') {
            return None;
        }
        words = rest;
    }
}

#[test]
fn functions_and_files_are_read_in_one_sitting() {
    let mut findings = Vec::new();
    for (path, text) in product() {
        let lines: Vec<&str> = text.lines().collect();
        if lines.len() > FILE_LINES_MAX {
            let (path, lines) = (shown(&path), lines.len());
            findings.push(format!(
                "{path}: {lines} lines; make it a folder of what its parts are (at most {FILE_LINES_MAX})"
            ));
        }
        for (number, line) in lines.iter().enumerate() {
            let Some(name) = declared(line, "fn") else {
                continue;
            };
            let close = format!("{}}}", " ".repeat(indent(line)));
            let ends = lines[number..].iter().position(|line| {
                *line == close || (line.ends_with(';') && indent(line) == close.len() - 1)
            });
            let length = ends.map_or(1, |end| end + 1);
            if length > FUNCTION_LINES_MAX {
                findings.push(format!(
                    "{}:{}: `{name}` has {length} lines; make its steps functions (at most {FUNCTION_LINES_MAX})",
                    shown(&path),
                    number + 1
                ));
            }
        }
    }
    assert_none(findings);
}

#[test]
fn a_name_means_one_type() {
    let mut types: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, text) in product() {
        for (number, line) in text.lines().enumerate() {
            let kinds = ["struct", "enum", "trait", "union", "type"];
            let name = kinds.iter().find_map(|kind| {
                let name = declared(line, kind)?;
                (*kind != "type" || indent(line) == 0).then_some(name)
            });
            if let Some(name) = name {
                let place = format!("{}:{}", shown(&path), number + 1);
                types.entry(name.to_owned()).or_default().push(place);
            }
        }
    }
    let several = types
        .into_iter()
        .filter(|(name, places)| places.len() > 1 && !NAMES_OF_SEVERAL.contains(&name.as_str()));
    let findings = several.map(|(name, places)| {
        let places = places.join(", ");
        format!("{places}: `{name}` is several types; name each for what it is in its field")
    });
    assert_none(findings.collect());
}

#[test]
fn a_doc_comment_says_more_than_the_name() {
    let mut findings = Vec::new();
    for (path, text) in product() {
        let lines: Vec<&str> = text.lines().collect();
        let is_doc = |number: usize| {
            lines
                .get(number)
                .is_some_and(|line| line.trim_start().starts_with("///"))
        };
        for (number, line) in lines.iter().enumerate() {
            let alone =
                is_doc(number) && !is_doc(number + 1) && (number == 0 || !is_doc(number - 1));
            if alone && line.split_whitespace().count() <= DOC_WORDS_MIN {
                let place = format!("{}:{}", shown(&path), number + 1);
                findings.push(format!(
                    "{place}: say what the name does not, or delete {line:?}"
                ));
            }
        }
    }
    assert_none(findings);
}
