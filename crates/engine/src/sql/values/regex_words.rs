//! Constant regular expressions in the words of the `regex` crate, where PostgreSQL means something else by them.
//!
//! | PostgreSQL | here | means |
//! |---|---|---|
//! | `.` | `(?s:.)` | any letter, a line feed too |
//! | `\d`, `\D` | `[0-9]`, `[^0-9]` | a digit of ASCII |
//! | `\&`, `\1`, `$` of a replacement | `${0}`, `${1}`, `$$` | the match, a group, a dollar |
//! | `\\` of a replacement before a digit | `\${ }` | a backslash: DataFusion takes `\1` for a group |

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray, StringBuilder};
use datafusion::common::{Result, ScalarValue};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use regex::{Regex, RegexBuilder};

use crate::sql::functions::external;
use crate::sql::{SqlError, sqlstate};

/// Translates the pattern of `text ~ pattern`.
pub(super) fn translate_operator(binary: &mut BinaryExpr) {
    use Operator::{RegexIMatch, RegexMatch, RegexNotIMatch, RegexNotMatch};
    if let RegexIMatch | RegexMatch | RegexNotIMatch | RegexNotMatch = binary.op {
        translate(&mut binary.right, |text| pattern_of(text, true));
    }
}

/// Translates the pattern and the replacement of a function.
pub(super) fn translate_function(call: &mut ScalarFunction) {
    let replaces = call.name() == "regexp_replace";
    let is_regex = matches!(
        call.name(),
        "regexp_match" | "regexp_like" | "regexp_count" | "regexp_instr"
    );
    if !replaces && !is_regex {
        return;
    }
    let flags = call.args.iter().skip(if replaces { 3 } else { 2 });
    let sensitive = |it: &Expr| literal(it).is_none_or(|it| it.contains(['n', 'm', 'p', 'w']));
    let is_number =
        |it: &Expr| matches!(it, Expr::Literal(value, _) if value.data_type().is_integer());
    let over_lines = !flags.filter(|it| !is_number(it)).any(sensitive);
    if let Some(pattern) = call.args.get_mut(1) {
        translate(pattern, |text| pattern_of(text, over_lines));
    }
    if let Some(replacement) = call.args.get_mut(2).filter(|_| replaces) {
        translate(replacement, replacement_of);
    }
}

fn literal(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(value, _) => value.try_as_str().flatten(),
        _ => None,
    }
}

fn translate(expr: &mut Expr, to: impl Fn(&str) -> String) {
    if let Some(translated) = literal(expr).map(to) {
        *expr = Expr::Literal(ScalarValue::Utf8(Some(translated)), None);
    }
}

/// `over_lines`: whether a point stands for a line feed, too.
fn pattern_of(pattern: &str, over_lines: bool) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut letters = pattern.chars().peekable();
    let mut in_class = false;
    while let Some(letter) = letters.next() {
        match (letter, in_class) {
            ('\\', _) => match (letters.next(), in_class) {
                (Some('d'), true) => out.push_str("0-9"),
                (Some('d'), false) => out.push_str("[0-9]"),
                (Some('D'), false) => out.push_str("[^0-9]"),
                (Some(other), _) => out.extend(['\\', other]),
                (None, _) => out.push('\\'),
            },
            ('[', false) => {
                in_class = true;
                out.push('[');
                // A bracket that comes first is one of the class.
                out.extend(letters.next_if_eq(&'^'));
                if letters.next_if_eq(&']').is_some() {
                    out.push_str("\\]");
                }
            }
            ('[', true) if letters.peek() == Some(&':') => {
                // As far as the end of `[:alpha:]`.
                out.push('[');
                for inner in letters.by_ref() {
                    out.push(inner);
                    if inner == ']' {
                        break;
                    }
                }
            }
            (']', true) => {
                in_class = false;
                out.push(']');
            }
            ('.', false) if over_lines => out.push_str("(?s:.)"),
            (other, _) => out.push(other),
        }
    }
    out
}

fn replacement_of(replacement: &str) -> String {
    let mut out = String::with_capacity(replacement.len());
    let mut letters = replacement.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '$' => out.push_str("$$"),
            '\\' => {
                match letters.next_if(|it| matches!(it, '&' | '\\' | '1'..='9')) {
                    Some('&') => out.push_str("${0}"),
                    Some(group @ '1'..='9') => out.extend(['$', '{', group, '}']),
                    _ => out.push('\\'),
                }
                if out.ends_with('\\') && letters.peek().is_some_and(char::is_ascii_digit) {
                    // No group has a blank for its name, so it is empty.
                    out.push_str("${ }");
                }
            }
            other => out.push(other),
        }
    }
    out
}

/// The regular expression of a pattern that was not translated, without regard to case if `any_case`.
pub(super) fn regex_of(pattern: &str, any_case: bool) -> Result<Regex> {
    let regex = RegexBuilder::new(&pattern_of(pattern, true))
        .case_insensitive(any_case)
        .build();
    regex.map_err(|error| {
        let reason = error.to_string();
        let reason = reason.lines().last().unwrap_or_default();
        let reason = reason.strip_prefix("error: ").unwrap_or(reason);
        let message = format!("invalid regular expression {pattern:?}: {reason}");
        external(SqlError::new(sqlstate::INVALID_REGEX, message))
    })
}

/// For each text what its pattern matches first, or the first group of that if the pattern has one.
pub(super) fn first_matches(texts: &StringArray, patterns: &StringArray) -> Result<ArrayRef> {
    let mut last: Option<(&str, Regex)> = None;
    let mut matches = StringBuilder::new();
    for (text, pattern) in texts.iter().zip(patterns) {
        let (Some(text), Some(pattern)) = (text, pattern) else {
            matches.append_null();
            continue;
        };
        let regex = match &mut last {
            Some((known, regex)) if *known == pattern => regex,
            last => &mut last.insert((pattern, regex_of(pattern, false)?)).1,
        };
        let group = usize::from(regex.captures_len() > 1);
        let found = regex.captures(text).and_then(|it| it.get(group));
        matches.append_option(found.map(|it| it.as_str()));
    }
    Ok(Arc::new(matches.finish()))
}
