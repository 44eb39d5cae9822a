//! The words of the house: comments and docs use the terms of the glossary in ARCHITECTURE.md, and none of
//! those that its last column gives up.

use super::{assert_none, files, read, root, shown};

/// A term of the glossary with the words that it replaces.
struct Term {
    term: String,
    not: Vec<String>,
}

/// The rows of the table below `## Words`.
fn glossary() -> Vec<Term> {
    let map = read(&root().join("ARCHITECTURE.md"));
    let (_, words) = map.split_once("\n## Words\n").expect("a glossary");
    let words = words.split("\n## ").next().unwrap_or(words);
    let rows = words.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| ")?.split('|').map(str::trim);
        let (term, not) = (cells.next()?, cells.nth(1)?);
        let not: Vec<_> = not.split(", ").map(str::to_lowercase).collect();
        (!not[0].is_empty() && not[0] != "not" && !not[0].starts_with('-')).then(|| Term {
            term: term.to_owned(),
            not,
        })
    });
    rows.collect()
}

/// Whether `line` has `phrase` as whole words.
fn has(line: &str, phrase: &str) -> bool {
    line.match_indices(phrase).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + phrase.len()..].chars().next();
        ![before, after]
            .into_iter()
            .flatten()
            .any(char::is_alphanumeric)
    })
}

/// The prose of a line: all of it in Markdown, the comment in Rust.
fn prose(line: &str, is_rust: bool) -> Option<String> {
    let comment = if is_rust {
        line.split_once("//")?.1
    } else {
        line
    };
    Some(comment.to_lowercase())
}

#[test]
fn the_words_are_those_of_the_glossary() {
    let glossary = glossary();
    assert!(glossary.len() > 10, "the glossary is not found");
    let mut findings = Vec::new();
    for (ending, is_rust) in [(".rs", true), (".md", false)] {
        for path in files(&root(), ending) {
            if path.ends_with("ARCHITECTURE.md") {
                continue;
            }
            for (number, line) in read(&path).lines().enumerate() {
                let Some(prose) = prose(line, is_rust) else {
                    continue;
                };
                for Term { term, not } in &glossary {
                    for word in not.iter().filter(|word| has(&prose, word)) {
                        let place = format!("{}:{}", shown(&path), number + 1);
                        findings.push(format!("{place}: say \"{term}\", not \"{word}\""));
                    }
                }
            }
        }
    }
    assert_none(findings);
}
