//! SQL as people are shown it: values of secret options and secrets of URLs are `***`, and no character
//! commands a terminal. What an error says of a text, and the place that it marks, follow.
//!
//! The text may be wrong anywhere, so this reads no statement. It looks for `key = value` and for a key
//! in front of a quote, wherever they are: in a string that is not closed, in a comment. Within a list of
//! options every value is hidden whose key no connector has: it may be that of a secret, misspelt.

use std::ops::Range;

use headwater_connect::shown::{HIDDEN, REPLACED, commands_terminal, shown, url_secrets};

/// Parts of names that are secrets whatever they belong to.
const SECRET_WORDS: [&str; 9] = [
    "password",
    "passwd",
    "secret",
    "token",
    "apikey",
    "api_key",
    "authorization",
    "credential",
    "private_key",
];

/// The shortest beginning of a secret that is hidden in a message, bytes: messages quote long values in
/// part.
const PART_MIN: usize = 6;

/// Whether an option of this name is a secret; `None` if there is no such option.
pub(crate) type IsSecretOption<'a> = &'a dyn Fn(&str) -> Option<bool>;

/// A text of SQL without its secrets.
pub struct ShownSql {
    text: String,
    edits: Vec<Edit>,
    /// The secrets, as they are written and as they are read, and the words of each.
    secrets: Vec<String>,
}

/// A range of the text, and what it is in the text that is shown.
struct Edit {
    from: Range<usize>,
    to: Range<usize>,
}

impl ShownSql {
    pub(crate) fn new(sql: &str, is_secret: IsSecretOption<'_>) -> Self {
        let hidden = hidden_ranges(sql, is_secret);
        let mut this = Self {
            text: String::with_capacity(sql.len()),
            edits: Vec::new(),
            secrets: Vec::new(),
        };
        let mut at = 0;
        for range in hidden {
            let secret = &sql[range.clone()];
            this.secrets.push(secret.to_owned());
            this.secrets.push(secret.replace("''", "'"));
            let words = secret.split_whitespace().filter(|it| it.len() >= PART_MIN);
            this.secrets.extend(words.map(str::to_owned));
            this.copy(sql, at..range.start);
            at = range.end;
            this.edit(range, HIDDEN);
        }
        this.copy(sql, at..sql.len());
        this
    }

    fn copy(&mut self, sql: &str, range: Range<usize>) {
        let start = range.start;
        for (at, letter) in sql[range].char_indices() {
            match commands_terminal(letter) {
                true => self.edit(
                    start + at..start + at + letter.len_utf8(),
                    REPLACED.encode_utf8(&mut [0; 4]),
                ),
                false => self.text.push(letter),
            }
        }
    }

    fn edit(&mut self, from: Range<usize>, to: &str) {
        let start = self.text.len();
        self.text.push_str(to);
        let to = start..self.text.len();
        self.edits.push(Edit { from, to });
    }

    /// The text to be shown.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where a range of the text is in the one that is shown.
    pub fn place(&self, range: &Range<usize>) -> Range<usize> {
        let inside = |edit: &Edit, at: usize| edit.from.start < at && at < edit.from.end;
        let place = |at: usize, of_inner: fn(&Edit) -> usize| {
            let before = self.edits.iter().rev().find(|edit| edit.from.start < at);
            match before {
                None => at,
                Some(edit) if inside(edit, at) => of_inner(edit),
                Some(edit) => edit.to.end + (at - edit.from.end),
            }
        };
        let start = place(range.start, |edit| edit.to.start);
        start..place(range.end, |edit| edit.to.end).max(start)
    }

    /// What is said about the text, without its secrets, those of URLs and characters that command a
    /// terminal.
    pub fn message(&self, message: &str) -> String {
        let (mut hidden, mut rest) = (String::new(), message);
        while let Some(letter) = rest.chars().next() {
            let quoted = self.secrets.iter().map(|secret| quoted_bytes(rest, secret));
            match quoted.max().unwrap_or(0) {
                0 => {
                    hidden.push(letter);
                    rest = &rest[letter.len_utf8()..];
                }
                bytes => {
                    hidden += HIDDEN;
                    rest = &rest[bytes..];
                }
            }
        }
        shown(&hidden).into_owned()
    }
}

/// The bytes of a secret with which a message begins, if they tell something of it.
fn quoted_bytes(message: &str, secret: &str) -> usize {
    let same = message.chars().zip(secret.chars());
    let same = same.take_while(|(a, b)| a == b);
    let bytes: usize = same.map(|(letter, _)| letter.len_utf8()).sum();
    // A secret of a letter or two would hide half the message, and hides nothing.
    let is_whole = bytes == secret.len() && bytes >= PART_MIN / 2;
    match is_whole || bytes >= PART_MIN {
        true => bytes,
        false => 0,
    }
}

