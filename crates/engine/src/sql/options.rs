//! The list of options after `WITH` or in an annotation: `key = value, ...`.
//!
//! A key is a word, words joined by dots and dashes without space (`websocket.headers.X-Key`), or
//! anything in quotes. A value is a string, a number, `TRUE`, `FALSE`, `INTERVAL '...'` (read as
//! its string) or a bare word. Two entries of one key are an error here; the connector's own
//! declaration checks whether a key is known and its value fits.

use std::ops::Range;

use datafusion::sql::sqlparser::tokenizer::Token;

use super::error::{Result, SqlError};
use super::statement::{OptionEntry, OptionValue};
use super::token_cursor::{TokenCursor, unquoted};

/// Reads `WITH (...)` if it comes next, else returns an empty list.
pub(super) fn with_list(cursor: &mut TokenCursor) -> Result<Vec<OptionEntry>> {
    if !cursor.eat(&["WITH"]) {
        return Ok(Vec::new());
    }
    let inner = cursor.parenthesized()?;
    if inner.at_end() {
        return Ok(Vec::new());
    }
    let entries = inner
        .comma_separated()
        .iter_mut()
        .map(entry)
        .collect::<Result<Vec<OptionEntry>>>()?;
    refuse_duplicates(&entries)?;
    Ok(entries)
}

/// Reads one `key = value` that takes up the whole cursor.
pub(super) fn entry(cursor: &mut TokenCursor) -> Result<OptionEntry> {
    let (key, key_span) = key(cursor)?;
    cursor.expect_token(&Token::Eq)?;
    let start = cursor.here().start;
    let value = value(cursor)?;
    if !cursor.at_end() {
        let error = cursor.unexpected("a comma or the closing parenthesis", &[]);
        return Err(error.hint(format!("Put the value of {key:?} in single quotes.")));
    }
    Ok(OptionEntry {
        key,
        key_span,
        value,
        value_span: start..cursor.last().end,
    })
}

/// Refuses a key that is given twice.
pub(super) fn refuse_duplicates(entries: &[OptionEntry]) -> Result<()> {
    let mut seen = std::collections::HashSet::new();
    match entries
        .iter()
        .find(|entry| !seen.insert(entry.key.as_str()))
    {
        None => Ok(()),
        Some(twice) => Err(
            SqlError::syntax(format!("option {:?} is given twice", twice.key))
                .at(twice.key_span.clone()),
        ),
    }
}

fn key(cursor: &mut TokenCursor) -> Result<(String, Range<usize>)> {
    let first = cursor.here();
    if let Some(Token::SingleQuotedString(text)) = cursor.peek() {
        cursor.advance();
        return Ok((text.clone(), first));
    }
    if let Some(Token::Word(word)) = cursor.peek()
        && word.quote_style.is_some()
    {
        cursor.advance();
        return Ok((word.value.clone(), first));
    }
    if cursor.peek_word().is_none() {
        return Err(cursor.unexpected("the name of an option", &[]));
    }
    cursor.advance();
    let mut span = first;
    // The parts of a key touch one another; a space ends it.
    while !cursor.at_end() && cursor.peek() != Some(&Token::Eq) && cursor.here().start == span.end {
        span.end = cursor.here().end;
        cursor.advance();
    }
    let key = cursor
        .script
        .get(span.clone())
        .unwrap_or_default()
        .to_owned();
    Ok((key, span))
}

fn value(cursor: &mut TokenCursor) -> Result<OptionValue> {
    let negative = cursor.eat_token(&Token::Minus);
    let sign = if negative { "-" } else { "" };
    let value = match cursor.peek() {
        Some(Token::Number(digits, _)) => OptionValue::Number(format!("{sign}{digits}")),
        _ if negative => return Err(cursor.unexpected("a number", &[])),
        Some(Token::SingleQuotedString(text) | Token::EscapedStringLiteral(text)) => {
            OptionValue::String(text.clone())
        }
        Some(Token::DollarQuotedString(text)) => OptionValue::String(text.value.clone()),
        Some(Token::Word(word)) if word.quote_style.is_some() => {
            OptionValue::String(word.value.clone())
        }
        Some(token) => match unquoted(token) {
            Some(word) => return bare(cursor, word),
            None => return Err(cursor.unexpected("the value of an option", &[])),
        },
        None => return Err(cursor.unexpected("the value of an option", &[])),
    };
    cursor.advance();
    Ok(value)
}

fn bare(cursor: &mut TokenCursor, word: &str) -> Result<OptionValue> {
    cursor.advance();
    if word.eq_ignore_ascii_case("INTERVAL")
        && let Some(Token::SingleQuotedString(text)) = cursor.peek()
    {
        cursor.advance();
        return Ok(OptionValue::String(text.clone()));
    }
    Ok(match word.to_ascii_lowercase().as_str() {
        "true" => OptionValue::Bool(true),
        "false" => OptionValue::Bool(false),
        _ => OptionValue::String(word.to_owned()),
    })
}
