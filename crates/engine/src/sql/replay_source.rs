//! `REPLAY SOURCE s [FROM 'time'] [TO 'time'] [SPEED n] INTO STREAM x`: runs the logged rows of a
//! source through the query of a stream again.

use datafusion::sql::sqlparser::tokenizer::Token;

use super::error::Result;
use super::statement::{ReplaySource, Statement, TimeLiteral};
use super::token_cursor::TokenCursor;

/// The statement; `None` if it is another.
pub(super) fn replay_source(cursor: &mut TokenCursor) -> Result<Option<Statement>> {
    if !cursor.eat(&["REPLAY"]) {
        return Ok(None);
    }
    cursor.expect("SOURCE")?;
    let source = cursor.name("a source")?;
    let from = after(cursor, "FROM", time)?;
    let to = after(cursor, "TO", time)?;
    let speed = after(cursor, "SPEED", factor)?;
    cursor.expect("INTO")?;
    cursor.expect("STREAM")?;
    let stream = cursor.name("a stream")?;
    Ok(Some(Statement::Replay(ReplaySource {
        source,
        from,
        to,
        speed,
        stream,
    })))
}

/// Reads what follows the word; `None` if the word does not come next.
fn after<T>(
    cursor: &mut TokenCursor,
    word: &str,
    read: impl FnOnce(&mut TokenCursor) -> Result<T>,
) -> Result<Option<T>> {
    cursor.eat(&[word]).then(|| read(cursor)).transpose()
}

/// A time in quotes, with or without TIMESTAMP before it.
fn time(cursor: &mut TokenCursor) -> Result<TimeLiteral> {
    cursor.eat(&["TIMESTAMP"]);
    let Some(Token::SingleQuotedString(text)) = cursor.peek() else {
        return Err(cursor.unexpected("a time such as '2026-01-31 12:00:00'", &[]));
    };
    let text = text.clone();
    cursor.advance();
    Ok(TimeLiteral {
        text,
        span: cursor.last(),
    })
}

fn factor(cursor: &mut TokenCursor) -> Result<f64> {
    let expected = "the speed as a multiple of event time: a number above 0";
    let Some(Token::Number(digits, _)) = cursor.peek() else {
        return Err(cursor.unexpected(expected, &[]));
    };
    let factor: f64 = digits.parse().unwrap_or(0.0);
    if !(factor > 0.0 && factor.is_finite()) {
        return Err(cursor.unexpected(expected, &[]));
    }
    cursor.advance();
    Ok(factor)
}