/// What is hidden of a text: ranges in their order, none over the end of a line, none in another.
fn hidden_ranges(sql: &str, is_secret: IsSecretOption<'_>) -> Vec<Range<usize>> {
    let mut found = url_secrets(sql);
    let mut last_value = 0..0;
    for (at, letter) in sql.char_indices() {
        if !matches!(letter, '=' | '\'') {
            continue;
        }
        let Some((key, start)) = key_before(&sql[..at]) else {
            continue;
        };
        let touches = |last: char| last != '"' && !last.is_whitespace();
        if letter == '\'' && sql[..at].ends_with(touches) {
            continue;
        }
        let value = value_after(sql, at + usize::from(letter == '='));
        let hides = is_secret(key).unwrap_or_else(|| {
            let key = key.to_lowercase();
            SECRET_WORDS.iter().any(|word| key.contains(word))
                || letter == '=' && !last_value.contains(&at) && is_in_options(&sql[..start])
        });
        if letter == '=' && !last_value.contains(&at) {
            last_value = value.clone();
        }
        if hides {
            found.push(value);
        }
    }
    let lines = found.into_iter().flat_map(|range| lines_of(sql, range));
    let mut lines: Vec<_> = lines.filter(|line| !line.is_empty()).collect();
    lines.sort_by_key(|line| (line.start, line.end));
    let mut merged: Vec<Range<usize>> = Vec::new();
    for line in lines {
        match merged.last_mut() {
            Some(last) if line.start < last.end => last.end = last.end.max(line.end),
            _ => merged.push(line),
        }
    }
    merged
}

/// The key that a text ends with, without its quotes, and where it begins.
fn key_before(text: &str) -> Option<(&str, usize)> {
    let text = text.trim_end();
    let quote = text.chars().next_back()?;
    if quote == '"' || quote == '\'' {
        let inner = &text[..text.len() - 1];
        let start = inner
            .rfind([quote, '\n'])
            .filter(|at| inner[*at..].starts_with(quote))?;
        return Some((&inner[start + 1..], start));
    }
    let is_key = |letter: char| letter.is_alphanumeric() || "_.-@".contains(letter);
    let start = text.trim_end_matches(is_key).len();
    (start < text.len()).then_some((&text[start..], start))
}

/// Whether what follows a text is within `WITH (`, `SET (`, or the parentheses of an annotation.
fn is_in_options(text: &str) -> bool {
    let mut open = 0_usize;
    for (at, letter) in text.char_indices().rev() {
        match letter {
            ';' => return false,
            ')' => open += 1,
            '(' if open > 0 => open -= 1,
            '(' => {
                let before = text[..at].trim_end();
                let is_word = |letter: char| letter.is_alphanumeric() || "_@".contains(letter);
                let word = &before[before.trim_end_matches(is_word).len()..];
                let opens = ["WITH", "SET"]
                    .iter()
                    .any(|it| word.eq_ignore_ascii_case(it));
                return opens || word.starts_with('@');
            }
            _ => {}
        }
    }
    false
}

/// Where the value is that begins at or behind a place, without its quotes.
fn value_after(sql: &str, behind: usize) -> Range<usize> {
    let is_space = |letter: char| letter.is_whitespace() || letter == '>' || letter == '=';
    let start = sql.len() - sql[behind..].trim_start_matches(is_space).len();
    let ends = |letter: char| letter.is_whitespace() || ",);".contains(letter);
    let word_end = |from: usize| sql[from..].find(ends).map_or(sql.len(), |at| from + at);
    let rest = &sql[start..];
    let prefixes = ["E'", "B'", "X'", "N'", "U&'"];
    let has = |prefix: &&str| {
        rest.get(..prefix.len())
            .is_some_and(|it| it.eq_ignore_ascii_case(prefix))
    };
    let prefix = prefixes
        .iter()
        .copied()
        .find(has)
        .map_or(0, |it| it.len() - 1);
    match rest[prefix..].chars().next() {
        Some(quote @ ('\'' | '"')) => {
            let inner = start + prefix + 1;
            let close = closing_quote(&sql[inner..], quote, prefix > 0).map(|at| inner + at);
            match close {
                // What touches the quote belongs to it: a quote within the value was not doubled.
                Some(close) if word_end(close + 1) > close + 1 => inner..word_end(close + 1),
                Some(close) => inner..close,
                None => inner..sql[inner..].find('\n').map_or(sql.len(), |at| inner + at),
            }
        }
        Some('$') if prefix == 0 => match rest[1..].find('$') {
            Some(tag) => {
                let (tag, inner) = (&rest[..tag + 2], tag + 2);
                let close = rest[inner..].find(tag).map(|at| start + inner + at);
                start + inner..close.unwrap_or(word_end(start + inner))
            }
            None => start..word_end(start),
        },
        Some('[' | '{') if prefix == 0 => {
            let close = rest.find([']', '}']).map(|at| start + at);
            start + 1..close.unwrap_or(word_end(start))
        }
        // A secret without quotes may have several words, or be within a string.
        _ => {
            let ends = |letter: char| "\n,);'\"".contains(letter);
            let word = &rest[..rest.find(ends).unwrap_or(rest.len())];
            start..start + word.trim_end().len()
        }
    }
}

/// Where a text in quotes ends; a quote within is doubled, or has a backslash in front if it may.
fn closing_quote(text: &str, quote: char, has_escapes: bool) -> Option<usize> {
    let mut letters = text.char_indices().peekable();
    while let Some((at, letter)) = letters.next() {
        if has_escapes && letter == '\\' {
            letters.next();
        } else if letter == quote && letters.next_if(|(_, next)| *next == quote).is_none() {
            return Some(at);
        }
    }
    None
}

/// The parts of a range, one for each line.
fn lines_of(sql: &str, range: Range<usize>) -> Vec<Range<usize>> {
    let mut start = range.start;
    let lines = sql[range].split_inclusive('\n').map(|line| {
        let begin = start;
        start += line.len();
        begin..begin + line.trim_end_matches(['\n', '\r']).len()
    });
    lines.collect()
}

#[cfg(test)]
#[path = "tests/shown.rs"]
mod tests;
