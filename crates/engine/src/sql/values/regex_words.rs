//! Constant regular expressions in the words of the `regex` crate, where PostgreSQL means something else by them.
//!
//! | PostgreSQL | here | means |
//! |---|---|---|
//! | `.` | `(?s:.)` | any letter, a line feed too |
//! | `\d`, `\D` | `[0-9]`, `[^0-9]` | a digit of ASCII |
//! | `\&`, `\1`, `$` of a replacement | `${0}`, `${1}`, `$$` | the match, a group, a dollar |

use datafusion::common::ScalarValue;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};

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
    let mut letters = replacement.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '$' => out.push_str("$$"),
            '\\' => match letters.next() {
                Some('&') => out.push_str("${0}"),
                Some(group @ '1'..='9') => out.extend(['$', '{', group, '}']),
                Some('\\') | None => out.push('\\'),
                Some(other) => out.extend(['\\', other]),
            },
            other => out.push(other),
        }
    }
    out
}
