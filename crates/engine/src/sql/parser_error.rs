//! Errors of `sqlparser`, which are text, made into typed [`SqlError`]s.
//!
//! `Expected: ), found: GRUOP at Line: 3, Column: 7` becomes the message `expected ), found GRUOP`
//! with the bytes of `GRUOP` as its position, and, because the word is one typing error away from
//! a keyword that is allowed there, the hint `Did you mean GROUP?`. The parser takes some of these
//! words for an alias (`FROM t WHER a > 1` fails at `a`), so the word before the position is tried
//! too.

use std::ops::Range;

use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{Location, Token};

use super::error::{SqlError, lower_first, sqlstate};
use super::script::Lexeme;
use super::suggest::did_you_mean;

/// The keywords of a query that a hint can suggest.
const CLAUSES: &[&str] = &[
    "SELECT", "DISTINCT", "FROM", "WHERE", "GROUP", "HAVING", "ORDER", "LIMIT", "OFFSET", "UNION",
    "INTERVAL", "BETWEEN", "VALUES", "WHEN", "THEN", "ELSE", "CASE", "JOIN", "INNER", "EMIT",
];

/// The error about `tokens`, a part of a statement; `behind` is the token after that part, which
/// begins at `behind_at`.
pub(super) fn explain(
    error: ParserError,
    tokens: &[Lexeme],
    behind_at: Range<usize>,
    behind: &str,
) -> SqlError {
    let text = match error {
        ParserError::RecursionLimitExceeded => {
            return SqlError::new(
                sqlstate::STATEMENT_TOO_COMPLEX,
                "statement is too complex: expressions are nested too deep",
            )
            .hint("Cut it into several views or streams.")
            .at(tokens
                .first()
                .map(|first| first.range.start..behind_at.start));
        }
        ParserError::TokenizerError(text) | ParserError::ParserError(text) => text,
    };
    let (message, location) = split_location(&text);
    let found = location.and_then(|location| {
        tokens
            .iter()
            .position(|lexeme| lexeme.token.span.start == location)
    });
    let position = match found {
        Some(index) => tokens[index].range.clone(),
        None => behind_at,
    };
    SqlError::syntax(sentence(message, behind))
        .maybe_hint(misspelt_keyword(tokens, found))
        .at(position)
}

/// The hint about the word at the position, or the one before it.
fn misspelt_keyword(tokens: &[Lexeme], found: Option<usize>) -> Option<String> {
    let found = found.unwrap_or(tokens.len());
    [Some(found), found.checked_sub(1)]
        .into_iter()
        .flatten()
        .find_map(|index| match &tokens.get(index)?.token.token {
            Token::Word(word) if word.quote_style.is_none() => did_you_mean(&word.value, CLAUSES),
            _ => None,
        })
}

fn split_location(text: &str) -> (&str, Option<Location>) {
    let parse = || {
        let (message, rest) = text.rsplit_once(" at Line: ")?;
        let (line, column) = rest.split_once(", Column: ")?;
        let location = Location {
            line: line.parse().ok()?,
            column: column.parse().ok()?,
        };
        Some((message, Some(location)))
    };
    parse().unwrap_or((text, None))
}

fn sentence(message: &str, behind: &str) -> String {
    let message = message
        .replace("Expected: ", "expected ")
        .replace(", found: ", ", found ");
    let message = message.replace("found EOF", &format!("found {behind}"));
    let message = message.trim_end_matches('.').replace(['\n', '\r'], " ");
    lower_first(&message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::script::lex;

    fn explained(sql: &str, error: &str) -> SqlError {
        let tokens = lex(sql).unwrap();
        explain(
            ParserError::ParserError(error.into()),
            &tokens,
            sql.len()..sql.len(),
            "the end of the statement",
        )
    }

    #[test]
    fn a_location_becomes_the_bytes_of_its_token() {
        let sql = "SELECT 'é',\n  1 GRUOP BY 2";
        let error = explained(sql, "Expected: ), found: GRUOP at Line: 2, Column: 5");
        assert_eq!(error.message, "expected ), found GRUOP");
        assert_eq!(&sql[error.position.unwrap()], "GRUOP");
        assert_eq!(error.hint.unwrap(), "Did you mean GROUP?");
    }

    #[test]
    fn the_end_of_the_text_is_an_empty_range_after_it() {
        let error = explained("SELECT 1 +", "Expected: an expression, found: EOF");
        assert_eq!(
            error.message,
            "expected an expression, found the end of the statement"
        );
        assert_eq!(error.position, Some(10..10));
        assert_eq!(error.hint, None);
    }

    #[test]
    fn a_keyword_misspelt_into_an_alias_is_found_before_the_position() {
        let sql = "SELECT a FROM t WHER a > 1";
        let error = explained(
            sql,
            "Expected: end of statement, found: a at Line: 1, Column: 22",
        );
        assert_eq!(error.hint.unwrap(), "Did you mean WHERE?");
    }
}
